//! Checks of repeats: recognised for a day of the log's time, in any batch, on any partition.

use liverank_core::counting::{CountingRules, REPEAT_WINDOW_MS};
use liverank_core::{Interaction, UserId};

use super::log::{Model, SimulatedLog, comment, video, view_with_event_id};
use liverank_adapters::Archive;

async fn views_of(archive: &dyn Archive) -> i64 {
    archive.video(&video("v")).await.unwrap().map_or(0, |state| state.counters.views)
}

pub async fn a_repeat_counts_once(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let rules = CountingRules::default();
    model
        .commit(
            archive,
            &log.batch_on_partition_0([view_with_event_id("v", "e"), view_with_event_id("v", "e")]),
            &rules,
        )
        .await;
    assert_eq!(views_of(archive).await, 1, "within a batch");
    model.commit(archive, &log.batch_on_partition_0([view_with_event_id("v", "e")]), &rules).await;
    assert_eq!(views_of(archive).await, 1, "in a later batch");
    model.commit(archive, &log.batch([(9, view_with_event_id("v", "e"))]), &rules).await;
    assert_eq!(views_of(archive).await, 1, "on another partition");
    model.commit(archive, &log.batch_on_partition_0([comment("v", "e", "of the same name")]), &rules).await;
    let of_another =
        Interaction { user_id: UserId::parse("another").unwrap(), ..view_with_event_id("v", "e") };
    let others = [of_another.clone(), of_another, view_with_event_id("w", "e"), view_with_event_id("w", "e")];
    model.commit(archive, &log.batch_on_partition_0(others), &rules).await;
    assert_eq!(views_of(archive).await, 2, "the same id of another user is another event");
    assert_eq!(archive.video(&video("w")).await.unwrap().unwrap().counters.views, 1, "and on another video");
    log.advance_clock(REPEAT_WINDOW_MS - 100);
    model.commit(archive, &log.batch_on_partition_0([view_with_event_id("v", "e")]), &rules).await;
    assert_eq!(views_of(archive).await, 2, "almost a day later");
    log.advance_clock(100);
    model
        .commit(
            archive,
            &log.batch_on_partition_0([view_with_event_id("v", "e"), view_with_event_id("v", "e")]),
            &rules,
        )
        .await;
    assert_eq!(views_of(archive).await, 3, "a day later it is a new event");
    model.check(archive).await;
}

pub async fn forgetting_is_by_the_log_s_time(archive: &dyn Archive) {
    const OLD_IDENTITY_COUNT: usize = 2500;
    let mut log = SimulatedLog::new();
    archive
        .commit_batch(&log.batch_on_partition_0(
            (0..OLD_IDENTITY_COUNT).map(|at| view_with_event_id("v", &format!("old{at}"))),
        ))
        .await
        .unwrap();
    let watermark = log.now();
    let young =
        [view_with_event_id("v", "young"), comment("v", "young", "text"), view_with_event_id("v", "later")];
    archive.commit_batch(&log.batch_on_partition_0(young.clone())).await.unwrap();
    let mut forgotten = 0;
    for _ in 0..=OLD_IDENTITY_COUNT {
        match archive.forget_identities_before(watermark).await.unwrap() {
            0 => break,
            some => forgotten += some,
        }
    }
    assert_eq!(forgotten, OLD_IDENTITY_COUNT as u64, "all that is older, and nothing else");
    let before = views_of(archive).await;
    archive.commit_batch(&log.batch_on_partition_0(young)).await.unwrap();
    assert_eq!(views_of(archive).await, before, "what is not older is remembered");
    archive
        .commit_batch(
            &log.batch_on_partition_0([view_with_event_id("v", "old7"), view_with_event_id("v", "old7")]),
        )
        .await
        .unwrap();
    assert_eq!(views_of(archive).await, before + 1, "what was forgotten counts again, once");
    assert_eq!(archive.forget_identities_before(watermark).await.unwrap(), 0, "it was seen anew since");
}

pub async fn identities_seen_again_are_kept(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    archive
        .commit_batch(&log.batch_on_partition_0([view_with_event_id("v", "e"), comment("v", "c", "text")]))
        .await
        .unwrap();
    log.advance_clock(REPEAT_WINDOW_MS);
    let watermark = log.now();
    let again = [view_with_event_id("v", "e"), comment("v", "c", "a day later")];
    archive.commit_batch(&log.batch_on_partition_0(again.clone())).await.unwrap();
    archive.forget_identities_before(watermark).await.unwrap();
    let effects = archive.commit_batch(&log.batch_on_partition_0(again)).await.unwrap().batch_effects;
    assert_eq!(
        (effects.counted_event_count, effects.repeated_event_count),
        (0, 2),
        "the later sighting is remembered"
    );
}
