//! The server under load, and the check that it may be put under load.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
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

impl Target {
    /// Parses a URL and resolves its host.
    ///
    /// # Errors
    ///
    /// If `text` is not `http(s)://HOST[:PORT]`, or if the host has no address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let problem = |what: &str| format!("URL={text:?}: {what}");
        let url = Url::parse(text).map_err(|error| problem(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(problem("expected http:// or https://"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(problem("expected only a host and port: the scenario has the paths"));
        }
        let name = url.host_str().ok_or_else(|| problem("expected a host"))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let addresses: Vec<_> = (name.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .map_err(|error| problem(&format!("{name} has no address: {error}")))?
            .collect();
        if addresses.is_empty() {
            return Err(problem("the host has no address"));
        }
        let tls =
            if url.scheme() == "https" { Some(tls(name).map_err(|e| problem(&e))?) } else { None };
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        Ok(Self { url: format!("{}://{host}", url.scheme()), host, addresses, tls })
    }

    /// Fails if an address is not on this machine: a load test of somebody else's host is an attack.
    pub fn require_local(self) -> Result<Self, String> {
        if self.is_loopback() {
            return Ok(self);
        }
        let problem = "not on this machine; a load test of somebody else's host is an attack: pass \
                       --i-own-this-host if it is yours";
        Err(format!("URL={:?}: {problem}", self.url))
    }

    /// Whether all addresses are on this machine.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
    }
}

fn tls(name: &str) -> Result<Tls, String> {
    let mut roots = RootCertStore::empty();
    // A root certificate that cannot be read is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server_name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    Ok(Tls { config: Arc::new(config), server_name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_loopback() {
        for text in ["http://127.0.0.1:8080", "http://localhost:8080/", "http://[::1]:8080"] {
            assert!(Target::parse(text).unwrap().is_loopback(), "{text}");
        }
        assert_eq!(Target::parse("http://127.0.0.1:80").unwrap().host, "127.0.0.1");
    }

    #[test]
    fn rejects_another_host_without_the_flag() {
        let error = Target::parse("http://192.0.2.1").unwrap_err();
        assert!(error.contains("pass --i-own-this-host"), "{error}");
        assert!(Target::parse("http://192.0.2.1").is_ok());
    }

    #[test]
    fn rejects_an_invalid_target() {
        for text in ["127.0.0.1:8080", "ftp://127.0.0.1", "http://127.0.0.1/event/1", "http://"] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.starts_with("URL="), "{error}");
        }
    }

    #[test]
    fn uses_tls_for_https() {
        assert!(Target::parse("https://127.0.0.1:8443").unwrap().tls.is_some());
    }
}
