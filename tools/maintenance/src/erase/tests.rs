use std::path::Path;
use std::sync::Arc;

use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::archive::{CommentPage, ReportQueue};
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::clock;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::RecordPosition;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_core::counting::CountingRules;
use liverank_runtime::output::OutputFormat;
use serde_json::{Value, json};

use super::*;

fn embedded_backends(directory: &Path) -> Backends {
    Backends {
        log: Arc::new(EmbeddedLog::open(directory, clock::system_clock()).unwrap()),
        archive: Arc::new(EmbeddedArchive::open(directory).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::open(directory).unwrap()),
        clock: clock::system_clock(),
    }
}

async fn append_json(backends: &Backends, value: Value) -> RecordPosition {
    let key = value["video_id"].as_str().unwrap_or("v").to_owned();
    backends.log.append(key.as_bytes(), value.to_string().into_bytes()).await.unwrap()
}

async fn append_comment(backends: &Backends, video: &str, id: &str, by: &str) {
    let text = format!("words of {id}");
    append_json(
        backends,
        json!({"type": "comment", "video_id": video, "user_id": by, "comment_id": id, "comment": text}),
    )
    .await;
}

fn options(user: &str) -> EraseArgs {
    EraseArgs {
        user: user.parse().unwrap(),
        by: "ops".parse().unwrap(),
        reason: Some("asked for it".to_owned()),
        output: OutputArgs { output: OutputFormat::Json },
        embedded: true,
    }
}

async fn erase_and_report(backends: &Backends, name: &str) -> (CommandVerdict, Value) {
    let mut out = Vec::new();
    let verdict = erase_user(&options(name), backends, &CommandProgress::new(), 1_700_000_000_000, &mut out)
        .await
        .unwrap();
    (verdict, serde_json::from_slice(&out).unwrap())
}

