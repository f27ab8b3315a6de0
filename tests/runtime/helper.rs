//! This binary as another program: what a loader turns into or starts, and no Python.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;

/// First argument that makes this binary a helper: `helper-act tcp|udp ADDRESS`, `helper-load tcp|udp ADDRESS FILE`.
pub const ACT: &str = "helper-act";
/// The same inside a load: while it holds the file, which it has read.
pub const LOAD: &str = "helper-load";

/// Loads, makes so many children that end at once, and acts: `helper-forks COUNT ADDRESS FILE`.
pub const FORKS: &str = "helper-forks";

/// Bytes that every act sends: what a listener has to have seen.
pub const SENT: &[u8] = b"seen";

/// Acts, if the arguments say so.
pub fn run(arguments: &[String]) -> Option<ExitCode> {
    let acted = match arguments {
        [word, how, address] if word == ACT => act(how, address),
        [word, how, address, file] if word == LOAD => load(how, address, file),
        [word, count, address, file] if word == FORKS => forks(count, address, file),
        _ => return None,
    };
    let [_, how, address, ..] = arguments else { return None };
    Some(match acted {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("helper: {how} {address}: {error}");
            ExitCode::FAILURE
        }
    })
}

fn load(how: &str, address: &str, file: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut file = std::fs::File::open(file)?;
    std::io::copy(&mut file, &mut std::io::sink())?;
    act(how, address)
}

fn forks(count: &str, address: &str, file: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut file = std::fs::File::open(file)?;
    std::io::copy(&mut file, &mut std::io::sink())?;
    for _ in 0..count.parse::<u32>()? {
        #[expect(unsafe_code, reason = "fork(2)")]
        // SAFETY: there is one thread, and the child does nothing but end.
        match unsafe { libc::fork() } {
            -1 => return Err(std::io::Error::last_os_error().into()),
            // SAFETY: ends the child.
            0 => unsafe { libc::_exit(0) },
            // SAFETY: no pointer is given that the call would write to.
            child => unsafe {
                libc::waitpid(child, std::ptr::null_mut(), 0);
            },
        }
    }
    act("tcp", address)
}

fn act(how: &str, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", serde_json::json!({ "did": how, "pid": std::process::id() }));
    let address: SocketAddr = address.parse()?;
    match how {
        "tcp" => TcpStream::connect(address)?.write_all(SENT)?,
        "udp" => {
            let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
            UdpSocket::bind(any)?.send_to(SENT, address)?;
        }
        other => return Err(format!("no such act: {other}").into()),
    }
    Ok(())
}
