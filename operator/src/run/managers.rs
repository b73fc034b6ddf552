//! Requests of the operator to managers and readers over HTTP, and how the operator authenticates itself there.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use liverank_core::handover::PlannerLease;
use liverank_protocol::roles::Role;
use liverank_protocol::{
    ClusterLoad, CordonRequest, CordonsAnswer, CordonsRequest, MoveRequest, MovesRequest, OutsideDecision,
    TermRequest, TermState,
};
use liverank_runtime::PeerTls;
use liverank_runtime::client::{ClientError, RequestBuilder};
use liverank_runtime::peer::{PeerClient, join_path, root_cause};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::answer_budget::{AnswerBudget, AnswerBudgetExhausted, BudgetedAnswer, ReservedMemory};
use super::lease::HeldLease;
use super::store::ClusterKey;
use super::tokens::OperatorTokens;
use crate::answers::{self, Bounded, FlatAnswer};
use crate::build::{Component, names};
use crate::crd::Tls;

/// The time limit for an answer of a manager. Managers answer from memory; a load that comes later is too old to plan
/// by.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is accepted: twice that of 30,000 videos and 500 readers with ids of usual length.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The capacity that an answer is first read into, in bytes: most answers without assignments are shorter.
const INITIAL_ANSWER_CAPACITY: usize = 16 * 1024;
/// Longest text of a refusal that is shown, in characters.
const MAX_TEXT_CHARS: usize = 500;
/// Maximal number of moves in one request: a manager accepts requests of 8 MiB.
pub const MAX_MOVES: usize = 1_000;

/// The reason why a manager or reader did not do what the operator requested.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestRefusal {
    /// There was no answer, or the server reported a failure of its own.
    #[error("{0}")]
    Unavailable(String),
    /// Another planner's term has begun, or this planner's term never began.
    #[error("the term is over: {0}")]
    TermOver(String),
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
/// URLs are made from the addresses and names of pods.
#[derive(Debug, Clone, Default)]
pub struct UrlTemplates {
    /// The URL of a cluster's managers, with `{cluster}` and `{namespace}` in it.
    pub manager: Option<String>,
    /// The URL of a reader, with `{reader}` and `{namespace}` in it.
    pub reader: Option<String>,
}

/// A reader's own report about its health; the other fields of the answer are not used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnReport {
    active_connections: u64,
}

impl Bounded for OwnReport {
    type Shape = FlatAnswer;
}

/// The client of one cluster's managers and readers.
#[derive(Clone)]
pub struct Managers {
    peer_client: PeerClient,
    answer_budget: AnswerBudget,
    url_templates: UrlTemplates,
    cluster: ClusterKey,
    tokens: Arc<OperatorTokens>,
    /// The authorities (PEM) by which managers and readers are verified, and the client that trusts them; `None`
    /// without TLS.
    tls_client: Option<(String, PeerClient)>,
}

impl Managers {
    /// Creates the client for the managers and readers of `cluster`.
    pub fn new(
        (peer_client, answer_budget): (PeerClient, AnswerBudget),
        url_templates: UrlTemplates,
        tokens: Arc<OperatorTokens>,
        cluster: &ClusterKey,
    ) -> Self {
        Self { peer_client, answer_budget, url_templates, cluster: cluster.clone(), tokens, tls_client: None }
    }

    /// Sets the TLS settings of the resource. If the authorities in the resource cannot be parsed, which is also
    /// reported as a problem of the spec, public authorities are used instead: these issue no certificates for names
    /// inside a Kubernetes cluster.
    pub fn set_tls(&mut self, tls: Option<&Tls>) {
        let bundle = tls.map(|tls| &tls.internal.ca_bundle);
        if self.tls_client.as_ref().map(|(known, _)| known) == bundle {
            return;
        }
        let name = names::component_object_name(&self.cluster.name, Component::Manager);
        let name = names::service_host(&name, &self.cluster.namespace);
        self.tls_client = bundle.map(|bundle| {
            let trusted = PeerTls::trusting_authorities(bundle, Some(&name)).unwrap_or_default();
            (bundle.clone(), PeerClient::over_tls(&trusted))
        });
    }

    fn peers(&self) -> &PeerClient {
        self.tls_client.as_ref().map_or(&self.peer_client, |(_, peers)| peers)
    }

