//! Checks that of two revisions of a video the later one stays, whichever arrives first, whether its scores are higher
//! or lower.

use std::collections::HashSet;

use liverank_core::canary;
use liverank_core::counting::OffsetRange;

use super::{
    Store, all_entries, begin_generation, board_lines, entry, next_change, owned_entry, project_entries,
    subscribe_to_changes,
};
use liverank_adapters::ranking_store::{BatchProjection, BoardEntry, BuiltInBoard, ProjectionOutcome};

fn at_revision(revision: u64, entry: BoardEntry) -> BoardEntry {
    BoardEntry { revision, ..entry }
}

fn removed_entry(id: &str, revision: u64) -> BoardEntry {
    BoardEntry { removed: true, ..at_revision(revision, entry(id, 0.0)) }
}

/// Projects these entries as the consumer of another partition does.
async fn project_from_another_partition(store: &Store, from: u64, entries: Vec<BoardEntry>) {
    let spans = vec![OffsetRange { partition: 1, first: from, next: from + 1, last_record: None }];
    let projection = BatchProjection { generation: 1, offset_ranges: spans, entries, traces: Vec::new() };
    assert_eq!(store.project_batch(&projection).await.unwrap(), ProjectionOutcome::Applied);
}

pub async fn the_later_state_of_a_video_stands(store: Store) {
    let store = begin_generation(store).await;
    let first = [
        at_revision(5, owned_entry("a", 5.0, "given", 5.0)),
        at_revision(5, owned_entry("b", 5.0, "o", 5.0)),
    ];
    project_entries(&store, 0, 10, first.to_vec()).await;
    let mut changes = subscribe_to_changes(&store).await;
    // The consumer of another partition read `a` before the batch above and comes later; of `b` it has a later
    // revision.
    let late = vec![
        at_revision(4, owned_entry("a", 9.0, "first", 9.0)),
        at_revision(6, owned_entry("b", 4.0, "o", 4.5)),
        entry("c", 1.0),
    ];
    project_from_another_partition(&store, 0, late).await;
    let lower = at_revision(6, owned_entry("b", 4.0, "o", 4.5));
    assert_eq!(next_change(&mut changes).await.1, [lower.clone(), entry("c", 1.0)], "the rest is no news");
    assert_eq!(all_entries(&store).await, [first[0].clone(), lower, entry("c", 1.0)]);
    // An event without weight may still name the owner.
    let named = at_revision(7, owned_entry("b", 4.0, "given", 4.5));
    project_entries(&store, 10, 11, vec![named.clone()]).await;
    assert_eq!(next_change(&mut changes).await.1, [named]);
    assert_eq!(board_lines(&store, BuiltInBoard::Global).await[1].2, "given");
    // An entry that differs by its revision only is no change.
    project_entries(&store, 11, 12, vec![at_revision(8, owned_entry("a", 5.0, "given", 5.0))]).await;
    let untrending = at_revision(8, BoardEntry { trending: None, ..owned_entry("b", 3.0, "given", 0.0) });
    project_entries(&store, 12, 13, vec![untrending.clone()]).await;
    assert_eq!(next_change(&mut changes).await.1, [untrending]);
    assert_eq!(
        board_lines(&store, BuiltInBoard::Trending).await,
        [("a".to_owned(), 5.0, "given".to_owned())]
    );
    project_from_another_partition(&store, 1, vec![at_revision(7, owned_entry("a", 1.0, "o", 1.0))]).await;
    assert_eq!(board_lines(&store, BuiltInBoard::Global).await[0].1.to_bits(), 5.0_f64.to_bits());
}

pub async fn removed_videos_return_by_later_states(store: Store) {
    let store = begin_generation(store).await;
    let (a, b) =
        (at_revision(5, owned_entry("a", 5.0, "o", 5.0)), at_revision(1, owned_entry("b", 1.0, "o", 1.0)));
    project_entries(&store, 0, 10, vec![a, b.clone()]).await;
    let mut changes = subscribe_to_changes(&store).await;
    project_entries(&store, 10, 11, vec![removed_entry("a", 6), removed_entry("other", 3)]).await;
    assert_eq!(next_change(&mut changes).await.1, [removed_entry("a", 6)]);
    let is_off = async || {
        assert_eq!(all_entries(&store).await, std::slice::from_ref(&b));
        assert_eq!(
            (
                board_lines(&store, BuiltInBoard::Global).await.len(),
                board_lines(&store, BuiltInBoard::Trending).await.len()
            ),
            (1, 1)
        );
    };
    is_off().await;
    project_from_another_partition(&store, 0, vec![at_revision(4, owned_entry("a", 4.0, "o", 4.0))]).await;
    store
        .write_snapshot(1, &[at_revision(5, owned_entry("a", 5.0, "o", 5.0)), removed_entry("a", 6)])
        .await
        .unwrap();
    is_off().await;
    let back = at_revision(7, owned_entry("a", 5.0, "o", 5.0));
    project_entries(&store, 11, 12, vec![back.clone()]).await;
    assert_eq!(all_entries(&store).await, [back, b.clone()]);
    // The same holds in a generation that is gathered without being shown.
    store.write_snapshot(2, &[removed_entry("a", 8), b.clone()]).await.unwrap();
    store.write_snapshot(2, &[at_revision(7, owned_entry("a", 5.0, "o", 5.0))]).await.unwrap();
    store.commit_snapshot(2, &[]).await.unwrap();
    is_off().await;
}

pub async fn the_canary_is_notified_but_not_ranked(store: Store) {
    let store = begin_generation(store).await;
    let mut changes = subscribe_to_changes(&store).await;
    for revision in 1..=2 {
        let entries = vec![removed_entry(canary::CANARY_ID, revision)];
        project_entries(&store, revision - 1, revision, entries.clone()).await;
        assert_eq!(next_change(&mut changes).await.1, entries);
    }
    // A state of the canary that was reported before is no change, nor is an earlier one.
    project_from_another_partition(&store, 0, vec![removed_entry(canary::CANARY_ID, 1)]).await;
    project_from_another_partition(&store, 1, vec![removed_entry(canary::CANARY_ID, 2), entry("a", 1.0)])
        .await;
    assert_eq!(next_change(&mut changes).await.1, [entry("a", 1.0)]);
    assert_eq!(all_entries(&store).await, [entry("a", 1.0)]);
}

pub async fn a_snapshot_misses_nothing_while_scores_fall(store: Store) {
    const VIDEO_COUNT: u32 = 3500;
    let store = begin_generation(store).await;
    let name = |at: u32| format!("v{at:05}");
    let entries = (0..VIDEO_COUNT).map(|at| entry(&name(at), f64::from(at))).collect();
    project_entries(&store, 0, 1, entries).await;
    // The best videos fall to the end, so that all others rise without a change of their own.
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for round in 0..100_u32 {
                let fallen = (0..20).map(|at| {
                    let id = name(VIDEO_COUNT - 1 - (round * 20 + at) % 1000);
                    BoardEntry { revision: u64::MAX >> 12, ..entry(&id, -1.0 - f64::from(round * 20 + at)) }
                });
                project_entries(&store, u64::from(round) + 1, u64::from(round) + 2, fallen.collect()).await;
            }
        }
    });
    loop {
        let ended = writer.is_finished();
        let seen: HashSet<_> =
            store.boards_snapshot().await.unwrap().entries.into_iter().map(|entry| entry.video_id).collect();
        assert_eq!(seen.len(), VIDEO_COUNT as usize, "all are in each snapshot");
        tokio::task::yield_now().await;
        if ended {
            break;
        }
    }
    writer.await.unwrap();
}
