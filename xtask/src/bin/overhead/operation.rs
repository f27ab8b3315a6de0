//! The operations that are measured, each alone, between two looks at the count of instructions.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, connect, socket};
use rustix::process::{WaitOptions, getppid, waitpid};

use crate::child;
use crate::kernel::{exec, exit_now, fork, instructions, map_and_unmap, run_alone};

/// The folder of the files below.
const FOLDER: &str = "/tmp/overhead";
/// No model by its name, on no list.
pub const PLAIN: &str = "/tmp/overhead/plain.txt";
/// A pickle of `[1, 2]`: it can run code, and the scanner finds it clean.
pub const MODEL: &str = "/tmp/overhead/model.pkl";
const MODEL_CONTENT: &[u8] = b"\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.";
const MAP_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 512;

/// Runs that are thrown away: caches and tables fill.
const WARM_UP: usize = 5;
pub const RUNS: usize = 41;
/// What the sensor does about an operation, it does while the next one waits.
const PAUSE: Duration = Duration::from_millis(5);

/// What the operations work on.
pub struct Bench {
    plain: File,
    udp: UdpSocket,
    udp_peer: UdpSocket,
    udp_peer_at: SocketAddrV4,
    tcp: TcpListener,
    tcp_at: SocketAddrV4,
    stream: TcpStream,
    stream_peer: TcpStream,
}

/// Instructions of one run.
type Run = fn(&Bench) -> io::Result<u64>;

/// Name and run. `open_model` is the open by a process that carries nothing yet.
pub const OPERATIONS: [(&str, Run); 13] = [
    ("getppid", |_| measured(|| getppid().map(|_| ()).ok_or(io::ErrorKind::NotFound.into()))),
    ("stat", |_| measured(|| fs::metadata(PLAIN).map(drop))),
    ("read", |bench| measured(|| bench.plain.read_at(&mut [0; READ_BYTES], 0).map(drop))),
    ("write", |bench| measured(|| bench.plain.write_at(&[b'x'; READ_BYTES], 0).map(drop))),
    ("mmap", |bench| measured(|| map_and_unmap(bench.plain.as_fd(), MAP_BYTES))),
    ("open", |_| measured(|| File::open(PLAIN).map(drop))),
    ("open_model", |_| child::count(|| measured(|| File::open(MODEL).map(drop)))),
    ("connect_udp", |bench| measured(|| bench.udp.connect(bench.udp_peer_at))),
    ("connect_tcp", connect_tcp),
    ("send_udp", send_udp),
    ("send_tcp", send_tcp),
    ("fork", |_| measured(|| forked(|| exit_now(0)))),
    ("exec", |_| measured(|| forked(|| exec(c"/bin/true")))),
];

impl Bench {
    pub fn new() -> io::Result<Self> {
        fs::create_dir_all(FOLDER)?;
        // Once: written again, they would be other contents.
        if !fs::exists(MODEL)? {
            fs::write(PLAIN, vec![b'x'; MAP_BYTES])?;
            fs::write(MODEL, MODEL_CONTENT)?;
        }
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let (udp, udp_peer, tcp) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?, TcpListener::bind(any)?);
        let at = |address: io::Result<std::net::SocketAddr>| -> io::Result<SocketAddrV4> {
            Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, address?.port()))
        };
        let (udp_peer_at, tcp_at) = (at(udp_peer.local_addr())?, at(tcp.local_addr())?);
        let stream = TcpStream::connect(tcp_at)?;
        stream.set_nodelay(true)?;
        let (stream_peer, _) = tcp.accept()?;
        let plain = OpenOptions::new().read(true).write(true).open(PLAIN)?;
        Ok(Self { plain, udp, udp_peer, udp_peer_at, tcp, tcp_at, stream, stream_peer })
    }

    /// What every operation takes, in their order.
    pub fn measure(&self) -> io::Result<Vec<u64>> {
        run_alone(true)?;
        let nothing = lower_quartile(|| measured(|| Ok(())))?;
        let mut figures = Vec::new();
        for (name, run) in OPERATIONS {
            let figure = lower_quartile(|| run(self)).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
            figures.push(figure.saturating_sub(nothing));
        }
        run_alone(false)?;
        Ok(figures)
    }
}

/// What the kernel's allocators do now and then only adds: in some boots to a third of the runs, in others to two.
fn lower_quartile(mut run: impl FnMut() -> io::Result<u64>) -> io::Result<u64> {
    let mut figures = Vec::with_capacity(RUNS);
    for i in 0..WARM_UP + RUNS {
        let figure = run()?;
        if i >= WARM_UP {
            figures.push(figure);
        }
        sleep(PAUSE);
    }
    figures.sort_unstable();
    Ok(figures[RUNS / 4])
}

fn measured(operation: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let before = instructions();
    operation()?;
    Ok(instructions() - before)
}

/// A child that does something and is waited for.
fn forked(act: impl FnOnce()) -> io::Result<()> {
    let Some(child) = fork()? else {
        act();
        exit_now(127)
    };
    let (_, status) = waitpid(Some(child), WaitOptions::empty())?.ok_or_else(|| io::Error::other("no child"))?;
    if status.exit_status() == Some(0) { Ok(()) } else { Err(io::Error::other(format!("a child's {status:?}"))) }
}

fn connect_tcp(bench: &Bench) -> io::Result<u64> {
    let client: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let figure = measured(|| Ok(connect(&client, &bench.tcp_at)?))?;
    // A reset leaves no state behind.
    set_socket_linger(&client, Some(Duration::ZERO))?;
    drop(client);
    drop(bench.tcp.accept()?);
    Ok(figure)
}

fn send_udp(bench: &Bench) -> io::Result<u64> {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let figure = measured(|| client.send_to(b"x", bench.udp_peer_at).map(drop))?;
    bench.udp_peer.recv(&mut [0; 1])?;
    Ok(figure)
}

fn send_tcp(bench: &Bench) -> io::Result<u64> {
    let figure = measured(|| (&bench.stream).write_all(b"x"))?;
    (&bench.stream_peer).read_exact(&mut [0; 1])?;
    Ok(figure)
}
