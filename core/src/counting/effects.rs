//! The effects of a batch: the changes that it makes in an archive.

use super::audit::AuditEntry;
use super::marks::MarkChange;
use super::video::VideoState;
use crate::comment::Comment;
use crate::moderation::reports::ReportedComment;
use crate::moderation::{HeldChange, RuleChange};
use crate::windows::WindowChange;
use crate::{Millis, VideoId, canary};

/// A comment with its position in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedComment {
    /// The comment, with its sequence number.
    pub comment: Comment,
    /// The partition of the comment's record.
    pub partition: u32,
    /// The offset of the comment's record in the partition.
    pub offset: u64,
}

/// The removal of a text or an author's name from an entry that an earlier batch has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRemoval {
    /// The video in whose channel the entry is.
    pub video: VideoId,
    /// The sequence number of the entry.
    pub seq: u64,
    /// Whether the entry loses its text ([`Comment::into_removed`]).
    pub removes_text: bool,
    /// Whether the entry loses its author's name ([`Comment::into_erased`]).
    pub removes_author: bool,
}

impl EntryRemoval {
    /// Returns what is left of `entry` after the removal.
    #[must_use]
    pub fn apply_to(&self, entry: Comment) -> Comment {
        let entry = if self.removes_text { entry.into_removed() } else { entry };
        if self.removes_author { entry.into_erased() } else { entry }
    }
}

/// The effects of a batch: everything that an archive has to write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchEffects {
    /// The new state of every video that changed, sorted by id.
    pub videos: Vec<VideoState>,
    /// The new comments, in the order of their sequence numbers within each video. Not all are archived:
    /// [`BatchEffects::archived_comments`].
    pub comments: Vec<NumberedComment>,
    /// The event identities that the archive has to remember, with the log's time of each.
    pub new_identities: Vec<(String, Millis)>,
    /// The texts and authors' names to be removed from entries of earlier batches.
    pub removals: Vec<EntryRemoval>,
    /// The restrictions and comment rules that changed, in the order of their revisions.
    pub rule_changes: Vec<RuleChange>,
    /// The comments that wait for a moderator from now on, and those that no longer do, in log order.
    pub held_comment_changes: Vec<HeldChange>,
    /// The comments whose reports changed, with their new reports.
    pub changed_reports: Vec<ReportedComment>,
    /// The entries for the audit log: what moderators did, and that comments were reported, in log order.
    pub audit_entries: Vec<AuditEntry>,
    /// The marks that changed, sorted by key.
    pub mark_changes: Vec<MarkChange>,
    /// The amounts to add to the counters of windows.
    pub window_changes: Vec<WindowChange>,
    /// If windows are counted: the videos of which more than counters changed (an owner, metadata, or whether they are
    /// on boards).
    pub videos_changed_beyond_counters: Vec<VideoId>,
    /// The number of events that counted.
    pub counted_event_count: u64,
    /// The number of events that did not count: repeats of counted ones, and events that take back what had not
    /// counted.
    pub repeated_event_count: u64,
}

impl BatchEffects {
    /// Returns the new comments that are archived: all but those of the canary, which are published only.
    pub fn archived_comments(&self) -> impl Iterator<Item = &NumberedComment> {
        self.comments.iter().filter(|numbered| !canary::is_canary(&numbered.comment.video_id))
    }
}
