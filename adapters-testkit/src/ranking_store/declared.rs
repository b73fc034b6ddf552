//! Checks of declared boards: each is separate from the others, and is removed when nobody wants it.

use std::time::Duration;

use liverank_adapters::ranking_store::{
    BoardChange, BoardEntry, BuiltInBoard, ProjectionCheckpoint, ProjectionOutcome,
};

use super::{
    Store, all_entries, batch_projection, begin_generation, board_lines, entry, next, next_change,
    owned_entry, project_entries, subscribe_to_changes, video,
};

const CATS_KEY: &str = "cats:0123456789abcdef";
const DOGS_KEY: &str = "dogs:0123456789abcdef";
const LONG_TIME: Duration = Duration::from_hours(1);

async fn ids_on_board(store: &Store) -> Vec<String> {
    all_entries(store).await.into_iter().map(|entry| entry.video_id.to_string()).collect()
}

pub(super) async fn declared_boards_are_independent(store: Store) {
    let store = begin_generation(store).await;
    let (cats, dogs) = (store.declared_board(CATS_KEY), store.declared_board(DOGS_KEY));
    assert_eq!(cats.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    let (mut of_all, mut of_cats) = (subscribe_to_changes(&store).await, subscribe_to_changes(&cats).await);
    project_entries(&store, 0, 1, vec![owned_entry("a", 1.0, "x", 5.0), owned_entry("b", 2.0, "x", 4.0)])
        .await;
    assert_eq!(next_change(&mut of_all).await.1.len(), 2);
    let first = batch_projection(1, 0, 1, vec![entry("a", 7.0)]);
    assert_eq!(cats.project_batch(&first).await.unwrap(), ProjectionOutcome::Behind, "it is filled first");

    // One board is filled while it serves, the other in a later generation: other boards show nothing of either.
    cats.write_snapshot(1, &[entry("a", 7.0)]).await.unwrap();
    cats.commit_snapshot(1, &[(0, 1)]).await.unwrap();
    assert_eq!(next(&mut of_cats).await, BoardChange::Reset);
    dogs.write_snapshot(3, &[owned_entry("b", 1.0, "y", 2.0), owned_entry("c", 9.0, "y", 1.0)])
        .await
        .unwrap();
    dogs.commit_snapshot(3, &[(0, 5)]).await.unwrap();
    dogs.note_half_life(3, 77).await.unwrap();
    project_entries(&cats, 1, 2, vec![entry("d", 8.0), BoardEntry { removed: true, ..entry("a", 9.0) }])
        .await;
    assert_eq!(
        (ids_on_board(&store).await, ids_on_board(&cats).await, ids_on_board(&dogs).await),
        (vec!["a".into(), "b".into()], vec!["d".into()], vec!["b".into(), "c".into()])
    );
    let generation = async |store: &Store| store.checkpoint().await.unwrap().generation;
    assert_eq!(
        (generation(&store).await, generation(&cats).await, generation(&dogs).await),
        (Some(1), Some(1), Some(3))
    );
    assert_eq!(
        (store.noted_half_life().await.unwrap(), dogs.noted_half_life().await.unwrap()),
        (None, Some(77))
    );
    assert_eq!(dogs.ranks_of_video(&video("b")).await.unwrap().global.rank, Some(2));
    assert_eq!(dogs.ranks_of_video(&video("b")).await.unwrap().trending.rank, Some(1));
    assert_eq!(board_lines(&cats, BuiltInBoard::Global).await, [("d".to_owned(), 8.0, "o".to_owned())]);

    // Subscribers of one board receive no changes of the others: the next change on the main board is its own.
    project_entries(&store, 1, 2, vec![entry("z", 3.0)]).await;
    assert_eq!(next_change(&mut of_all).await.1, [entry("z", 3.0)]);
    // The same key gives the same board, as in another process.
    assert_eq!(ids_on_board(&store.declared_board(CATS_KEY)).await, ["d"]);
}

pub(super) async fn unwanted_boards_are_removed(store: Store) {
    let store = begin_generation(store).await;
    project_entries(&store, 0, 1, vec![entry("a", 1.0)]).await;
    assert!(store.retain_declared_boards(&[], Duration::ZERO).await.unwrap().is_empty(), "there is none");
    for key in [CATS_KEY, DOGS_KEY] {
        let board = store.declared_board(key);
        board.write_snapshot(1, &[entry("a", 1.0)]).await.unwrap();
        board.commit_snapshot(1, &[(0, 1)]).await.unwrap();
        board.note_half_life(1, 5).await.unwrap();
        // A later generation that nobody has completed.
        board.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
    }
    let (cats, both) = (vec![CATS_KEY.to_owned()], vec![CATS_KEY.to_owned(), DOGS_KEY.to_owned()]);
    assert!(store.retain_declared_boards(&both, LONG_TIME).await.unwrap().is_empty());
    assert!(
        store.retain_declared_boards(&cats, LONG_TIME).await.unwrap().is_empty(),
        "it was wanted just now"
    );
    assert_eq!(store.wanted_boards(LONG_TIME).await.unwrap(), both, "whoever wanted them");
    assert_eq!(ids_on_board(&store.declared_board(DOGS_KEY)).await, ["a"]);
    assert_eq!(store.retain_declared_boards(&cats, Duration::ZERO).await.unwrap(), [DOGS_KEY]);
    assert!(store.retain_declared_boards(&cats, Duration::ZERO).await.unwrap().is_empty(), "once");
    let dogs = store.declared_board(DOGS_KEY);
    assert_eq!(dogs.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    assert!(ids_on_board(&dogs).await.is_empty() && dogs.noted_half_life().await.unwrap().is_none());
    assert_eq!(
        (ids_on_board(&store).await, ids_on_board(&store.declared_board(CATS_KEY)).await),
        (vec!["a".into()], vec!["a".into()])
    );
    // Wanted again, the board can be filled again.
    dogs.write_snapshot(1, &[entry("b", 1.0)]).await.unwrap();
    dogs.commit_snapshot(1, &[(0, 1)]).await.unwrap();
    assert_eq!(ids_on_board(&dogs).await, ["b"]);
}
