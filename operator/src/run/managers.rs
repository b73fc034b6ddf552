//! The operator's requests to managers and readers over HTTP, and its authentication there.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use liverank_core::handover::PlannerLease;
use liverank_protocol::roles::Role;
use liverank_protocol::{
    ClusterLoad, CordonRequest, CordonsAnswer, CordonsRequest, MoveRequest, MovesRequest, TermState,
};
use liverank_runtime::PeerTls;
use liverank_runtime::client::{ClientError, RequestBuilder};
use liverank_runtime::peer::{PeerClient, join_path, root_cause};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::lease::Held;
use super::store::Key;
use super::tokens::OperatorTokens;
use crate::build::{Component, names};
use crate::crd::Tls;

/// The time limit of an answer. Managers answer from memory; a load that comes later is too old to plan by.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is accepted: twice that of 30,000 videos and 500 readers with ids of usual length.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Maximal size of all answers in memory at once, over all clusters: one cluster's managers cannot take memory from
/// others for longer than an answer may take.
const MAX_BYTES_AT_ONCE: usize = 64 * 1024 * 1024;
/// Longest text of a refusal that is shown, in characters.
const MAX_TEXT_BYTES: usize = 500;
/// Maximal number of orders in one request: managers accept 8 MiB.
pub const MAX_MOVES: usize = 1_000;

/// The reason why a manager or reader did not do what was requested.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// There was no answer, or the server reported a failure of its own.
    #[error("{0}")]
    Away(String),
    /// Another planner is in office, or this term never began.
    #[error("the term is over: {0}")]
    Term(String),
    /// The manager understood the request and refuses it.
    #[error("{status}: {detail}")]
    Refused {
        /// The HTTP status, 4xx.
        status: StatusCode,
        /// The manager's message.
        detail: String,
    },
}

/// The URLs of managers and readers for an operator that runs outside of their Kubernetes cluster. Without a template,
/// URLs are made of pods' addresses and names.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    /// The URL of a cluster's managers, with `{cluster}` and `{namespace}` in it.
    pub manager: Option<String>,
    /// The URL of a reader, with `{reader}` and `{namespace}` in it.
    pub reader: Option<String>,
}

/// The memory limit for the answers of all clusters while they are read. Clones share it.
#[derive(Clone)]
pub struct AnswerBudget(Arc<Semaphore>);

impl Default for AnswerBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BYTES_AT_ONCE)))
    }
}

impl AnswerBudget {
    /// Waits for room for `bytes` bytes of an answer; a refusal if there is none in time.
    async fn take(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = timeout(REQUEST_TIMEOUT, self.0.acquire_many(bytes)).await;
        room.ok()
            .and_then(Result::ok)
            .ok_or_else(|| Refusal::Away("too many answers are being read at once".into()))
    }
}

/// The client of one cluster's managers and readers.
#[derive(Clone)]
pub struct Managers {
    peers: PeerClient,
    budget: AnswerBudget,
    templates: Templates,
    cluster: Key,
    tokens: Arc<OperatorTokens>,
    /// The authorities (PEM) by which managers and readers are verified, and the client that trusts them; `None`
    /// without TLS.
    trusted: Option<(String, PeerClient)>,
}

impl Managers {
    /// Creates the client for the managers and readers of `cluster`.
    pub fn new(
        (peers, budget): (PeerClient, AnswerBudget),
        templates: Templates,
        tokens: Arc<OperatorTokens>,
        cluster: &Key,
    ) -> Self {
        Self { peers, budget, templates, cluster: cluster.clone(), tokens, trusted: None }
    }

    /// Sets the TLS settings of the resource. If its authorities cannot be parsed, which its problems report, public
    /// authorities are used instead: these issue no certificates for names inside a Kubernetes cluster.
    pub fn set_tls(&mut self, tls: Option<&Tls>) {
        let bundle = tls.map(|tls| &tls.internal.ca_bundle);
        if self.trusted.as_ref().map(|(known, _)| known) == bundle {
            return;
        }
        let name = names::component_object_name(&self.cluster.name, Component::Manager);
        let name = names::service_host(&name, &self.cluster.namespace);
        self.trusted = bundle.map(|bundle| {
            let trusted = PeerTls::trusting_authorities(bundle, Some(&name)).unwrap_or_default();
            (bundle.clone(), PeerClient::over_tls(&trusted))
        });
    }

