//! Applies the moderation records of a batch.

use std::collections::HashMap;

use super::audit::AuditEntry;
use super::effects::{BatchEffects, EntryRemoval, NumberedComment};
use super::marks::MarkKey;
use super::record::LogRecord;
use super::reporting::{self, BatchReports};
use super::video::VideoState;
use crate::comment::{Comment, EntryKind, NOBODY_ID, nobody_user};
use crate::moderation::{
    ActorRole, HeldChange, HeldComment, ModerationAction, NameDigest, ReportOutcome, ReportReason,
    ReportedComment, RuleChange, RuleName,
};
use crate::{CommentId, Interaction, Kind, UserId, VideoId};

/// The part of an archive's stored state that the moderation records of a batch change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredModeration {
    /// The stored entries among [`super::Batch::moderation_targets`] and [`super::Batch::moderation_targets_by_seq`].
    pub target_entries: Vec<Comment>,
    /// The latest revision of the comment rules; 0 before the first.
    pub rules_revision: u64,
    /// The comments among [`super::Batch::reported_comments`] that already have reports.
    pub stored_reports: Vec<ReportedComment>,
}

/// Returns the comments that these records delete, pin, report or erase.
pub(super) fn target_comments(records: &[LogRecord]) -> impl Iterator<Item = (&VideoId, &CommentId)> {
    records.iter().filter(|record| record.event.kind == Kind::Moderation).filter_map(|record| {
        match &record.event.moderation.as_ref()?.action {
            ModerationAction::Delete { comment_id }
            | ModerationAction::Pin { comment_id: Some(comment_id) }
            | ModerationAction::Report { comment_id, .. }
            | ModerationAction::Erase { comment_id, .. } => Some((&record.event.video_id, comment_id)),
            ModerationAction::Pin { comment_id: None }
            | ModerationAction::Shadow { .. }
            | ModerationAction::Hold { .. }
            | ModerationAction::Review { .. }
            | ModerationAction::CloseReports { .. }
            | ModerationAction::EraseReport { .. }
            | ModerationAction::Restrict { .. }
            | ModerationAction::Lift { .. }
            | ModerationAction::PutVideo { .. }
            | ModerationAction::RemoveVideo
            | ModerationAction::Forget { .. }
            | ModerationAction::EraseUser { .. }
            | ModerationAction::SetRules { .. } => None,
        }
    })
}

/// Returns the entries that these records erase, by their sequence numbers.
pub(super) fn targets_by_seq(records: &[LogRecord]) -> impl Iterator<Item = (&VideoId, u64)> {
    records.iter().filter_map(|record| match &record.event.moderation.as_ref()?.action {
        ModerationAction::Erase { seq: Some(seq), .. } => Some((&record.event.video_id, *seq)),
        _ => None,
    })
}

/// Returns the keys of the marks that a record removes.
pub(super) fn keys_of_removed_marks(event: &Interaction) -> impl Iterator<Item = MarkKey> {
    let marks: &[NameDigest] = match event.moderation.as_deref().map(|moderation| &moderation.action) {
        Some(ModerationAction::Forget { marks, .. }) => marks,
        _ => &[],
    };
    marks.iter().map(|mark| mark.to_mark_key())
}

/// An entry that a record of the batch deletes, pins, reports or erases.
struct TargetEntry {
    author: UserId,
    seq: u64,
    /// The index among the batch's new comments; `None` if the entry is stored already.
    index_in_batch: Option<usize>,
    is_removed: bool,
    /// Whether the entry is shown to others than its author, as long as it is not removed.
    is_public: bool,
}

/// The entries with one identity, by their sequence numbers: there may be several, written more than a day apart.
type TargetsOfIdentity = Vec<TargetEntry>;

/// The state of applying the moderation records of a batch.
pub(super) struct BatchModeration {
    targets: HashMap<(VideoId, CommentId), TargetsOfIdentity>,
    rules_revision: u64,
    batch_reports: BatchReports,
}

impl BatchModeration {
    pub(super) fn new(records: &[LogRecord], moderated: StoredModeration) -> Self {
        let mut targets: HashMap<_, _> = target_comments(records)
            .map(|(video, id)| ((video.clone(), id.clone()), TargetsOfIdentity::new()))
            .collect();
        for comment in moderated.target_entries {
            if let Some(targets) = targets.get_mut(&(comment.video_id.clone(), comment.id.clone())) {
                targets.push(TargetEntry::from_comment(&comment, None));
            }
        }
        for targets in targets.values_mut() {
            targets.sort_by_key(|target| target.seq);
            targets.dedup_by_key(|target| target.seq);
        }
        Self {
            targets,
            rules_revision: moderated.rules_revision,
            batch_reports: BatchReports::new(moderated.stored_reports),
        }
    }

