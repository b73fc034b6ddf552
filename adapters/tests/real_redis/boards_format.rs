//! Tests of the boards' keys and channel as another release reads and writes them: `docs/formats.md`. Scripts inside
//! Redis write them, so only a real Redis shows their form.

use std::sync::Arc;

use liverank_adapters::ranking_store::redis::RedisRanking;
use liverank_adapters::ranking_store::{
    BatchProjection, BoardChange, BoardEntry, DescribedVideo, ProjectionCheckpoint, ProjectionOutcome,
    RankingStore,
};
use liverank_core::counting::OffsetRange;
use liverank_core::{Metadata, UserId, VideoId};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{RedisAdmin, link_to_empty_database, next_item, video};

#[path = "../../../core/tests/support/fixtures.rs"]
mod fixtures;

const DATABASE: u8 = 4;
const KEY_PREFIX: &str = "t4:";
/// A version of the boards that an empty store takes from Redis's clock.
const REDIS_CLOCK_VERSION: &str = "1700000000000250";

/// The values that are read from boards.
#[derive(Debug, PartialEq)]
struct ReadBoards {
    entries: Vec<BoardEntry>,
    stands: ProjectionCheckpoint,
    half_life: Option<u64>,
    change: Vec<BoardEntry>,
    /// The metadata of the one video. Boards of the previous release have no metadata.
    metadata: Option<Metadata>,
    is_described: bool,
    /// The videos with other metadata, from the channel.
    described: Vec<VideoId>,
}

fn entry(id: &str, score: f64, trending: Option<f64>, revision: u64) -> BoardEntry {
    let owner = UserId::parse("olga").unwrap();
    BoardEntry { video_id: video(id), owner, score, trending, revision, removed: false }
}

fn cats_metadata() -> Metadata {
    Metadata::from_value(&json!({"title": "Cats"})).unwrap()
}

/// Returns the pairs of a sorted set or a map (which JSON fixtures cannot hold as members), sorted by name.
async fn sorted_pairs(redis: &mut RedisAdmin, command: &[&str]) -> Value {
    let mut pairs: Vec<(String, String)> = redis.run_command(command).await;
    pairs.sort();
    json!(pairs)
}

/// Returns what today's code writes for a batch, into boards that were empty and are filled.
async fn boards_as_written() -> Value {
    let (link, mut redis) = link_to_empty_database(DATABASE, KEY_PREFIX).await;
    let boards = RedisRanking::new(Arc::clone(&link));
    let filled = boards.write_snapshot(3, &[entry("cats", 0.1 + 0.2, Some(81_234.5), 7)]).await.unwrap();
    assert_eq!(filled, ProjectionOutcome::Applied);
    boards.note_half_life(3, 60_000).await.unwrap();
    boards.commit_snapshot(3, &[(4, 99)]).await.unwrap();
    boards.note_metadata_complete().await.unwrap();
    let mut subscriber = redis.subscribe_channel(&format!("{KEY_PREFIX}ranking:changes")).await;
    let spans = vec![OffsetRange { partition: 4, first: 99, next: 100, last_record: None }];
    let entries = vec![entry("cats", 1234.5, Some(81_235.25), 8)];
    boards
        .project_batch(&BatchProjection { generation: 3, offset_ranges: spans, entries, traces: Vec::new() })
        .await
        .unwrap();
    let described = DescribedVideo { video_id: video("cats"), revision: 8, metadata: Some(cats_metadata()) };
    boards.put_metadata(3, &[described]).await.unwrap();
    let mut next_change = async || {
        let message = RedisAdmin::next_message(&mut subscriber).await;
        let mut change: Value = serde_json::from_slice(&message).unwrap();
        assert!(
            change["version"].as_u64().is_some_and(|version| version > 1_700_000_000_000_000),
            "{change}"
        );
        change["version"] = REDIS_CLOCK_VERSION.parse::<u64>().unwrap().into();
        change
    };
    let (change, change_of_metadata) = (next_change().await, next_change().await);
    let mut stands: Value = sorted_pairs(&mut redis, &["HGETALL", "t4:ranking:projection"]).await;
    let stands = stands.as_array_mut().unwrap().drain(..).map(|pair| {
        let name = pair[0].as_str().unwrap().to_owned();
        let value = if name == "version" { json!(REDIS_CLOCK_VERSION) } else { pair[1].clone() };
        (name, value)
    });
    json!({
        "ranking:projection": Value::Object(stands.collect()),
        "global_ranking": sorted_pairs(&mut redis, &["ZRANGE", "t4:global_ranking", "0", "-1", "WITHSCORES"]).await,
        "trending": sorted_pairs(&mut redis, &["ZRANGE", "t4:trending", "0", "-1", "WITHSCORES"]).await,
        "ranking:owners": sorted_pairs(&mut redis, &["HGETALL", "t4:ranking:owners"]).await,
        "ranking:revisions": sorted_pairs(&mut redis, &["HGETALL", "t4:ranking:revisions"]).await,
        "ranking:half-life": sorted_pairs(&mut redis, &["HGETALL", "t4:ranking:half-life"]).await,
        "ranking:metadata": sorted_pairs(&mut redis, &["HGETALL", "t4:ranking:metadata"]).await,
        "ranking:changes": change,
        "ranking:changes of metadata": change_of_metadata,
    })
}

