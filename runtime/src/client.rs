//! The HTTP/1 client that our processes ask each other with: plain, or over TLS as [`PeerTls`] says.
//!
//! It follows no redirects, knows no proxies and decompresses nothing: an address of ours leads to one of ours. Requests are
//! small and whole; answers are read whole or as they come, within one time for all of it.

use std::time::Duration;

use axum::BoxError;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body_util::{BodyDataStream, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::tls::PeerTls;

/// The longest answer to `GET /health` and the longest refusal: they are some hundred bytes.
pub const MAX_SHORT_ANSWER_BYTES: usize = 64 * 1024;
/// The longest answer otherwise: a planner's view of 200,000 videos fits. A longer answer is refused, because this
/// process would have to hold it in memory.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The reason why a request got no answer, or no answer that can be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request could not be built, because its URL, token or body is invalid.
    #[error("the request cannot be sent: {0}")]
    InvalidRequest(String),
    /// No connection could be made: the name is unknown, the connection was refused or not answered, or TLS failed.
    #[error("there is no connection")]
    Connect(#[source] legacy::Error),
    /// The connection ended before the whole answer came.
    #[error("the connection ended")]
    ConnectionLost(#[source] BoxError),
    /// The request took longer than its time limit.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The answer is longer than this limit, in bytes.
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    /// The answer is not JSON of the expected type.
    #[error("an answer that cannot be read")]
    Decode(#[source] serde_json::Error),
}

impl ClientError {
    /// Whether the connection failed in another way than by a timeout, so that probably no process listens at the
    /// address.
    pub fn is_immediate_connect_failure(&self) -> bool {
        matches!(self, Self::Connect(_)) && !self.is_timeout()
    }

    /// Whether an answer came that is too long or is not JSON of the expected type.
    pub const fn is_unreadable_answer(&self) -> bool {
        matches!(self, Self::Decode(_) | Self::TooLong(_))
    }

    fn is_timeout(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut) {
                return true;
            }
            cause = error.source();
        }
        matches!(self, Self::TimedOut(_))
    }
}

/// The settings by which a client makes and keeps its connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionSettings {
    /// The longest time that the server may take to accept a connection; `None` if only the time limit of the request
    /// counts.
    pub connect_timeout: Option<Duration>,
    /// The time for which an unused connection is kept. If `None`, each request makes a connection of its own.
    pub idle_timeout: Option<Duration>,
    /// The time without traffic after which the kernel sends TCP keep-alive probes.
    pub keep_alive: Option<Duration>,
}

/// Returns the connector of all clients: it connects without TLS for `http://`, and with TLS for `https://`.
pub fn https_connector(tls: &PeerTls, connections: ConnectionSettings) -> HttpsConnector<HttpConnector> {
    let mut plain = HttpConnector::new();
    plain.set_connect_timeout(connections.connect_timeout);
    plain.set_nodelay(true);
    plain.set_keepalive(connections.keep_alive);
    plain.enforce_http(false);
    HttpsConnectorBuilder::new()
        .with_tls_config(rustls::ClientConfig::clone(tls.config()))
        .https_or_http()
        .enable_http1()
        .wrap_connector(plain)
}

/// An HTTP client for requests to other processes. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// Makes a client, without any connection yet.
    pub fn new(tls: &PeerTls, connections: ConnectionSettings) -> Self {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        match connections.idle_timeout {
            Some(idle) => builder.pool_idle_timeout(idle).pool_timer(TokioTimer::new()),
            None => builder.pool_max_idle_per_host(0),
        };
        Self(builder.build(https_connector(tls, connections)))
    }

    /// Starts building a `GET` request to `url`.
    pub fn get(&self, url: Url) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Starts building a `POST` request to `url`.
    pub fn post(&self, url: Url) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    fn request(&self, method: Method, mut url: Url) -> RequestBuilder {
        url.set_fragment(None);
        let (client, headers) = (self.clone(), HeaderMap::new());
        RequestBuilder { client, method, url, headers, body: Ok(Bytes::new()), timeout: None }
    }
}

/// A request that is being built.
#[derive(Debug)]
#[must_use = "it has to be sent"]
pub struct RequestBuilder {
    client: Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Result<Bytes, String>,
    timeout: Option<Duration>,
}

