//! `tracker healthcheck`: checks that this container's tracker responds (`/health/live`). The image contains no
//! other program that could.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const EXPECTED: &[u8] = b"HTTP/1.1 200 ";

/// Requests `/health/live` of the public listener at `listen_addr`. Exit status 0 if the response is 200,
/// otherwise 1.
pub fn run(listen_addr: SocketAddr) -> ExitCode {
    match request_liveness(reachable(listen_addr)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            adtrack_runtime::errln!("tracker healthcheck: {listen_addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An unspecified address includes the loopback address, which can be connected to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn request_liveness(address: SocketAddr) -> io::Result<()> {
    let mut connection = TcpStream::connect_timeout(&address, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    connection.write_all(REQUEST)?;
    let mut status = [0; EXPECTED.len()];
    connection.read_exact(&mut status)?;
    if status == EXPECTED {
        Ok(())
    } else {
        Err(io::Error::other("the response of /health/live is not 200"))
    }
}
