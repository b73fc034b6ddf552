//! The checks that every [`AssignmentStore`] must pass; each panics if it fails.

// Checks are tests: they panic with the reason.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use liverank_core::epoch::latest_possible_epoch;
use liverank_core::handover::{HeldVideo, ReaderShare};
use liverank_core::secret::Secret;
use liverank_core::{ReaderId, VideoId, ZoneId};
use tokio::sync::mpsc;

use liverank_adapters::assignment_store::{
    AssignmentChange, AssignmentSnapshot, AssignmentStore, CHANGE_QUEUE_LENGTH, MAX_EPOCH, ReaderRecord,
    SwapOutcome, VideoAssignment, ZonedViewers,
};

mod planners;

type SharedStore = Arc<dyn AssignmentStore>;

/// The longest wait for a change: changes arrive within a fraction of it, on a machine that is not overloaded.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Identifiers that expose code which mistakes them for patterns, hash tags, separators or ASCII.
const UNUSUAL_IDS: [&str; 14] =
    ["a b", "{", "}", "a}b{c", "{}", "*", "?", "[a-z]", "\\", "\"", "ä", "日本", "🎬", "0-0"];

/// Runs all checks; `fresh` returns a new, empty store for each.
pub async fn suite<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = SharedStore>,
{
    an_assignment_changes_by_its_epoch_only(fresh().await).await;
    epochs_exceed_all_that_was_seen(fresh().await).await;
    epochs_and_terms_grow_after_data_loss(&fresh().await, &fresh().await).await;
    an_impossible_epoch_is_refused(fresh().await).await;
    one_concurrent_assign_wins(fresh().await).await;
    unusual_ids_are_accepted(fresh().await).await;
    changes_arrive_without_a_gap(fresh().await).await;
    a_slow_subscriber_gets_a_reset(fresh().await).await;
    a_mirror_follows_many_writers(fresh().await).await;
    heartbeats_are_kept_as_they_came(fresh().await).await;
    a_reader_is_forgotten_by_its_last_beat_only(fresh().await).await;
    a_peak_is_only_ever_raised(fresh().await).await;
    planners::suite(fresh).await;
}

fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

/// Returns shares of these readers with different weights: 1, 2, ….
fn shares_of(ids: &[&str]) -> Vec<ReaderShare> {
    let share = |(id, weight): (&&str, u32)| ReaderShare { reader: ReaderId::parse(id).unwrap(), weight };
    ids.iter().zip(1..).map(share).collect()
}

async fn try_assign(
    store: &SharedStore,
    id: &str,
    expected: Option<u64>,
    to: &[&str],
    seen: u64,
) -> SwapOutcome {
    store.assign_video(&video(id), expected, &shares_of(to), seen, None).await.unwrap()
}

async fn assign_and_expect(
    store: &SharedStore,
    id: &str,
    expected: Option<u64>,
    to: &[&str],
    seen: u64,
) -> VideoAssignment {
    match try_assign(store, id, expected, to, seen).await {
        SwapOutcome::Stored(assignment) => {
            assert_eq!((&assignment.video_id, assignment.readers()), (&video(id), &shares_of(to)[..]));
            assignment
        }
        other => panic!("{id} was free, not {other:?}"),
    }
}

async fn all_assignments(store: &SharedStore) -> BTreeMap<VideoId, VideoAssignment> {
    assignments_by_video(store.load_assignments().await.unwrap())
}

fn assignments_by_video(state: AssignmentSnapshot) -> BTreeMap<VideoId, VideoAssignment> {
    state.assignments.into_iter().map(|assignment| (assignment.video_id.clone(), assignment)).collect()
}

async fn next_change(changes: &mut mpsc::Receiver<AssignmentChange>) -> AssignmentChange {
    tokio::time::timeout(CHANGE_TIMEOUT, changes.recv())
        .await
        .expect("a change is told in time")
        .expect("goes on")
}

/// Returns a subscription, and the version after which it receives every change.
async fn subscribe_at_version(store: &SharedStore) -> (mpsc::Receiver<AssignmentChange>, u64) {
    let mut changes = store.subscribe_changes().await.unwrap();
    assert_eq!(next_change(&mut changes).await, AssignmentChange::Reset, "the first item");
    let version = store.load_assignments().await.unwrap().version;
    (changes, version)
}

