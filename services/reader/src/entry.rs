//! An entry of a video's channel, encoded once as server-sent events for all viewers.
//!
//! Every entry is exactly one event for every viewer: a viewer who did not ask for an entry's kind of event gets an
//! event with an id and without data. A browser dispatches nothing for an event without data and remembers its id, and
//! a client that counts data lines does not count such an event. So all viewers of a channel have the same sequence
//! numbers.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use bytes::Bytes;
use liverank_core::UserId;
use liverank_core::comment::{self, Comment, CommentEpoch};
use liverank_core::stream_events::{StreamEvent, StreamEvents};

use crate::sse;

/// The hash of a user's id in eight bytes, with a key of this process alone: two users have the same hash by chance
/// once in 2^64 times, and nobody outside can search for a user with the same hash as another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct UserKey(u64);

impl UserKey {
    /// Returns the hash of a user's id; never 0, which is the default and stands for no user.
    pub fn of(user: &UserId) -> Self {
        static HASH_KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(HASH_KEYS.hash_one(user).max(1))
    }
}

/// The entries that a viewer is sent beside public comments: events of the types that it asked for, and its own
/// shadowed comments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamFilter {
    /// The event types that the viewer asked for beside comments.
    pub requested_events: StreamEvents,
    /// The user whose shadowed comments the viewer is shown; the default key: the viewer is shown no shadowed comments.
    pub shadowed_user: UserKey,
}

impl From<StreamEvents> for StreamFilter {
    fn from(requested_events: StreamEvents) -> Self {
        Self { requested_events, shadowed_user: UserKey::default() }
    }
}

/// The bytes that an entry takes in memory beside its text: its slot in the ring and the allocator's overhead.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// An entry of a video's channel, encoded for viewers who asked for its kind of event and for those who did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEntry {
    /// The event for viewers who are not among the recipients of `special_event`.
    default_event: Bytes,
    /// The event for some viewers only; `None` for a comment, which is the same for all viewers.
    special_event: Option<Box<SpecialEvent>>,
}

/// The viewers who are given another event than all the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventRecipients {
    /// The viewers who asked for this type of event.
    Requesters(StreamEvent),
    /// The author of a shadowed comment.
    Author(UserKey),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SpecialEvent {
    recipients: EventRecipients,
    event: Bytes,
    /// The sequence number of the comment that this entry removes; `None` if it removes none.
    removed_seq: Option<u64>,
}

impl EncodedEntry {
    /// Encodes an entry of a channel as a server-sent event for all viewers; a deletion, a pin or a shadowed comment
    /// gets an event for those who asked for its kind or wrote the shadowed comment, and one with only an id for all
    /// others.
    pub fn encode(numbering: &CommentEpoch, entry: &Comment) -> Self {
        let (recipients, event) = match &entry.entry {
            comment::EntryKind::Comment => {
                return Self { default_event: sse::comment_event(numbering, entry), special_event: None };
            }
            comment::EntryKind::Removed | comment::EntryKind::Unknown => {
                return Self { default_event: sse::id_only_event(numbering, entry.seq), special_event: None };
            }
            comment::EntryKind::Deleted { comment_id, of, role } => {
                let event = sse::deleted_event(numbering, entry, comment_id, *of, *role);
                (EventRecipients::Requesters(StreamEvent::Deleted), event)
            }
            comment::EntryKind::Pinned { comment_id, of } => {
                let event = sse::pinned_event(numbering, entry, comment_id.as_ref(), *of);
                (EventRecipients::Requesters(StreamEvent::Pinned), event)
            }
            comment::EntryKind::Shadowed => {
                (EventRecipients::Author(UserKey::of(&entry.user_id)), sse::comment_event(numbering, entry))
            }
        };
        let special = SpecialEvent { recipients, event, removed_seq: entry.entry.removed_seq() };
        Self {
            default_event: sse::id_only_event(numbering, entry.seq),
            special_event: Some(Box::new(special)),
        }
    }

    /// Returns the bytes of the event for a viewer with the filter `asked`.
    pub fn event_bytes(&self, asked: impl Into<StreamFilter>) -> &Bytes {
        let asked = asked.into();
        match &self.special_event {
            Some(special) if special.recipients.includes(asked) => &special.event,
            _ => &self.default_event,
        }
    }

