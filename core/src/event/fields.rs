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

use super::{
    CommentBody, Interaction, Kind, NEWEST_RECORD_FORMAT, check_time_range, parse_rfc_3339, scan,
    seconds_to_ms,
};
use crate::comment::check_text;
use crate::{CommentId, EventId, Millis, UserId, VideoId, canary};

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
    /// The record format, on records of the log. Clients do not send it, and a client's is ignored.
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
pub(super) fn read_usual(
    json: &[u8],
    now: Millis,
    known: impl FnOnce(&str) -> Option<VideoId>,
) -> Option<Interaction> {
    let mut members = Members::default();
    if scan::scan_members(json, &mut members).is_some() {
        return members.interaction(now, known);
    }
    serde_json::from_slice::<Fields>(json).ok()?.members().interaction(now, known)
}

/// The time of an event as its sender gave it.
#[derive(Clone, Copy)]
pub(super) enum TimeMember<'a> {
    /// Seconds since the Unix epoch.
    Seconds(f64),
    Text(&'a str),
}

/// The members of an event, each of its usual type.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) video_id: Option<&'a str>,
    pub(super) user_id: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) watch_seconds: Option<f64>,
    pub(super) timestamp: Option<TimeMember<'a>>,
    pub(super) event_id: Option<&'a str>,
    pub(super) owner_id: Option<&'a str>,
    pub(super) comment_id: Option<&'a str>,
    pub(super) comment: Option<&'a str>,
    pub(super) reply_to: Option<&'a str>,
    pub(super) format: Option<u64>,
}

impl Members<'_> {
    /// Makes the interaction of these members; `None` if one of them is wrong.
    fn interaction(&self, now: Millis, known: impl FnOnce(&str) -> Option<VideoId>) -> Option<Interaction> {
        if self.format.is_some_and(|format| format > NEWEST_RECORD_FORMAT) {
            return None;
        }
        let kind = Kind::parse(self.kind?).ok()?;
        let comment = match self.comment_id {
            Some(_) if kind != Kind::Comment => return None,
            Some(id) => {
                let text = self.comment?;
                check_text("comment", text).ok()?;
                let (comment_id, text) = (CommentId::parse(id).ok()?, text.to_owned());
                let reply_to = self.reply_to.and_then(|id| CommentId::parse(id).ok());
                Some(CommentBody { comment_id, text, reply_to })
            }
            None => None,
        };
        let watch_ms = match self.watch_seconds {
            Some(seconds) => seconds_to_ms(seconds).ok()?,
            None => 0,
        };
        let timestamp = match self.timestamp {
            Some(TimeMember::Seconds(seconds)) => {
                check_time_range((seconds * 1000.0).round() as Millis).ok()?
            }
            Some(TimeMember::Text(text)) => parse_rfc_3339(text).ok()?,
            None => now,
        };
        let video_id = self.video_id?;
        let read = Interaction {
            video_id: known(video_id).map_or_else(|| VideoId::parse(video_id), Ok).ok()?,
            user_id: UserId::parse(self.user_id?).ok()?,
            kind,
            watch_ms: if kind == Kind::WatchTime { watch_ms } else { 0 },
            timestamp,
            event_id: self.event_id.map(EventId::parse).transpose().ok()?,
            owner_id: self.owner_id.map(UserId::parse).transpose().ok()?,
            comment,
            moderation: None,
        };
        canary::check_event(&read.video_id, &read.user_id, read.owner_id.as_ref()).ok()?;
        Some(read)
    }
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

/// The time of an event: a number or a text.
enum EventTime<'a> {
    /// Seconds since the Unix epoch.
    Seconds(f64),
    Text(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for EventTime<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
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
        deserializer.deserialize_any(Either)
    }
}
