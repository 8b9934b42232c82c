//! Checks before a run that the target can be reached and speaks HTTP as its URL says, so that a wrong port or
//! scheme is reported at once and not as a run full of errors.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, ClientConnection, StreamOwned};

use crate::engine::Tls;
use crate::target::Target;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for the head of every response to a health check, and for the text of an error page.
const MAX_RESPONSE_BYTES: u64 = 4 << 10;
/// The first byte of a TLS record that carries an alert.
const TLS_ALERT: u8 = 21;

/// Why requests cannot be sent to a target.
#[derive(Debug, thiserror::Error)]
#[error("{url} cannot be put under load: {problem}")]
pub struct Unreachable {
    url: String,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(
        "nothing listens at {address} ({error}); is the tracker running, and is the port right?"
    )]
    NoConnection { address: SocketAddr, error: io::Error },
    #[error("{address} speaks HTTP without TLS; use http://")]
    SpeaksPlainHttp { address: SocketAddr },
    #[error("{address} speaks TLS; use https://")]
    SpeaksTls { address: SocketAddr },
    #[error("the TLS connection to {address} failed: {error}")]
    Tls { address: SocketAddr, error: io::Error },
    #[error(
        "the certificate of {address} is not accepted: {reason}; name the authority that issued it with --ca \
         FILE, or accept any certificate with --insecure"
    )]
    Certificate { address: SocketAddr, reason: String },
    #[error("{address} did not respond to GET /health/check within {} s", TIMEOUT.as_secs())]
    NoResponse { address: SocketAddr },
    #[error("the connection to {address} failed before a response to GET /health/check: {error}")]
    BrokenOff { address: SocketAddr, error: io::Error },
    #[error("{address} closed the connection without a response to GET /health/check")]
    Closed { address: SocketAddr },
    #[error("what listens at {address} does not speak HTTP/1.1")]
    NotHttp { address: SocketAddr },
}

/// Checks that an HTTP server responds at one of the addresses of `target` at least: `localhost` is often both
/// `::1` and `127.0.0.1`, and a server listens at one of them. Any status will do: the run itself shows what the
/// server makes of the scenario's requests.
///
/// # Errors
///
/// If no HTTP response comes from any address: what is wrong with one that can be connected to, or else with the
/// first.
pub fn check(target: &Target) -> Result<(), Unreachable> {
    let mut problems = Vec::new();
    for address in &target.addresses {
        match check_address(target, *address) {
            Ok(()) => return Ok(()),
            Err(problem) => problems.push(problem),
        }
    }
    let connected = |problem: &Problem| !matches!(problem, Problem::NoConnection { .. });
    let index = problems.iter().position(connected).unwrap_or(0);
    match problems.into_iter().nth(index) {
        Some(problem) => Err(Unreachable { url: target.url.clone(), problem }),
        None => Ok(()),
    }
}

fn check_address(target: &Target, address: SocketAddr) -> Result<(), Problem> {
    let no_connection = |error| Problem::NoConnection { address, error };
    let socket = TcpStream::connect_timeout(&address, TIMEOUT).map_err(no_connection)?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(no_connection)?;
    socket.set_write_timeout(Some(TIMEOUT)).map_err(no_connection)?;
    match &target.tls {
        Some(tls) => exchange(shake_hands(tls, socket, address)?, target, address),
        None => exchange(socket, target, address),
    }
}

fn shake_hands(
    tls: &Tls,
    mut socket: TcpStream,
    address: SocketAddr,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Problem> {
    let failed = |error| Problem::Tls { address, error };
    let mut connection = ClientConnection::new(Arc::clone(&tls.config), tls.server_name.clone())
        .map_err(|error| failed(io::Error::other(error)))?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            let source = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
            return Err(match source {
                Some(rustls::Error::InvalidMessage(_)) => Problem::SpeaksPlainHttp { address },
                Some(rustls::Error::InvalidCertificate(reason)) => {
                    Problem::Certificate { address, reason: certificate_problem(reason) }
                }
                _ => failed(error),
            });
        }
    }
    Ok(StreamOwned::new(connection, socket))
}

/// Why a certificate is not accepted, in words.
fn certificate_problem(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "no trusted authority issued it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host name".to_owned()
        }
        other => other.to_string(),
    }
}

/// Sends a request and reads the beginning of the response.
fn exchange(
    mut stream: impl Read + Write,
    target: &Target,
    address: SocketAddr,
) -> Result<(), Problem> {
    let request = format!(
        "GET /health/check HTTP/1.1\r\nHost: {}\r\nUser-Agent: loadtest\r\nConnection: close\r\n\r\n",
        target.host
    );
    let mut response = Vec::new();
    let read = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.flush())
        .and_then(|()| stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response));
    // A server that keeps the connection open, or closes it abruptly after its response, has responded.
    let is_http = response.starts_with(b"HTTP/1.");
    let says_https = is_http && memchr::memmem::find(&response, b"HTTPS port").is_some();
    match read {
        _ if target.tls.is_none() && (says_https || response.first() == Some(&TLS_ALERT)) => {
            Err(Problem::SpeaksTls { address })
        }
        _ if is_http => Ok(()),
        _ if !response.is_empty() => Err(Problem::NotHttp { address }),
        Ok(_) => Err(Problem::Closed { address }),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Problem::NoResponse { address },
            _ => Problem::BrokenOff { address, error },
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::target::Hosts;

    /// Starts a server that sends `response` to every connection, once it has received something.
    fn start_server(response: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                    let _ = stream.write_all(response);
                }
            }
        });
        address
    }

    fn check_url(url: &str) -> Result<(), String> {
        check(&Target::parse(url, Hosts::ThisMachine).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn accepts_every_http_response() {
        for response in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            b"HTTP/1.0 404 Not Found\r\n\r\n",
        ] {
            assert_eq!(check_url(&format!("http://{}", start_server(response))), Ok(()));
        }
    }

    #[test]
    fn says_that_nothing_listens() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let error = check_url(&format!("http://{address}")).unwrap_err();
        assert!(error.contains(&format!("nothing listens at {address}")), "{error}");
    }

    #[test]
    fn says_which_scheme_is_right() {
        let plain = start_server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let error = check_url(&format!("https://{plain}")).unwrap_err();
        assert!(error.ends_with("speaks HTTP without TLS; use http://"), "{error}");

        // An alert of the kind "unexpected message", as TLS servers send it; and what nginx says.
        for response in [
            &b"\x15\x03\x03\x00\x02\x02\x0a"[..],
            b"HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port",
        ] {
            let error = check_url(&format!("http://{}", start_server(response))).unwrap_err();
            assert!(error.ends_with("speaks TLS; use https://"), "{error}");
        }
    }

    #[test]
    fn says_that_no_http_response_comes() {
        for (response, expected) in
            [(&b""[..], "without a response"), (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP")]
        {
            let error = check_url(&format!("http://{}", start_server(response))).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
