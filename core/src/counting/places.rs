//! Finds the entry of a record's video fast, for batches in which most records belong to few videos.
//!
//! The reader of a batch gives all records of a video the same id in memory
//! ([`Interaction::from_log_with_known_ids`](crate::Interaction::from_log_with_known_ids)). Then the id's address
//! identifies the video, and a table of addresses needs neither the text nor a keyed hash, because no sender chooses at
//! which address a text is. Records whose ids were not shared have different addresses, so an unknown address is looked
//! up by its text.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::record::LogRecord;
use crate::VideoId;

/// Hashes a memory address.
#[derive(Default)]
struct AddressHasher(u64);

/// Two to the power of 64, divided by the golden ratio: its multiples differ in their high bits.
const GOLDEN_RATIO_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        // The table uses the low bits, which are all zero in the product of an aligned address.
        self.0.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(GOLDEN_RATIO_MULTIPLIER);
    }
}

type BuildAddressHasher = BuildHasherDefault<AddressHasher>;

/// Returns the first record of each copy of a video's id: at least one record per video.
pub(super) fn first_record_of_each_id(records: &[LogRecord]) -> impl Iterator<Item = &LogRecord> {
    let mut addresses: HashSet<usize, BuildAddressHasher> = HashSet::default();
    records.iter().filter(move |record| addresses.insert(record.event.video_id.address()))
}

/// The indexes of videos in a list. Every id that is looked up must stay alive as long as the table.
#[derive(Default)]
pub(super) struct VideoIndexes {
    by_id: HashMap<VideoId, usize>,
    by_address: HashMap<usize, usize, BuildAddressHasher>,
}

impl VideoIndexes {
    /// Makes the table of these videos: their indexes are in the order given.
    pub(super) fn from_videos<'a>(videos: impl Iterator<Item = &'a VideoId>) -> Self {
        Self { by_id: videos.cloned().zip(0..).collect(), by_address: HashMap::default() }
    }

    /// Whether the video has an index.
    pub(super) fn is_known(&self, id: &VideoId) -> bool {
        self.by_address.contains_key(&id.address()) || self.by_id.contains_key(id)
    }

    /// Returns the index of a video; a new video gets the index `next`.
    pub(super) fn index_or_insert(&mut self, id: &VideoId, next: usize) -> usize {
        let by_id = &mut self.by_id;
        *self.by_address.entry(id.address()).or_insert_with(|| *by_id.entry(id.clone()).or_insert(next))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    fn id(text: &str) -> VideoId {
        VideoId::parse(text).unwrap()
    }

    #[test]
    fn a_video_has_one_place_whatever_text_it_comes_with() {
        let (cats, same, dogs) = (id("cats"), id("cats"), id("dogs"));
        let mut places = VideoIndexes::from_videos([&cats].into_iter());
        assert!(places.is_known(&same) && !places.is_known(&dogs));
        assert_eq!(
            [
                places.index_or_insert(&same, 1),
                places.index_or_insert(&dogs, 1),
                places.index_or_insert(&id("dogs"), 2)
            ],
            [0, 1, 1]
        );
        assert!(places.is_known(&dogs));
    }

    #[test]
    fn neighbouring_addresses_spread_over_a_table() {
        let build = BuildAddressHasher::default();
        for (shift, least) in [(0, 600), (57, 100)] {
            // The bits by which a table of 1,024 slots chooses a slot, and the seven bits by which it tells entries of
            // a group apart.
            let slots: HashSet<u64> =
                (0..1_024_usize).map(|at| (build.hash_one(0x7f00_1000 + 32 * at) >> shift) & 1_023).collect();
            assert!(slots.len() >= least, "{shift}: {}", slots.len());
        }
    }
}
