//! Identity on Kubernetes: projected tokens of `ServiceAccounts` with an audience of liverank's own, so that the tokens
//! are useless at the API server. The kubelet renews the token file, and the operator renews the file of public keys;
//! this process reads both files again.
//!
//! Each component and each reader has a `ServiceAccount` of its own, with the name of its Deployment: `live-manager`,
//! `live-reader-3`. The operator has another one, in a namespace of its own.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jsonwebtoken::{Header, Validation};
use liverank_core::ReaderId;
use liverank_protocol::access::{CalledService, CallerRole, KnownCaller};
use serde::Deserialize;

use super::{TokenRejection, TokenSource, TokenVerifier, VerifiedToken};
use crate::jwt::{self, PublicKey};

/// The time for which a file's content is used before the file is read again. Ten seconds are soon enough, because the
/// kubelet renews a token when a fifth of its life is left.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two reads of the key file because a token names an unknown key. The key file is not read
/// more often, because anybody can send such a token.
const REREAD_INTERVAL_FOR_UNKNOWN_KEY: Duration = Duration::from_secs(1);
/// The largest difference between the API server's clock and this machine's that is tolerated, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// The audience of the tokens of one cluster's processes: `liverank.dev/<namespace>/<cluster>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterAudience {
    /// The namespace of the liverank cluster.
    pub namespace: String,
    /// The name of the liverank cluster.
    pub cluster: String,
}

/// The beginning of every audience of liverank tokens.
const AUDIENCE_PREFIX: &str = "liverank.dev/";

impl std::fmt::Display for ClusterAudience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{AUDIENCE_PREFIX}{}/{}", self.namespace, self.cluster)
    }
}

impl FromStr for ClusterAudience {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix(AUDIENCE_PREFIX).and_then(|rest| rest.split_once('/'));
        let is_name = |name: &str| !name.is_empty() && !name.contains('/');
        let parts = parts.filter(|(namespace, cluster)| is_name(namespace) && is_name(cluster));
        let (namespace, cluster) = parts.ok_or("must be liverank.dev/<namespace>/<cluster>")?;
        Ok(Self { namespace: namespace.to_owned(), cluster: cluster.to_owned() })
    }
}

impl ClusterAudience {
    /// Returns the audience of tokens that this service of the cluster accepts, and no other one. Only the statistics
    /// service has such tokens, because a receiver of reports must not learn a token that other services accept.
    fn of_service(&self, service: CalledService) -> Option<String> {
        (service == CalledService::Statistics).then(|| format!("{self}/{}", service.name()))
    }
}

/// The name of a `ServiceAccount`: `<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountName {
    /// The namespace of the `ServiceAccount`.
    pub namespace: String,
    /// The name of the `ServiceAccount` within its namespace.
    pub name: String,
}

impl FromStr for ServiceAccountName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts =
            text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
        let (namespace, name) = parts.ok_or("must be <namespace>/<name>")?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for ServiceAccountName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A token in a file, which is read again when the kubelet may have renewed it.
struct TokenFile {
    path: PathBuf,
    last_read: Mutex<Option<(String, Instant)>>,
}

/// The tokens of this process: one for all services of the cluster, and beside it, in the same folder, one that is good
/// for the statistics service alone.
pub struct TokenFiles {
    cluster_token: TokenFile,
    statistics_token: TokenFile,
}

/// The name of the file with the token for the statistics service. Builders of earlier revisions mount none.
const STATISTICS_TOKEN_FILE: &str = "statistics-token";

impl TokenFiles {
    /// Creates a source that reads the token for all services from the file at `path`.
    pub fn new(path: PathBuf) -> Self {
        let beside = path.with_file_name(STATISTICS_TOKEN_FILE);
        let of_file = |path| TokenFile { path, last_read: Mutex::new(None) };
        Self { cluster_token: of_file(path), statistics_token: of_file(beside) }
    }
}

impl TokenSource for TokenFiles {
    fn token(&self, service: CalledService) -> anyhow::Result<String> {
        let file = if self.has_bound_token(service) { &self.statistics_token } else { &self.cluster_token };
        file.token()
    }

    fn has_bound_token(&self, service: CalledService) -> bool {
        service == CalledService::Statistics && self.statistics_token.path.exists()
    }
}

impl TokenFile {
    fn token(&self) -> anyhow::Result<String> {
        let mut read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, at)) = &*read
            && at.elapsed() < REREAD_INTERVAL
        {
            return Ok(token.clone());
        }
        let token = std::fs::read_to_string(&self.path)
            .with_context(|| format!("the token file {}", self.path.display()))?;
        let token = token.trim().to_owned();
        ensure!(!token.is_empty(), "the token file {} is empty", self.path.display());
        *read = Some((token.clone(), Instant::now()));
        Ok(token)
    }
}

/// The public keys and the issuer of the tokens of a Kubernetes cluster.
struct IssuerKeys {
    issuer: String,
    keys: Vec<Arc<PublicKey>>,
}

/// Verifies callers by the tokens of their `ServiceAccounts`.
pub struct KubernetesVerifier {
    /// A file with a JSON Web Key Set that has a member `issuer` beside its keys.
    file: PathBuf,
    audience: ClusterAudience,
    operator: Option<ServiceAccountName>,
    known_keys: Mutex<KnownKeys>,
}

