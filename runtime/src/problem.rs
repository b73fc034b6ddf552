//! Errors over HTTP: problem details (RFC 9457), and for the comments seed's endpoints also its `error` member.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use liverank_core::Invalid;
use serde_json::{Value, json};

use crate::request_id;

/// An error as a client sees it.
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

/// What every refusal of our services is sent as.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// How long clients are asked to stay away from a store that is away: long enough not to hammer it, short enough that a
/// restart is hardly noticed.
pub const STORE_RETRY_AFTER: Duration = Duration::from_secs(1);

impl Problem {
    /// An error with what went wrong, in words for the one who sent the request.
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

    /// 503: a part is away; try again after [`STORE_RETRY_AFTER`].
    pub fn part_unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(STORE_RETRY_AFTER)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Asks to stay away for a time, in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.with_retry_after = Some(time.as_secs().max(1));
        self
    }

    /// Says how to show who one is (`WWW-Authenticate`): every 401 does.
    #[must_use]
    pub const fn challenge(mut self, challenge: &'static str) -> Self {
        self.with_challenge = Some(challenge);
        self
    }

    /// Says which content encodings are taken (`Accept-Encoding`): a 415 about another one does.
    #[must_use]
    pub const fn accept_encoding(mut self, codings: &'static str) -> Self {
        self.with_accept_encoding = Some(codings);
        self
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with_member(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.push((member.to_owned(), value.into()));
        self
    }

    /// The status it is sent with.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What went wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The body: problem details, with `error` for clients of the seeds.
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

/// For routers: 404 for a path that nobody serves.
pub async fn no_such_path_problem() -> Problem {
    Problem::not_found("there is nothing at this path; /openapi.json lists what there is")
}

/// For routers: gives the bare 405 that axum answers its body, and keeps its `Allow` header, which a method fallback
/// of axum would leave out.
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