#[tokio::test]
async fn a_system_that_does_not_run_is_erased_and_a_second_time_finds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let backends = embedded_backends(directory.path());
    backends
        .archive
        .open(&CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() })
        .await
        .unwrap();
    for at in 0..5 {
        append_comment(&backends, "v", &format!("a{at}"), "ann").await;
        append_comment(&backends, &format!("w{at}"), &format!("b{at}"), "ben").await;
    }
    append_json(&backends, json!({"type": "like", "video_id": "v", "user_id": "ann"})).await;
    for (id, video, by, at) in [("b0", "w0", "ann", 0), ("b1", "w1", "ann", 1), ("b1", "w1", "cy", 2)] {
        let report =
            json!({"action": "report", "comment_id": id, "why": "spam", "role": "viewer", "reason": by});
        append_json(
            &backends,
            json!({"type": "moderation", "version": 2, "video_id": video, "user_id": by, "event_id": format!("r{at}"),
                "timestamp": 1, "moderation": report}),
        )
        .await;
    }
    let dismissal =
        json!({"action": "close_reports", "comment_id": "b0", "outcome": "dismissed", "role": "moderator"});
    append_json(
        &backends,
        json!({"type": "moderation", "version": 2, "video_id": "w0", "user_id": "mo", "event_id": "d0", "timestamp": 1,
            "moderation": dismissal}),
    )
    .await;
    append_json(&backends, json!({"type": "praise", "video_id": "v", "user_id": "ann"})).await;
    append_json(&backends, json!({"type": "praise", "video_id": "v", "user_id": "ben"})).await;

    let (verdict, told) = erase_and_report(&backends, "ann").await;
    assert_eq!(verdict, CommandVerdict::AllGood);
    let counts = ["entries", "held", "reports", "owned", "marks", "dead_letters"]
        .map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [5, 0, 2, 1, 1, 1], "{told:#}");
    for (queue, id, by) in
        [(ReportQueue::Closed, "b0", &[NOBODY_ID][..]), (ReportQueue::OpenNewest, "b1", &[NOBODY_ID, "cy"])]
    {
        let reported = backends.archive.moderation_archive().report_queue(queue, None, 10).await.unwrap();
        let users: Vec<&str> = reported[0].reports.iter().map(|report| report.user.as_str()).collect();
        assert_eq!((reported.len(), reported[0].id.as_str(), &users[..]), (1, id, by));
        assert_eq!(reported[0].reports[0].text, None, "nor its words");
    }
    assert_eq!(
        (&told["left"]["log"], &told["left"]["identities_until"]),
        (&json!("for good"), &json!("2023-11-15T22:13:20Z"))
    );
    let video = |id: &str| VideoId::parse(id).unwrap();
    let entries = backends.archive.comments(&video("v"), CommentPage::After(0), 100).await.unwrap();
    assert_eq!(entries.len(), 10, "five comments, and five entries that say that they are gone");
    assert!(
        entries.iter().all(|entry| entry.user_id.as_str() == NOBODY_ID && entry.text.is_empty()),
        "{entries:?}"
    );
    let state = backends.archive.video(&video("v")).await.unwrap().unwrap();
    assert_eq!((state.owner.as_str(), state.counters.comments, state.counters.likes), (NOBODY_ID, 5, 1));
    let other = backends.archive.comments(&video("w0"), CommentPage::After(0), 100).await.unwrap();
    assert_eq!(other[0].text, "words of b0");
    let letters = backends.log.read_dead_letters(None).await.unwrap().next_dead_letters(10).await.unwrap();
    assert_eq!(letters.len(), 1, "another's letter stays");
    let audit = backends.archive.moderation_archive().audit_log(None, 10).await.unwrap();
    // Records of the same millisecond are ordered by their partitions only.
    let by: Vec<_> = audit.iter().map(|line| line.record.as_ref().unwrap().user_id.as_str()).collect();
    assert_eq!(by.iter().filter(|by| **by == "ops").count(), 1, "one line for all of it: {by:?}");
    assert_eq!(audit.len(), 5, "and three reports and a decision");
    assert!(!format!("{audit:?}").contains("ann"), "{audit:?}");

    let (_, again) = erase_and_report(&backends, "ann").await;
    assert_eq!(again["entries"], 0);
    assert_eq!(backends.archive.comments(&video("v"), CommentPage::After(0), 100).await.unwrap(), entries);
}

#[tokio::test]
async fn what_a_killed_erasure_left_in_the_log_is_found_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let backends = embedded_backends(directory.path());
    backends.archive.open(&CountingRules::default()).await.unwrap();
    for at in 0..3 {
        append_comment(&backends, "v", &format!("a{at}"), "ann").await;
    }
    let options = options("ann");
    let erasure =
        UserErasure { options: &options, backends: &backends, progress: &CommandProgress::new(), now: 5 };
    // The command died after it appended one record, which is not counted yet.
    let one = erasure.build_erase_action(VideoId::parse("v").unwrap(), "a1".parse().unwrap(), Some(2));
    erasure.append_records(vec![one]).await.unwrap();
    let (_, told) = erase_and_report(&backends, "ann").await;
    assert_eq!(told["entries"], 2, "the other one is gone already: {told:#}");
    let left =
        backends.archive.comments(&VideoId::parse("v").unwrap(), CommentPage::After(0), 100).await.unwrap();
    assert!(left.iter().all(|entry| entry.user_id.as_str() == NOBODY_ID), "{left:?}");
    assert_eq!(
        left.iter().filter(|entry| entry.entry.removed_seq().is_some()).count(),
        3,
        "each is told once"
    );
}

#[tokio::test]
async fn the_nobody_user_cannot_be_erased() {
    let directory = tempfile::tempdir().unwrap();
    let backends = embedded_backends(directory.path());
    let refused = erase_user(&options(NOBODY_ID), &backends, &CommandProgress::new(), 5, &mut Vec::new())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains(NOBODY_ID), "{refused}");
}
