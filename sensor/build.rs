//! Names the kernel object that the binary embeds: the committed one, so that a plain `cargo build` needs nothing but
//! stable Rust, or another one, named by the variable SENSOR_EBPF_OBJECT (`cargo xtask test` puts a rebuilt one there).

use std::path::{Path, PathBuf};

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
}
