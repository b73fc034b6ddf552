//! The opening handshake of RFC 6455, and the errors for requests that are not one.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use liverank_core::Invalid;
use liverank_runtime::Problem;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The only version there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Checks the handshake; answers the connection to come and the response that makes it come.
pub(crate) fn accept(mut request: Request) -> Result<(OnUpgrade, Response), Box<Response>> {
    let headers = request.headers();
    let asks = request.version() == Version::HTTP_11
        && mentions(headers, &header::CONNECTION, "upgrade")
        && mentions(headers, &header::UPGRADE, "websocket");
    if !asks || headers.get(header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(Box::new(upgrade_required()));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).map(derived) else {
        return Err(Box::new(Problem::from(Invalid::missing("Sec-WebSocket-Key")).into_response()));
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, key);
    ask_for_websocket(response.headers_mut());
    Ok((hyper::upgrade::on(&mut request), response))
}

fn derived(key: &HeaderValue) -> HeaderValue {
    let derived = derive_accept_key(key.as_bytes());
    HeaderValue::from_str(&derived).expect("base64 is fit for a header")
}

/// Whether one of a header's comma-separated words is `word`, in any case.
fn mentions(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let words =
        headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii).any(|found| found.eq_ignore_ascii_case(word.as_bytes()))
}

fn upgrade_required() -> Response {
    let detail = "this is a WebSocket: connect with the handshake of RFC 6455, version 13";
    let mut response = Problem::new(StatusCode::UPGRADE_REQUIRED, detail).into_response();
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, VERSION);
    ask_for_websocket(response.headers_mut());
    response
}

fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
