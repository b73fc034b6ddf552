//! Who this process is to our other processes, and how it knows them (docs/adr/013-who-is-who.md).
//!
//! | module | does |
//! |---|---|
//! | this one | the two ports: where our tokens come from, and what others' are judged by |
//! | [`local`] | tokens signed with keys that are derived from one file, for anywhere but Kubernetes |
//! | [`kubernetes`] | projected tokens of ServiceAccounts, checked offline against the cluster's public keys |
//! | [`args`] | the flags |
//! | [`guard`] | lets in whom the table of endpoints lets in |
//! | [`sent`] | viewers that a gateway sends to the services behind it |

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

/// The header for a token where something in between takes `Authorization` for its own, as the API server's proxy does.
pub const BEHIND_A_PROXY: &str = "liverank-authorization";
/// How long a token that was found good is taken without looking again, in seconds: keys may be taken back meanwhile.
const BELIEVED_SECONDS: u64 = 60;
/// Tokens known to be good: each caller has one at a time, so these are thousands of processes.
const MAX_BELIEVED: usize = 4_096;

/// Where the tokens come from that this process shows others.
pub trait TokenSource: Send + Sync {
    /// A token that is good at `service` for a while.
    ///
    /// # Errors
    /// None can be had now.
    fn token(&self, service: CalledService) -> anyhow::Result<String>;
}

/// What tokens are judged by that others show this process.
pub trait TokenVerifier: Send + Sync {
    /// Whose a token is that was shown to `service`, at `now` in seconds since 1970.
    ///
    /// # Errors
    /// It is not good, or that cannot be told yet.
    fn verify(&self, token: &str, service: CalledService, now: u64) -> Result<VerifiedToken, TokenRejection>;
}

/// A token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Whose it is.
    pub caller: KnownCaller,
    /// Until when, in seconds since 1970.
    pub valid_until: u64,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRejection {
    /// It is not good.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// The keys that tell are not known yet.
    #[error("tokens cannot be checked now: {0}")]
    NotReady(String),
}

/// Who this process is, and how it knows others. Cheap to clone.
#[derive(Clone, Default)]
pub struct Identity {
    key_ring: Option<local::KeyRing>,
    source: Option<Arc<dyn TokenSource>>,
    verifier: Option<Arc<dyn TokenVerifier>>,
    believed: Arc<Mutex<HashMap<TokenKey, VerifiedToken>>>,
    viewers_by_gateway: bool,
}

/// A token by its hash, so that a dump of the memory shows none, and where it was shown.
type TokenKey = ([u8; 32], CalledService);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (calls, knows) = (self.source.is_some(), self.verifier.is_some());
        f.debug_struct("Identity").field("calls", &calls).field("knows", &knows).finish_non_exhaustive()
    }
}

impl Identity {
    /// An identity with this source of its own tokens and this verifier of others'.
    pub fn new(source: Arc<dyn TokenSource>, verifier: Arc<dyn TokenVerifier>) -> Self {
        Self { source: Some(source), verifier: Some(verifier), ..Self::default() }
    }

    /// One on keys of our own; nobody in particular until [`Identity::acting_as`].
    pub fn with_keys(keys: local::KeyRing) -> Self {
        let verifier: Arc<dyn TokenVerifier> = Arc::new(keys.token_verifier());
        Self { key_ring: Some(keys), verifier: Some(verifier), ..Self::default() }
    }

    /// The same process as `caller`. On Kubernetes it is whom its `ServiceAccount` says, whatever is said here.
    ///
    /// # Errors
    /// Its key is somebody else's.
    pub fn acting_as(&self, caller: &KnownCaller) -> anyhow::Result<Self> {
        let Some(keys) = &self.key_ring else { return Ok(self.clone()) };
        let source: Arc<dyn TokenSource> = Arc::new(keys.token_source(caller)?);
        Ok(Self { source: Some(source), ..self.clone() })
    }

    /// The same process, which takes viewers that a gateway sends and no others, or all of them.
    #[must_use]
    pub fn with_viewers_by_gateway(self, viewers_by_gateway: bool) -> Self {
        Self { viewers_by_gateway, ..self }
    }

    /// Whether it takes viewers that a gateway sends, and no others.
    pub const fn viewers_by_gateway(&self) -> bool {
        self.viewers_by_gateway
    }

    /// For a service whose gateways show tokens.
    ///
    /// # Errors
    /// It is to take viewers of gateways only, and was given nothing to know gateways by.
    pub fn expect_gateways_known(&self) -> anyhow::Result<()> {
        let is_known = self.verifier.is_some() || !self.viewers_by_gateway;
        anyhow::ensure!(
            is_known,
            "--viewers-by-gateway needs --identity-key-file, or --identity-jwks-file on Kubernetes: gateways are known by it"
        );
        Ok(())
    }

    /// Whether it can know others.
    pub const fn has_token_verifier(&self) -> bool {
        self.verifier.is_some()
    }

    /// The value of an `Authorization` header for `service`; none where this process has no identity or no token now.
    pub fn authorization_header(&self, service: CalledService) -> Option<HeaderValue> {
        let token = match self.source.as_ref()?.token(service) {
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

    /// Who asks `service` with these headers; `None` for one who shows no token.
    ///
    /// # Errors
    /// The problem to answer with, where a token is shown that is not taken.
    pub fn caller_of_request(
        &self,
        headers: &HeaderMap,
        service: CalledService,
    ) -> Result<Option<KnownCaller>, Problem> {
        let Some(token) = shown_token(headers) else { return Ok(None) };
        let Some(verifier) = &self.verifier else {
            return Err(unauthorized_problem("this process was given nothing to know callers by"));
        };
        let (key, now) = ((Sha256::digest(token).into(), service), now_seconds());
        let known = self.believed().get(&key).filter(|known| now < known.valid_until).cloned();
        if let Some(known) = known {
            return Ok(Some(known.caller));
        }
        match verifier.verify(token, service, now) {
            Ok(token) => {
                let mut believed = self.believed();
                if believed.len() >= MAX_BELIEVED {
                    believed.retain(|_, known| now < known.valid_until);
                }
                if believed.len() < MAX_BELIEVED {
                    let until = token.valid_until.min(now + BELIEVED_SECONDS);
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

    fn believed(&self) -> std::sync::MutexGuard<'_, HashMap<TokenKey, VerifiedToken>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token that a request shows.
fn shown_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(BEHIND_A_PROXY).or_else(|| headers.get(header::AUTHORIZATION))?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn unauthorized_problem(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail).challenge("Bearer")
}

/// Now, in seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
