//! Tests with a bus that loses, repeats and reorders comments or is unavailable, and with a new comment epoch.

use std::sync::atomic::Ordering;

use liverank_core::comment::CommentEpoch;

use crate::world::{Running, Viewer, World, config, until};

#[tokio::test]
async fn repeats_and_disorder_on_the_bus_do_not_reach_viewers() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    let comments = world.archived("v", 8).await;
    for at in [0, 2, 1, 1, 0, 5, 3, 7, 4, 6, 2, 7] {
        world.bus.deliver(&world.numbering, &comments[at]).await;
    }
    assert_eq!(viewer.comments(8).await, (1..=8).collect::<Vec<_>>());
    world.post("v", 1).await;
    assert_eq!(viewer.comments(1).await, [9]);
    assert!(reader.metric("repeats_total") >= 3);
}

#[tokio::test]
async fn a_lost_publish_is_found_by_comparing_heads_and_one_behind_which_others_wait_at_once() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    // These comments are never published: only the archive has them.
    world.archived("v", 2).await;
    assert_eq!(viewer.comments(2).await, [1, 2]);
    let comments = world.archived("v", 4).await;
    world.publish(&comments[3..]).await;
    assert_eq!(viewer.comments(4).await, [3, 4, 5, 6]);
    assert!(reader.metric("backfilled_total") >= 5);
}

#[tokio::test]
async fn while_the_bus_is_away_comments_come_from_the_archive_and_afterwards_at_once_again() {
    let world = World::new().await;
    world.bus.is_unavailable.store(true, Ordering::Relaxed);
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    world.archived("v", 3).await;
    assert_eq!(viewer.comments(3).await, [1, 2, 3]);
    world.bus.is_unavailable.store(false, Ordering::Relaxed);
    until("subscribing", async || world.bus.subscribed.load(Ordering::Relaxed) == 1).await;
    world.post("v", 2).await;
    assert_eq!(viewer.comments(2).await, [4, 5]);
}

#[tokio::test]
async fn when_the_bus_is_emptied_nothing_is_missed() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    world.post("v", 3).await;
    viewer.comments(3).await;
    world.bus.empty();
    world.archived("v", 2).await;
    let later = world.post("v", 1).await;
    assert_eq!(later[0].seq, 6);
    assert_eq!(viewer.comments(3).await, [4, 5, 6]);
}

#[tokio::test]
async fn a_late_message_of_another_comment_epoch_changes_nothing() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    let comments = world.post("v", 2).await;
    world.bus.deliver(&CommentEpoch::parse("old").unwrap(), &comments[1]).await;
    world.post("v", 1).await;
    assert_eq!(viewer.comments(3).await, [1, 2, 3]);
}

#[tokio::test]
async fn comments_of_before_the_first_consumer_are_not_waited_for() {
    let mut world = World::unopened();
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    assert_eq!(viewer.greeted().await.id, None);
    world.open().await;
    world.archived("v", 2).await;
    assert_eq!(viewer.comments(2).await, [1, 2]);
}

#[tokio::test]
async fn a_viewer_from_before_the_first_consumer_resumes_without_having_had_a_comment() {
    let mut world = World::unopened();
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    assert_eq!(viewer.greeted().await.id, None);
    world.open().await;
    let told = viewer.next().await.unwrap();
    assert!(told.data.is_empty() && told.id.as_deref().is_some_and(|id| id.ends_with("-0")), "{told:?}");
    drop(viewer);
    world.archived("v", 2).await;
    let mut back = Viewer::get(&reader.address, "v", told.id.as_deref()).await;
    back.greeted().await;
    assert_eq!(back.comments(2).await, [1, 2], "what came while it was away");
}