    /// Adds a token that only this cluster's managers accept to the request.
    async fn with_token(&self, request: RequestBuilder) -> Result<RequestBuilder, RequestRefusal> {
        let audience = names::token_audience(&self.cluster.name, &self.cluster.namespace);
        let token = self.tokens.for_audience(&audience).await;
        Ok(request.bearer_auth(token.map_err(|error| RequestRefusal::Unavailable(format!("{error:#}")))?))
    }

    /// Returns the names and URLs of the managers: each pod by its address, or all by the template's URL.
    pub fn manager_addresses(&self, pods: &[(String, String)]) -> Vec<(String, Url)> {
        manager_addresses(&self.cluster, &self.url_templates, pods, self.tls_client.is_some())
    }

    fn reader_address(&self, reader: &str, ip: &str) -> Option<Url> {
        reader_url(&self.cluster, &self.url_templates, (reader, ip), self.tls_client.is_some())
    }

    /// Requests a manager's `GET /load`; `detail` adds all assignments.
    pub async fn fetch_load(
        &self,
        manager: &Url,
        detail: bool,
    ) -> Result<BudgetedAnswer<ClusterLoad>, RequestRefusal> {
        let mut url = join_path(manager, &["load"]);
        url.set_query(Some(if detail { "assignments=true" } else { "assignments=false" }));
        let request = self.with_token(self.peers().client().get(url)).await?;
        self.send_and_parse(request).await
    }

    /// Begins a term, fenced by the Lease that this planner holds.
    pub async fn begin_term(
        &self,
        manager: &Url,
        holder: &str,
        held: &HeldLease,
    ) -> Result<TermState, RequestRefusal> {
        self.post_json(manager, "term", &json!({ "holder": holder, "lease": planner_lease(held) })).await
    }

    /// Renews the term of this planner at a manager, and tells the manager the planner's last decisions.
    pub async fn renew_term(
        &self,
        manager: &Url,
        holder: &str,
        held: &HeldLease,
        term: u64,
        decisions: &[OutsideDecision],
    ) -> Result<TermState, RequestRefusal> {
        let renewal = TermRequest {
            holder: holder.to_owned(),
            expected: None,
            renew: Some(term),
            lease: planner_lease(held),
            decisions: decisions.to_vec(),
        };
        self.post_json(manager, "term", &renewal).await
    }

    /// Sends cordons to a manager: orders to close readers, or to open them again.
    pub async fn send_cordons(
        &self,
        manager: &Url,
        held: &HeldLease,
        term: u64,
        cordons: Vec<CordonRequest>,
    ) -> Result<CordonsAnswer, RequestRefusal> {
        self.post_json(manager, "cordons", &CordonsRequest { term, lease: planner_lease(held), cordons })
            .await
    }

    /// Sends move orders to a manager. The result is no error if the manager refuses moves because they do not fit the
    /// present state.
    pub async fn send_moves(
        &self,
        manager: &Url,
        held: &HeldLease,
        term: u64,
        moves: Vec<MoveRequest>,
    ) -> Result<(), RequestRefusal> {
        self.post_json::<IgnoredAny>(
            manager,
            "moves",
            &MovesRequest { term, lease: planner_lease(held), moves },
        )
        .await
        .map(drop)
    }

    /// Requests the number of connected viewers from a reader, whose pod has the address `ip`.
    pub async fn fetch_viewers(&self, reader: &str, ip: &str) -> Result<u64, RequestRefusal> {
        let url = self
            .reader_address(reader, ip)
            .ok_or_else(|| RequestRefusal::Unavailable("it has no address".into()))?;
        let request = self.peers().client().get(join_path(&url, &["health"]));
        Ok(self.send_and_parse::<OwnReport>(request).await?.answer.active_connections)
    }

    async fn post_json<T: Bounded>(
        &self,
        manager: &Url,
        path: &str,
        body: &(impl serde::Serialize + Sync),
    ) -> Result<T, RequestRefusal> {
        let request =
            self.with_token(self.peers().client().post(join_path(manager, &[path])).json(body)).await?;
        Ok(self.send_and_parse(request).await?.answer)
    }

