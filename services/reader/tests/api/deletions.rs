//! Tests of deleted comments: viewers who asked are told of deletions in order, and no viewer is given a deleted
//! comment again.

use liverank_core::comment::EntryKind;
use liverank_core::counting::{Batch, LogRecord, OffsetRange};
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction};

use crate::world::{Event, Running, Viewer, World, config, video};

async fn viewer_asking_for_deletions(address: &str, last: Option<&str>) -> Viewer {
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let request = format!("GET /connect?userid=u&videoid=v&events=deleted HTTP/1.1\r\nHost: t\r\n{last}\r\n");
    Viewer::ask(address, &request).await
}

/// Deletes the comments with these sequence numbers as the consumer does, and publishes the deletions.
async fn delete_comments(world: &World, seqs: &[u64]) {
    let held =
        world.archive.comments(&video("v"), liverank_adapters::archive::CommentPage::After(0), 1000).await;
    let held = held.unwrap();
    let partition = 7;
    let from = world.archive.partition_positions(&[partition]).await.unwrap()[0].next_offset;
    let record = |(seq, offset): (&u64, u64)| {
        let comment_id = held[*seq as usize - 1].id.clone();
        let moderation = Moderation {
            action: ModerationAction::Delete { comment_id },
            role: ActorRole::Moderator,
            reason: None,
        };
        let id = format!("m{offset}").parse().unwrap();
        let event = moderation.into_record("mod".parse().unwrap(), Some(video("v")), id, 5);
        LogRecord { partition, offset, broker_time: 1_700_000_000_000, event }
    };
    let records: Vec<LogRecord> = seqs.iter().zip(from..).map(record).collect();
    let span = OffsetRange { partition, first: from, next: from + records.len() as u64, last_record: None };
    let committed = world.archive.commit_batch(&Batch { offset_ranges: vec![span], records }).await.unwrap();
    let entries: Vec<_> =
        committed.batch_effects.comments.into_iter().map(|numbered| numbered.comment).collect();
    assert!(entries.iter().all(|entry| matches!(entry.entry, EntryKind::Deleted { .. })));
    world.publish(&entries).await;
}

fn deleted_of_event(event: &Event) -> (u64, String) {
    assert_eq!(event.kind.as_deref(), Some("deleted"), "{event:?}");
    (event.json()["seq"].as_u64().unwrap(), event.id.clone().unwrap())
}

#[tokio::test]
async fn deletion_events_go_in_order_to_viewers_who_asked() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut asking = viewer_asking_for_deletions(&reader.address, None).await;
    let mut plain = Viewer::get(&reader.address, "v", None).await;
    let mut seed = Viewer::post(&reader.address, "v").await;
    asking.greeted().await;
    plain.greeted().await;
    seed.greeted().await;
    world.post("v", 3).await;
    assert_eq!(asking.comments(3).await, [1, 2, 3]);
    delete_comments(&world, &[2]).await;
    world.post("v", 1).await;
    let told = asking.next().await.unwrap();
    assert_eq!(deleted_of_event(&told), (2, format!("{}-4", world.numbering)));
    assert_eq!(told.json()["by"], "moderator");
    assert_eq!(asking.comments(1).await, [5]);
    assert_eq!(plain.comments(4).await, [1, 2, 3, 5], "no event of another kind");
    assert_eq!(seed.comments(4).await, [1, 2, 3, 5]);
}

#[tokio::test]
async fn a_resuming_viewer_is_never_given_a_deleted_comment() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut first = viewer_asking_for_deletions(&reader.address, None).await;
    first.greeted().await;
    world.post("v", 4).await;
    first.comments(4).await;
    delete_comments(&world, &[2, 3]).await;
    assert_eq!(deleted_of_event(&first.next().await.unwrap()).0, 2);
    assert_eq!(deleted_of_event(&first.next().await.unwrap()).0, 3);
    let start = format!("{}-0", world.numbering);
    // From the ring; then from a reader with an empty ring, with a bus that lacks some; then with a bus that has
    // nothing.
    let other = Running::start(&world, config("r2")).await;
    let third = Running::start(&world, config("r3")).await;
    for (at, address) in [&reader.address, &other.address, &third.address].into_iter().enumerate() {
        if at == 2 {
            world.bus.empty();
        }
        let mut back = viewer_asking_for_deletions(address, Some(&start)).await;
        back.greeted().await;
        assert_eq!(back.comments(1).await, [1], "reader {at}");
        assert_eq!(back.shown().await.json()["seq"], 4, "2 and 3 are an id each");
        assert_eq!(deleted_of_event(&back.shown().await).0, 2);
        assert_eq!(deleted_of_event(&back.shown().await).0, 3);
        assert_eq!(back.last_id, format!("{}-6", world.numbering));
        // A viewer who had the comment and resumes is told of the deletion after its position.
        let mut had = viewer_asking_for_deletions(address, Some(&format!("{}-4", world.numbering))).await;
        had.greeted().await;
        assert_eq!(deleted_of_event(&had.shown().await).0, 2);
    }
    assert_eq!(reader.metric("gaps_total"), 0, "nobody missed anything");
}

#[tokio::test]
async fn an_event_that_no_release_knows_is_refused_by_name() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let request = "GET /connect?userid=u&videoid=v&events=deleted,nonsense HTTP/1.1\r\nHost: t\r\n\r\n";
    let refused = Viewer::ask(&reader.address, request).await;
    assert_eq!(refused.status(), 400);
}