async fn an_assignment_changes_by_its_epoch_only(store: SharedStore) {
    assert_eq!(store.load_assignments().await.unwrap().assignments, []);
    let first = assign_and_expect(&store, "v", None, &["r1"], 0).await;
    assert_eq!(try_assign(&store, "v", None, &["r2"], 0).await, SwapOutcome::Conflict(Some(first.clone())));
    let wrong = Some(first.epoch() + 1);
    assert_eq!(try_assign(&store, "v", wrong, &["r2"], 0).await, SwapOutcome::Conflict(Some(first.clone())));
    assert_eq!(try_assign(&store, "w", Some(first.epoch()), &["r2"], 0).await, SwapOutcome::Conflict(None));
    let second = assign_and_expect(&store, "v", Some(first.epoch()), &["r2", "r1"], 0).await;
    assert!(second.epoch() > first.epoch());
    assert_eq!(all_assignments(&store).await, BTreeMap::from([(video("v"), second.clone())]));
    let remove = async |epoch| store.remove_assignment(&video("v"), epoch).await.unwrap();
    assert_eq!(remove(first.epoch()).await, SwapOutcome::Conflict(Some(second.clone())));
    assert_eq!(remove(second.epoch()).await, SwapOutcome::Stored(second.clone()));
    assert_eq!(remove(second.epoch()).await, SwapOutcome::Conflict(None));
    assert_eq!(try_assign(&store, "v", Some(second.epoch()), &["r1"], 0).await, SwapOutcome::Conflict(None));
    assert!(all_assignments(&store).await.is_empty());
    assert!(
        assign_and_expect(&store, "v", None, &["r1"], 0).await.epoch() > second.epoch(),
        "also after a removal"
    );
}

/// A day in microseconds.
const DAY_MICROS: u64 = 24 * 3_600 * 1_000_000;

/// Returns an epoch half a day below the highest that a store accepts: a day later it would be above.
fn highest_safe_epoch() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    latest_possible_epoch(now.as_micros() as u64) - DAY_MICROS / 2
}

async fn epochs_exceed_all_that_was_seen(store: SharedStore) {
    let mut last = 0;
    for (at, seen) in [0, 0, 500, 3, 0, (1 << 40) + 1, 7, highest_safe_epoch(), 1].into_iter().enumerate() {
        let epoch = assign_and_expect(&store, &format!("v{at}"), None, &["r"], seen).await.epoch();
        assert!(epoch > last && epoch > seen, "{epoch} after {last} and {seen}");
        last = epoch;
    }
    let stored = all_assignments(&store).await;
    assert_eq!(stored[&video("v8")].epoch(), last, "large ones are exact");
    assert!(assign_and_expect(&store, "v8", Some(last), &["s"], 0).await.epoch() > last);
}

/// Checks that epochs and terms still grow after the store lost everything, which `other` simulates: nobody is left who
/// has seen an epoch.
async fn epochs_and_terms_grow_after_data_loss(store: &SharedStore, other: &SharedStore) {
    let before = assign_and_expect(store, "v", None, &["r"], 0).await.epoch();
    let term = planners::begin_term(store, "p", 0, 0).await;
    let minted = Instant::now();
    while minted.elapsed() < Duration::from_millis(1) {
        tokio::task::yield_now().await;
    }
    assert!(assign_and_expect(other, "v", None, &["r"], 0).await.epoch() > before);
    assert!(planners::begin_term(other, "p", 0, 0).await > term);
}

async fn an_impossible_epoch_is_refused(store: SharedStore) {
    for seen in [highest_safe_epoch() + DAY_MICROS, 1 << 52, MAX_EPOCH - 1, MAX_EPOCH, u64::MAX] {
        let refused = store.assign_video(&video("v"), None, &shares_of(&["r"]), seen, None).await;
        assert!(refused.is_err_and(|error| !error.is_transient()));
    }
    assert!(
        assign_and_expect(&store, "v", None, &["r"], 0).await.epoch() < MAX_EPOCH / 2,
        "it left no trace"
    );
}

async fn one_concurrent_assign_wins(store: SharedStore) {
    const TASK_COUNT: usize = 16;
    const ROUND_COUNT: usize = 30;
    let mut expected = None;
    let mut epochs = Vec::new();
    for _ in 0..ROUND_COUNT {
        let tries = (0..TASK_COUNT).map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { try_assign(&store, "v", expected, &[&format!("r{task}")], 0).await })
        });
        let outcomes = futures::future::join_all(tries).await;
        let mut winners = Vec::new();
        let mut told = Vec::new();
        for outcome in outcomes {
            match outcome.unwrap() {
                SwapOutcome::Stored(assignment) => winners.push(assignment),
                SwapOutcome::Conflict(in_force) => told.push(in_force.expect("the winner's is in force")),
                SwapOutcome::Fenced(term) => panic!("nobody plans under term {term}"),
            }
        }
        assert_eq!(winners.len(), 1, "exactly one wins");
        assert!(told.iter().all(|other| *other == winners[0]), "the others are told of it");
        expected = Some(winners[0].epoch());
        epochs.push(winners[0].epoch());
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "epochs only grow: {epochs:?}");
    // No epoch is minted twice for different videos either.
    let many = (0..200).map(|at| {
        let store = Arc::clone(&store);
        tokio::spawn(
            async move { assign_and_expect(&store, &format!("w{at}"), None, &["r"], 0).await.epoch() },
        )
    });
    let minted: BTreeSet<u64> =
        futures::future::join_all(many).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(minted.len(), 200);
    assert!(minted.first() > epochs.last());
}

