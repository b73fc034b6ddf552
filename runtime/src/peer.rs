//! A client for requests from one liverank process to another.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use liverank_protocol::access::CalledService;
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{Client, ClientError, ConnectionSettings, RequestBuilder, Response};
use crate::identity::Identity;
use crate::problem::PROBLEM_CONTENT_TYPE;
use crate::tls::PeerTls;

/// The time within which a peer must accept a connection: a second, because peers are on the same network.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The time within which a peer must answer: an answer that comes later is of no use to a viewer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The time for which an unused connection is kept: a little less than servers keep an idle connection, so that no
/// request is sent on one that the server is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// The flag with the managers' addresses, of every process and command that sends requests to managers.
#[derive(Debug, Clone, clap::Args)]
pub struct ManagerUrls {
    /// Addresses of the managers, comma-separated.
    #[arg(
        long,
        env = "LIVERANK_MANAGER_URL",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://127.0.0.1:6100"
    )]
    pub manager_url: Vec<Url>,
}

/// The reason why a request to a peer failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// The peer did not answer, or answered with a server error: the request may succeed later or at another replica.
    #[error("{0}")]
    Unavailable(String),
    /// The peer understood the request and refused it.
    #[error("{status}: {detail}")]
    Refused {
        /// The status of the peer's answer, 4xx.
        status: StatusCode,
        /// The text of the peer's answer.
        detail: String,
    },
}

/// The shortest time between two renewals of all connections after an answer that was not a liverank service's.
const MIN_CONNECTION_RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// A client for other liverank services. The client follows no redirects; connections are kept and shared by all
/// clones.
///
/// A kept connection leads to the address to which the service's name resolved when it was opened. If that address has
/// since been given to another program, every answer comes at once and is wrong, and nothing would ever close the
/// connection. So after an answer that no liverank service gives, all connections are made anew.
///
/// If the client was made with [`PeerClient::with_token_for`], its requests show this process's token for that service.
/// A client with a token is for configured addresses only. Requests to an address that a peer named carry no token that
/// would be valid elsewhere.
#[derive(Debug, Clone, Default)]
pub struct PeerClient {
    tls: PeerTls,
    pool: Arc<Mutex<ConnectionPool>>,
    shown_identity: Option<(Identity, CalledService)>,
}

#[derive(Debug)]
struct ConnectionPool {
    client: Client,
    created_at: Instant,
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self::new(&PeerTls::default())
    }
}

impl ConnectionPool {
    fn new(tls: &PeerTls) -> Self {
        let connections = ConnectionSettings {
            connect_timeout: Some(CONNECT_TIMEOUT),
            idle_timeout: Some(IDLE_TIMEOUT),
            keep_alive: None,
        };
        Self { client: Client::new(tls, connections), created_at: Instant::now() }
    }
}

impl PeerClient {
    /// Creates a client that connects to services over TLS with the settings `tls`.
    pub fn over_tls(tls: &PeerTls) -> Self {
        Self { tls: tls.clone(), pool: Arc::new(Mutex::new(ConnectionPool::new(tls))), shown_identity: None }
    }

    /// Returns the same client for requests to `service` that show this process's token for that service.
    #[must_use]
    pub fn with_token_for(&self, identity: &Identity, service: CalledService) -> Self {
        Self { shown_identity: Some((identity.clone(), service)), ..self.clone() }
    }

    /// Returns a client for a service to which everybody may send reports. The client shows this process's token only
    /// if no other service accepts that token ([`Identity::has_bound_token`]).
    #[must_use]
    pub fn with_bound_token_for(&self, identity: &Identity, service: CalledService) -> Self {
        if identity.has_bound_token(service) { self.with_token_for(identity, service) } else { self.clone() }
    }

    /// Returns the HTTP client itself, for streams. Ask for it again for each request, because its connections may have
    /// been renewed.
    pub fn client(&self) -> Client {
        self.pool().client.clone()
    }

    /// Returns true if the answer is one of a liverank service, which reports errors as problems (RFC 9457). After any
    /// other answer, this client makes new connections.
    pub fn is_liverank_answer(&self, response: &Response) -> bool {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let ours = response.status().is_success() || kind.is_some_and(|kind| kind == PROBLEM_CONTENT_TYPE);
        if !ours {
            self.renew_connections();
        }
        ours
    }

    fn renew_connections(&self) {
        let mut pool = self.pool();
        if pool.created_at.elapsed() >= MIN_CONNECTION_RENEW_INTERVAL {
            *pool = ConnectionPool::new(&self.tls);
        }
    }

