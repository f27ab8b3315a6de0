//! A mount and a network namespace for this process and all it starts.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

/// Everything that is local in the network namespace: documentation addresses, a cluster's and a cloud's.
const LOCAL: [&str; 5] = ["203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "10.0.0.0/8", "169.254.169.254/32"];

/// Where the BPF file system is mounted.
pub const BPF_FS: &str = "/sys/fs/bpf";

/// Public (RFC 5737, RFC 3849 count as such), private and metadata addresses to talk to.
pub const PUBLIC4: &str = "203.0.113.7";
pub const PUBLIC6: &str = "2001:db8::7";
pub const PRIVATE4: &str = "10.20.30.40";
pub const METADATA4: &str = "169.254.169.254";
/// Another public network, and the resolver of everybody here.
pub const OTHER4: &str = "198.51.100.7";
pub const RESOLVER4: &str = "198.51.100.53";
pub const LOOPBACK4: &str = "127.0.0.1";

/// Moves this process into new namespaces. To be called before any thread is started.
pub fn enter() -> Result<()> {
    #[expect(unsafe_code, reason = "unshare(2) can take shared descriptors away from other threads")]
    // SAFETY: no other thread exists yet, and the descriptor table is not unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }
        .context("cannot make a mount and a network namespace: run as root")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("mount --make-rprivate /")?;
    // The instance lock and the status socket of these tests, not of a sensor that watches this machine.
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
        .context("cannot mount a tmpfs on /run")?;
    resolver()?;
    // What these tests pin is theirs alone. (A machine may have no folder to mount it on: then nothing is kept.)
    if Path::new(BPF_FS).is_dir() {
        mount("bpf", BPF_FS, "bpf", MountFlags::NOSUID | MountFlags::NODEV, None)
            .context("cannot mount a BPF file system")?;
    }
    ip(&["link", "set", "lo", "up"])?;
    for net in LOCAL {
        ip(&["route", "add", "local", net, "dev", "lo"])?;
    }
    ip(&["-6", "address", "add", &format!("{PUBLIC6}/128"), "dev", "lo", "nodad"])
}

/// The configured resolver is one of the tests' own addresses.
fn resolver() -> Result<()> {
    const FILE: &str = "/etc/resolv.conf";
    let own = "/run/resolv.conf";
    std::fs::write(own, format!("nameserver {RESOLVER4}\noptions attempts:1 timeout:20\n"))?;
    if std::fs::metadata(FILE).is_err() {
        // A link into /run, which is empty now.
        let target = std::fs::read_link(FILE).context("there is no /etc/resolv.conf")?;
        let target = Path::new("/etc").join(target);
        std::fs::create_dir_all(target.parent().context("a link to a file")?)?;
        std::fs::write(target, "")?;
    }
    mount(own, FILE, "", MountFlags::BIND, None).context("cannot mount over /etc/resolv.conf")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run `ip` (package iproute2)")?;
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
