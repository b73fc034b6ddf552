//! Reports of comments: how often they count, and what closes them.

use super::*;
use crate::moderation::reports::{MAX_REPORTS, ReportDecision};
use crate::moderation::{ReportOutcome, ReportReason};

fn report_record(offset: u64, id: &str, by: &str) -> LogRecord {
    let action = ModerationAction::Report { comment_id: id.parse().unwrap(), why: ReportReason::Spam };
    moderation_record(offset, Some("v"), by, ActorRole::Viewer, action)
}

fn close_record(offset: u64, id: &str, outcome: ReportOutcome) -> LogRecord {
    let action = ModerationAction::CloseReports { comment_id: id.parse().unwrap(), outcome };
    moderation_record(offset, Some("v"), "mod", ActorRole::Moderator, action)
}

fn erase_report_record(offset: u64, id: &str, whom: &str) -> LogRecord {
    let action = ModerationAction::EraseReport {
        comment_id: id.parse().unwrap(),
        user: NameDigest::of_user(&user(whom)),
    };
    moderation_record(offset, Some("v"), "ops", ActorRole::Service, action)
}

fn reports_of<'a>(archive: &'a ModelArchive, id: &str) -> Option<&'a ReportedComment> {
    archive.reports.get(&(video("v"), id.parse().unwrap()))
}

fn reporting_users(archive: &ModelArchive, id: &str) -> Vec<String> {
    let reports = reports_of(archive, id).map(|comment| comment.reports.as_slice()).unwrap_or_default();
    reports.iter().map(|report| report.user.to_string()).collect()
}

#[test]
fn a_report_counts_once_for_a_user_and_a_comment_that_is_shown() {
    let mut archive = ModelArchive::from_one_batch(&[
        report_record(0, "early", "ben"),
        comment_record(1, "v", "a", "ann"),
        shadowed_comment(2, "v", "s", "troll"),
        report_record(3, "a", "ben"),
        report_record(4, "a", "ben"),
        report_record(5, "s", "ben"),
        report_record(6, "other", "ben"),
    ]);
    archive.commit(&[report_record(7, "a", "ben"), report_record(8, "a", "cy")]);
    assert_eq!(reporting_users(&archive, "a"), ["ben", "cy"]);
    assert_eq!(archive.reports.len(), 1, "what nobody is shown has none");
    let first = &reports_of(&archive, "a").unwrap().reports[0];
    assert_eq!((first.why, first.text.as_deref(), first.at), (ReportReason::Spam, Some("why"), 1));
    assert_eq!(archive.archived_texts().len(), 2, "a report has no number");
    assert_eq!(archive.videos[&video("v")].counters.comments, 1);
    let audited: Vec<_> = archive.audit.iter().map(|entry| (entry.offset, &entry.record)).collect();
    assert_eq!(audited.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [3, 8], "those that counted");
    for (_, record) in audited {
        let said = (record.user_id.as_str(), record.moderation.as_ref().unwrap().reason.as_deref());
        assert_eq!(said, (NOBODY_ID, None), "the audit log names no viewer");
    }
    for offset in 0..60 {
        archive.commit(&[report_record(10 + offset, "a", &format!("u{offset}"))]);
    }
    assert_eq!(reporting_users(&archive, "a").len(), MAX_REPORTS);
}

#[test]
fn a_decision_or_the_comment_s_removal_ends_its_reports() {
    let begin =
        || ModelArchive::from_one_batch(&[comment_record(0, "v", "a", "ann"), report_record(1, "a", "ben")]);
    let ended = |record: LogRecord| {
        let mut archive = begin();
        archive.commit(&[record, report_record(3, "a", "cy"), close_record(4, "a", ReportOutcome::Banned)]);
        assert_eq!(reporting_users(&archive, "a"), ["ben"], "there are no more");
        reports_of(&archive, "a").unwrap().decision.clone()
    };
    let decided = |outcome, by: Option<&str>| {
        Some(ReportDecision { outcome, by: by.map(user), reason: by.map(|_| "why".to_owned()), at: 1 })
    };
    assert_eq!(
        ended(close_record(2, "a", ReportOutcome::Dismissed)),
        decided(ReportOutcome::Dismissed, Some("mod"))
    );
    let deleted = |by: &str, role| ended(delete_record(2, "v", "a", by, role));
    assert_eq!(deleted("mod", ActorRole::Moderator), decided(ReportOutcome::Deleted, Some("mod")));
    assert_eq!(deleted("ann", ActorRole::Author), decided(ReportOutcome::Deleted, None), "no name of hers");
    assert_eq!(ended(erase_record(2, "v", "a", None, "ann")), decided(ReportOutcome::Deleted, Some("ops")));
    let others = delete_record(2, "v", "a", "eve", ActorRole::Author);
    let mut archive = begin();
    archive.commit(&[others]);
    assert!(reports_of(&archive, "a").unwrap().is_open(), "a deletion that is none ends nothing");
    archive.commit(&[close_record(3, "b", ReportOutcome::Dismissed)]);
    assert_eq!(archive.reports.len(), 1, "where nothing is reported there is nothing to end");
}

#[test]
fn an_erased_user_is_named_in_no_report() {
    let mut archive = ModelArchive::from_one_batch(&[
        comment_record(0, "v", "a", "ann"),
        report_record(1, "a", "ben"),
        report_record(2, "a", "cy"),
        erase_report_record(3, "a", "ben"),
    ]);
    assert_eq!(reporting_users(&archive, "a"), [NOBODY_ID, "cy"]);
    archive.commit(&[close_record(4, "a", ReportOutcome::Dismissed), erase_report_record(5, "a", "cy")]);
    assert_eq!(reporting_users(&archive, "a"), [NOBODY_ID, NOBODY_ID], "decided ones, too");
    assert!(!format!("{:?}{:?}", archive.reports, archive.audit).contains("cy"));
}

proptest! {
    /// For any split of the log into batches, and for a rebuild, what is left is the same.
    #[test]
    fn splitting_reports_into_other_batches_gives_the_same_result(
        steps in proptest::collection::vec((0..8_u8, 0..3_u8, 0..3_usize), 1..30),
        cuts in proptest::collection::vec(1..4_usize, 30),
    ) {
        let names = ["ann", "ben", "cy"];
        let log: Vec<LogRecord> = steps.iter().zip(0..).map(|((what, which, who), offset)| {
            let (id, name) = (format!("c{which}"), names[*who]);
            match what {
                0 => comment_record(offset, "v", &id, name),
                1 => delete_record(offset, "v", &id, name, ActorRole::Author),
                2 => close_record(offset, &id, ReportOutcome::Dismissed),
                3 => erase_record(offset, "v", &id, None, name),
                4 => erase_report_record(offset, &id, name),
                _ => report_record(offset, &id, name),
            }
        }).collect();
        let whole = ModelArchive::from_one_batch(&log);
        let (mut cut, mut rest) = (ModelArchive::default(), &log[..]);
        for at in cuts {
            let (now, later) = rest.split_at(at.min(rest.len()));
            cut.commit(now);
            rest = later;
        }
        prop_assert_eq!(cut, whole);
    }
}
