//! Reads certificates, keys and authorities from files, with errors that name the flag and the file.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::validity::certificate_end;

/// The largest file, in bytes, that is read: a bundle of all authorities that browsers trust has 250 KB.
const MAX_PEM_FILE_BYTES: u64 = 1024 * 1024;

/// Returns the implementation of cryptography that all TLS of this process uses.
pub(super) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// A file, and the flag that gave its path, for errors.
#[derive(Debug, Clone)]
pub(super) struct NamedFile {
    flag: &'static str,
    path: PathBuf,
}

impl NamedFile {
    pub(super) fn new(flag: &'static str, path: &Path) -> Self {
        Self { flag, path: path.to_owned() }
    }

    /// Reads the file, which must not be larger than `MAX_PEM_FILE_BYTES`.
    pub(super) fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read =
            File::open(&self.path).and_then(|file| file.take(MAX_PEM_FILE_BYTES + 1).read_to_end(&mut bytes));
        read.with_context(|| self.to_string())?;
        ensure!(
            bytes.len() as u64 <= MAX_PEM_FILE_BYTES,
            "{self}: it is larger than {MAX_PEM_FILE_BYTES} bytes"
        );
        Ok(bytes)
    }

    fn parse_certificates(&self, pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        parse_certificates(pem).map_err(|error| anyhow!("{self}: {error}"))
    }

    /// Parses the certificate authorities in the file's content.
    pub(super) fn parse_authorities(&self, pem: &[u8]) -> anyhow::Result<RootCertStore> {
        parse_authorities(pem).map_err(|error| anyhow!("{self}: {error}"))
    }
}

fn parse_certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| anyhow!("it is not PEM: {error}"))?;
    ensure!(!found.is_empty(), "there is no certificate in it");
    Ok(found)
}

/// Parses the certificate authorities in a PEM text.
pub(super) fn parse_authorities(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in parse_certificates(pem)? {
        store.add(certificate).map_err(|error| anyhow!("an authority that cannot be used: {error}"))?;
    }
    Ok(store)
}

impl fmt::Display for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flag, self.path.display())
    }
}

/// The file of a certificate and the file of its key.
#[derive(Debug, Clone)]
pub(super) struct KeyFiles {
    pub(super) cert: NamedFile,
    pub(super) key: NamedFile,
}

/// A certificate with its key, and the end of its validity in seconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct LoadedCertificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) ends_at: i64,
}

impl KeyFiles {
    /// Makes the certificate and its key from the contents of both files.
    ///
    /// # Errors
    /// The certificate or the key cannot be read; the key is not that of the certificate; the certificate has expired.
    pub(super) fn load_certified_key(
        &self,
        cert_pem: &[u8],
        key_pem: &[u8],
        now: Timestamp,
    ) -> anyhow::Result<LoadedCertificate> {
        let Self { cert, key } = self;
        let chain = cert.parse_certificates(cert_pem)?;
        let Some(ends_at) = chain.first().and_then(|first| certificate_end(first)) else {
            bail!("{cert}: the first certificate has no end that can be read")
        };
        let end = Timestamp::from_second(ends_at).with_context(|| cert.to_string())?;
        ensure!(now < end, "{cert}: the certificate has expired ({end})");
        let private = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|error| anyhow!("{key}: there is no key in it: {error}"))?;
        let certified =
            CertifiedKey::from_der(chain, private, &crypto_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    anyhow!("{key}: it is not the key of the certificate in {cert}")
                }
                error => anyhow!("{key} and {cert}: {error}"),
            })?;
        Ok(LoadedCertificate { key: Arc::new(certified), ends_at })
    }
}
