//! The rebuild that the meta document names, while one is under way.

use liverank_core::counting::{CountingRules, UniqueKinds};
use mongodb::bson::{self, Document, doc};
use serde::{Deserialize, Serialize};

use super::super::super::ArchiveMeta;
use super::super::PART_NAME;
use super::decay::CountedDecayDoc;
use super::format::format_for_rules;
use super::weights::WeightsDoc;
use super::windows::CountedWindowsDoc;
use crate::StoreError;

/// A rebuild under way: its result, its phase and its collections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RebuildDoc {
    /// The part of the names of the rebuild's collections that no two rebuilds share.
    pub token: String,
    pub generation: i64,
    /// The comment epoch that is in force after the rebuild.
    numbering: String,
    weights: WeightsDoc,
    half_life_ms: i64,
    #[serde(default)]
    unique: UniqueKinds,
    /// The phase of the rebuild: `FILLING` or `SWAPPING`.
    pub phase: String,
    /// The collections that the rebuild replaces.
    pub collections: Vec<String>,
    /// The windows that are counted in the new collections; absent if the rebuild does not replace the counts by
    /// window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<CountedWindowsDoc>>,
    /// The decays that are counted in the new collections; absent if the rebuild does not count anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decays: Option<Vec<CountedDecayDoc>>,
    /// True if the rebuild's videos have the decayed scores that are counted. A release that knows no decays does not
    /// set this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keeps_decayed: bool,
}

impl RebuildDoc {
    /// The phase in which commits write to the present and to the new collections.
    pub const FILLING: &str = "filling";
    /// The phase in which the new collections are complete; nothing is committed until they are in place.
    pub const SWAPPING: &str = "swapping";

    pub fn new(token: &str, meta: &ArchiveMeta, phase: &str, collections: &[&str]) -> Self {
        Self {
            token: token.to_owned(),
            generation: meta.generation as i64,
            numbering: meta.comment_epoch.as_str().to_owned(),
            weights: WeightsDoc::of(&meta.counting_rules.weights),
            half_life_ms: meta.counting_rules.half_life_ms as i64,
            unique: meta.counting_rules.unique,
            phase: phase.to_owned(),
            collections: collections.iter().map(|&name| name.to_owned()).collect(),
            windows: None,
            decays: None,
            keeps_decayed: !meta.decays.is_empty(),
        }
    }

    /// Returns the fields of the meta document that change at the end of the rebuild.
    pub fn meta_fields(&self) -> Result<Document, StoreError> {
        let weights = bson::to_bson(&self.weights).map_err(|error| StoreError::unusable(PART_NAME, error))?;
        let mut outcome = doc! {
            "generation": self.generation,
            "numbering": &self.numbering,
            "weights": weights,
            "half_life_ms": self.half_life_ms,
            "unique": self.unique.to_string(),
            "format": format_for_rules(&self.rules()),
        };
        if let Some(windows) = self.windows.as_ref().filter(|windows| !windows.is_empty()) {
            outcome.insert("windows", CountedWindowsDoc::to_bson(windows)?);
        }
        if let Some(decays) = self.decays.as_ref().filter(|decays| !decays.is_empty()) {
            outcome.insert("decays", CountedDecayDoc::to_bson(decays)?);
        }
        if self.keeps_decayed {
            outcome.insert("decays_of", self.generation);
        }
        Ok(outcome)
    }

    /// Returns the name of the new collection that will replace `collection`.
    pub fn next_collection_name(&self, collection: &str) -> String {
        format!("{collection}{}", collection_suffix(&self.token))
    }

    pub fn rules(&self) -> CountingRules {
        let half_life_ms = self.half_life_ms as u64;
        CountingRules { weights: self.weights.weights(), half_life_ms, unique: self.unique }
    }
}

/// Returns the suffix of the names of a rebuild's collections.
pub fn collection_suffix(token: &str) -> String {
    format!("{NEXT_COLLECTION_INFIX}{token}")
}

/// The text between a collection's name and the token of the rebuild that fills the collection.
pub const NEXT_COLLECTION_INFIX: &str = "_next_";
