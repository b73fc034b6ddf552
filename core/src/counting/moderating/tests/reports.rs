//! Reports of comments: how often they count, and what ends them.

use super::*;
use crate::moderation::reports::{MAX_REPORTS, ReportDecision};
use crate::moderation::{ReportOutcome, ReportReason};

fn report(offset: u64, id: &str, by: &str) -> LogRecord {
    let action = Action::Report { comment_id: id.parse().unwrap(), why: ReportReason::Spam };
    moderated(offset, Some("v"), by, ActorRole::Viewer, action)
}

fn close(offset: u64, id: &str, outcome: ReportOutcome) -> LogRecord {
    let action = Action::CloseReports { comment_id: id.parse().unwrap(), outcome };
    moderated(offset, Some("v"), "mod", ActorRole::Moderator, action)
}

fn erase_report(offset: u64, id: &str, whom: &str) -> LogRecord {
    let action = Action::EraseReport { comment_id: id.parse().unwrap(), user: Digest::of_user(&user(whom)) };
    moderated(offset, Some("v"), "ops", ActorRole::Service, action)
}

fn of<'a>(archive: &'a Archive, id: &str) -> Option<&'a ReportedComment> {
    archive.reports.get(&(video("v"), id.parse().unwrap()))
}

fn users(archive: &Archive, id: &str) -> Vec<String> {
    let reports = of(archive, id).map(|comment| comment.reports.as_slice()).unwrap_or_default();
    reports.iter().map(|report| report.user.to_string()).collect()
}

#[test]
fn a_report_counts_once_for_a_user_and_a_comment_that_is_shown() {
    let mut archive = Archive::of(&[
        report(0, "early", "ben"),
        comment(1, "v", "a", "ann"),
        shadow(2, "v", "s", "troll"),
        report(3, "a", "ben"),
        report(4, "a", "ben"),
        report(5, "s", "ben"),
        report(6, "other", "ben"),
    ]);
    archive.commit(&[report(7, "a", "ben"), report(8, "a", "cy")]);
    assert_eq!(users(&archive, "a"), ["ben", "cy"]);
    assert_eq!(archive.reports.len(), 1, "what nobody is shown has none");
    let first = &of(&archive, "a").unwrap().reports[0];
    assert_eq!((first.why, first.text.as_deref(), first.at), (ReportReason::Spam, Some("why"), 1));
    assert_eq!(archive.texts().len(), 2, "a report has no number");
    assert_eq!(archive.videos[&video("v")].counters.comments, 1);
    let audited: Vec<_> = archive.audit.iter().map(|entry| (entry.offset, &entry.record)).collect();
    assert_eq!(audited.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [3, 8], "those that counted");
    for (_, record) in audited {
        let said = (record.user_id.as_str(), record.moderation.as_ref().unwrap().reason.as_deref());
        assert_eq!(said, (NOBODY, None), "the audit log names no viewer");
    }
    for offset in 0..60 {
        archive.commit(&[report(10 + offset, "a", &format!("u{offset}"))]);
    }
    assert_eq!(users(&archive, "a").len(), MAX_REPORTS);
}

#[test]
fn a_decision_or_the_comment_s_removal_ends_its_reports() {
    let begin = || Archive::of(&[comment(0, "v", "a", "ann"), report(1, "a", "ben")]);
    let ended = |record: LogRecord| {
        let mut archive = begin();
        archive.commit(&[record, report(3, "a", "cy"), close(4, "a", ReportOutcome::Banned)]);
        assert_eq!(users(&archive, "a"), ["ben"], "there are no more");
        of(&archive, "a").unwrap().decision.clone()
    };
    let decided = |outcome, by: Option<&str>| {
        Some(ReportDecision { outcome, by: by.map(user), reason: by.map(|_| "why".to_owned()), at: 1 })
    };
    assert_eq!(
        ended(close(2, "a", ReportOutcome::Dismissed)),
        decided(ReportOutcome::Dismissed, Some("mod"))
    );
    let deleted = |by: &str, role| ended(delete(2, "v", "a", by, role));
    assert_eq!(deleted("mod", ActorRole::Moderator), decided(ReportOutcome::Deleted, Some("mod")));
    assert_eq!(deleted("ann", ActorRole::Author), decided(ReportOutcome::Deleted, None), "no name of hers");
    assert_eq!(ended(erase(2, "v", "a", None, "ann")), decided(ReportOutcome::Deleted, Some("ops")));
    let others = delete(2, "v", "a", "eve", ActorRole::Author);
    let mut archive = begin();
    archive.commit(&[others]);
    assert!(of(&archive, "a").unwrap().is_open(), "a deletion that is none ends nothing");
    archive.commit(&[close(3, "b", ReportOutcome::Dismissed)]);
    assert_eq!(archive.reports.len(), 1, "where nothing is reported there is nothing to end");
}

#[test]
fn a_user_who_is_erased_is_in_no_report() {
    let mut archive = Archive::of(&[
        comment(0, "v", "a", "ann"),
        report(1, "a", "ben"),
        report(2, "a", "cy"),
        erase_report(3, "a", "ben"),
    ]);
    assert_eq!(users(&archive, "a"), [NOBODY, "cy"]);
    archive.commit(&[close(4, "a", ReportOutcome::Dismissed), erase_report(5, "a", "cy")]);
    assert_eq!(users(&archive, "a"), [NOBODY, NOBODY], "decided ones, too");
    assert!(!format!("{:?}{:?}", archive.reports, archive.audit).contains("cy"));
}

proptest! {
    /// However the log is cut into batches, what is left is the same: so is what a rebuild makes of it.
    #[test]
    fn reports_are_the_same_in_any_cut(
        steps in proptest::collection::vec((0..8_u8, 0..3_u8, 0..3_usize), 1..30),
        cuts in proptest::collection::vec(1..4_usize, 30),
    ) {
        let names = ["ann", "ben", "cy"];
        let log: Vec<LogRecord> = steps.iter().zip(0..).map(|((what, which, who), offset)| {
            let (id, name) = (format!("c{which}"), names[*who]);
            match what {
                0 => comment(offset, "v", &id, name),
                1 => delete(offset, "v", &id, name, ActorRole::Author),
                2 => close(offset, &id, ReportOutcome::Dismissed),
                3 => erase(offset, "v", &id, None, name),
                4 => erase_report(offset, &id, name),
                _ => report(offset, &id, name),
            }
        }).collect();
        let whole = Archive::of(&log);
        let (mut cut, mut rest) = (Archive::default(), &log[..]);
        for at in cuts {
            let (now, later) = rest.split_at(at.min(rest.len()));
            cut.commit(now);
            rest = later;
        }
        prop_assert_eq!(cut, whole);
    }
}