    /// Notes a comment of this batch, which is at index `at` among the new comments, as a possible target of later
    /// records.
    pub(super) fn note_comment(&mut self, comment: &Comment, at: usize) {
        if self.targets.is_empty() {
            return;
        }
        if let Some(targets) = self.targets.get_mut(&(comment.video_id.clone(), comment.id.clone())) {
            targets.push(TargetEntry::from_comment(comment, Some(at)));
        }
    }

    /// Applies a moderation record; `video` is the state of its video, if the video is known.
    pub(super) fn apply(
        &mut self,
        record: &LogRecord,
        video: Option<&mut VideoState>,
        effects: &mut BatchEffects,
    ) {
        let Some(moderation) = &record.event.moderation else { return };
        match &moderation.action {
            ModerationAction::Delete { comment_id } => {
                if let Some(video) = video {
                    self.delete_comment(record, comment_id, moderation.role, video, effects);
                }
            }
            ModerationAction::Pin { comment_id } => {
                if let Some(video) = video {
                    self.pin_comment(record, comment_id.as_ref(), video, effects);
                }
            }
            ModerationAction::Shadow { comment_id, text, reply_to } => {
                if let Some(video) = video {
                    self.archive_shadowed(record, (comment_id, text, reply_to.as_ref()), video, effects);
                }
                // A shadowed comment is no moderator's action: it is not in the audit log.
                return;
            }
            ModerationAction::Hold { comment_id, text, reply_to, rule } => {
                hold_comment(record, (comment_id, text, reply_to.as_ref()), *rule, effects);
                return;
            }
            ModerationAction::Erase { comment_id, seq, user } => {
                let (on, id) = (record.event.video_id.clone(), comment_id.clone());
                effects.held_comment_changes.push(HeldChange { video: on, id, held: None });
                if let Some(video) = video {
                    self.erase_entry(record, (comment_id, *seq), *user, video, effects);
                }
                // The audit log has the erasure of the user as one entry.
                return;
            }
            ModerationAction::Forget { user, .. } => {
                if let Some(video) = video {
                    video.forget_owner(*user);
                }
                return;
            }
            ModerationAction::EraseUser { .. } => {}
            ModerationAction::Report { comment_id, why } => {
                effects.audit_entries.extend(self.report_comment(record, comment_id, *why));
                return;
            }
            ModerationAction::CloseReports { comment_id, outcome } => {
                self.batch_reports.close_reports(record, comment_id, *outcome);
            }
            ModerationAction::EraseReport { comment_id, user } => {
                self.batch_reports.erase_report(record, comment_id, *user);
                return;
            }
            ModerationAction::Review { comment_id, .. } => {
                let (video, id) = (record.event.video_id.clone(), comment_id.clone());
                effects.held_comment_changes.push(HeldChange { video, id, held: None });
            }
            ModerationAction::PutVideo { metadata, owner_id } => {
                if let Some(video) = video.filter(|video| may_put_video(video, record, moderation.role)) {
                    video.put_metadata(metadata, owner_id.as_ref());
                }
            }
            ModerationAction::RemoveVideo => {
                if let Some(video) = video.filter(|video| may_change_video(video, record, moderation.role)) {
                    video.take_off_boards(moderation.role);
                }
            }
            ModerationAction::Restrict { .. }
            | ModerationAction::Lift { .. }
            | ModerationAction::SetRules { .. } => {
                self.rules_revision += 1;
                effects.rule_changes.extend(RuleChange::from_record(&record.event, self.rules_revision));
            }
        }
        effects.audit_entries.push(AuditEntry::from_record(record, record.event.clone()));
    }

    /// Adds a report and returns its entry for the audit log; `None` if the report does not count. A comment that
    /// nobody else is shown cannot be reported.
    fn report_comment(
        &mut self,
        record: &LogRecord,
        id: &CommentId,
        why: ReportReason,
    ) -> Option<AuditEntry> {
        let key = (record.event.video_id.clone(), id.clone());
        let target = self.targets.get(&key).and_then(|targets| targets.last());
        let is_shown = target.is_some_and(|target| target.is_public && !target.is_removed);
        let counts = is_shown && self.batch_reports.add_report(record, id, why);
        counts.then(|| AuditEntry::from_record(record, reporting::without_reporter_name(&record.event)))
    }

