//! What the operator says to managers and readers over HTTP, and who it is to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use hmac::{Hmac, Mac};
use liverank_core::comment::hex;
use liverank_protocol::roles::Role;
use liverank_protocol::{CordonRequest, Cordons, CordonsRequest, Load, MoveRequest, MovesRequest, TermState};
use liverank_runtime::peer::{Peers, join, root_cause};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::lease::Held;
use super::store::Key;

/// How long an answer may take. Managers answer from memory; a load that comes later is none to plan by.
const ANSWER: Duration = Duration::from_secs(3);
/// The longest answer taken: 30,000 videos and 500 readers with ids of usual length, twice over.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of answers in memory at once, over all clusters: what one cluster's managers send takes no memory from others
/// for longer than an answer may take.
const MAX_BYTES_AT_ONCE: usize = 64 * 1024 * 1024;
/// Text of a refusal that is shown.
const MOST_TEXT: usize = 500;
/// Orders in one request: managers take 8 MiB.
pub const MAX_MOVES: usize = 1_000;

/// Why somebody did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// No answer, or one of its own trouble.
    #[error("{0}")]
    Away(String),
    /// Another planner is in office, or none of this term ever was.
    #[error("the term is over: {0}")]
    Term(String),
    /// It understood, and will not.
    #[error("{status}: {detail}")]
    Refused {
        /// 4xx.
        status: StatusCode,
        /// Its words.
        detail: String,
    },
}

/// The key that the tokens of all clusters are made with: the chart makes it and mounts it into operators only.
#[derive(Clone)]
pub struct OrderKey(Vec<u8>);

impl OrderKey {
    /// The key in `bytes`; a trailing line end belongs to the editor.
    ///
    /// # Errors
    /// A key that is too short to be one.
    pub fn new(bytes: &[u8]) -> anyhow::Result<Self> {
        let key = bytes.trim_ascii_end();
        anyhow::ensure!(key.len() >= 32, "the key for orders must have at least 32 bytes");
        Ok(Self(key.to_vec()))
    }

    /// The token for one cluster's managers: what one cluster's managers learn says nothing about another's.
    pub fn token(&self, cluster: &Key, uid: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        mac.update(format!("{}/{}/{uid}", cluster.namespace, cluster.name).as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// What the managers know the token by.
    pub fn token_sha256(&self, cluster: &Key, uid: &str) -> String {
        hex(&Sha256::digest(self.token(cluster, uid)))
    }
}

/// Where managers and readers are, for a process outside of their Kubernetes.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    /// With `{cluster}` and `{namespace}`.
    pub manager: Option<String>,
    /// With `{reader}` and `{namespace}`.
    pub reader: Option<String>,
}

/// What all clusters' answers may take of memory while they are read. Clones share it.
#[derive(Clone)]
pub struct AnswerBudget(Arc<Semaphore>);

impl Default for AnswerBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BYTES_AT_ONCE)))
    }
}

impl AnswerBudget {
    /// Room for so many bytes, where there is some in time.
    async fn take(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = timeout(ANSWER, self.0.acquire_many(bytes)).await;
        room.ok()
            .and_then(Result::ok)
            .ok_or_else(|| Refusal::Away("too many answers are being read at once".into()))
    }
}

/// The client of one cluster's managers and readers.
#[derive(Clone)]
pub struct Managers {
    peers: Peers,
    budget: AnswerBudget,
    templates: Templates,
    cluster: Key,
    token: String,
}

impl Managers {
    /// For `cluster`, whose object has this `uid`.
    pub fn new(
        (peers, budget): (Peers, AnswerBudget),
        templates: Templates,
        key: &OrderKey,
        cluster: &Key,
        uid: &str,
    ) -> Self {
        Self { peers, budget, templates, cluster: cluster.clone(), token: key.token(cluster, uid) }
    }

    /// The managers by name: each pod by its address, or all through their Service.
    pub fn addresses(&self, pods: &[(String, String)]) -> Vec<(String, Url)> {
        let service = format!("{}-manager", self.cluster.name);
        if let Some(template) = &self.templates.manager {
            let url = template
                .replace("{cluster}", &self.cluster.name)
                .replace("{namespace}", &self.cluster.namespace);
            return Url::parse(&url).map(|url| vec![(service, url)]).unwrap_or_default();
        }
        let port = Role::Manager.port().unwrap_or_default();
        let address = |ip: &str| {
            if ip.contains(':') { format!("http://[{ip}]:{port}") } else { format!("http://{ip}:{port}") }
        };
        let pods = pods.iter().filter_map(|(name, ip)| Some((name.clone(), Url::parse(&address(ip)).ok()?)));
        pods.collect()
    }

    fn reader(&self, reader: &str) -> Option<Url> {
        let template = self.templates.reader.as_deref().unwrap_or("http://{reader}.{namespace}:4001");
        Url::parse(&template.replace("{reader}", reader).replace("{namespace}", &self.cluster.namespace)).ok()
    }

    /// `GET /load`; `detail`: with all assignments.
    pub async fn load(&self, manager: &Url, detail: bool) -> Result<Load, Refusal> {
        let mut url = join(manager, &["load"]);
        url.set_query(Some(if detail { "assignments=true" } else { "assignments=false" }));
        self.answer(self.peers.client().get(url)).await
    }

