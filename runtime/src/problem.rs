//! Error answers over HTTP: problem details (RFC 9457), with an additional member `error` for clients of the seeds.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use liverank_core::Invalid;
use serde_json::{Value, json};

use crate::request_id;

/// An error answer: its status, its text, and the headers and members that belong to it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<&'static str>,
    with_retry_after: Option<u64>,
    with_challenge: Option<&'static str>,
    with_accept_encoding: Option<&'static str>,
    extra: Vec<(String, Value)>,
}

/// The content type of every error answer of a liverank service.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// The time after which a client is asked to retry if a store is away: long enough not to flood the store, short enough
/// that a restart is hardly noticed.
pub const STORE_RETRY_AFTER: Duration = Duration::from_secs(1);

impl Problem {
    /// Creates an error with this status. `detail` says what went wrong, in words for the client.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
            with_retry_after: None,
            with_challenge: None,
            with_accept_encoding: None,
            extra: Vec::new(),
        }
    }

    /// Creates a 503: a part of the system is away, and the client may retry after [`STORE_RETRY_AFTER`].
    pub fn part_unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(STORE_RETRY_AFTER)
    }

    /// Creates a 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Adds the header `Retry-After` with `time` in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.with_retry_after = Some(time.as_secs().max(1));
        self
    }

    /// Adds the header `WWW-Authenticate`, which says how to authenticate; every 401 has it.
    #[must_use]
    pub const fn challenge(mut self, challenge: &'static str) -> Self {
        self.with_challenge = Some(challenge);
        self
    }

    /// Adds the header `Accept-Encoding` with the content encodings that are accepted; a 415 for an unknown encoding
    /// has it.
    #[must_use]
    pub const fn accept_encoding(mut self, codings: &'static str) -> Self {
        self.with_accept_encoding = Some(codings);
        self
    }

    /// Adds a member to the JSON body.
    #[must_use]
    pub fn with_member(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.push((member.to_owned(), value.into()));
        self
    }

    /// Returns the status of the answer.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the text that says what went wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the JSON body: problem details, and the text once more as `error` for clients of the seeds.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "error": self.detail,
        });
        if let Some(field) = self.field {
            body["field"] = field.into();
        }
        for (member, value) in &self.extra {
            body[member] = value.clone();
        }
        body
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self { field: Some(invalid.field), ..Self::new(StatusCode::BAD_REQUEST, invalid.to_string()) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = self.body();
        if let Some(id) = request_id::current_id() {
            body["request_id"] = id.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        if let Some(seconds) = self.with_retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(codings) = self.with_accept_encoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
        if let Some(challenge) = self.with_challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// The fallback handler of routers: answers 404 for an unknown path.
pub async fn no_such_path_problem() -> Problem {
    Problem::not_found("there is nothing at this path; /openapi.json lists what there is")
}

/// A response layer of routers: replaces the empty body of axum's 405 by a problem, and keeps its `Allow` header, which
/// a method fallback of axum would leave out.
pub async fn no_such_method_problem(response: Response) -> Response {
    let bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if response.status() != StatusCode::METHOD_NOT_ALLOWED || !bare {
        return response;
    }
    let detail = "this path does not take this method; see /openapi.json";
    let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}
