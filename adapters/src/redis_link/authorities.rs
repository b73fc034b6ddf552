//! The file with the certificates of the authorities that a server's certificate has to be of.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redis::{Client, ConnectionInfo, RedisError, TlsCertificates};

use super::PART_NAME;
use crate::StoreError;

/// The file of the authorities, which is read for each new connection, so that a changed one takes no restart.
pub(super) struct AuthoritiesFile {
    file: PathBuf,
    contents: Mutex<KnownContents>,
}

/// The contents that the file had.
struct KnownContents {
    /// The last contents that could be used.
    usable: Arc<[u8]>,
    /// The reason for which the present contents cannot be used, so that each one is reported once; `None` if they can.
    fault: Option<String>,
}

impl AuthoritiesFile {
    /// Reads the certificates in `file`.
    pub(super) fn read(file: PathBuf) -> Result<Self, StoreError> {
        let read = read_certificates(&file).map_err(|fault| StoreError::unusable(PART_NAME, fault))?;
        Ok(Self { file, contents: Mutex::new(KnownContents { usable: read.into(), fault: None }) })
    }

    /// Returns a client that trusts the certificates that the file has now. If these cannot be used, the client trusts
    /// those that the file had before.
    pub(super) fn client_of(&self, info: ConnectionInfo) -> Result<Client, RedisError> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let built = read_certificates(&self.file).and_then(|read| {
            let client = client_that_trusts(info.clone(), &read);
            client.map(|client| (client, read)).map_err(|error| fault(&self.file, &error.to_string()))
        });
        match built {
            Ok((client, read)) => {
                if *read != *contents.usable {
                    tracing::info!(part = PART_NAME, file = %self.file.display(), "changed certificates are in use");
                    contents.usable = read.into();
                }
                contents.fault = None;
                Ok(client)
            }
            Err(fault) => {
                if contents.fault.as_ref() != Some(&fault) {
                    tracing::warn!(part = PART_NAME, fault, "the former certificates stay in use");
                    contents.fault = Some(fault);
                }
                client_that_trusts(info, &contents.usable)
            }
        }
    }
}

fn fault(file: &Path, what: &str) -> String {
    format!("certificate file {}: {what}", file.display())
}

/// Reads the certificates in `file`; returns the reason if there are none.
fn read_certificates(file: &Path) -> Result<Vec<u8>, String> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let read = std::fs::read(file).map_err(|error| fault(file, &error.to_string()))?;
    let has_certificate = read.windows(BEGIN.len()).any(|bytes| bytes == BEGIN);
    if has_certificate { Ok(read) } else { Err(fault(file, "it has no certificate")) }
}

fn client_that_trusts(info: ConnectionInfo, pem: &[u8]) -> Result<Client, RedisError> {
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) })
}
