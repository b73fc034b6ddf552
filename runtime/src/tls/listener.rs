//! TLS of the ports.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::material::{KeyFiles, NamedFile, provider};
use super::reload::{CertificateAudience, Loader, WatchedFiles, watched};
use crate::server::HEAD_TIMEOUT;

/// The time within which a TLS handshake must be done: the same as for a request's head.
const HANDSHAKE_TIMEOUT: Duration = HEAD_TIMEOUT;

/// The TLS settings of a port. All clones share the certificate, and use the new one when it is renewed.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    current: Arc<RwLock<CurrentConfig>>,
    failed_handshakes: Counter,
    /// Whether clients must show certificates, if client authorities are configured at all.
    asks: bool,
}

/// The rustls configurations for new connections: one that asks for client certificates, one that does not.
#[derive(Debug)]
struct CurrentConfig {
    asking: Arc<ServerConfig>,
    not_asking: Arc<ServerConfig>,
}

impl ListenerTls {
    pub(super) fn read(
        own: KeyFiles,
        clients: Option<NamedFile>,
    ) -> anyhow::Result<(Self, Option<WatchedFiles>)> {
        let mut files = vec![own.cert.clone(), own.key.clone()];
        files.extend(clients.clone());
        let load = move |contents: &[Vec<u8>], now| load_config(&own, clients.as_ref(), contents, now);
        let (current, watched) =
            watched(CertificateAudience::Clients, files, Box::new(load) as Loader<CurrentConfig>)?;
        Ok((Self { current, failed_handshakes: Counter::default(), asks: true }, Some(watched)))
    }

    /// Creates TLS settings with the certificate for connections to other processes, which ask for no client
    /// certificates. Failed handshakes are counted by the same counter.
    pub(super) fn of_another(&self, shown: KeyFiles) -> anyhow::Result<(Self, Option<WatchedFiles>)> {
        let files = vec![shown.cert.clone(), shown.key.clone()];
        let load = move |contents: &[Vec<u8>], now| load_config(&shown, None, contents, now);
        let (current, watched) =
            watched(CertificateAudience::Peers, files, Box::new(load) as Loader<CurrentConfig>)?;
        Ok((Self { current, failed_handshakes: self.failures(), asks: false }, Some(watched)))
    }

    /// Returns the same TLS settings for a port whose clients have no certificates.
    #[must_use]
    pub fn without_client_certificates(&self) -> Self {
        Self { asks: false, ..self.clone() }
    }

    /// Returns the counter of failed handshakes.
    pub(super) fn failures(&self) -> Counter {
        self.failed_handshakes.clone()
    }

    /// Makes the TLS handshake. Returns `None` if it fails; TLS has then sent the peer an alert with the reason.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let config = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(if self.asks { &current.asking } else { &current.not_asking })
        };
        // Failures are not logged: a port scan would be a log line for each connection.
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
        if let Ok(Ok(stream)) = shaken {
            return Some(stream);
        }
        self.failed_handshakes.inc();
        None
    }
}

fn load_config(
    own: &KeyFiles,
    clients: Option<&NamedFile>,
    contents: &[Vec<u8>],
    now: Timestamp,
) -> anyhow::Result<(CurrentConfig, Option<i64>)> {
    let [cert, key, rest @ ..] = contents else { return Err(anyhow!("two files are read")) };
    let certified = own.certified(cert, key, now)?;
    let verifier = match clients.zip(rest.first()) {
        Some((file, pem)) => {
            let authorities = Arc::new(file.authorities(pem)?);
            let builder = WebPkiClientVerifier::builder_with_provider(authorities, provider());
            Some(builder.build().map_err(|error| anyhow!("{file}: {error}"))?)
        }
        None => None,
    };
    let not_asking = config(Arc::new(NoClientAuth), &certified.key)?;
    let asking = match verifier {
        Some(verifier) => config(verifier, &certified.key)?,
        None => Arc::clone(&not_asking),
    };
    Ok((CurrentConfig { asking, not_asking }, Some(certified.ends_at)))
}

fn config(
    clients: Arc<dyn ClientCertVerifier>,
    own: &Arc<CertifiedKey>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