    /// Sends a request and parses the answer. Memory for the bytes, and then for the parsed answer, is reserved from
    /// the budget first.
    async fn send_and_parse<T: Bounded>(
        &self,
        request: RequestBuilder,
    ) -> Result<BudgetedAnswer<T>, RequestRefusal> {
        let away = |error: ClientError| RequestRefusal::Unavailable(root_cause(&error));
        let response = request.timeout(REQUEST_TIMEOUT).send().await.map_err(away)?;
        let status = response.status();
        if !self.peers().is_liverank_answer(&response) {
            return Err(RequestRefusal::Unavailable(format!("somebody else answers there: {status}")));
        }
        let (mut body, mut rooms) = (Vec::new(), Vec::new());
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(away)?;
            let length = body.len() + part.len();
            if length > MAX_ANSWER_BYTES {
                return Err(RequestRefusal::Unavailable(format!(
                    "the answer is longer than {MAX_ANSWER_BYTES} bytes"
                )));
            }
            if length > body.capacity() {
                let more = grown_capacity(length) - body.capacity();
                rooms.push(self.reserve_memory(more).await?);
                body.reserve_exact(body.capacity() - body.len() + more);
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            let unusable = |error: answers::UnusableAnswer| RequestRefusal::Unavailable(error.to_string());
            let reserved_memory =
                self.reserve_memory(answers::parsed_size::<T>(&body).map_err(unusable)?).await?;
            let answer = serde_json::from_slice(&body).map_err(|error| unusable(error.into()))?;
            return Ok(BudgetedAnswer { answer, reserved_memory });
        }
        Err(parse_refusal(status, &body))
    }

    async fn reserve_memory(&self, bytes: usize) -> Result<ReservedMemory, RequestRefusal> {
        self.answer_budget
            .reserve(&self.cluster, bytes)
            .await
            .map_err(|AnswerBudgetExhausted| RequestRefusal::Unavailable(AnswerBudgetExhausted.to_string()))
    }
}

/// Returns the capacity of a buffer that has to hold `length` bytes. The capacity grows by doubling, so that a long
/// answer is not copied for each of its parts.
fn grown_capacity(length: usize) -> usize {
    length.next_power_of_two().clamp(INITIAL_ANSWER_CAPACITY, MAX_ANSWER_BYTES)
}

fn manager_addresses(
    cluster: &ClusterKey,
    templates: &UrlTemplates,
    pods: &[(String, String)],
    tls: bool,
) -> Vec<(String, Url)> {
    if let Some(template) = &templates.manager {
        let url = template.replace("{cluster}", &cluster.name).replace("{namespace}", &cluster.namespace);
        let service = format!("{}-manager", cluster.name);
        return Url::parse(&url).map(|url| vec![(service, url)]).unwrap_or_default();
    }
    let port = Role::Manager.port().unwrap_or_default();
    let pods = pods.iter().filter_map(|(name, ip)| Some((name.clone(), address_url(ip, port, tls)?)));
    pods.collect()
}

/// Returns the URL of a reader: that of its pod. With TLS, the URL is that of the reader's Service, because the
/// Service's name is in the reader's certificate.
fn reader_url(
    cluster: &ClusterKey,
    templates: &UrlTemplates,
    (reader, ip): (&str, &str),
    tls: bool,
) -> Option<Url> {
    let namespace = &cluster.namespace;
    match &templates.reader {
        Some(template) => {
            Url::parse(&template.replace("{reader}", reader).replace("{namespace}", namespace)).ok()
        }
        None if tls => Url::parse(&names::reader_url(namespace, reader, tls)).ok(),
        None => address_url(ip, Component::Reader.http_port()?, tls),
    }
}

fn address_url(ip: &str, port: u16, tls: bool) -> Option<Url> {
    let scheme = if tls { "https" } else { "http" };
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    Url::parse(&format!("{scheme}://{host}:{port}")).ok()
}

fn planner_lease(held: &HeldLease) -> PlannerLease {
    // The number of transitions is never negative: the API server only counts up.
    PlannerLease { uid: held.uid.clone(), transitions: u64::try_from(held.transitions).unwrap_or_default() }
}

