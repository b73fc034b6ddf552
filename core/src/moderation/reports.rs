//! Reports of comments by viewers, and what moderators decide about them.
//!
//! All reports of one comment are one item, [`ReportedComment`]: it is open from the first report on, and closed by a
//! moderator's decision or by the comment's removal. A comment cannot be edited, so a decision is final: nothing opens
//! the item again. The item does not repeat the comment's text. Readers of the queue find the text in the archive,
//! where deletion and erasure reach it.

use serde::{Deserialize, Serialize};
use strum::{EnumCount, VariantArray};

use super::erasure::NameDigest;
use crate::comment::nobody_user;
use crate::{CommentId, Invalid, Millis, UserId, VideoId};

/// The most reports that are kept for one comment: a moderator needs no more, and the comment's document, which is
/// written anew with each report, stays small.
pub const MAX_REPORTS: usize = 25;
/// The longest text of a report, in characters: a sentence.
pub const MAX_REPORT_CHARS: usize = 200;
/// The most bytes that the reports of one comment take as JSON: user names of 256 bytes and texts, both escaped, and
/// the other members.
pub const MAX_REPORTS_BYTES: usize = MAX_REPORTS * (2 * 256 + 6 * MAX_REPORT_CHARS + 128);
/// The most comments, in all, that are reported and not decided on: people cannot read more in time.
pub const MAX_OPEN_REPORTED_COMMENTS: u64 = 10_000;
/// The most open reported comments of one video: a raid on one video leaves room for reports of all others.
pub const MAX_OPEN_REPORTED_COMMENTS_OF_VIDEO: u64 = 500;

/// The reason of a report: what is wrong with a comment in a viewer's opinion.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, EnumCount, VariantArray,
)]
#[serde(rename_all = "snake_case")]
pub enum ReportReason {
    /// The comment advertises, or repeats itself.
    Spam,
    /// The comment attacks somebody.
    Harassment,
    /// The comment attacks a group of people for what they are.
    Hate,
    /// The comment threatens, or shows violence.
    Violence,
    /// The comment is sexual.
    Sexual,
    /// The comment is about hurting oneself.
    SelfHarm,
    /// Something else is wrong with the comment.
    Other,
}

impl ReportReason {
    /// All reasons.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Returns the reason's name in requests, records and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::Harassment => "harassment",
            Self::Hate => "hate",
            Self::Violence => "violence",
            Self::Sexual => "sexual",
            Self::SelfHarm => "self_harm",
            Self::Other => "other",
        }
    }

    /// Reads the name of a reason.
    ///
    /// # Errors
    /// Returns an error of the field `reason` for an unknown name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|reason| reason.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            Invalid::new("reason", format!("must be one of {}", names.join(", ")))
        })
    }
}

/// Checks the text of a report; `field` is the field's name in the error.
///
/// # Errors
/// Returns an error for a text longer than [`MAX_REPORT_CHARS`].
pub fn check_report_text(field: &'static str, text: &str) -> Result<(), Invalid> {
    let chars = text.chars().count();
    if chars > MAX_REPORT_CHARS {
        return Err(Invalid::new(
            field,
            format!("must be at most {MAX_REPORT_CHARS} characters, is {chars}"),
        ));
    }
    Ok(())
}

/// One user's report of a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentReport {
    /// The user who reports; "nobody" if that user was erased since.
    pub user: UserId,
    /// The reason of the report.
    pub why: ReportReason,
    /// The reason in the user's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The time of the report, in milliseconds since the Unix epoch.
    pub at: Millis,
}

/// The outcome of the reports of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportOutcome {
    /// Nothing is wrong with the comment.
    Dismissed,
    /// The comment was removed, by its author, a moderator or somebody else.
    Deleted,
    /// The comment's author was banned or muted.
    Banned,
}

/// The decision that closed the reports of a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportDecision {
    /// The outcome of the reports.
    pub outcome: ReportOutcome,
    /// The moderator or service who decided; absent if the author removed the comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// The reason of the decision, in the moderator's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time of the decision, in milliseconds since the Unix epoch.
    pub at: Millis,
}

/// The position of a record in the order of the log: the log's time, its partition and its offset.
pub type LogPlace = (Millis, u32, u64);

/// A comment that was reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedComment {
    /// The video of the comment.
    pub video: VideoId,
    /// The id of the reported comment.
    pub id: CommentId,
    /// The reports, oldest first: at most one per user, and [`MAX_REPORTS`] in all.
    pub reports: Vec<CommentReport>,
    /// The decision; absent while the reports are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<ReportDecision>,
    /// The position in the log of the last report, or of the decision.
    pub place: LogPlace,
}

impl ReportedComment {
    /// Makes the entry of a reported comment, without reports.
    pub const fn new(video: VideoId, id: CommentId) -> Self {
        Self { video, id, reports: Vec::new(), decision: None, place: (0, 0, 0) }
    }

