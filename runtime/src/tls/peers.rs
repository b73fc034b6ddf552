//! TLS of connections to other liverank processes.
//!
//! There is one client configuration for the life of the process. The configuration looks up the current certificates
//! at each handshake, so that clients and their pools need not be made anew when certificates are renewed.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use anyhow::{Context, anyhow};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::material::{KeyFiles, NamedFile, crypto_provider, parse_authorities};
use super::reload::{CertificateAudience, Loader, WatchedFiles, load_and_watch};

/// The authorities by which other processes' certificates are verified, and the certificate that is shown to them. The
/// default trusts the authorities that browsers trust, and shows no certificate. Cheap to clone.
#[derive(Clone)]
pub struct PeerTls(Arc<ClientConfig>);

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTls")
    }
}

impl Default for PeerTls {
    fn default() -> Self {
        static PUBLIC: OnceLock<PeerTls> = OnceLock::new();
        let public = || {
            let known = KnownMaterial { server_verifier: public_server_verifier(), own_certificate: None };
            Self::from_known(&Arc::new(RwLock::new(known)), None)
        };
        PUBLIC.get_or_init(public).clone()
    }
}

impl PeerTls {
    /// Returns the settings as a rustls client configuration.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.0
    }

    pub(super) fn from_files(
        authorities: Option<NamedFile>,
        shown: Option<KeyFiles>,
    ) -> anyhow::Result<(Self, Option<WatchedFiles>)> {
        let mut files: Vec<NamedFile> = authorities.iter().cloned().collect();
        files.extend(shown.iter().flat_map(|shown| [shown.cert.clone(), shown.key.clone()]));
        if files.is_empty() {
            return Ok((Self::default(), None));
        }
        let load = move |contents: &[Vec<u8>], now| {
            let (first, pair) = contents.split_at(usize::from(authorities.is_some()));
            let servers = match authorities.as_ref().zip(first.first()) {
                Some((file, pem)) => server_verifier(file.parse_authorities(pem)?)
                    .map_err(|error| anyhow!("{file}: {error}"))?,
                None => public_server_verifier(),
            };
            let certified = match (&shown, pair) {
                (Some(shown), [cert, key]) => Some(shown.load_certified_key(cert, key, now)?),
                _ => None,
            };
            let ends_at = certified.as_ref().map(|certified| certified.ends_at);
            Ok((
                KnownMaterial {
                    server_verifier: servers,
                    own_certificate: certified.map(|certified| certified.key),
                },
                ends_at,
            ))
        };
        let (known, watched) =
            load_and_watch(CertificateAudience::Peers, files, Box::new(load) as Loader<KnownMaterial>)?;
        Ok((Self::from_known(&known, None), Some(watched)))
    }

    /// Creates settings that trust these authorities (PEM) and show no certificate. If `at_addresses` is given, a
    /// server that is reached by an IP address is verified by this name instead, because the certificates of pods do
    /// not list addresses.
    ///
    /// # Errors
    /// There is no authority in the text, or `at_addresses` is no valid name.
    pub fn trusting_authorities(authorities_pem: &str, at_addresses: Option<&str>) -> anyhow::Result<Self> {
        let servers = server_verifier(parse_authorities(authorities_pem.as_bytes())?)?;
        let name =
            at_addresses.map(|name| ServerName::try_from(name.to_owned()).context("the name of a server"));
        Ok(Self::from_known(
            &Arc::new(RwLock::new(KnownMaterial { server_verifier: servers, own_certificate: None })),
            name.transpose()?,
        ))
    }

    fn from_known(
        known: &Arc<RwLock<KnownMaterial>>,
        name_for_ip_addresses: Option<ServerName<'static>>,
    ) -> Self {
        let current = Arc::new(CurrentMaterial { known_material: Arc::clone(known), name_for_ip_addresses });
        let mut config = ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for every version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&current) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(current);
        // A resumed session would not verify the server again. Connections are kept open instead.
        config.resumption = Resumption::disabled();
        Self(Arc::new(config))
    }
}

fn server_verifier(
    authorities: RootCertStore,
) -> Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), crypto_provider()).build()
}

/// Returns a verifier that trusts the authorities that browsers trust.
fn public_server_verifier() -> Arc<WebPkiServerVerifier> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    server_verifier(roots).expect("there are authorities in it")
}

/// The verifier and the own certificate that are in force now.
#[derive(Debug)]
struct KnownMaterial {
    server_verifier: Arc<WebPkiServerVerifier>,
    own_certificate: Option<Arc<CertifiedKey>>,
}

/// The rustls callbacks that look up the current verifier and certificate at each handshake.
#[derive(Debug)]
struct CurrentMaterial {
    known_material: Arc<RwLock<KnownMaterial>>,
    /// The name by which a server that is reached by an IP address is verified.
    name_for_ip_addresses: Option<ServerName<'static>>,
}

impl CurrentMaterial {
    fn current_server_verifier(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.known_material.read().unwrap_or_else(PoisonError::into_inner).server_verifier)
    }

    fn current_certificate(&self) -> Option<Arc<CertifiedKey>> {
        self.known_material.read().unwrap_or_else(PoisonError::into_inner).own_certificate.clone()
    }
}

impl ServerCertVerifier for CurrentMaterial {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = match (server_name, &self.name_for_ip_addresses) {
            (ServerName::IpAddress(_), Some(name)) => name,
            _ => server_name,
        };
        self.current_server_verifier().verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current_server_verifier().verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current_server_verifier().verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current_server_verifier().supported_verify_schemes()
    }
}

impl ResolvesClientCert for CurrentMaterial {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current_certificate()
    }

    fn has_certs(&self) -> bool {
        self.current_certificate().is_some()
    }
}
