//! Who tells of connects, socket programs on the cgroup root, and acts of our own that prove the socket hooks.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, ProgramError, SockOps};
use sensor_abi::counter::Counter;

use super::attach::{Attacher, not_found};
use super::hooks::SOCKET_HOOKS;
use super::plan::{Hook, Rung, SECURITY_RUNGS};
use super::verify::once;
use super::{counter, say};

/// A link is always one of many, whatever this mode says; the old attach call would push others out.
const MODE: CgroupAttachMode = CgroupAttachMode::Single;

pub const NEVER_RUNS: &str = "attached, but the kernel never runs it";

/// Connects by IPv4 and IPv6: the event and the cgroup program of the same name, and what is lost without.
pub const CONNECTS: [(&str, &str); 2] =
    [("connect4", "IPv4 connections are not seen"), ("connect6", "IPv6 connections are not seen")];

impl Attacher<'_> {
    /// The hooks on sockets' security functions, and who tells of connects by IPv4 and IPv6: these hooks, where all of them
    /// run, else the cgroup's programs. Never both, which would tell each connect twice; and the cgroup's cost more than
    /// they tell, since the kernel locks the socket for them.
    pub fn connects(&mut self, root: &Path) -> Vec<Hook> {
        let (mut hooks, mut places) = (Vec::new(), Vec::new());
        for wanted in &SOCKET_HOOKS {
            places.push(self.attachments.len());
            hooks.push(self.security(wanted));
        }
        let are_on = hooks.iter().all(|hook| hook.rung.is_some_and(|rung| SECURITY_RUNGS.contains(&rung)));
        if let Some(rung) = hooks[0].rung.filter(|_| are_on && self.socket_hooks_run()) {
            hooks.extend(CONNECTS.map(|(event, lost)| {
                let mut hook = Hook::new(event, true, lost);
                hook.settle(rung, Ok(()), "");
                hook
            }));
            return hooks;
        }
        let why = if are_on { NEVER_RUNS } else { "connects are seen by both socket hooks or by none" };
        // From the last on, so that the places of the others stay.
        for ((wanted, hook), at) in SOCKET_HOOKS.iter().zip(&mut hooks).zip(places).rev() {
            self.step_down(wanted, hook, at, why);
        }
        hooks.extend(CONNECTS.map(|(event, lost)| self.cgroup(event, root, lost)));
        hooks
    }

    /// Do they count what we do by ourselves? A name that nobody has is enough: they run before it is looked up.
    fn socket_hooks_run(&self) -> bool {
        const CANARIES: [Counter; 2] = [Counter::CanarySocket, Counter::CanaryLength];
        let counted = || CANARIES.map(|canary| counter(self.ebpf, canary));
        let before = counted();
        let _ = (|| -> std::io::Result<()> {
            let (socket, _other) = UnixDatagram::pair()?;
            socket.send(b"")?;
            UnixDatagram::unbound()?.connect_addr(&own_name("nobody")?)
        })();
        counted().iter().zip(before).all(|(after, before)| *after > before)
    }

    /// What is on the cgroup root wherever there is one.
    pub fn on_root(&mut self, root: &Path) -> [Hook; 7] {
        [
            self.cgroup("sendmsg4", root, "IPv4 datagrams on unconnected sockets are not seen"),
            self.cgroup("sendmsg6", root, "IPv6 datagrams on unconnected sockets are not seen"),
            self.bind("bind4", "post_bind4", root, "IPv4 datagram sockets that wait for others are not seen"),
            self.bind("bind6", "post_bind6", root, "IPv6 datagram sockets that wait for others are not seen"),
            self.tcp(root),
            self.packets(
                "packet_out",
                CgroupSkbAttachType::Egress,
                root,
                "which names resolvers are asked for is not seen",
            ),
            self.packets(
                "packet_in",
                CgroupSkbAttachType::Ingress,
                root,
                "which names addresses belong to is not known",
            ),
        ]
    }

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
    fn bind(&mut self, event: &'static str, name: &'static str, root: &Path, lost: &str) -> Hook {
        self.on_cgroup(event, root, true, lost, |this, root| {
            let program: &mut CgroupSock = this.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            once(program.load())?;
            let link = program.attach(root, MODE)?;
            this.attachments.push(Box::new(program.take_link(link)?));
            Ok(())
        })
    }

    /// Listening TCP sockets, and what connections carry.
    fn tcp(&mut self, root: &Path) -> Hook {
        let lost = "listening TCP sockets are not seen, nor how many bytes leave by a connection";
        self.on_cgroup("tcp", root, true, lost, |this, root| {
            let name = "tcp_socket";
            let program: &mut SockOps = this.ebpf.program_mut(name).ok_or(not_found(name))?.try_into()?;
            once(program.load())?;
            let link = program.attach(root, MODE)?;
            this.attachments.push(Box::new(program.take_link(link)?));
            Ok(())
        })
    }

    /// Packets, as they leave or come.
    fn packets(&mut self, event: &'static str, which: CgroupSkbAttachType, root: &Path, lost: &str) -> Hook {
        // Not required: nothing that we may send by ourselves would prove them.
        self.on_cgroup(event, root, false, lost, |this, root| {
            let program: &mut CgroupSkb = this.ebpf.program_mut(event).ok_or(not_found(event))?.try_into()?;
            once(program.load())?;
            let link = program.attach(root, which, MODE)?;
            this.attachments.push(Box::new(program.take_link(link)?));
            Ok(())
        })
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

impl Tried {
    /// Would `event` have been counted? A host without IPv6 can't prove those hooks, and needs them as little.
    pub fn can_prove(self, event: &str) -> bool {
        match event {
            "tcp" | "accept" => self.tcp,
            "unix" => self.unix,
            _ if event.ends_with('6') => self.ipv6,
            _ if event.ends_with('4') || event.starts_with("socket") => self.ipv4,
            _ => true,
        }
    }
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
    let address = own_name("somebody")?;
    let _listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address).map(drop)
}

/// An address that nobody else takes.
fn own_name(what: &str) -> std::io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("sensor-{}-{what}", std::process::id()))
}
