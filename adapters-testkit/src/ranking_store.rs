//! The checks that every [`RankingStore`] must pass; each panics if it fails.

// Checks are tests: they panic with the reason.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use liverank_core::counting::OffsetRange;
use liverank_core::ranking::{RankedVideo, Ranking};
use liverank_core::trace::TraceContext;
use liverank_core::{UserId, VideoId};
use tokio::sync::mpsc;

use liverank_adapters::ranking_store::{
    BatchProjection, BoardChange, BoardCursor, BoardEntry, BoardsSnapshot, BuiltInBoard, CHANGE_QUEUE_LENGTH,
    PageStart, ProjectionCheckpoint, ProjectionOutcome, RankingStore,
};

mod declared;
mod generations;
mod idle;
mod metadata;
mod places;
mod revisions;

type Store = Arc<dyn RankingStore>;

/// The longest wait for a change: changes arrive within a fraction of it, on a machine that is not overloaded.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Identifiers that expose code which mistakes them for patterns, hash tags, separators or ASCII.
const UNUSUAL_IDS: [&str; 14] =
    ["a b", "{", "}", "a}b{c", "{}", "*", "?", "[a-z]", "\\", "\"", "ä", "日本", "🎬", "0-0"];

/// Runs all checks; `fresh` returns a new, empty store for each.
pub async fn suite<F, Fut>(fresh: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Store>,
{
    an_empty_store_returns_nothing(fresh().await).await;
    a_projection_is_on_both_boards(fresh().await).await;
    traces_come_with_their_change(fresh().await).await;
    replays_and_zombies_change_nothing(fresh().await).await;
    revisions::the_later_state_of_a_video_stands(fresh().await).await;
    revisions::the_canary_is_notified_but_not_ranked(fresh().await).await;
    revisions::removed_videos_return_by_later_states(fresh().await).await;
    revisions::a_snapshot_misses_nothing_while_scores_fall(fresh().await).await;
    a_missing_batch_is_noticed(fresh().await).await;
    generations::a_new_generation_replaces_the_old(fresh().await).await;
    generations::a_generation_that_nobody_completes_leaves_no_trace(fresh().await).await;
    generations::an_empty_generation_can_be_in_force(fresh().await).await;
    generations::a_half_life_belongs_to_its_generation(fresh().await).await;
    a_repair_keeps_later_revisions(fresh().await).await;
    versions_have_no_hole(fresh().await).await;
    large_batches_arrive_exactly(fresh().await).await;
    a_slow_subscriber_gets_a_reset(fresh().await).await;
    ties_stand_in_byte_order(fresh().await).await;
    pages_lead_through_a_moving_board(fresh().await).await;
    places::ranks_match_the_list(fresh().await).await;
    places::a_video_on_no_board_has_no_rank(fresh().await).await;
    places::ranks_follow_a_changing_board(fresh().await).await;
    a_mirror_follows_two_writers(fresh().await).await;
    idle::idle_videos_leave_until_an_event_brings_them_back(fresh().await).await;
    idle::idle_thresholds_are_per_generation(fresh().await).await;
    idle::many_idle_videos_leave_in_several_calls(fresh().await).await;
    metadata::the_latest_metadata_win(fresh().await).await;
    metadata::many_metadata_and_unusual_ids_arrive_whole(fresh().await).await;
    metadata::complete_metadata_are_noted(fresh().await).await;
    declared::declared_boards_are_independent(fresh().await).await;
    declared::unwanted_boards_are_removed(fresh().await).await;
}

fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

/// Returns an entry with a revision that grows with its score.
fn entry(id: &str, score: f64) -> BoardEntry {
    let revision = ((score.max(0.0) * 1000.0) as u64).saturating_add(1);
    let owner = UserId::parse("o").unwrap();
    BoardEntry { video_id: video(id), owner, score, trending: None, revision, removed: false }
}

fn owned_entry(id: &str, score: f64, owner: &str, trending: f64) -> BoardEntry {
    BoardEntry { owner: UserId::parse(owner).unwrap(), trending: Some(trending), ..entry(id, score) }
}

fn batch_projection(generation: u64, from: u64, next: u64, entries: Vec<BoardEntry>) -> BatchProjection {
    BatchProjection {
        generation,
        offset_ranges: vec![OffsetRange { partition: 0, first: from, next, last_record: None }],
        entries,
        traces: Vec::new(),
    }
}

async fn project_entries(store: &Store, from: u64, next: u64, entries: Vec<BoardEntry>) {
    project_entries_of(1, store, from, next, entries).await;
}

async fn project_entries_of(generation: u64, store: &Store, from: u64, next: u64, entries: Vec<BoardEntry>) {
    let projected = store.project_batch(&batch_projection(generation, from, next, entries)).await.unwrap();
    assert_eq!(projected, ProjectionOutcome::Applied);
}

/// Puts generation 1 in force in an empty store, at the beginning of the log, and returns the store.
async fn begin_generation(store: Store) -> Store {
    store.commit_snapshot(1, &[]).await.unwrap();
    store
}

async fn next(changes: &mut mpsc::Receiver<BoardChange>) -> BoardChange {
    tokio::time::timeout(CHANGE_TIMEOUT, changes.recv())
        .await
        .expect("a change is told in time")
        .expect("goes on")
}

async fn subscribe_to_changes(store: &Store) -> mpsc::Receiver<BoardChange> {
    let mut changes = store.subscribe_changes().await.unwrap();
    assert_eq!(next(&mut changes).await, BoardChange::Reset, "the first item");
    changes
}

async fn next_change(changes: &mut mpsc::Receiver<BoardChange>) -> (u64, Vec<BoardEntry>) {
    match next(changes).await {
        BoardChange::Changed { version, entries, .. } => (version, entries),
        BoardChange::Reset => panic!("nothing was lost"),
    }
}

fn sorted_entries(snapshot: &BoardsSnapshot) -> Vec<BoardEntry> {
    let entries: BTreeMap<_, _> =
        snapshot.entries.iter().map(|entry| (entry.video_id.clone(), entry.clone())).collect();
    assert_eq!(entries.len(), snapshot.entries.len(), "no video twice");
    entries.into_values().collect()
}

async fn all_entries(store: &Store) -> Vec<BoardEntry> {
    sorted_entries(&store.boards_snapshot().await.unwrap())
}

/// Returns the videos of a page of a board. Panics if the page is to be around a video that is not on the board.
async fn page_of(store: &Store, board: BuiltInBoard, start: &PageStart, limit: usize) -> Vec<RankedVideo> {
    store.board_page(board, start, limit).await.unwrap().expect("around no video").videos
}

async fn best_videos(store: &Store, board: BuiltInBoard, limit: usize) -> Vec<RankedVideo> {
    page_of(store, board, &PageStart::Best, limit).await
}

async fn board_lines(store: &Store, board: BuiltInBoard) -> Vec<(String, f64, String)> {
    let page = best_videos(store, board, 100).await;
    page.iter().map(|line| (line.video_id.to_string(), line.score, line.user_id.to_string())).collect()
}

async fn an_empty_store_returns_nothing(store: Store) {
    assert_eq!(store.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    assert_eq!(store.boards_snapshot().await.unwrap(), BoardsSnapshot { version: 0, entries: vec![] });
    let first = batch_projection(1, 0, 1, vec![entry("v", 1.0)]);
    assert_eq!(store.project_batch(&first).await.unwrap(), ProjectionOutcome::Behind);
    assert!(
        all_entries(&store).await.is_empty() && board_lines(&store, BuiltInBoard::Global).await.is_empty()
    );
    assert_eq!(store.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
}

async fn a_projection_is_on_both_boards(store: Store) {
    let store = begin_generation(store).await;
    assert_eq!(
        store.checkpoint().await.unwrap(),
        ProjectionCheckpoint { generation: Some(1), offsets: vec![] }
    );
    let spans = vec![
        OffsetRange { partition: 12, first: 0, next: 3, last_record: None },
        OffsetRange { partition: 2, first: 0, next: 5, last_record: None },
    ];
    let entries = vec![owned_entry("a", 2.5, "x", 9.0), owned_entry("b", 3.0, "y", 8.0), entry("zero", 0.0)];
    let projection =
        BatchProjection { generation: 1, offset_ranges: spans, entries: entries.clone(), traces: Vec::new() };
    assert_eq!(store.project_batch(&projection).await.unwrap(), ProjectionOutcome::Applied);
    let standing = store.checkpoint().await.unwrap();
    assert_eq!(standing, ProjectionCheckpoint { generation: Some(1), offsets: vec![(2, 5), (12, 3)] });
    assert_eq!(all_entries(&store).await, entries);
    let line = |id: &str, score, owner: &str| (id.to_owned(), score, owner.to_owned());
    let global = vec![line("b", 3.0, "y"), line("a", 2.5, "x"), line("zero", 0.0, "o")];
    assert_eq!(board_lines(&store, BuiltInBoard::Global).await, global);
    assert_eq!(
        board_lines(&store, BuiltInBoard::Trending).await,
        vec![line("a", 9.0, "x"), line("b", 8.0, "y")]
    );
    assert!(best_videos(&store, BuiltInBoard::Global, 0).await.is_empty());
}

async fn traces_come_with_their_change(store: Store) {
    let store = begin_generation(store).await;
    let mut changes = subscribe_to_changes(&store).await;
    let trace = |span: u8| TraceContext { trace_id: [span; 16], span_id: [span; 8], sampled: true };
    for (at, traces) in (0..).zip([vec![trace(1), trace(2)], vec![], vec![trace(3)]]) {
        let entries = vec![entry("v", at as f64 + 1.0)];
        let projection =
            BatchProjection { traces: traces.clone(), ..batch_projection(1, at, at + 1, entries) };
        assert_eq!(store.project_batch(&projection).await.unwrap(), ProjectionOutcome::Applied);
        let BoardChange::Changed { traces: heard, .. } = next(&mut changes).await else {
            panic!("nothing was lost")
        };
        assert_eq!(heard, traces);
    }
}

async fn replays_and_zombies_change_nothing(store: Store) {
    let store = begin_generation(store).await;
    let mut changes = subscribe_to_changes(&store).await;
    project_entries(&store, 0, 10, vec![owned_entry("a", 1.0, "x", 1.0)]).await;
    project_entries(&store, 10, 20, vec![owned_entry("a", 2.0, "x", 2.0)]).await;
    let before = (store.checkpoint().await.unwrap(), store.boards_snapshot().await.unwrap());
    project_entries(&store, 0, 10, vec![owned_entry("a", 1.0, "x", 1.0)]).await;
    project_entries(&store, 10, 20, vec![owned_entry("a", 2.0, "x", 2.0)]).await;
    // A zombie with another past: the store has counted what it sends.
    project_entries(&store, 5, 15, vec![owned_entry("a", 99.0, "z", 99.0), owned_entry("b", 1.0, "z", 1.0)])
        .await;
    assert_eq!((store.checkpoint().await.unwrap(), store.boards_snapshot().await.unwrap()), before);
    project_entries(&store, 20, 21, vec![owned_entry("a", 3.0, "x", 3.0)]).await;
    let versions = [
        next_change(&mut changes).await.0,
        next_change(&mut changes).await.0,
        next_change(&mut changes).await.0,
    ];
    assert_eq!(versions, [versions[0], versions[0] + 1, versions[0] + 2], "replays were told");
}

async fn a_missing_batch_is_noticed(store: Store) {
    let store = begin_generation(store).await;
    let behind = async |projection: BatchProjection| {
        let before = (store.checkpoint().await.unwrap(), store.boards_snapshot().await.unwrap());
        assert_eq!(store.project_batch(&projection).await.unwrap(), ProjectionOutcome::Behind);
        assert_eq!((store.checkpoint().await.unwrap(), store.boards_snapshot().await.unwrap()), before);
    };
    behind(batch_projection(1, 1, 2, vec![entry("a", 1.0)])).await;
    project_entries(&store, 0, 10, vec![entry("a", 1.0)]).await;
    behind(batch_projection(1, 11, 12, vec![entry("a", 2.0)])).await;
    let mut two = batch_projection(1, 10, 12, vec![entry("a", 2.0)]);
    two.offset_ranges.push(OffsetRange { partition: 1, first: 7, next: 8, last_record: None });
    behind(two).await;
    // A large batch is refused, too.
    behind(batch_projection(1, 11, 12, (0..3000).map(|at| entry(&format!("v{at}"), 1.0)).collect())).await;
    behind(batch_projection(2, 10, 11, vec![entry("a", 2.0)])).await;
}

async fn a_repair_keeps_later_revisions(store: Store) {
    let store = begin_generation(store).await;
    project_entries(&store, 0, 10, vec![owned_entry("v00007", 9.0, "x", 9.0)]).await;
    let mut changes = subscribe_to_changes(&store).await;
    let all_of_it: Vec<_> = (0..3500).map(|at| entry(&format!("v{at:05}"), 1.0)).collect();
    let (head, tail) = all_of_it.split_at(1234);
    store.write_snapshot(1, head).await.unwrap();
    // Ordinary projections go on meanwhile.
    project_entries(&store, 10, 11, vec![entry("v00001", 5.0)]).await;
    store.write_snapshot(1, tail).await.unwrap();
    store.write_snapshot(1, &[]).await.unwrap();
    store.commit_snapshot(1, &[(0, 7), (3, 4)]).await.unwrap();
    loop {
        // The changes of the projection may come first.
        if next(&mut changes).await == BoardChange::Reset {
            break;
        }
    }
    assert_eq!(store.checkpoint().await.unwrap().offsets, [(0, 11), (3, 4)]);
    let stands = all_entries(&store).await;
    assert_eq!(stands.len(), 3500);
    assert_eq!((&stands[7], &stands[1]), (&owned_entry("v00007", 9.0, "x", 9.0), &entry("v00001", 5.0)));
}

async fn versions_have_no_hole(store: Store) {
    let store = begin_generation(store).await;
    let mut changes = subscribe_to_changes(&store).await;
    let mut version = store.boards_snapshot().await.unwrap().version;
    for at in 0..60_u64 {
        // Every third batch changes no video.
        let points = (at / 3) as f64;
        project_entries(&store, at, at + 1, vec![entry("v", points)]).await;
        if at % 3 == 0 {
            version += 1;
            let told = next_change(&mut changes).await;
            assert_eq!(told, (version, vec![entry("v", points)]));
        }
    }
    assert_eq!(store.boards_snapshot().await.unwrap().version, version);
    assert_eq!(store.checkpoint().await.unwrap().offsets, [(0, 60)]);
}

async fn large_batches_arrive_exactly(store: Store) {
    let store = begin_generation(store).await;
    let mut changes = subscribe_to_changes(&store).await;
    let entries: Vec<_> = (0..2500_u32)
        .map(|at| {
            let points = f64::from(at) * 1000.123 / 7.0;
            owned_entry(
                &format!("v{at:04}"),
                points,
                &format!("owner {at}"),
                82_000.1 + 1.0 / f64::from(at + 1),
            )
        })
        .collect();
    project_entries(&store, 0, 5000, entries.clone()).await;
    assert_eq!(all_entries(&store).await, entries);
    let mut told = Vec::new();
    while told.len() < entries.len() {
        told.extend(next_change(&mut changes).await.1);
    }
    assert_eq!(told, entries);
    let page = best_videos(&store, BuiltInBoard::Global, 10_000).await;
    assert_eq!(page.len(), 2500);
    let top = &entries[2499];
    assert_eq!((page[0].score.to_bits(), &page[0].user_id), (top.score.to_bits(), &top.owner));
}

async fn a_slow_subscriber_gets_a_reset(store: Store) {
    let store = begin_generation(store).await;
    let mut slow = subscribe_to_changes(&store).await;
    let mut quick = subscribe_to_changes(&store).await;
    let count = 3 * CHANGE_QUEUE_LENGTH as u64;
    for at in 0..count {
        project_entries(&store, at, at + 1, vec![entry("v", at as f64 + 1.0)]).await;
        next_change(&mut quick).await;
    }
    let mut heard = 0;
    while next(&mut slow).await != BoardChange::Reset {
        heard += 1;
        assert!(heard < count, "the loss is told");
    }
    let mut version = store.boards_snapshot().await.unwrap().version;
    let mut at = count;
    let points = |at: u64| 1e9 + at as f64;
    project_entries(&store, at, at + 1, vec![entry("v", points(at))]).await;
    loop {
        match next(&mut slow).await {
            // A change that was still on its way when the snapshot was taken, which contains it, is ignored.
            BoardChange::Changed { version: told, .. } if told <= version => {}
            // The queue overflowed once more while it was emptied: the next change must be delivered as one change.
            BoardChange::Reset => {
                at += 1;
                assert!(at < 2 * count, "the queue is emptied at some time");
                version = store.boards_snapshot().await.unwrap().version;
                project_entries(&store, at, at + 1, vec![entry("v", points(at))]).await;
            }
            BoardChange::Changed { version: told, entries, .. } => {
                break assert_eq!((told, entries), (version + 1, vec![entry("v", points(at))]));
            }
        }
    }
    drop(slow);
    project_entries(&store, at + 1, at + 2, vec![entry("v", 2e9)]).await;
    // The quick subscriber receives the last change above, too.
    for _ in count..=at + 1 {
        next_change(&mut quick).await;
    }
}

/// Returns the expected board, by the definition of the order.
fn expected_ranking(entries: &[BoardEntry]) -> Ranking {
    let mut ranking = Ranking::default();
    for entry in entries {
        let (video_id, user_id) = (entry.video_id.clone(), entry.owner.clone());
        ranking.set_score(&RankedVideo { video_id, score: entry.score, user_id });
    }
    ranking
}

async fn ties_stand_in_byte_order(store: Store) {
    let store = begin_generation(store).await;
    let long = "ß".repeat(128);
    let ids = UNUSUAL_IDS.iter().copied().chain(["A", "a", "aa", "Z", &long]);
    let mut entries: Vec<_> = ids.map(|id| entry(id, 7.0)).collect();
    entries.extend([entry("best", 8.0), entry("least", -1.5)]);
    project_entries(&store, 0, 1, entries.clone()).await;
    let ranking = expected_ranking(&entries);
    let mut expected: Vec<_> = entries.iter().collect();
    expected.sort_by_key(|entry| std::cmp::Reverse(entry.video_id.as_str().as_bytes()));
    assert_eq!(best_videos(&store, BuiltInBoard::Global, 100).await, ranking.best_videos(None));
    // From every position, also from positions at which there is no video (any more).
    let gone = ["0", "b", "aä", "zz", "\u{10ffff}"].map(|id| entry(id, 7.0));
    let moved = [entry("a", 7.5), entry("best", 7.0), entry("ä", -2.0), entry("{", f64::INFINITY)];
    for from in entries.iter().chain(&gone).chain(&moved) {
        let start = PageStart::After(BoardCursor { score: from.score, video_id: from.video_id.clone() });
        let page = page_of(&store, BuiltInBoard::Global, &start, 3).await;
        let position = ranking.position_after(from.score, &from.video_id);
        assert_eq!(page, ranking.page(position, 3), "after {from:?}");
    }
}

async fn pages_lead_through_a_moving_board(store: Store) {
    let store = begin_generation(store).await;
    let id = |at: u32| format!("{}{at}", UNUSUAL_IDS[at as usize % UNUSUAL_IDS.len()]);
    let entries: Vec<_> = (0..10_000).map(|at| entry(&id(at), f64::from(at % 7))).collect();
    project_entries(&store, 0, 1, entries.clone()).await;
    let mut seen: Vec<RankedVideo> = Vec::new();
    let mut moved = HashSet::new();
    let mut start = PageStart::Best;
    for round in 1.. {
        let page = page_of(&store, BuiltInBoard::Global, &start, 333).await;
        let Some(last) = page.last() else { break };
        start = PageStart::after(last);
        // The cursor's own video moves away every other time, and some others move anywhere.
        let mut bumped: Vec<_> =
            (0..20).map(|at| entry(&id((at * 499 + round * 37) % 10_000), 3.0 + f64::from(round))).collect();
        if round % 2 == 0 {
            bumped.push(entry(last.video_id.as_str(), 1e6));
        }
        moved.extend(bumped.iter().map(|entry| entry.video_id.clone()));
        seen.extend(page);
        project_entries(&store, u64::from(round), u64::from(round) + 1, bumped).await;
    }
    let still: Vec<_> = seen.into_iter().filter(|line| !moved.contains(&line.video_id)).collect();
    let mut expected = expected_ranking(&entries).best_videos(None);
    expected.retain(|line| !moved.contains(&line.video_id));
    assert!(expected.len() > 8_000 && moved.len() > 500, "the check checks something");
    assert!(still == expected, "who did not move is seen once and in order");
}

async fn a_mirror_follows_two_writers(store: Store) {
    const BATCH_COUNT: u64 = 200;
    let store = begin_generation(store).await;
    let mut changes = subscribe_to_changes(&store).await;
    let writers = [0_u32, 1].map(|partition| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for at in 0..BATCH_COUNT {
                // Both partitions change the shared videos, with scores that may be below the other one's.
                let own = entry(&format!("own {partition} {}", at % 5), at as f64);
                let shared = owned_entry(&format!("shared {}", at % 3), at as f64, "o", at as f64 / 3.0);
                let spans = vec![OffsetRange { partition, first: at, next: at + 1, last_record: None }];
                let projection = BatchProjection {
                    generation: 1,
                    offset_ranges: spans,
                    entries: vec![own, shared],
                    traces: Vec::new(),
                };
                assert_eq!(store.project_batch(&projection).await.unwrap(), ProjectionOutcome::Applied);
            }
        })
    });
    // A correct subscriber: read a snapshot, apply later changes, start over at a reset or a gap.
    let start = store.boards_snapshot().await.unwrap();
    let mut version = start.version;
    let mut mirror: BTreeMap<VideoId, BoardEntry> =
        start.entries.into_iter().map(|entry| (entry.video_id.clone(), entry)).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = store.boards_snapshot().await.unwrap();
    while version < end.version {
        match next(&mut changes).await {
            BoardChange::Changed { version: told, entries, .. } if told == version + 1 => {
                version = told;
                mirror.extend(entries.into_iter().map(|entry| (entry.video_id.clone(), entry)));
            }
            BoardChange::Changed { version: told, .. } if told <= version => {}
            _ => {
                let again = store.boards_snapshot().await.unwrap();
                version = again.version;
                mirror = again.entries.into_iter().map(|entry| (entry.video_id.clone(), entry)).collect();
            }
        }
    }
    assert_eq!(mirror.into_values().collect::<Vec<_>>(), sorted_entries(&end));
    assert_eq!(store.checkpoint().await.unwrap().offsets, [(0, BATCH_COUNT), (1, BATCH_COUNT)]);
}
