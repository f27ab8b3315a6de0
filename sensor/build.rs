//! Names the kernel object that the binary embeds: the committed one, so that a plain `cargo build` needs nothing but
//! stable Rust, or another one, named by the variable SENSOR_EBPF_OBJECT (`cargo xtask test` puts a rebuilt one there).
//! And the revision of the embedded rules, for `sensor --version`.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() {
    println!("cargo::rerun-if-env-changed=SENSOR_EBPF_OBJECT");
    let crate_folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let object = match std::env::var_os("SENSOR_EBPF_OBJECT").filter(|path| !path.is_empty()) {
        Some(path) => crate_folder.join("..").join(Path::new(&path)),
        None => crate_folder.join("../sensor-ebpf/object/sensor.bpf.o"),
    };
    assert!(
        object.is_file(),
        "{} is missing: `cargo xtask build-ebpf` builds the kernel object, SENSOR_EBPF_OBJECT may name another",
        object.display()
    );
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=SENSOR_EBPF_OBJECT={}", object.display());
    let rules = crate_folder.join("../rules");
    println!("cargo::rerun-if-changed={}", rules.display());
    println!("cargo::rustc-env=SENSOR_RULES_REVISION={}", revision(&rules));
}

/// The first 12 hex digits of the SHA-256 over names and contents of the embedded data, in order of name.
fn revision(folder: &Path) -> String {
    let listed = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml" || extension == "yaml"));
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        println!("cargo::rerun-if-changed={}", path.display());
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
