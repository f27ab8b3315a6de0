//! The processors that test machines have.

use crate::tool::found;

/// By Debian's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Arch {
    /// The host's own: its root file system is the machine's.
    #[default]
    Amd64,
    /// Emulated; the machine has a Debian of its own, and our programs are static.
    Arm64,
}

impl Arch {
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    pub fn qemu(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// What is missing here to emulate it, and what to do about that.
    pub fn missing(self) -> Option<String> {
        let part = match self {
            Self::Amd64 => "vm",
            Self::Arm64 => "matrix",
        };
        let qemu = self.qemu();
        (!found(qemu)).then(|| format!("{qemu} is missing: run `cargo xtask setup --for {part}`"))
    }

    /// What our programs are built for; `None` for the host.
    pub fn triple(self) -> Option<&'static str> {
        match self {
            Self::Amd64 => None,
            Self::Arm64 => Some("aarch64-unknown-linux-gnu"),
        }
    }

    /// What links for [`Self::triple`].
    pub const CROSS_LINKER: &'static str = "aarch64-linux-gnu-gcc";

    /// The board and its processor; without KVM both are emulated.
    pub fn board(self, kvm: bool) -> [&'static str; 6] {
        match (self, kvm) {
            (Self::Amd64, true) => ["-machine", "q35,memory-backend=ram", "-accel", "kvm", "-cpu", "host"],
            (Self::Amd64, false) => ["-machine", "q35,memory-backend=ram", "-accel", "tcg", "-cpu", "max"],
            // A server's, and none of the newest: what those can do in silicon is slow to emulate.
            (Self::Arm64, _) => {
                ["-machine", "virt,gic-version=3,memory-backend=ram", "-accel", "tcg", "-cpu", "neoverse-n1"]
            }
        }
    }
}
