//! `cargo xtask setup`: what build, tests and virtual machines need, on Debian and Ubuntu.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::build_ebpf::LLVM;
use crate::tool::{as_root, cargo, found, output, path_with, run as run_command, target};
use crate::vm::arch::Arch;
use crate::vm::kernel::Kernel;

/// Install what the kernel object, the tests and the virtual machines need
///
/// Debian and Ubuntu, by apt-get (with sudo where you aren't root), cargo install and pip (into a folder below target/).
/// What is there already is left alone, so it can be run again at any time. A plain `cargo build` needs none of this.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask setup\n  cargo xtask setup --for vm\n  cargo xtask setup --dry-run")]
pub struct Options {
    /// Only what this needs; may be given several times
    #[arg(long = "for", value_enum)]
    parts: Vec<Part>,
    /// Say what would be installed, and why; install nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The kernel object: `cargo xtask build-ebpf`
    Build,
    /// Everything of `cargo xtask test` but the virtual machines
    Test,
    /// `cargo xtask vm`
    Vm,
    /// `cargo xtask vm --arch arm64` and `--kernel all`; only where it is asked for
    Matrix,
}

/// A package, the part that wants it, and what for.
struct Package(Part, &'static str, &'static str);

/// `LLVM` stands for the version that [`LLVM`] names.
const PACKAGES: [Package; 34] = [
    Package(Part::Build, "gcc", "links build scripts and bpf-linker"),
    Package(Part::Build, "g++", "links bpf-linker against LLVM"),
    Package(Part::Build, "rustc-web", "a stable rustc of the LLVM that the linker has"),
    Package(Part::Build, "libstd-rust-web-dev-bpf", "its core library for BPF"),
    Package(Part::Build, "llvm-LLVM-dev", "bpf-linker is linked against it"),
    Package(Part::Build, "libpolly-LLVM-dev", "part of LLVM that its llvm-config names"),
    Package(Part::Build, "zlib1g-dev", "LLVM needs it"),
    Package(Part::Build, "libzstd-dev", "LLVM needs it"),
    Package(Part::Test, "python3", "loads the models of the runtime tests"),
    Package(Part::Test, "python3-venv", "holds the manifest checker"),
    Package(Part::Test, "python3-numpy", "writes and loads the arrays of the runtime tests"),
    Package(Part::Test, "python3-torch", "loads checkpoints in the runtime tests, as everybody does"),
    Package(Part::Test, "python3-sklearn", "likewise pipelines, and starts workers"),
    Package(Part::Test, "python3-joblib", "likewise"),
    Package(Part::Test, "python3-h5py", "holds its files open in the runtime tests"),
    Package(Part::Test, "iproute2", "makes the demo's network namespaces"),
    Package(Part::Test, "util-linux", "unshare, for the same"),
    Package(Part::Test, "procps", "counts processes in the tests"),
    Package(Part::Test, "rsync", "one of the readers that must stay quiet"),
    Package(Part::Test, "openssh-client", "likewise: scp"),
    Package(Part::Test, "openssl", "likewise"),
    Package(Part::Test, "curl", "likewise"),
    Package(Part::Test, "unzip", "one of the readers that the scanner is compared with"),
    Package(Part::Test, "p7zip-full|7zip", "likewise"),
    Package(Part::Test, "libarchive-tools", "likewise"),
    Package(Part::Test, "systemd", "systemd-analyze checks the unit"),
    Package(Part::Vm, "qemu-system-x86", "the machine"),
    Package(Part::Vm, "virtiofsd|qemu-system-common", "serves the host's files to it"),
    Package(Part::Vm, "busybox-static", "its first program"),
    Package(Part::Vm, "kmod", "indexes the kernel's modules"),
    Package(Part::Vm, "xz-utils", "unpacks them"),
    Package(Part::Matrix, "qemu-system-arm", "the machine of another processor"),
    Package(Part::Matrix, "gcc-aarch64-linux-gnu", "links what it runs"),
    Package(Part::Matrix, "libc6-dev-arm64-cross", "likewise"),
];

const BPF_LINKER: &str = "0.13.0";
/// Knows the schemas of Kubernetes 1.28 to 1.37, offline.
const KUBERNETES_VALIDATE: &str = "kubernetes-validate";
/// The series that `cargo xtask vm` takes by default.
pub const KERNEL: &str = "6.12";

