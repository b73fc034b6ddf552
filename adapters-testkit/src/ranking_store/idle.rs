//! Checks that idle videos leave the boards, and come back with an event.

use super::{
    Store, all_entries, begin_generation, board_lines, next_change, owned_entry, project_entries,
    subscribe_to_changes,
};
use liverank_adapters::ranking_store::{BoardEntry, BuiltInBoard, RETIRED_PER_CALL};

fn with_revision(revision: u64, entry: BoardEntry) -> BoardEntry {
    BoardEntry { revision, ..entry }
}

pub async fn idle_videos_leave_until_an_event_brings_them_back(store: Store) {
    let store = begin_generation(store).await;
    let quiet = with_revision(5, owned_entry("quiet", 50.0, "its-owner", 10.0));
    let (busy, unweighted) = (
        with_revision(1, owned_entry("busy", 1.0, "o", 30.0)),
        BoardEntry { trending: None, ..owned_entry("no-age", 0.0, "o", 0.0) },
    );
    project_entries(&store, 0, 1, vec![quiet.clone(), busy.clone(), unweighted.clone()]).await;
    let mut changes = subscribe_to_changes(&store).await;
    assert_eq!(store.idle_threshold().await.unwrap(), None);
    assert_eq!(store.retire_idle(1, 10.0).await.unwrap(), 0, "a video at the line is not below it");
    assert_eq!(store.retire_idle(1, 20.0).await.unwrap(), 1);
    assert_eq!(store.idle_threshold().await.unwrap(), Some(20.0));
    let off = BoardEntry { score: 0.0, trending: None, removed: true, ..quiet.clone() };
    assert_eq!(next_change(&mut changes).await.1, [off], "subscribers are told");
    assert_eq!(all_entries(&store).await, [busy.clone(), unweighted.clone()]);
    assert_eq!(board_lines(&store, BuiltInBoard::Trending).await.len(), 1);
    assert_eq!(board_lines(&store, BuiltInBoard::Global).await.len(), 2);
    // A repair finds the video in the archive; so does a batch in which a like was taken back from it.
    store
        .write_snapshot(1, &[quiet.clone(), with_revision(2, owned_entry("busy", 2.0, "o", 31.0))])
        .await
        .unwrap();
    project_entries(&store, 1, 2, vec![with_revision(6, owned_entry("quiet", 40.0, "its-owner", 9.0))]).await;
    assert_eq!(
        all_entries(&store).await,
        [with_revision(2, owned_entry("busy", 2.0, "o", 31.0)), unweighted.clone()]
    );
    // An event brings the video back, with all its points.
    let back = with_revision(7, owned_entry("quiet", 51.0, "its-owner", 40.0));
    project_entries(&store, 2, 3, vec![back.clone()]).await;
    assert_eq!(
        all_entries(&store).await,
        [with_revision(2, owned_entry("busy", 2.0, "o", 31.0)), unweighted, back]
    );
}

pub async fn idle_thresholds_are_per_generation(store: Store) {
    let store = begin_generation(store).await;
    project_entries(&store, 0, 1, vec![owned_entry("a", 1.0, "o", 10.0), owned_entry("b", 1.0, "o", 12.0)])
        .await;
    assert_eq!(store.retire_idle(2, 20.0).await.unwrap(), 0, "of another generation");
    assert_eq!(store.retire_idle(1, 11.0).await.unwrap(), 1);
    // Another half-life has other decayed scores.
    store.write_snapshot(2, &[owned_entry("a", 1.0, "o", 5.0)]).await.unwrap();
    store.commit_snapshot(2, &[(0, 1)]).await.unwrap();
    assert_eq!(store.idle_threshold().await.unwrap(), None);
    assert_eq!(all_entries(&store).await, [owned_entry("a", 1.0, "o", 5.0)]);
    // A clock was ahead, and is right again.
    assert_eq!(store.retire_idle(2, 9.0).await.unwrap(), 1);
    assert_eq!(store.retire_idle(2, 4.0).await.unwrap(), 0);
    store.write_snapshot(2, &[owned_entry("a", 1.0, "o", 5.0)]).await.unwrap();
    assert_eq!(all_entries(&store).await, [owned_entry("a", 1.0, "o", 5.0)]);
}

pub async fn many_idle_videos_leave_in_several_calls(store: Store) {
    let store = begin_generation(store).await;
    let many = RETIRED_PER_CALL + 3;
    let name = |at: usize| format!("v{at}");
    let entries = (0..=many).map(|at| owned_entry(&name(at), 1.0, "o", at as f64)).collect();
    project_entries(&store, 0, 1, entries).await;
    assert_eq!(store.retire_idle(1, many as f64).await.unwrap(), RETIRED_PER_CALL as u64);
    assert_eq!(store.retire_idle(1, many as f64).await.unwrap(), 3);
    assert_eq!(store.retire_idle(1, many as f64).await.unwrap(), 0);
    assert_eq!(all_entries(&store).await, [owned_entry(&name(many), 1.0, "o", many as f64)]);
}
