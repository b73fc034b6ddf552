//! Checks of reports of comments, and of their queues.

use liverank_core::counting::{Batch, CountingRules};
use liverank_core::moderation::{
    ActorRole, Moderation, ModerationAction, NameDigest, ReportOutcome, ReportReason, ReportedComment,
};
use liverank_core::{CommentId, Interaction};

use super::log::{LOG_START_TIME, SimulatedLog, comment, user, video};
use liverank_adapters::Archive;
use liverank_adapters::archive::{CommitError, ReplayFinish, ReportPosition, ReportQueue};

fn comment_id(text: &str) -> CommentId {
    CommentId::parse(text).unwrap()
}

fn moderation_record(
    on: &str,
    event: &str,
    who: &str,
    role: ActorRole,
    action: ModerationAction,
) -> Interaction {
    let moderation = Moderation { action, role, reason: Some("words".into()) };
    moderation.into_record(user(who), Some(video(on)), event.parse().unwrap(), LOG_START_TIME)
}

fn report_event(on: &str, comment: &str, who: &str) -> Interaction {
    let action = ModerationAction::Report { comment_id: comment_id(comment), why: ReportReason::Hate };
    moderation_record(on, &format!("r-{comment}-{who}"), who, ActorRole::Viewer, action)
}

fn report_dismissal_event(on: &str, comment: &str) -> Interaction {
    let action =
        ModerationAction::CloseReports { comment_id: comment_id(comment), outcome: ReportOutcome::Dismissed };
    moderation_record(on, &format!("d-{comment}"), "mod", ActorRole::Moderator, action)
}

fn deletion_event(on: &str, comment: &str) -> Interaction {
    moderation_record(
        on,
        &format!("x-{comment}"),
        "mod",
        ActorRole::Moderator,
        ModerationAction::Delete { comment_id: comment_id(comment) },
    )
}

fn report_erasure_event(on: &str, comment: &str, whom: &str) -> Interaction {
    let action = ModerationAction::EraseReport {
        comment_id: comment_id(comment),
        user: NameDigest::of_user(&user(whom)),
    };
    moderation_record(on, &format!("e-{comment}-{whom}"), "ops", ActorRole::Service, action)
}

async fn reported_comment(archive: &dyn Archive, on: &str, comment: &str) -> Option<ReportedComment> {
    archive.moderation_archive().reports_of_comment(&video(on), &comment_id(comment)).await.unwrap()
}

/// Reads the comments of a queue, in pages of `page` comments.
async fn read_queue(archive: &dyn Archive, queue: ReportQueue, page: usize) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let found = archive.moderation_archive().report_queue(queue, after, page).await.unwrap();
        assert!(found.len() <= page);
        after = found.last().map(ReportPosition::of);
        let full = found.len() == page;
        all.extend(found.into_iter().map(|comment| format!("{}/{}", comment.video, comment.id)));
        if !full {
            return all;
        }
    }
}

pub async fn a_report_counts_once_and_a_decision_ends_them(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let commit = async |batch: Batch| archive.commit_batch(&batch).await.unwrap();
    commit(log.batch_on_partition_0([
        comment("v", "a", "one"),
        report_event("v", "a", "ben"),
        report_event("v", "b", "ben"),
    ]))
    .await;
    assert_eq!(reported_comment(archive, "v", "b").await, None, "there is no such comment");
    // After longer than repeats of a record are recognised, it is the same user all the same.
    log.advance_clock(liverank_core::counting::REPEAT_WINDOW_MS + 1);
    commit(log.batch_on_partition_0([report_event("v", "a", "ben")])).await;
    commit(log.batch_on_partition_0([report_event("v", "a", "cy")])).await;
    let found = reported_comment(archive, "v", "a").await.unwrap();
    let users: Vec<&str> = found.reports.iter().map(|report| report.user.as_str()).collect();
    assert_eq!((users, found.is_open()), (vec!["ben", "cy"], true));
    let first = &found.reports[0];
    assert_eq!(
        (first.why, first.text.as_deref(), first.at),
        (ReportReason::Hate, Some("words"), LOG_START_TIME)
    );
    assert_eq!(archive.last_seqs(&[video("v")]).await.unwrap(), [1], "a report takes no number");
    commit(log.batch_on_partition_0([report_dismissal_event("v", "a"), report_event("v", "a", "dan")])).await;
    commit(log.batch_on_partition_0([report_erasure_event("v", "a", "ben")])).await;
    let found = reported_comment(archive, "v", "a").await.unwrap();
    let users: Vec<&str> = found.reports.iter().map(|report| report.user.as_str()).collect();
    assert_eq!(users, [liverank_core::comment::NOBODY_ID, "cy"]);
    let decision = found.decision.unwrap();
    assert_eq!((decision.outcome, decision.by), (ReportOutcome::Dismissed, Some(user("mod"))));
    let audit = archive.moderation_archive().audit_log(None, 10).await.unwrap();
    assert_eq!(audit.len(), 3, "two reports that counted, and the decision");
}

