//! The JSON form of a comment as clients see it, defined in this one place for: the answer of `POST /comment`, the
//! items of `GET /comments/{videoid}`, the data of a server-sent event, and the records of the exported topic of
//! comments.
//!
//! The names of the members are those of the comments seed. Times are written as the seed's JavaScript `Date` wrote
//! them: RFC 3339 with milliseconds and `Z`.

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use liverank_core::comment::UnnumberedComment;
use liverank_core::moderation::ActorRole;
use liverank_core::{Comment, CommentId, Millis};
use serde::Serialize;
use serde_json::{Value, json};

use crate::one_line;

/// A comment as it is written to JSON. The members keep this order in the JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommentJson<'a> {
    id: &'a str,
    userid: &'a str,
    videoid: &'a str,
    comment: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
}

/// Returns the JSON form of a comment with its sequence number `seq`, which the history and the streams carry.
pub fn with_seq(comment: &Comment) -> CommentJson<'_> {
    CommentJson {
        id: comment.id.as_str(),
        userid: comment.user_id.as_str(),
        videoid: comment.video_id.as_str(),
        comment: &comment.text,
        timestamp: format_time(comment.timestamp),
        seq: Some(comment.seq),
        reply_to: comment.reply_to.as_ref().map(CommentId::as_str),
    }
}

/// Returns the JSON form of a comment without its sequence number, which is not known yet when a post is answered. The
/// form is that of the comments seed.
pub fn without_seq(comment: &UnnumberedComment) -> CommentJson<'_> {
    CommentJson {
        id: comment.id.as_str(),
        userid: comment.user_id.as_str(),
        videoid: comment.video_id.as_str(),
        comment: &comment.text,
        timestamp: format_time(comment.timestamp),
        seq: None,
        reply_to: comment.reply_to.as_ref().map(CommentId::as_str),
    }
}

/// Returns [`with_seq`] as JSON text on one line: the data of a server-sent event.
pub fn to_event_data(comment: &Comment) -> String {
    one_line::to_json_line(&with_seq(comment))
}

/// Returns the message by which clients learn that `entry` deleted the comment with the id `comment`. `of` is the
/// deleted comment's sequence number, 0 if it is unknown. The message does not name who deleted the comment; it only
/// says whether that was its author or a moderator.
pub fn deletion_message(entry: &Comment, comment: &CommentId, of: u64, role: ActorRole) -> Value {
    let by = if role == ActorRole::Author { "author" } else { "moderator" };
    json!({
        "type": "deleted", "id": comment, "videoid": entry.video_id, "seq": (of > 0).then_some(of), "by": by,
        "timestamp": format_time(entry.timestamp),
    })
}

/// Returns the message by which clients learn which comment is pinned from `entry` on, with the comment's id and
/// sequence number `of` (0 if unknown). `None` as the id means that no comment is pinned any more.
pub fn pin_message(entry: &Comment, comment: Option<&CommentId>, of: u64) -> Value {
    json!({
        "type": "pinned", "id": comment, "videoid": entry.video_id, "seq": (of > 0).then_some(of),
        "timestamp": format_time(entry.timestamp),
    })
}

/// Returns a time as clients read it: `2026-11-22T10:00:00.123Z`. A time before or after the range of the calendar is
/// written as the first or last time of that range.
pub fn format_time(millis: Millis) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    let outside = || if millis < 0 { Timestamp::MIN } else { Timestamp::MAX };
    PRINTER.timestamp_to_string(&Timestamp::from_millisecond(millis).unwrap_or_else(|_| outside()))
}

#[cfg(test)]
mod tests {
    use liverank_core::{UserId, VideoId};

    use super::*;

    fn comment(timestamp: Millis) -> Comment {
        Comment {
            id: CommentId::parse("c1").unwrap(),
            user_id: UserId::parse("ana").unwrap(),
            video_id: VideoId::parse("cat").unwrap(),
            text: "two\nlines \"quoted\"".into(),
            timestamp,
            seq: 7,
            entry: liverank_core::comment::EntryKind::Comment,
            reply_to: None,
        }
    }

    #[test]
    fn event_data_is_one_line_with_the_seed_s_member_names() {
        assert_eq!(
            to_event_data(&comment(1_700_000_000_120)),
            r#"{"id":"c1","userid":"ana","videoid":"cat","comment":"two\nlines \"quoted\"","timestamp":"2023-11-14T22:13:20.120Z","seq":7}"#
        );
    }

    #[test]
    fn a_reply_has_the_id_it_replies_to() {
        let reply = Comment { reply_to: Some(CommentId::parse("c0").unwrap()), ..comment(0) };
        assert!(to_event_data(&reply).ends_with(r#","seq":7,"reply_to":"c0"}"#));
        assert_eq!(serde_json::to_value(without_seq(&reply.into())).unwrap()["reply_to"], "c0");
    }

    #[test]
    fn an_answer_to_a_post_has_no_number() {
        let value = serde_json::to_value(without_seq(&comment(0).into())).unwrap();
        assert!(value.get("seq").is_none());
        assert_eq!(value["timestamp"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_outside_the_calendar_are_clamped() {
        assert_eq!(format_time(253_402_200_000_000), "9999-12-30T20:00:00.000Z");
        assert_eq!(format_time(Millis::MAX), "9999-12-30T22:00:00.999Z");
        assert_eq!(format_time(Millis::MIN), "-009999-01-02T01:59:59.000Z");
    }
}
