//! The issuer's public keys. The keys are fetched at the start, every few minutes, and when a token names a key that
//! is not known.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::Empty;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::Header;
use liverank_runtime::jwt::{MAX_KEY_SET_BYTES, PublicKey, keys_fitting_header, parse_key_set};
use liverank_runtime::{Health, Problem};
use reqwest::Url;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Minimum time between two fetches of the keys because of tokens with an unknown key: anybody can write such a token.
pub(crate) const REFETCH_INTERVAL: Duration = Duration::from_secs(30);
/// Interval of fetching the keys while none are known, when no token can be accepted.
const FIRST_FETCH_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of fetching the keys in any case, so that a key that the issuer withdrew is not valid for ever.
const FETCH_KEYS_EVERY: Duration = Duration::from_mins(5);
/// Maximum time for the issuer to answer.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(5);
/// The name of the issuer among the process's dependencies in its health.
const PART_NAME: &str = "auth";

/// The place from which the issuer's keys are read.
pub(crate) enum KeySource {
    File(PathBuf),
    Url { url: http::Uri, client: Box<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>> },
}

impl KeySource {
    /// Returns a source that fetches the keys from a URL. The URL must be https (with the certificate authorities that
    /// browsers trust), or http on a loopback address: over any other connection, somebody in between could replace the
    /// keys. Returns an error for other URLs.
    pub(crate) fn url(url: Url) -> anyhow::Result<Self> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && here);
        ensure!(is_safe, "--auth-jwks-url must be https (http on this machine's own addresses only)");
        let url = String::from(url).parse().context("--auth-jwks-url")?;
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self::Url { url, client: Box::new(Client::builder(TokioExecutor::new()).build(connector)) })
    }

    async fn read_key_set(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::File(file) => tokio::fs::read(file).await.with_context(|| file.display().to_string()),
            Self::Url { url, client } => {
                let answer = client.get(url.clone()).await.with_context(|| url.to_string())?;
                if answer.status() != StatusCode::OK {
                    bail!("{url} answers {}", answer.status());
                }
                let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_KEY_SET_BYTES).await;
                Ok(body.with_context(|| url.to_string())?.into())
            }
        }
    }
}

/// The issuer's keys, as they were read last.
pub(crate) struct Keys {
    source: KeySource,
    key_cache: RwLock<Option<Arc<[Arc<PublicKey>]>>>,
    /// The time of the last fetch; locked while a fetch is under way.
    last_fetch: Mutex<Option<Instant>>,
    min_refetch_interval: Duration,
    health: Health,
}

impl Keys {
    /// Returns an empty set of keys, to be fetched from `source`.
    pub(crate) fn new(source: KeySource, min_refetch_interval: Duration, health: Health) -> Self {
        Self {
            source,
            key_cache: RwLock::default(),
            last_fetch: Mutex::default(),
            min_refetch_interval,
            health,
        }
    }

    fn current_keys(&self) -> Option<Arc<[Arc<PublicKey>]>> {
        self.key_cache.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the keys by which a token with this header may be signed. Fetches the keys if no known key fits.
    /// Returns 503 if no keys were ever read.
    pub(crate) async fn keys_for(&self, header: &Header) -> Result<Vec<Arc<PublicKey>>, Problem> {
        let found = self.current_keys().map(|known| keys_fitting_header(&known, header));
        if let Some(found) = found.filter(|found| !found.is_empty()) {
            return Ok(found);
        }
        self.refresh_if_due().await;
        let Some(known) = self.current_keys() else {
            return Err(Problem::part_unavailable(
                "the keys that tokens are checked by are not known yet: try again",
            ));
        };
        Ok(keys_fitting_header(&known, header))
    }

    /// Fetches the keys if a fetch is due; callers that come meanwhile wait for the result. If the fetch fails, the
    /// keys stay as they are.
    async fn refresh_if_due(&self) {
        let mut asked = self.last_fetch.lock().await;
        let pause =
            if self.current_keys().is_some() { self.min_refetch_interval } else { FIRST_FETCH_INTERVAL };
        if asked.is_some_and(|asked| asked.elapsed() < pause) {
            return;
        }
        let read = tokio::time::timeout(ISSUER_TIMEOUT, self.source.read_key_set()).await;
        *asked = Some(Instant::now());
        let read = read.unwrap_or_else(|_| bail!("no answer within {} s", ISSUER_TIMEOUT.as_secs()));
        match read.and_then(|json| parse_key_set(&json)) {
            Ok(keys) => {
                *self.key_cache.write().unwrap_or_else(PoisonError::into_inner) = Some(keys.into());
                self.health.note_dependency(PART_NAME, Ok(()));
            }
            Err(error) => {
                self.health
                    .note_dependency(PART_NAME, Err(format!("the keys of tokens cannot be had: {error:#}")));
            }
        }
    }

    /// Keeps the keys up to date by fetching them regularly. Never returns.
    pub(crate) async fn keep_current(&self) {
        loop {
            self.refresh_if_due().await;
            tokio::time::sleep(if self.current_keys().is_some() {
                FETCH_KEYS_EVERY
            } else {
                FIRST_FETCH_INTERVAL
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for (url, is_good) in [
            ("https://issuer.example/jwks", true),
            ("http://127.0.0.1:8000/jwks", true),
            ("http://localhost/jwks", true),
            ("http://[::1]/jwks", true),
            ("http://issuer.example/jwks", false),
            ("http://10.0.0.1/jwks", false),
            ("http://localhost.example/jwks", false),
            ("ftp://localhost/jwks", false),
        ] {
            assert_eq!(KeySource::url(url.parse().unwrap()).is_ok(), is_good, "{url}");
        }
    }
}
