//! Checks of generations, rules and whole archives that change while consumers go on committing.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use liverank_core::Kind;
use liverank_core::counting::{Batch, CountingRules, RecordFingerprint, identity_of_event};
use liverank_core::score::{Weights, points_of_thousandths};

use super::log::{
    LOG_START_TIME, Model, SimulatedLog, comment, event_of_kind, next_offsets, video, view,
    view_with_event_id,
};
use liverank_adapters::Archive;
use liverank_adapters::archive::{
    ArchivePosition, ArchiveReplay, CommentPage, CommitError, RebuildError, ReplayFinish,
};

const IGNORE_PROGRESS: &(dyn Fn(u64, u64) + Send + Sync) = &|_, _| {};

fn heavier_rules() -> CountingRules {
    let weights = Weights { view: 5_000, like: 1, comment: 7_000, share: 11, ..Weights::default() };
    CountingRules { weights, ..CountingRules::default() }
}

pub async fn last_record_fingerprint_is_returned(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mark = RecordFingerprint { broker_time: LOG_START_TIME + 7, digest: u64::MAX - 1 };
    let mut batch = log.batch_on_partition_0([view("v"), view("v")]);
    batch.offset_ranges[0].last_record = Some(mark);
    archive.commit_batch(&batch).await.unwrap();
    let stands = ArchivePosition { next_offset: 2, last_record: Some(mark) };
    assert_eq!(archive.partition_positions(&[0, 1]).await.unwrap(), [stands, ArchivePosition::default()]);
    assert_eq!(
        archive.claim_partitions(&[1, 0]).await.unwrap(),
        [ArchivePosition::default(), stands],
        "in the order asked"
    );
    archive.commit_batch(&log.unreadable_batch(0, 2)).await.unwrap();
    let stands = ArchivePosition { next_offset: 4, last_record: None };
    assert_eq!(
        archive.partition_positions(&[0]).await.unwrap(),
        [stands],
        "a mark is that of the last record only"
    );
}

pub async fn a_generation_is_bumped(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let before = archive.archive_meta().await.unwrap().unwrap();
    assert_eq!(
        archive.commit_batch(&log.batch_on_partition_0([view("v")])).await.unwrap().meta_in_force,
        before,
        "a commit tells what is in force"
    );
    let after = archive.rebuild_archive().bump_generation().await.unwrap();
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(
        (&after.counting_rules, &after.comment_epoch),
        (&before.counting_rules, &before.comment_epoch)
    );
    assert_eq!(archive.archive_meta().await.unwrap().as_ref(), Some(&after));
    assert_eq!(
        archive.commit_batch(&log.batch_on_partition_0([view("v")])).await.unwrap().meta_in_force,
        after
    );
    assert_eq!(
        archive.commit_batch(&Batch::default()).await.unwrap().meta_in_force,
        after,
        "also one of nothing"
    );
}

pub async fn scores_change_and_counts_stay(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.kind_taken_back().is_none()).collect();
    let events: Vec<_> =
        (0..2500).map(|at| event_of_kind(&format!("v{at}"), kinds[at % kinds.len()])).collect();
    let likes = events.iter().filter(|event| event.kind == Kind::Like).count() as i64;
    model.commit(archive, &log.batch_on_partition_0(events), &CountingRules::default()).await;
    let other = CountingRules {
        weights: Weights { watch_threshold_ms: 1, ..Weights::default() },
        ..CountingRules::default()
    };
    let refused = archive.rebuild_archive().rescore_videos(&other, IGNORE_PROGRESS).await;
    assert!(matches!(&refused, Err(RebuildError::Refused(why)) if why.contains("threshold")), "{refused:?}");
    let before = archive.archive_meta().await.unwrap().unwrap();
    let after = archive.rebuild_archive().rescore_videos(&heavier_rules(), IGNORE_PROGRESS).await.unwrap();
    assert_eq!((after.generation, after.counting_rules), (before.generation + 1, heavier_rules()));
    model.check(archive).await;
    check_scores(archive).await;
    model
        .commit(
            archive,
            &log.batch_on_partition_0([event_of_kind("v1", Kind::Like), comment("v1", "c", "hi")]),
            &heavier_rules(),
        )
        .await;
    model.check(archive).await;
    check_scores(archive).await;
    // With another half-life, scores that were decayed by the old one are of no use.
    let slower = CountingRules { half_life_ms: 1_000, ..heavier_rules() };
    archive.rebuild_archive().rescore_videos(&slower, IGNORE_PROGRESS).await.unwrap();
    let held = archive.videos_after(None, 5000).await.unwrap();
    assert!(held.len() == 2500 && held.iter().all(|state| state.trending_log2 == f64::NEG_INFINITY));
    assert_eq!(held.iter().map(|state| state.counters.likes).sum::<i64>(), likes + 1, "counts stay");
}

