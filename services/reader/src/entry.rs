//! An entry of a video's channel as viewers are given it, encoded once for all of them.
//!
//! Every entry is one event, for whoever it is meant: what a viewer did not ask for is an event without data. A browser
//! dispatches none for it and remembers its id, and a client that counts data lines does not count it. So all viewers
//! stand at the same numbers.

use bytes::Bytes;
use liverank_core::comment::{self, Comment, CommentEpoch};
use liverank_core::stream_events::{StreamEvent, StreamEvents};

use crate::sse;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEntry {
    /// For those who asked for nothing beside comments.
    plain: Bytes,
    /// What is there beside it; comments have nothing.
    special: Option<Box<Special>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Special {
    /// Who asked for this is given the event below.
    kind: StreamEvent,
    event: Bytes,
    /// The number of the comment that it removes.
    removes: Option<u64>,
}

impl EncodedEntry {
    /// An entry of a channel.
    pub fn of(numbering: &CommentEpoch, entry: &Comment) -> Self {
        match &entry.entry {
            comment::EntryKind::Comment => Self { plain: sse::comment(numbering, entry), special: None },
            comment::EntryKind::Removed => Self { plain: sse::id_only(numbering, entry.seq), special: None },
            comment::EntryKind::Deleted { comment_id, of, role } => {
                let event = sse::deleted(numbering, entry, comment_id, *of, *role);
                let special = Special { kind: StreamEvent::Deleted, event, removes: entry.entry.removes() };
                Self { plain: sse::id_only(numbering, entry.seq), special: Some(Box::new(special)) }
            }
        }
    }

    /// The event for a viewer who asked for these.
    pub fn bytes(&self, asked: StreamEvents) -> &Bytes {
        match &self.special {
            Some(special) if asked.contains(special.kind) => &special.event,
            _ => &self.plain,
        }
    }

    /// The number of the comment that this one removes.
    pub fn removes(&self) -> Option<u64> {
        self.special.as_ref()?.removes
    }

    /// Whether not all viewers are given the same.
    pub const fn is_special(&self) -> bool {
        self.special.is_some()
    }

    /// What is left of it when it is removed: its id, which is the first line.
    #[must_use]
    pub fn removed(&self) -> Self {
        let line = self.plain.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        Self { plain: [line, b"\n"].concat().into(), special: None }
    }
}

/// An event that all are given.
impl From<Bytes> for EncodedEntry {
    fn from(plain: Bytes) -> Self {
        Self { plain, special: None }
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::moderation::ActorRole;
    use liverank_core::{CommentId, UserId, VideoId};

    use super::*;

    fn entry(what: comment::EntryKind) -> EncodedEntry {
        let comment = Comment {
            id: CommentId::parse("c1").unwrap(),
            user_id: UserId::parse("ann").unwrap(),
            video_id: VideoId::parse("v").unwrap(),
            text: "two\nlines".into(),
            timestamp: 1_700_000_000_120,
            seq: 7,
            reply_to: None,
            entry: what,
        };
        EncodedEntry::of(&CommentEpoch::parse("n1").unwrap(), &comment)
    }

    #[test]
    fn what_is_left_of_a_comment_is_its_id() {
        let left = entry(comment::EntryKind::Comment).removed();
        assert_eq!(left, entry(comment::EntryKind::Removed));
        assert_eq!(left.bytes(StreamEvents::default().with(StreamEvent::Deleted)), "id: n1-7\n\n");
    }

    #[test]
    fn a_deletion_is_told_to_those_who_asked_and_is_an_id_to_others() {
        let of = CommentId::parse("c").unwrap();
        let told = entry(comment::EntryKind::Deleted { comment_id: of, of: 3, role: ActorRole::Moderator });
        assert_eq!(told.bytes(StreamEvents::default()), "id: n1-7\n\n");
        let text =
            std::str::from_utf8(told.bytes(StreamEvents::default().with(StreamEvent::Deleted))).unwrap();
        assert_eq!(
            text,
            "event: deleted\nid: n1-7\ndata: {\"type\":\"deleted\",\"id\":\"c\",\"videoid\":\"v\",\"seq\":3,\"by\":\"moderator\",\
             \"timestamp\":\"2023-11-14T22:13:20.120Z\"}\n\n"
        );
        assert!(!text.contains("ann"), "who it was is not told");
        assert_eq!((told.removes(), told.is_special()), (Some(3), true));
    }
}
