//! What the moderation records of a batch do.

use std::collections::HashMap;

use super::reporting::{self, Reporting};
use super::{Effects, LogRecord, MarkKey, NumberedComment, Removal, VideoState};
use crate::comment::{Comment, EntryKind, NOBODY, nobody};
use crate::moderation::{
    Action, ActorRole, Digest, HeldChange, HeldComment, ReportOutcome, ReportReason, ReportedComment,
    RuleChange, RuleName,
};
use crate::{CommentId, Interaction, Kind, Millis, UserId, VideoId};

/// What an archive holds of what a batch's moderation records change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moderated {
    /// The stored entries among [`super::Batch::targets`] and [`super::Batch::numbered_targets`].
    pub targets: Vec<Comment>,
    /// The latest revision of the rules; 0 before the first.
    pub revision: u64,
    /// The comments among [`super::Batch::reported`] that were reported before.
    pub reports: Vec<ReportedComment>,
}

/// One thing that a moderator did, as the audit log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When the log took the record, by the log's clock.
    pub time: Millis,
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// What it says.
    pub record: Interaction,
}

impl AuditEntry {
    fn of(record: &LogRecord, says: Interaction) -> Self {
        Self { time: record.broker_time, partition: record.partition, offset: record.offset, record: says }
    }
}

/// The comments that these records delete, pin, report or erase.
pub(super) fn targets(records: &[LogRecord]) -> impl Iterator<Item = (&VideoId, &CommentId)> {
    records.iter().filter(|record| record.event.kind == Kind::Moderation).filter_map(|record| {
        match &record.event.moderation.as_ref()?.action {
            Action::Delete { comment_id }
            | Action::Pin { comment_id: Some(comment_id) }
            | Action::Report { comment_id, .. }
            | Action::Erase { comment_id, .. } => Some((&record.event.video_id, comment_id)),
            Action::Pin { comment_id: None }
            | Action::Shadow { .. }
            | Action::Hold { .. }
            | Action::Review { .. }
            | Action::CloseReports { .. }
            | Action::EraseReport { .. }
            | Action::Restrict { .. }
            | Action::Lift { .. }
            | Action::PutVideo { .. }
            | Action::RemoveVideo
            | Action::Forget { .. }
            | Action::EraseUser { .. }
            | Action::SetRules { .. } => None,
        }
    })
}

/// The entries that these records erase, by their numbers.
pub(super) fn numbered_targets(records: &[LogRecord]) -> impl Iterator<Item = (&VideoId, u64)> {
    records.iter().filter_map(|record| match &record.event.moderation.as_ref()?.action {
        Action::Erase { seq: Some(seq), .. } => Some((&record.event.video_id, *seq)),
        _ => None,
    })
}

/// The marks that a record forgets.
pub(super) fn forgotten_marks(event: &Interaction) -> impl Iterator<Item = MarkKey> {
    let marks: &[Digest] = match event.moderation.as_deref().map(|moderation| &moderation.action) {
        Some(Action::Forget { marks, .. }) => marks,
        _ => &[],
    };
    marks.iter().map(|mark| mark.mark())
}

/// An entry that a record of the batch deletes, pins, reports or erases.
struct TargetEntry {
    author: UserId,
    seq: u64,
    /// Among the batch's own comments; `None`: it is stored.
    at: Option<usize>,
    removed: bool,
    /// Whether others than its author are shown it, while it is not removed.
    is_public: bool,
}

/// Those of one identity, by their numbers: a day apart there may be several.
type TargetsOfIdentity = Vec<TargetEntry>;

/// A batch's moderation under way.
pub(super) struct Moderating {
    targets: HashMap<(VideoId, CommentId), TargetsOfIdentity>,
    revision: u64,
    reporting: Reporting,
}

impl Moderating {
    pub(super) fn new(records: &[LogRecord], moderated: Moderated) -> Self {
        let mut targets: HashMap<_, _> = targets(records)
            .map(|(video, id)| ((video.clone(), id.clone()), TargetsOfIdentity::new()))
            .collect();
        for comment in moderated.targets {
            if let Some(targets) = targets.get_mut(&(comment.video_id.clone(), comment.id.clone())) {
                targets.push(TargetEntry::of(&comment, None));
            }
        }
        for targets in targets.values_mut() {
            targets.sort_by_key(|target| target.seq);
            targets.dedup_by_key(|target| target.seq);
        }
        Self { targets, revision: moderated.revision, reporting: Reporting::new(moderated.reports) }
    }

    /// A comment of this batch, and where it is among them.
    pub(super) fn note(&mut self, comment: &Comment, at: usize) {
        if self.targets.is_empty() {
            return;
        }
        if let Some(targets) = self.targets.get_mut(&(comment.video_id.clone(), comment.id.clone())) {
            targets.push(TargetEntry::of(comment, Some(at)));
        }
    }