/// Reads with today's code what another release wrote.
async fn read(stored: &Value) -> Result<ReadBoards, String> {
    let (link, mut redis) = link_to_empty_database(DATABASE, KEY_PREFIX).await;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (name, value) in stored["ranking:projection"].as_object().unwrap() {
        redis.run_command::<u64>(&["HSET", "t4:ranking:projection", name, &text(value)]).await;
    }
    for (name, is_board) in [
        ("global_ranking", true),
        ("trending", true),
        ("ranking:owners", false),
        ("ranking:revisions", false),
        ("ranking:half-life", false),
        ("ranking:metadata", false),
    ] {
        for pair in stored[name].as_array().into_iter().flatten() {
            let (key, field, value) = (format!("{KEY_PREFIX}{name}"), text(&pair[0]), text(&pair[1]));
            if is_board {
                redis.run_command::<u64>(&["ZADD", &key, &value, &field]).await;
            } else {
                redis.run_command::<u64>(&["HSET", &key, &field, &value]).await;
            }
        }
    }
    let boards = RedisRanking::new(link);
    let failed = |error: liverank_adapters::StoreError| error.to_string();
    let mut changes = boards.subscribe_changes().await.map_err(failed)?;
    assert_eq!(next_item(&mut changes).await, BoardChange::Reset, "it listens");
    let mut told: Vec<(Vec<BoardEntry>, Vec<VideoId>)> = Vec::new();
    for message in [&stored["ranking:changes"], &stored["ranking:changes of metadata"]] {
        // The previous release sent no metadata.
        if message.is_null() {
            continue;
        }
        redis.run_command::<u64>(&["PUBLISH", "t4:ranking:changes", &message.to_string()]).await;
        let BoardChange::Changed { entries, described, .. } = next_item(&mut changes).await else {
            return Err("the change is none".to_owned());
        };
        told.push((entries, described));
    }
    let (change, described): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    let (change, described) = (change.concat(), described.concat());
    let metadata = boards.metadata(&[video("cats")]).await.map_err(failed)?.remove(0);
    let is_described = boards.is_metadata_complete().await.map_err(failed)?;
    let entries = boards.boards_snapshot().await.map_err(failed)?.entries;
    let stands = boards.checkpoint().await.map_err(failed)?;
    let half_life = boards.noted_half_life().await.map_err(failed)?;
    Ok(ReadBoards { entries, stands, half_life, change, metadata, is_described, described })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boards_of_the_release_before_are_read_and_it_reads_ours() {
    let now = vec![entry("cats", 1234.5, Some(81_235.25), 8)];
    let today = ReadBoards {
        entries: now.clone(),
        stands: ProjectionCheckpoint { generation: Some(3), offsets: vec![(4, 100)] },
        half_life: Some(60_000),
        change: now,
        metadata: Some(cats_metadata()),
        is_described: true,
        described: vec![video("cats")],
    };
    let blocking = Handle::current();
    let format = fixtures::Format {
        directory: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"),
        name: "redis-boards",
        write: |_: &ReadBoards| tokio::task::block_in_place(|| blocking.block_on(boards_as_written())),
        read: |stored: &Value| tokio::task::block_in_place(|| blocking.block_on(read(stored))),
    };
    fixtures::check(&format, &today);
}