/// Checks that every score is computed from the counts by the rules in force, and that sequence numbers have no hole.
pub async fn check_scores(archive: &dyn Archive) {
    let cut = archive.rebuild_archive().read_snapshot(None).await.unwrap();
    for video in &cut.videos {
        let expected = points_of_thousandths(video.state.counters.score(&cut.meta.counting_rules.weights));
        assert_eq!(video.score.to_bits(), expected.to_bits(), "the score of {}", video.state.video_id);
    }
    let heads = cut.videos.iter().filter(|video| video.state.last_seq > 0);
    let heads: Vec<_> =
        heads.map(|video| (&video.state.video_id, video.state.last_seq, video.state.last_seq)).collect();
    let tallies: Vec<_> = cut
        .comment_tallies
        .iter()
        .map(|tally| (&tally.video_id, tally.comment_count, tally.highest_seq))
        .collect();
    assert_eq!(tallies, heads, "as many comments as the head says");
}

/// Commits to one partition until `stop` is set; returns the number of batches, each with a like and a comment of `v`.
async fn keep_committing(archive: &dyn Archive, partition: u32, stop: &AtomicBool) -> i64 {
    let mut log = SimulatedLog::new();
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        let own = format!("own{partition}-{}", made % 50);
        let events =
            [event_of_kind("v", Kind::Like), comment("v", &format!("{partition}-{made}"), "hi"), view(&own)];
        let batch = log.batch(events.map(|event| (partition, event)));
        archive.commit_batch(&batch).await.expect("a rebuild costs no commit");
        made += 1;
    }
    made
}

