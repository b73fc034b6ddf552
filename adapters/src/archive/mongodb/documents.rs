//! The documents in MongoDB, and their conversion into the core's types.
//!
//! The fields that clients of the database read (`score`, `watch_time_total`, …) are doubles, computed anew at each
//! write. The fields that counting continues from are integers, so that no sum is ever rounded.

use liverank_core::Invalid;
use mongodb::bson::Bson;
use serde::Deserialize;

use super::PART_NAME;
use crate::StoreError;

pub mod comment;
pub mod decay;
mod format;
pub mod identity;
pub mod mark;
pub mod meta;
pub mod moderated;
pub mod offset;
pub mod rebuild;
pub mod video;
mod weights;
pub mod windows;

/// The `_id` of any document.
#[derive(Debug, Deserialize)]
pub struct IdDoc {
    #[serde(rename = "_id")]
    pub id: Bson,
}

/// Returns the error for a document that liverank would never write.
pub fn damaged_document(collection: &str, error: &Invalid) -> StoreError {
    StoreError::unusable(
        PART_NAME,
        format!("collection {collection} has a document that is not ours: {error}"),
    )
}

#[cfg(test)]
mod fixtures;