impl RequestBuilder {
    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a bearer token.
    pub fn bearer_auth(mut self, token: impl AsRef<str>) -> Self {
        let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", token.as_ref())) else {
            self.body = Err("the token is no text for a header".to_owned());
            return self;
        };
        value.set_sensitive(true);
        self.header(AUTHORIZATION, value)
    }

    /// Sets the body, as JSON.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        if self.body.is_ok() {
            self.body = serde_json::to_vec(body).map(Bytes::from).map_err(|error| error.to_string());
        }
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// Sets the body, with the content type `kind`.
    pub fn body(mut self, kind: HeaderValue, body: Bytes) -> Self {
        if self.body.is_ok() {
            self.body = Ok(body);
        }
        self.header(CONTENT_TYPE, kind)
    }

    /// Sets the longest time until the whole answer has been read; without it, there is no time limit.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request, and returns the answer as soon as its headers have come; the body is read later.
    ///
    /// # Errors
    /// Returns an error if no answer comes.
    pub async fn send(self) -> Result<Response, ClientError> {
        let uri: Uri =
            self.url.as_str().parse().map_err(|error| ClientError::InvalidRequest(format!("{error}")))?;
        let mut request = Request::new(Full::new(self.body.map_err(ClientError::InvalidRequest)?));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        let deadline = RequestDeadline::of(self.timeout);
        let answer = deadline.wait_for(self.client.0.request(request)).await?.map_err(|error| {
            if error.is_connect() {
                ClientError::Connect(error)
            } else {
                ClientError::ConnectionLost(error.into())
            }
        })?;
        let (head, body) = answer.into_parts();
        Ok(Response { status: head.status, headers: head.headers, body, deadline })
    }
}

/// The time at which the whole answer must have been read, with the time limit that it came from; `None` if there is no
/// limit.
#[derive(Debug, Clone, Copy)]
struct RequestDeadline(Option<(Instant, Duration)>);

impl RequestDeadline {
    fn of(timeout: Option<Duration>) -> Self {
        Self(timeout.map(|timeout| (Instant::now() + timeout, timeout)))
    }

    async fn wait_for<T>(self, future: impl Future<Output = T>) -> Result<T, ClientError> {
        match self.0 {
            Some((at, timeout)) => timeout_at(at, future).await.map_err(|_| ClientError::TimedOut(timeout)),
            None => Ok(future.await),
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    deadline: RequestDeadline,
}

impl Response {
    /// Returns the status of the answer.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers of the answer.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the body as a stream of the parts that arrive.
    pub fn bytes_stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + Unpin + 'static {
        let deadline = self.deadline;
        let parts = stream::unfold(Some(BodyDataStream::new(self.body)), move |body| async move {
            let mut body = body?;
            match deadline.wait_for(body.next()).await {
                Ok(Some(Ok(part))) => Some((Ok(part), Some(body))),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(ClientError::ConnectionLost(error.into())), None)),
                Err(late) => Some((Err(late), None)),
            }
        });
        Box::pin(parts)
    }

    /// Returns the whole body, of at most [`MAX_ANSWER_BYTES`].
    ///
    /// # Errors
    /// The errors are those of [`Response::bytes_within`].
    pub async fn bytes(self) -> Result<Vec<u8>, ClientError> {
        self.bytes_within(MAX_ANSWER_BYTES).await
    }

    /// Returns the whole body, of at most `limit` bytes, because the answer may come from another program than
    /// expected.
    ///
    /// # Errors
    /// Returns an error if the body is longer, or does not arrive as a whole.
    pub async fn bytes_within(self, limit: usize) -> Result<Vec<u8>, ClientError> {
        if self.body.size_hint().lower() > limit as u64 {
            return Err(ClientError::TooLong(limit));
        }
        let (mut whole, mut parts) = (Vec::new(), self.bytes_stream());
        while let Some(part) = parts.next().await {
            let part = part?;
            if part.len() > limit - whole.len() {
                return Err(ClientError::TooLong(limit));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    /// Returns the body as text, of at most [`MAX_SHORT_ANSWER_BYTES`]; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// The errors are those of [`Response::bytes_within`].
    pub async fn text(self) -> Result<String, ClientError> {
        let bytes = self.bytes_within(MAX_SHORT_ANSWER_BYTES).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// The errors are those of [`Response::bytes`], and an error if the body is not JSON of this type.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        self.json_within(MAX_ANSWER_BYTES).await
    }

    /// Reads a body of at most `limit` bytes as JSON.
    ///
    /// # Errors
    /// The errors are those of [`Response::bytes_within`], and an error if the body is not JSON of this type.
    pub async fn json_within<T: DeserializeOwned>(self, limit: usize) -> Result<T, ClientError> {
        serde_json::from_slice(&self.bytes_within(limit).await?).map_err(ClientError::Decode)
    }
}
