//! The event identities that an archive remembers, in memory: 16 bytes each, sorted, so that a whole batch is looked
//! up at once. Also the choice of stored identity segments that are merged.

use crate::Millis;

/// The number of bits of a sighting that hold its time: 42 bits of milliseconds since 1970 reach to the year 2109.
const TIME_BITS: u32 = 42;
/// The most identities in a run: while two runs are merged, they need their memory twice.
const MAX_RUN_IDENTITIES: usize = 2 << 20;
/// The number of identities from which a segment is not merged any more; so many identities take half a MiB.
const MIN_SEALED_SEGMENT_IDENTITIES: usize = 32 << 10;
/// The most identities in a merged segment: 4 MiB, a quarter of the largest document. A consumer that has just got
/// many partitions finds small segments in each of them.
const MAX_MERGED_IDENTITIES: usize = 256 << 10;

/// One sighting of an event's identity in the log: the first 86 bits of the identity's digest, and the log's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting(u128);

impl Sighting {
    /// The length of a stored sighting, in bytes.
    pub const BYTES: usize = 16;

    /// Makes the sighting of an identity with this digest ([`crate::digest::identity_digest`]). `None` for a time that
    /// does not fit: before 1970 or after 2109.
    pub fn from_digest(digest: &[u8; 16], time: Millis) -> Option<Self> {
        let time = u128::try_from(time).ok().filter(|time| time >> TIME_BITS == 0)?;
        Some(Self(digest_prefix_bits(digest) << TIME_BITS | time))
    }

    /// Returns the log's time of the sighting.
    pub const fn time(self) -> Millis {
        (self.0 & ((1 << TIME_BITS) - 1)) as Millis
    }

    const fn digest_bits(self) -> u128 {
        self.0 >> TIME_BITS
    }

    /// Writes sorted sightings as they are stored, 16 bytes each.
    pub fn encode_all(sightings: &[Self]) -> Vec<u8> {
        sightings.iter().flat_map(|sighting| sighting.0.to_be_bytes()).collect()
    }

    /// Reads what [`Sighting::encode_all`] wrote; `None` for any other bytes.
    pub fn decode_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (sightings, []) = bytes.as_chunks() else { return None };
        let sightings: Vec<_> = sightings.iter().map(|bytes| Self(u128::from_be_bytes(*bytes))).collect();
        sightings.is_sorted().then_some(sightings)
    }
}

/// Returns the bits of a digest that a sighting holds.
const fn digest_prefix_bits(digest: &[u8; 16]) -> u128 {
    u128::from_be_bytes(*digest) >> TIME_BITS
}

/// A table of sightings in sorted runs. A new run is merged with the one before it while that one is not more than
/// twice as long. A table therefore has about twenty runs, and one more for each [`MAX_RUN_IDENTITIES`] identities.
#[derive(Debug, Default)]
pub struct IdentityTable {
    runs: Vec<Vec<Sighting>>,
}

impl IdentityTable {
    /// Returns the number of sightings in the table. A sighting that was added twice may count twice.
    pub fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds sightings, which must be sorted.
    pub fn insert_sorted(&mut self, sightings: Vec<Sighting>) {
        let mut run = sightings;
        if run.is_empty() {
            return;
        }
        while let Some(last) = self
            .runs
            .pop_if(|last| last.len() <= 2 * run.len() && last.len() + run.len() <= MAX_RUN_IDENTITIES)
        {
            run = merge_sorted(&last, &run);
        }
        self.runs.push(run);
    }

    /// Adds all sightings of another table.
    pub fn insert_table(&mut self, other: Self) {
        for run in other.runs {
            self.insert_sorted(run);
        }
    }

    /// Returns the latest sighting of each digest that has one, with the digest's index in `digests`. The digests must
    /// be sorted.
    pub fn find_sorted(&self, digests: &[[u8; 16]]) -> Vec<(usize, Millis)> {
        let mut found: Vec<(usize, Millis)> = Vec::new();
        for run in &self.runs {
            let mut from = 0;
            for (place, digest) in digests.iter().enumerate() {
                let key = digest_prefix_bits(digest);
                from = first_index_from(run, from, key);
                let same = run[from..].iter().take_while(|sighting| sighting.digest_bits() == key);
                // Of the sightings of one identity, the latest is last.
                found.extend(same.last().map(|sighting| (place, sighting.time())));
            }
        }
        found.sort_unstable_by_key(|(place, time)| (*place, std::cmp::Reverse(*time)));
        found.dedup_by_key(|(place, _)| *place);
        found
    }

