//! `cargo xtask image`: a container image from scratch, without a daemon: one static binary in an OCI image layout
//! (opencontainers/image-spec: image-layout.md), the same bytes from the same sources.

mod layout;
mod tar;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tool::{cargo, cargo_home, output, root, run as run_command, sha256, target};

/// Build a static binary and pack it into a reproducible OCI image
///
/// Writes an OCI image layout as one tar file, which `ctr images import`, `podman load` and `skopeo copy oci-archive:`
/// read. Needs no daemon, no registry and no root.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask image\n  cargo xtask image --output dist/sensor.tar\n  cargo xtask image --check"
)]
pub struct Options {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "dist/sensor-image.tar")]
    output: PathBuf,
    /// Build and pack twice, compare, and write nothing
    #[arg(long)]
    check: bool,
}

/// The crates that end up in the binary: a second build makes them anew.
const CRATES: [&str; 3] = ["sensor", "sensor-scan", "sensor-abi"];

pub fn run(options: &Options) -> Result<()> {
    if options.check {
        return check();
    }
    let image = pack(&build()?)?;
    let file = root().join(&options.output);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&file, &image)?;
    println!("{}: {} bytes, sha256 {}", file.display(), image.len(), sha256(&image));
    Ok(())
}

/// Two builds give the same bytes, and the binary runs.
pub fn check() -> Result<()> {
    let binary = build()?;
    let version = output(Command::new(&binary).arg("--version").env_clear())?;
    let first = pack(&binary)?;
    let mut clean = cargo();
    clean.args(["clean", "--quiet", "--release", "--target", &triple()]);
    for name in CRATES {
        clean.args(["--package", name]);
    }
    run_command(&mut clean)?;
    let second = pack(&build()?)?;
    if first != second {
        bail!("two builds of the image differ: sha256 {} and {}", sha256(&first), sha256(&second));
    }
    println!("{version}: {} bytes, sha256 {}, the same from two builds", first.len(), sha256(&first));
    Ok(())
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// The release binary, static: it needs nothing of the image but itself.
pub fn build() -> Result<PathBuf> {
    build_static("sensor", "sensor")
}

/// A static release binary of one of our packages.
pub fn build_static(package: &str, binary: &str) -> Result<PathBuf> {
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        // No path of this machine in a panic's message.
        format!("--remap-path-prefix={}=/sensor", root().display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home()?.display()),
    ];
    run_command(
        cargo()
            .args(["build", "--quiet", "--release", "--locked", "--target", &triple()])
            .args(["--package", package, "--bin", binary])
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env("CARGO_INCREMENTAL", "0")
            .env_remove("RUSTFLAGS"),
    )?;
    Ok(target().join(triple()).join("release").join(binary))
}

fn pack(binary: &Path) -> Result<Vec<u8>> {
    let read = |path: PathBuf| fs::read(&path).with_context(|| path.display().to_string());
    let root = root();
    let mut layer = tar::Archive::default();
    for folder in ["etc", "etc/sensor", "licenses", "proc", "run", "run/sensor", "sys"] {
        layer.folder(folder, 0o755);
    }
    layer.folder("tmp", 0o1777);
    layer.file("sensor", 0o755, &read(binary.to_owned())?);
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-GPL"] {
        layer.file(&format!("licenses/{name}"), 0o644, &read(root.join(name))?);
    }
    Ok(layout::write(&layer.finish(), env!("CARGO_PKG_VERSION")))
}
