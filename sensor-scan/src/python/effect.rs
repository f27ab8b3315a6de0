//! What calling something does, as seen from source. The table of Python names (`rules/globals.toml`) judges what a
//! pickle may call; source that people write calls much of that in good faith, so a list of its own names what acts on the
//! machine.

use super::value::{Value, What};
use crate::rule::globals;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Runs the command in its arguments.
    Command,
    /// Runs the code in its arguments.
    Code,
    /// Unpickles or unmarshals its argument.
    Deserialise,
    /// Fetches or sends over the network.
    Network,
    /// Opens a file by a path; a mode decides.
    Open,
    /// Writes to a path.
    Write,
    Delete,
    /// Loads a native library.
    Native,
    /// Makes a descriptor another one: half of a reverse shell.
    Redirect,
}

/// What calling `value` does.
pub fn of(value: &Value) -> Option<Act> {
    let What::Global(module, path) = &value.what else { return None };
    let name = path.replace("()", "");
    if name.is_empty() {
        return None;
    }
    let module = globals::canonical_module(module).unwrap_or_else(|| module.to_string());
    own(&module, &name)
}

fn own(module: &str, name: &str) -> Option<Act> {
    let root = module.split('.').next().unwrap_or(module);
    let last = name.rsplit('.').next().unwrap_or(name);
    Some(match (root, name) {
        ("os", _) if module == "os" => match name {
            "dup2" => Act::Redirect,
            "remove" | "unlink" | "rmdir" | "removedirs" => Act::Delete,
            "rename" | "replace" | "symlink" | "link" | "truncate" => Act::Write,
            "system" | "startfile" => Act::Command,
            _ if ["popen", "exec", "spawn", "posix_spawn"].iter().any(|start| name.starts_with(start)) => Act::Command,
            _ => return None,
        },
        ("pty" | "distutils" | "pexpect", _) if matches!(last, "spawn" | "run") => Act::Command,
        ("commands" | "popen2" | "_posixsubprocess", _) => Act::Command,
        ("platform", "popen") => Act::Command,
        ("shutil", "rmtree") => Act::Delete,
        ("shutil", "copy" | "copy2" | "copyfile" | "copytree" | "move") => Act::Write,
        ("builtins", "open") | ("io", "open") | ("codecs", "open") => Act::Open,
        ("pathlib", _) => match last {
            "write_text" | "write_bytes" | "symlink_to" | "hardlink_to" | "rename" | "replace" => Act::Write,
            "unlink" | "rmdir" => Act::Delete,
            "open" => Act::Open,
            _ => return None,
        },
        ("requests" | "httpx" | "urllib3" | "aiohttp", _) => match last {
            "get" | "post" | "put" | "patch" | "delete" | "head" | "request" | "stream" | "urlopen" => Act::Network,
            _ => return None,
        },
        ("urllib", _) if module == "urllib.request" => match last {
            "urlopen" | "urlretrieve" | "open" | "retrieve" => Act::Network,
            _ => return None,
        },
        ("http", _) if last == "request" => Act::Network,
        ("socket", _) => match last {
            "connect" | "connect_ex" | "create_connection" | "sendto" | "send" | "sendall" | "getaddrinfo"
            | "gethostbyname" => Act::Network,
            _ => return None,
        },
        ("ftplib" | "smtplib" | "telnetlib" | "paramiko" | "poplib" | "imaplib", _) => Act::Network,
        ("websocket" | "websockets", "create_connection" | "connect") => Act::Network,
        ("wget" | "gdown", "download") => Act::Network,
        ("ctypes", _) => match last {
            "CDLL" | "PyDLL" | "WinDLL" | "OleDLL" | "LoadLibrary" => Act::Native,
            // A function of the library.
            "system" | "popen" | "execv" | "execve" | "execvp" | "execl" | "execlp" | "WinExec" => Act::Command,
            _ => return None,
        },
        ("cffi", _) if matches!(last, "dlopen" | "verify") => Act::Native,
        ("torch", _) if last == "load_library" => Act::Native,
        ("tensorflow", _) if matches!(last, "load_op_library" | "load_library") => Act::Native,
        ("importlib" | "imp", _) if matches!(last, "ExtensionFileLoader" | "load_dynamic") => Act::Native,
        ("importlib", _) if matches!(last, "exec_module" | "load_module") => return None,
        ("torch", "load") | ("joblib", "load") | ("numpy", "load") | ("pandas", _) => return None,
        ("pickle" | "dill" | "cloudpickle" | "marshal", "load" | "loads") => Act::Deserialise,
        ("builtins", "eval" | "exec") => Act::Code,
        ("builtins", "compile" | "getattr" | "__import__" | "setattr" | "delattr" | "input" | "breakpoint") => {
            return None;
        }
        ("types", "FunctionType") => Act::Code,
        ("code", _) if matches!(last, "runcode" | "runsource" | "push") => Act::Code,
        ("runpy", _) => Act::Code,
        ("timeit" | "cProfile" | "profile" | "pdb", "timeit" | "repeat" | "run" | "runctx" | "runeval") => Act::Code,
        ("imp", "load_source" | "load_compiled") => Act::Code,
        ("asyncio", "create_subprocess_exec" | "create_subprocess_shell") => Act::Command,
        ("subprocess", _) => match last {
            "run" | "Popen" | "call" | "check_call" | "check_output" | "getoutput" | "getstatusoutput" => Act::Command,
            _ => return None,
        },
        _ => return None,
    })
}

/// Where in the arguments the command, the code, the path or the URL stands, beside the first.
pub fn keyword(act: Act) -> &'static [&'static str] {
    match act {
        Act::Command => &["args", "cmd", "command", "popenargs"],
        Act::Code => &["source", "path_name", "mod_name", "code"],
        Act::Deserialise => &["data", "file"],
        Act::Network => &["url"],
        Act::Open | Act::Write | Act::Delete => &["file", "path", "dst", "name"],
        Act::Native => &["name", "path"],
        Act::Redirect => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_the_machine_counts() {
        let act = |module: &str, name: &str| of(&Value::global(module, name));
        assert_eq!(act("os", "system"), Some(Act::Command));
        assert_eq!(act("posix", "system"), Some(Act::Command));
        assert_eq!(act("os", "execvp"), Some(Act::Command));
        assert_eq!(act("subprocess", "Popen"), Some(Act::Command));
        assert_eq!(act("pty", "spawn"), Some(Act::Command));
        assert_eq!(act("builtins", "exec"), Some(Act::Code));
        assert_eq!(act("requests", "Session().get"), Some(Act::Network));
        assert_eq!(act("socket", "socket().connect"), Some(Act::Network));
        assert_eq!(act("pathlib", "Path().write_text"), Some(Act::Write));
        assert_eq!(act("ctypes", "cdll.LoadLibrary"), Some(Act::Native));
        assert_eq!(act("ctypes", "CDLL().system"), Some(Act::Command));
        for (module, name) in [
            ("os", "path.join"),
            ("os", "makedirs"),
            ("triton", "jit"),
            ("torch", "load"),
            ("re", "compile"),
            ("os", "getpid"),
            ("dataclasses", "dataclass"),
            ("typing", "get_type_hints"),
            ("flask", "Flask"),
            ("sys", "exit"),
            ("logging", "getLogger"),
        ] {
            assert_eq!(act(module, name), None, "{module}.{name}");
        }
    }
}