pub fn run(options: &Options) -> Result<()> {
    let wanted = |part: Part| match options.parts[..] {
        [] => part != Part::Matrix,
        ref parts => parts.contains(&part),
    };
    packages(options, &wanted)?;
    if wanted(Part::Build) {
        bpf_linker(options)?;
    }
    if wanted(Part::Test) {
        components(options)?;
        manifest_checker(options)?;
        report_schemas(options)?;
        consumers(options)?;
    }
    if wanted(Part::Vm)
        && !Kernel::is_there(KERNEL)
        && say(options, &format!("kernel {KERNEL}"), "what the virtual machine runs, below target/")
    {
        Kernel::get(KERNEL)?;
    }
    if wanted(Part::Matrix) {
        rust_target(options)?;
    }
    if !options.dry_run {
        println!("Everything is there.");
    }
    Ok(())
}

/// Where the manifest checker is; `cargo xtask test` runs it from there.
pub fn manifest_checker_path() -> PathBuf {
    target().join("venv/bin").join(KUBERNETES_VALIDATE)
}

/// Prints one line of the plan; true where it is to be carried out.
fn say(options: &Options, what: &str, why: &str) -> bool {
    println!("{what:<28} {why}");
    !options.dry_run
}

fn packages(options: &Options, wanted: &dyn Fn(Part) -> bool) -> Result<()> {
    if !found("apt-get") {
        bail!(
            "this isn't Debian or Ubuntu: install by hand what `cargo xtask setup --dry-run` lists there, \
             or use only what needs none of it (`cargo build`, `cargo test`)"
        );
    }
    let mut missing = Vec::new();
    let mut fresh = false;
    for Package(part, names, why) in PACKAGES {
        let names = names.replace("LLVM", LLVM);
        if !wanted(part) || names.split('|').any(installed) {
            continue;
        }
        if !fresh && !options.dry_run {
            apt(&["update", "-qq"])?;
            fresh = true;
        }
        let Some(name) = names.split('|').find(|name| available(name)) else {
            bail!("no package {names} here ({why}): it is in Debian 12 (security updates) and newer");
        };
        if say(options, name, why) {
            missing.push(name.to_owned());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing.iter().map(String::as_str));
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Result<()> {
    run_command(as_root("env").arg("DEBIAN_FRONTEND=noninteractive").arg("apt-get").args(arguments))
}

fn installed(name: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", name]).stderr(Stdio::null()).output();
    query.is_ok_and(|query| query.stdout == b"installed")
}

fn available(name: &str) -> bool {
    let query = Command::new("apt-cache").args(["show", "--no-all-versions", name]).stderr(Stdio::null()).output();
    query.is_ok_and(|query| query.status.success() && !query.stdout.is_empty())
}

fn bpf_linker(options: &Options) -> Result<()> {
    let there = found("bpf-linker")
        && output(Command::new("bpf-linker").arg("--version").env("PATH", path_with(&[])))
            .is_ok_and(|version| version.ends_with(BPF_LINKER));
    if there || !say(options, "bpf-linker", "links the kernel object; built by cargo install, about two minutes") {
        return Ok(());
    }
    let llvm = PathBuf::from(format!("/usr/lib/llvm-{LLVM}/bin"));
    run_command(
        cargo()
            .args(["install", "--quiet", "--locked", "--version", BPF_LINKER, "--no-default-features", "--features"])
            .args([&format!("llvm-{LLVM}"), "bpf-linker"])
            .env("PATH", path_with(&[&llvm]))
            .env_remove("CARGO_TARGET_DIR"),
    )
}

/// rustup can be asked for clippy and rustfmt; a cargo from a distribution has packages of these names.
fn components(options: &Options) -> Result<()> {
    if ["clippy", "fmt"]
        .iter()
        .all(|name| cargo().arg(name).arg("--version").output().is_ok_and(|o| o.status.success()))
    {
        return Ok(());
    }
    if !found("rustup") {
        bail!("cargo clippy or cargo fmt is missing and there is no rustup to ask: install them by hand");
    }
    if say(options, "clippy, rustfmt", "lints and formatting are tested") {
        run_command(Command::new("rustup").args(["component", "add", "clippy", "rustfmt"]))?;
    }
    Ok(())
}

fn rust_target(options: &Options) -> Result<()> {
    for triple in [Arch::Amd64, Arch::Arm64].into_iter().filter_map(Arch::triple) {
        if say(options, triple, "what the machine of another processor runs; by rustup") {
            run_command(Command::new("rustup").args(["target", "add", triple]))?;
        }
    }
    Ok(())
}

fn manifest_checker(options: &Options) -> Result<()> {
    let checker = manifest_checker_path();
    if checker.is_file() || !say(options, KUBERNETES_VALIDATE, "checks the Kubernetes manifest; a venv below target/") {
        return Ok(());
    }
    let folder = checker.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    run_command(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    run_command(Command::new(folder.join("bin/pip")).args(["install", "--quiet", KUBERNETES_VALIDATE]))
}

/// Programs that read our reports and run our hook; the tests of the command line run them from here.
pub fn consumers_path() -> PathBuf {
    target().join("consumers/bin")
}

const CONSUMERS: [&str; 3] = ["sarif-tools", "cyclonedx-python-lib[json-validation]", "pre-commit"];

fn consumers(options: &Options) -> Result<()> {
    let programs = consumers_path();
    let complete = programs.with_file_name("complete");
    if complete.is_file()
        || !say(options, "consumers of reports", "sarif-tools, pre-commit and the like, in a venv below target/")
    {
        return Ok(());
    }
    run_command(Command::new("python3").args(["-m", "venv"]).arg(programs.parent().unwrap_or(Path::new("."))))?;
    run_command(Command::new(programs.join("pip")).args(["install", "--quiet"]).args(CONSUMERS))?;
    Ok(std::fs::write(complete, "")?)
}

/// The published schemas of SARIF and CycloneDX; the tests of the command line hold the reports to them.
pub fn report_schemas_path() -> PathBuf {
    target().join("report-schemas")
}

/// Each schema is taken from a package that carries it; nothing of it is committed.
fn report_schemas(options: &Options) -> Result<()> {
    let folder = report_schemas_path();
    let complete = folder.join("complete");
    if complete.is_file() || !say(options, "report schemas", "SARIF and CycloneDX, as published; below target/") {
        return Ok(());
    }
    if !found("npm") {
        bail!("npm is missing (a package of Node.js): the schema of SARIF comes in an npm package; install it");
    }
    let scratch = folder.join("scratch");
    std::fs::create_dir_all(&scratch)?;
    run_command(Command::new("npm").args(["pack", "--silent", "@microsoft/jest-sarif"]).current_dir(&scratch))?;
    let pip = manifest_checker_path().with_file_name("pip");
    run_command(
        Command::new(pip).args(["download", "--quiet", "--no-deps", "cyclonedx-python-lib"]).current_dir(&scratch),
    )?;
    for entry in std::fs::read_dir(&scratch)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("tgz") => run_command(Command::new("tar").arg("-xzf").arg(&path).current_dir(&scratch))?,
            Some("whl") => run_command(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&path).arg(&scratch))?,
            _ => {}
        }
    }
    let from_cyclonedx = scratch.join("cyclonedx/schema/_res");
    for (from, to) in [
        (scratch.join("package/lib/schemas/sarif-2.1.0-rtm.5.json"), "sarif.json"),
        (from_cyclonedx.join("bom-1.6.SNAPSHOT.schema.json"), "cyclonedx.json"),
        (from_cyclonedx.join("spdx.SNAPSHOT.schema.json"), "spdx.json"),
        (from_cyclonedx.join("jsf-0.82.SNAPSHOT.schema.json"), "jsf.json"),
    ] {
        std::fs::copy(&from, folder.join(to)).with_context(|| from.display().to_string())?;
    }
    std::fs::remove_dir_all(&scratch)?;
    Ok(std::fs::write(complete, "")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_named_once_and_says_why() {
        for (index, Package(_, name, why)) in PACKAGES.iter().enumerate() {
            assert!(!why.is_empty());
            assert!(PACKAGES[..index].iter().all(|Package(_, other, _)| other != name), "{name} is listed twice");
        }
    }
}