    fn pool(&self) -> MutexGuard<'_, ConnectionPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `GET base/path` and parses the JSON answer.
    pub async fn get<T: DeserializeOwned>(&self, base: &Url, path: &[&str]) -> Result<T, PeerError> {
        self.parse_answer(self.client().get(join_path(base, path))).await
    }

    /// Sends `POST base/path` with a JSON body and parses the JSON answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        base: &Url,
        path: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, PeerError> {
        self.parse_answer(self.client().post(join_path(base, path)).json(body)).await
    }

    async fn parse_answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, PeerError> {
        let away = |error: ClientError| PeerError::Unavailable(root_cause(&error));
        let token = self
            .shown_identity
            .as_ref()
            .and_then(|(identity, service)| identity.authorization_header(*service));
        let request = match token {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        };
        let response = request.timeout(ANSWER_TIMEOUT).send().await.map_err(away)?;
        let (status, ours) = (response.status(), self.is_liverank_answer(&response));
        if status.is_success() {
            return response.json().await.map_err(|error| {
                if error.is_unreadable_answer() {
                    self.renew_connections();
                }
                away(error)
            });
        }
        let detail = response.text().await.map_err(away)?;
        if !ours {
            return Err(PeerError::Unavailable(format!("somebody else answers there: {status}")));
        }
        if status.is_client_error() {
            Err(PeerError::Refused { status, detail })
        } else {
            Err(PeerError::Unavailable(format!("{status}: {detail}")))
        }
    }
}

/// The replicas of one service. The replica that answered last is asked first, the others if it is away. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct ServiceReplicas {
    peers: PeerClient,
    urls: Arc<[Url]>,
    preferred_index: Arc<AtomicUsize>,
}

impl ServiceReplicas {
    /// Creates the list of replicas at `urls`; returns `None` if `urls` is empty.
    pub fn new(peers: PeerClient, urls: Vec<Url>) -> Option<Self> {
        (!urls.is_empty()).then(|| Self { peers, urls: urls.into(), preferred_index: Arc::default() })
    }

    /// Returns the address of every replica.
    pub fn urls(&self) -> &[Url] {
        &self.urls
    }

    /// Returns the client by which the replicas are asked.
    pub const fn peers(&self) -> &PeerClient {
        &self.peers
    }

    /// Returns the address of the replica that is asked first.
    pub fn preferred_url(&self) -> &Url {
        &self.urls[self.preferred_index.load(Relaxed) % self.urls.len()]
    }

    /// Makes the next replica the preferred one, if `url` still is the preferred one.
    pub fn prefer_another_than(&self, url: &Url) {
        let at = self.preferred_index.load(Relaxed) % self.urls.len();
        if self.urls[at] == *url {
            let _ = self.preferred_index.compare_exchange(at, (at + 1) % self.urls.len(), Relaxed, Relaxed);
        }
    }

    /// Sends `GET path` to one replica after the other, and returns the answer of the first one that is not away.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, PeerError> {
        self.first_answer(|url| self.peers.get(url, path), |_| true).await
    }

    /// Sends `POST path` to one replica after the other, until one answers. A replica that gave no answer may have
    /// carried out the request nevertheless.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, PeerError> {
        self.first_answer(|url| self.peers.post(url, path, body), |_| true).await
    }

    /// Sends `POST path` to one replica after the other, until `good` accepts an answer; if it accepts none, returns
    /// the first answer. The replica whose answer is returned is asked first from then on.
    pub async fn post_until_accepted<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &(impl Serialize + Sync),
        good: impl Fn(&T) -> bool,
    ) -> Result<T, PeerError> {
        self.first_answer(|url| self.peers.post(url, path, body), good).await
    }

    async fn first_answer<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a Url) -> F,
        good: impl Fn(&T) -> bool,
    ) -> Result<T, PeerError>
    where
        F: Future<Output = Result<T, PeerError>>,
    {
        let start = self.preferred_index.load(Relaxed);
        let mut away = PeerError::Unavailable("no replica is configured".into());
        let mut second_best = None;
        for step in 0..self.urls.len() {
            let at = (start + step) % self.urls.len();
            match ask(&self.urls[at]).await {
                Err(error @ PeerError::Unavailable(_)) => away = error,
                Ok(answer) if !good(&answer) => second_best = second_best.or(Some((at, answer))),
                // This replica refused, and another one has already answered.
                Err(PeerError::Refused { .. }) if second_best.is_some() => {}
                answer => {
                    self.preferred_index.store(at, Relaxed);
                    return answer;
                }
            }
        }
        let Some((at, answer)) = second_best else { return Err(away) };
        self.preferred_index.store(at, Relaxed);
        Ok(answer)
    }
}

