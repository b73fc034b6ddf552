//! Error answers over HTTP: problem details (RFC 9457), with an additional member `error` for clients of the seeds.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use liverank_core::Invalid;
use liverank_protocol::access::CalledService;
use serde_json::{Value, json};

use crate::request_id;

/// An error answer: its status, its text, and the headers and members that belong to it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<&'static str>,
    retry_after_seconds: Option<u64>,
    challenge: Option<&'static str>,
    accept_encoding: Option<&'static str>,
    extra_members: Vec<(String, Value)>,
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
            retry_after_seconds: None,
            challenge: None,
            accept_encoding: None,
            extra_members: Vec::new(),
        }
    }

    /// Creates a 503: a part of the system is away, and the client may retry after [`STORE_RETRY_AFTER`].
    pub fn part_unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_retry_after(STORE_RETRY_AFTER)
    }

    /// Creates a 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Adds the header `Retry-After` with `time` in whole seconds, at least one.
    #[must_use]
    pub fn with_retry_after(mut self, time: Duration) -> Self {
        self.retry_after_seconds = Some(time.as_secs().max(1));
        self
    }

    /// Adds the header `WWW-Authenticate`, which says how to authenticate; every 401 has it.
    #[must_use]
    pub const fn with_challenge(mut self, challenge: &'static str) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// Adds the header `Accept-Encoding` with the content encodings that are accepted; a 415 for an unknown encoding
    /// has it.
    #[must_use]
    pub const fn with_accept_encoding(mut self, codings: &'static str) -> Self {
        self.accept_encoding = Some(codings);
        self
    }

    /// Adds a member to the JSON body.
    #[must_use]
    pub fn with_member(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra_members.push((member.to_owned(), value.into()));
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
        for (member, value) in &self.extra_members {
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
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(codings) = self.accept_encoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// The owner of a port, which the answer for an unknown path names: most such requests were meant for another port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortOwner {
    /// A service's port for requests.
    Service(CalledService),
    /// The admin port of a process.
    Admin,
    /// The port on which the operator converts resources for the API server.
    Webhook,
}

/// Returns the 404 for an unknown path at a port.
pub fn no_such_path_problem(owner: PortOwner) -> Problem {
    const CLIENT_PATHS_HINT: &str = "a gateway (port 8080 unless set) has every path for clients";
    let here = match owner {
        PortOwner::Service(CalledService::Gateway) => "/openapi.json lists what there is".to_owned(),
        PortOwner::Service(service) => format!("this is the {} service; {CLIENT_PATHS_HINT}", service.name()),
        PortOwner::Admin => {
            format!(
                "this is an admin port, which has /livez, /readyz, /health and /metrics; {CLIENT_PATHS_HINT}"
            )
        }
        PortOwner::Webhook => "this is the operator's conversion webhook".to_owned(),
    };
    Problem::not_found(format!("there is nothing at this path; {here}"))
}

/// A response layer of routers: replaces the empty body of axum's 405 by a problem, and keeps its `Allow` header, which
/// a method fallback of axum would leave out.
pub async fn no_such_method_problem(response: Response) -> Response {
    let bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if response.status() != StatusCode::METHOD_NOT_ALLOWED || !bare {
        return response;
    }
    let detail = "this path does not take this method; the header Allow lists those that it takes";
    let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_is_answered_with_the_owner_of_the_port_and_only_a_gateway_has_the_document() {
        for service in [
            CalledService::Websocket,
            CalledService::Comment,
            CalledService::Reader,
            CalledService::Manager,
            CalledService::Statistics,
        ] {
            let said = no_such_path_problem(PortOwner::Service(service)).detail;
            assert!(said.contains(&format!("this is the {} service", service.name())), "{said}");
            assert!(said.contains("a gateway (port 8080") && !said.contains("openapi"), "{said}");
        }
        let admin = no_such_path_problem(PortOwner::Admin).detail;
        assert!(
            admin.contains("admin port") && admin.contains("/readyz") && !admin.contains("openapi"),
            "{admin}"
        );
        let gateway = no_such_path_problem(PortOwner::Service(CalledService::Gateway)).detail;
        assert!(gateway.contains("/openapi.json lists"), "{gateway}");
    }
}