    /// Removes the sightings whose log time is before `watermark`.
    pub fn forget_before(&mut self, watermark: Millis) {
        for run in &mut self.runs {
            run.retain(|sighting| sighting.time() >= watermark);
            run.shrink_to_fit();
        }
        self.runs.retain(|run| !run.is_empty());
    }
}

/// Returns the first index from `from` on whose key is not less than `key`. The search begins close to `from`, because
/// keys are searched in ascending order.
fn first_index_from(run: &[Sighting], from: usize, key: u128) -> usize {
    let (mut low, mut high, mut step) = (from, from, 1);
    while run.get(high).is_some_and(|sighting| sighting.digest_bits() < key) {
        low = high + 1;
        high += step;
        step *= 2;
    }
    let high = high.min(run.len());
    low + run[low..high].partition_point(|sighting| sighting.digest_bits() < key)
}

/// Merges two sorted lists of sightings into one, each sighting once.
pub fn merge_sorted(one: &[Sighting], other: &[Sighting]) -> Vec<Sighting> {
    let mut all = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one, other);
    while let ([first, after_first @ ..], [second, after_second @ ..]) = (one, other) {
        all.push(*first.min(second));
        if first <= second {
            one = after_first;
        }
        if second <= first {
            other = after_second;
        }
    }
    all.extend_from_slice(one);
    all.extend_from_slice(other);
    all
}

/// Returns the segments that are to be merged with a new one of `added` identities. `segments` gives each segment of
/// the table as its key and its number of identities. Each small segment that is left out is more than twice as large
/// as the merged one, so only few small segments remain. Each merge makes an identity's segment larger by at least
/// half, so each identity is written a few times only. The merged segment has at most [`MAX_MERGED_IDENTITIES`]
/// identities, if `added` is less.
pub fn segments_to_merge<K>(segments: impl IntoIterator<Item = (K, usize)>, added: usize) -> Vec<K> {
    let mut small: Vec<_> =
        segments.into_iter().filter(|(_, count)| *count < MIN_SEALED_SEGMENT_IDENTITIES).collect();
    small.sort_by_key(|(_, count)| *count);
    let mut whole = added;
    let taken_in = small.into_iter().take_while(|(_, count)| {
        let fits = *count <= 2 * whole && whole + count <= MAX_MERGED_IDENTITIES;
        whole += count;
        fits
    });
    taken_in.map(|(key, _)| key).collect()
}

