//! One bad request, with the answer that it must get.

use std::time::Duration;

use liverank_e2e::identity::token;
use liverank_e2e::raw::{self, Answer, request};
use liverank_e2e::up::{PublicPort, Up};
use liverank_protocol::access::CalledService;

/// The length in bytes of an identifier that is one byte too long.
pub const LONG: usize = 257;

/// The number of times that a request is sent which is answered 503.
const MAX_TRIES: usize = 5;
/// The pause after an answer 503: longer than the circuit breakers of the services stay open.
const AWAY_PAUSE: Duration = Duration::from_millis(1_200);

/// One request, with the answer that it must get.
#[derive(Clone)]
pub struct Case {
    /// The public port to which the request goes.
    pub port: PublicPort,
    what: String,
    /// The bytes of the request.
    pub request: Vec<u8>,
    status: u16,
    field: Option<&'static str>,
    allow: Option<&'static str>,
    /// Whether the answer has no body, because the HTTP library itself gives it or because the request is a HEAD.
    bare: bool,
}

/// Returns a case that posts a JSON body.
pub fn json_case(
    door: PublicPort,
    path: &str,
    body: &[u8],
    status: u16,
    field: Option<&'static str>,
) -> Case {
    let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
    let bytes = request("POST", path, &["Content-Type: application/json"], body);
    Case::new(door, &format!("POST {path} {shown}"), bytes, status, field)
}

/// Returns a case that sends a GET without headers and body.
pub fn get_case(door: PublicPort, path: &str, status: u16, field: Option<&'static str>) -> Case {
    let shown: String = path.chars().take(60).collect();
    Case::new(door, &format!("GET {shown}"), request("GET", path, &[], b""), status, field)
}

/// Adds a token to requests to paths of the manager that only our own processes may call, so that a refusal is not for
/// a missing token. Other requests stay as they are.
pub fn authorized(door: PublicPort, request: Vec<u8>) -> Vec<u8> {
    let head = String::from_utf8_lossy(&request[..request.len().min(64)]).into_owned();
    let path = head.split([' ', '?']).nth(1).unwrap_or_default();
    let caller = match path {
        _ if door != PublicPort::Manager => return request,
        "/heartbeat" => "reader/r",
        "/route" => "gateway",
        "/load" | "/plan" | "/overview" | "/what-if" => "cli",
        "/term" | "/moves" | "/cordons" => "operator",
        _ if path.starts_with("/viewers/") => "cli",
        _ => return request,
    };
    let Some(line) = request.windows(2).position(|end| end == b"\r\n") else { return request };
    let shown = format!("Authorization: Bearer {}\r\n", token(caller, CalledService::Manager));
    [&request[..line + 2], shown.as_bytes(), &request[line + 2..]].concat()
}

impl Case {
    /// Creates a request with the status and the field that its answer must have.
    pub fn new(
        port: PublicPort,
        what: &str,
        request: Vec<u8>,
        status: u16,
        field: Option<&'static str>,
    ) -> Self {
        let bare = request.starts_with(b"HEAD ");
        let request = authorized(port, request);
        Self { port, what: what.to_owned(), request, status, field, allow: None, bare }
    }

    /// Expects the answer to name this field.
    pub fn with_field(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// Expects the answer to have this `Allow` header.
    pub fn allowing(self, allow: &'static str) -> Self {
        Self { allow: Some(allow), ..self }
    }

    /// Expects an answer without a body.
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    /// Whether the request is valid and is stored by the server.
    pub fn is_stored(&self) -> bool {
        self.status < 300 && self.request.starts_with(b"POST ") && !self.request.starts_with(b"POST /connect")
    }

    /// Sends the request; returns in words what is wrong with the answer, `None` if nothing is. What a part that is away
    /// for a moment answers (503) is sent again, as often as [`MAX_TRIES`].
    pub async fn wrong(&self, up: &Up) -> Option<String> {
        let mut found = None;
        for _ in 0..MAX_TRIES {
            found = match raw::connect_and_exchange(up.address(self.port), &self.request).await {
                Ok(answer) if answer.status == 503 => {
                    tokio::time::sleep(AWAY_PAUSE).await;
                    Some(format!("503 and not {}", self.status))
                }
                Ok(answer) => return self.named(self.compare_answer(&answer)),
                Err(error) => return self.named(Some(error.to_string())),
            };
        }
        self.named(found)
    }

    fn named(&self, found: Option<String>) -> Option<String> {
        found.map(|found| format!("{:?}: {}: {found}", self.port, self.what))
    }

    fn compare_answer(&self, answer: &Answer) -> Option<String> {
        if answer.status != self.status {
            return Some(format!(
                "{} and not {}: {}",
                answer.status,
                self.status,
                String::from_utf8_lossy(&answer.body)
            ));
        }
        if self.allow.is_some() && answer.header("allow") != self.allow {
            return Some(format!("allows {:?}", answer.header("allow")));
        }
        if self.status < 400 || self.bare {
            return None;
        }
        if answer.header("content-type") != Some("application/problem+json") {
            return Some(format!("content type {:?}", answer.header("content-type")));
        }
        let problem = answer.json();
        let told = problem["type"].is_string()
            && problem["title"].is_string()
            && problem["status"] == self.status
            && problem["detail"].as_str().is_some_and(|detail| !detail.is_empty() && detail.len() < 1000)
            && problem["error"] == problem["detail"];
        let named = problem["field"].as_str() == self.field;
        (!told || !named).then(|| format!("field {:?} expected: {problem}", self.field))
    }
}
