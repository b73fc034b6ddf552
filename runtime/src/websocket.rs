//! The parts of the `WebSocket` protocol (RFC 6455) that the gateway and the service behind it share: which requests
//! are handshakes, and where frames begin and end.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use liverank_core::Invalid;

use crate::Problem;
use crate::origins::AllowedOrigins;

/// The only version of the `WebSocket` protocol.
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");

/// The status of a close frame by which a restarting server asks its clients to connect again (1012, Service Restart).
pub const RESTART_STATUS: u16 = 1012;

/// Checks the request of a `WebSocket` handshake. Returns the client's key, which the answer to the handshake has to
/// confirm.
///
/// # Errors
/// The error is the answer to send if the request is no `WebSocket` handshake, or comes from a page that may not
/// connect.
pub fn check_handshake(request: &Parts, origins: &AllowedOrigins) -> Result<HeaderValue, Box<Response>> {
    let headers = &request.headers;
    let asks = request.method == Method::GET
        && request.version == Version::HTTP_11
        && header_has_word(headers, &header::CONNECTION, "upgrade")
        && header_has_word(headers, &header::UPGRADE, "websocket");
    if !asks || headers.get(header::SEC_WEBSOCKET_VERSION) != Some(&WEBSOCKET_VERSION) {
        return Err(Box::new(upgrade_required_answer()));
    }
    // Browsers let any page open a `WebSocket` and send the page's origin: the server has to refuse.
    if !origins.allows_request(headers) {
        let detail = "pages of this origin may not connect here: see --allowed-origins";
        return Err(Box::new(Problem::new(StatusCode::FORBIDDEN, detail).into_response()));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty());
    key.cloned().ok_or_else(|| Box::new(Problem::from(Invalid::missing("Sec-WebSocket-Key")).into_response()))
}

/// Returns true if one of a header's comma-separated words is `word`, in any case.
fn header_has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let words =
        headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii).any(|found| found.eq_ignore_ascii_case(word.as_bytes()))
}

fn upgrade_required_answer() -> Response {
    let detail = "this is a WebSocket: connect with the handshake of RFC 6455, version 13, over HTTP/1.1";
    let mut response = Problem::new(StatusCode::UPGRADE_REQUIRED, detail).into_response();
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION);
    set_upgrade_headers(response.headers_mut());
    response
}

/// Sets the headers `Connection` and `Upgrade` of a handshake or of its answer; they belong to one hop.
pub fn set_upgrade_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Returns a close frame of a server with this status and no reason.
pub fn close_frame(status: u16) -> Bytes {
    close_frame_with_reason(status, "")
}

/// Returns a close frame of a server with a reason of at most 123 bytes.
pub fn close_frame_with_reason(status: u16, reason: &'static str) -> Bytes {
    debug_assert!(reason.len() <= 123, "a control frame has 125 bytes at most");
    let [high, low] = status.to_be_bytes();
    [&[0x88, 2 + reason.len() as u8, high, low], reason.as_bytes()].concat().into()
}