async fn unusual_ids_are_accepted(store: SharedStore) {
    let long = "ß".repeat(128);
    let (mut changes, mut version) = subscribe_at_version(&store).await;
    for id in UNUSUAL_IDS.iter().copied().chain([long.as_str()]) {
        let stored = assign_and_expect(&store, id, None, &[id, "other"], 0).await;
        version += 1;
        assert_eq!(
            next_change(&mut changes).await,
            AssignmentChange::Assigned { version, assignment: stored.clone() }
        );
        assert_eq!(all_assignments(&store).await[&video(id)], stored);
    }
    assert_eq!(all_assignments(&store).await.len(), UNUSUAL_IDS.len() + 1);
}

async fn changes_arrive_without_a_gap(store: SharedStore) {
    let (mut changes, start) = subscribe_at_version(&store).await;
    let one = assign_and_expect(&store, "v", None, &["r1"], 0).await;
    try_assign(&store, "v", None, &["r2"], 0).await;
    let two = assign_and_expect(&store, "v", Some(one.epoch()), &["r2"], 70).await;
    store.remove_assignment(&video("v"), one.epoch()).await.unwrap();
    store.remove_assignment(&video("v"), two.epoch()).await.unwrap();
    let three = assign_and_expect(&store, "w", None, &["r2"], 0).await;
    let expected = [
        AssignmentChange::Assigned { version: start + 1, assignment: one },
        AssignmentChange::Assigned { version: start + 2, assignment: two },
        AssignmentChange::Removed { version: start + 3, video_id: video("v") },
        AssignmentChange::Assigned { version: start + 4, assignment: three },
    ];
    for change in expected {
        assert_eq!(next_change(&mut changes).await, change);
    }
    assert_eq!(store.load_assignments().await.unwrap().version, start + 4);
}

async fn a_slow_subscriber_gets_a_reset(store: SharedStore) {
    let (mut changes, _) = subscribe_at_version(&store).await;
    let count = 2 * CHANGE_QUEUE_LENGTH;
    for at in 0..count {
        assign_and_expect(&store, &format!("v{at}"), None, &["r"], 0).await;
    }
    let mut heard = 0;
    while next_change(&mut changes).await != AssignmentChange::Reset {
        heard += 1;
        assert!(heard < count, "the loss is told");
    }
    let mut state = store.load_assignments().await.unwrap();
    assert_eq!(state.assignments.len(), count);
    let mut last = assign_and_expect(&store, "last-0", None, &["r"], 0).await;
    let mut overflow_count = 0;
    loop {
        match next_change(&mut changes).await {
            // A change that was still on its way when the state was loaded, which contains it.
            AssignmentChange::Assigned { version, .. } if version <= state.version => {}
            // The queue overflowed once more while it was emptied: the next change must be delivered as one change.
            AssignmentChange::Reset => {
                overflow_count += 1;
                assert!(overflow_count < count, "the queue is emptied at some time");
                state = store.load_assignments().await.unwrap();
                last = assign_and_expect(&store, &format!("last-{overflow_count}"), None, &["r"], 0).await;
            }
            told => {
                break assert_eq!(
                    told,
                    AssignmentChange::Assigned { version: state.version + 1, assignment: last }
                );
            }
        }
    }
}

