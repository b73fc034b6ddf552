//! The data that a copy of an archive has to keep beside counts and comments: for tests of copies, which each store
//! makes in its own way.

use liverank_core::Interaction;
use liverank_core::counting::Batch;
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, ReportReason, RuleName};

use super::log::{LOG_START_TIME, SimulatedLog, comment, user, video};
use liverank_adapters::Archive;
use liverank_adapters::archive::{ReportQueue, pinned_comment};

const COPIED_VIDEO: &str = "copied";

/// Returns a batch with a comment that is pinned and reported, and with one that waits for a moderator; on a partition
/// of their own.
pub fn copied_batch() -> Batch {
    let record = |event: &str, action: ModerationAction| -> Interaction {
        let moderation = Moderation { action, role: ActorRole::Moderator, reason: None };
        moderation.into_record(user("mod"), Some(video(COPIED_VIDEO)), event.parse().unwrap(), LOG_START_TIME)
    };
    let id = |id: &str| id.parse().unwrap();
    let hold = ModerationAction::Hold {
        comment_id: id("h"),
        text: "waits".into(),
        reply_to: None,
        rule: RuleName::HoldAll,
    };
    let events = [
        comment(COPIED_VIDEO, "a", "words"),
        record("m1", ModerationAction::Pin { comment_id: Some(id("a")) }),
        record("m2", hold),
        record("m3", ModerationAction::Report { comment_id: id("a"), why: ReportReason::Other }),
    ];
    SimulatedLog::new().batch(events.into_iter().map(|event| (9, event)))
}

/// Checks that an archive has the data of `copied_batch`.
pub async fn check_copied_data(archive: &dyn Archive) {
    let moderation = archive.moderation_archive();
    let pin = pinned_comment(archive, &video(COPIED_VIDEO)).await.unwrap().map(|comment| comment.text);
    assert_eq!(pin.as_deref(), Some("words"), "the pin");
    let held = moderation.held_comments(None, 10).await.unwrap();
    assert_eq!(held.iter().map(|held| held.text.as_str()).collect::<Vec<_>>(), ["waits"], "what waits");
    let comment = held[0].id.clone();
    assert!(moderation.held_comment(&video(COPIED_VIDEO), &comment).await.unwrap().is_some());
    let reported = moderation.report_queue(ReportQueue::OpenMost, None, 10).await.unwrap();
    assert_eq!(reported.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["a"], "reports");
    assert!(moderation.reports_of_comment(&video(COPIED_VIDEO), &reported[0].id).await.unwrap().is_some());
    assert_eq!(moderation.audit_log(None, 10).await.unwrap().len(), 2, "a pin and a report");
}
