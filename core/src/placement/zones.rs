//! The cloud zones of readers, as far as they are known.

use std::collections::BTreeMap;

use super::situation::PlacementReader;
use crate::ReaderId;

/// The zone of each reader. The planner puts a hot video's readers into different zones, choosing among readers that
/// are equally good: the loss of a zone then affects only a part of the video's viewers. No viewer is moved for zones,
/// and balance comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReaderZones(BTreeMap<ReaderId, String>);

impl FromIterator<(ReaderId, String)> for ReaderZones {
    fn from_iter<T: IntoIterator<Item = (ReaderId, String)>>(readers: T) -> Self {
        Self(readers.into_iter().collect())
    }
}

impl ReaderZones {
    /// Returns a number for the zone of each reader; an empty list if there are fewer than two zones to choose from.
    pub(super) fn zone_numbers(&self, readers: &[PlacementReader]) -> Vec<Option<u32>> {
        let mut names: Vec<&String> = readers.iter().filter_map(|reader| self.0.get(&reader.id)).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < 2 {
            return Vec::new();
        }
        let number = |zone: &String| names.binary_search(&zone).ok().and_then(|at| u32::try_from(at).ok());
        readers.iter().map(|reader| self.0.get(&reader.id).and_then(number)).collect()
    }
}