async fn a_mirror_follows_many_writers(store: SharedStore) {
    const WRITER_COUNT: u64 = 8;
    let (mut changes, _) = subscribe_at_version(&store).await;
    let writers = (0..WRITER_COUNT).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for at in 0..40 {
                let id = format!("v{}", (at * 7 + writer) % 10);
                let stands = all_assignments(&store).await.get(&video(&id)).map(VideoAssignment::epoch);
                match stands {
                    Some(epoch) if at % 4 == 0 => {
                        drop(store.remove_assignment(&video(&id), epoch).await.unwrap());
                    }
                    stands => drop(try_assign(&store, &id, stands, &[&format!("r{writer}")], 0).await),
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let start = store.load_assignments().await.unwrap();
    let mut version = start.version;
    let mut mirror = assignments_by_video(start);
    for writer in writers {
        writer.await.unwrap();
    }
    let end = store.load_assignments().await.unwrap();
    while version < end.version {
        let told = match next_change(&mut changes).await {
            AssignmentChange::Reset => panic!("nothing was lost"),
            AssignmentChange::Assigned { version: told, .. }
            | AssignmentChange::Removed { version: told, .. }
                if told <= version =>
            {
                continue;
            }
            AssignmentChange::Assigned { version, assignment } => {
                mirror.insert(assignment.video_id.clone(), assignment);
                version
            }
            AssignmentChange::Removed { version, video_id } => {
                mirror.remove(&video_id);
                version
            }
        };
        assert_eq!(told, version + 1, "no hole");
        version = told;
    }
    assert_eq!(mirror, assignments_by_video(end));
}

/// An epoch of the year 2025, in microseconds since 1970.
const EPOCH_OF_2025: u64 = 1_750_000_000_000_007;

fn held_video(id: &str) -> HeldVideo {
    HeldVideo { video: video(id), viewers: 1, epoch: EPOCH_OF_2025, ready: true, shedding: true }
}

fn reader_record(id: &str, beat: u64) -> ReaderRecord {
    ReaderRecord {
        id: ReaderId::parse(id).unwrap(),
        public_url: "http://localhost:4001".to_owned(),
        internal_url: "http://10.0.0.1:4001/a b?\"".to_owned(),
        beat,
        incarnation: 1_790_000_000_000_000,
        capacity: 5000,
        viewers: 17,
        draining: false,
        highest_epoch: EPOCH_OF_2025,
        videos: UNUSUAL_IDS.iter().map(|id| held_video(id)).collect(),
        messages_sent: u64::MAX,
        grace_ms: 20_000,
        reconnects: 12,
        reconnect_errors: 1,
        zone: Some(ZoneId::parse("z\"").unwrap()),
        viewers_by_zone: ZonedViewers { same: 12, other: 5 },
        ticket: Some(Secret::new("t\"")),
    }
}

async fn beats_of_readers(store: &SharedStore) -> BTreeMap<String, u64> {
    let records = store.reader_records().await.unwrap();
    records.into_iter().map(|record| (record.id.to_string(), record.beat)).collect()
}

async fn heartbeats_are_kept_as_they_came(store: SharedStore) {
    assert_eq!(store.reader_records().await.unwrap(), []);
    store.note_heartbeat(&reader_record("r1", 1)).await.unwrap();
    store.note_heartbeat(&reader_record("r 2", u64::MAX)).await.unwrap();
    let newer = ReaderRecord { draining: true, viewers: 18, videos: vec![], ..reader_record("r1", 0) };
    store.note_heartbeat(&newer).await.unwrap();
    let mut records = store.reader_records().await.unwrap();
    records.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(records, [reader_record("r 2", u64::MAX), newer]);
}

async fn a_peak_is_only_ever_raised(store: SharedStore) {
    let ids: Vec<VideoId> = ["a", "b", "c"].into_iter().chain(UNUSUAL_IDS).map(video).collect();
    assert_eq!(store.viewer_peaks(&ids).await.unwrap(), vec![None; ids.len()]);
    assert!(store.viewer_peaks(&[]).await.unwrap().is_empty());
    store.raise_viewer_peaks(&[]).await.unwrap();
    store.raise_viewer_peaks(&[(video("a"), 7), (video("b"), 12)]).await.unwrap();
    // Two managers, of which one knows an older number.
    store.raise_viewer_peaks(&[(video("a"), 9), (video("b"), 11)]).await.unwrap();
    assert_eq!(store.viewer_peaks(&ids[..3]).await.unwrap(), [Some(9), Some(12), None]);
    let most: Vec<(VideoId, u64)> = UNUSUAL_IDS.into_iter().map(|id| (video(id), 1 << 40)).collect();
    store.raise_viewer_peaks(&most).await.unwrap();
    assert_eq!(store.viewer_peaks(&ids[3..]).await.unwrap(), vec![Some(1 << 40); UNUSUAL_IDS.len()]);
}

async fn a_reader_is_forgotten_by_its_last_beat_only(store: SharedStore) {
    let id = ReaderId::parse("r1").unwrap();
    let large = u64::MAX - 1;
    for beat in [12, 1, large] {
        store.note_heartbeat(&reader_record("r1", beat)).await.unwrap();
        for other in [beat - 1, beat + 1, beat / 10, 0] {
            if other != beat {
                store.forget_reader(&id, other).await.unwrap();
                assert_eq!(
                    beats_of_readers(&store).await,
                    BTreeMap::from([("r1".to_owned(), beat)]),
                    "by {other}"
                );
            }
        }
    }
    store.note_heartbeat(&reader_record("r2", large)).await.unwrap();
    store.forget_reader(&id, large).await.unwrap();
    store.forget_reader(&id, large).await.unwrap();
    assert_eq!(beats_of_readers(&store).await, BTreeMap::from([("r2".to_owned(), large)]));
}
