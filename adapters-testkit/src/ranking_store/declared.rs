//! Checks of declared boards: each is separate from the others, and is removed when nobody wants it.

use std::time::Duration;

use liverank_adapters::ranking_store::{
    BoardChange, BoardEntry, BuiltInBoard, ProjectionCheckpoint, ProjectionOutcome,
};

use super::{Store, all, apply, batch, begun, changed, entry, lines, next, owned, subscribed, video};

const CATS: &str = "cats:0123456789abcdef";
const DOGS: &str = "dogs:0123456789abcdef";
const LONG: Duration = Duration::from_hours(1);

async fn ids(store: &Store) -> Vec<String> {
    all(store).await.into_iter().map(|entry| entry.video_id.to_string()).collect()
}

pub(super) async fn declared_boards_stand_by_themselves(store: Store) {
    let store = begun(store).await;
    let (cats, dogs) = (store.declared_board(CATS), store.declared_board(DOGS));
    assert_eq!(cats.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    let (mut of_all, mut of_cats) = (subscribed(&store).await, subscribed(&cats).await);
    apply(&store, 0, 1, vec![owned("a", 1.0, "x", 5.0), owned("b", 2.0, "x", 4.0)]).await;
    assert_eq!(changed(&mut of_all).await.1.len(), 2);
    let first = batch(1, 0, 1, vec![entry("a", 7.0)]);
    assert_eq!(cats.project_batch(&first).await.unwrap(), ProjectionOutcome::Behind, "it is filled first");

    // One board is filled while it serves, the other in a later generation: other boards show nothing of either.
    cats.write_snapshot(1, &[entry("a", 7.0)]).await.unwrap();
    cats.commit_snapshot(1, &[(0, 1)]).await.unwrap();
    assert_eq!(next(&mut of_cats).await, BoardChange::Reset);
    dogs.write_snapshot(3, &[owned("b", 1.0, "y", 2.0), owned("c", 9.0, "y", 1.0)]).await.unwrap();
    dogs.commit_snapshot(3, &[(0, 5)]).await.unwrap();
    dogs.note_half_life(3, 77).await.unwrap();
    apply(&cats, 1, 2, vec![entry("d", 8.0), BoardEntry { removed: true, ..entry("a", 9.0) }]).await;
    assert_eq!(
        (ids(&store).await, ids(&cats).await, ids(&dogs).await),
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
    assert_eq!(dogs.places_of_video(&video("b")).await.unwrap().global.rank, Some(2));
    assert_eq!(dogs.places_of_video(&video("b")).await.unwrap().trending.rank, Some(1));
    assert_eq!(lines(&cats, BuiltInBoard::Global).await, [("d".to_owned(), 8.0, "o".to_owned())]);

    // Subscribers of one board receive no changes of the others: the next change on the main board is its own.
    apply(&store, 1, 2, vec![entry("z", 3.0)]).await;
    assert_eq!(changed(&mut of_all).await.1, [entry("z", 3.0)]);
    // The same key gives the same board, as in another process.
    assert_eq!(ids(&store.declared_board(CATS)).await, ["d"]);
}

pub(super) async fn what_nobody_wants_is_removed(store: Store) {
    let store = begun(store).await;
    apply(&store, 0, 1, vec![entry("a", 1.0)]).await;
    assert!(store.keep_declared_boards(&[], Duration::ZERO).await.unwrap().is_empty(), "there is none");
    for key in [CATS, DOGS] {
        let board = store.declared_board(key);
        board.write_snapshot(1, &[entry("a", 1.0)]).await.unwrap();
        board.commit_snapshot(1, &[(0, 1)]).await.unwrap();
        board.note_half_life(1, 5).await.unwrap();
        // A later generation that nobody has completed.
        board.write_snapshot(2, &[entry("a", 1.0)]).await.unwrap();
    }
    let (cats, both) = (vec![CATS.to_owned()], vec![CATS.to_owned(), DOGS.to_owned()]);
    assert!(store.keep_declared_boards(&both, LONG).await.unwrap().is_empty());
    assert!(store.keep_declared_boards(&cats, LONG).await.unwrap().is_empty(), "it was wanted just now");
    assert_eq!(ids(&store.declared_board(DOGS)).await, ["a"]);
    assert_eq!(store.keep_declared_boards(&cats, Duration::ZERO).await.unwrap(), [DOGS]);
    assert!(store.keep_declared_boards(&cats, Duration::ZERO).await.unwrap().is_empty(), "once");
    let dogs = store.declared_board(DOGS);
    assert_eq!(dogs.checkpoint().await.unwrap(), ProjectionCheckpoint::default());
    assert!(ids(&dogs).await.is_empty() && dogs.noted_half_life().await.unwrap().is_none());
    assert_eq!(
        (ids(&store).await, ids(&store.declared_board(CATS)).await),
        (vec!["a".into()], vec!["a".into()])
    );
    // Wanted again, the board can be filled again.
    dogs.write_snapshot(1, &[entry("b", 1.0)]).await.unwrap();
    dogs.commit_snapshot(1, &[(0, 1)]).await.unwrap();
    assert_eq!(ids(&dogs).await, ["b"]);
}
