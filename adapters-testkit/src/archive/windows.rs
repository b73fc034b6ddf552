//! Checks of counts by window.

use std::collections::BTreeMap;

use liverank_core::counting::{CountingRules, RecordFingerprint, VideoState};
use liverank_core::windows::{WindowKey, WindowKind};
use liverank_core::{Interaction, Kind, Millis, VideoId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::log::{LOG_START_TIME, Model, SimulatedLog, event_of_kind, user, video, view};
use liverank_adapters::Archive;
use liverank_adapters::archive::ReplayFinish;

const HOUR: Millis = 3_600_000;

fn window_kinds() -> [WindowKind; 2] {
    ["hour of UTC", "day of Europe/Berlin"].map(|kind| WindowKind::parse(kind).unwrap())
}

fn unique_rules() -> CountingRules {
    CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() }
}

/// Checks that every window of the model is in the archive, with its videos and no others.
async fn check_windows(archive: &dyn Archive, model: &Model) {
    let mut windows: BTreeMap<(String, Millis), Vec<VideoState>> = BTreeMap::new();
    for ((kind, start, id), counters) in &model.window_counts {
        let within = model.videos[id].clone().with_window_counters(*counters);
        windows.entry((kind.clone(), *start)).or_default().push(within);
    }
    let none = VideoId::parse("none").unwrap();
    for ((kind, start), expected) in &windows {
        let window = WindowKey { kind: WindowKind::parse(kind).unwrap(), start: *start };
        let mut walked = Vec::new();
        loop {
            let after = walked.last().map(|state: &VideoState| state.video_id.clone());
            let page = archive.window_videos_after(&window, after.as_ref(), 2).await.unwrap();
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(&walked, expected, "the videos of {window:?}");
        let ids: Vec<VideoId> = [none.clone()].into_iter().chain(model.videos.keys().cloned()).collect();
        let mut found = archive.window_videos(&window, &ids).await.unwrap();
        found.sort_by(|a, b| a.video_id.cmp(&b.video_id));
        assert_eq!(&found, expected, "the same by their ids");
    }
    let cut = archive.rebuild_archive().read_snapshot(None).await.unwrap();
    let counts = cut.window_counts.into_iter();
    let counts: BTreeMap<_, _> = counts
        .map(|count| ((count.window.kind.to_string(), count.window.start, count.video), count.counters))
        .collect();
    assert_eq!(counts, model.window_counts, "and as of one moment");
    assert_eq!(cut.meta.windows, model.windows);
}

fn random_event(random: &mut StdRng, now: Millis) -> Interaction {
    let (who, id) = (random.random_range(0..3), random.random_range(0..4));
    let kind = Kind::ALL[random.random_range(0..Kind::ALL.len())];
    let timestamp = now - random.random_range(-HOUR..3 * HOUR);
    Interaction { user_id: user(&format!("u{who}")), timestamp, ..event_of_kind(&format!("v {id}"), kind) }
}

pub async fn windows_are_counted_with_their_videos(archive: &dyn Archive) {
    let rules = unique_rules();
    archive.open(&rules).await.unwrap();
    let mut model = Model::default();
    assert_eq!(
        archive.archive_meta().await.unwrap().unwrap().windows,
        model.windows,
        "none until they are declared"
    );
    let meta = archive.set_counted_windows(&window_kinds()).await.unwrap();
    assert_eq!(archive.archive_meta().await.unwrap().as_ref(), Some(&meta));
    assert!(
        meta.windows.iter().all(|counted| counted.complete_after.is_none()),
        "nothing was counted before"
    );
    model.windows = meta.windows;
    let mut log = SimulatedLog::new();
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..30 {
        let events: Vec<_> = (0..random.random_range(1..20))
            .map(|_| (random.random_range(0..2), random_event(&mut random, log.now())))
            .collect();
        model.commit(archive, &log.batch(events), &rules).await;
        log.advance_clock(random.random_range(0..2 * HOUR));
    }
    check_windows(archive, &model).await;
}

pub async fn a_later_window_kind_reports_its_start(archive: &dyn Archive) {
    let [hours, days] = window_kinds();
    let mut log = SimulatedLog::new();
    let whole_after = async |kind: &WindowKind| {
        let meta = archive.archive_meta().await.unwrap().unwrap();
        meta.windows.find(kind).unwrap().complete_after
    };
    archive.set_counted_windows(std::slice::from_ref(&hours)).await.unwrap();
    assert_eq!(whole_after(&hours).await, None);
    let mut batch = log.batch_on_partition_0([view("v")]);
    batch.offset_ranges[0].last_record =
        Some(RecordFingerprint { broker_time: LOG_START_TIME + 7, digest: 1 });
    archive.commit_batch(&batch).await.unwrap();
    archive.set_counted_windows(&[hours.clone(), days.clone()]).await.unwrap();
    assert_eq!((whole_after(&hours).await, whole_after(&days).await), (None, Some(LOG_START_TIME + 7)));
    // Events that are counted without windows are in none.
    assert!(archive.set_counted_windows(&[]).await.unwrap().windows.is_empty());
    let mut batch = log.batch_on_partition_0([view("v")]);
    batch.offset_ranges[0].last_record =
        Some(RecordFingerprint { broker_time: LOG_START_TIME + 9, digest: 2 });
    archive.commit_batch(&batch).await.unwrap();
    archive.set_counted_windows(std::slice::from_ref(&hours)).await.unwrap();
    assert_eq!(whole_after(&hours).await, Some(LOG_START_TIME + 9));
    let committed = archive.commit_batch(&log.batch([(0, view("v")), (5, view("w"))])).await.unwrap();
    assert_eq!(committed.batch_effects.window_changes.len(), 2);
    assert_eq!(whole_after(&hours).await, Some(LOG_START_TIME + 9), "nothing was left out since");
}

pub async fn old_windows_are_forgotten(archive: &dyn Archive) {
    let mut model = Model::default();
    model.windows = archive.set_counted_windows(&window_kinds()).await.unwrap().windows;
    let mut log = SimulatedLog::new();
    for _ in 0..4 {
        let timestamp = log.now();
        let events = [Interaction { timestamp, ..view("v") }, Interaction { timestamp, ..view("w") }];
        model.commit(archive, &log.batch_on_partition_0(events), &CountingRules::default()).await;
        log.advance_clock(HOUR);
    }
    let [hours, _] = window_kinds();
    let start = hours.window_of(LOG_START_TIME + 2 * HOUR).start;
    let mut gone = 0;
    loop {
        match archive.forget_windows(&hours, start).await.unwrap() {
            0 => break,
            more => gone += more,
        }
    }
    assert_eq!(gone, 4, "two videos in two hours");
    model.window_counts.retain(|(kind, of, _), _| *kind != hours.to_string() || *of >= start);
    check_windows(archive, &model).await;
}

pub async fn a_replay_counts_windows_again(archive: &dyn Archive) {
    let rules = unique_rules();
    archive.open(&rules).await.unwrap();
    let mut model = Model::default();
    model.windows = archive.set_counted_windows(&window_kinds()).await.unwrap().windows;
    let mut log = SimulatedLog::new();
    let events = [Kind::Like, Kind::View, Kind::Unlike, Kind::Share]
        .map(|kind| Interaction { timestamp: LOG_START_TIME, ..event_of_kind("v", kind) });
    let batch = log.batch_on_partition_0(events);
    model.commit(archive, &batch, &rules).await;
    let replay = archive.rebuild_archive().begin_replay(&rules, None, &|_, _| ()).await.unwrap();
    replay.archive().commit_batch(&batch).await.unwrap();
    let finished = replay.swap_in(false, &|_, _| ()).await.unwrap();
    assert!(matches!(finished, ReplayFinish::Done { .. }), "{finished:?}");
    check_windows(archive, &model).await;
    let on = [Interaction { timestamp: LOG_START_TIME, ..event_of_kind("v", Kind::Like) }];
    model.commit(archive, &log.batch_on_partition_0(on), &rules).await;
    assert_eq!(video("v"), model.window_counts.keys().next().unwrap().2);
    check_windows(archive, &model).await;
}