    /// Returns the comments whose reports changed.
    pub(super) fn into_changed_reports(self) -> Vec<ReportedComment> {
        self.batch_reports.changed_comments()
    }

    fn delete_comment(
        &mut self,
        record: &LogRecord,
        id: &CommentId,
        role: ActorRole,
        video: &mut VideoState,
        effects: &mut BatchEffects,
    ) {
        let event = &record.event;
        let targets = self.targets.get_mut(&(event.video_id.clone(), id.clone()));
        let target = targets.and_then(|targets| targets.last_mut());
        let is_own = target.as_ref().is_some_and(|target| target.author == event.user_id);
        // An author's token says who its bearer is, but not who wrote the comment.
        let entry = if role == ActorRole::Author && !is_own {
            EntryKind::Removed
        } else {
            let of = target.map_or(0, |target| {
                target.remove_text_or_author(&event.video_id, (true, false), effects);
                target.seq
            });
            self.batch_reports.close_reports(record, id, ReportOutcome::Deleted);
            EntryKind::Deleted { comment_id: id.clone(), of, role }
        };
        push_comment(record, notice_entry(record, video, entry), effects);
    }

    /// Erases one entry: the one with this sequence number, else the newest one with this id, if its author is this
    /// user. A comment is removed as by a deletion. An entry that nobody is shown loses only its author's name.
    fn erase_entry(
        &mut self,
        record: &LogRecord,
        (id, seq): (&CommentId, Option<u64>),
        user: NameDigest,
        video: &mut VideoState,
        effects: &mut BatchEffects,
    ) {
        let on = &record.event.video_id;
        let targets = self.targets.get_mut(&(on.clone(), id.clone()));
        let own =
            targets.map(|targets| targets.iter_mut().filter(|it| NameDigest::of_user(&it.author) == user));
        let mut own: Vec<&mut TargetEntry> = own.into_iter().flatten().collect();
        let at = own.iter().position(|it| Some(it.seq) == seq).or(own.len().checked_sub(1));
        let entry = match at.map(|at| own.swap_remove(at)) {
            Some(target) => {
                let shown = !target.is_removed;
                target.remove_text_or_author(on, (shown, true), effects);
                let role = ActorRole::Service;
                self.batch_reports.close_reports(record, id, ReportOutcome::Deleted);
                if shown {
                    EntryKind::Deleted { comment_id: id.clone(), of: target.seq, role }
                } else {
                    EntryKind::Removed
                }
            }
            None => EntryKind::Removed,
        };
        push_comment(record, notice_entry(record, video, entry), effects);
    }

    /// Archives a comment of a shadow-banned user. The comment makes its video known, as any comment does, so that its
    /// author finds it there.
    fn archive_shadowed(
        &mut self,
        record: &LogRecord,
        (id, text, reply_to): (&CommentId, &str, Option<&CommentId>),
        video: &mut VideoState,
        effects: &mut BatchEffects,
    ) {
        let body = (id.clone(), text.to_owned(), reply_to.cloned());
        let comment = new_entry_with_next_seq(record, video, body, EntryKind::Shadowed);
        self.note_comment(&comment, effects.comments.len());
        push_comment(record, comment, effects);
    }

    fn pin_comment(
        &mut self,
        record: &LogRecord,
        id: Option<&CommentId>,
        video: &mut VideoState,
        effects: &mut BatchEffects,
    ) {
        let key = |id: &CommentId| (record.event.video_id.clone(), id.clone());
        let target = id.and_then(|id| self.targets.get(&key(id))?.last());
        let entry = match (id, target) {
            (None, _) => EntryKind::Pinned { comment_id: None, of: 0 },
            (Some(id), Some(target)) if target.is_public && !target.is_removed => {
                EntryKind::Pinned { comment_id: Some(id.clone()), of: target.seq }
            }
            // A comment that is not shown cannot be pinned: the entry uses up its sequence number all the same.
            (Some(_), _) => EntryKind::Removed,
        };
        push_comment(record, notice_entry(record, video, entry), effects);
    }
}

