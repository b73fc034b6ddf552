//! The members of a JSON object that is an event, each read by itself: the error names the member that is wrong.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{CommentId, Invalid, Millis};

/// The longest watch time that one event may have, in seconds: one day.
pub const MAX_WATCH_SECONDS: f64 = 86_400.0;

/// Returns the string in the member `field` of `object`; an error if it is absent, null or no string.
pub fn required_text<'a>(object: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, Invalid> {
    optional_text(object, field)?.ok_or_else(|| missing_field(object, field))
}

/// The names that the two seeds use for the same two fields: a sender who mixes them up is told which name to use.
const FIELD_ALIASES: [(&str, &str); 2] = [("user_id", "userid"), ("video_id", "videoid")];

fn missing_field(object: &Map<String, Value>, field: &'static str) -> Invalid {
    let twins = FIELD_ALIASES.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]);
    let mut others = twins.filter(|(name, other)| *name == field && object.contains_key(*other));
    match others.next() {
        Some((_, other)) => {
            Invalid::new(field, format!("is required: here it is called {field}, not {other}"))
        }
        None => Invalid::missing(field),
    }
}

/// Returns the string in the member `field` of `object`; `None` if it is absent or null, an error if it is no string.
pub fn optional_text<'a>(
    object: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a str>, Invalid> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::new(field, "must be a string")),
    }
}

/// Returns the comment that a comment replies to; `None` if the member is no valid id. Before liverank had replies,
/// the member was ignored whatever its value, so old logs may still hold invalid ones. New ones are refused by the
/// comment service, before they get into the log.
pub(super) fn parse_reply_to(object: &Map<String, Value>) -> Option<CommentId> {
    CommentId::parse(object.get("reply_to")?.as_str()?).ok()
}

pub(super) fn parse_watch_ms(object: &Map<String, Value>) -> Result<Option<u64>, Invalid> {
    match object.get("watch_time") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds =
                value.as_f64().ok_or_else(|| Invalid::new("watch_time", "must be a number of seconds"))?;
            seconds_to_ms(seconds).map(Some)
        }
    }
}

/// Converts seconds of watching to milliseconds; refuses less than 0 and more than one day.
pub(super) fn seconds_to_ms(seconds: f64) -> Result<u64, Invalid> {
    if !seconds.is_finite() || !(0.0..=MAX_WATCH_SECONDS).contains(&seconds) {
        return Err(Invalid::new("watch_time", "must be 0 to 86400 seconds"));
    }
    Ok((seconds * 1000.0).round() as u64)
}

/// The first millisecond after the years of four digits: the begin of the year 10000.
const YEAR_10000: Millis = 253_402_300_800_000;

/// Reads the timestamp: Unix seconds (integer or fractional) or RFC 3339, in the years 1970 to 9999.
pub(super) fn parse_timestamp(object: &Map<String, Value>) -> Result<Option<Millis>, Invalid> {
    match object.get("timestamp") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(seconds)) => {
            let seconds = seconds.as_f64().ok_or_else(invalid_timestamp)?;
            check_time_range((seconds * 1000.0).round() as Millis).map(Some)
        }
        Some(Value::String(text)) => parse_rfc_3339(text).map(Some),
        Some(_) => Err(invalid_timestamp()),
    }
}

fn invalid_timestamp() -> Invalid {
    Invalid::new("timestamp", "must be Unix seconds or an RFC 3339 time, from 1970 to 9999")
}

pub(super) fn parse_rfc_3339(text: &str) -> Result<Millis, Invalid> {
    check_time_range(text.parse::<Timestamp>().map_err(|_| invalid_timestamp())?.as_millisecond())
}

pub(super) fn check_time_range(millis: Millis) -> Result<Millis, Invalid> {
    if (0..YEAR_10000).contains(&millis) { Ok(millis) } else { Err(invalid_timestamp()) }
}
