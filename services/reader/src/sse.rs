//! The bytes of the server-sent events of a comment stream, each encoded once.

use std::fmt::Write;

use bytes::Bytes;
use liverank_core::comment::{Comment, CommentEpoch, StreamPosition};
use liverank_core::moderation::ActorRole;
use liverank_core::{CommentId, UserId, VideoId};
use liverank_runtime::{comment_json, one_line};
use serde_json::json;

/// The comment line that an idle viewer is sent, so that the viewer and every proxy on the way know that the stream is
/// alive.
pub const HEARTBEAT_LINE: Bytes = Bytes::from_static(b":\n\n");

/// The kind of client that reads a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamForm {
    /// The client resumes by the last event id (`GET`).
    Resuming,
    /// The client counts every data line as a comment and cannot resume, like the comments seed's client (`POST`).
    Plain,
}

/// Encodes one comment as an event.
pub fn comment_event(numbering: &CommentEpoch, comment: &Comment) -> Bytes {
    format!("id: {numbering}-{}\ndata: {}\n\n", comment.seq, comment_json::to_event_data(comment)).into()
}

/// Encodes an event with only an id, for an entry that is not shown, so that the viewer knows that it has received this
/// sequence number.
pub fn id_only_event(numbering: &CommentEpoch, seq: u64) -> Bytes {
    format!("id: {numbering}-{seq}\n\n").into()
}

/// Encodes the event that a comment was removed ([`comment_json::deletion_message`]).
pub fn deleted_event(
    numbering: &CommentEpoch,
    entry: &Comment,
    comment: &CommentId,
    of: u64,
    role: ActorRole,
) -> Bytes {
    let data = one_line::to_json_line(&comment_json::deletion_message(entry, comment, of, role));
    format!("event: deleted\nid: {numbering}-{}\ndata: {data}\n\n", entry.seq).into()
}

/// Encodes the event that names the comment that is pinned from now on ([`comment_json::pin_message`]).
pub fn pinned_event(
    numbering: &CommentEpoch,
    entry: &Comment,
    comment: Option<&CommentId>,
    of: u64,
) -> Bytes {
    let data = one_line::to_json_line(&comment_json::pin_message(entry, comment, of));
    format!("event: pinned\nid: {numbering}-{}\ndata: {data}\n\n", entry.seq).into()
}

/// Encodes the first event of a stream: the user, the video and the reader, the time in ms to wait before connecting
/// again, and the viewer's position, if it is known.
pub fn connected_event(
    user: &UserId,
    video: &VideoId,
    instance: &str,
    retry_ms: u64,
    at: Option<&StreamPosition>,
) -> Bytes {
    let mut text = format!("retry: {retry_ms}\n");
    if let Some(at) = at {
        writeln!(text, "id: {at}").expect("writing to a string cannot fail");
    }
    let data = json!({ "type": "connected", "userid": user, "videoid": video, "instance": instance });
    let data = one_line::to_json_line(&data);
    write!(text, "data: {data}\n\n").expect("writing to a string cannot fail");
    text.into()
}

/// Encodes the event that tells a viewer that it misses the sequence numbers `from` to `to`.
pub fn gap_event(form: StreamForm, numbering: &CommentEpoch, from: u64, to: u64) -> Bytes {
    match form {
        StreamForm::Resuming => {
            format!("event: gap\nid: {numbering}-{to}\ndata: {{\"from\":{from},\"to\":{to}}}\n\n").into()
        }
        StreamForm::Plain => format!(": gap from={from} to={to}\n\n").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment_epoch() -> CommentEpoch {
        CommentEpoch::parse("n1").unwrap()
    }

    #[test]
    fn a_greeting_is_one_event_with_retry_and_id() {
        let (user, video) = (UserId::parse("a\"b").unwrap(), VideoId::parse("v").unwrap());
        let at = StreamPosition { comment_epoch: comment_epoch(), seq: 4 };
        let text = String::from_utf8(connected_event(&user, &video, "r1", 1500, Some(&at)).to_vec()).unwrap();
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines[..2], ["retry: 1500", "id: n1-4"]);
        let data: serde_json::Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data, json!({ "type": "connected", "userid": "a\"b", "videoid": "v", "instance": "r1" }));
        assert_eq!(lines[3..], ["", ""]);
    }

    #[test]
    fn a_gap_is_an_event_or_for_who_counts_data_lines_a_comment_line() {
        let resuming = gap_event(StreamForm::Resuming, &comment_epoch(), 3, 9);
        assert_eq!(resuming, "event: gap\nid: n1-9\ndata: {\"from\":3,\"to\":9}\n\n");
        let plain = gap_event(StreamForm::Plain, &comment_epoch(), 3, 9);
        assert_eq!(plain, ": gap from=3 to=9\n\n");
    }
}