pub async fn commits_race_with_rescores(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let events = (0..3000).map(|at| (9, view(&format!("old{at}"))));
    archive.commit_batch(&log.batch(events)).await.unwrap();
    let stop = AtomicBool::new(false);
    let rebuilds = async {
        for round in 1..=4u64 {
            let rules = if round % 2 == 1 { heavier_rules() } else { CountingRules::default() };
            let meta = archive
                .rebuild_archive()
                .rescore_videos(&rules, IGNORE_PROGRESS)
                .await
                .expect("a rescore beside commits");
            assert_eq!((meta.generation, meta.counting_rules), (round + 1, rules));
            check_scores(archive).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let writers = join_all((0..3).map(|partition| keep_committing(archive, partition, &stop)));
    let (made, ()) = futures::join!(writers, rebuilds);
    let made: i64 = made.into_iter().sum();
    assert!(made >= 8, "writers that wait for the rebuild prove nothing: {made}");
    let held = archive.video(&video("v")).await.unwrap().unwrap();
    assert_eq!((held.counters.likes, held.counters.comments, held.last_seq), (made, made, made as u64));
    assert_eq!(
        archive
            .videos_after(Some(&video("old")), 5000)
            .await
            .unwrap()
            .iter()
            .filter(|state| state.video_id.as_str().starts_with("old"))
            .count(),
        3000
    );
    check_scores(archive).await;
}

/// Counts those of the batches that the replay has not counted yet, and finishes the replay.
async fn finish_replay_of(replay: &dyn ArchiveReplay, batches: &[Batch]) -> ReplayFinish {
    for batch in batches {
        match replay.archive().commit_batch(batch).await {
            Ok(_) | Err(CommitError::PositionMismatch { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    replay.swap_in(false, IGNORE_PROGRESS).await.unwrap()
}

pub async fn a_replay_gives_the_same_archive(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let mut batches = Vec::new();
    for round in 0..5 {
        let events: Vec<_> = (0..40)
            .flat_map(|at| {
                let id = format!("v{}", at % 7);
                [
                    (at % 3, comment(&id, &format!("c{round}-{at}"), "hi")),
                    (at % 3, view_with_event_id(&id, &format!("e{at}"))),
                ]
            })
            .collect();
        let batch = log.batch(events);
        model.commit(archive, &batch, &CountingRules::default()).await;
        batches.push(batch);
    }
    archive.claim_partitions(&[0, 1, 2]).await.unwrap();
    let before = archive.rebuild_archive().read_snapshot(None).await.unwrap();
    let replay = archive
        .rebuild_archive()
        .begin_replay(&CountingRules::default(), None, IGNORE_PROGRESS)
        .await
        .unwrap();
    assert_eq!(
        archive.rebuild_archive().read_snapshot(None).await.unwrap(),
        before,
        "the archive goes on serving"
    );
    let stand = next_offsets(archive, &[0, 1, 2]).await;
    match finish_replay_of(&*replay, &batches[..3]).await {
        ReplayFinish::Behind(mut behind) => {
            behind.sort_unstable();
            assert_eq!(behind, [(0, stand[0]), (1, stand[1]), (2, stand[2])], "how far it has to count");
        }
        done @ ReplayFinish::Done { .. } => panic!("it was behind: {done:?}"),
    }
    let ReplayFinish::Done { meta, renumbered } = finish_replay_of(&*replay, &batches).await else {
        panic!("it was not behind")
    };
    assert!(!renumbered && meta.generation == before.meta.generation + 1, "{meta:?}");
    let after = archive.rebuild_archive().read_snapshot(None).await.unwrap();
    assert_eq!(
        (&after.videos, &after.comment_tallies, &after.positions),
        (&before.videos, &before.comment_tallies, &before.positions)
    );
    assert_eq!((&after.meta, &after.meta.comment_epoch), (&meta, &before.meta.comment_epoch));
    model.check(archive).await;
    let again =
        log.batch([(1, comment("v1", "c0-0", "hi")), (1, view_with_event_id("v1", "e3")), (2, view("v2"))]);
    model.commit(archive, &again, &CountingRules::default()).await;
    model.check(archive).await;
}

pub async fn a_renumbering_replay_reports_it(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let batch = log.batch([(0, comment("v", "a", "hi")), (1, comment("v", "b", "hi"))]);
    archive.commit_batch(&batch).await.unwrap();
    let before = archive.archive_meta().await.unwrap().unwrap();
    let mut other = batch.clone();
    other.records.reverse();
    let rules = CountingRules {
        weights: Weights { watch_threshold_ms: 1, ..Weights::default() },
        half_life_ms: 5,
        ..CountingRules::default()
    };
    let replay = archive.rebuild_archive().begin_replay(&rules, None, IGNORE_PROGRESS).await.unwrap();
    let ReplayFinish::Done { meta, renumbered } = finish_replay_of(&*replay, &[other]).await else {
        panic!("it was not behind")
    };
    assert!(renumbered && meta.comment_epoch != before.comment_epoch, "{meta:?}");
    assert_eq!((meta.counting_rules, meta.generation), (rules, before.generation + 1));
    let texts = archive.comments(&video("v"), CommentPage::After(0), 10).await.unwrap();
    assert_eq!(texts.iter().map(|comment| comment.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

pub async fn a_replay_can_be_discarded(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let batch = log.batch_on_partition_0([comment("v", "a", "hi"), view_with_event_id("v", "e")]);
    model.commit(archive, &batch, &CountingRules::default()).await;
    let replay =
        archive.rebuild_archive().begin_replay(&heavier_rules(), None, IGNORE_PROGRESS).await.unwrap();
    replay.archive().commit_batch(&batch).await.unwrap();
    replay.discard_replay().await.unwrap();
    let begun_anew =
        archive.rebuild_archive().begin_replay(&heavier_rules(), None, IGNORE_PROGRESS).await.unwrap();
    assert_eq!(next_offsets(begun_anew.archive(), &[0]).await, [0], "nothing is left of it");
    begun_anew.discard_replay().await.unwrap();
    model
        .commit(
            archive,
            &log.batch_on_partition_0([view_with_event_id("v", "e"), view("v")]),
            &CountingRules::default(),
        )
        .await;
    model.check(archive).await;
    assert_eq!(archive.archive_meta().await.unwrap().unwrap().generation, 1);
}

pub async fn identities_are_looked_up(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    archive
        .commit_batch(&log.batch_on_partition_0([view_with_event_id("v", "e"), comment("v", "c", "hi")]))
        .await
        .unwrap();
    let name = identity_of_event(&view_with_event_id("v", "e")).unwrap();
    let asked = [&name, "c:c", "e:c", "e:e"].map(str::to_owned);
    let mut held = archive.rebuild_archive().known_identities(None, &asked).await.unwrap();
    held.sort();
    assert_eq!(held, [("c:c".to_owned(), LOG_START_TIME + 1), (name, LOG_START_TIME)]);
}