    /// Applies a record; `video` is its video, where that is known.
    pub(super) fn apply(
        &mut self,
        record: &LogRecord,
        video: Option<&mut VideoState>,
        effects: &mut Effects,
    ) {
        let Some(moderation) = &record.event.moderation else { return };
        match &moderation.action {
            Action::Delete { comment_id } => {
                if let Some(video) = video {
                    self.delete_comment(record, comment_id, moderation.role, video, effects);
                }
            }
            Action::Pin { comment_id } => {
                if let Some(video) = video {
                    self.pin_comment(record, comment_id.as_ref(), video, effects);
                }
            }
            Action::Shadow { comment_id, text, reply_to } => {
                if let Some(video) = video {
                    self.archive_shadowed(record, (comment_id, text, reply_to.as_ref()), video, effects);
                }
                // Nobody moderated.
                return;
            }
            Action::Hold { comment_id, text, reply_to, rule } => {
                hold_comment(record, (comment_id, text, reply_to.as_ref()), *rule, effects);
                return;
            }
            Action::Erase { comment_id, seq, user } => {
                let (on, id) = (record.event.video_id.clone(), comment_id.clone());
                effects.held.push(HeldChange { video: on, id, held: None });
                if let Some(video) = video {
                    self.erase_entry(record, (comment_id, *seq), *user, video, effects);
                }
                // The audit log has the erasure of the user, as one.
                return;
            }
            Action::Forget { user, .. } => {
                if let Some(video) = video {
                    video.forget_owner(*user);
                }
                return;
            }
            Action::EraseUser { .. } => {}
            Action::Report { comment_id, why } => {
                effects.audit.extend(self.report_comment(record, comment_id, *why));
                return;
            }
            Action::CloseReports { comment_id, outcome } => {
                self.reporting.close(record, comment_id, *outcome);
            }
            Action::EraseReport { comment_id, user } => {
                self.reporting.erase(record, comment_id, *user);
                return;
            }
            Action::Review { comment_id, .. } => {
                let (video, id) = (record.event.video_id.clone(), comment_id.clone());
                effects.held.push(HeldChange { video, id, held: None });
            }
            Action::PutVideo { metadata, owner_id } => {
                if let Some(video) = video.filter(|video| may_put_video(video, record, moderation.role)) {
                    video.put_metadata(metadata, owner_id.as_ref());
                }
            }
            Action::RemoveVideo => {
                if let Some(video) = video.filter(|video| may_change_video(video, record, moderation.role)) {
                    video.take_off_boards(moderation.role);
                }
            }
            Action::Restrict { .. } | Action::Lift { .. } | Action::SetRules { .. } => {
                self.revision += 1;
                effects.rules.extend(RuleChange::of(&record.event, self.revision));
            }
        }
        effects.audit.push(AuditEntry::of(record, record.event.clone()));
    }

    /// What the audit log has of a report, where it counts. What nobody is shown needs no report.
    fn report_comment(
        &mut self,
        record: &LogRecord,
        id: &CommentId,
        why: ReportReason,
    ) -> Option<AuditEntry> {
        let key = (record.event.video_id.clone(), id.clone());
        let target = self.targets.get(&key).and_then(|targets| targets.last());
        let is_shown = target.is_some_and(|target| target.is_public && !target.removed);
        let counts = is_shown && self.reporting.report(record, id, why);
        counts.then(|| AuditEntry::of(record, reporting::nameless(&record.event)))
    }

    /// The comments whose reports changed.
    pub(super) fn reports(self) -> Vec<ReportedComment> {
        self.reporting.changed()
    }

    fn delete_comment(
        &mut self,
        record: &LogRecord,
        id: &CommentId,
        role: ActorRole,
        video: &mut VideoState,
        effects: &mut Effects,
    ) {
        let event = &record.event;
        let targets = self.targets.get_mut(&(event.video_id.clone(), id.clone()));
        let target = targets.and_then(|targets| targets.last_mut());
        let is_own = target.as_ref().is_some_and(|target| target.author == event.user_id);
        // A token of the author's says who it is for, and not whose the comment is.
        let entry = if role == ActorRole::Author && !is_own {
            EntryKind::Removed
        } else {
            let of = target.map_or(0, |target| {
                target.take_text_or_author(&event.video_id, (true, false), effects);
                target.seq
            });
            self.reporting.close(record, id, ReportOutcome::Deleted);
            EntryKind::Deleted { comment_id: id.clone(), of, role }
        };
        push_comment(record, announcement_entry(record, video, entry), effects);
    }

    /// Erases one entry: the one of this number, else the newest of this id, if it is this user's. A comment is removed as
    /// by a deletion. An entry that nobody is shown loses its author's name alone.
    fn erase_entry(
        &mut self,
        record: &LogRecord,
        (id, seq): (&CommentId, Option<u64>),
        user: Digest,
        video: &mut VideoState,
        effects: &mut Effects,
    ) {
        let on = &record.event.video_id;
        let targets = self.targets.get_mut(&(on.clone(), id.clone()));
        let own = targets.map(|targets| targets.iter_mut().filter(|it| Digest::of_user(&it.author) == user));
        let mut own: Vec<&mut TargetEntry> = own.into_iter().flatten().collect();
        let at = own.iter().position(|it| Some(it.seq) == seq).or(own.len().checked_sub(1));
        let entry = match at.map(|at| own.swap_remove(at)) {
            Some(target) => {
                let shown = !target.removed;
                target.take_text_or_author(on, (shown, true), effects);
                let role = ActorRole::Service;
                self.reporting.close(record, id, ReportOutcome::Deleted);
                if shown {
                    EntryKind::Deleted { comment_id: id.clone(), of: target.seq, role }
                } else {
                    EntryKind::Removed
                }
            }
            None => EntryKind::Removed,
        };
        push_comment(record, announcement_entry(record, video, entry), effects);
    }

