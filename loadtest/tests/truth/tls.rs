//! TLS: long bodies, and certificates that are refused.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use loadtest::engine::Tls;

use crate::reference::harness::{endpoint, run, scenario};
use crate::reference::response;

/// A TLS server that reads a request and responds with the length of its body: its address, how to connect to it, and
/// its certificate as PEM.
fn tls_server() -> (SocketAddr, Tls, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, pem) = (certified.cert.der().clone(), certified.cert.pem());
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(server);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            std::thread::spawn(move || serve_tls(stream, server));
        }
    });
    let server_name = "localhost".try_into().unwrap();
    (address, Tls { config: Arc::new(client), server_name }, pem)
}

fn serve_tls(stream: std::net::TcpStream, server: Arc<rustls::ServerConfig>) {
    // A client that refuses the certificate ends the connection.
    let connection = rustls::ServerConnection::new(server).unwrap();
    let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(bytes) if bytes > 0 => {}
                _ => return,
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        assert!(body.iter().all(|byte| *byte == b'x'), "the body arrived as it was sent");
        if stream.get_mut().write_all(&response(200, "", &length.to_string())).is_err() {
            return;
        }
    }
}

#[test]
fn sends_long_bodies_over_tls_on_new_connections() {
    for kilobytes in [1, 63, 65, 200, 1_000] {
        let (address, tls, _) = tls_server();
        let body = "x".repeat(kilobytes * 1024);
        let rest = format!("method = \"POST\"\nbody = \"{body}\"");
        for connections in ["new", "keep-alive"] {
            let requests =
                format!("[requests]\nconnections = \"{connections}\"\n{}", endpoint("/e", &rest));
            let outcome = run(&[address], Some(tls.clone()), &scenario(20, "500ms", &requests));
            assert_eq!(
                (outcome.status(200), outcome.failures()),
                (10, vec![]),
                "{kilobytes} KiB, {connections}"
            );
        }
    }
}

/// A certificate that nobody trusts: the program says why it is refused and what to do, and does it.
#[test]
fn says_why_a_certificate_is_refused() {
    let (address, _, pem) = tls_server();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let toml = "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = 20\nduration = \"500ms\"\n[programs]\nids = [\"p\"]\n";
    let (scenario, authority) = (file("s.toml", toml), file("ca.pem", &pem));
    let url = format!("https://localhost:{}", address.port());
    let run = |flags: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(["run", &scenario, "--url", &url, "--no-verify", "--report"]);
        command.arg(folder.path().join("report")).env("AWS_REGION", "us-east-1").args(flags);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, refused) = run(&[]);
    assert_eq!(status, Some(1), "{refused}");
    assert!(refused.contains("--ca FILE") && refused.contains("--insecure"), "{refused}");
    for flags in [&["--ca", &authority][..], &["--insecure"]] {
        let (status, error) = run(flags);
        assert!(matches!(status, Some(0 | 3)), "{flags:?}: {error}");
    }
    let (status, error) = run(&["--ca", &scenario]);
    assert_eq!(status, Some(64), "{error}");
    assert!(error.contains("expected a PEM file with certificates"), "{error}");
}
