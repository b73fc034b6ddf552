//! How the archive lies in its file.

use liverank_core::comment::Numbering;
use liverank_core::counting::{Mark, Rules, VideoState};
use liverank_core::score::{Counters, Weights};
use liverank_core::{Comment, Millis, UserId, VideoId};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::super::{Meta, Position};
use super::PART;
use crate::redb_file::{Failure, Purpose};

/// What is fixed, as JSON, under the one key.
pub const META: TableDefinition<(), &str> = TableDefinition::new("meta");
/// By partition: the next offset, and time and digest of the record before it.
pub const OFFSETS: TableDefinition<u32, (u64, Option<(Millis, u64)>)> = TableDefinition::new("offsets");
/// Who took a partition up.
pub const OWNERS: TableDefinition<u32, u64> = TableDefinition::new("owners");
/// States by video.
pub const VIDEOS: TableDefinition<&str, &[u8]> = TableDefinition::new("videos");
/// The log's time of the first sighting by identity.
pub const IDENTITIES: TableDefinition<&str, Millis> = TableDefinition::new("identities");
/// The same the other way round, for forgetting the oldest.
pub const SIGHTINGS: TableDefinition<(Millis, &str), ()> = TableDefinition::new("sightings");
/// Comments by video and number.
pub const COMMENTS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("comments");
/// Video and number by partition and offset.
pub const PLACES: TableDefinition<(u32, u64), (&str, u64)> = TableDefinition::new("comment_places");
/// The number of the newest comment by video and comment id.
pub const NAMES: TableDefinition<(&str, &str), u64> = TableDefinition::new("comment_names");
/// How many comments there are, under the one key.
pub const COUNT: TableDefinition<(), u64> = TableDefinition::new("comment_count");

pub const PURPOSE: Purpose = Purpose { part: PART, version: 1, tables };

fn tables(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(META)?;
    transaction.open_table(OFFSETS)?;
    transaction.open_table(OWNERS)?;
    transaction.open_table(VIDEOS)?;
    transaction.open_table(IDENTITIES)?;
    transaction.open_table(SIGHTINGS)?;
    transaction.open_table(COMMENTS)?;
    transaction.open_table(PLACES)?;
    transaction.open_table(NAMES)?;
    transaction.open_table(COUNT)?;
    Ok(())
}

/// Where the partitions stand.
pub fn positions(
    table: &impl ReadableTable<u32, (u64, Option<(Millis, u64)>)>,
    partitions: &[u32],
) -> Result<Vec<Position>, Failure> {
    let stored = partitions.iter().map(|partition| table.get(partition));
    stored.map(|found| Ok(found?.map_or_else(Position::default, |found| position(found.value())))).collect()
}

/// A position as stored.
pub fn position((next, last): (u64, Option<(Millis, u64)>)) -> Position {
    Position { next, last: last.map(|(broker_time, digest)| Mark { broker_time, digest }) }
}

fn damaged(what: &str, error: &serde_json::Error) -> Failure {
    Failure::Damaged(format!("{what}: {error}"))
}

#[derive(Serialize, Deserialize)]
struct StoredMeta {
    numbering: Numbering,
    generation: u64,
    weights: Weights,
    half_life_ms: u64,
}

/// What is fixed, if it is yet.
pub fn meta(table: &impl ReadableTable<(), &'static str>) -> Result<Option<Meta>, Failure> {
    let Some(text) = table.get(())? else { return Ok(None) };
    let stored: StoredMeta = serde_json::from_str(text.value()).map_err(|error| damaged("meta", &error))?;
    let rules = Rules { weights: stored.weights, half_life_ms: stored.half_life_ms };
    Ok(Some(Meta { numbering: stored.numbering, generation: stored.generation, rules }))
}

pub fn encode_meta(meta: &Meta) -> String {
    let Meta { numbering, generation, rules } = meta.clone();
    let stored =
        StoredMeta { numbering, generation, weights: rules.weights, half_life_ms: rules.half_life_ms };
    serde_json::to_string(&stored).expect("text and numbers always serialise")
}

#[derive(Serialize, Deserialize)]
struct StoredVideo {
    owner: UserId,
    owner_given: bool,
    counters: Counters,
    last_seq: u64,
    /// The bits of the number: JSON knows no infinity, and reads no other one back to the bit.
    trending: u64,
}

pub fn encode_video(state: &VideoState) -> Vec<u8> {
    let stored = StoredVideo {
        owner: state.owner.clone(),
        owner_given: state.owner_given,
        counters: state.counters,
        last_seq: state.last_seq,
        trending: state.trending.to_bits(),
    };
    serde_json::to_vec(&stored).expect("text and numbers always serialise")
}

pub fn decode_video(id: &str, bytes: &[u8]) -> Result<VideoState, Failure> {
    let wrong = |error| damaged(&format!("video {id:?}"), &error);
    let stored: StoredVideo = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok(VideoState {
        video_id: VideoId::parse(id).map_err(|error| Failure::Damaged(error.to_string()))?,
        owner: stored.owner,
        owner_given: stored.owner_given,
        counters: stored.counters,
        last_seq: stored.last_seq,
        trending: f64::from_bits(stored.trending),
    })
}

pub fn encode_comment(comment: &Comment) -> Vec<u8> {
    serde_json::to_vec(comment).expect("text and numbers always serialise")
}

pub fn decode_comment(video: &str, seq: u64, bytes: &[u8]) -> Result<Comment, Failure> {
    serde_json::from_slice(bytes).map_err(|error| damaged(&format!("comment {seq} of {video:?}"), &error))
}
