//! Checks of ranks, and of pages around a video.

use liverank_core::ranking::{RankedVideo, first_index_around};

use super::{
    Store, UNUSUAL_IDS, begin_generation, best_videos, entry, expected_ranking, owned_entry, project_entries,
    video,
};
use liverank_adapters::ranking_store::{
    BoardEntry, BoardPage, BoardPlace, BuiltInBoard, BuiltInBoardPlaces, PageStart,
};

async fn lines_around(store: &Store, board: BuiltInBoard, id: &str, limit: usize) -> Option<BoardPage> {
    store.board_page(board, &PageStart::Around(video(id)), limit).await.unwrap()
}

/// Checks that each video's ranks are its positions in the lists, with ties, odd identifiers, and a board that has
/// fewer videos than the other.
pub async fn ranks_match_the_list(store: Store) {
    let store = begin_generation(store).await;
    let ids: Vec<String> = (0..40).map(|at| format!("{}{at}", UNUSUAL_IDS[at % UNUSUAL_IDS.len()])).collect();
    let entries: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(at, id)| BoardEntry {
            trending: (at % 3 > 0).then(|| f64::from(at as u32 % 5)),
            ..entry(id, f64::from(at as u32 % 4) - 1.0)
        })
        .collect();
    project_entries(&store, 0, 1, entries.clone()).await;
    for board in [BuiltInBoard::Global, BuiltInBoard::Trending] {
        let list = best_videos(&store, board, 100).await;
        for (position, line) in list.iter().enumerate() {
            let places = store.ranks_of_video(&line.video_id).await.unwrap();
            let place = if board == BuiltInBoard::Global { places.global } else { places.trending };
            let expected = BoardPlace { rank: Some(position as u64 + 1), total: list.len() as u64 };
            assert_eq!(place, expected, "{line:?}");
            for limit in [1, 2, 5, 39, 40, 100] {
                let page = lines_around(&store, board, line.video_id.as_str(), limit).await.unwrap();
                let first = first_index_around(position, list.len(), limit);
                let videos = list.iter().skip(first).take(limit).cloned().collect();
                let (first_rank, total) = (first as u64 + 1, list.len() as u64);
                assert_eq!(page, BoardPage { videos, first_rank, total }, "{limit} around {line:?}");
            }
            let page = store.board_page(board, &PageStart::after(line), 3).await.unwrap().unwrap();
            assert_eq!((page.first_rank, page.total), (position as u64 + 2, list.len() as u64));
        }
    }
}

/// Checks that a video on no board has no rank, and that a video on one board only has no rank on the other.
pub async fn a_video_on_no_board_has_no_rank(store: Store) {
    assert_eq!(store.ranks_of_video(&video("v")).await.unwrap(), BuiltInBoardPlaces::default());
    assert_eq!(lines_around(&store, BuiltInBoard::Global, "v", 5).await, None);
    let empty = BoardPage { videos: vec![], first_rank: 1, total: 0 };
    assert_eq!(store.board_page(BuiltInBoard::Global, &PageStart::Best, 5).await.unwrap(), Some(empty));
    let store = begin_generation(store).await;
    project_entries(&store, 0, 1, vec![entry("v", 1.0), owned_entry("w", 2.0, "o", 3.0)]).await;
    let v = store.ranks_of_video(&video("v")).await.unwrap();
    assert_eq!(v.global, BoardPlace { rank: Some(2), total: 2 });
    assert_eq!(v.trending, BoardPlace { rank: None, total: 1 });
    assert_eq!(lines_around(&store, BuiltInBoard::Trending, "v", 5).await, None);
    assert_eq!(
        store.ranks_of_video(&video("other")).await.unwrap().global,
        BoardPlace { rank: None, total: 2 }
    );
}

pub async fn ranks_follow_a_changing_board(store: Store) {
    let store = begin_generation(store).await;
    let entries: Vec<_> = (0..3000_u32).map(|at| entry(&format!("v{at}"), f64::from(at % 50))).collect();
    project_entries(&store, 0, 1, entries.clone()).await;
    let mut ranking = expected_ranking(&entries);
    for round in 1..20_u32 {
        let moved: Vec<_> = (0..50)
            .map(|at| {
                entry(&format!("v{}", (at * 61 + round * 7) % 3000), f64::from(50 + round * 10 + at % 3))
            })
            .collect();
        project_entries(&store, u64::from(round), u64::from(round) + 1, moved.clone()).await;
        for line in &moved {
            ranking.set_score(&RankedVideo {
                video_id: line.video_id.clone(),
                score: line.score,
                user_id: line.owner.clone(),
            });
        }
        for probe in [0, 1, 61, 1500, 2999] {
            let id = format!("v{probe}");
            let position = ranking.position_of(&video(&id)).unwrap();
            let places = store.ranks_of_video(&video(&id)).await.unwrap();
            assert_eq!(places.global, BoardPlace { rank: Some(position as u64 + 1), total: 3000 });
            let first = first_index_around(position, 3000, 1201);
            let page = lines_around(&store, BuiltInBoard::Global, &id, 1201).await.unwrap();
            assert_eq!(page.first_rank, first as u64 + 1);
            assert_eq!(page.videos, ranking.page(first, 1201), "more than one step");
        }
    }
}
