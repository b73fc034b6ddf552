//! Decays and decayed scores, as the meta document, videos and marks store them.

use liverank_core::Millis;
use liverank_core::decays::{
    CountedDecay, CountedDecays, Decay, DecayContribution, DecayedScore, DecayedScores,
};
use mongodb::bson::{self, Bson};
use serde::{Deserialize, Serialize};

use super::super::PART_NAME;
use super::damaged_document;
use crate::StoreError;

/// A decay that is counted, as stored in the meta document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedDecayDoc {
    decay: String,
    run: i64,
    /// The time after which the scores are complete; absent if they contain everything that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

impl CountedDecayDoc {
    pub fn from_decays(decays: &CountedDecays) -> Vec<Self> {
        let of = |CountedDecay { decay, run, complete_after }: &CountedDecay| Self {
            decay: decay.to_string(),
            run: i64::from(*run),
            whole_after: *complete_after,
        };
        decays.iter().map(of).collect()
    }

    pub fn decode_all(stored: &[Self]) -> Result<CountedDecays, StoreError> {
        let of = |Self { decay, run, whole_after }: &Self| {
            Ok(CountedDecay {
                decay: parse_stored_decay(decay, "meta")?,
                run: *run as u32,
                complete_after: *whole_after,
            })
        };
        stored.iter().map(of).collect()
    }

    pub fn to_bson(stored: &[Self]) -> Result<Bson, StoreError> {
        bson::to_bson(stored).map_err(|error| StoreError::unusable(PART_NAME, error))
    }
}

fn parse_stored_decay(decay: &str, collection: &str) -> Result<Decay, StoreError> {
    Decay::parse(decay).map_err(|error| damaged_document(collection, &error))
}

/// The score of a video by one decay, as stored in the video's document.
#[derive(Debug, Serialize, Deserialize)]
pub struct DecayedDoc {
    decay: String,
    log2: f64,
    /// The number of events in the score.
    events: i64,
}

impl DecayedDoc {
    pub fn decode_all(stored: &[Self]) -> Result<DecayedScores, StoreError> {
        let of = |Self { decay, log2, events }: &Self| {
            Ok(DecayedScore {
                decay: parse_stored_decay(decay, "videos")?,
                log2: *log2,
                event_count: *events as u64,
            })
        };
        stored.iter().map(of).collect()
    }
}

/// Returns decayed scores in the form in which a video's document stores them.
pub fn stored_scores(scores: &DecayedScores) -> bson::RawArrayBuf {
    let of = |DecayedScore { decay, log2, event_count }: &DecayedScore| {
        bson::rawdoc! { "decay": decay.to_string(), "log2": *log2, "events": *event_count as i64 }
    };
    scores.iter().map(of).collect()
}

/// The part that an event added to the score in one run of a decay, as stored in the event's mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunPartDoc {
    run: i64,
    log2: f64,
}

impl RunPartDoc {
    pub fn from_parts(parts: &[DecayContribution]) -> Vec<Self> {
        parts
            .iter()
            .map(|DecayContribution { run, log2 }| Self { run: i64::from(*run), log2: *log2 })
            .collect()
    }

    pub fn decode_all(stored: &[Self]) -> Vec<DecayContribution> {
        stored.iter().map(|Self { run, log2 }| DecayContribution { run: *run as u32, log2: *log2 }).collect()
    }
}
