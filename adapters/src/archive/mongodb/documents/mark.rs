//! The document of a mark: an event that counts once per user has counted.

use liverank_core::Millis;
use liverank_core::counting::{MarkKey, UniqueMark};
use mongodb::bson::{self, Binary, Bson, Document, doc};
use serde::{Deserialize, Serialize};

use super::super::PART_NAME;
use super::decay::RunPartDoc;
use super::identity::digest_binary;
use crate::StoreError;

/// The document of a mark: an event of a type that counts once per user has counted.
#[derive(Debug, Serialize, Deserialize)]
pub struct UniqueMarkDoc {
    #[serde(rename = "_id")]
    id: Binary,
    /// The part that the event added to the decayed score, as a logarithm.
    pub log2: f64,
    /// The time at which the event counts as having happened; absent if the event was in no window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Millis>,
    /// The parts that the event added to decayed scores of boards with a decay of their own; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    decayed: Vec<RunPartDoc>,
}

impl UniqueMarkDoc {
    pub fn of(
        key: &MarkKey,
        UniqueMark { trending_log2, counted_at, decay_contributions }: &UniqueMark,
    ) -> Self {
        Self {
            id: digest_binary(key),
            log2: *trending_log2,
            at: *counted_at,
            decayed: RunPartDoc::from_parts(decay_contributions),
        }
    }

    /// Returns the statement that makes the stored mark equal to this one.
    pub fn update_statement(&self) -> Result<Document, StoreError> {
        let mut set = doc! { "log2": self.log2 };
        let mut unset = Document::new();
        match self.at {
            Some(at) => drop(set.insert("at", at)),
            None => drop(unset.insert("at", "")),
        }
        if self.decayed.is_empty() {
            unset.insert("decayed", "");
        } else {
            let parts = bson::to_bson(&self.decayed);
            set.insert("decayed", parts.map_err(|error| StoreError::unusable(PART_NAME, error))?);
        }
        let mut change = doc! { "$set": set };
        if !unset.is_empty() {
            change.insert("$unset", unset);
        }
        Ok(doc! { "q": { "_id": Bson::Binary(self.id.clone()) }, "u": change })
    }

    /// Returns the key and the mark; `None` for a document that liverank did not write.
    pub fn key_and_mark(&self) -> Option<(MarkKey, UniqueMark)> {
        let mark = UniqueMark {
            trending_log2: self.log2,
            counted_at: self.at,
            decay_contributions: RunPartDoc::decode_all(&self.decayed),
        };
        Some((self.id.bytes.as_slice().try_into().ok()?, mark))
    }
}
