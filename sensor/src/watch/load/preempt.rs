//! Does this kernel take the CPU away from its own code?
//!
//! Where it does, it takes it from a program on the fentry rung, too. Until that one goes on, the kernel leaves the same
//! program out of whatever else runs on that CPU (kernel/bpf/trampoline.c: __bpf_prog_enter_recur), as long as other
//! tasks keep it busy: eight that open files in a loop hid two opens of three on Linux 7.3. LSM programs aren't asked that
//! question, and kprobes run with preemption off.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use super::tracepoint::mount_privately;

/// Of a kernel's configuration, which it may let anybody read: this much and no more.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Asked of those who know it, best first: what runs, what was asked for at boot, what the kernel was built with. Where
/// nobody says, the worse is assumed.
pub fn preempts() -> bool {
    let system = rustix::system::uname();
    let (release, version) = (system.release().to_string_lossy(), system.version().to_string_lossy());
    if !version.contains("PREEMPT") {
        return false;
    }
    running()
        .as_deref()
        .and_then(of_mode)
        .or_else(|| std::fs::read_to_string("/proc/cmdline").ok().as_deref().and_then(of_command_line))
        .or_else(|| config(&release).as_deref().and_then(of_config))
        .unwrap_or(true)
}

/// The modes that there are, the one that is on in parentheses (kernel/sched/debug.c: sched_dynamic_show).
fn running() -> Option<String> {
    const FILE: &str = "sched/preempt";
    let mounted = std::fs::read_to_string(Path::new("/sys/kernel/debug").join(FILE));
    let read = mounted.or_else(|_| -> io::Result<String> {
        let (_mount, root) = mount_privately("debugfs")?;
        std::fs::read_to_string(root.join(FILE))
    });
    read.ok()
}

fn of_mode(modes: &str) -> Option<bool> {
    let (_, rest) = modes.split_once('(')?;
    let (mode, _) = rest.split_once(')')?;
    is_preemptive(mode)
}

/// `preempt=`, the last one holds (kernel/sched/core.c: setup_preempt_mode). Only the words that say yes: kernels that
/// preempt in any case take no notice of the others (7.0 on, and those built for real time).
fn of_command_line(line: &str) -> Option<bool> {
    let last = line.split_ascii_whitespace().rev().find_map(|word| is_preemptive(word.strip_prefix("preempt=")?));
    last.filter(|preempts| *preempts)
}

fn is_preemptive(mode: &str) -> Option<bool> {
    match mode {
        "none" | "voluntary" => Some(false),
        "full" | "lazy" => Some(true),
        _ => None,
    }
}

/// kernel/Kconfig.preempt: one of them is chosen.
fn of_config(config: &str) -> Option<bool> {
    config.lines().find_map(|line| match line.trim_end() {
        "CONFIG_PREEMPT_NONE=y" | "CONFIG_PREEMPT_VOLUNTARY=y" => Some(false),
        "CONFIG_PREEMPT=y" | "CONFIG_PREEMPT_LAZY=y" | "CONFIG_PREEMPT_RT=y" => Some(true),
        _ => None,
    })
}

fn config(release: &str) -> Option<String> {
    let packed = || text(GzDecoder::new(File::open("/proc/config.gz").ok()?));
    let plain = |path: String| text(File::open(path).ok()?);
    packed()
        .or_else(|| plain(format!("/boot/config-{release}")))
        .or_else(|| plain(format!("/lib/modules/{release}/config")))
}

fn text(from: impl Read) -> Option<String> {
    let mut text = String::new();
    from.take(CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{of_command_line, of_config, of_mode};

    #[test]
    fn the_mode_in_parentheses_is_the_one() {
        assert_eq!(of_mode("none (voluntary) full\n"), Some(false));
        assert_eq!(of_mode("none voluntary (full) lazy"), Some(true));
        assert_eq!(of_mode("full (lazy) \n"), Some(true));
        assert_eq!(of_mode("full lazy\n"), None, "not chosen yet");
        assert_eq!(of_mode("(something new)"), None);
        assert_eq!(of_mode(""), None);
    }

    #[test]
    fn the_last_word_at_boot_holds() {
        assert_eq!(of_command_line("ro preempt=none preempt=full quiet"), Some(true));
        assert_eq!(of_command_line("ro preempt=full preempt=none quiet"), None, "it may have had no choice");
        assert_eq!(of_command_line("ro xpreempt=none preempt=lazy\n"), Some(true));
        assert_eq!(of_command_line("preempt=full preempt=whatever"), Some(true), "the kernel takes no notice of that");
        assert_eq!(of_command_line("ro quiet"), None);
    }

    #[test]
    fn a_kernel_is_built_with_one_of_them() {
        let built = |with: &str| of_config(&format!("CONFIG_PREEMPT_BUILD=y\n{with}\nCONFIG_PREEMPT_DYNAMIC=y\n"));
        assert_eq!(built("# CONFIG_PREEMPT_NONE is not set\nCONFIG_PREEMPT_VOLUNTARY=y"), Some(false));
        assert_eq!(built("# CONFIG_PREEMPT_VOLUNTARY is not set\nCONFIG_PREEMPT=y"), Some(true));
        assert_eq!(built("CONFIG_PREEMPT_LAZY=y"), Some(true));
        assert_eq!(of_config("CONFIG_PREEMPT_RT=y\n"), Some(true));
        assert_eq!(built(""), None);
    }
}
