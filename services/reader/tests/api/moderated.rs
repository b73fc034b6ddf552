//! Tests of shadowed comments, which only their authors are shown, and of pinned comments.

use liverank_core::counting::{Batch, LogRecord, OffsetRange};
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction};

use crate::world::{Running, Viewer, World, config, video};

async fn viewer_watching(address: &str, user: &str, events: &str, last: Option<&str>) -> Viewer {
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let path = format!("/connect?userid={user}&videoid=v&events={events}");
    Viewer::ask(address, &format!("GET {path} HTTP/1.1\r\nHost: t\r\n{last}\r\n")).await
}

/// Commits these actions of moderators as the consumer does, and publishes the result.
async fn commit_and_publish(world: &World, by: &str, actions: Vec<ModerationAction>) {
    let partition = 7;
    let from = world.archive.partition_positions(&[partition]).await.unwrap()[0].next_offset;
    let record = |(action, offset): (ModerationAction, u64)| {
        let id = match &action {
            ModerationAction::Shadow { comment_id, .. } => comment_id.as_str().parse().unwrap(),
            _ => format!("m{offset}").parse().unwrap(),
        };
        let moderation = Moderation { action, role: ActorRole::Moderator, reason: None };
        let event = moderation.into_record(by.parse().unwrap(), Some(video("v")), id, 5);
        LogRecord { partition, offset, broker_time: 1_700_000_000_000, event }
    };
    let records: Vec<LogRecord> = actions.into_iter().zip(from..).map(record).collect();
    let span = OffsetRange { partition, first: from, next: from + records.len() as u64, last_record: None };
    let committed = world.archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await.unwrap();
    let entries: Vec<_> =
        committed.batch_effects.comments.into_iter().map(|numbered| numbered.comment).collect();
    world.publish(&entries).await;
}

fn shadow_action(id: &str) -> ModerationAction {
    ModerationAction::Shadow { comment_id: id.parse().unwrap(), text: "hidden".to_owned(), reply_to: None }
}

#[tokio::test]
async fn a_shadowed_comment_is_shown_to_its_author_alone_live_and_to_one_who_comes_back() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut troll = viewer_watching(&reader.address, "troll", "", None).await;
    let mut ann = viewer_watching(&reader.address, "ann", "deleted,pinned", None).await;
    let mut seed = Viewer::post(&reader.address, "v").await;
    troll.greeted().await;
    ann.greeted().await;
    seed.greeted().await;
    world.post("v", 1).await;
    commit_and_publish(&world, "troll", vec![shadow_action("s")]).await;
    world.post("v", 1).await;
    assert_eq!(ann.comments(2).await, [1, 3]);
    assert_eq!(seed.comments(2).await, [1, 3]);
    assert_eq!(troll.comments(3).await, [1, 2, 3]);
    let start = format!("{}-0", world.numbering);
    // From the ring; then from a reader with an empty ring.
    let other = Running::start(&world, config("r2")).await;
    for address in [&reader.address, &other.address] {
        let mut ann = viewer_watching(address, "ann", "", Some(&start)).await;
        ann.greeted().await;
        assert_eq!(ann.comments(2).await, [1, 3]);
        let mut troll = viewer_watching(address, "troll", "", Some(&start)).await;
        troll.greeted().await;
        assert_eq!(troll.comments(3).await, [1, 2, 3]);
    }
    let delete = ModerationAction::Delete { comment_id: "s".parse().unwrap() };
    commit_and_publish(&world, "mod", vec![delete]).await;
    world.post("v", 1).await;
    world.bus.empty();
    let third = Running::start(&world, config("r3")).await;
    for address in [&reader.address, &third.address] {
        let mut troll = viewer_watching(address, "troll", "", Some(&start)).await;
        troll.greeted().await;
        assert_eq!(troll.comments(3).await, [1, 3, 5], "it is gone for its author, too");
    }
}

#[tokio::test]
async fn pin_events_go_in_order_to_viewers_who_asked() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut asking = viewer_watching(&reader.address, "ann", "pinned", None).await;
    let mut other = viewer_watching(&reader.address, "ann", "deleted", None).await;
    asking.greeted().await;
    other.greeted().await;
    world.post("v", 1).await;
    let held = world
        .archive
        .comments(&video("v"), liverank_adapters::archive::CommentPage::After(0), 1)
        .await
        .unwrap();
    let id = held[0].id.clone();
    commit_and_publish(
        &world,
        "mod",
        vec![
            ModerationAction::Pin { comment_id: Some(id.clone()) },
            ModerationAction::Pin { comment_id: None },
        ],
    )
    .await;
    world.post("v", 1).await;
    assert_eq!(asking.comments(1).await, [1]);
    let told = asking.next().await.unwrap();
    assert_eq!(
        (told.kind.as_deref(), told.id.clone()),
        (Some("pinned"), Some(format!("{}-2", world.numbering)))
    );
    assert_eq!((&told.json()["id"], &told.json()["seq"]), (&serde_json::json!(id), &serde_json::json!(1)));
    assert_eq!(asking.next().await.unwrap().json()["id"], serde_json::Value::Null);
    assert_eq!(asking.comments(1).await, [4]);
    assert_eq!(other.comments(2).await, [1, 4], "no event of another kind");
}