/// Returns true if a client's close frame may carry this status (RFC 6455, 7.4, later registrations, and the range for
/// applications).
pub const fn is_close_status(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The largest header of a frame, in bytes: two bytes, a length of eight and a mask of four.
const MAX_FRAME_HEADER_BYTES: usize = 14;

/// Follows the frames in a stream of bytes, whatever they carry, so that a frame can be inserted between two of them.
#[derive(Debug, Default)]
pub struct FrameFollower {
    header: [u8; MAX_FRAME_HEADER_BYTES],
    header_bytes_read: usize,
    /// The number of bytes of the current frame's payload that have not passed yet.
    payload_bytes_left: u64,
    /// Whether a close frame has begun, after which no frame may follow.
    is_closing: bool,
}

impl FrameFollower {
    /// Passes bytes up to the end of the current frame, or of the next one if none has begun; returns the number of
    /// bytes that passed.
    pub fn pass_one_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.payload_bytes_left > 0 {
                let some = self.payload_bytes_left.min((bytes.len() - at) as u64);
                self.payload_bytes_left -= some;
                at += some as usize;
            } else {
                self.header[self.header_bytes_read] = bytes[at];
                self.header_bytes_read += 1;
                at += 1;
                if !self.finish_header_if_complete() {
                    continue;
                }
            }
            if self.payload_bytes_left == 0 {
                return at;
            }
        }
        at
    }

    /// Passes all of `bytes`, over any number of frames.
    pub fn pass_all(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += self.pass_one_frame(&bytes[at..]);
        }
    }

    fn finish_header_if_complete(&mut self) -> bool {
        let [first, second, ..] = self.header;
        if self.header_bytes_read < 2 {
            return false;
        }
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if self.header_bytes_read < 2 + extended + mask {
            return false;
        }
        let length =
            self.header[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        self.payload_bytes_left = if extended == 0 { u64::from(second & 0x7f) } else { length };
        self.is_closing |= first & 0x0f == 0x8;
        self.header_bytes_read = 0;
        true
    }

    /// Returns true if the last frame is complete and no other has begun.
    pub const fn is_between_frames(&self) -> bool {
        self.header_bytes_read == 0 && self.payload_bytes_left == 0
    }

    /// Returns true if a close frame has begun or passed.
    pub const fn has_close_frame(&self) -> bool {
        self.is_closing
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn judge_handshake(version: Version, headers: &[(&str, &str)], origins: &AllowedOrigins) -> u16 {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check_handshake(&parts, origins).map_or_else(|refused| refused.status().as_u16(), |_| 101)
    }

    const USUAL_HEADERS: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "foo, WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_handshake_is_of_http_1_1_and_asks_in_both_headers() {
        let any = AllowedOrigins::default();
        assert_eq!(judge_handshake(Version::HTTP_11, &USUAL_HEADERS, &any), 101);
        assert_eq!(judge_handshake(Version::HTTP_10, &USUAL_HEADERS, &any), 426);
        for (left_out, status) in [(0, 426), (1, 426), (2, 426), (3, 400)] {
            let mut headers = USUAL_HEADERS.to_vec();
            headers.remove(left_out);
            assert_eq!(
                judge_handshake(Version::HTTP_11, &headers, &any),
                status,
                "without {}",
                USUAL_HEADERS[left_out].0
            );
        }
        let keep_alive = [("connection", "keep-alive"), USUAL_HEADERS[1], USUAL_HEADERS[2], USUAL_HEADERS[3]];
        assert_eq!(judge_handshake(Version::HTTP_11, &keep_alive, &any), 426);
    }

    #[test]
    fn a_page_has_to_be_of_an_allowed_origin() {
        let listed = AllowedOrigins::new(&["https://a.test".parse().unwrap()], false).unwrap();
        let from = |origin: &'static str| [&USUAL_HEADERS[..], &[("origin", origin)]].concat();
        assert_eq!(judge_handshake(Version::HTTP_11, &from("https://a.test"), &listed), 101);
        assert_eq!(judge_handshake(Version::HTTP_11, &from("https://b.test"), &listed), 403);
        assert_eq!(
            judge_handshake(Version::HTTP_11, &from("https://b.test"), &AllowedOrigins::default()),
            101
        );
        assert_eq!(judge_handshake(Version::HTTP_11, &USUAL_HEADERS, &listed), 101, "no page at all");
    }

    #[test]
    fn frame_ends_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![0x81, 3, b'a', b'b', b'c', 0x89, 0];
        bytes.extend([0x01, 126, 1, 0]);
        bytes.extend([7; 256]);
        bytes.extend([0x80, 0x82, 1, 2, 3, 4, 9, 9]);
        bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend(vec![7; 65_536]);
        let mut ends = Vec::new();
        let (mut frames, mut at) = (FrameFollower::default(), 0);
        while at < bytes.len() {
            at += frames.pass_one_frame(&bytes[at..]);
            assert!(frames.is_between_frames());
            ends.push(at);
        }
        assert_eq!(ends, [5, 7, 267, 275, bytes.len()]);
        for cut in 0..300 {
            let mut frames = FrameFollower::default();
            frames.pass_all(&bytes[..cut]);
            assert_eq!(frames.is_between_frames(), cut == 0 || ends.contains(&cut), "after {cut} bytes");
            frames.pass_all(&bytes[cut..]);
            assert!(frames.is_between_frames() && !frames.has_close_frame());
            frames.pass_all(&close_frame(RESTART_STATUS));
            assert!(frames.is_between_frames() && frames.has_close_frame());
        }
    }

    #[test]
    fn close_statuses_are_checked() {
        for good in [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999] {
            assert!(is_close_status(good), "{good}");
        }
        for bad in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!is_close_status(bad), "{bad}");
        }
    }
}
