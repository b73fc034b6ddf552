//! Checks of metadata beside the boards: the latest of each video is kept, and subscribers are told.

use liverank_adapters::ranking_store::{BoardChange, DescribedVideo};
use liverank_core::{Metadata, VideoId};

use super::{
    Store, UNUSUAL_IDS, begin_generation, entry, next, next_change, project_entries, subscribe_to_changes,
    video,
};

fn described_video(id: &str, revision: u64, title: Option<&str>) -> DescribedVideo {
    let metadata = title.map(|title| Metadata::parse(&format!(r#"{{"title":"{title}"}}"#)).unwrap());
    DescribedVideo { video_id: video(id), revision, metadata }
}

async fn read_titles(store: &Store, ids: &[&str]) -> Vec<Option<String>> {
    let ids: Vec<VideoId> = ids.iter().map(|id| video(id)).collect();
    let found = store.metadata(&ids).await.unwrap();
    found
        .iter()
        .map(|metadata| Some(metadata.as_ref()?.to_value()["title"].as_str().unwrap().to_owned()))
        .collect()
}

fn expected_titles(titles: &[&str]) -> Vec<Option<String>> {
    titles.iter().map(|title| Some((*title).to_owned())).collect()
}

/// Returns the videos of a change that brings metadata and no scores.
async fn next_metadata_change(changes: &mut tokio::sync::mpsc::Receiver<BoardChange>) -> Vec<VideoId> {
    match next(changes).await {
        BoardChange::Changed { entries, described, .. } => {
            assert_eq!(entries, []);
            described
        }
        BoardChange::Reset => panic!("nothing was lost"),
    }
}

pub(super) async fn the_latest_metadata_win(store: Store) {
    let store = begin_generation(store).await;
    assert_eq!(read_titles(&store, &["a", "b"]).await, [None, None]);
    let mut changes = subscribe_to_changes(&store).await;
    store
        .put_metadata(1, &[described_video("a", 3, Some("first")), described_video("b", 1, None)])
        .await
        .unwrap();
    assert_eq!(next_metadata_change(&mut changes).await, [video("a")]);
    assert_eq!(read_titles(&store, &["b", "a"]).await, [None, Some("first".into())]);
    // Repeats and earlier revisions change nothing, and subscribers are not told.
    store.put_metadata(1, &[described_video("a", 3, Some("first"))]).await.unwrap();
    store.put_metadata(1, &[described_video("a", 2, Some("before"))]).await.unwrap();
    store.put_metadata(1, &[described_video("a", 10, Some("tenth"))]).await.unwrap();
    assert_eq!(next_metadata_change(&mut changes).await, [video("a")]);
    assert_eq!(read_titles(&store, &["a"]).await, expected_titles(&["tenth"]));
    // A later generation counts revisions anew, and metadata of an earlier one come too late.
    store.put_metadata(2, &[described_video("a", 1, Some("anew"))]).await.unwrap();
    store.put_metadata(1, &[described_video("a", 99, Some("late"))]).await.unwrap();
    assert_eq!(read_titles(&store, &["a"]).await, expected_titles(&["anew"]));
    store.put_metadata(2, &[described_video("a", 2, None)]).await.unwrap();
    assert_eq!(read_titles(&store, &["a"]).await, [None]);
    assert_eq!(
        (next_metadata_change(&mut changes).await, next_metadata_change(&mut changes).await),
        (vec![video("a")], vec![video("a")])
    );
    // Versions have no gap: a score that follows is the next change.
    project_entries(&store, 0, 1, vec![entry("a", 1.0)]).await;
    let before = next_change(&mut changes).await.0;
    store.put_metadata(2, &[described_video("a", 3, Some("again"))]).await.unwrap();
    assert_eq!(next_change(&mut changes).await.0, before + 1);
}

pub(super) async fn many_metadata_and_unusual_ids_arrive_whole(store: Store) {
    let store = begin_generation(store).await;
    let long = "x".repeat(290);
    let ids: Vec<String> =
        (0..600).map(|at| format!("v{at}")).chain(UNUSUAL_IDS.map(str::to_owned)).collect();
    let all = ids.iter().enumerate().map(|(at, id)| described_video(id, 1, Some(&format!("{at}{long}"))));
    let all: Vec<DescribedVideo> = all.collect();
    store.put_metadata(1, &all).await.unwrap();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let expected: Vec<Option<String>> = (0..ids.len()).map(|at| Some(format!("{at}{long}"))).collect();
    assert_eq!(read_titles(&store, &names).await, expected);
    assert_eq!(read_titles(&store, &[]).await, []);
}

pub(super) async fn complete_metadata_are_noted(store: Store) {
    assert!(!store.is_metadata_complete().await.unwrap());
    store.put_metadata(1, &[described_video("a", 1, Some("early"))]).await.unwrap();
    assert!(!store.is_metadata_complete().await.unwrap(), "some is not all");
    store.note_metadata_complete().await.unwrap();
    assert!(store.is_metadata_complete().await.unwrap());
    // Metadata that were written before the boards had entries are kept, and the boards are still empty.
    assert_eq!(read_titles(&store, &["a"]).await, expected_titles(&["early"]));
    assert_eq!(store.checkpoint().await.unwrap().generation, None);
    assert_eq!(store.boards_snapshot().await.unwrap().version, 0);
}
