//! TLS of the ports.

use std::path::Path;
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

use super::material::{KeyFiles, NamedFile, crypto_provider};
use super::reload::{CertificateAudience, Loader, WatchedFiles, load_and_watch};
use crate::server::HEAD_TIMEOUT;

/// The time within which a TLS handshake must be done: the same as for a request's head.
const HANDSHAKE_TIMEOUT: Duration = HEAD_TIMEOUT;

/// The TLS settings of a port. All clones share the certificate, and use the new one when it is renewed.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    current_config: Arc<RwLock<CurrentConfig>>,
    failed_handshakes: Counter,
    /// Whether clients must show certificates, if client authorities are configured at all.
    asks_for_client_certificates: bool,
}

/// The rustls configurations for new connections: one that asks for client certificates, one that does not.
#[derive(Debug)]
struct CurrentConfig {
    with_client_auth: Arc<ServerConfig>,
    without_client_auth: Arc<ServerConfig>,
}

impl ListenerTls {
    pub(super) fn from_files(
        own: KeyFiles,
        clients: Option<NamedFile>,
    ) -> anyhow::Result<(Self, Option<WatchedFiles>)> {
        let mut files = vec![own.cert.clone(), own.key.clone()];
        files.extend(clients.clone());
        let load = move |contents: &[Vec<u8>], now| load_config(&own, clients.as_ref(), contents, now);
        let (current_config, watched) =
            load_and_watch(CertificateAudience::Clients, files, Box::new(load) as Loader<CurrentConfig>)?;
        Ok((
            Self {
                current_config,
                failed_handshakes: Counter::default(),
                asks_for_client_certificates: true,
            },
            Some(watched),
        ))
    }

    /// Makes TLS settings of a certificate and its key that are not in files; both are PEM. Clients need no certificates.
    ///
    /// # Errors
    /// The certificate or the key cannot be used, or the certificate has expired.
    pub fn from_pem(cert: &[u8], key: &[u8], now: Timestamp) -> anyhow::Result<Self> {
        let current_config = Arc::new(RwLock::new(config_of_pem(cert, key, now)?));
        Ok(Self {
            current_config,
            failed_handshakes: Counter::default(),
            asks_for_client_certificates: false,
        })
    }

    /// Puts another certificate and key into force for new connections.
    ///
    /// # Errors
    /// The errors are those of [`ListenerTls::from_pem`]; after an error, the former certificate stays in force.
    pub fn replace_pem(&self, cert: &[u8], key: &[u8], now: Timestamp) -> anyhow::Result<()> {
        let renewed = config_of_pem(cert, key, now)?;
        *self.current_config.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// Creates TLS settings with the certificate for connections to other processes, which ask for no client
    /// certificates. Failed handshakes are counted by the same counter.
    pub(super) fn with_peer_certificate(
        &self,
        shown: KeyFiles,
    ) -> anyhow::Result<(Self, Option<WatchedFiles>)> {
        let files = vec![shown.cert.clone(), shown.key.clone()];
        let load = move |contents: &[Vec<u8>], now| load_config(&shown, None, contents, now);
        let (current_config, watched) =
            load_and_watch(CertificateAudience::Peers, files, Box::new(load) as Loader<CurrentConfig>)?;
        Ok((
            Self {
                current_config,
                failed_handshakes: self.failed_handshakes(),
                asks_for_client_certificates: false,
            },
            Some(watched),
        ))
    }

    /// Returns the same TLS settings for a port whose clients have no certificates.
    #[must_use]
    pub fn without_client_certificates(&self) -> Self {
        Self { asks_for_client_certificates: false, ..self.clone() }
    }

    /// Returns the counter of failed handshakes.
    pub(super) fn failed_handshakes(&self) -> Counter {
        self.failed_handshakes.clone()
    }

    /// Makes the TLS handshake. Returns `None` if it fails; TLS has then sent the peer an alert with the reason.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let config = {
            let current = self.current_config.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(if self.asks_for_client_certificates {
                &current.with_client_auth
            } else {
                &current.without_client_auth
            })
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

fn config_of_pem(cert: &[u8], key: &[u8], now: Timestamp) -> anyhow::Result<CurrentConfig> {
    let named = |part| NamedFile::new("the held", Path::new(part));
    let own = KeyFiles { cert: named("certificate"), key: named("key") };
    Ok(load_config(&own, None, &[cert.to_vec(), key.to_vec()], now)?.0)
}

fn load_config(
    own: &KeyFiles,
    clients: Option<&NamedFile>,
    contents: &[Vec<u8>],
    now: Timestamp,
) -> anyhow::Result<(CurrentConfig, Option<i64>)> {
    let [cert, key, rest @ ..] = contents else { return Err(anyhow!("two files are read")) };
    let certified = own.load_certified_key(cert, key, now)?;
    let verifier = match clients.zip(rest.first()) {
        Some((file, pem)) => {
            let authorities = Arc::new(file.parse_authorities(pem)?);
            let builder = WebPkiClientVerifier::builder_with_provider(authorities, crypto_provider());
            Some(builder.build().map_err(|error| anyhow!("{file}: {error}"))?)
        }
        None => None,
    };
    let without_client_auth = new_server_config(Arc::new(NoClientAuth), &certified.key)?;
    let with_client_auth = match verifier {
        Some(verifier) => new_server_config(verifier, &certified.key)?,
        None => Arc::clone(&without_client_auth),
    };
    Ok((CurrentConfig { with_client_auth, without_client_auth }, Some(certified.ends_at)))
}

fn new_server_config(
    clients: Arc<dyn ClientCertVerifier>,
    own: &Arc<CertifiedKey>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
