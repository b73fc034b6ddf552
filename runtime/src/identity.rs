//! The identity of this process towards the other liverank processes, and the check of their identities
//! (docs/adr/013-who-is-who.md).
//!
//! | module | does |
//! |---|---|
//! | this one | the two interfaces: the source of own tokens, and the verifier of others' tokens |
//! | [`local`] | tokens signed with keys that are derived from one file, for anywhere but Kubernetes |
//! | [`kubernetes`] | projected tokens of ServiceAccounts, checked offline against the cluster's public keys |
//! | [`args`] | the flags |
//! | [`guard`] | admits the callers that the table of endpoints permits |
//! | [`sent`] | viewers on whose behalf a gateway sends requests |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use liverank_protocol::access::{CalledService, KnownCaller};
use sha2::{Digest, Sha256};

use crate::Problem;

pub mod args;
pub mod guard;
pub mod kubernetes;
pub mod local;
pub mod sent;

/// The header that carries a token if a proxy on the way uses `Authorization` for itself, as the proxy of the
/// Kubernetes API server does.
pub const PROXIED_AUTHORIZATION_HEADER: &str = "liverank-authorization";
/// The time in seconds for which a verified token is accepted without another check. The time is short because keys may
/// be revoked meanwhile.
const VERIFIED_TOKEN_CACHE_SECONDS: u64 = 60;
/// The largest number of verified tokens that are remembered. Each caller has one token at a time, so this is enough
/// for thousands of processes.
const MAX_CACHED_TOKENS: usize = 4_096;

/// The source of the tokens that this process shows to other processes.
pub trait TokenSource: Send + Sync {
    /// Returns a token that `service` accepts for a while.
    ///
    /// # Errors
    /// No token can be had now.
    fn token(&self, service: CalledService) -> anyhow::Result<String>;

    /// Whether the token for `service` is refused by every other service, so that a service which is no longer ours can
    /// do nothing with it.
    fn has_bound_token(&self, service: CalledService) -> bool;
}

/// The check of the tokens that other processes show to this process.
pub trait TokenVerifier: Send + Sync {
    /// Verifies a token that was shown to `service`, at the time `now` in seconds since 1970, and returns its caller.
    ///
    /// # Errors
    /// The token is not valid, or its keys are not known yet.
    fn verify(&self, token: &str, service: CalledService, now: u64) -> Result<VerifiedToken, TokenRejection>;
}

/// A token that was verified: its caller and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The process to which the token belongs.
    pub caller: KnownCaller,
    /// The end of the token's validity, in seconds since 1970.
    pub valid_until: u64,
}

/// The reason why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRejection {
    /// The token is not valid: it is malformed, expired, for another service, or not signed by a known key.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// The keys that verify tokens are not known yet.
    #[error("tokens cannot be checked now: {0}")]
    NotReady(String),
}

/// The identity of this process: its own tokens, and the check of other processes' tokens. Cheap to clone.
#[derive(Clone, Default)]
pub struct Identity {
    key_ring: Option<local::KeyRing>,
    token_source: Option<Arc<dyn TokenSource>>,
    token_verifier: Option<Arc<dyn TokenVerifier>>,
    verified_tokens: Arc<Mutex<HashMap<TokenKey, VerifiedToken>>>,
    requires_gateway_for_viewers: bool,
}

/// The key of a verified token: its hash, so that a dump of the memory shows no token, and the service that it was
/// shown to.
type TokenKey = ([u8; 32], CalledService);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (calls, knows) = (self.token_source.is_some(), self.token_verifier.is_some());
        f.debug_struct("Identity").field("calls", &calls).field("knows", &knows).finish_non_exhaustive()
    }
}

impl Identity {
    /// Creates an identity with a source of this process's own tokens and a verifier of the tokens of other processes.
    pub fn new(source: Arc<dyn TokenSource>, verifier: Arc<dyn TokenVerifier>) -> Self {
        Self { token_source: Some(source), token_verifier: Some(verifier), ..Self::default() }
    }

    /// Creates an identity whose tokens are signed with local keys. The identity verifies tokens, but has none of its
    /// own until [`Identity::acting_as`].
    pub fn with_keys(keys: local::KeyRing) -> Self {
        let verifier: Arc<dyn TokenVerifier> = Arc::new(keys.token_verifier());
        Self { key_ring: Some(keys), token_verifier: Some(verifier), ..Self::default() }
    }

