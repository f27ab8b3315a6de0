//! A Debian for a processor that isn't the host's, below target/: what its test machines have for a root file system.
//!
//! Packages are unpacked and not installed: their scripts could not run here.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::arch::Arch;
use super::archive::Archive;
use crate::tool::target;

/// Any suite whose Python the runtime tests run with.
const SUITE: &str = "bookworm";
/// What the tests call; what that needs comes with it.
const PACKAGES: [&str; 11] = [
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "hostname",
    "iproute2",
    "kmod",
    "mount",
    "procps",
    "python3",
    "util-linux",
];
/// What the scripts of packages would have written.
const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/shadow", "root:*:19000:0:99999:7:::\n"),
    ("etc/resolv.conf", ""),
];

/// Its root, made where it isn't there yet, or was made of other packages.
pub fn get(arch: Arch) -> Result<PathBuf> {
    let folder = target().join("userland").join(arch.name());
    let complete = folder.join("complete");
    let made_of = PACKAGES.join("\n");
    if fs::read_to_string(&complete).unwrap_or_default() != made_of {
        let _ = fs::remove_dir_all(&folder);
        Archive::suite(SUITE, arch)?.unpack_all(&PACKAGES, &folder)?;
        for (path, text) in FILES {
            fs::create_dir_all(folder.join("etc"))?;
            fs::write(folder.join(path), text)?;
        }
        fs::write(complete, made_of)?;
    }
    Ok(folder)
}
