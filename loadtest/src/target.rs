//! The server under load, and the check that it may be put under load.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use url::Url;

use crate::engine::Tls;

/// A server to send requests to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Scheme, host and port.
    pub url: String,
    /// Value of the `Host` header.
    pub host: String,
    /// Addresses that the host's name resolves to; at least one.
    pub addresses: Vec<SocketAddr>,
    /// TLS, if the URL is https.
    pub tls: Option<Tls>,
}

/// The hosts that may be put under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Only this one.
    ThisMachine,
    /// Any: the caller says that they are theirs.
    Own,
}

/// Why requests cannot be sent to a URL.
#[derive(Debug, thiserror::Error)]
#[error("URL={url:?}: {problem}")]
pub struct TargetError {
    url: String,
    problem: TargetProblem,
}

#[derive(Debug, thiserror::Error)]
enum TargetProblem {
    #[error(transparent)]
    Syntax(#[from] url::ParseError),
    #[error("expected http:// or https://")]
    Scheme,
    #[error("expected only a host and port: the scenario has the paths")]
    Path,
    #[error("expected a host")]
    NoHost,
    #[error("{host} has no address: {error}")]
    Unresolved { host: String, error: std::io::Error },
    #[error("the host has no address")]
    NoAddress,
    #[error(
        "not on this machine; a load test of somebody else's host is an attack: say \
         --i-own-this-host if it is yours"
    )]
    Foreign,
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("--ca {}: {problem}; expected a PEM file with certificates", .file.display())]
    Authorities { file: PathBuf, problem: String },
    #[error(transparent)]
    ServerName(#[from] rustls::pki_types::InvalidDnsNameError),
}

/// Which certificates of an https server are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// A PEM file with certificates of authorities that are trusted besides the system's.
    pub authorities: Option<PathBuf>,
    /// Whether every certificate is accepted.
    pub anything: bool,
}

impl Target {
    /// Parses a URL and resolves its host. An https server needs a certificate of an authority that the
    /// system trusts.
    ///
    /// # Errors
    ///
    /// If `text` is not `http(s)://HOST[:PORT]`, if the host has no address, or if the host is not this
    /// machine and `hosts` does not allow that.
    pub fn parse(text: &str, hosts: Hosts) -> Result<Self, TargetError> {
        Self::parse_with(text, hosts, &Trust::default())
    }

    /// As [`Target::parse`], with other certificates.
    ///
    /// # Errors
    ///
    /// As [`Target::parse`], or if the file of certificates cannot be read.
    pub fn parse_with(text: &str, hosts: Hosts, trust: &Trust) -> Result<Self, TargetError> {
        Self::resolve(text, hosts, trust)
            .map_err(|problem| TargetError { url: text.to_owned(), problem })
    }

    fn resolve(text: &str, hosts: Hosts, trust: &Trust) -> Result<Self, TargetProblem> {
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetProblem::Scheme);
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(TargetProblem::Path);
        }
        let name = url.host_str().ok_or(TargetProblem::NoHost)?;
        let addresses = addresses(&url, name, hosts)?;
        let tls = if url.scheme() == "https" { Some(tls(name, trust)?) } else { None };
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        Ok(Self { url: format!("{}://{host}", url.scheme()), host, addresses, tls })
    }

    /// The addresses that the URL's host has now; `None` if it has none, or one that `hosts` does not allow.
    pub fn resolve_again(text: &str, hosts: Hosts) -> Option<Vec<SocketAddr>> {
        let url = Url::parse(text).ok()?;
        addresses(&url, url.host_str()?, hosts).ok()
    }

    /// Whether all addresses are on this machine.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
    }
}

fn addresses(url: &Url, name: &str, hosts: Hosts) -> Result<Vec<SocketAddr>, TargetProblem> {
    let port = url.port_or_known_default().unwrap_or(80);
    let addresses: Vec<_> = (name.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|error| TargetProblem::Unresolved { host: name.to_owned(), error })?
        .collect();
    if addresses.is_empty() {
        return Err(TargetProblem::NoAddress);
    }
    let is_local = addresses.iter().all(|address| address.ip().is_loopback());
    if !is_local && hosts == Hosts::ThisMachine {
        return Err(TargetProblem::Foreign);
    }
    Ok(addresses)
}

fn tls(name: &str, trust: &Trust) -> Result<Tls, TargetProblem> {
    let mut roots = RootCertStore::empty();
    // A root certificate that cannot be read is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &trust.authorities {
        add_authorities(&mut roots, file)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if trust.anything {
        config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(provider)));
    }
    let server_name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())?;
    Ok(Tls { config: Arc::new(config), server_name })
}

fn add_authorities(roots: &mut RootCertStore, file: &Path) -> Result<(), TargetProblem> {
    let invalid = |problem: String| TargetProblem::Authorities { file: file.to_owned(), problem };
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| invalid(error.to_string()))?;
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(invalid("it has no certificate".to_owned())) } else { Ok(()) }
}

/// Accepts every certificate, for servers under test. Signatures are checked all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_loopback() {
        for text in ["http://127.0.0.1:8080", "http://localhost:8080/", "http://[::1]:8080"] {
            assert!(Target::parse(text, Hosts::ThisMachine).unwrap().is_loopback(), "{text}");
        }
        assert_eq!(
            Target::parse("http://127.0.0.1:80", Hosts::ThisMachine).unwrap().host,
            "127.0.0.1"
        );
    }

    #[test]
    fn rejects_another_host_without_the_flag() {
        let error = Target::parse("http://192.0.2.1", Hosts::ThisMachine).unwrap_err().to_string();
        assert!(error.contains("say --i-own-this-host"), "{error}");
        assert!(Target::parse("http://192.0.2.1", Hosts::Own).is_ok());
    }

    #[test]
    fn rejects_an_invalid_target() {
        for text in ["127.0.0.1:8080", "ftp://127.0.0.1", "http://127.0.0.1/event/1", "http://"] {
            let error = Target::parse(text, Hosts::Own).unwrap_err().to_string();
            assert!(error.starts_with("URL="), "{error}");
        }
    }

    #[test]
    fn uses_tls_for_https() {
        assert!(Target::parse("https://127.0.0.1:8443", Hosts::ThisMachine).unwrap().tls.is_some());
    }
}
