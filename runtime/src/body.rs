//! Request bodies: reads a body whole, within a limit of bytes and of time, and parses it as JSON, with an error that
//! says what is wrong.
//!
//! Bodies may be compressed with gzip. The limit of bytes then applies to the decompressed body, too.

use std::error::Error as _;
use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use liverank_core::{Invalid, json};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::problem::STORE_RETRY_AFTER;
use crate::server::connection::UploadLimitReached;
use crate::{Problem, params};

/// The largest body, in bytes, of a request that carries one interaction or one comment: 64 KiB. A comment of 4,096
/// characters fits several times, even if each character is escaped.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The time within which a body has to arrive; one more second is allowed for every [`MIN_BYTES_A_SECOND`] bytes that
/// have arrived. So a half-open connection is ended, and a phone on a bad network can still send its batch.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The slowest upload, in bytes a second, for which the time limit of a body is extended.
const MIN_BYTES_A_SECOND: usize = 16 * 1024;

/// An extractor: the body of a request as a JSON object of at most [`MAX_BODY_BYTES`] that arrived within
/// [`BODY_TIMEOUT`]. The content type must be `application/json` or absent.
#[derive(Debug, Clone)]
pub struct JsonObject(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        expect_json(&parts.headers)?;
        Self::read(&parts.headers, body).await
    }
}

impl JsonObject {
    /// Reads a JSON object from `body`, whatever its content type.
    pub async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        match parse_json_body(&read_body(headers, body, MAX_BODY_BYTES).await?)? {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(Invalid::new("body", "must be a JSON object").into()),
        }
    }
}

/// Refuses members of a body that are not in `known`, with 400 and the member's name. For bodies whose optional members
/// narrow what they do: passed over, a misspelt one would have it done to more than was meant.
pub fn expect_members(body: &Map<String, Value>, known: &[&str]) -> Result<(), Problem> {
    let unknown = body.keys().find(|name| !known.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| Err(params::unknown_name("member of this body", name, known)))
}

/// Refuses a content type other than JSON with 415; an absent content type is accepted as JSON.
pub fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    match content_type(headers) {
        None => Ok(()),
        Some(media) if media == "application/json" => Ok(()),
        Some(media) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("content type {media:?} is not taken here: send application/json"),
        )),
    }
}

/// Returns the content type without its parameters, in lower case; `None` if the header is absent or empty.
pub fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!media.is_empty()).then_some(media)
}

/// Reads the whole body and decompresses it. Refuses a body over `limit` bytes with 413, one that does not arrive in
/// time with 408, an unknown compression with 415, and answers 429 if this process already holds too many bytes of
/// bodies.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let gzip = is_gzip(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large_problem(limit));
    }
    let sent = receive_body(body, limit).await?;
    if gzip { gunzip_bounded(&sent, limit) } else { Ok(sent) }
}

/// Returns true if the headers say that the body is compressed with gzip. Any other compression, or gzip twice, is
/// refused with 415.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut gzip = false;
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    for coding in codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        match coding.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => {}
            b"gzip" | b"x-gzip" if !gzip => gzip = true,
            other => {
                let detail = format!(
                    "content encoding {:?} is not taken here: send gzip, once, or none",
                    String::from_utf8_lossy(other)
                );
                return Err(
                    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).with_accept_encoding("gzip")
                );
            }
        }
    }
    Ok(gzip)
}

fn too_large_problem(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {limit} bytes"))
}

async fn receive_body(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let start = Instant::now();
    let mut whole = BytesMut::new();
    loop {
        let allowed = BODY_TIMEOUT + Duration::from_secs((whole.len() / MIN_BYTES_A_SECOND) as u64);
        let frame = match tokio::time::timeout_at(start + allowed, body.frame()).await {
            Err(_) => {
                let detail = format!("the request's body did not arrive within {} s", allowed.as_secs());
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(frame)) => frame.map_err(|error| broken_body_problem(&error))?,
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(too_large_problem(limit));
        }
        whole.extend_from_slice(&data);
    }
}

