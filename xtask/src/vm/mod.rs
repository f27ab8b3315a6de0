//! `cargo xtask vm`: the runtime tests on a Debian kernel of their own, where everything is allowed that a locked-down
//! host refuses: BPF LSM above all.
//!
//! The machine has no disk. Its root is the host's own root file system, read-only over virtiofs, with a tmpfs layer on
//! top: Python, every tool and every built binary are there, at the same paths, and nothing that the machine does to
//! them is kept. Serial lines: first the job's output, second the kernel's log, third the job's exit status.

pub mod arch;
mod archive;
pub mod initramfs;
pub mod kernel;
pub mod machine;
mod matrix;
mod userland;

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tool::{cargo, line, root};

use arch::Arch;
use machine::Job;
pub use machine::VARIABLES;

/// Run the runtime tests in a virtual machine with a Debian kernel
///
/// Needs what `cargo xtask setup --for vm` installs, and root (virtiofsd serves the whole root file system; sudo is used
/// where you aren't root).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask vm\n  cargo xtask vm --kernel 6.1 -- connect --nocapture\n  \
                        cargo xtask vm --command 'target/debug/sensor doctor'\n  \
                        cargo xtask vm --arch arm64 -- paths::")]
pub struct Options {
    /// Series of Debian's cloud kernel: 5.10, 6.1, 6.12, `newest`; or `all`: every way in and out on each of them, with
    /// and without `bpf` in `lsm=`, and the table of it in docs/KERNELS.md
    #[arg(long, default_value = "6.12")]
    pub kernel: String,
    /// The machine's processor; arm64 is emulated, with a Debian of its own
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,
    /// A shell command to run instead of the tests, in the root of the workspace
    #[arg(long, value_name = "SHELL")]
    pub command: Option<String>,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    pub time_limit: u64,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub processors: u32,
    /// Memory of the machine
    #[arg(long, value_name = "MIB", default_value_t = 3072)]
    pub memory: u32,
    /// Use /dev/kvm; without, the machine is emulated: about ten times slower, and the same everywhere
    #[arg(long)]
    pub kvm: bool,
    /// Leave `bpf` out of the kernel's `lsm=`, as Debian 11 does
    #[arg(long)]
    pub without_bpf_lsm: bool,
    /// With `--kernel all`: boot nothing, make the table of what the last boots said
    #[arg(long, requires = "kernel")]
    pub table_only: bool,
    /// Arguments of the test binary: a filter, --nocapture, …
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    if options.kernel == "all" {
        return matrix::run(options);
    }
    let words = match &options.command {
        Some(command) => vec!["sh".to_owned(), "-c".to_owned(), command.clone()],
        None => {
            let mut words = vec![test_binary_for("runtime", cargo(), options.arch)?];
            words.extend(options.arguments.iter().cloned());
            words
        }
    };
    let status = machine::run(&Job {
        series: &options.kernel,
        arch: options.arch,
        words: &words,
        time_limit_s: options.time_limit,
        processors: options.processors,
        memory_mib: options.memory,
        kvm: options.kvm,
        bpf_lsm: !options.without_bpf_lsm,
        output: None,
    })?;
    if status != 0 {
        bail!("the job ended with status {status} on Linux {}", options.kernel);
    }
    Ok(())
}

/// Builds one test binary of package sensor and returns its path.
///
/// The whole workspace is selected, so that dependencies have the same features as in every other test.
pub fn test_binary(name: &str, build: Command) -> Result<String> {
    test_binary_for(name, build, Arch::Amd64)
}

/// The same for another processor; static, since that machine has libraries of its own.
pub fn test_binary_for(name: &str, mut build: Command, arch: Arch) -> Result<String> {
    if let Some(triple) = arch.triple() {
        let variable = |end: &str| format!("CARGO_TARGET_{}_{end}", triple.to_uppercase().replace('-', "_"));
        build.env(variable("LINKER"), Arch::CROSS_LINKER);
        build.env(variable("RUSTFLAGS"), "-Ctarget-feature=+crt-static").env_remove("RUSTFLAGS");
    }
    build.args([
        "test",
        "--workspace",
        "--locked",
        "--test",
        name,
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    build.args(arch.triple().into_iter().flat_map(|triple| ["--target", triple]));
    let output = build.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        let advice = arch.triple().map(|_| "; another processor needs `cargo xtask setup --for matrix`");
        bail!("{} failed{}", line(&build), advice.unwrap_or_default());
    }
    let executable = String::from_utf8_lossy(&output.stdout).lines().rev().find_map(|message| {
        let message: serde_json::Value = serde_json::from_str(message).ok()?;
        let ours = message["target"]["name"] == name && message["target"]["kind"][0] == "test";
        message["executable"].as_str().filter(|_| ours).map(str::to_owned)
    });
    let path = executable.with_context(|| format!("cargo built no test named {name}"))?;
    Ok(root().join(path).display().to_string())
}