    fn peers(&self) -> &PeerClient {
        self.trusted.as_ref().map_or(&self.peers, |(_, peers)| peers)
    }

    /// Adds a token to the request that only this cluster's managers accept.
    async fn with_token(&self, request: RequestBuilder) -> Result<RequestBuilder, Refusal> {
        let audience = names::token_audience(&self.cluster.name, &self.cluster.namespace);
        let token = self.tokens.for_audience(&audience).await;
        Ok(request.bearer_auth(token.map_err(|error| Refusal::Away(format!("{error:#}")))?))
    }

    /// Returns the names and URLs of the managers: each pod by its address, or all by the template's URL.
    pub fn manager_addresses(&self, pods: &[(String, String)]) -> Vec<(String, Url)> {
        manager_addresses(&self.cluster, &self.templates, pods, self.trusted.is_some())
    }

    fn reader_address(&self, reader: &str) -> Option<Url> {
        reader_url(&self.cluster, &self.templates, reader, self.trusted.is_some())
    }

    /// Requests a manager's `GET /load`; `detail` adds all assignments.
    pub async fn fetch_load(&self, manager: &Url, detail: bool) -> Result<ClusterLoad, Refusal> {
        let mut url = join_path(manager, &["load"]);
        url.set_query(Some(if detail { "assignments=true" } else { "assignments=false" }));
        let request = self.with_token(self.peers().client().get(url)).await?;
        self.send_and_parse(request).await
    }

    /// Begins a term, fenced by the Lease that this planner holds.
    pub async fn begin_term(&self, manager: &Url, holder: &str, held: &Held) -> Result<TermState, Refusal> {
        self.post_json(manager, "term", &json!({ "holder": holder, "lease": lease(held) })).await
    }

    /// Renews the term of this planner at a manager.
    pub async fn renew_term(
        &self,
        manager: &Url,
        holder: &str,
        held: &Held,
        term: u64,
    ) -> Result<TermState, Refusal> {
        self.post_json(manager, "term", &json!({ "holder": holder, "renew": term, "lease": lease(held) }))
            .await
    }

    /// Sends cordons to a manager: it closes readers, or opens them again.
    pub async fn send_cordons(
        &self,
        manager: &Url,
        held: &Held,
        term: u64,
        cordons: Vec<CordonRequest>,
    ) -> Result<CordonsAnswer, Refusal> {
        self.post_json(manager, "cordons", &CordonsRequest { term, lease: lease(held), cordons }).await
    }

    /// Sends orders for moves. It is no error if the manager took none of the moves because they do not fit the present
    /// state.
    pub async fn send_moves(
        &self,
        manager: &Url,
        held: &Held,
        term: u64,
        moves: Vec<MoveRequest>,
    ) -> Result<(), Refusal> {
        self.post_json::<Value>(manager, "moves", &MovesRequest { term, lease: lease(held), moves })
            .await
            .map(drop)
    }

    /// Asks a reader for the number of its connected viewers.
    pub async fn fetch_viewers(&self, reader: &str) -> Result<u64, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Own {
            active_connections: u64,
        }
        let url = self.reader_address(reader).ok_or_else(|| Refusal::Away("it has no address".into()))?;
        let own: Own = self.send_and_parse(self.peers().client().get(join_path(&url, &["health"]))).await?;
        Ok(own.active_connections)
    }

    async fn post_json<T: DeserializeOwned>(
        &self,
        manager: &Url,
        path: &str,
        body: &(impl serde::Serialize + Sync),
    ) -> Result<T, Refusal> {
        let request =
            self.with_token(self.peers().client().post(join_path(manager, &[path])).json(body)).await?;
        self.send_and_parse(request).await
    }

    async fn send_and_parse<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Refusal> {
        let away = |error: ClientError| Refusal::Away(root_cause(&error));
        let response = request.timeout(REQUEST_TIMEOUT).send().await.map_err(away)?;
        let status = response.status();
        if !self.peers().is_answer_of_ours(&response) {
            return Err(Refusal::Away(format!("somebody else answers there: {status}")));
        }
        let mut body = Vec::new();
        let mut room = self.budget.take(0).await?;
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(away)?;
            if body.len() + part.len() > MAX_ANSWER_BYTES {
                return Err(Refusal::Away(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")));
            }
            room.merge(self.budget.take(part.len()).await?);
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| Refusal::Away(format!("no answer that can be read: {error}")));
        }
        Err(parse_refusal(status, &body))
    }
}

