//! The reports of comments in a batch: how they are added, closed and erased.

use std::collections::BTreeMap;

use super::record::LogRecord;
use crate::comment::nobody_user;
use crate::moderation::reports::{CommentReport, LogPlace, ReportDecision, ReportedComment};
use crate::moderation::{ActorRole, ModerationAction, NameDigest, ReportOutcome, ReportReason};
use crate::{CommentId, Interaction, VideoId};

/// Returns the comment whose reports a record may change; `None` if it changes none.
pub(super) fn reported_comment(event: &Interaction) -> Option<(&VideoId, &CommentId)> {
    match &event.moderation.as_ref()?.action {
        ModerationAction::Report { comment_id, .. }
        | ModerationAction::CloseReports { comment_id, .. }
        | ModerationAction::EraseReport { comment_id, .. }
        | ModerationAction::Delete { comment_id }
        | ModerationAction::Erase { comment_id, .. } => Some((&event.video_id, comment_id)),
        ModerationAction::Pin { .. }
        | ModerationAction::Shadow { .. }
        | ModerationAction::Hold { .. }
        | ModerationAction::Review { .. }
        | ModerationAction::Restrict { .. }
        | ModerationAction::Lift { .. }
        | ModerationAction::PutVideo { .. }
        | ModerationAction::RemoveVideo
        | ModerationAction::Forget { .. }
        | ModerationAction::EraseUser { .. }
        | ModerationAction::SetRules { .. } => None,
    }
}

/// Returns the record of a report as the audit log stores it: without the reporter's name and words. Name and words
/// are in the queue of reports, where an erasure reaches them.
pub(super) fn without_reporter_name(record: &Interaction) -> Interaction {
    let mut record = Interaction { user_id: nobody_user(), ..record.clone() };
    if let Some(moderation) = &mut record.moderation {
        moderation.reason = None;
    }
    record
}

const fn log_place(record: &LogRecord) -> LogPlace {
    (record.broker_time, record.partition, record.offset)
}

/// The reported comments of a batch.
#[derive(Default)]
pub(super) struct BatchReports {
    /// The reported comments by video and id, each with whether it changed.
    comments: BTreeMap<(VideoId, CommentId), (ReportedComment, bool)>,
}

impl BatchReports {
    pub(super) fn new(known: Vec<ReportedComment>) -> Self {
        let keyed = known.into_iter().map(|it| ((it.video.clone(), it.id.clone()), (it, false)));
        Self { comments: keyed.collect() }
    }

    /// Adds the report in a record to the comment, and returns whether the report counts.
    pub(super) fn add_report(&mut self, record: &LogRecord, id: &CommentId, why: ReportReason) -> bool {
        let event = &record.event;
        let text = event.moderation.as_ref().and_then(|moderation| moderation.reason.clone());
        let report = CommentReport { user: event.user_id.clone(), why, text, at: event.timestamp };
        let new = || (ReportedComment::new(event.video_id.clone(), id.clone()), false);
        let key = (event.video_id.clone(), id.clone());
        let (comment, changed) = self.comments.entry(key).or_insert_with(new);
        let counts = comment.add_report(report, log_place(record));
        *changed |= counts;
        counts
    }

    /// Closes the reports of a comment, if it has any, with this outcome.
    pub(super) fn close_reports(&mut self, record: &LogRecord, id: &CommentId, outcome: ReportOutcome) {
        let event = &record.event;
        let Some(moderation) = &event.moderation else { return };
        let is_author = moderation.role == ActorRole::Author;
        let by = (!is_author).then(|| event.user_id.clone());
        let reason = moderation.reason.clone().filter(|_| !is_author);
        let decision = ReportDecision { outcome, by, reason, at: event.timestamp };
        self.change_reports(record, id, |comment| comment.record_decision(decision, log_place(record)));
    }

    /// Removes the name and the text from a user's report of a comment.
    pub(super) fn erase_report(&mut self, record: &LogRecord, id: &CommentId, user: NameDigest) {
        self.change_reports(record, id, |comment| comment.erase_reporter(user));
    }

    fn change_reports(
        &mut self,
        record: &LogRecord,
        id: &CommentId,
        change: impl FnOnce(&mut ReportedComment) -> bool,
    ) {
        let key = (record.event.video_id.clone(), id.clone());
        if let Some((comment, changed)) = self.comments.get_mut(&key) {
            *changed |= change(comment);
        }
    }

    /// Returns the comments whose reports changed.
    pub(super) fn changed_comments(self) -> Vec<ReportedComment> {
        self.comments.into_values().filter_map(|(comment, changed)| changed.then_some(comment)).collect()
    }
}
