//! The operator's authentication at managers: tokens for its own `ServiceAccount`, one for each cluster, so that the
//! token that one cluster's managers get is valid nowhere else; and the API server's public keys, by which tokens are
//! verified.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The lifetime of a token in seconds: the least that the API server issues.
const TOKEN_SECONDS: i64 = 600;
/// The age at which a token is replaced by a new one: a fifth of its lifetime is left then.
const RENEW_AFTER: Duration = Duration::from_mins(8);
/// The time limit of a request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two fetches of the public keys: an API server publishes a new key before it signs tokens with it.
const FETCH_KEYS_EVERY: Duration = Duration::from_mins(5);
/// The pause between two fetches as long as no keys are known.
const RETRY_KEYS_AFTER: Duration = Duration::from_secs(1);
/// The largest accepted answer with public keys, in bytes.
const MAX_KEYS_BYTES: usize = 256 * 1024;

/// Requests a token of a `ServiceAccount` from the API server; the token is valid only for `audience`.
///
/// # Errors
/// Returns an error if the API server does not answer in time or issues no token.
pub async fn request_token(
    client: &Client,
    namespace: &str,
    account: &str,
    audience: &str,
) -> anyhow::Result<String> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let asked = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![audience.to_owned()]),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made =
        timeout(REQUEST_TIMEOUT, api.create_token_request(account, &PostParams::default(), &asked)).await;
    let made = made.with_context(|| format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))?;
    let made = made.with_context(|| format!("a token of the ServiceAccount {namespace}/{account}"))?;
    made.status.and_then(|status| status.token).context("the API server made no token")
}

/// The tokens of the operator's own `ServiceAccount`, cached by audience.
pub struct OperatorTokens {
    client: Client,
    namespace: String,
    account: String,
    made_tokens: Mutex<HashMap<String, (String, Instant)>>,
}

impl OperatorTokens {
    /// Makes a source of tokens of the `ServiceAccount` `account` in `namespace`.
    pub fn new(client: Client, namespace: &str, account: &str) -> Arc<Self> {
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        Arc::new(Self { client, namespace, account, made_tokens: Mutex::default() })
    }

    /// Returns a token that is valid for `audience`, from the cache or a new one.
    ///
    /// # Errors
    /// Returns an error if there is no cached token and none can be requested.
    pub async fn for_audience(&self, audience: &str) -> anyhow::Result<String> {
        let mut made = self.made_tokens.lock().await;
        // This also drops the tokens of deleted clusters.
        made.retain(|_, (_, at)| at.elapsed() < RENEW_AFTER);
        if let Some((token, _)) = made.get(audience) {
            return Ok(token.clone());
        }
        let token = request_token(&self.client, &self.namespace, &self.account, audience).await?;
        made.insert(audience.to_owned(), (token.clone(), Instant::now()));
        Ok(token)
    }
}

/// The API server's public keys, as they were last fetched.
#[derive(Default)]
pub struct PublicKeys(RwLock<Arc<str>>);

impl PublicKeys {
    /// Returns the set of public keys with its issuer, as JSON; empty until it was fetched.
    pub fn known_keys(&self) -> Arc<str> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Creates keys that are known from the start, for tests.
    #[cfg(test)]
    pub fn of_keys(keys: &str) -> Self {
        Self(RwLock::new(keys.into()))
    }

    /// Fetches the keys again and again. Never returns.
    pub async fn keep_fetching(&self, client: Client) {
        let mut failing = false;
        loop {
            match fetch_keys(&client).await {
                Ok(keys) => {
                    failing = false;
                    if *self.known_keys() != *keys {
                        tracing::info!("the API server's keys for tokens are another set now");
                        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
                    }
                }
                Err(error) if !failing => {
                    failing = true;
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the API server's keys for tokens cannot be had");
                }
                Err(_) => {}
            }
            tokio::time::sleep(if self.known_keys().is_empty() {
                RETRY_KEYS_AFTER
            } else {
                FETCH_KEYS_EVERY
            })
            .await;
        }
    }
}

async fn fetch_keys(client: &Client) -> anyhow::Result<String> {
    let set: Value =
        serde_json::from_str(&fetch_text(client, "/openid/v1/jwks").await?).context("/openid/v1/jwks")?;
    let about = fetch_text(client, "/.well-known/openid-configuration").await?;
    let about: Value = serde_json::from_str(&about).context("/.well-known/openid-configuration")?;
    join_keys_and_issuer(&set, &about)
}

/// Joins the keys and their issuer to one text, which is the same for the same keys.
fn join_keys_and_issuer(set: &Value, about: &Value) -> anyhow::Result<String> {
    let issuer = about["issuer"].as_str().context("the API server names no issuer")?;
    let keys =
        set["keys"].as_array().filter(|keys| !keys.is_empty()).context("the API server has no keys")?;
    Ok(json!({ "issuer": issuer, "keys": keys }).to_string())
}

async fn fetch_text(client: &Client, path: &str) -> anyhow::Result<String> {
    let request = http::Request::get(path).body(Vec::new())?;
    let text = timeout(REQUEST_TIMEOUT, client.request_text(request)).await.context("no answer")?;
    let text = text.with_context(|| path.to_owned())?;
    ensure!(text.len() <= MAX_KEYS_BYTES, "{path} is longer than {MAX_KEYS_BYTES} bytes");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_with_their_issuer() {
        let (set, about) =
            (json!({"keys": [{"kid": "a"}], "x": 1}), json!({"issuer": "https://i", "jwks_uri": "u"}));
        let text = join_keys_and_issuer(&set, &about).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({"issuer": "https://i", "keys": [{"kid": "a"}]})
        );
        for (set, about) in [(json!({}), about.clone()), (json!({"keys": []}), about), (set, json!({}))] {
            assert!(join_keys_and_issuer(&set, &about).is_err());
        }
    }
}
