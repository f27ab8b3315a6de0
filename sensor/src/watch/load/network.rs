//! Socket programs on the cgroup root, and acts of our own that prove the socket hooks.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, ProgramError, SockOps};

use super::attach::{Attacher, not_found};
use super::plan::{Hook, Rung};
use super::say;
use super::verify::once;

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
            once(program.load())?;
            let link = program.attach(root, MODE)?;
            this.attachments.push(Box::new(program.take_link(link)?));
            Ok(())
        })
    }

    /// Listening TCP sockets, and what connections carry.
    pub fn tcp(&mut self, root: &Path) -> Hook {
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
    pub fn packets(&mut self, event: &'static str, which: CgroupSkbAttachType, root: &Path, lost: &str) -> Hook {
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
    let address = SocketAddr::from_abstract_name(format!("sensor-{}", std::process::id()))?;
    let _listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address).map(drop)
}
