//! Checks of repeats: recognised for a day of the log's time, in any batch, on any partition.

use liverank_core::counting::{CountingRules, REPEAT_WINDOW_MS};
use liverank_core::{Interaction, UserId};

use super::log::{Log, Model, comment, named, video};
use liverank_adapters::Archive;

async fn views_of(archive: &dyn Archive) -> i64 {
    archive.video(&video("v")).await.unwrap().map_or(0, |state| state.counters.views)
}

pub async fn a_repeat_counts_once(archive: &dyn Archive) {
    let mut log = Log::new();
    let mut model = Model::default();
    let rules = CountingRules::default();
    model.commit(archive, &log.on_one([named("v", "e"), named("v", "e")]), &rules).await;
    assert_eq!(views_of(archive).await, 1, "within a batch");
    model.commit(archive, &log.on_one([named("v", "e")]), &rules).await;
    assert_eq!(views_of(archive).await, 1, "in a later batch");
    model.commit(archive, &log.batch([(9, named("v", "e"))]), &rules).await;
    assert_eq!(views_of(archive).await, 1, "on another partition");
    model.commit(archive, &log.on_one([comment("v", "e", "of the same name")]), &rules).await;
    let of_another = Interaction { user_id: UserId::parse("another").unwrap(), ..named("v", "e") };
    let others = [of_another.clone(), of_another, named("w", "e"), named("w", "e")];
    model.commit(archive, &log.on_one(others), &rules).await;
    assert_eq!(views_of(archive).await, 2, "the same id of another user is another event");
    assert_eq!(archive.video(&video("w")).await.unwrap().unwrap().counters.views, 1, "and on another video");
    log.pass(REPEAT_WINDOW_MS - 100);
    model.commit(archive, &log.on_one([named("v", "e")]), &rules).await;
    assert_eq!(views_of(archive).await, 2, "almost a day later");
    log.pass(100);
    model.commit(archive, &log.on_one([named("v", "e"), named("v", "e")]), &rules).await;
    assert_eq!(views_of(archive).await, 3, "a day later it is a new event");
    model.check(archive).await;
}

pub async fn forgetting_is_by_the_log_s_time(archive: &dyn Archive) {
    const OLD_IDENTITIES: usize = 2500;
    let mut log = Log::new();
    archive
        .commit_batch(&log.on_one((0..OLD_IDENTITIES).map(|at| named("v", &format!("old{at}")))))
        .await
        .unwrap();
    let watermark = log.now();
    let young = [named("v", "young"), comment("v", "young", "text"), named("v", "later")];
    archive.commit_batch(&log.on_one(young.clone())).await.unwrap();
    let mut forgotten = 0;
    for _ in 0..=OLD_IDENTITIES {
        match archive.forget_identities_before(watermark).await.unwrap() {
            0 => break,
            some => forgotten += some,
        }
    }
    assert_eq!(forgotten, OLD_IDENTITIES as u64, "all that is older, and nothing else");
    let before = views_of(archive).await;
    archive.commit_batch(&log.on_one(young)).await.unwrap();
    assert_eq!(views_of(archive).await, before, "what is not older is remembered");
    archive.commit_batch(&log.on_one([named("v", "old7"), named("v", "old7")])).await.unwrap();
    assert_eq!(views_of(archive).await, before + 1, "what was forgotten counts again, once");
    assert_eq!(archive.forget_identities_before(watermark).await.unwrap(), 0, "it was seen anew since");
}

pub async fn forgetting_spares_what_was_seen_anew(archive: &dyn Archive) {
    let mut log = Log::new();
    archive.commit_batch(&log.on_one([named("v", "e"), comment("v", "c", "text")])).await.unwrap();
    log.pass(REPEAT_WINDOW_MS);
    let watermark = log.now();
    let again = [named("v", "e"), comment("v", "c", "a day later")];
    archive.commit_batch(&log.on_one(again.clone())).await.unwrap();
    archive.forget_identities_before(watermark).await.unwrap();
    let effects = archive.commit_batch(&log.on_one(again)).await.unwrap().batch_effects;
    assert_eq!((effects.counted_events, effects.repeated_events), (0, 2), "the later sighting is remembered");
}
