//! Checks of generations that follow each other.

use super::{
    Store, all_entries, batch_projection, begin_generation, board_lines, entry, next, next_change,
    owned_entry, project_entries, project_entries_of, subscribe_to_changes,
};
use liverank_adapters::ranking_store::{BoardChange, BuiltInBoard, ProjectionCheckpoint, ProjectionOutcome};

pub async fn a_new_generation_replaces_the_old(store: Store) {
    let store = begin_generation(store).await;
    project_entries(&store, 0, 10, vec![owned_entry("a", 9.0, "x", 9.0), owned_entry("gone", 1.0, "x", 1.0)])
        .await;
    let mut changes = subscribe_to_changes(&store).await;
    let gathered = store.write_snapshot(2, &[owned_entry("a", 3.0, "y", 3.0)]).await.unwrap();
    assert_eq!(gathered, ProjectionOutcome::Applied);
    // The old generation is served, and goes on, until the new one is complete.
    assert_eq!(
        all_entries(&store).await,
        [owned_entry("a", 9.0, "x", 9.0), owned_entry("gone", 1.0, "x", 1.0)]
    );
    project_entries(&store, 10, 11, vec![owned_entry("a", 10.0, "x", 10.0)]).await;
    assert_eq!(
        next_change(&mut changes).await.1,
        [owned_entry("a", 10.0, "x", 10.0)],
        "nobody was told of anything else"
    );
    let early = batch_projection(2, 11, 12, vec![owned_entry("a", 4.0, "y", 4.0)]);
    assert_eq!(store.project_batch(&early).await.unwrap(), ProjectionOutcome::Behind);
    store.write_snapshot(2, &[owned_entry("b", 1.0, "y", 1.0)]).await.unwrap();
    assert_eq!(
        store.checkpoint().await.unwrap(),
        ProjectionCheckpoint { generation: Some(1), offsets: vec![(0, 11)] }
    );
    assert_eq!(board_lines(&store, BuiltInBoard::Global).await[0].1.to_bits(), 10.0_f64.to_bits());
    let old = store.boards_snapshot().await.unwrap().version;
    assert_eq!(store.commit_snapshot(2, &[(0, 10)]).await.unwrap(), ProjectionOutcome::Applied);
    assert_eq!(next(&mut changes).await, BoardChange::Reset);
    let stands = vec![owned_entry("a", 3.0, "y", 3.0), owned_entry("b", 1.0, "y", 1.0)];
    assert_eq!(all_entries(&store).await, stands);
    assert_eq!(board_lines(&store, BuiltInBoard::Trending).await.len(), 2);
    assert_eq!(
        store.checkpoint().await.unwrap(),
        ProjectionCheckpoint { generation: Some(2), offsets: vec![(0, 10)] }
    );
    let version = store.boards_snapshot().await.unwrap().version;
    assert!(version > old, "versions go on");
    // A caller of the old generation is told that it is superseded, and changes nothing.
    let late = batch_projection(1, 10, 11, vec![owned_entry("a", 10.0, "x", 10.0)]);
    assert_eq!(store.project_batch(&late).await.unwrap(), ProjectionOutcome::Superseded);
    assert_eq!(store.write_snapshot(1, &[entry("late", 1.0)]).await.unwrap(), ProjectionOutcome::Superseded);
    assert_eq!(store.commit_snapshot(1, &[(0, 99)]).await.unwrap(), ProjectionOutcome::Superseded);
    assert_eq!(all_entries(&store).await, stands);
    assert_eq!(
        store.checkpoint().await.unwrap(),
        ProjectionCheckpoint { generation: Some(2), offsets: vec![(0, 10)] }
    );
    assert_eq!(
        store.project_batch(&early).await.unwrap(),
        ProjectionOutcome::Behind,
        "from 11, where the boards stand at 10"
    );
    assert_eq!(
        store.project_batch(&batch_projection(2, 10, 12, early.entries)).await.unwrap(),
        ProjectionOutcome::Applied
    );
    assert_eq!(
        next_change(&mut changes).await,
        (version + 1, vec![owned_entry("a", 4.0, "y", 4.0)]),
        "one Reset, no hole"
    );
}

pub async fn a_generation_that_nobody_completes_leaves_no_trace(store: Store) {
    let store = begin_generation(store).await;
    project_entries(&store, 0, 10, vec![owned_entry("a", 9.0, "x", 9.0)]).await;
    store
        .write_snapshot(2, &[owned_entry("a", 70.0, "y", 70.0), owned_entry("b", 70.0, "y", 70.0)])
        .await
        .unwrap();
    // A later generation is begun: what is written to the first one comes too late.
    store.write_snapshot(3, &[entry("a", 5.0)]).await.unwrap();
    assert_eq!(store.write_snapshot(2, &[entry("c", 1.0)]).await.unwrap(), ProjectionOutcome::Superseded);
    assert_eq!(store.commit_snapshot(2, &[(0, 99)]).await.unwrap(), ProjectionOutcome::Superseded);
    assert_eq!(all_entries(&store).await, [owned_entry("a", 9.0, "x", 9.0)]);
    // Whatever remains of the interrupted repair: it succeeds when begun again with its first entry.
    assert_eq!(
        store.write_snapshot(3, &[entry("a", 5.0), entry("d", 2.0)]).await.unwrap(),
        ProjectionOutcome::Applied
    );
    assert_eq!(store.commit_snapshot(3, &[(0, 10)]).await.unwrap(), ProjectionOutcome::Applied);
    assert_eq!(all_entries(&store).await, [entry("a", 5.0), entry("d", 2.0)]);
    assert!(
        board_lines(&store, BuiltInBoard::Trending).await.is_empty(),
        "nothing of the generations before"
    );
    project_entries_of(3, &store, 10, 11, vec![owned_entry("a", 6.0, "o", 1.0)]).await;
}

pub async fn an_empty_generation_can_be_in_force(store: Store) {
    let store = begin_generation(store).await;
    project_entries(&store, 0, 10, vec![owned_entry("a", 9.0, "x", 9.0)]).await;
    store.write_snapshot(2, &[]).await.unwrap();
    assert_eq!(all_entries(&store).await.len(), 1);
    store.commit_snapshot(2, &[(0, 3)]).await.unwrap();
    assert!(
        all_entries(&store).await.is_empty() && board_lines(&store, BuiltInBoard::Trending).await.is_empty()
    );
    assert_eq!(
        store.checkpoint().await.unwrap(),
        ProjectionCheckpoint { generation: Some(2), offsets: vec![(0, 3)] }
    );
}

pub(super) async fn a_half_life_belongs_to_its_generation(store: Store) {
    let half_life = async || store.noted_half_life().await.unwrap();
    assert_eq!(half_life().await, None);
    store.note_half_life(1, 1_000).await.unwrap();
    assert_eq!(half_life().await, None, "nothing is in force yet");
    store.commit_snapshot(1, &[]).await.unwrap();
    assert_eq!(half_life().await, Some(1_000));
    store.note_half_life(2, 2_000).await.unwrap();
    assert_eq!(half_life().await, Some(1_000), "the next generation is not in force");
    store.commit_snapshot(2, &[]).await.unwrap();
    assert_eq!(half_life().await, Some(2_000));
    store.note_half_life(1, 1).await.unwrap();
    store.note_half_life(2, 2_000).await.unwrap();
    assert_eq!(half_life().await, Some(2_000), "a zombie changes nothing");
    store.commit_snapshot(3, &[]).await.unwrap();
    assert_eq!(half_life().await, None, "an earlier release fills the boards without a word");
}
