//! Measures the duration of rank queries on large boards: `cargo run --release --example measure_ranks -- 1000000`.
//! Uses boards in memory, and on Redis with the environment that `testbed/testbed env` prints. Prints the results to
//! the standard output.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::RankingStore;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::ranking_store::redis::RedisRanking;
use liverank_adapters::ranking_store::{BatchProjection, BoardEntry, BuiltInBoard, PageStart};
use liverank_adapters::redis_link::{RedisConfig, RedisLink};
use liverank_core::{UserId, VideoId};

/// The number of videos in one write while the boards are filled.
const VIDEOS_A_WRITE: u32 = 1000;
/// The number of queries of each kind that are measured.
const QUERY_COUNT_PER_KIND: u32 = 2000;
/// The number of distinct scores: each is shared by thousands of videos, so that ids decide on the order, too.
const DISTINCT_SCORE_COUNT: u32 = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let videos = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    measure_store("embedded", &EmbeddedRanking::new(), videos).await?;
    let (single, cluster) =
        (std::env::var("LIVERANK_TEST_REDIS"), std::env::var("LIVERANK_TEST_REDIS_CLUSTER"));
    for (name, url, is_cluster) in [("Redis", single, false), ("Redis Cluster", cluster, true)] {
        let Ok(url) = url else { continue };
        let prefix = format!("ranks-{:016x}:", rand::random::<u64>());
        let link = RedisLink::new(RedisConfig { url: url.into(), is_cluster, prefix, ca_file: None })?;
        measure_store(name, &RedisRanking::new(Arc::clone(&link)), videos).await?;
    }
    Ok(())
}

fn video_id(at: u32) -> Result<VideoId, Box<dyn Error>> {
    Ok(VideoId::parse(&format!("video-{at:08}"))?)
}

fn entry(at: u32, score: f64) -> Result<BoardEntry, Box<dyn Error>> {
    let owner = UserId::parse(&format!("owner-{}", at % 1000))?;
    Ok(BoardEntry {
        video_id: video_id(at)?,
        owner,
        score,
        trending: Some(score),
        revision: 1,
        removed: false,
    })
}

async fn measure_store(name: &str, store: &dyn RankingStore, videos: u32) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    for first in (0..videos).step_by(VIDEOS_A_WRITE as usize) {
        let chunk = first..videos.min(first + VIDEOS_A_WRITE);
        let entries: Result<Vec<_>, _> =
            chunk.map(|at| entry(at, f64::from(at % DISTINCT_SCORE_COUNT))).collect();
        store.write_snapshot(1, &entries?).await?;
    }
    store.commit_snapshot(1, &[]).await?;
    println!("{name}: {videos} videos on two boards in {:?}", begun.elapsed());
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for question in 0..QUERY_COUNT_PER_KIND {
        let at = question.wrapping_mul(2_654_435_761) % videos;
        let video = video_id(at)?;
        let begun = Instant::now();
        let places = store.ranks_of_video(&video).await?;
        took[0].push(begun.elapsed());
        // Above the video are those with greater scores, and of those with the same score the ones with greater ids.
        let (points, rest) = (at % DISTINCT_SCORE_COUNT, videos % DISTINCT_SCORE_COUNT);
        let with = |points: u32| videos / DISTINCT_SCORE_COUNT + u32::from(points < rest);
        let above: u32 = (points + 1..DISTINCT_SCORE_COUNT).map(with).sum::<u32>() + with(points)
            - at / DISTINCT_SCORE_COUNT
            - 1;
        assert_eq!(places.global.rank, Some(u64::from(above) + 1), "exact");
        let begun = Instant::now();
        let page = store.board_page(BuiltInBoard::Global, &PageStart::Around(video.clone()), 11).await?;
        took[1].push(begun.elapsed());
        assert!(page.is_some_and(|page| page.videos.iter().any(|line| line.video_id == video)));
    }
    for change in 0..QUERY_COUNT_PER_KIND {
        let entries = vec![entry(change, f64::from(DISTINCT_SCORE_COUNT + change))?];
        let begun = Instant::now();
        store
            .project_batch(&BatchProjection {
                generation: 1,
                offset_ranges: vec![],
                entries,
                traces: Vec::new(),
            })
            .await?;
        took[2].push(begun.elapsed());
    }
    for (what, mut took) in ["places", "11 lines around", "a new score"].into_iter().zip(took) {
        took.sort();
        let at = |share: f64| -> Duration { took[((took.len() - 1) as f64 * share) as usize] };
        println!("{name}: {what}: p50 {:?} p99 {:?} max {:?}", at(0.5), at(0.99), at(1.0));
    }
    Ok(())
}
