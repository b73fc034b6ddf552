//! The encoding of rows: positions, videos, comments and marks.

use liverank_core::counting::{RecordFingerprint, VideoState};
use liverank_core::decays::{Decay, DecayContribution, DecayedScore, DecayedScores};
use liverank_core::moderation::ActorRole;
use liverank_core::score::Counters;
use liverank_core::{Comment, Metadata, UserId, VideoId};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::super::ArchivePosition;
use super::tables::StoredPosition;
use crate::redb_file::FileFailure;

/// Returns the failure for a row that liverank would never write.
pub fn damaged_row(what: &str, error: impl std::fmt::Display) -> FileFailure {
    FileFailure::Damaged(format!("{what}: {error}"))
}

/// Reads the positions in these partitions, in the order of `partitions`.
pub fn read_positions(
    table: &impl ReadableTable<u32, StoredPosition>,
    partitions: &[u32],
) -> Result<Vec<ArchivePosition>, FileFailure> {
    let stored = partitions.iter().map(|partition| table.get(partition));
    stored
        .map(|found| Ok(found?.map_or_else(ArchivePosition::default, |found| decode_position(found.value()))))
        .collect()
}

/// Converts a stored position into the core's type.
pub fn decode_position((next, last): StoredPosition) -> ArchivePosition {
    ArchivePosition {
        next_offset: next,
        last_record: last.map(|(broker_time, digest)| RecordFingerprint { broker_time, digest }),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub fn parse_decay(text: &str) -> Result<Decay, FileFailure> {
    Decay::parse(text).map_err(|error| FileFailure::Damaged(error.to_string()))
}

/// The state of a video as the file stores it, as JSON.
#[derive(Serialize, Deserialize)]
struct StoredVideo {
    owner: UserId,
    /// True if an event named the video's owner.
    owner_given: bool,
    counters: Counters,
    last_seq: u64,
    /// The bits of the trending score: JSON knows no infinity, and parsing decimal text does not give back every bit.
    trending: u64,
    /// The scores by the decays of boards with a decay of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    decayed: Vec<StoredScore>,
    /// The part of the video's revision that is not in its counters (`VideoState::revision_corrections`).
    #[serde(default, skip_serializing_if = "is_zero")]
    corrections: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    /// The role that removed the video; absent if it was not removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<ActorRole>,
}

/// The score of a video by the decay of a board with a decay of its own.
#[derive(Serialize, Deserialize)]
struct StoredScore {
    decay: String,
    /// The bits of the score's logarithm.
    log2: u64,
    /// The number of events in the score.
    events: u64,
}

fn encode_scores(scores: &DecayedScores) -> Vec<StoredScore> {
    let of = |DecayedScore { decay, log2, event_count }: &DecayedScore| StoredScore {
        decay: decay.to_string(),
        log2: log2.to_bits(),
        events: *event_count,
    };
    scores.iter().map(of).collect()
}

fn decode_scores(stored: Vec<StoredScore>) -> Result<DecayedScores, FileFailure> {
    let of = |StoredScore { decay, log2, events: event_count }: StoredScore| {
        Ok(DecayedScore { decay: parse_decay(&decay)?, log2: f64::from_bits(log2), event_count })
    };
    stored.into_iter().map(of).collect()
}

/// The part that an event added to the score in one run of a decay, as stored in the event's mark.
#[derive(Serialize, Deserialize)]
struct StoredPart {
    run: u32,
    /// The bits of the part's logarithm.
    log2: u64,
}

pub fn encode_parts(parts: &[DecayContribution]) -> Vec<u8> {
    let of =
        |DecayContribution { run, log2 }: &DecayContribution| StoredPart { run: *run, log2: log2.to_bits() };
    let stored: Vec<StoredPart> = parts.iter().map(of).collect();
    serde_json::to_vec(&stored).expect("numbers always serialise")
}

pub fn decode_parts(bytes: &[u8]) -> Result<Vec<DecayContribution>, FileFailure> {
    let stored: Vec<StoredPart> =
        serde_json::from_slice(bytes).map_err(|error| damaged_row("a mark", error))?;
    Ok(stored
        .into_iter()
        .map(|StoredPart { run, log2 }| DecayContribution { run, log2: f64::from_bits(log2) })
        .collect())
}

pub fn encode_video(state: &VideoState) -> Vec<u8> {
    let stored = StoredVideo {
        owner: state.owner.clone(),
        owner_given: state.is_owner_given,
        counters: state.counters,
        last_seq: state.last_seq,
        trending: state.trending_log2.to_bits(),
        decayed: encode_scores(&state.decayed_scores),
        corrections: state.revision_corrections,
        metadata: state.metadata.clone(),
        removed: state.removed_by,
    };
    serde_json::to_vec(&stored).expect("text and numbers always serialise")
}

pub fn decode_video(id: &str, bytes: &[u8]) -> Result<VideoState, FileFailure> {
    let wrong = |error: serde_json::Error| damaged_row(&format!("video {id:?}"), error);
    let stored: StoredVideo = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok(VideoState {
        video_id: VideoId::parse(id).map_err(|error| FileFailure::Damaged(error.to_string()))?,
        owner: stored.owner,
        is_owner_given: stored.owner_given,
        counters: stored.counters,
        last_seq: stored.last_seq,
        trending_log2: f64::from_bits(stored.trending),
        decayed_scores: decode_scores(stored.decayed)?,
        revision_corrections: stored.corrections,
        metadata: stored.metadata,
        removed_by: stored.removed,
    })
}

pub fn encode_comment(comment: &Comment) -> Vec<u8> {
    serde_json::to_vec(comment).expect("text and numbers always serialise")
}

pub fn decode_comment(video: &str, seq: u64, bytes: &[u8]) -> Result<Comment, FileFailure> {
    serde_json::from_slice(bytes).map_err(|error| damaged_row(&format!("comment {seq} of {video:?}"), error))
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::fixtures::{
        check_json_fixture, fixture_comment, fixture_deletion, fixture_pin, fixture_shadowed_comment,
        parse_json, video,
    };

    #[test]
    fn stored_videos_have_fixtures() {
        let write = |state: &VideoState| parse_json(&encode_video(state));
        check_json_fixture("embedded-video", &video(), write, |value| {
            decode_video("cats", value.to_string().as_bytes())
        });
    }

    #[test]
    fn stored_comments_have_fixtures() {
        for (name, today) in [
            ("embedded-comment", fixture_comment()),
            ("embedded-deletion", fixture_deletion()),
            ("embedded-pin", fixture_pin()),
            ("embedded-shadowed", fixture_shadowed_comment()),
        ] {
            let write = |comment: &Comment| parse_json(&encode_comment(comment));
            check_json_fixture(name, &today, write, |value| {
                decode_comment("cats", 12, value.to_string().as_bytes())
            });
        }
    }
}
