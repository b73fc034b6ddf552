//! Checks of metadata beside the boards: the latest of each video is kept, and subscribers are told.

use liverank_adapters::ranking_store::{BoardChange, Described};
use liverank_core::{Metadata, VideoId};

use super::{ODD, Store, apply, begun, changed, entry, next, subscribed, video};

fn described(id: &str, revision: u64, title: Option<&str>) -> Described {
    let metadata = title.map(|title| Metadata::parse(&format!(r#"{{"title":"{title}"}}"#)).unwrap());
    Described { video_id: video(id), revision, metadata }
}

async fn titles(store: &Store, ids: &[&str]) -> Vec<Option<String>> {
    let ids: Vec<VideoId> = ids.iter().map(|id| video(id)).collect();
    let found = store.metadata(&ids).await.unwrap();
    found
        .iter()
        .map(|metadata| Some(metadata.as_ref()?.to_value()["title"].as_str().unwrap().to_owned()))
        .collect()
}

fn some(titles: &[&str]) -> Vec<Option<String>> {
    titles.iter().map(|title| Some((*title).to_owned())).collect()
}

/// Returns the videos of a change that brings metadata and no scores.
async fn heard(changes: &mut tokio::sync::mpsc::Receiver<BoardChange>) -> Vec<VideoId> {
    match next(changes).await {
        BoardChange::Changed { entries, described, .. } => {
            assert_eq!(entries, []);
            described
        }
        BoardChange::Reset => panic!("nothing was lost"),
    }
}

pub(super) async fn the_latest_metadata_stand_and_are_told(store: Store) {
    let store = begun(store).await;
    assert_eq!(titles(&store, &["a", "b"]).await, [None, None]);
    let mut changes = subscribed(&store).await;
    store.describe(1, &[described("a", 3, Some("first")), described("b", 1, None)]).await.unwrap();
    assert_eq!(heard(&mut changes).await, [video("a")]);
    assert_eq!(titles(&store, &["b", "a"]).await, [None, Some("first".into())]);
    // Repeats and earlier revisions change nothing, and subscribers are not told.
    store.describe(1, &[described("a", 3, Some("first"))]).await.unwrap();
    store.describe(1, &[described("a", 2, Some("before"))]).await.unwrap();
    store.describe(1, &[described("a", 10, Some("tenth"))]).await.unwrap();
    assert_eq!(heard(&mut changes).await, [video("a")]);
    assert_eq!(titles(&store, &["a"]).await, some(&["tenth"]));
    // A later generation counts revisions anew, and metadata of an earlier one come too late.
    store.describe(2, &[described("a", 1, Some("anew"))]).await.unwrap();
    store.describe(1, &[described("a", 99, Some("late"))]).await.unwrap();
    assert_eq!(titles(&store, &["a"]).await, some(&["anew"]));
    store.describe(2, &[described("a", 2, None)]).await.unwrap();
    assert_eq!(titles(&store, &["a"]).await, [None]);
    assert_eq!((heard(&mut changes).await, heard(&mut changes).await), (vec![video("a")], vec![video("a")]));
    // Versions have no gap: a score that follows is the next change.
    apply(&store, 0, 1, vec![entry("a", 1.0)]).await;
    let before = changed(&mut changes).await.0;
    store.describe(2, &[described("a", 3, Some("again"))]).await.unwrap();
    assert_eq!(changed(&mut changes).await.0, before + 1);
}

pub(super) async fn many_metadata_and_odd_ids_arrive_whole(store: Store) {
    let store = begun(store).await;
    let long = "x".repeat(290);
    let ids: Vec<String> = (0..600).map(|at| format!("v{at}")).chain(ODD.map(str::to_owned)).collect();
    let all = ids.iter().enumerate().map(|(at, id)| described(id, 1, Some(&format!("{at}{long}"))));
    let all: Vec<Described> = all.collect();
    store.describe(1, &all).await.unwrap();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let expected: Vec<Option<String>> = (0..ids.len()).map(|at| Some(format!("{at}{long}"))).collect();
    assert_eq!(titles(&store, &names).await, expected);
    assert_eq!(titles(&store, &[]).await, []);
}

pub(super) async fn that_all_are_described_is_noted(store: Store) {
    assert!(!store.is_described().await.unwrap());
    store.describe(1, &[described("a", 1, Some("early"))]).await.unwrap();
    assert!(!store.is_described().await.unwrap(), "some is not all");
    store.note_described().await.unwrap();
    assert!(store.is_described().await.unwrap());
    // Metadata that were written before the boards had entries are kept, and the boards are still empty.
    assert_eq!(titles(&store, &["a"]).await, some(&["early"]));
    assert_eq!(store.checkpoint().await.unwrap().generation, None);
    assert_eq!(store.boards_snapshot().await.unwrap().version, 0);
}