    /// Whether the reports are not decided on yet.
    pub const fn is_open(&self) -> bool {
        self.decision.is_none()
    }

    /// Whether this user reported the comment.
    pub fn is_reported_by(&self, user: &UserId) -> bool {
        self.reports.iter().any(|report| report.user == *user)
    }

    /// Whether the comment has [`MAX_REPORTS`] reports, so that no more are kept.
    pub const fn is_full(&self) -> bool {
        self.reports.len() >= MAX_REPORTS
    }

    /// Adds a report, and returns whether it counts: it must be the first of its user, on a comment that is open and
    /// not full.
    pub fn add_report(&mut self, report: CommentReport, place: LogPlace) -> bool {
        let counts = self.is_open() && !self.is_full() && !self.is_reported_by(&report.user);
        if counts {
            self.reports.push(report);
            self.place = place;
        }
        counts
    }

    /// Closes the reports, and returns whether that changes anything: only the first decision is kept.
    pub fn record_decision(&mut self, decision: ReportDecision, place: LogPlace) -> bool {
        let closes = self.is_open();
        if closes {
            self.decision = Some(decision);
            self.place = place;
        }
        closes
    }

    /// Removes the name and the text from a user's report, which still counts. Returns whether the user had one.
    pub fn erase_reporter(&mut self, user: NameDigest) -> bool {
        let own = self.reports.iter_mut().filter(|report| NameDigest::of_user(&report.user) == user);
        let erased = own.map(|report| (report.user, report.text) = (nobody_user(), None));
        erased.count() > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(user: &str) -> CommentReport {
        CommentReport { user: user.parse().unwrap(), why: ReportReason::Spam, text: Some("x".into()), at: 1 }
    }

    fn reported() -> ReportedComment {
        ReportedComment::new("v".parse().unwrap(), "c".parse().unwrap())
    }

    fn decision(outcome: ReportOutcome) -> ReportDecision {
        ReportDecision { outcome, by: None, reason: None, at: 2 }
    }

    #[test]
    fn report_reasons_round_trip() {
        for reason in ReportReason::ALL {
            assert_eq!(ReportReason::parse(reason.name()), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
        assert_eq!(ReportReason::parse("dull").unwrap_err().field, "reason");
        assert!(check_report_text("text", &"é".repeat(MAX_REPORT_CHARS)).is_ok());
        assert_eq!(check_report_text("text", &"é".repeat(MAX_REPORT_CHARS + 1)).unwrap_err().field, "text");
    }

    #[test]
    fn the_first_decision_holds_and_ends_the_reports() {
        let mut comment = reported();
        assert!(comment.add_report(report("ann"), (1, 0, 1)) && comment.is_open());
        assert!(comment.record_decision(decision(ReportOutcome::Dismissed), (2, 0, 2)));
        assert!(!comment.record_decision(decision(ReportOutcome::Deleted), (3, 0, 3)));
        assert!(!comment.add_report(report("ben"), (4, 0, 4)), "what was decided stays decided");
        assert_eq!((comment.reports.len(), comment.place), (1, (2, 0, 2)));
        assert_eq!(comment.decision, Some(decision(ReportOutcome::Dismissed)));
    }

    #[test]
    fn an_erased_user_is_not_named_and_still_counts() {
        let mut comment = reported();
        comment.add_report(report("ann"), (1, 0, 1));
        comment.add_report(report("ben"), (2, 0, 2));
        assert!(comment.erase_reporter(NameDigest::of_user(&"ann".parse().unwrap())));
        assert!(
            !comment.erase_reporter(NameDigest::of_user(&"ann".parse().unwrap())),
            "there is none any more"
        );
        assert_eq!((&comment.reports[0].user, &comment.reports[0].text), (&nobody_user(), &None));
        assert_eq!(comment.reports[1], report("ben"));
    }

    proptest! {
        /// For any sequence of reports, a user counts once, and the item stays within its bound.
        #[test]
        fn reports_are_bounded_and_count_once_per_user(users in proptest::collection::vec(0..60_u8, 0..120)) {
            let mut comment = reported();
            for (user, at) in users.iter().zip(0..) {
                let before = comment.clone();
                let name = format!("{user}{}", "\"".repeat(253));
                let text = Some("\u{1}".repeat(MAX_REPORT_CHARS));
                let counts = comment.add_report(CommentReport { text, ..report(&name) }, (i64::MAX, u32::MAX, at));
                prop_assert_eq!(counts, comment != before);
            }
            let mut known: Vec<_> = comment.reports.iter().map(|report| report.user.clone()).collect();
            known.sort();
            known.dedup();
            prop_assert_eq!(known.len(), comment.reports.len());
            prop_assert!(comment.reports.len() <= MAX_REPORTS);
            let bytes: usize = serde_json::to_vec(&comment.reports).unwrap().len();
            prop_assert!(bytes <= MAX_REPORTS_BYTES, "{bytes}");
        }
    }
}
