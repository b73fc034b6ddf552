//! Request bodies: read whole within a size and a time, as JSON, with the error that says what is wrong.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use liverank_core::Invalid;
use serde_json::{Map, Value};

use crate::Problem;

/// The largest body of a request that carries one thing: an interaction or a comment of 4,096 characters fits several
/// times, escaped as it may be.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive: a phone on a bad network manages 64 KiB; a half-open connection does not stay.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON object as the body of a request: at most [`MAX_BODY_BYTES`], within [`BODY_TIMEOUT`], of content type
/// `application/json` or none at all.
#[derive(Debug, Clone)]
pub struct JsonObject(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        expect_json(&parts.headers)?;
        match parse(&read(body, MAX_BODY_BYTES).await?)? {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(Invalid::new("body", "must be a JSON object").into()),
        }
    }
}

/// 415 for a content type other than JSON; none at all means JSON.
pub fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    match media_type(headers) {
        None => Ok(()),
        Some(media) if media == "application/json" => Ok(()),
        Some(media) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("content type {media:?} is not taken here: send application/json"),
        )),
    }
}

/// The content type without its parameters, in lower case; `None` where there is none.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!media.is_empty()).then_some(media)
}

/// The whole body: 413 over `limit` bytes, 408 where it does not arrive in time.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    match collected {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request's body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
        )),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {limit} bytes")))
        }
        Ok(Err(error)) => Err(Invalid::new("body", format!("could not be read: {error}")).into()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// JSON text as a value.
pub fn parse(json: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(json).map_err(|error| Invalid::new("body", format!("is not JSON: {error}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        headers
    }

    #[test]
    fn json_or_nothing() {
        assert!(expect_json(&HeaderMap::new()).is_ok());
        assert!(expect_json(&headers("Application/JSON; charset=utf-8")).is_ok());
        let refused = expect_json(&headers("text/plain")).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[tokio::test]
    async fn too_large_is_413() {
        let refused = read(Body::from(vec![0; 65]), 64).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read(Body::from(vec![0; 64]), 64).await.unwrap().len(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_408() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(never, 64).await.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
