//! The members of a usual event, and the interaction that they make.

use super::format::NEWEST_RECORD_FORMAT;
use super::interaction::{CommentBody, Interaction};
use super::kind::Kind;
use super::members::{check_time_range, parse_rfc_3339, seconds_to_ms};
use crate::comment::check_text;
use crate::{CommentId, EventId, Millis, UserId, VideoId, canary};

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
    pub(super) fn to_interaction(
        &self,
        now: Millis,
        known: impl FnOnce(&str) -> Option<VideoId>,
    ) -> Option<Interaction> {
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
