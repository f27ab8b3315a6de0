//! Command lines that are known: of one program, in its place, with exactly the arguments that it is known to have.
//! Data: `rules/programs.toml`.

use globset::GlobSet;
use serde::Deserialize;

use super::{Started, names, path, paths};
use crate::event::Bytes;

/// Letters of flags that change how Python and Perl run a script, and not what they run.
const SCRIPT_FLAGS: &[u8] = b"BEIOPSTbdsuvw";

#[derive(Debug, Clone)]
pub struct Line {
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
pub struct Entry {
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

impl Line {
    /// `system`: globs of the paths of the system's programs.
    pub fn parse(entry: Entry, system: &[String]) -> Result<Self, globset::Error> {
        let place = match entry.place {
            PlaceEntry::Word(PlaceWord::System) => Place::Globs(paths(system)?),
            PlaceEntry::Word(PlaceWord::Parent) => Place::Parent,
            PlaceEntry::Globs(globs) => Place::Globs(paths(&globs)?),
        };
        Ok(Self {
            program: names(&entry.program)?,
            place,
            flags: Flags::parse(entry.flags)?,
            argv: entry.argv,
            never: names(&entry.never)?,
        })
    }

    /// Was a program of this name started by this line?
    pub fn is(&self, name: &[u8], started: Started<'_>) -> bool {
        self.is_called(name, started.argv)
            && match &self.place {
                Place::Globs(globs) => globs.is_match(path(started.exe)),
                Place::Parent => !started.exe.is_empty() && started.exe == started.parent_exe,
            }
    }

    /// The same, wherever the program is.
    pub fn is_called(&self, name: &[u8], argv: &[Bytes]) -> bool {
        let arguments = self.flags.skip(argv.get(1..).unwrap_or_default());
        self.program.is_match(path(name))
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

/// The script that an interpreter with these arguments was started for, and the script's own arguments.
pub fn script_of(argv: &[Bytes]) -> Option<&[Bytes]> {
    let is_flag = |argument: &Bytes| {
        let letters = argument.strip_prefix(b"-").unwrap_or_default();
        !letters.is_empty() && letters.iter().all(|letter| SCRIPT_FLAGS.contains(letter))
    };
    let script = argv.get(if is_flag(argv.get(1)?) { 2 } else { 1 }..)?;
    script.first()?.starts_with(b"/").then_some(script)
}

/// The programs that a shell command starts one by one or side by side, each as its words, and whose output may be thrown
/// away; `None` where a shell could see more in it.
pub fn plain_commands(command: &[u8]) -> Option<Vec<Vec<Bytes>>> {
    /// Longer ones first.
    const OPERATORS: [&[u8]; 4] = [b"&&", b"||", b"|", b";"];
    let mut commands = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < command.len() {
        match OPERATORS.iter().find(|operator| command[at..].starts_with(operator)) {
            Some(operator) => {
                commands.push(plain_words(&command[start..at])?);
                at += operator.len();
                start = at;
            }
            None => at += 1,
        }
    }
    commands.push(plain_words(&command[start..])?);
    Some(commands)
}

/// The words of a command that is one program and its arguments.
fn plain_words(command: &[u8]) -> Option<Vec<Bytes>> {
    const ENDINGS: [&[u8]; 5] = [b" 2>/dev/null", b" 2> /dev/null", b" 2>&1", b" >/dev/null", b" > /dev/null"];
    let mut command = command.trim_ascii_end();
    while let Some(rest) = ENDINGS.iter().find_map(|ending| command.strip_suffix(*ending)) {
        command = rest;
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" ._/=,:@%+-".contains(byte);
    let words = command.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).map(<[u8]>::to_vec);
    let words: Vec<Bytes> = command.iter().all(is_plain).then(|| words.collect())?;
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_exact_but_for_what_is_said_to_vary() {
        for (pattern, argument, fits) in [
            ("main({n})", "main(12)", true),
            ("main({n})", "main(12);x", false),
            ("{path}/bin/pip", "/opt/v/bin/pip", true),
            ("{path}/bin/pip", "/opt/../v/bin/pip", false),
            ("{path}/bin/pip", "bin/pip", false),
            ("a{any}b", "a--b", true),
            ("a{any}b", "a b", false),
            ("main({literals})", "main(['x'])", true),
            ("main({literals})", "main(f('x'))", false),
        ] {
            assert_eq!(argument_matches(pattern.as_bytes(), argument.as_bytes()), fits, "{pattern} {argument}");
        }
    }

    #[test]
    fn a_shells_command_is_plain_where_a_shell_sees_no_more_in_it() {
        let words = |command: &str| {
            plain_commands(command.as_bytes()).map(|commands| commands.iter().map(Vec::len).collect::<Vec<_>>())
        };
        for (command, counts) in [
            ("uname -p 2>/dev/null", vec![2]),
            ("git rev-parse HEAD", vec![3]),
            ("df -h >/dev/null 2>&1", vec![2]),
            ("nvidia-smi 2>/dev/null || true", vec![1, 1]),
            ("cd /srv && ls -la|tail -1; date", vec![2, 2, 2, 1]),
        ] {
            assert_eq!(words(command), Some(counts), "{command}");
        }
        for more in [
            "",
            ";",
            "a |",
            "a; ; b",
            "a & b",
            "a &",
            "a |& b",
            "a > b",
            "a >/dev/null x",
            "a | > b",
            "$(a)",
            "a `b`",
            "a\nb",
            "a*",
            "~/a",
            "(a; b)",
            "a ||| b",
            "a;; b",
            "a # b",
            "a 'b;c'",
        ] {
            assert_eq!(words(more), None, "{more}");
        }
    }

    #[test]
    fn an_interpreters_script_stands_behind_one_flag_at_most() {
        let script = |argv: &[&str]| {
            let argv: Vec<Bytes> = argv.iter().map(|text| text.as_bytes().to_vec()).collect();
            script_of(&argv).map(<[Bytes]>::len)
        };
        assert_eq!((script(&["python3", "/a", "x"]), script(&["python3", "-sP", "/a"])), (Some(2), Some(1)));
        assert_eq!(
            (script(&["python3", "-i", "/a"]), script(&["python3", "a"]), script(&["python3"])),
            (None, None, None)
        );
    }
}
