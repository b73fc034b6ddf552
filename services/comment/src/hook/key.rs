//! The keys with which requests to the hook are signed: one key, or two while keys are changed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The time after which the key file is read again.
const READ_KEYS_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// The prefix of keys, as the Standard Webhooks specification defines it.
const PREFIX: &str = "whsec_";

pub(super) struct SigningKeys {
    file: PathBuf,
    keys_with_read_time: Mutex<(Instant, Vec<hmac::Key>)>,
}

impl SigningKeys {
    /// Reads the keys from a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or does not have one or two valid keys.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Self { file: file.to_owned(), keys_with_read_time: Mutex::new((Instant::now(), parse(&text)?)) })
    }

    /// Returns the signatures of a request, one by each key, separated by spaces.
    pub(super) async fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        self.read_again().await;
        let known = self.keys_with_read_time.lock().unwrap_or_else(PoisonError::into_inner);
        let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let sign = |key: &hmac::Key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &message).as_ref()));
        known.1.iter().map(sign).collect::<Vec<_>>().join(" ")
    }

    /// Reads the file again if that is due. If the file cannot be read, the keys stay as they are.
    async fn read_again(&self) {
        {
            let mut known = self.keys_with_read_time.lock().unwrap_or_else(PoisonError::into_inner);
            if known.0.elapsed() < READ_KEYS_AGAIN_AFTER {
                return;
            }
            known.0 = Instant::now();
        }
        let read = tokio::fs::read_to_string(&self.file).await.map_err(anyhow::Error::from);
        match read.and_then(|text| parse(&text)) {
            Ok(keys) => self.keys_with_read_time.lock().unwrap_or_else(PoisonError::into_inner).1 = keys,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "--comment-hook-key-file cannot be read: the keys stay as they are");
            }
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<hmac::Key>> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    ensure!((1..=2).contains(&lines.len()), "it must have one key, or two, one a line");
    let key = |line: &&str| {
        let bytes = line.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| (24..=64).contains(&bytes.len()));
        let bytes = bytes.with_context(|| format!("a key must be {PREFIX} and 24 to 64 bytes in base64"))?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    };
    lines.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: usize) -> String {
        format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]))
    }

    #[test]
    fn keys_are_read_and_nothing_else() {
        for good in [key(24), format!("{}\n", key(64)), format!("\n{}\n{}\n", key(32), key(24))] {
            assert!(parse(&good).is_ok(), "{good}");
        }
        for wrong in ["", "secret", &key(23), &key(65), &key(24)[6..], &vec![key(24); 3].join("\n")] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    /// The example in the Standard Webhooks specification.
    #[tokio::test]
    async fn a_signature_is_that_of_the_specification() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let keys = SigningKeys::read(file.path()).unwrap();
        let signed =
            keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#).await;
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    /// Keys change without a request that the hook cannot verify: first both keys sign, then the new one alone.
    #[tokio::test]
    async fn keys_are_changed_without_a_restart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key(24)).unwrap();
        let keys = SigningKeys::read(file.path()).unwrap();
        let sign = async |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(file.path(), text).unwrap();
                keys.keys_with_read_time.lock().unwrap().0 =
                    Instant::now().checked_sub(READ_KEYS_AGAIN_AFTER).unwrap();
            }
            keys.sign("id", "1", b"{}").await
        };
        let old = sign(None).await;
        let both = sign(Some(&format!("{}\n{}\n", key(32), key(24)))).await;
        let new = both.strip_suffix(&format!(" {old}")).unwrap();
        assert_eq!(sign(Some("half a k")).await, both, "what cannot be read changes nothing");
        assert_eq!(sign(Some(&key(32))).await, new);
    }
}