    /// Begins a term, fenced by the Lease that this planner holds.
    pub async fn begin_term(&self, manager: &Url, holder: &str, held: &Held) -> Result<TermState, Refusal> {
        let lease = json!({ "uid": held.uid, "transitions": held.transitions });
        self.post(manager, "term", &json!({ "holder": holder, "lease": lease })).await
    }

    /// Shows that the planner of `term` is still there.
    pub async fn renew_term(&self, manager: &Url, holder: &str, term: u64) -> Result<TermState, Refusal> {
        self.post(manager, "term", &json!({ "holder": holder, "renew": term })).await
    }

    /// Closes readers, or opens them again.
    pub async fn cordon(
        &self,
        manager: &Url,
        term: u64,
        cordons: Vec<CordonRequest>,
    ) -> Result<Cordons, Refusal> {
        self.post(manager, "cordons", &CordonsRequest { term, cordons }).await
    }

    /// Orders moves. A manager that took none of them for what is true by now did all that was asked.
    pub async fn order(&self, manager: &Url, term: u64, moves: Vec<MoveRequest>) -> Result<(), Refusal> {
        self.post::<Value>(manager, "moves", &MovesRequest { term, moves }).await.map(drop)
    }

    /// Viewers connected, as the reader itself says.
    pub async fn viewers(&self, reader: &str) -> Result<u64, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Own {
            active_connections: u64,
        }
        let url = self.reader(reader).ok_or_else(|| Refusal::Away("it has no address".into()))?;
        let own: Own = self.answer(self.peers.client().get(join(&url, &["health"]))).await?;
        Ok(own.active_connections)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        manager: &Url,
        path: &str,
        body: &(impl serde::Serialize + Sync),
    ) -> Result<T, Refusal> {
        let request = self.peers.client().post(join(manager, &[path])).bearer_auth(&self.token).json(body);
        self.answer(request).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Refusal> {
        let away = |error: reqwest::Error| Refusal::Away(root_cause(&error));
        let response = request.timeout(ANSWER).send().await.map_err(away)?;
        let status = response.status();
        if !self.peers.is_ours(&response) {
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
        Err(refusal(status, &body))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail =
        problem["detail"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let detail: String = detail.chars().take(MOST_TEXT).collect();
    match status {
        // Moves that were all refused for other reasons name them one by one; that is no trouble with the term.
        StatusCode::CONFLICT if problem.get("moves").is_some() => Refusal::Refused { status, detail },
        StatusCode::CONFLICT => Refusal::Term(detail),
        _ if status.is_client_error() => Refusal::Refused { status, detail },
        _ => Refusal::Away(format!("{status}: {detail}")),
    }
}

/// The key in `file`.
///
/// # Errors
/// A file that cannot be read, or holds no key.
pub fn read_key(file: &std::path::Path) -> anyhow::Result<OrderKey> {
    let bytes = std::fs::read(file)
        .with_context(|| format!("the key for orders {} cannot be read", file.display()))?;
    OrderKey::new(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OrderKey {
        OrderKey::new(&[b'k'; 32]).unwrap()
    }

    #[test]
    fn each_cluster_has_a_token_of_its_own_and_a_line_end_makes_no_other_key() {
        let x = Key::new("ns", "x");
        let token = key().token(&x, "1");
        assert_eq!(token.len(), 64);
        assert_ne!(token, key().token(&x, "2"));
        assert_ne!(token, key().token(&Key::new("other", "x"), "1"));
        let with_line_end = OrderKey::new(format!("{}\n", "k".repeat(32)).as_bytes()).unwrap();
        assert_eq!(token, with_line_end.token(&x, "1"));
        assert_ne!(key().token_sha256(&x, "1"), token);
        assert!(OrderKey::new(b"short").is_err());
    }

    #[test]
    fn managers_are_reached_one_by_one_or_where_a_test_has_them() {
        let of = |templates| Managers::new(Default::default(), templates, &key(), &Key::new("ns", "x"), "1");
        let pods = [("a".to_owned(), "10.0.0.1".to_owned()), ("b".to_owned(), "fd00::1".to_owned())];
        let urls = |managers: &Managers| -> Vec<String> {
            managers.addresses(&pods).into_iter().map(|(_, url)| url.to_string()).collect()
        };
        assert_eq!(urls(&of(Templates::default())), ["http://10.0.0.1:6100/", "http://[fd00::1]:6100/"]);
        let manager = Some("http://127.0.0.1:7000/{namespace}/{cluster}/".into());
        assert_eq!(urls(&of(Templates { manager, reader: None })), ["http://127.0.0.1:7000/ns/x/"]);
        let reader = of(Templates::default()).reader("x-reader-0").unwrap();
        assert_eq!(reader.as_str(), "http://x-reader-0.ns:4001/");
    }

    #[test]
    fn only_a_conflict_about_the_term_ends_the_term() {
        let conflict = |body: &str| refusal(StatusCode::CONFLICT, body.as_bytes());
        assert!(matches!(conflict(r#"{"detail":"term 5 has begun","term":5}"#), Refusal::Term(_)));
        assert!(matches!(conflict(r#"{"detail":"no move was taken","moves":[]}"#), Refusal::Refused { .. }));
        let other = refusal(StatusCode::SERVICE_UNAVAILABLE, b"{\"detail\":\"try again\"}");
        assert!(matches!(other, Refusal::Away(_)));
    }
}
