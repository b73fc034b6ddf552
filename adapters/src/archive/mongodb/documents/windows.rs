//! The kinds of windows that are counted, as the meta document stores them.

use liverank_core::Millis;
use liverank_core::windows::{CountedWindowKind, CountedWindows, WindowKind};
use mongodb::bson::{self, Bson};
use serde::{Deserialize, Serialize};

use super::super::PART_NAME;
use super::damaged_document;
use crate::StoreError;

/// A kind of windows that is counted, as stored in the meta document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedWindowsDoc {
    kind: String,
    /// The time after which windows are complete; absent if all windows are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

impl CountedWindowsDoc {
    pub fn from_windows(windows: &CountedWindows) -> Vec<Self> {
        let of = |CountedWindowKind { kind, complete_after }: &CountedWindowKind| Self {
            kind: kind.to_string(),
            whole_after: *complete_after,
        };
        windows.iter().map(of).collect()
    }

    pub fn decode_all(stored: &[Self]) -> Result<CountedWindows, StoreError> {
        let of = |Self { kind, whole_after }: &Self| {
            let kind = WindowKind::parse(kind).map_err(|error| damaged_document("meta", &error))?;
            Ok(CountedWindowKind { kind, complete_after: *whole_after })
        };
        stored.iter().map(of).collect()
    }

    pub fn to_bson(stored: &[Self]) -> Result<Bson, StoreError> {
        bson::to_bson(stored).map_err(|error| StoreError::unusable(PART_NAME, error))
    }
}
