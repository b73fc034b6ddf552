//! Ranks, and pages around a video.

use liverank_core::ranking::{Ranked, begin_around};

use super::{ODD, Store, apply, begun, best, entry, model, owned, video};
use liverank_adapters::ranking_store::{Board, BoardEntry, BoardPage, PageStart, Place, Places};

async fn around(store: &Store, board: Board, id: &str, limit: usize) -> Option<BoardPage> {
    store.page(board, &PageStart::Around(video(id)), limit).await.unwrap()
}

/// Ties, odd identifiers, and a board that fewer videos are on.
pub async fn every_place_is_that_in_the_list(store: Store) {
    let store = begun(store).await;
    let ids: Vec<String> = (0..40).map(|at| format!("{}{at}", ODD[at % ODD.len()])).collect();
    let entries: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(at, id)| BoardEntry {
            trending: (at % 3 > 0).then(|| f64::from(at as u32 % 5)),
            ..entry(id, f64::from(at as u32 % 4) - 1.0)
        })
        .collect();
    apply(&store, 0, 1, entries.clone()).await;
    for board in [Board::Global, Board::Trending] {
        let list = best(&store, board, 100).await;
        for (position, line) in list.iter().enumerate() {
            let places = store.places(&line.video_id).await.unwrap();
            let place = if board == Board::Global { places.global } else { places.trending };
            let expected = Place { rank: Some(position as u64 + 1), total: list.len() as u64 };
            assert_eq!(place, expected, "{line:?}");
            for limit in [1, 2, 5, 39, 40, 100] {
                let page = around(&store, board, line.video_id.as_str(), limit).await.unwrap();
                let first = begin_around(position, list.len(), limit);
                let lines = list.iter().skip(first).take(limit).cloned().collect();
                let (first_rank, total) = (first as u64 + 1, list.len() as u64);
                assert_eq!(page, BoardPage { lines, first_rank, total }, "{limit} around {line:?}");
            }
            let page = store.page(board, &PageStart::after(line), 3).await.unwrap().unwrap();
            assert_eq!((page.first_rank, page.total), (position as u64 + 2, list.len() as u64));
        }
    }
}

/// Nor has what is on one of the boards only a place on the other.
pub async fn what_is_on_no_board_has_no_place(store: Store) {
    assert_eq!(store.places(&video("v")).await.unwrap(), Places::default());
    assert_eq!(around(&store, Board::Global, "v", 5).await, None);
    let empty = BoardPage { lines: vec![], first_rank: 1, total: 0 };
    assert_eq!(store.page(Board::Global, &PageStart::Best, 5).await.unwrap(), Some(empty));
    let store = begun(store).await;
    apply(&store, 0, 1, vec![entry("v", 1.0), owned("w", 2.0, "o", 3.0)]).await;
    let v = store.places(&video("v")).await.unwrap();
    assert_eq!(v.global, Place { rank: Some(2), total: 2 });
    assert_eq!(v.trending, Place { rank: None, total: 1 });
    assert_eq!(around(&store, Board::Trending, "v", 5).await, None);
    assert_eq!(store.places(&video("other")).await.unwrap().global, Place { rank: None, total: 2 });
}

pub async fn places_follow_a_moving_board(store: Store) {
    let store = begun(store).await;
    let entries: Vec<_> = (0..3000_u32).map(|at| entry(&format!("v{at}"), f64::from(at % 50))).collect();
    apply(&store, 0, 1, entries.clone()).await;
    let mut ranking = model(&entries);
    for round in 1..20_u32 {
        let moved: Vec<_> = (0..50)
            .map(|at| {
                entry(&format!("v{}", (at * 61 + round * 7) % 3000), f64::from(50 + round * 10 + at % 3))
            })
            .collect();
        apply(&store, u64::from(round), u64::from(round) + 1, moved.clone()).await;
        for line in &moved {
            ranking.set(&Ranked {
                video_id: line.video_id.clone(),
                score: line.score,
                user_id: line.owner.clone(),
            });
        }
        for probe in [0, 1, 61, 1500, 2999] {
            let id = format!("v{probe}");
            let position = ranking.position(&video(&id)).unwrap();
            let places = store.places(&video(&id)).await.unwrap();
            assert_eq!(places.global, Place { rank: Some(position as u64 + 1), total: 3000 });
            let first = begin_around(position, 3000, 1201);
            let page = around(&store, Board::Global, &id, 1201).await.unwrap();
            assert_eq!(page.first_rank, first as u64 + 1);
            assert_eq!(page.lines, ranking.stretch(first, 1201), "more than one step");
        }
    }
}