/// Returns `base` with the segments of `path` added, each percent-encoded.
pub fn join_path(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// Returns the text of the innermost cause of `error`, which says more than the wrappers around it.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a server that accepts `answers.len()` connections one after the other, and answers every request on each
    /// with that connection's answer.
    async fn answering_server(answers: Vec<&'static str>) -> Url {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn no_answer_is_read_without_a_bound() {
        use crate::client::MAX_SHORT_ANSWER_BYTES as SHORT;
        /// One that says how long it is, and one that goes on until the connection ends.
        const ANNOUNCED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9000000000\r\n\r\n";
        const REFUSAL: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\n\
                               content-length: 9000000000\r\n\r\n";
        let endless: &'static str =
            Box::leak(format!("HTTP/1.1 200 OK\r\n\r\n{}", "1".repeat(2 * SHORT)).into_boxed_str());
        let peers = PeerClient::default();
        let open = async |answer| {
            let url = answering_server(vec![answer]).await;
            peers.client().get(url).timeout(ANSWER_TIMEOUT).send().await.unwrap()
        };
        for answer in [ANNOUNCED, endless] {
            for failed in [
                open(answer).await.text().await.map(drop),
                open(answer).await.json_within::<u64>(SHORT).await.map(drop),
                open(answer).await.bytes_within(SHORT).await.map(drop),
            ] {
                let error = failed.unwrap_err();
                assert!(
                    matches!(error, ClientError::TooLong(SHORT)) && error.is_unreadable_answer(),
                    "{error}"
                );
            }
        }
        assert!(matches!(open(ANNOUNCED).await.bytes().await, Err(ClientError::TooLong(_))));
        assert!(matches!(open(ANNOUNCED).await.json::<u64>().await, Err(ClientError::TooLong(_))));
        for answer in [ANNOUNCED, REFUSAL] {
            let url = answering_server(vec![answer]).await;
            let Err(PeerError::Unavailable(reason)) = peers.get::<u64>(&url, &["x"]).await else {
                panic!("an answer without an end was read")
            };
            assert!(reason.contains("more than"), "{reason}");
        }
    }

    #[tokio::test]
    async fn connections_are_given_up_after_a_foreign_answer() {
        const FOREIGN_ANSWER: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        const OUR_ANSWER: &str =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n7";
        const REFUSAL: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\n\
            content-length: 2\r\n\r\n{}";
        let peers = PeerClient::default();
        // Makes the pool look as if it had been in use for a while.
        peers.pool().created_at -= MIN_CONNECTION_RENEW_INTERVAL;
        let url = answering_server(vec![FOREIGN_ANSWER, OUR_ANSWER]).await;
        let first: Result<u32, PeerError> = peers.get(&url, &["a"]).await;
        assert!(matches!(first, Err(PeerError::Unavailable(_))), "{first:?}");
        assert_eq!(peers.get::<u32>(&url, &["a"]).await.unwrap(), 7);
        // A refusal by a liverank service is an answer of ours, so the connection is kept.
        let url = answering_server(vec![REFUSAL]).await;
        for _ in 0..2 {
            let refused: Result<u32, PeerError> = peers.get(&url, &["a"]).await;
            assert!(matches!(refused, Err(PeerError::Refused { .. })), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_bad_answer_is_used_only_when_no_replica_has_a_better_one() {
        const ANSWER_ONE: &str =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n1";
        const ANSWER_TWO: &str =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n2";
        const REFUSAL: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\n\
            content-length: 2\r\n\r\n{}";
        let replicas = async |answers: Vec<&'static str>| {
            let mut urls = Vec::new();
            for answer in answers {
                urls.push(answering_server(vec![answer]).await);
            }
            ServiceReplicas::new(PeerClient::default(), urls).unwrap()
        };
        let ask = async |replicas: &ServiceReplicas, wanted: u32| {
            replicas.post_until_accepted::<u32>(&["a"], &(), |answer| *answer == wanted).await.unwrap()
        };
        let both = replicas(vec![ANSWER_ONE, ANSWER_TWO]).await;
        assert_eq!(ask(&both, 2).await, 2);
        assert_eq!(both.preferred_url(), &both.urls()[1], "the better one is asked first from now on");
        assert_eq!(ask(&both, 3).await, 2, "the first answer, where none is good");
        let refused = replicas(vec![ANSWER_ONE, REFUSAL]).await;
        assert_eq!(ask(&refused, 2).await, 1, "an answer is better than a refusal");
    }

    #[test]
    fn path_segments_are_escaped() {
        let base = Url::parse("http://manager:6000").unwrap();
        assert_eq!(join_path(&base, &["resolve", "a/b?c"]).as_str(), "http://manager:6000/resolve/a%2Fb%3Fc");
    }
}