    /// It makes the video known, as any comment: its author is to find it there.
    fn archive_shadowed(
        &mut self,
        record: &LogRecord,
        (id, text, reply_to): (&CommentId, &str, Option<&CommentId>),
        video: &mut VideoState,
        effects: &mut Effects,
    ) {
        let body = (id.clone(), text.to_owned(), reply_to.cloned());
        let comment = next_entry(record, video, body, EntryKind::Shadowed);
        self.note(&comment, effects.comments.len());
        push_comment(record, comment, effects);
    }

    fn pin_comment(
        &mut self,
        record: &LogRecord,
        id: Option<&CommentId>,
        video: &mut VideoState,
        effects: &mut Effects,
    ) {
        let key = |id: &CommentId| (record.event.video_id.clone(), id.clone());
        let target = id.and_then(|id| self.targets.get(&key(id))?.last());
        let entry = match (id, target) {
            (None, _) => EntryKind::Pinned { comment_id: None, of: 0 },
            (Some(id), Some(target)) if target.is_public && !target.removed => {
                EntryKind::Pinned { comment_id: Some(id.clone()), of: target.seq }
            }
            // What is not shown cannot be pinned: the number is taken all the same.
            (Some(_), _) => EntryKind::Removed,
        };
        push_comment(record, announcement_entry(record, video, entry), effects);
    }
}

fn hold_comment(
    record: &LogRecord,
    (id, text, reply_to): (&CommentId, &str, Option<&CommentId>),
    rule: RuleName,
    effects: &mut Effects,
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
    effects.held.push(HeldChange { video: event.video_id.clone(), id: id.clone(), held: Some(held) });
}

/// An entry that says what was done, with the next number of the video's channel. It does not say who did it: the audit log
/// does.
fn announcement_entry(record: &LogRecord, video: &mut VideoState, what: EntryKind) -> Comment {
    let id = record.event.event_id.as_ref().and_then(|id| CommentId::parse(id.as_str()).ok());
    // The log's reader takes no such record without an id.
    let id = id.unwrap_or_else(|| CommentId::parse("moderation").expect("it is an identifier"));
    Comment { user_id: nobody(), ..next_entry(record, video, (id, String::new(), None), what) }
}

/// An entry with the next number of the video's channel.
fn next_entry(
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

fn push_comment(record: &LogRecord, comment: Comment, effects: &mut Effects) {
    effects.comments.push(NumberedComment { comment, partition: record.partition, offset: record.offset });
}

/// An owner's token says who it is for, and not whose the video is: who was merely the first to see it does not own it.
fn may_change_video(video: &VideoState, record: &LogRecord, role: ActorRole) -> bool {
    let owns = video.owner_given && video.owner == record.event.user_id && video.owner.as_str() != NOBODY;
    role != ActorRole::Owner || owns
}

/// And an owner does not put back what others removed.
fn may_put_video(video: &VideoState, record: &LogRecord, role: ActorRole) -> bool {
    let undoes_others = role == ActorRole::Owner && video.removed.is_some_and(|by| by != ActorRole::Owner);
    may_change_video(video, record, role) && !undoes_others
}

/// Whether a record makes a video known that nothing has happened to yet.
pub(super) fn makes_known(event: &Interaction) -> bool {
    event.moderation.as_ref().is_some_and(|moderation| match moderation.action {
        Action::PutVideo { .. } => moderation.role != ActorRole::Owner,
        Action::Shadow { .. } => true,
        _ => false,
    })
}

impl TargetEntry {
    fn of(entry: &Comment, at: Option<usize>) -> Self {
        let (removed, is_public) = (!entry.entry.has_text(), entry.entry.is_comment());
        Self { author: entry.user_id.clone(), seq: entry.seq, at, removed, is_public }
    }

    /// Takes its text, its author's name, or both.
    fn take_text_or_author(&mut self, video: &VideoId, (text, author): (bool, bool), effects: &mut Effects) {
        let text = text && !self.removed;
        self.removed |= text;
        if author {
            self.author = nobody();
        }
        if !text && !author {
            return;
        }
        let removal = Removal { video: video.clone(), seq: self.seq, text, author };
        match self.at.and_then(|at| effects.comments.get_mut(at)) {
            Some(numbered) => numbered.comment = removal.of(numbered.comment.clone()),
            None => effects.removed.push(removal),
        }
    }
}

#[cfg(test)]
mod tests;
