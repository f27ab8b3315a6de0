//! What a record of an act means: the call's numbers in words. Calls that change nothing that matters mean nothing.

use sensor_abi::act::{access, call, namespace};

use super::record::Act;
use crate::event::{Access, ActKind, Bytes, Deed, EventKind};

/// The acts that a record tells of: none, one, or a file's two.
pub fn kinds(act: Act) -> Vec<ActKind> {
    let Act { call, numbers, target, path } = act;
    match call {
        call::OPEN => [(access::READ, Access::Read), (access::WRITE, Access::Write)]
            .into_iter()
            .filter(|(bit, _)| numbers[0] & u64::from(*bit) != 0)
            .map(|(_, access)| ActKind::File { path: path.clone(), access })
            .collect(),
        call::RENAME | call::LINK | call::SYMLINK => vec![ActKind::File { path, access: Access::Write }],
        _ => deed(call, numbers, Some(target.tgid).filter(|tgid| *tgid != 0), path)
            .map(ActKind::System)
            .into_iter()
            .collect(),
    }
}

/// The words of `event.namespaces`.
const NAMESPACES: [(u64, &str); 8] = [
    (namespace::CGROUP, "cgroup"),
    (namespace::IPC, "ipc"),
    (namespace::MNT, "mnt"),
    (namespace::NET, "net"),
    (namespace::PID, "pid"),
    (namespace::TIME, "time"),
    (namespace::USER, "user"),
    (namespace::UTS, "uts"),
];

fn deed(call: u16, numbers: [u64; 4], target: Option<u32>, path: Bytes) -> Option<Deed> {
    let [first, second, ..] = numbers;
    let (kind, op) = match call {
        call::ACCESS => (EventKind::Ptrace, "access"),
        call::PTRACE => (EventKind::Ptrace, "attach"),
        call::VM_READ => (EventKind::Ptrace, "read_memory"),
        call::VM_WRITE => (EventKind::Ptrace, "write_memory"),
        call::PIDFD_GETFD => (EventKind::Ptrace, "take_descriptor"),
        call::MODULE => (EventKind::Kmod, "load"),
        call::KEXEC => (EventKind::Kmod, "kexec"),
        call::MOUNT => (EventKind::Mount, "mount"),
        call::PIVOT_ROOT => (EventKind::Mount, "pivot_root"),
        call::SETUID => (EventKind::Privilege, "setuid"),
        call::EXEC_GAIN => (EventKind::Privilege, "exec"),
        call::UNSHARE => (EventKind::Namespace, "unshare"),
        call::SETNS => (EventKind::Namespace, "enter"),
        call::CLONE => (EventKind::Namespace, "clone"),
        _ => return None,
    };
    let flags = match call {
        call::UNSHARE | call::CLONE => first,
        call::SETNS => second,
        _ => 0,
    };
    let namespaces: Vec<_> = NAMESPACES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    // unshare(2) of descriptors or of the current folder is no namespace.
    if call == call::UNSHARE && namespaces.is_empty() {
        return None;
    }
    Some(Deed { kind, op, path, target, peer: false, namespaces })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TaskKey;

    fn kinds_of(call: u16, numbers: [u64; 4]) -> Vec<ActKind> {
        let target = TaskKey { tgid: 0, start_boottime_ns: 0 };
        kinds(Act { call, numbers, target, path: b"/x".to_vec() })
    }

    #[test]
    fn a_file_that_is_opened_for_both_is_two_acts() {
        let both = kinds_of(call::OPEN, [3, 0, 0, 0]);
        assert!(matches!(
            both.as_slice(),
            [ActKind::File { access: Access::Read, .. }, ActKind::File { access: Access::Write, .. }]
        ));
        assert_eq!(kinds_of(call::OPEN, [0; 4]), []);
    }

    #[test]
    fn calls_that_change_nothing_that_matters_mean_nothing() {
        const CLONE_FILES: u64 = 0x400;
        assert_eq!(kinds_of(call::UNSHARE, [CLONE_FILES, 0, 0, 0]), []);
        assert_eq!(kinds_of(999, [0; 4]), []);
        let [ActKind::System(deed)] = &kinds_of(call::UNSHARE, [0x1002_0000, 0, 0, 0])[..] else { panic!() };
        assert_eq!(deed.namespaces, ["mnt", "user"]);
    }
}
