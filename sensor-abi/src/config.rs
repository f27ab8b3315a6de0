//! Constants that userspace writes into the object's `.rodata` before it is loaded: the verifier sees them as known.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An [`Offsets`] entry for a member that this kernel doesn't have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$meta:meta])* $name:ident: $ty:literal . $member:literal $(| $other:literal)*;)*) => {
        /// Byte offsets of kernel structure members on the running kernel, from its BTF.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct Offsets { $($(#[$meta])* pub $name: u32,)* }

        impl Offsets {
            /// Nothing known.
            pub const ABSENT: Self = Self { $($name: ABSENT,)* };
            /// `(type, member spellings in order of preference)` in field order. A dotted member descends into it.
            pub const SOURCE: &'static [(&'static str, &'static [&'static str])] =
                &[$(($ty, &[$member $(, $other)*]),)*];
        }
    };
}

offsets! {
    task_tgid: "task_struct"."tgid";
    task_pid: "task_struct"."pid";
    task_group_leader: "task_struct"."group_leader";
    task_real_parent: "task_struct"."real_parent";
    task_start_boottime: "task_struct"."start_boottime" | "real_start_time";
    task_files: "task_struct"."files";
    task_mm: "task_struct"."mm";
    task_signal: "task_struct"."signal";
    task_comm: "task_struct"."comm";
    signal_live: "signal_struct"."live";
    files_fdt: "files_struct"."fdt";
    fdt_max_fds: "fdtable"."max_fds";
    fdt_fd: "fdtable"."fd";
    fdt_open_fds: "fdtable"."open_fds";
    files_fdtab: "files_struct"."fdtab";
    files_open_fds: "files_struct"."open_fds_init";
    files_fd_array: "files_struct"."fd_array";
    file_mode: "file"."f_mode";
    file_flags: "file"."f_flags";
    file_inode: "file"."f_inode";
    file_path_mnt: "file"."f_path.mnt" | "__f_path.mnt";
    file_path_dentry: "file"."f_path.dentry" | "__f_path.dentry";
    /// What overlayfs' inner file stands for; ABSENT before 6.8, where `f_path` says it.
    backing_path_mnt: "backing_file"."user_path.mnt";
    backing_path_dentry: "backing_file"."user_path.dentry";
    inode_mode: "inode"."i_mode";
    inode_uid: "inode"."i_uid";
    inode_ino: "inode"."i_ino";
    inode_sb: "inode"."i_sb";
    inode_size: "inode"."i_size";
    inode_generation: "inode"."i_generation";
    inode_nlink: "inode"."i_nlink";
    inode_writecount: "inode"."i_writecount";
    inode_mapping: "inode"."i_mapping";
    mapping_writable: "address_space"."i_mmap_writable";
    /// `i_ctime_sec` from 6.11; before, a `timespec64`.
    inode_ctime_s: "inode"."i_ctime_sec" | "__i_ctime" | "i_ctime";
    /// ABSENT where `inode_ctime_s` is a `timespec64`: then 8 bytes behind it.
    inode_ctime_ns: "inode"."i_ctime_nsec";
    sb_dev: "super_block"."s_dev";
    sb_magic: "super_block"."s_magic";
    dentry_parent: "dentry"."d_parent";
    dentry_name: "dentry"."d_name.name";
    dentry_name_len: "dentry"."d_name.len";
    dentry_inode: "dentry"."d_inode";
    /// Where short names are: before 6.14 an array, since a union with one in it.
    dentry_inline_name: "dentry"."d_iname" | "d_shortname.string";
    mount_mnt: "mount"."mnt";
    mount_parent: "mount"."mnt_parent";
    mount_mountpoint: "mount"."mnt_mountpoint";
    vfsmount_root: "vfsmount"."mnt_root";
    mm_exe_file: "mm_struct"."exe_file";
    mm_arg_start: "mm_struct"."arg_start";
    mm_arg_end: "mm_struct"."arg_end";
    bprm_file: "linux_binprm"."file";
    bprm_filename: "linux_binprm"."filename";
    bprm_interp: "linux_binprm"."interp";
    vma_file: "vm_area_struct"."vm_file";
    vma_flags: "vm_area_struct"."vm_flags";
    socket_sk: "socket"."sk";
    socket_type: "socket"."type";
    socket_state: "socket"."state";
    sock_family: "sock_common"."skc_family";
    sock_protocol: "sock"."sk_protocol";
    sock_daddr: "sock_common"."skc_daddr";
    /// Network byte order.
    sock_dport: "sock_common"."skc_dport";
    sock_v6_daddr: "sock_common"."skc_v6_daddr";
    sock_rcv_saddr: "sock_common"."skc_rcv_saddr";
    sock_v6_rcv_saddr: "sock_common"."skc_v6_rcv_saddr";
    /// Local port, host byte order.
    sock_num: "sock_common"."skc_num";
    sock_cookie: "sock_common"."skc_cookie";
    sock_type: "sock"."sk_type";
    /// Bits: reuse 0 to 3, reuseport 4, ipv6only 5, net_refcnt 6.
    sock_flags: "sock_common"."skc_reuse";
    tcp_is_mptcp: "tcp_sock"."is_mptcp";
    file_private: "file"."private_data";
    unix_peer: "unix_sock"."peer";
    unix_addr: "unix_sock"."addr";
    unix_address_len: "unix_address"."len";
    unix_address_name: "unix_address"."name";
    task_cred: "task_struct"."cred";
    cred_uid: "cred"."uid";
    task_cgroups: "task_struct"."cgroups";
    css_set_cgroup: "css_set"."dfl_cgrp";
    cgroup_kn: "cgroup"."kn";
    kernfs_id: "kernfs_node"."id";
    msghdr_name: "msghdr"."msg_name";
    msghdr_namelen: "msghdr"."msg_namelen";
    msghdr_flags: "msghdr"."msg_flags";
    /// The process that an inode of procfs is about; null where it is about none.
    proc_pid: "proc_inode"."pid";
    proc_inode: "proc_inode"."vfs_inode";
    /// `struct pid *[PIDTYPE_MAX]`
    signal_pids: "signal_struct"."pids";
    task_thread_pid: "task_struct"."thread_pid";
    /// `struct upid []`: the number in the initial namespace first.
    pid_numbers: "pid"."numbers";
    pid_level: "pid"."level";
    path_mnt: "path"."mnt";
    path_dentry: "path"."dentry";
    task_fs: "task_struct"."fs";
    fs_pwd_mnt: "fs_struct"."pwd.mnt";
    fs_pwd_dentry: "fs_struct"."pwd.dentry";
    cred_suid: "cred"."suid";
    cred_euid: "cred"."euid";
    cred_effective: "cred"."cap_effective";
    cred_permitted: "cred"."cap_permitted";
    cred_user_ns: "cred"."user_ns";
    task_nsproxy: "task_struct"."nsproxy";
    nsproxy_uts: "nsproxy"."uts_ns";
    nsproxy_ipc: "nsproxy"."ipc_ns";
    nsproxy_mnt: "nsproxy"."mnt_ns";
    nsproxy_pid: "nsproxy"."pid_ns_for_children";
    nsproxy_net: "nsproxy"."net_ns";
    nsproxy_time: "nsproxy"."time_ns";
    nsproxy_cgroup: "nsproxy"."cgroup_ns";
}

/// What this run of the kernel half does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// The daemon: it and its children are never marked or reported.
    pub own_tgid: u32,
    /// 1: the kernel has `bpf_loop`.
    pub has_loop: u32,
    /// Candidates per cgroup and second; 0 is unlimited.
    pub candidates_per_s: u32,
    /// 1: the kernel has `bpf_get_current_task_btf`.
    pub has_known_task: u32,
    /// How long a held descriptor keeps the load window open, ns.
    pub load_window_ns: u64,
    /// Of [`crate::name::suffix_slot`].
    pub suffix_multiplier: u64,
    /// Where a kprobe finds the arguments of a function in `struct pt_regs`, bytes.
    pub argument_registers: [u32; ARGUMENTS_MAX],
    /// 1: nobody has to hear at once that a file was opened that is known to be clean.
    pub quiet_opens: u32,
    pub reserved: u32,
}

/// Arguments that are passed in registers on every architecture: x86-64 has six, aarch64 eight.
pub const ARGUMENTS_MAX: usize = 6;
