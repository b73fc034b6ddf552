//! Checks of types that count once per user and can be taken back.

use liverank_core::counting::{CountingRules, mark_key};
use liverank_core::{Interaction, Kind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::log::{Model, SimulatedLog, event_of_kind, user, video};
use liverank_adapters::Archive;
use liverank_adapters::archive::{RebuildError, ReplayFinish};

fn unique_rules(kinds: &str) -> CountingRules {
    CountingRules { unique: kinds.parse().unwrap(), ..CountingRules::default() }
}

fn event_by_user(who: &str, id: &str, kind: Kind) -> Interaction {
    Interaction { user_id: user(who), ..event_of_kind(id, kind) }
}

async fn likes_of(archive: &dyn Archive, id: &str) -> i64 {
    archive.video(&video(id)).await.unwrap().map_or(0, |state| state.counters.likes)
}

pub async fn unique_events_count_once_per_user(archive: &dyn Archive) {
    let rules = unique_rules("like,share");
    assert_eq!(archive.open(&rules).await.unwrap().counting_rules, rules);
    let (mut log, mut model) = (SimulatedLog::new(), Model::default());
    let steps = [(Kind::Like, 1), (Kind::Like, 1), (Kind::Unlike, 0), (Kind::Unlike, 0), (Kind::Like, 1)];
    for (kind, expected) in steps {
        model.commit(archive, &log.batch_on_partition_0([event_by_user("ana", "v", kind)]), &rules).await;
        assert_eq!(likes_of(archive, "v").await, expected, "after {kind:?}");
    }
    // Random events in random batches, with few users, so that they meet their own marks within a batch and after it.
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..40 {
        let events: Vec<_> = (0..random.random_range(1..30))
            .map(|_| {
                let (who, id) = (random.random_range(0..4), random.random_range(0..3));
                let kind = Kind::ALL[random.random_range(0..Kind::ALL.len())];
                (random.random_range(0..2), event_by_user(&format!("u{who}"), &format!("v{id}"), kind))
            })
            .collect();
        model.commit(archive, &log.batch(events), &rules).await;
    }
    model.check(archive).await;
}

pub async fn a_replay_marks_again(archive: &dyn Archive) {
    let rules = unique_rules("like");
    archive.open(&rules).await.unwrap();
    let (mut log, mut model) = (SimulatedLog::new(), Model::default());
    let events = [
        event_by_user("ana", "v", Kind::Like),
        event_by_user("ben", "v", Kind::Like),
        event_by_user("ana", "v", Kind::Unlike),
    ];
    let batch = log.batch_on_partition_0(events.clone());
    model.commit(archive, &batch, &rules).await;
    let replay = archive.rebuild_archive().begin_replay(&rules, None, &|_, _| ()).await.unwrap();
    replay.archive().commit_batch(&batch).await.unwrap();
    let finished = replay.swap_in(false, &|_, _| ()).await.unwrap();
    assert!(matches!(finished, ReplayFinish::Done { .. }), "{finished:?}");
    model.check(archive).await;
    let gone = mark_key(&events[0], rules.unique).unwrap();
    assert_eq!(archive.rebuild_archive().read_marks(None, &[gone]).await.unwrap(), [], "it was taken back");
    model.commit(archive, &log.batch_on_partition_0([event_by_user("ben", "v", Kind::Like)]), &rules).await;
    assert_eq!(likes_of(archive, "v").await, 1, "its mark is there after the rebuild");
}

pub async fn a_rescore_may_add_types_and_no_more(archive: &dyn Archive) {
    archive.open(&CountingRules::default()).await.unwrap();
    let (mut log, mut model) = (SimulatedLog::new(), Model::default());
    let twice = [event_by_user("ana", "v", Kind::Like), event_by_user("ana", "v", Kind::Like)];
    model.commit(archive, &log.batch_on_partition_0(twice), &CountingRules::default()).await;
    let rules = unique_rules("like");
    let meta = archive.rebuild_archive().rescore_videos(&rules, &|_, _| ()).await.unwrap();
    assert_eq!((meta.counting_rules, archive.archive_meta().await.unwrap()), (rules, Some(meta)));
    // Events that counted before belong to no user: they stay counted, and cannot be taken back.
    model.commit(archive, &log.batch_on_partition_0([event_by_user("ana", "v", Kind::Unlike)]), &rules).await;
    assert_eq!(likes_of(archive, "v").await, 2);
    let events = [Kind::Like, Kind::Like, Kind::Unlike].map(|kind| event_by_user("ana", "v", kind));
    model.commit(archive, &log.batch_on_partition_0(events), &rules).await;
    assert_eq!(likes_of(archive, "v").await, 2);
    model.check(archive).await;
    for refused in [CountingRules::default(), CountingRules { half_life_ms: 1, ..rules }] {
        let error = archive.rebuild_archive().rescore_videos(&refused, &|_, _| ()).await.unwrap_err();
        assert!(matches!(&error, RebuildError::Refused(why) if why.contains("rebuild mongodb")), "{error}");
    }
    archive.rebuild_archive().rescore_videos(&unique_rules("like,share"), &|_, _| ()).await.unwrap();
}