#[derive(Default)]
struct KnownKeys {
    keys: Option<Arc<IssuerKeys>>,
    last_read_time: Option<Instant>,
    last_failure: String,
}

impl KubernetesVerifier {
    /// Creates a verifier with the public keys in `file`. The file may be written later; until then tokens cannot be
    /// verified.
    pub fn new(file: PathBuf, audience: ClusterAudience, operator: Option<ServiceAccountName>) -> Self {
        Self { file, audience, operator, known_keys: Mutex::default() }
    }

    /// Returns the public keys, after reading the file again if the last read is longer ago than `within`.
    fn keys(&self, within: Duration) -> Result<Arc<IssuerKeys>, TokenRejection> {
        let mut known = self.known_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if known.last_read_time.is_none_or(|read| read.elapsed() >= within) {
            known.last_read_time = Some(Instant::now());
            match self.read_keys() {
                Ok(keys) => known.keys = Some(Arc::new(keys)),
                // The keys that were read before stay in use: a file that is being replaced is back in a moment.
                Err(error) => known.last_failure = format!("{error:#}"),
            }
        }
        known.keys.clone().ok_or_else(|| TokenRejection::NotReady(known.last_failure.clone()))
    }

    fn read_keys(&self) -> anyhow::Result<IssuerKeys> {
        #[derive(Deserialize)]
        struct KeysFile {
            issuer: String,
        }
        let read = || {
            let json = std::fs::read(&self.file)?;
            let KeysFile { issuer } = serde_json::from_slice(&json).context("says no issuer")?;
            ensure!(!issuer.is_empty(), "says no issuer");
            anyhow::Ok(IssuerKeys { issuer, keys: jwt::parse_key_set(&json)? })
        };
        read().with_context(|| format!("the file of keys {}", self.file.display()))
    }

    fn keys_for_header(
        &self,
        header: &Header,
    ) -> Result<(Arc<IssuerKeys>, Vec<Arc<PublicKey>>), TokenRejection> {
        let keys = self.keys(REREAD_INTERVAL)?;
        let fitting = jwt::keys_fitting_header(&keys.keys, header);
        if !fitting.is_empty() {
            return Ok((keys, fitting));
        }
        let keys = self.keys(REREAD_INTERVAL_FOR_UNKNOWN_KEY)?;
        let fitting = jwt::keys_fitting_header(&keys.keys, header);
        Ok((keys, fitting))
    }

    /// Returns the caller that has this `ServiceAccount`; `None` if it is no process of this cluster.
    fn caller_of_account(&self, namespace: &str, account: &str) -> Option<KnownCaller> {
        let is_operator = |it: &ServiceAccountName| it.namespace == namespace && it.name == account;
        if self.operator.as_ref().is_some_and(is_operator) {
            return KnownCaller::of_role(CallerRole::Operator);
        }
        if namespace != self.audience.namespace {
            return None;
        }
        let part = account.strip_prefix(&self.audience.cluster)?.strip_prefix('-')?;
        if let Some(number) = part.strip_prefix("reader-") {
            let is_number = number.parse::<u32>().is_ok_and(|read| read.to_string() == number);
            return is_number.then(|| ReaderId::parse(account).ok()).flatten().map(KnownCaller::reader);
        }
        // No account in the cluster's own namespace is the operator, whatever its name.
        let roles = CallerRole::ALL.into_iter().filter(|role| *role != CallerRole::Operator);
        roles.into_iter().find(|role| role.name() == part).and_then(KnownCaller::of_role)
    }
}

#[derive(Clone, Deserialize)]
struct TokenClaims {
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaim,
}

#[derive(Clone, Deserialize)]
struct KubernetesClaim {
    namespace: String,
    serviceaccount: NamedObject,
}

#[derive(Clone, Deserialize)]
struct NamedObject {
    name: String,
}

impl TokenVerifier for KubernetesVerifier {
    fn verify(
        &self,
        token: &str,
        service: CalledService,
        _now: u64,
    ) -> Result<VerifiedToken, TokenRejection> {
        let header = jwt::read_header(token).map_err(TokenRejection::Invalid)?;
        let (keys, fitting) = self.keys_for_header(&header)?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&keys.issuer]);
        let audiences = [Some(self.audience.to_string()), self.audience.of_service(service)];
        validation.set_audience(&audiences.into_iter().flatten().collect::<Vec<_>>());
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims: TokenClaims =
            jwt::verified_claims(token, &fitting, &validation).map_err(TokenRejection::Invalid)?;
        let KubernetesClaim { namespace, serviceaccount } = claims.kubernetes;
        let caller = self.caller_of_account(&namespace, &serviceaccount.name).ok_or_else(|| {
            let name = &serviceaccount.name;
            TokenRejection::Invalid(format!(
                "the ServiceAccount {namespace}/{name} is none of {}",
                self.audience
            ))
        })?;
        Ok(VerifiedToken { caller, valid_until: claims.exp })
    }
}

#[cfg(test)]
mod tests;