    /// Returns the same identity for the process `caller`, which then has tokens of its own. On Kubernetes, `caller` is
    /// ignored: there the process is the one that its `ServiceAccount` names.
    ///
    /// # Errors
    /// The key file holds the key of another process.
    pub fn acting_as(&self, caller: &KnownCaller) -> anyhow::Result<Self> {
        let Some(keys) = &self.key_ring else { return Ok(self.clone()) };
        let source: Arc<dyn TokenSource> = Arc::new(keys.token_source(caller)?);
        Ok(Self { token_source: Some(source), ..self.clone() })
    }

    /// Returns the same identity with this setting: `true` to accept viewers only if a gateway sent them, `false` to
    /// accept all viewers.
    #[must_use]
    pub fn with_gateway_for_viewers(self, requires_gateway_for_viewers: bool) -> Self {
        Self { requires_gateway_for_viewers, ..self }
    }

    /// Returns true if this process accepts viewers only if a gateway sent them.
    pub const fn requires_gateway_for_viewers(&self) -> bool {
        self.requires_gateway_for_viewers
    }

    /// Checks that a service which accepts only viewers from gateways can verify the tokens of gateways.
    ///
    /// # Errors
    /// `--viewers-by-gateway` is set without a key file or public keys.
    pub fn check_can_verify_gateways(&self) -> anyhow::Result<()> {
        let is_known = self.token_verifier.is_some() || !self.requires_gateway_for_viewers;
        anyhow::ensure!(
            is_known,
            "--viewers-by-gateway needs --identity-key-file, or --identity-jwks-file on Kubernetes: gateways are known by it"
        );
        Ok(())
    }

    /// Whether this process can verify the tokens of other processes.
    pub const fn has_token_verifier(&self) -> bool {
        self.token_verifier.is_some()
    }

    /// Returns the value of an `Authorization` header for a request to `service`; `None` if this process has no
    /// identity or no token now.
    pub fn authorization_header(&self, service: CalledService) -> Option<HeaderValue> {
        let token = match self.token_source.as_ref()?.token(service) {
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(service = service.name(), error = format!("{error:#}"), "no token to show");
                return None;
            }
        };
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// Whether this process has a token for `service` that every other service refuses.
    pub fn has_bound_token(&self, service: CalledService) -> bool {
        self.token_source.as_ref().is_some_and(|source| source.has_bound_token(service))
    }

    /// Returns the value of an `Authorization` header as [`Self::authorization_header`] does, if every other service
    /// refuses the token; `None` if the token is good for other services, too.
    pub fn bound_authorization_header(&self, service: CalledService) -> Option<HeaderValue> {
        self.has_bound_token(service).then(|| self.authorization_header(service)).flatten()
    }

    /// Returns the process that sent a request with these headers to `service`; `None` if the request shows no token.
    ///
    /// # Errors
    /// The problem to answer with if a token is shown and not accepted.
    pub fn caller_of_request(
        &self,
        headers: &HeaderMap,
        service: CalledService,
    ) -> Result<Option<KnownCaller>, Problem> {
        let Some(token) = shown_token(headers) else { return Ok(None) };
        let Some(verifier) = &self.token_verifier else {
            return Err(unauthorized_problem("this process was given nothing to know callers by"));
        };
        let (key, now) = ((Sha256::digest(token).into(), service), now_seconds());
        let known = self.lock_verified_tokens().get(&key).filter(|known| now < known.valid_until).cloned();
        if let Some(known) = known {
            return Ok(Some(known.caller));
        }
        match verifier.verify(token, service, now) {
            Ok(token) => {
                let mut believed = self.lock_verified_tokens();
                if believed.len() >= MAX_CACHED_TOKENS {
                    believed.retain(|_, known| now < known.valid_until);
                }
                if believed.len() < MAX_CACHED_TOKENS {
                    let until = token.valid_until.min(now + VERIFIED_TOKEN_CACHE_SECONDS);
                    believed.insert(key, VerifiedToken { valid_until: until, ..token.clone() });
                }
                Ok(Some(token.caller))
            }
            Err(rejected @ TokenRejection::Invalid(_)) => Err(unauthorized_problem(&rejected.to_string())),
            Err(rejected @ TokenRejection::NotReady(_)) => {
                Err(Problem::part_unavailable(rejected.to_string()))
            }
        }
    }

    fn lock_verified_tokens(&self) -> std::sync::MutexGuard<'_, HashMap<TokenKey, VerifiedToken>> {
        self.verified_tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the bearer token that a request shows, from `PROXIED_AUTHORIZATION_HEADER` or `Authorization`.
fn shown_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(PROXIED_AUTHORIZATION_HEADER).or_else(|| headers.get(header::AUTHORIZATION))?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn unauthorized_problem(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail).with_challenge("Bearer")
}

/// Returns the current time in seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
