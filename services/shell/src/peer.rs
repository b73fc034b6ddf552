//! Requests from one of our processes to another.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a peer may take to accept a connection: it is next door.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a peer may take to answer: anything longer helps no viewer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a peer did not answer as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It is away, or answered with an error of its own: another time, or another replica.
    #[error("{0}")]
    Unavailable(String),
    /// It understood and refused.
    #[error("{status}: {detail}")]
    Refused {
        /// Its status, 4xx.
        status: StatusCode,
        /// What it said.
        detail: String,
    },
}

/// A client for our own services. Follows no redirects; connections are kept and shared by all clones.
#[derive(Debug, Clone)]
pub struct Peers(Client);

impl Default for Peers {
    fn default() -> Self {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // Kept a little less long than the server keeps an idle connection, so that none dies in our hands.
            .pool_idle_timeout(Duration::from_secs(8))
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .expect("a client without TLS or proxies can always be built");
        Self(client)
    }
}

impl Peers {
    /// The client itself, for streams.
    pub const fn client(&self) -> &Client {
        &self.0
    }

    /// `GET base/path`.
    pub async fn get<T: DeserializeOwned>(&self, base: &Url, path: &[&str]) -> Result<T, PeerError> {
        answer(self.0.get(join(base, path))).await
    }

    /// `POST base/path` with a JSON body.
    pub async fn post<T: DeserializeOwned>(
        &self,
        base: &Url,
        path: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, PeerError> {
        answer(self.0.post(join(base, path)).json(body)).await
    }
}

/// The replicas of one of our services: the one that answered last is asked first, the others when it is away.
#[derive(Debug, Clone)]
pub struct Replicas {
    peers: Peers,
    urls: Arc<[Url]>,
    preferred: Arc<AtomicUsize>,
}

impl Replicas {
    /// Replicas at `urls`, of which there must be at least one.
    pub fn new(peers: Peers, urls: Vec<Url>) -> Option<Self> {
        (!urls.is_empty()).then(|| Self { peers, urls: urls.into(), preferred: Arc::default() })
    }

    /// Every replica's address.
    pub fn urls(&self) -> &[Url] {
        &self.urls
    }

    /// The client they are asked with.
    pub const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The replica to ask first.
    pub fn preferred(&self) -> &Url {
        &self.urls[self.preferred.load(Relaxed) % self.urls.len()]
    }

    /// From now on, asks another replica first, if `url` still is the preferred one.
    pub fn avoid(&self, url: &Url) {
        let at = self.preferred.load(Relaxed) % self.urls.len();
        if self.urls[at] == *url {
            let _ = self.preferred.compare_exchange(at, (at + 1) % self.urls.len(), Relaxed, Relaxed);
        }
    }

    /// `GET path` of the first replica that is not away.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, PeerError> {
        self.first_answer(|url| self.peers.get(url, path)).await
    }

    /// `POST path` to the first replica that is not away. A replica that was away may have done it all the same.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, PeerError> {
        self.first_answer(|url| self.peers.post(url, path, body)).await
    }

    async fn first_answer<'a, T, F>(&'a self, ask: impl Fn(&'a Url) -> F) -> Result<T, PeerError>
    where
        F: Future<Output = Result<T, PeerError>>,
    {
        let start = self.preferred.load(Relaxed);
        let mut last = PeerError::Unavailable("no replica is configured".into());
        for step in 0..self.urls.len() {
            let at = (start + step) % self.urls.len();
            match ask(&self.urls[at]).await {
                Err(error @ PeerError::Unavailable(_)) => last = error,
                answer => {
                    self.preferred.store(at, Relaxed);
                    return answer;
                }
            }
        }
        Err(last)
    }
}

/// `base` with path segments added, each escaped as it needs.
pub fn join(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, PeerError> {
    let away = |error: reqwest::Error| PeerError::Unavailable(root_cause(&error));
    let response = request.timeout(ANSWER_TIMEOUT).send().await.map_err(away)?;
    let status = response.status();
    if status.is_success() {
        return response.json().await.map_err(away);
    }
    let detail = response.text().await.map_err(away)?;
    if status.is_client_error() {
        Err(PeerError::Refused { status, detail })
    } else {
        Err(PeerError::Unavailable(format!("{status}: {detail}")))
    }
}

/// The innermost reason, which says more than the chain of wrappers around it.
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

    #[test]
    fn segments_are_escaped() {
        let base = Url::parse("http://manager:6000").unwrap();
        assert_eq!(join(&base, &["resolve", "a/b?c"]).as_str(), "http://manager:6000/resolve/a%2Fb%3Fc");
    }
}