fn parse_refusal(status: StatusCode, body: &[u8]) -> RequestRefusal {
    /// The fields of a refusal's body that are used; other fields are skipped and take no memory.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Problem {
        detail: Option<String>,
        moves: Option<IgnoredAny>,
    }
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let start = &body[..body.len().min(MAX_TEXT_CHARS * 4)];
    let detail = problem.detail.unwrap_or_else(|| String::from_utf8_lossy(start).into_owned());
    let detail: String = detail.chars().take(MAX_TEXT_CHARS).collect();
    match status {
        // If all moves were refused for other reasons, the answer lists them one by one; the term is still valid.
        StatusCode::CONFLICT if problem.moves.is_some() => RequestRefusal::Refused { status, detail },
        StatusCode::CONFLICT => RequestRefusal::TermOver(detail),
        _ if status.is_client_error() => RequestRefusal::Refused { status, detail },
        _ => RequestRefusal::Unavailable(format!("{status}: {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer_budget::DEFAULT_MIB;
    use super::*;

    #[test]
    fn managers_are_reached_one_by_one_or_where_a_test_has_them() {
        let cluster = ClusterKey::new("ns", "x");
        let pods = [("a".to_owned(), "10.0.0.1".to_owned()), ("b".to_owned(), "fd00::1".to_owned())];
        let urls = |templates: &UrlTemplates| -> Vec<String> {
            manager_addresses(&cluster, templates, &pods, false)
                .into_iter()
                .map(|(_, url)| url.to_string())
                .collect()
        };
        assert_eq!(urls(&UrlTemplates::default()), ["http://10.0.0.1:6100/", "http://[fd00::1]:6100/"]);
        let manager = Some("http://127.0.0.1:7000/{namespace}/{cluster}/".into());
        assert_eq!(urls(&UrlTemplates { manager, reader: None }), ["http://127.0.0.1:7000/ns/x/"]);
        let reader =
            |tls| reader_url(&cluster, &UrlTemplates::default(), ("x-reader-0", "10.0.0.2"), tls).unwrap();
        assert_eq!(reader(false).as_str(), "http://10.0.0.2:4001/");
        assert_eq!(reader(true).as_str(), "https://x-reader-0.ns.svc:4001/");
        let managers = manager_addresses(&cluster, &UrlTemplates::default(), &pods, true);
        assert_eq!(managers[0].1.as_str(), "https://10.0.0.1:6100/");
    }

    #[tokio::test]
    async fn an_answer_holds_its_room_for_as_long_as_it_is_kept() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let load = axum::routing::get(async || axum::Json(ClusterLoad::default()));
        let many = vec!["{}"; answers::MAX_READERS + 1].join(",");
        let many = format!(r#"{{"readers":[{many}]}}"#);
        let routes =
            axum::Router::new().route("/load", load).route("/many", axum::routing::get(async move || many));
        tokio::spawn(async move { axum::serve(listener, routes).await });

        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let tokens = OperatorTokens::new(kube::Client::try_from(config).unwrap(), "system", "operator");
        let budget = AnswerBudget::of_mib(DEFAULT_MIB);
        let peers = (PeerClient::default(), budget.clone());
        let managers = Managers::new(peers, UrlTemplates::default(), tokens, &ClusterKey::new("ns", "x"));
        let request =
            |path: &str| managers.peers().client().get(Url::parse(&format!("{url}{path}")).unwrap());
        let load: BudgetedAnswer<ClusterLoad> = managers.send_and_parse(request("load")).await.unwrap();
        let taken = budget.reserved_bytes();
        assert!(taken >= size_of::<ClusterLoad>(), "{taken} bytes are taken");
        let report = load.map(|load| (load, "report"));
        assert_eq!(budget.reserved_bytes(), taken, "it is still kept");
        drop(report);
        assert_eq!(budget.reserved_bytes(), 0);

        let refused = managers.send_and_parse::<ClusterLoad>(request("many")).await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("an array of at most 2000 items"), "{refused}");
        assert_eq!(budget.reserved_bytes(), 0);
    }

    #[test]
    fn only_a_conflict_about_the_term_ends_the_term() {
        let conflict = |body: &str| parse_refusal(StatusCode::CONFLICT, body.as_bytes());
        assert!(matches!(conflict(r#"{"detail":"term 5 has begun","term":5}"#), RequestRefusal::TermOver(_)));
        assert!(matches!(
            conflict(r#"{"detail":"no move was taken","moves":[]}"#),
            RequestRefusal::Refused { .. }
        ));
        let other = parse_refusal(StatusCode::SERVICE_UNAVAILABLE, b"{\"detail\":\"try again\"}");
        assert!(matches!(other, RequestRefusal::Unavailable(_)));
    }
}