/// Returns the problem to answer with if reading a body failed: 429 if `UploadLimitReached` is the cause, else 400.
fn broken_body_problem(error: &axum::Error) -> Problem {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(found) = cause {
        if found.is::<UploadLimitReached>() {
            return Problem::new(StatusCode::TOO_MANY_REQUESTS, "too much is being sent here: try again")
                .with_retry_after(STORE_RETRY_AFTER);
        }
        cause = found.source();
    }
    Invalid::new("body", format!("could not be read: {error}")).into()
}

/// Decompresses `sent`. Never writes more than `limit` bytes (and one byte to notice the excess), however small `sent`
/// is; more is refused with 413.
fn gunzip_bounded(sent: &[u8], limit: usize) -> Result<Bytes, Problem> {
    let mut whole = Vec::with_capacity(sent.len().saturating_mul(4).min(limit));
    let read = MultiGzDecoder::new(sent).take(limit as u64 + 1).read_to_end(&mut whole);
    read.map_err(|error| Invalid::new("body", format!("is not gzip: {error}")))?;
    if whole.len() > limit { Err(too_large_problem(limit)) } else { Ok(whole.into()) }
}

/// Parses JSON text; a text that is not JSON is refused with a problem.
pub fn parse_json_body(text: &[u8]) -> Result<Value, Problem> {
    Ok(json::parse(text)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_json_content_types_are_accepted() {
        assert!(expect_json(&HeaderMap::new()).is_ok());
        let json = headers(header::CONTENT_TYPE, "Application/JSON; charset=utf-8");
        assert!(expect_json(&json).is_ok());
        let refused = expect_json(&headers(header::CONTENT_TYPE, "text/plain")).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_413() {
        let none = HeaderMap::new();
        let refused = read_body(&none, Body::from(vec![0; 65]), 64).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read_body(&none, Body::from(vec![0; 64]), 64).await.unwrap().len(), 64);
        // A body whose announced length is too large is refused before it arrives.
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = read_body(&headers(header::CONTENT_LENGTH, "65"), never, 64).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_408() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = read_body(&HeaderMap::new(), never, 64).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    }

    /// Returns an endless body that sends `bytes` bytes once a second.
    fn dripping_body(bytes: usize) -> Body {
        let drops = futures::stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes])), ()))
        });
        Body::from_stream(drops)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_accepted_and_a_trickling_one_times_out() {
        let start = tokio::time::Instant::now();
        let refused = read_body(&HeaderMap::new(), dripping_body(1), 1024 * 1024).await.unwrap_err();
        assert_eq!((refused.status(), start.elapsed().as_secs()), (StatusCode::REQUEST_TIMEOUT, 10));
        let refused =
            read_body(&HeaderMap::new(), dripping_body(MIN_BYTES_A_SECOND), 1024 * 1024).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE, "a megabyte came through, and then more");
    }

    fn gzipped_body(bytes: &[u8]) -> Body {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        Body::from(encoder.finish().unwrap())
    }

    #[tokio::test]
    async fn a_gzip_body_is_decompressed_within_the_limit() {
        let gzip = headers(header::CONTENT_ENCODING, "GZIP");
        assert_eq!(read_body(&gzip, gzipped_body(b"{\"a\":1}"), 64).await.unwrap(), "{\"a\":1}");
        assert_eq!(read_body(&gzip, gzipped_body(&[b' '; 64]), 64).await.unwrap().len(), 64);
        let bomb = read_body(&gzip, gzipped_body(&vec![b' '; 50_000]), 1000).await.unwrap_err();
        assert_eq!(bomb.status(), StatusCode::PAYLOAD_TOO_LARGE);
        for broken in ["{}", "\x1f\u{8b}"] {
            let refused = read_body(&gzip, Body::from(broken), 64).await.unwrap_err();
            assert_eq!(refused.body()["field"], "body");
        }
        for other in ["br", "gzip, gzip", "deflate"] {
            let refused =
                read_body(&headers(header::CONTENT_ENCODING, other), Body::empty(), 64).await.unwrap_err();
            assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other}");
        }
        assert!(read_body(&headers(header::CONTENT_ENCODING, "identity"), Body::from("x"), 64).await.is_ok());
    }
}
