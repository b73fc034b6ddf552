//! Cross-origin requests to public endpoints. Internal endpoints have none of this: no page has business there.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::origins::AllowedOrigins;

/// The longest list of headers that a preflight is answered with: tracing libraries add a few, nobody adds kilobytes.
const MAX_REQUESTED_HEADERS_BYTES: usize = 1024;
/// The headers that are allowed if a preflight request names none.
const DEFAULT_ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, last-event-id, cache-control");

/// Lets pages of allowed origins read the answers, and answers preflights. For `axum::middleware::from_fn_with_state`.
pub async fn answer_cross_origin(
    State(origins): State<Arc<AllowedOrigins>>,
    request: Request,
    next: Next,
) -> Response {
    let (method, asked) = (request.method().clone(), request.headers().clone());
    let preflight = method == Method::OPTIONS && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    if !origins.is_any() {
        // Caches must not show one origin what another was answered.
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    let Some(origin) = allowed_origin(&origins, &asked) else { return response };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("retry-after, location, www-authenticate, x-request-id, traceparent"),
    );
    if origins.allows_credentials() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS"),
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(&asked));
        headers.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
        // Browsers keep this at most two hours; asking again then costs one small request.
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    }
    response
}

/// Returns the value of `Access-Control-Allow-Origin`; `None` if the page may not read the answer.
fn allowed_origin(origins: &AllowedOrigins, asked: &HeaderMap) -> Option<HeaderValue> {
    if origins.is_any() {
        return Some(HeaderValue::from_static("*"));
    }
    asked.get(header::ORIGIN).filter(|origin| origins.allows_origin(origin)).cloned()
}

/// Returns the headers that a preflight request asks for, since tracing libraries add headers of their own to every
/// request, and no header does harm here; a default list if the request names none or too many.
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let names = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let is_list = |names: &&HeaderValue| {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~, ".contains(byte);
        !names.is_empty() && names.len() <= MAX_REQUESTED_HEADERS_BYTES && names.as_bytes().iter().all(fits)
    };
    names.filter(is_list).cloned().unwrap_or(DEFAULT_ALLOWED_HEADERS)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use liverank_protocol::access::ENDPOINTS;
    use tower_service::Service;

    use super::*;

    async fn answer_headers(origins: AllowedOrigins, method: &str, headers: &[(&str, &str)]) -> Response {
        let mut router = Router::new()
            .route("/", get("here"))
            .layer(from_fn_with_state(Arc::new(origins), answer_cross_origin));
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router.call(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    fn listed_origins() -> AllowedOrigins {
        AllowedOrigins::new(&["https://a.test".parse().unwrap()], true).unwrap()
    }

    #[tokio::test]
    async fn a_preflight_allows_what_was_asked_for() {
        let asked = "traceparent, baggage, sentry-trace, x-requested-with, pragma";
        let preflight = [
            ("origin", "https://a.test"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", asked),
        ];
        let response = answer_headers(AllowedOrigins::default(), "OPTIONS", &preflight).await;
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()["access-control-allow-headers"], asked);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
        let odd = [preflight[0], preflight[1], ("access-control-request-headers", "x; y")];
        let response = answer_headers(AllowedOrigins::default(), "OPTIONS", &odd).await;
        assert_eq!(response.headers()["access-control-allow-headers"], DEFAULT_ALLOWED_HEADERS);
    }

    #[tokio::test]
    async fn a_preflight_allows_every_method_of_the_table_of_endpoints() {
        for endpoint in ENDPOINTS {
            let preflight =
                [("origin", "https://a.test"), ("access-control-request-method", endpoint.method)];
            let response = answer_headers(listed_origins(), "OPTIONS", &preflight).await;
            let allowed = response.headers()["access-control-allow-methods"].to_str().unwrap();
            assert!(allowed.split(", ").any(|method| method == endpoint.method), "{endpoint:?}: {allowed}");
        }
    }

    #[tokio::test]
    async fn only_listed_origins_may_read_answers() {
        let response = answer_headers(listed_origins(), "GET", &[("origin", "https://a.test")]).await;
        assert_eq!(response.headers()["access-control-allow-origin"], "https://a.test");
        assert_eq!(response.headers()["access-control-allow-credentials"], "true");
        assert_eq!(response.headers()["vary"], "origin");
        for origin in ["https://b.test", "null"] {
            let preflight = [("origin", origin), ("access-control-request-method", "POST")];
            for (method, headers) in [("GET", &preflight[..1]), ("OPTIONS", &preflight[..])] {
                let response = answer_headers(listed_origins(), method, headers).await;
                assert!(!response.headers().contains_key("access-control-allow-origin"), "{method} {origin}");
                assert_eq!(response.headers()["vary"], "origin");
            }
        }
    }
}
