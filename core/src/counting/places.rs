//! Finds what belongs to the video of a record, for batches in which most records are of few videos.
//!
//! Whoever reads a batch gives the records of a video one text ([`Interaction::from_log_of`](crate::Interaction::from_log_of)).
//! Then its address tells the video, and a table of addresses needs neither the text nor a keyed hash: no sender chooses
//! where a text lies. Of records with texts of their own the addresses differ, so the text decides where an address is new.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::LogRecord;
use crate::VideoId;

/// Hashes an address.
#[derive(Default)]
struct AddressHasher(u64);

/// Two to the 64, divided by the golden ratio: multiples of it differ in their high bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        // The table takes its places from the low bits, in which the product of an aligned address has nothing.
        self.0.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(GOLDEN);
    }
}

type BuildAddressHasher = BuildHasherDefault<AddressHasher>;

/// The first record of each text of a video's id: of each video one at least.
pub(super) fn first_records(records: &[LogRecord]) -> impl Iterator<Item = &LogRecord> {
    let mut addresses: HashSet<usize, BuildAddressHasher> = HashSet::default();
    records.iter().filter(move |record| addresses.insert(record.event.video_id.address()))
}

/// The places of videos in a list. Used for ids that all are there as long as it is.
#[derive(Default)]
pub(super) struct VideoPlaces {
    by_id: HashMap<VideoId, usize>,
    by_address: HashMap<usize, usize, BuildAddressHasher>,
}

impl VideoPlaces {
    /// The places of these videos, in their order.
    pub(super) fn of<'a>(videos: impl Iterator<Item = &'a VideoId>) -> Self {
        Self { by_id: videos.cloned().zip(0..).collect(), by_address: HashMap::default() }
    }

    /// Whether the video has a place.
    pub(super) fn is_known(&self, id: &VideoId) -> bool {
        self.by_address.contains_key(&id.address()) || self.by_id.contains_key(id)
    }

    /// The place of a video, which is `next` from now on if it had none.
    pub(super) fn place_or(&mut self, id: &VideoId, next: usize) -> usize {
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
        let mut places = VideoPlaces::of([&cats].into_iter());
        assert!(places.is_known(&same) && !places.is_known(&dogs));
        assert_eq!(
            [places.place_or(&same, 1), places.place_or(&dogs, 1), places.place_or(&id("dogs"), 2)],
            [0, 1, 1]
        );
        assert!(places.is_known(&dogs));
    }

    #[test]
    fn neighbouring_addresses_spread_over_a_table() {
        let build = BuildAddressHasher::default();
        for (shift, least) in [(0, 600), (57, 100)] {
            // Where a table of 1,024 looks first, and by which seven bits it tells entries of a group apart.
            let slots: HashSet<u64> =
                (0..1_024_usize).map(|at| (build.hash_one(0x7f00_1000 + 32 * at) >> shift) & 1_023).collect();
            assert!(slots.len() >= least, "{shift}: {}", slots.len());
        }
    }
}
