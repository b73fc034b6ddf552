//! Checks of batches: applied wholly, once, and with the result that the core computes.

use liverank_core::counting::{Batch, CountingRules, OffsetRange};
use liverank_core::score::Weights;
use liverank_core::{Interaction, Kind, UserId, VideoId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::log::{
    Model, SimulatedLog, comment, event_of_kind, next_offsets, user, video, view, view_with_event_id,
};
use liverank_adapters::Archive;
use liverank_adapters::archive::{CommentPage, CommitError};

pub async fn a_fresh_archive_is_empty(archive: &dyn Archive) {
    assert_eq!(next_offsets(archive, &[0, 5, 11]).await, [0, 0, 0]);
    assert_eq!(next_offsets(archive, &[]).await, Vec::<u64>::new());
    assert_eq!(archive.video(&video("v")).await.unwrap(), None);
    assert_eq!(archive.videos_after(None, 10).await.unwrap(), []);
    assert_eq!(archive.comments(&video("v"), CommentPage::Before(u64::MAX), 10).await.unwrap(), []);
    assert_eq!(archive.last_seqs(&[video("v"), video("w")]).await.unwrap(), [0, 0]);
    assert_eq!(archive.video_owners(&[video("v"), video("w")]).await.unwrap(), [None, None]);
    assert_eq!(archive.comments_from(0, 0, 10).await.unwrap(), []);
    assert_eq!(archive.comment_count().await.unwrap(), 0);
    assert_eq!(archive.forget_identities_before(i64::MAX).await.unwrap(), 0);
    let nothing = archive.commit_batch(&Batch::default()).await.expect("a batch of nothing does nothing");
    assert_eq!(nothing.batch_effects, liverank_core::counting::BatchEffects::default());
}

pub async fn a_batch_takes_effect_and_says_what_it_did(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let given = |id: &str, owner: &str| Interaction { owner_id: Some(user(owner)), ..view(id) };
    let events: Vec<_> = Kind::ALL.into_iter().map(|kind| (3, event_of_kind("v", kind))).collect();
    model.commit(archive, &log.batch(events), &CountingRules::default()).await;
    let more =
        [(3, given("v", "owner")), (7, view("w")), (3, given("v", "later")), (7, comment("w", "c", "hi"))];
    model.commit(archive, &log.batch(more), &CountingRules::default()).await;
    model.check(archive).await;

    let held = archive.video(&video("v")).await.unwrap().expect("a counted video is there");
    assert_eq!((held.counters.views, held.counters.likes, held.counters.comments), (3, 1, 1));
    assert_eq!((held.counters.shares, held.counters.watch_ms, held.counters.watch_short), (1, 1500, 1));
    assert_eq!((held.owner.as_str(), held.is_owner_given), ("owner", true));
    let counted = Kind::ALL.len() as u64 + 2;
    assert_eq!(next_offsets(archive, &[7, 0, 3]).await, [2, 0, counted], "offsets come in the order asked");
    let owners = archive.video_owners(&[video("w"), video("none"), video("v")]).await.unwrap();
    let names: Vec<_> = owners.iter().map(|owner| owner.as_ref().map(UserId::as_str)).collect();
    assert_eq!(names, [Some("viewer"), None, Some("owner")], "owners come in the order asked");
    assert_eq!(archive.last_seqs(&[video("w"), video("none"), video("v")]).await.unwrap(), [1, 0, 0]);
    let watched = archive.videos_watch_ms(&[video("w"), video("none"), video("v")]).await.unwrap();
    assert_eq!(watched, [Some(0), None, Some(1500)]);
}

/// Returns partition, expected and actual offset of a fence error. Both offsets must be exact, because the consumer
/// continues from the actual one.
fn expect_position_mismatch(
    result: Result<liverank_adapters::archive::CommitResult, CommitError>,
) -> (u32, u64, u64) {
    match result {
        Err(CommitError::PositionMismatch { partition, expected, actual }) => (partition, expected, actual),
        other => panic!("a batch that does not follow on is fenced, not {other:?}"),
    }
}

pub async fn a_batch_is_applied_once(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let batch = log.batch_on_partition_0([view("v"), comment("v", "c", "hi"), view_with_event_id("v", "e")]);
    model.commit(archive, &batch, &CountingRules::default()).await;
    assert_eq!(
        expect_position_mismatch(archive.commit_batch(&batch).await),
        (0, 0, 3),
        "a repeated batch is fenced"
    );
    let ahead = Batch {
        offset_ranges: vec![OffsetRange { partition: 0, first: 5, next: 6, last_record: None }],
        records: Vec::new(),
    };
    assert_eq!(
        expect_position_mismatch(archive.commit_batch(&ahead).await),
        (0, 5, 3),
        "a batch that leaves a hole is fenced"
    );
    let back = Batch {
        offset_ranges: vec![OffsetRange { partition: 0, first: 2, next: 9, last_record: None }],
        ..batch
    };
    assert_eq!(
        expect_position_mismatch(archive.commit_batch(&back).await),
        (0, 2, 3),
        "a batch that overlaps is fenced"
    );
    model.check(archive).await;
    assert_eq!(next_offsets(archive, &[0]).await, [3]);
}

pub async fn one_fenced_partition_refuses_the_batch(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    model.commit(archive, &log.batch([(1, view("v")), (2, view("w"))]), &CountingRules::default()).await;
    let mut batch =
        log.batch([(1, comment("v", "c", "no")), (4, view_with_event_id("new", "e")), (2, view("w"))]);
    for at in 0..3 {
        let mut wrong = batch.clone();
        wrong.offset_ranges[at].first += 1;
        wrong.offset_ranges[at].next += 1;
        let (partition, expected, actual) = expect_position_mismatch(archive.commit_batch(&wrong).await);
        assert_eq!((partition, expected), (wrong.offset_ranges[at].partition, wrong.offset_ranges[at].first));
        assert_eq!(actual, batch.offset_ranges[at].first);
        model.check(archive).await;
        assert_eq!(next_offsets(archive, &[1, 2, 4]).await, [1, 1, 0], "no partition of it moved");
    }
    batch.offset_ranges.rotate_left(1);
    model.commit(archive, &batch, &CountingRules::default()).await;
    model.check(archive).await;
    assert_eq!(next_offsets(archive, &[1, 2, 4]).await, [2, 2, 1], "none of its identities was remembered");
}

pub async fn unreadable_records_are_stepped_over(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    model.commit(archive, &log.unreadable_batch(0, 4), &CountingRules::default()).await;
    assert_eq!(next_offsets(archive, &[0]).await, [4]);
    model.commit(archive, &log.batch_on_partition_0([view("v")]), &CountingRules::default()).await;
    assert_eq!(next_offsets(archive, &[0]).await, [5]);
    model.check(archive).await;
}

/// Checks that the archive's rules decide on scores, and that the infinite trending score of a video without a score is
/// stored and read back.
pub async fn the_archive_s_rules_decide_on_scores(archive: &dyn Archive) {
    let rules = CountingRules {
        weights: Weights { view: 0, like: 333, ..Weights::default() },
        half_life_ms: 60_000,
        ..CountingRules::default()
    };
    archive.open(&rules).await.unwrap();
    archive.open(&CountingRules::default()).await.unwrap();
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    let weightless = [view("light"), view("heavy"), event_of_kind("heavy", Kind::Like)];
    model.commit(archive, &log.batch_on_partition_0(weightless), &rules).await;
    model.check(archive).await;
    let light = archive.video(&video("light")).await.unwrap().unwrap();
    assert_eq!(light.trending_log2.to_bits(), f64::NEG_INFINITY.to_bits(), "a video of no weight");
    model
        .commit(
            archive,
            &log.batch_on_partition_0([event_of_kind("light", Kind::Share), view("heavy")]),
            &rules,
        )
        .await;
    model.check(archive).await;
}

pub async fn videos_are_walked_in_byte_order(archive: &dyn Archive) {
    let mut names: Vec<String> =
        ["a", "B", "b.c", "b$c", "$where", "ä", "日本", "}{", "a b", "\"q\"", "🎬", "%00"]
            .map(str::to_owned)
            .into();
    names.extend((0..30).map(|at| format!("v{at}")));
    names.push("x".repeat(256));
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    model
        .commit(
            archive,
            &log.batch_on_partition_0(names.iter().map(|name| view(name))),
            &CountingRules::default(),
        )
        .await;
    model.check(archive).await;
    let mut walked: Vec<VideoId> = Vec::new();
    loop {
        let page = archive.videos_after(walked.last(), 7).await.unwrap();
        assert!(page.len() <= 7, "at most as many as asked for");
        if page.is_empty() {
            break;
        }
        walked.extend(page.into_iter().map(|state| state.video_id));
    }
    names.sort();
    assert_eq!(walked.iter().map(VideoId::as_str).collect::<Vec<_>>(), names, "all of them, in byte order");
    assert_eq!(archive.videos_after(Some(&video("nowhere")), 1).await.unwrap()[0].video_id.as_str(), "v0");
}

pub async fn a_large_batch_is_committed(archive: &dyn Archive) {
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    for _ in 0..2 {
        let events: Vec<_> = (0..20_000u32)
            .map(|at| {
                let id = format!("v{}", at % 300);
                let event = match at % 10 {
                    0 => comment(
                        &id,
                        &format!("c{}-{}", log.now(), at),
                        "a comment of some length, as they are",
                    ),
                    1 => view_with_event_id(&id, &format!("e{}-{}", log.now(), at)),
                    kind => event_of_kind(&id, Kind::ALL[kind as usize % Kind::ALL.len()]),
                };
                (at % 300 % 12, event)
            })
            .collect();
        model.commit(archive, &log.batch(events), &CountingRules::default()).await;
    }
    model.check(archive).await;
}

pub async fn random_batches_match_the_core_model(archive: &dyn Archive) {
    let mut random = StdRng::seed_from_u64(7);
    let mut log = SimulatedLog::new();
    let mut model = Model::default();
    for _ in 0..40 {
        let events: Vec<_> = (0..random.random_range(0..60))
            .map(|_| {
                let id = format!("v{}", random.random_range(0..9));
                let name = random.random_range(0..40).to_string();
                let event = match random.random_range(0..3) {
                    0 => comment(&id, &name, "text"),
                    1 => view_with_event_id(&id, &name),
                    _ => event_of_kind(&id, Kind::ALL[random.random_range(0..Kind::ALL.len())]),
                };
                (random.random_range(0..12), event)
            })
            .collect();
        model.commit(archive, &log.batch(events), &CountingRules::default()).await;
        if random.random_range(0..6) == 0 {
            log.advance_clock(liverank_core::counting::REPEAT_WINDOW_MS / 2);
        }
    }
    model.check(archive).await;
}
