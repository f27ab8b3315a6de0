//! `cargo xtask build-ebpf`: the kernel object, byte for byte the same from the same sources and tools.
//!
//! No nightly compiler: Debian ships `core` compiled for BPF beside its own stable rustc (packages rustc-web and
//! libstd-rust-web-dev-bpf). That rustc and bpf-linker have to use the same LLVM.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::stamp::{OBJECT, Stamp, sources};
use crate::tool::{cargo, cargo_home, found, output, path_with, root, run as run_command, sha256, target};

/// Build the kernel object from sensor-ebpf/ and write it, with its stamp, to sensor-ebpf/object/
///
/// Needs what `cargo xtask setup --for build` installs. With --check nothing in the source tree is written: the object
/// is rebuilt below target/ and compared with the committed one.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rebuild and compare; fails where the same tools give other bytes
    #[arg(long)]
    check: bool,
}

/// Debian's own compiler. Not the one on PATH, which has no `core` for BPF.
const RUSTC: &str = "/usr/bin/rustc";
/// The LLVM that this rustc and bpf-linker share.
pub const LLVM: &str = "22";
const TRIPLE: &str = "bpfel-unknown-none";

/// What a rebuild found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuilt {
    /// Same tools, same bytes.
    Same,
    /// Other tools than the stamp's, so the bytes say nothing: here is the new object, to test.
    OtherTools(PathBuf),
}

pub fn run(options: &Options) -> Result<()> {
    if options.check {
        match check()? {
            Rebuilt::Same => println!("{OBJECT} is what these sources and tools give, byte for byte."),
            Rebuilt::OtherTools(object) => println!(
                "The stamp is old: it names other tools than these, so bytes can't be compared.\n\
                 Test the new object with SENSOR_EBPF_OBJECT={}, then commit it by `cargo xtask build-ebpf`.",
                object.display()
            ),
        }
        return Ok(());
    }
    let root = root();
    let (object, tools) = build()?;
    let bytes = fs::read(&object)?;
    fs::write(root.join(OBJECT), &bytes)?;
    Stamp { object: sha256(&bytes), sources: sources(&root)?, tools }.write(&root)?;
    println!("{OBJECT}: {} bytes, sha256 {}", bytes.len(), sha256(&bytes));
    Ok(())
}

/// Builds the object anew and holds the committed one against it.
pub fn check() -> Result<Rebuilt> {
    let root = root();
    let stamp = Stamp::read(&root)?;
    if stamp.sources != sources(&root)? {
        bail!("the sources changed since {OBJECT} was built: run `cargo xtask build-ebpf` and commit the object");
    }
    let (object, tools) = build()?;
    if tools != stamp.tools {
        for (name, version) in &tools {
            let committed = stamp.tools.get(name).map_or("none", String::as_str);
            if committed != version {
                println!("{name}: the stamp has {committed}, here is {version}");
            }
        }
        return Ok(Rebuilt::OtherTools(object));
    }
    let (new, committed) = (fs::read(&object)?, fs::read(root.join(OBJECT))?);
    if new != committed {
        bail!(
            "the same tools give another object than the committed one: {} (sha256 {}) against {OBJECT} (sha256 {}). \
             Run `cargo xtask build-ebpf` and commit what it writes",
            object.display(),
            sha256(&new),
            sha256(&committed)
        );
    }
    Ok(Rebuilt::Same)
}

/// Builds into target/ebpf and returns the object's path and the tools that made it.
fn build() -> Result<(PathBuf, BTreeMap<String, String>)> {
    let llvm = PathBuf::from(format!("/usr/lib/llvm-{LLVM}/bin"));
    let tools = tools(&llvm)?;
    let folder = target().join("ebpf");
    // Sources have to be there before their folders can be renamed in the debug information.
    run_command(cargo().args(["fetch", "--quiet", "--locked"]))?;
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--release", "--locked", "--package", "sensor-ebpf", "--target", TRIPLE])
        .env("PATH", path_with(&[&llvm]))
        .env("RUSTC", RUSTC)
        // aya-ebpf reads registers by inline assembly, which is unstable for this target alone.
        .env("RUSTC_BOOTSTRAP", "aya_ebpf,sensor_ebpf")
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?)
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_INCREMENTAL", "0");
    for other in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "RUSTUP_TOOLCHAIN"] {
        build.env_remove(other);
    }
    run_command(&mut build)?;

    // The kernel wants the BTF and nothing of the DWARF; the loader reads no relocations of the BTF either.
    // .BTF.ext has to stay: its func_info lets the verifier judge a global function once and not at every call, which is
    // the difference between less than a second and more than two minutes.
    let object = folder.join("sensor.bpf.o");
    let linked = folder.join(TRIPLE).join("release/sensor-ebpf");
    run_command(
        Command::new(llvm.join("llvm-objcopy"))
            .args(["--strip-debug", "--remove-section=.rel.BTF", "--remove-section=.rel.BTF.ext"])
            .args([&linked, &object]),
    )?;
    Ok((object, tools))
}

/// Flags of the compiler: BTF from full debug information, and no path of this machine in it.
fn flags() -> Result<String> {
    let mut flags = vec!["-Cdebuginfo=2".to_owned(), "-Clink-arg=--btf".to_owned()];
    flags.push(format!("--remap-path-prefix={}=/sensor", root().display()));
    // One folder per registry, named by a hash that differs where a mirror is used.
    for entry in fs::read_dir(cargo_home()?.join("registry/src")).context("cargo's home has no sources")? {
        flags.push(format!("--remap-path-prefix={}=/registry", entry?.path().display()));
    }
    Ok(flags.join("\u{1f}"))
}

/// The versions of everything that decides a byte.
fn tools(llvm: &Path) -> Result<BTreeMap<String, String>> {
    let advice = "run `cargo xtask setup --for build`";
    if !llvm.join("llvm-objcopy").is_file() || !found("bpf-linker") {
        bail!("bpf-linker or LLVM {LLVM} is missing: {advice}");
    }
    let sysroot = output(Command::new(RUSTC).args(["--print", "sysroot"])).context(advice)?;
    if !Path::new(&sysroot).join("lib/rustlib").join(TRIPLE).is_dir() {
        bail!("{RUSTC} has no core library for {TRIPLE}: {advice}");
    }
    let rustc = output(Command::new(RUSTC).arg("-vV"))?;
    let llvm_of_rustc = rustc.lines().find_map(|line| line.strip_prefix("LLVM version: ")).unwrap_or("unknown");
    Ok(BTreeMap::from([
        ("bpf-linker".to_owned(), output(Command::new("bpf-linker").arg("--version").env("PATH", path_with(&[])))?),
        ("cargo".to_owned(), output(cargo().arg("--version"))?),
        ("llvm".to_owned(), output(Command::new(llvm.join("llvm-config")).arg("--version"))?),
        ("rustc".to_owned(), format!("{}, LLVM {llvm_of_rustc}", rustc.lines().next().unwrap_or("unknown"))),
    ]))
}
