//! Targets for short texts in URLs and headers.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use liverank_core::comment::StreamPosition;
use liverank_core::ids::MAX_ID_BYTES;
use liverank_core::ranking::RankedVideo;
use liverank_core::stream_events::StreamEvents;
use liverank_core::trace::{self, TraceContext};
use liverank_core::{CommentId, EventId, Invalid, ReaderId, UserId, VideoId, canary};
use liverank_gateway::parsers::{cursor_after, read_cursor, without_token};
use liverank_runtime::params::{QueryParams, TOKEN_PARAMETER, last_event_id as sent_last_event_id};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The greatest length of the reason for a refusal, in bytes, whatever was sent: it goes into answers and logs.
const MAX_REASON_BYTES: usize = 1024;

/// Checks that a refusal is short, however long the refused text is.
pub(crate) fn expect_short(refusal: &Invalid) {
    let text = refusal.to_string();
    assert!(text.len() <= MAX_REASON_BYTES, "a refusal of {} bytes: {text:.200}", text.len());
}

/// Returns the bytes as text; invalid UTF-8 is replaced.
pub(crate) fn lossy_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn id(bytes: &[u8]) {
    let text = lossy_text(bytes);
    let read = VideoId::parse(&text);
    let others = [
        UserId::parse(&text).is_ok(),
        EventId::parse(&text).is_ok(),
        CommentId::parse(&text).is_ok(),
        ReaderId::parse(&text).is_ok(),
    ];
    assert_eq!(others, [read.is_ok(); 4], "identifiers are of one form");
    // Any bytes may come as a member of JSON.
    let _ = serde_json::from_slice::<VideoId>(bytes);
    let id = match read {
        Ok(id) => id,
        Err(refusal) => return expect_short(&refusal),
    };
    assert!(id.as_str() == text && (1..=MAX_ID_BYTES).contains(&text.len()));
    assert!(!text.chars().any(char::is_control));
    assert_eq!(canary::parse_outside_id("video_id", &text).is_ok(), text != canary::CANARY_ID);
    let json = serde_json::to_vec(&id).expect("an id is JSON");
    assert_eq!(serde_json::from_slice::<VideoId>(&json).expect("what was written"), id);
    let uri: Uri =
        format!("/p?videoid={}", utf8_percent_encode(&text, NON_ALPHANUMERIC)).parse().expect("a URI");
    assert_eq!(
        QueryParams::from_uri(&uri).optional_text("videoid").expect("it is UTF-8"),
        Some(text.as_str())
    );
}

pub(crate) fn last_event_id(bytes: &[u8]) {
    match StreamPosition::parse(&lossy_text(bytes)) {
        Ok(position) => assert_eq!(StreamPosition::parse(&position.to_string()), Ok(position)),
        Err(refusal) => expect_short(&refusal),
    }
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers = HeaderMap::from_iter([(header::HeaderName::from_static("last-event-id"), value)]);
    let sent = sent_last_event_id(&headers, &QueryParams::default());
    assert_eq!(sent.is_some(), !bytes.is_empty());
    assert!(sent.is_none_or(|sent| sent.len() <= 3 * bytes.len()), "each byte is replaced by three at most");
}

pub(crate) fn query(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from([b"/path?", bytes].concat()) else { return };
    let params = QueryParams::from_uri(&uri);
    for name in ["videoid", "limit", "last_event_id"] {
        let read = [
            params.optional_text(name).map(drop),
            params.required_text(name).map(drop),
            params
                .optional_number(name, 1..=1000)
                .map(|number| assert!(number.is_none_or(|it| (1..=1000).contains(&it)))),
            params.optional_flag(name).map(drop),
        ];
        read.iter().filter_map(|it| it.as_ref().err()).for_each(expect_short);
    }
    if let Err(problem) = params.expect_only(&["videoid", "limit"]) {
        assert!(problem.detail().len() <= MAX_REASON_BYTES, "{}", problem.detail());
    }
    let _ = sent_last_event_id(&HeaderMap::new(), &params);
    let _ = StreamEvents::parse(params.lossy_text("events"));
    // A query that is passed on to another service has no token, and its other parameters are unchanged.
    let without = QueryParams::from_uri(&without_token(&uri).expect("a part of an address is one"));
    assert_eq!(without.lossy_text(TOKEN_PARAMETER), None);
    for name in ["videoid", "limit"] {
        assert_eq!(without.lossy_text(name), params.lossy_text(name));
    }
}

pub(crate) fn cursor(bytes: &[u8]) {
    let read = match read_cursor(&lossy_text(bytes)) {
        Ok(read) => read,
        Err(refusal) => {
            assert_eq!(refusal.field, "cursor");
            return expect_short(&refusal);
        }
    };
    let user_id = UserId::parse("owner").expect("an id");
    let last = RankedVideo { video_id: read.video_id.clone(), score: read.score, user_id };
    let again = read_cursor(&cursor_after(&last)).expect("what was written");
    assert_eq!(again.video_id, read.video_id);
    assert_eq!(again.score.to_bits(), read.score.to_bits());
}

pub(crate) fn traceparent(bytes: &[u8]) {
    if let Some(read) = TraceContext::parse(bytes) {
        assert!(
            bytes.len() <= trace::MAX_TRACEPARENT_BYTES && read.trace_id != [0; 16] && read.span_id != [0; 8]
        );
        assert_eq!(TraceContext::parse(read.to_string().as_bytes()), Some(read));
    }
    if let Ok(read) = serde_json::from_slice::<TraceContext>(bytes) {
        let written = serde_json::to_vec(&read).expect("it is JSON");
        assert_eq!(serde_json::from_slice::<TraceContext>(&written).ok(), Some(read));
    }
}
