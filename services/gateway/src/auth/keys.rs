//! The issuer's keys: asked for at the start, every few minutes, and when a token names one that is not known.

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
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use liverank_runtime::{Health, Problem};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often a token with an unknown key makes us ask again: anybody can write one.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How often while no keys are known at all, and nobody can be let in.
const ASK_FIRST: Duration = Duration::from_secs(1);
/// How often they are asked for in any case, so that a key that was taken back is not good for ever.
const RENEW: Duration = Duration::from_mins(5);
/// How long the issuer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest set of keys: hundreds.
const MAX_BYTES: usize = 256 * 1024;
/// Keys kept: issuers have two or three. Each is tried with a token that names none.
const MAX_KEYS: usize = 32;
/// What the issuer is called among the dependencies.
const PART: &str = "auth";

/// A key, and what it is good for.
pub(crate) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    pub(crate) public: DecodingKey,
}

/// Where they come from.
pub(crate) enum Source {
    File(PathBuf),
    Url { url: http::Uri, client: Box<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>> },
}

impl Source {
    /// The keys at an address, http or https (with the certificate authorities that browsers trust).
    pub(crate) fn url(url: Url) -> anyhow::Result<Self> {
        ensure!(matches!(url.scheme(), "http" | "https"), "--auth-jwks-url must be http or https");
        let url = String::from(url).parse().context("--auth-jwks-url")?;
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self::Url { url, client: Box::new(Client::builder(TokioExecutor::new()).build(connector)) })
    }

    async fn read(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::File(file) => tokio::fs::read(file).await.with_context(|| file.display().to_string()),
            Self::Url { url, client } => {
                let answer = client.get(url.clone()).await.with_context(|| url.to_string())?;
                if answer.status() != StatusCode::OK {
                    bail!("{url} answers {}", answer.status());
                }
                let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_BYTES).await;
                Ok(body.with_context(|| url.to_string())?.into())
            }
        }
    }
}

/// The keys as last read.
pub(crate) struct Keys {
    source: Source,
    known: RwLock<Option<Arc<[Arc<Key>]>>>,
    /// When they were asked for last; held while they are.
    asked: Mutex<Option<Instant>>,
    ask_again: Duration,
    health: Health,
}

impl Keys {
    /// Keys that are not known yet.
    pub(crate) fn new(source: Source, ask_again: Duration, health: Health) -> Self {
        Self { source, known: RwLock::default(), asked: Mutex::default(), ask_again, health }
    }

    fn known(&self) -> Option<Arc<[Arc<Key>]>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys that a token with this header may be signed by. 503 where none were ever known.
    pub(crate) async fn fitting(&self, header: &Header) -> Result<Vec<Arc<Key>>, Problem> {
        let found = self.known().map(|known| fitting(&known, header));
        if let Some(found) = found.filter(|found| !found.is_empty()) {
            return Ok(found);
        }
        self.refresh().await;
        let Some(known) = self.known() else {
            return Err(Problem::unavailable(
                "the keys that tokens are checked by are not known yet: try again",
            ));
        };
        Ok(fitting(&known, header))
    }

    /// Asks for them where that is due; those who come meanwhile wait for the answer. What cannot be had leaves the keys
    /// as they are.
    async fn refresh(&self) {
        let mut asked = self.asked.lock().await;
        let pause = if self.known().is_some() { self.ask_again } else { ASK_FIRST };
        if asked.is_some_and(|asked| asked.elapsed() < pause) {
            return;
        }
        let read = tokio::time::timeout(TIMEOUT, self.source.read()).await;
        *asked = Some(Instant::now());
        let read = read.unwrap_or_else(|_| bail!("no answer within {} s", TIMEOUT.as_secs()));
        match read.and_then(|json| parse(&json)) {
            Ok(keys) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(keys.into());
                self.health.dependency(PART, Ok(()));
            }
            Err(error) => {
                self.health.dependency(PART, Err(format!("the keys of tokens cannot be had: {error:#}")));
            }
        }
    }

    /// Keeps them up to date. Never returns.
    pub(crate) async fn keep(&self) {
        loop {
            self.refresh().await;
            tokio::time::sleep(if self.known().is_some() { RENEW } else { ASK_FIRST }).await;
        }
    }
}

fn fitting(known: &[Arc<Key>], header: &Header) -> Vec<Arc<Key>> {
    let fits = |key: &&Arc<Key>| {
        key.algorithm == header.alg && (header.kid.is_none() || header.kid.as_ref() == key.id.as_ref())
    };
    known.iter().filter(fits).cloned().collect()
}

/// Reads a key set. Keys for something else are passed over, as RFC 7517 has it.
fn parse(json: &[u8]) -> anyhow::Result<Vec<Arc<Key>>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let Set { keys } = serde_json::from_slice(json).context("is no JSON Web Key Set")?;
    let keys: Vec<Arc<Key>> = keys.into_iter().filter_map(key).take(MAX_KEYS).map(Arc::new).collect();
    ensure!(!keys.is_empty(), "has no key for RS256, ES256 or EdDSA");
    Ok(keys)
}

fn key(jwk: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(jwk).ok()?;
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let for_this = jwk.common.key_algorithm.is_none_or(|algorithm| algorithm == named);
    let public = (for_signatures && for_this).then(|| DecodingKey::from_jwk(&jwk))?.ok()?;
    Some(Key { id: jwk.common.key_id, algorithm, public })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_for_something_else_are_passed_over() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let ed = |more: Value| {
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let others = json!({"keys": [
            ed(json!({"use": "enc"})), ed(json!({"alg": "ES256"})), {"kty": "oct", "k": "AAAA"},
            {"kty": "new", "x": x}, {"kty": "EC", "crv": "P-384", "x": x, "y": x}, 7,
        ]});
        let error = parse(others.to_string().as_bytes()).err().unwrap().to_string();
        assert!(error.contains("no key"), "{error}");
        let good = json!({"keys": [ed(json!({"kid": "a"})), 7, ed(json!({"use": "sig", "alg": "EdDSA"}))]});
        let keys = parse(good.to_string().as_bytes()).unwrap();
        assert_eq!(keys.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>(), [Some("a"), None]);
        let many = json!({"keys": vec![ed(json!({})); MAX_KEYS + 1]});
        assert_eq!(parse(many.to_string().as_bytes()).unwrap().len(), MAX_KEYS);
        assert!(parse(b"[]").is_err());
    }
}
