//! Counts the commands that Redis runs to find a rank, on boards of different sizes.

use std::collections::BTreeMap;

use futures::StreamExt;
use liverank_adapters::ranking_store::redis::RedisRanking;
use liverank_adapters::ranking_store::{BoardCursor, BoardEntry, BuiltInBoard, PageStart, RankingStore};
use liverank_adapters::redis_link::{RedisConfig, RedisLink};
use redis::aio::Monitor;

use super::{RedisAdmin, TEST_TIMEOUT, connected, entry, redis_url, video};

/// The sizes of the compared boards: the greater one is 64 times, or six halvings, as large.
const SIZES: [usize; 2] = [1_000, 64_000];
const HALVINGS: usize = 6;
const VIDEOS_A_WRITE: usize = 1_000;
/// Commands of a script that cost at most `O(log n)`, and `O(log n + m)` where they return `m` lines.
const CHEAP_COMMANDS: [&str; 8] =
    ["zcard", "zscore", "zrevrank", "zcount", "zrevrange", "hmget", "hget", "get"];
const LINES: usize = 11;

fn id_of(at: usize) -> String {
    format!("video-{at:08}")
}

/// Returns how many times scripts ran each command on keys with this prefix until the marker is seen. Every `ZREVRANGE`
/// must be of few lines.
async fn commands_until(monitor: &mut Monitor, prefix: &str, marker: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut lines = monitor.on_message::<String>();
    loop {
        let line =
            tokio::time::timeout(TEST_TIMEOUT, lines.next()).await.expect("a line in time").expect("a line");
        if line.contains(marker) {
            return counts;
        }
        if !line.contains(" lua]") || !line.contains(prefix) {
            continue;
        }
        let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let name = words[0].to_lowercase();
        if name == "zrevrange" {
            let bound = |at: usize| -> usize { words[at].parse().unwrap() };
            assert!(bound(3) - bound(2) < LINES, "{line}");
        }
        *counts.entry(name).or_default() += 1;
    }
}

/// Returns the commands that each question takes on a board with this number of videos, all of which have the same score: then
/// ids alone decide, and a place between them has to be searched.
async fn commands_by_question(size: usize) -> [BTreeMap<String, usize>; 3] {
    let (prefix, marker) = (format!("ranks{size}-{:08x}:", rand::random::<u32>()), format!("end-of-{size}"));
    // A database that no test empties.
    let url = format!("{}/0", redis_url().trim_end_matches('/'));
    let link = RedisLink::new(RedisConfig {
        url: url.into(),
        is_cluster: false,
        prefix: prefix.clone(),
        ca_file: None,
    })
    .unwrap();
    let store = RedisRanking::new(connected(link).await);
    for first in (0..size).step_by(VIDEOS_A_WRITE) {
        let entries: Vec<BoardEntry> =
            (first..first + VIDEOS_A_WRITE).map(|at| entry(&id_of(at), 5.0)).collect();
        store.write_snapshot(1, &entries).await.unwrap();
    }
    store.commit_snapshot(1, &[]).await.unwrap();
    let mut monitor = redis::Client::open(redis_url()).unwrap().get_async_monitor().await.unwrap();
    let mut admin = RedisAdmin::new(0).await;
    let asked = size / 3;
    let rank = store.ranks_of_video(&video(&id_of(asked))).await.unwrap().global.rank;
    assert_eq!(rank, Some((size - asked) as u64), "the greatest id comes first");
    admin.run_command::<String>(&["ECHO", &marker]).await;
    let places = commands_until(&mut monitor, &prefix, &marker).await;
    let around = PageStart::Around(video(&id_of(asked)));
    let page = store.board_page(BuiltInBoard::Global, &around, LINES).await.unwrap().unwrap();
    assert!(page.videos.len() == LINES && page.total == size as u64);
    admin.run_command::<String>(&["ECHO", &marker]).await;
    let around = commands_until(&mut monitor, &prefix, &marker).await;
    // The cursor's video has left the board.
    let gone = BoardCursor { score: 5.0, video_id: video(&format!("{}x", id_of(asked))) };
    let page = store.board_page(BuiltInBoard::Global, &PageStart::After(gone), LINES).await.unwrap().unwrap();
    assert_eq!(page.videos[0].video_id, video(&id_of(asked)));
    admin.run_command::<String>(&["ECHO", &marker]).await;
    let after = commands_until(&mut monitor, &prefix, &marker).await;
    [places, around, after]
}

/// A rank and a page take the same commands on a board of any size, and a place that has to be searched one more for each
/// doubling; each command takes `O(log n)`. So 1,000,000 videos cost what 1,000 do, but for ten doublings.
#[tokio::test]
async fn a_rank_costs_a_few_commands_on_a_board_of_any_size() {
    let [small, large] = [commands_by_question(SIZES[0]).await, commands_by_question(SIZES[1]).await];
    let all = small.iter().chain(&large).flat_map(BTreeMap::keys);
    let dear: Vec<&String> = all.filter(|name| !CHEAP_COMMANDS.contains(&name.as_str())).collect();
    assert!(dear.is_empty(), "{dear:?}");
    assert!(small.iter().all(|commands| !commands.is_empty()), "{small:?}");
    assert_eq!(small[..2], large[..2]);
    let count = |commands: &BTreeMap<String, usize>| commands.values().sum::<usize>();
    let (few, more) = (count(&small[2]), count(&large[2]));
    assert!(few < more && more <= few + HALVINGS + 1, "{small:?} {large:?}");
}