fn batch_with_many_reports(log: &mut SimulatedLog) -> Batch {
    log.batch([
        (0, comment("v", "a", "one")),
        (0, comment("v", "b", "two")),
        (1, comment("w", "c", "three")),
        (0, comment("v", "d", "four")),
        (0, report_event("v", "a", "u1")),
        (0, report_event("v", "a", "u2")),
        (0, report_event("v", "b", "u1")),
        (1, report_event("w", "c", "u1")),
        (1, report_event("w", "c", "u2")),
        (1, report_event("w", "c", "u3")),
        (0, report_event("v", "d", "u1")),
    ])
}

pub async fn queues_are_in_order_and_paged(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    assert_eq!(read_queue(archive, ReportQueue::OpenNewest, 5).await, Vec::<String>::new());
    archive.commit_batch(&batch_with_many_reports(&mut log)).await.unwrap();
    for page in [1, 2, 10] {
        assert_eq!(read_queue(archive, ReportQueue::OpenNewest, page).await, ["v/d", "w/c", "v/b", "v/a"]);
        assert_eq!(read_queue(archive, ReportQueue::OpenMost, page).await, ["w/c", "v/a", "v/d", "v/b"]);
    }
    let open = async |of: Option<&str>, most| {
        archive.moderation_archive().count_open_reports(of.map(video).as_ref(), most).await.unwrap()
    };
    assert_eq!(
        [open(None, 100).await, open(Some("v"), 100).await, open(Some("x"), 100).await, open(None, 2).await],
        [4, 3, 0, 2]
    );
    let decided = log.batch([
        (0, report_event("v", "b", "u2")),
        (0, report_dismissal_event("v", "a")),
        (0, deletion_event("v", "d")),
        (0, report_dismissal_event("v", "d")),
    ]);
    archive.commit_batch(&decided).await.unwrap();
    assert_eq!(
        read_queue(archive, ReportQueue::OpenNewest, 2).await,
        ["v/b", "w/c"],
        "the last report first"
    );
    assert_eq!(read_queue(archive, ReportQueue::Closed, 1).await, ["v/d", "v/a"], "the last decision first");
    assert_eq!(open(None, 100).await, 2);
    let deleted = reported_comment(archive, "v", "d").await.unwrap().decision.unwrap();
    assert_eq!(deleted.outcome, ReportOutcome::Deleted, "the first decision holds");
}

pub async fn a_replay_reports_again(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let batches = [
        batch_with_many_reports(&mut log),
        log.batch([(0, deletion_event("v", "a")), (1, report_erasure_event("w", "c", "u2"))]),
    ];
    for batch in &batches {
        archive.commit_batch(batch).await.unwrap();
    }
    let all = async || {
        let mut all = Vec::new();
        for queue in ReportQueue::ALL {
            all.push(archive.moderation_archive().report_queue(queue, None, 100).await.unwrap());
        }
        all
    };
    let before = all().await;
    let replay =
        archive.rebuild_archive().begin_replay(&CountingRules::default(), None, &|_, _| ()).await.unwrap();
    let mut whole = Batch::default();
    for batch in batches {
        whole.append(batch);
    }
    match replay.archive().commit_batch(&whole).await {
        Ok(_) | Err(CommitError::PositionMismatch { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let finished = replay.swap_in(false, &|_, _| ()).await.unwrap();
    assert!(matches!(finished, ReplayFinish::Done { .. }), "{finished:?}");
    assert_eq!(all().await, before);
}
