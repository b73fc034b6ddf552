//! In which zone of a cloud which reader is, where that is known.

use std::collections::BTreeMap;

use super::situation::PlacementReader;
use crate::ReaderId;

/// Zones by reader. The planner puts a hot video's readers into different ones, among readers that are as good: a zone that
/// is lost then takes a part of the video's viewers only. Nobody is moved for it, and balance comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReaderZones(BTreeMap<ReaderId, String>);

impl FromIterator<(ReaderId, String)> for ReaderZones {
    fn from_iter<T: IntoIterator<Item = (ReaderId, String)>>(readers: T) -> Self {
        Self(readers.into_iter().collect())
    }
}

impl ReaderZones {
    /// A number for the zone of each reader; empty where there are not two zones to choose from.
    pub(super) fn numbers(&self, readers: &[PlacementReader]) -> Vec<Option<u32>> {
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
