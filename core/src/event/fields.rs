//! The fast parser of interactions: their members borrowed from the JSON. Reading them this way costs a third of
//! reading a [`serde_json::Value`], and less if [`super::scan`] reads them.
//!
//! This parser accepts usual events only: an object of known members, each at most once, each of its usual type. For
//! anything else it returns `None`, and the caller uses the full parser. So there is one place that reports what is
//! wrong with an event, and nothing can be accepted here that is refused there.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error, Visitor};

use super::interaction::Interaction;
use super::scan;
use super::usual::{Members, TimeMember};
use crate::{Millis, VideoId};

/// The members of a usual event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    video_id: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    watch_time: Option<JsonNumber>,
    #[serde(borrow, default)]
    timestamp: Option<EventTime<'a>>,
    #[serde(borrow, default)]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    owner_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    comment_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    comment: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reply_to: Option<Cow<'a, str>>,
    /// The record format, on records of the log. Clients do not send this member; if one does, the member is ignored.
    #[serde(default)]
    format: Option<u64>,
}

impl Fields<'_> {
    fn members(&self) -> Members<'_> {
        Members {
            video_id: Some(&self.video_id),
            user_id: Some(&self.user_id),
            kind: Some(&self.r#type),
            watch_seconds: self.watch_time.as_ref().map(|number| number.0),
            timestamp: self.timestamp.as_ref().map(|time| match time {
                EventTime::Seconds(seconds) => TimeMember::Seconds(*seconds),
                EventTime::Text(text) => TimeMember::Text(text),
            }),
            event_id: self.event_id.as_deref(),
            owner_id: self.owner_id.as_deref(),
            comment_id: self.comment_id.as_deref(),
            comment: self.comment.as_deref(),
            reply_to: self.reply_to.as_deref(),
            format: self.format,
        }
    }
}

/// Reads a usual event from its bytes. `None` if the event is unusual or malformed. `known` returns ids of videos that
/// were accepted before.
pub(super) fn parse_fast(
    json: &[u8],
    now: Millis,
    known: impl FnOnce(&str) -> Option<VideoId>,
) -> Option<Interaction> {
    let mut members = Members::default();
    if scan::scan_members(json, &mut members).is_some() {
        return members.to_interaction(now, known);
    }
    serde_json::from_slice::<Fields>(json).ok()?.members().to_interaction(now, known)
}

/// A number, read as [`serde_json::Value::as_f64`] would give it.
struct JsonNumber(f64);

impl<'de> Deserialize<'de> for JsonNumber {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match EventTime::deserialize(deserializer)? {
            EventTime::Seconds(seconds) => Ok(Self(seconds)),
            EventTime::Text(_) => Err(D::Error::custom("not a number")),
        }
    }
}

/// The time of an event as a client wrote it: seconds since the Unix epoch, or a text.
enum EventTime<'a> {
    /// Seconds since the Unix epoch.
    Seconds(f64),
    Text(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for EventTime<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventTimeVisitor;
        impl<'de> Visitor<'de> for EventTimeVisitor {
            type Value = EventTime<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number or a text")
            }

            fn visit_u64<E>(self, number: u64) -> Result<EventTime<'de>, E> {
                Ok(EventTime::Seconds(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<EventTime<'de>, E> {
                Ok(EventTime::Seconds(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<EventTime<'de>, E> {
                Ok(EventTime::Seconds(number))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<EventTime<'de>, E> {
                Ok(EventTime::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<EventTime<'de>, E> {
                Ok(EventTime::Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_any(EventTimeVisitor)
    }
}
