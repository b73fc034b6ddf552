//! The opening handshake of RFC 6455.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::websocket::{check_handshake, set_upgrade_headers};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Checks the opening handshake. Returns the future connection and the response that makes the client switch protocols,
/// or the response that refuses the handshake.
pub(crate) fn accept(
    request: Request,
    origins: &AllowedOrigins,
) -> Result<(OnUpgrade, Response), Box<Response>> {
    let (parts, body) = request.into_parts();
    let key = check_handshake(&parts, origins)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let derived =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is fit for a header");
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, derived);
    set_upgrade_headers(response.headers_mut());
    Ok((hyper::upgrade::on(Request::from_parts(parts, body)), response))
}