fn manager_addresses(
    cluster: &Key,
    templates: &Templates,
    pods: &[(String, String)],
    tls: bool,
) -> Vec<(String, Url)> {
    if let Some(template) = &templates.manager {
        let url = template.replace("{cluster}", &cluster.name).replace("{namespace}", &cluster.namespace);
        let service = format!("{}-manager", cluster.name);
        return Url::parse(&url).map(|url| vec![(service, url)]).unwrap_or_default();
    }
    let port = Role::Manager.port().unwrap_or_default();
    let scheme = if tls { "https" } else { "http" };
    let address = |ip: &str| {
        if ip.contains(':') { format!("{scheme}://[{ip}]:{port}") } else { format!("{scheme}://{ip}:{port}") }
    };
    let pods = pods.iter().filter_map(|(name, ip)| Some((name.clone(), Url::parse(&address(ip)).ok()?)));
    pods.collect()
}

fn reader_url(cluster: &Key, templates: &Templates, reader: &str, tls: bool) -> Option<Url> {
    let namespace = &cluster.namespace;
    let template = templates.reader.as_ref();
    let given = template.map(|it| it.replace("{reader}", reader).replace("{namespace}", namespace));
    Url::parse(&given.unwrap_or_else(|| names::reader_url(namespace, reader, tls))).ok()
}

fn lease(held: &Held) -> PlannerLease {
    // The number of transitions is never negative: the API server only counts up.
    PlannerLease { uid: held.uid.clone(), transitions: u64::try_from(held.transitions).unwrap_or_default() }
}

fn parse_refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail =
        problem["detail"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let detail: String = detail.chars().take(MAX_TEXT_BYTES).collect();
    match status {
        // If all moves were refused for other reasons, the answer lists them one by one; the term is still valid.
        StatusCode::CONFLICT if problem.get("moves").is_some() => Refusal::Refused { status, detail },
        StatusCode::CONFLICT => Refusal::Term(detail),
        _ if status.is_client_error() => Refusal::Refused { status, detail },
        _ => Refusal::Away(format!("{status}: {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_are_reached_one_by_one_or_where_a_test_has_them() {
        let cluster = Key::new("ns", "x");
        let pods = [("a".to_owned(), "10.0.0.1".to_owned()), ("b".to_owned(), "fd00::1".to_owned())];
        let urls = |templates: &Templates| -> Vec<String> {
            manager_addresses(&cluster, templates, &pods, false)
                .into_iter()
                .map(|(_, url)| url.to_string())
                .collect()
        };
        assert_eq!(urls(&Templates::default()), ["http://10.0.0.1:6100/", "http://[fd00::1]:6100/"]);
        let manager = Some("http://127.0.0.1:7000/{namespace}/{cluster}/".into());
        assert_eq!(urls(&Templates { manager, reader: None }), ["http://127.0.0.1:7000/ns/x/"]);
        let reader = |tls| reader_url(&cluster, &Templates::default(), "x-reader-0", tls).unwrap();
        assert_eq!(reader(false).as_str(), "http://x-reader-0.ns:4001/");
        assert_eq!(reader(true).as_str(), "https://x-reader-0.ns.svc:4001/");
        let managers = manager_addresses(&cluster, &Templates::default(), &pods, true);
        assert_eq!(managers[0].1.as_str(), "https://10.0.0.1:6100/");
    }

    #[test]
    fn only_a_conflict_about_the_term_ends_the_term() {
        let conflict = |body: &str| parse_refusal(StatusCode::CONFLICT, body.as_bytes());
        assert!(matches!(conflict(r#"{"detail":"term 5 has begun","term":5}"#), Refusal::Term(_)));
        assert!(matches!(conflict(r#"{"detail":"no move was taken","moves":[]}"#), Refusal::Refused { .. }));
        let other = parse_refusal(StatusCode::SERVICE_UNAVAILABLE, b"{\"detail\":\"try again\"}");
        assert!(matches!(other, Refusal::Away(_)));
    }
}
