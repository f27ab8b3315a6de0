//! What a record of an act means: the call's numbers in words. Calls that change nothing that matters mean nothing.

use sensor_abi::act::{access, call, namespace};

use super::record::Act;
use crate::event::{Access, ActKind, Bytes, Deed, EventKind};

/// The acts that a record tells of: none, one, or a file's two.
pub fn kinds(act: Act) -> Vec<ActKind> {
    let Act { call, number, target, path } = act;
    match call {
        call::OPEN => [(access::READ, Access::Read), (access::WRITE, Access::Write)]
            .into_iter()
            .filter(|(bit, _)| number & u64::from(*bit) != 0)
            .map(|(_, access)| ActKind::File { path: path.clone(), access })
            .collect(),
        call::RENAME | call::LINK | call::SYMLINK => vec![ActKind::File { path, access: Access::Write }],
        // A secret is as good by another name; what runs without the loader is written to by any of its names.
        call::MOVED => vec![ActKind::File { path, access: Access::Read }],
        call::ALIAS => {
            [Access::Read, Access::Write].map(|access| ActKind::File { path: path.clone(), access }).to_vec()
        }
        _ => deed(call, number, target, path).map(ActKind::System).into_iter().collect(),
    }
}

/// What an act takes away, if it can be what a process loaded: the number of its inode or 0, and its name.
pub fn taken(act: &Act) -> Option<(u64, &[u8])> {
    match act.call {
        call::DESTROY => Some((act.number, &act.path)),
        call::MOVED | call::RENAME => Some((0, &act.path)),
        _ => None,
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

fn deed(call: u16, number: u64, target: Option<u32>, path: Bytes) -> Option<Deed> {
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
        call::SET_USER_ID => (EventKind::Privilege, "set_user_id"),
        call::SET_CAPABILITIES => (EventKind::Privilege, "set_capabilities"),
        call::BPF => (EventKind::Privilege, "load_bpf"),
        call::XDP => (EventKind::Privilege, "bind_xdp"),
        call::UNSHARE => (EventKind::Namespace, "unshare"),
        call::SETNS => (EventKind::Namespace, "enter"),
        call::CLONE => (EventKind::Namespace, "clone"),
        _ => return None,
    };
    let named = NAMESPACES.iter().filter(|(bit, _)| kind == EventKind::Namespace && number & bit != 0);
    let namespaces: Vec<_> = named.map(|(_, name)| *name).collect();
    // unshare(2) of descriptors or of the current folder is no namespace.
    if call == call::UNSHARE && namespaces.is_empty() {
        return None;
    }
    Some(Deed { kind, op, path, target, peer: false, namespaces })
}

#[cfg(test)]
mod tests {
    use super::*;
    fn kinds_of(call: u16, number: u64) -> Vec<ActKind> {
        kinds(Act { call, number, target: None, path: b"/x".to_vec() })
    }

    #[test]
    fn a_file_that_is_opened_for_both_is_two_acts() {
        let both = kinds_of(call::OPEN, 3);
        assert!(matches!(
            both.as_slice(),
            [ActKind::File { access: Access::Read, .. }, ActKind::File { access: Access::Write, .. }]
        ));
        assert_eq!(kinds_of(call::OPEN, 0), []);
    }

    #[test]
    fn calls_that_change_nothing_that_matters_mean_nothing() {
        const CLONE_FILES: u64 = 0x400;
        assert_eq!(kinds_of(call::UNSHARE, CLONE_FILES), []);
        assert_eq!(kinds_of(999, 0), []);
        let [ActKind::System(deed)] = &kinds_of(call::UNSHARE, 0x1002_0000)[..] else { panic!() };
        assert_eq!(deed.namespaces, ["mnt", "user"]);
    }
}
