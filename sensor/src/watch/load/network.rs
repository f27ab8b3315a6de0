//! The ladders of the socket hooks, and acts of our own that prove them.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, ProgramError, SockOps,
};
use sensor_abi::counter::Counter;

use super::attach::{Attacher, not_found};
use super::plan::{Hook, Rung};
use super::say;

/// A link is always one of many, whatever this mode says; the old attach call would push others out.
const MODE: CgroupAttachMode = CgroupAttachMode::Single;

impl Attacher<'_> {
    /// A program on the cgroup root that isn't told a socket address.
    fn on_cgroup(
        &mut self,
        event: &'static str,
        root: &Path,
        required: bool,
        lost: &str,
        attach: impl FnOnce(&mut Self, File) -> Result<(), ProgramError>,
    ) -> Hook {
        let mut hook = Hook::new(event, required, lost);
        let attached = File::open(root).map_err(ProgramError::IOError).and_then(|root| attach(self, root));
        hook.settle(Rung::Cgroup, attached.map_err(|e| say(&e)), "");
        hook
    }

    /// `name` is a program after a bind.
    pub fn bind(&mut self, event: &'static str, name: &'static str, root: &Path, lost: &str) -> Hook {
        self.on_cgroup(event, root, true, lost, |this, root| {
            let program: &mut CgroupSock = this.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load()?;
            program.attach(root, MODE).map(drop)
        })
    }

    /// Listening TCP sockets, and what connections carry.
    pub fn tcp(&mut self, root: &Path) -> Hook {
        let lost = "listening TCP sockets are not seen, nor how many bytes leave by a connection";
        self.on_cgroup("tcp", root, true, lost, |this, root| {
            let name = "tcp_socket";
            let program: &mut SockOps = this.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            program.load()?;
            program.attach(root, MODE).map(drop)
        })
    }

    /// Packets, as they leave or come.
    pub fn packets(&mut self, event: &'static str, which: CgroupSkbAttachType, root: &Path, lost: &str) -> Hook {
        // Not required: nothing that we may send by ourselves would prove them.
        self.on_cgroup(event, root, false, lost, |this, root| {
            let program: &mut CgroupSkb = this.ebpf.program_mut(event).ok_or(not_found(event))?.try_into()?;
            program.load()?;
            program.attach(root, which, MODE).map(drop)
        })
    }

    /// Connects that the cgroup pair can't see.
    pub fn other_connects(&mut self) -> Hook {
        let mut hook = Hook::new("socket_connect", false, "connections of vsock and SCTP sockets are not seen");
        let lsm = self.proven_lsm("socket_connect", Counter::CanarySocketLsm, || {
            datagram_to_ourselves();
        });
        hook.settle(Rung::Lsm, lsm, "");
        if hook.rung.is_none() {
            let attached = self.connect_calls(&mut hook);
            hook.settle(
                Rung::Tracepoint,
                attached,
                "connections of SCTP sockets, and of vsock sockets by io_uring, are not seen",
            );
        }
        hook
    }

    /// Messages that the cgroup pair can't see.
    pub fn other_messages(&mut self) -> Hook {
        let mut hook = Hook::new(
            "socket_sendmsg",
            false,
            "what packet and SCTP sockets send is not seen, and of connected UDP sockets only the connect and DNS are",
        );
        let lsm = self.proven_lsm("socket_sendmsg", Counter::CanaryLength, || {
            datagram_to_ourselves();
        });
        hook.settle(Rung::Lsm, lsm, "");
        if hook.rung.is_none() {
            let name = "sock_send_length";
            let attached = (|| -> Result<(), ProgramError> {
                let program: &mut BtfTracePoint = self.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
                program.load(name, self.btf)?;
                program.attach().map(drop)
            })();
            hook.settle(Rung::TpBtf, attached.map_err(|e| say(&e)), "what SCTP sockets send is not seen");
        }
        hook
    }

    /// Unix sockets that somebody is asked by.
    pub fn unix(&mut self) -> Hook {
        let mut hook = Hook::new("unix", false, "what a loader asks of docker, D-Bus or a proxy is not seen");
        let lsm = self.proven_lsm("unix_stream_connect", Counter::CanaryUnix, || drop(unix_to_ourselves()));
        let lsm = lsm.and_then(|()| self.lsm("unix_may_send"));
        hook.settle(Rung::Lsm, lsm, "");
        if hook.rung.is_none() {
            let attached = self.connect_calls(&mut hook);
            hook.settle(
                Rung::Tracepoint,
                attached,
                "unix sockets are not seen that refuse, that are connected by io_uring, or that only get datagrams",
            );
        }
        hook
    }

    /// Connections from outside.
    pub fn accept(&mut self) -> Hook {
        let mut hook = Hook::new("accept", false, "accepted connections are not seen; that a loader listens is");
        let lsm = self.proven_lsm("sock_graft", Counter::CanaryAccept, || drop(connection_to_ourselves()));
        hook.settle(Rung::Lsm, lsm, "");
        if hook.rung.is_none() {
            let attached =
                self.tracepoint("sys_exit_accept", "syscalls", &["sys_exit_accept4", "sys_exit_accept"], &mut hook);
            hook.settle(Rung::Tracepoint, attached, "connections that are accepted by io_uring are not seen");
        }
        hook
    }

    /// Both ends of connect(2), once for all that need them.
    fn connect_calls(&mut self, hook: &mut Hook) -> Result<(), String> {
        if let Some(attached) = &self.connect_calls {
            return attached.clone();
        }
        let mut attached = self.tracepoint("sys_enter_connect", "syscalls", &["sys_enter_connect"], hook);
        if attached.is_ok() {
            attached = self.tracepoint("sys_exit_connect", "syscalls", &["sys_exit_connect"], hook);
        }
        self.connect_calls = Some(attached.clone());
        attached
    }
}

/// What we could do by ourselves here.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    pub ipv4: bool,
    pub ipv6: bool,
    pub tcp: bool,
    pub unix: bool,
}

/// Does by itself what the socket hooks have to count.
pub fn try_all() -> Tried {
    let (ipv4, ipv6) = datagram_to_ourselves();
    Tried { ipv4, ipv6, tcp: connection_to_ourselves().is_ok(), unix: unix_to_ourselves().is_ok() }
}

/// A datagram, and a connect, by IPv4 and by IPv6.
fn datagram_to_ourselves() -> (bool, bool) {
    let one = |address| -> std::io::Result<()> {
        let socket = UdpSocket::bind(address)?;
        let own = socket.local_addr()?;
        socket.send_to(b"", own)?;
        socket.connect(own)
    };
    (one("127.0.0.1:0").is_ok(), one("[::1]:0").is_ok())
}

fn connection_to_ourselves() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    listener.accept()?;
    client.write_all(b".")
}

fn unix_to_ourselves() -> std::io::Result<()> {
    let address = SocketAddr::from_abstract_name(format!("sensor-{}", std::process::id()))?;
    let _listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address).map(drop)
}
