//! JSON text as a value, and the name of the field that holds a number which no `f64` can hold.
//!
//! JSON knows no largest number, floating point does: `1e400` is JSON, and no `f64`. `serde_json` refuses it without
//! naming the field; this module names it.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::Invalid;

/// The fields that liverank's clients and services send. A wrong number in another field is reported as an error of
/// the `body`.
const KNOWN_FIELDS: [&str; 31] = [
    "video_id",
    "user_id",
    "type",
    "watch_time",
    "timestamp",
    "event_id",
    "owner_id",
    "comment_id",
    "comment",
    "userid",
    "videoid",
    "idempotency_key",
    "reply_to",
    "epoch",
    "instanceId",
    "totalComments",
    "commentsByVideo",
    "activeTopics",
    "topicSubscribers",
    "activeConnections",
    "subscribedTopics",
    "messagesSent",
    "service",
    "registeredVideos",
    "availableReaderApis",
    "registrationCount",
    "videoMappings",
    "clientId",
    "commentsGenerated",
    "commentsConsumed",
    "connectedReader",
];

/// Reads JSON text as a value.
///
/// # Errors
/// The error names the field `body` for text that is not JSON, and for a number that is too large the top-level member
/// that holds the number.
pub fn parse(text: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(text).map_err(|error| match field_with_large_number(text) {
        Some(field) => Invalid::new(field, "must be a number that a 64-bit floating point number can hold"),
        None => Invalid::new("body", format!("is not JSON: {error}")),
    })
}

/// Returns the first known field whose value is JSON with a number that is too large.
fn field_with_large_number(text: &[u8]) -> Option<&'static str> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(text).ok()?;
    let mut unread = members.iter().filter(|(_, raw)| serde_json::from_str::<Value>(raw.get()).is_err());
    unread.find_map(|(name, raw)| {
        let known = KNOWN_FIELDS.iter().find(|field| *field == name)?;
        let error = serde_json::from_str::<Value>(raw.get()).err()?;
        // serde_json's errors differ in their text only.
        error.to_string().starts_with("number out of range").then_some(*known)
    })
}

/// The greatest whole number that common JSON parsers keep exactly, 2^53 − 1.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Reads a whole number, 0 or more. The number may also have a fraction of zero (`7.0`), as JavaScript's arithmetic may
/// write it. Above 2^51, a number with a fraction is rounded to a whole number, because the parser may return the
/// neighbouring float of such a number.
pub fn to_whole_number(value: &Value) -> Option<u64> {
    let from_fraction = || {
        let number = value.as_f64()?;
        let whole = number.round();
        let is_whole = (number - whole).abs() <= number * f64::EPSILON;
        (is_whole && (0.0..=MAX_EXACT_INTEGER).contains(&whole)).then_some(whole as u64)
    };
    value.as_u64().or_else(from_fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_may_be_written_with_a_fraction_of_nothing() {
        let of = |text: &str| to_whole_number(&serde_json::from_str(text).unwrap());
        assert_eq!((of("7"), of("7.0"), of("0.0"), of("-0.0")), (Some(7), Some(7), Some(0), Some(0)));
        // This text is read as the number that is half beside it.
        assert_eq!(of("4259445766152562.0"), Some(4_259_445_766_152_562));
        assert_eq!(of("18446744073709551615"), Some(u64::MAX));
        for other in ["7.5", "-1", "-1.0", "1e300", "9007199254740993.0", "\"7\"", "null"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_number_beyond_f64_names_its_field() {
        for (text, field) in [
            (r#"{"a":1,"watch_time":1e400}"#, "watch_time"),
            (r#"{"timestamp":-1E+999,"video_id":"v"}"#, "timestamp"),
            (r#"{"commentsByVideo":{"v":1e400}}"#, "commentsByVideo"),
            (r#"{"a":1e400}"#, "body"),
            ("1e400", "body"),
            ("[1e400]", "body"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().field, field, "{text}");
        }
        assert!(parse(br#"{"watch_time":1e300}"#).is_ok());
    }

    #[test]
    fn invalid_json_names_the_body() {
        let deep = format!("{{\"watch_time\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let endless = format!("{{\"watch_time\":1e400,\"a\":{}", "[".repeat(100_000));
        for text in [
            "",
            "{",
            "{\"watch_time\":1e",
            "{\"watch_time\":\"\\ud800\"}",
            "{\"watch_time\":NaN}",
            &deep,
            &endless,
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().field, "body", "{text:.40}");
        }
        assert_eq!(parse(b"{\"watch_time\":\"\xff\"}").unwrap_err().field, "body");
    }
}
