//! Model files for the cases, written by a Python process that lives as long as the tests: a writer, never a loader.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What to write.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// A pickle that runs this Python code: `builtins.exec`. Malicious.
    Payload(&'a str),
    /// A pickle that runs this shell command: `os.system`. Malicious.
    Shell(&'a str),
    /// A pickle that calls a function of the program itself, which no list knows. Suspicious.
    Unknown,
    /// A pickle that calls a function of an installed module, which no list knows: the gadget that no scanner knows. Clean,
    /// but not all that it names is known to be safe.
    Gadget,
    /// [`Self::Payload`] as torch saves a checkpoint: a zip with the pickle in it. Malicious.
    Torch(&'a str),
    /// Dictionaries and lists: clean, but of a format that can run code.
    CleanPickle,
    /// A plain array (numpy's format 1.0). Data.
    Array,
    /// One tensor. Data.
    Safetensors,
    /// As this function of a library writes it, with this Python code in it (malicious), or none (clean).
    By(&'static str, &'a str),
}

impl Content<'_> {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Payload(code) => ("payload", code),
            Self::Shell(command) => ("shell", command),
            Self::Torch(code) => ("torch", code),
            Self::Unknown => ("call", "__main__"),
            Self::Gadget => ("call", "acts"),
            Self::CleanPickle => ("clean", ""),
            Self::Array => ("array", ""),
            Self::Safetensors => ("safetensors", ""),
            Self::By(function, code) => (function, code),
        }
    }
}

pub struct Writer {
    /// Its two ends, used by one case at a time.
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Child,
}

impl Writer {
    pub fn start(python: &Path, script: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(script)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the writer of model files")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { pipe: Mutex::new((stdin, stdout)), child })
    }

    pub fn write(&self, path: &Path, content: Content<'_>) -> Result<()> {
        let (kind, code) = content.words();
        let request =
            serde_json::json!({ "path": STANDARD.encode(path.as_os_str().as_bytes()), "kind": kind, "code": code });
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe.0, "{request}")?;
        pipe.0.flush()?;
        let mut answer = String::new();
        pipe.1.read_line(&mut answer)?;
        ensure!(answer.trim() == "written", "the writer of model files could not write {path:?}: {answer:?}");
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