    /// Returns the bytes that the entry takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.default_event.len()
            + self.special_event.as_ref().map_or(0, |special| special.event.len())
            + ENTRY_OVERHEAD_BYTES
    }

    /// Returns the only user who is shown the entry, if it is a shadowed comment; otherwise `None`.
    pub fn only_author(&self) -> Option<UserKey> {
        match self.special_event.as_ref()?.recipients {
            EventRecipients::Author(author) => Some(author),
            EventRecipients::Requesters(_) => None,
        }
    }

    /// Returns the sequence number of the comment that this entry removes; `None` if it removes none.
    pub fn removed_seq(&self) -> Option<u64> {
        self.special_event.as_ref()?.removed_seq
    }

    /// Returns true if some viewers are given other bytes than the rest.
    pub const fn differs_by_viewer(&self) -> bool {
        self.special_event.is_some()
    }

    /// Returns the entry that replaces a removed comment: only the id, which is the first line of its event.
    #[must_use]
    pub fn to_removed(&self) -> Self {
        let line = self.default_event.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        Self { default_event: [line, b"\n"].concat().into(), special_event: None }
    }
}

impl EventRecipients {
    fn includes(self, asked: StreamFilter) -> bool {
        match self {
            Self::Requesters(event) => asked.requested_events.contains(event),
            Self::Author(author) => asked.shadowed_user == author,
        }
    }
}

/// Makes an entry whose event is the same for all viewers.
impl From<Bytes> for EncodedEntry {
    fn from(default_event: Bytes) -> Self {
        Self { default_event, special_event: None }
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
        EncodedEntry::encode(&CommentEpoch::parse("n1").unwrap(), &comment)
    }

    #[test]
    fn a_removed_comment_leaves_only_its_id() {
        let left = entry(comment::EntryKind::Comment).to_removed();
        assert_eq!(left, entry(comment::EntryKind::Removed));
        assert_eq!(
            left.event_bytes(StreamEvents::default().with_event(StreamEvent::Deleted)),
            "id: n1-7\n\n"
        );
    }

    #[test]
    fn a_shadowed_comment_is_shown_to_its_author_only() {
        let shadowed = entry(comment::EntryKind::Shadowed);
        let all = StreamEvent::ALL.into_iter().fold(StreamEvents::default(), StreamEvents::with_event);
        let of = |name: &str| StreamFilter {
            requested_events: all,
            shadowed_user: UserKey::of(&name.parse().unwrap()),
        };
        assert_eq!(shadowed.event_bytes(of("ann")), entry(comment::EntryKind::Comment).event_bytes(all));
        for other in [of("ben"), all.into(), StreamFilter::default()] {
            assert_eq!(shadowed.event_bytes(other), "id: n1-7\n\n");
        }
        assert_eq!(shadowed.to_removed(), entry(comment::EntryKind::Removed));
        assert_eq!(
            (shadowed.only_author(), shadowed.differs_by_viewer()),
            (Some(of("ann").shadowed_user), true)
        );
    }

    #[test]
    fn a_pin_event_goes_to_viewers_who_asked() {
        let asked = StreamEvents::default().with_event(StreamEvent::Pinned);
        let pinned = entry(comment::EntryKind::Pinned { comment_id: CommentId::parse("c").ok(), of: 3 });
        assert_eq!(
            pinned.event_bytes(StreamEvents::default().with_event(StreamEvent::Deleted)),
            "id: n1-7\n\n"
        );
        assert_eq!(
            pinned.event_bytes(asked),
            "event: pinned\nid: n1-7\ndata: {\"type\":\"pinned\",\"id\":\"c\",\"videoid\":\"v\",\"seq\":3,\
             \"timestamp\":\"2023-11-14T22:13:20.120Z\"}\n\n"
        );
        let none = entry(comment::EntryKind::Pinned { comment_id: None, of: 0 });
        let text = std::str::from_utf8(none.event_bytes(asked)).unwrap();
        assert!(text.contains("\"id\":null,\"videoid\":\"v\",\"seq\":null"), "{text}");
    }

    #[test]
    fn a_deletion_event_goes_to_viewers_who_asked_and_an_id_to_others() {
        let of = CommentId::parse("c").unwrap();
        let told = entry(comment::EntryKind::Deleted { comment_id: of, of: 3, role: ActorRole::Moderator });
        assert_eq!(told.event_bytes(StreamEvents::default()), "id: n1-7\n\n");
        let text =
            std::str::from_utf8(told.event_bytes(StreamEvents::default().with_event(StreamEvent::Deleted)))
                .unwrap();
        assert_eq!(
            text,
            "event: deleted\nid: n1-7\ndata: {\"type\":\"deleted\",\"id\":\"c\",\"videoid\":\"v\",\"seq\":3,\"by\":\"moderator\",\
             \"timestamp\":\"2023-11-14T22:13:20.120Z\"}\n\n"
        );
        assert!(!text.contains("ann"), "who it was is not told");
        assert_eq!((told.removed_seq(), told.differs_by_viewer()), (Some(3), true));
    }
}
