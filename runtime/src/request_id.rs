//! The id of a request: one word by which the log lines of every process that handled the request can be found.
//!
//! The id comes from the client (`X-Request-Id`, or the trace id of a `traceparent`, W3C Trace Context), or else is
//! made here. The id is passed on to other liverank services in the same header, and is returned in the answer's
//! header, in problem documents (`request_id`) and in every log line of the request.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use liverank_core::comment::to_hex;
use tracing::Instrument;

/// The header that carries the request id, in requests and answers.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// The longest id, in bytes, that is accepted from a client: ids are written to logs.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The id of a request.
#[derive(Clone)]
struct RequestId {
    text: String,
    /// The random bytes of the id if it was made by this process; `None` if the client sent it.
    random_bytes: Option<[u8; 16]>,
}

tokio::task_local! {
    /// The id of the request that is being answered.
    static CURRENT_ID: RequestId;
}

/// Returns the id of the request that is being answered; `None` outside of a request.
pub fn current_id() -> Option<String> {
    CURRENT_ID.try_with(|id| id.text.clone()).ok()
}

/// Returns the random bytes of the current request's id if this process made it, so that nobody outside chose them;
/// else `None`.
pub(crate) fn random_bytes_of_current_id() -> Option<[u8; 16]> {
    CURRENT_ID.try_with(|id| id.random_bytes).ok().flatten()
}

impl RequestId {
    fn random() -> Self {
        let bytes = rand::random::<[u8; 16]>();
        Self { text: to_hex(&bytes), random_bytes: Some(bytes) }
    }
}

/// A middleware: gives each request its id, in its headers, its log lines and its answer.
pub(crate) async fn assign_request_id(mut request: Request, next: Next) -> Response {
    let id = id_from_headers(request.headers())
        .map_or_else(RequestId::random, |text| RequestId { text, random_bytes: None });
    // Every character of an id is allowed in a header.
    let header = HeaderValue::try_from(&id.text).ok();
    if let Some(header) = header.clone() {
        request.headers_mut().insert(REQUEST_ID_HEADER, header);
    }
    let span = tracing::info_span!("request", request_id = id.text);
    let mut response = CURRENT_ID.scope(id, next.run(request).instrument(span)).await;
    if let Some(header) = header {
        response.headers_mut().insert(REQUEST_ID_HEADER, header);
    }
    response
}

/// Returns the id that the client sent. Anybody can write these headers, so an id with characters that could break a
/// log line is ignored.
fn id_from_headers(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let fits = |id: &&str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/=+".contains(&byte);
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(is_plain)
    };
    let own = text(REQUEST_ID_HEADER).filter(fits);
    own.or_else(|| text("traceparent").and_then(trace_id_of)).map(str::to_owned)
}

/// Returns the trace id of a `traceparent` header (`version-trace-parent-flags`); `None` if it is malformed or all
/// zeros.
fn trace_id_of(parent: &str) -> Option<&str> {
    let trace = parent.split('-').nth(1)?;
    let is_hex = trace.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (trace.len() == 32 && is_hex && trace.bytes().any(|byte| byte != b'0')).then_some(trace)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::HeaderName;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower_service::Service as _;

    use super::*;
    use crate::Problem;

    fn id_given_for(name: &'static str, value: &'static str) -> Option<String> {
        id_from_headers(&HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )]))
    }

    #[test]
    fn a_safe_request_id_is_adopted() {
        assert_eq!(id_given_for("x-request-id", "a1-B2_c.3").as_deref(), Some("a1-B2_c.3"));
        for wrong in ["", "a b", "a\"b", "{}"] {
            assert_eq!(id_given_for("x-request-id", wrong), None, "{wrong}");
        }
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(id_given_for("traceparent", trace).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(
            id_given_for("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
            None
        );
        assert_eq!(id_given_for("traceparent", "nonsense"), None);
    }

    #[tokio::test]
    async fn the_request_id_is_in_the_answer_and_in_the_problem() {
        let refused = || async { Problem::not_found("not here") };
        let mut router = Router::new().route("/", get(refused)).layer(from_fn(assign_request_id));
        let request =
            axum::http::Request::builder().uri("/").header("x-request-id", "abc").body(Body::empty());
        let answer = router.call(request.unwrap()).await.unwrap();
        assert_eq!(answer.headers()[REQUEST_ID_HEADER], "abc");
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["request_id"], "abc");
        let request = axum::http::Request::builder().uri("/").body(Body::empty());
        let made = router.call(request.unwrap()).await.unwrap().headers()[REQUEST_ID_HEADER].len();
        assert_eq!((made, current_id()), (32, None));
    }
}