fn hold_comment(
    record: &LogRecord,
    (id, text, reply_to): (&CommentId, &str, Option<&CommentId>),
    rule: RuleName,
    effects: &mut BatchEffects,
) {
    let event = &record.event;
    let held = HeldComment {
        id: id.clone(),
        video: event.video_id.clone(),
        user: event.user_id.clone(),
        text: text.to_owned(),
        reply_to: reply_to.cloned(),
        timestamp: event.timestamp,
        rule: rule.into(),
        place: (record.broker_time, record.partition, record.offset),
    };
    effects.held_comment_changes.push(HeldChange {
        video: event.video_id.clone(),
        id: id.clone(),
        held: Some(held),
    });
}

/// Makes the notice of a moderator's action, with the next sequence number of the video's channel. The notice does not
/// say who acted: the audit log does.
fn notice_entry(record: &LogRecord, video: &mut VideoState, what: EntryKind) -> Comment {
    let id = record.event.event_id.as_ref().and_then(|id| CommentId::parse(id.as_str()).ok());
    // The reader of the log accepts no such record without an id.
    let id = id.unwrap_or_else(|| CommentId::parse("moderation").expect("it is an identifier"));
    Comment {
        user_id: nobody_user(),
        ..new_entry_with_next_seq(record, video, (id, String::new(), None), what)
    }
}

/// Makes an entry with the next sequence number of the video's channel.
fn new_entry_with_next_seq(
    record: &LogRecord,
    video: &mut VideoState,
    (id, text, reply_to): (CommentId, String, Option<CommentId>),
    entry: EntryKind,
) -> Comment {
    let event = &record.event;
    video.last_seq += 1;
    Comment {
        id,
        user_id: event.user_id.clone(),
        video_id: event.video_id.clone(),
        text,
        timestamp: event.timestamp,
        seq: video.last_seq,
        reply_to,
        entry,
    }
}

fn push_comment(record: &LogRecord, comment: Comment, effects: &mut BatchEffects) {
    effects.comments.push(NumberedComment { comment, partition: record.partition, offset: record.offset });
}

/// Whether the actor may change the video. An owner's token says who its bearer is, but not whose the video is: a user
/// who was merely the first to see a video does not own it.
fn may_change_video(video: &VideoState, record: &LogRecord, role: ActorRole) -> bool {
    let owns =
        video.is_owner_given && video.owner == record.event.user_id && video.owner.as_str() != NOBODY_ID;
    role != ActorRole::Owner || owns
}

/// Whether the actor may put the video on boards: only an actor who may change the video, and an owner only if nobody
/// else has removed the video.
fn may_put_video(video: &VideoState, record: &LogRecord, role: ActorRole) -> bool {
    let undoes_others = role == ActorRole::Owner && video.removed_by.is_some_and(|by| by != ActorRole::Owner);
    may_change_video(video, record, role) && !undoes_others
}

/// Whether a record makes a video known that has had no event yet.
pub(super) fn makes_video_known(event: &Interaction) -> bool {
    event.moderation.as_ref().is_some_and(|moderation| match moderation.action {
        ModerationAction::PutVideo { .. } => moderation.role != ActorRole::Owner,
        ModerationAction::Shadow { .. } => true,
        _ => false,
    })
}

impl TargetEntry {
    fn from_comment(entry: &Comment, at: Option<usize>) -> Self {
        let (is_removed, is_public) = (!entry.entry.has_text(), entry.entry.is_comment());
        Self { author: entry.user_id.clone(), seq: entry.seq, index_in_batch: at, is_removed, is_public }
    }

    /// Removes the entry's text, its author's name, or both: in the batch's own comments, or as a removal for the
    /// archive.
    fn remove_text_or_author(
        &mut self,
        video: &VideoId,
        (text, author): (bool, bool),
        effects: &mut BatchEffects,
    ) {
        let text = text && !self.is_removed;
        self.is_removed |= text;
        if author {
            self.author = nobody_user();
        }
        if !text && !author {
            return;
        }
        let removal =
            EntryRemoval { video: video.clone(), seq: self.seq, removes_text: text, removes_author: author };
        match self.index_in_batch.and_then(|at| effects.comments.get_mut(at)) {
            Some(numbered) => numbered.comment = removal.apply_to(numbered.comment.clone()),
            None => effects.removals.push(removal),
        }
    }
}

#[cfg(test)]
mod tests;
