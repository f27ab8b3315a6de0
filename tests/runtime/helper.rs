//! This binary as another program: what a loader turns into or starts, and no Python.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;

/// First argument that makes this binary a helper: `helper-act tcp|udp ADDRESS`.
pub const ACT: &str = "helper-act";

/// Bytes that every act sends: what a listener has to have seen.
pub const SENT: &[u8] = b"seen";

/// Acts, if the arguments say so.
pub fn run(arguments: &[String]) -> Option<ExitCode> {
    let [word, how, address] = arguments else { return None };
    if word != ACT {
        return None;
    }
    Some(match act(how, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("helper: {how} {address}: {error}");
            ExitCode::FAILURE
        }
    })
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