/// Whether a segment of `count` identities may be merged with others later.
pub const fn may_be_merged(count: usize) -> bool {
    count < MIN_SEALED_SEGMENT_IDENTITIES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::identity_digest;

    fn digest_of(id: u16) -> [u8; 16] {
        identity_digest(&id.to_string())
    }

    fn sorted(sightings: &[(u16, Millis)]) -> Vec<Sighting> {
        let sighting = |(id, time): &(u16, Millis)| Sighting::from_digest(&digest_of(*id), *time).unwrap();
        let mut sightings: Vec<_> = sightings.iter().map(sighting).collect();
        sightings.sort_unstable();
        sightings
    }

    #[test]
    fn a_sighting_holds_times_from_1970_to_2109() {
        let digest = digest_of(7);
        for time in [0, 1, 1_700_000_000_123, (1 << 42) - 1] {
            assert_eq!(Sighting::from_digest(&digest, time).map(Sighting::time), Some(time));
        }
        assert_eq!(
            (Sighting::from_digest(&digest, -1), Sighting::from_digest(&digest, 1 << 42)),
            (None, None)
        );
    }

    #[test]
    fn what_is_stored_is_read_and_what_is_damaged_is_not() {
        let sightings = sorted(&[(1, 5), (2, 6), (3, 7)]);
        let stored = Sighting::encode_all(&sightings);
        assert_eq!(stored.len(), 3 * Sighting::BYTES);
        assert_eq!(Sighting::decode_all(&stored), Some(sightings));
        assert_eq!(Sighting::decode_all(&stored[1..]), None);
        let backwards: Vec<u8> = stored.rchunks(Sighting::BYTES).flatten().copied().collect();
        assert_eq!(Sighting::decode_all(&backwards), None);
    }

    #[test]
    fn a_segment_has_room_in_a_document_whatever_there_is_to_merge() {
        let many = (0..3_000).map(|at| (at, MIN_SEALED_SEGMENT_IDENTITIES - 1));
        let taken_in = segments_to_merge(many, 200_000).len();
        assert!(
            taken_in >= 1 && 200_000 + taken_in * MIN_SEALED_SEGMENT_IDENTITIES <= MAX_MERGED_IDENTITIES,
            "{taken_in}"
        );
        let bytes = MAX_MERGED_IDENTITIES * Sighting::BYTES;
        assert!(bytes * 3 < 16 << 20, "MongoDB refuses documents of more than 16 MiB: {bytes}");
    }

    #[test]
    fn a_sealed_segment_is_not_merged() {
        let sizes = [
            ("sealed", MIN_SEALED_SEGMENT_IDENTITIES),
            ("open", MIN_SEALED_SEGMENT_IDENTITIES - 1),
            ("small", 3),
        ];
        assert_eq!(segments_to_merge(sizes, 100_000), ["small", "open"]);
        assert_eq!(segments_to_merge(sizes, 2), ["small"]);
        assert_eq!(segments_to_merge(sizes, 1), [""; 0]);
    }

    proptest! {
        /// A table gives the same answers as a map of the latest sightings.
        #[test]
        fn a_table_answers_the_latest_sighting(
            batches in proptest::collection::vec(proptest::collection::vec((0..60_u16, 0..1000 as Millis), 0..40), 0..12),
            asked in proptest::collection::btree_set(0..70_u16, 0..30),
            watermark in 0..1200 as Millis,
        ) {
            let (mut table, mut latest) = (IdentityTable::default(), BTreeMap::new());
            for batch in &batches {
                table.insert_sorted(sorted(batch));
                for (id, time) in batch {
                    let known = latest.entry(*id).or_insert(*time);
                    *known = (*known).max(*time);
                }
            }
            for watermark in [0, watermark] {
                table.forget_before(watermark);
                latest.retain(|_, time| *time >= watermark);
                let mut asked: Vec<_> = asked.iter().map(|id| (digest_of(*id), *id)).collect();
                asked.sort_unstable();
                let digests: Vec<_> = asked.iter().map(|(digest, _)| *digest).collect();
                let found: BTreeMap<u16, Millis> =
                    table.find_sorted(&digests).into_iter().map(|(place, time)| (asked[place].1, time)).collect();
                let expected: BTreeMap<u16, Millis> =
                    latest.iter().filter(|(id, _)| asked.iter().any(|(_, it)| it == *id)).map(|(id, time)| (*id, *time)).collect();
                prop_assert_eq!(found, expected);
            }
        }

        /// For commits of any size, few small segments are left, and each identity is written a few times only.
        #[test]
        fn few_small_segments_are_left(
            sizes in proptest::collection::vec(prop_oneof![1..4_usize, 1..400_usize, 1..60_000_usize], 1..800),
        ) {
            let (mut segments, mut written, mut added) = (Vec::<usize>::new(), 0, 0);
            for size in sizes {
                let merged = segments_to_merge(segments.iter().copied().enumerate(), size);
                let whole = size + merged.iter().map(|at| segments[*at]).sum::<usize>();
                segments = segments.iter().enumerate().filter(|(at, _)| !merged.contains(at)).map(|(_, it)| *it).collect();
                segments.push(whole);
                (written, added) = (written + whole, added + size);
                let small = segments.iter().filter(|count| may_be_merged(**count)).count();
                prop_assert!(small <= 16, "{segments:?}");
            }
            prop_assert!(written <= 27 * added, "{written} of {added}");
        }
    }
}
