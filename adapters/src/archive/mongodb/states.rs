//! The cache of the states of videos that this archive counted last, so that known states are not read again.
//!
//! A video's document names its *home*: the partition whose owner may cache the video's state. A cached state equals
//! the document as long as no other archive has written the document. The offset documents, which every commit reads,
//! show this:
//! - whoever commits records of the home partition moves its `next`;
//! - whoever writes the video by a record of another partition, without a record of the home in the same batch, counts
//!   an outside write in the same transaction: beside the offset of the partition that it commits, as one of the
//!   home's outside writes. It does not write the home's own offset document, or every such batch would conflict with
//!   every batch of the home;
//! - a rebuild that replaces the documents begins a new generation.
//!
//! So a cached state is used only in a transaction that finds all three as this archive left them. If another
//! transaction changes the video after that read, it conflicts with this one on the video's own document.
//!
//! If this archive has counted a partition from its first record on and has evicted nothing, the cache holds every
//! video whose home is that partition. A video that is not in the cache is then taken for a new one and not read
//! either. This is a guess: a video may have come from another partition. If the guess is wrong, inserting the
//! document fails because it exists, and the transaction fails. From then on ([`VideoStateCache::stop_assuming_new`])
//! videos that are not in the cache are read.
//!
//! The cache is bounded: the video states that were unused for the longest time are evicted first, and are read from
//! MongoDB when they are needed again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use liverank_core::VideoId;
use liverank_core::counting::{OffsetRange, VideoState};

/// The largest size of the cached states in bytes, approximately: those of some 350,000 videos with ids of usual
/// length.
const MAX_CACHE_BYTES: usize = 128 << 20;
/// The size of a cached state beside its texts, in bytes: the state, its key, the table's free places and the
/// allocator's overhead.
const STATE_OVERHEAD_BYTES: usize = 2 * size_of::<CachedState>() + 96;

/// A cached state, and the home partition of its video.
#[derive(Debug, Clone)]
struct CachedState {
    state: VideoState,
    home_partition: u32,
    /// The `cache_epoch` of the home partition when the state was cached.
    cache_epoch: u64,
}

/// The contents of a partition's offset document when this archive wrote it last.
#[derive(Debug, Clone, Copy)]
struct CachedPosition {
    next_offset: u64,
    outside_write_count: i64,
    /// A number that changes whenever another archive has written the partition: a state that was cached under another
    /// number is void.
    cache_epoch: u64,
    /// True if the cache holds all videos whose home is the partition, as far as this archive has written them.
    is_complete: bool,
}

/// The result of looking up a video in the cache.
#[derive(Debug)]
pub(super) enum CachedVideo {
    /// The video's state, and its home partition.
    Known(Box<VideoState>, u32),
    /// The video is not in the cache, and is taken for one that has no document.
    New,
    /// The state is unknown: the video has to be read.
    Unknown,
}

/// The cache of video states of one archive.
#[derive(Debug)]
pub(super) struct VideoStateCache {
    /// Half of the largest size in bytes: the bound of `recent_states` and of `old_states` each.
    max_half_bytes: usize,
    generation: u64,
    partitions: HashMap<u32, CachedPosition>,
    last_cache_epoch: u64,
    /// The states used since the two halves were last exchanged.
    recent_states: HashMap<VideoId, CachedState>,
    recent_bytes: usize,
    /// The states not used since the two halves were last exchanged. These states are evicted when `recent_states` is
    /// full.
    old_states: HashMap<VideoId, CachedState>,
}

impl Default for VideoStateCache {
    fn default() -> Self {
        Self::with_max_bytes(MAX_CACHE_BYTES)
    }
}

impl VideoStateCache {
    fn with_max_bytes(bytes: usize) -> Self {
        Self {
            max_half_bytes: bytes / 2,
            generation: 0,
            partitions: HashMap::new(),
            last_cache_epoch: 0,
            recent_states: HashMap::new(),
            recent_bytes: 0,
            old_states: HashMap::new(),
        }
    }

    /// Removes all states from the cache.
    pub(super) fn clear(&mut self) {
        *self =
            Self { last_cache_epoch: self.last_cache_epoch, ..Self::with_max_bytes(2 * self.max_half_bytes) };
    }

    /// Invalidates the states of each partition whose offset document is not as this cache's archive wrote it last.
    /// `spans` are the ranges of the transaction in whose snapshot the document was read; `outside_writes` returns a
    /// partition's count of outside writes.
    pub(super) fn invalidate_unless_at(
        &mut self,
        generation: u64,
        spans: &[OffsetRange],
        outside_writes: impl Fn(u32) -> i64,
    ) {
        if self.generation != generation {
            self.clear();
            self.generation = generation;
        }
        for span in spans {
            let (next, outside_write_count) = (span.first, outside_writes(span.partition));
            let same = |was: &CachedPosition| {
                was.next_offset == next && was.outside_write_count == outside_write_count
            };
            if !self.partitions.get(&span.partition).is_some_and(same) {
                self.last_cache_epoch += 1;
                let (cache_epoch, is_complete) = (self.last_cache_epoch, next == 0);
                let position =
                    CachedPosition { next_offset: next, outside_write_count, cache_epoch, is_complete };
                self.partitions.insert(span.partition, position);
            }
        }
    }

    /// Looks up a video that has a record in `partition`, in a transaction for whose partitions `covered` returns
    /// true.
    pub(super) fn look_up(
        &mut self,
        id: &VideoId,
        partition: u32,
        covered: impl Fn(u32) -> bool,
    ) -> CachedVideo {
        if let Some(kept) = self.recent_states.get(id) {
            return self.check_cached_state(kept, covered);
        }
        if let Some((id, kept)) = self.old_states.remove_entry(id) {
            let found = self.check_cached_state(&kept, covered);
            self.insert(id, kept);
            return found;
        }
        let is_complete = self.partitions.get(&partition).is_some_and(|standing| standing.is_complete);
        if is_complete { CachedVideo::New } else { CachedVideo::Unknown }
    }

    fn check_cached_state(&self, kept: &CachedState, covered: impl Fn(u32) -> bool) -> CachedVideo {
        let current = self
            .partitions
            .get(&kept.home_partition)
            .is_some_and(|standing| standing.cache_epoch == kept.cache_epoch);
        if current && covered(kept.home_partition) {
            CachedVideo::Known(Box::new(kept.state.clone()), kept.home_partition)
        } else {
            CachedVideo::Unknown
        }
    }

    /// Stops taking unknown videos for new: one was not new, or another archive may have created one meanwhile.
    pub(super) fn stop_assuming_new(&mut self) {
        for standing in self.partitions.values_mut() {
            standing.is_complete = false;
        }
    }

    /// Caches the states that a transaction over these ranges has written. `home` returns the home partition that a
    /// video has after the transaction.
    pub(super) fn insert_written(
        &mut self,
        spans: &[OffsetRange],
        states: &[VideoState],
        home: impl Fn(&VideoId) -> Option<u32>,
    ) {
        for span in spans {
            if let Some(standing) = self.partitions.get_mut(&span.partition) {
                standing.next_offset = span.next;
            }
        }
        for state in states {
            let known =
                home(&state.video_id).and_then(|home| Some((home, self.partitions.get(&home)?.cache_epoch)));
            if let Some((home_partition, cache_epoch)) = known {
                self.insert(
                    state.video_id.clone(),
                    CachedState { state: state.clone(), home_partition, cache_epoch },
                );
            }
        }
    }

    fn insert(&mut self, id: VideoId, kept: CachedState) {
        let bytes = state_bytes(&kept.state);
        match self.recent_states.entry(id) {
            Entry::Occupied(mut known) => {
                let before = known.insert(kept);
                self.recent_bytes -= self::state_bytes(&before.state);
            }
            Entry::Vacant(vacant) => {
                self.old_states.remove(vacant.key());
                vacant.insert(kept);
                if self.recent_bytes + bytes > self.max_half_bytes {
                    let forgotten =
                        std::mem::replace(&mut self.old_states, std::mem::take(&mut self.recent_states));
                    self.recent_bytes = 0;
                    if !forgotten.is_empty() {
                        self.stop_assuming_new();
                    }
                    return;
                }
            }
        }
        self.recent_bytes += bytes;
    }
}

/// Returns the memory that a cached state takes, in bytes, approximately.
fn state_bytes(state: &VideoState) -> usize {
    // The owner's text may not be shared with any other state.
    let metadata = state.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len());
    let decayed = size_of_val(state.decayed_scores.as_slice());
    STATE_OVERHEAD_BYTES + state.video_id.as_str().len() + state.owner.as_str().len() + metadata + decayed
}

#[cfg(test)]
mod tests {
    use liverank_core::UserId;
    use liverank_core::decays::DecayedScores;
    use liverank_core::score::Counters;
    use proptest::prelude::*;

    use super::*;

    fn state(id: &str, views: i64) -> VideoState {
        VideoState {
            video_id: VideoId::parse(id).unwrap(),
            owner: UserId::parse("o").unwrap(),
            is_owner_given: false,
            counters: Counters { views, ..Counters::default() },
            last_seq: 0,
            trending_log2: 0.0,
            decayed_scores: DecayedScores::default(),
            revision_corrections: 0,
            metadata: None,
            removed_by: None,
        }
    }

    fn one_record_range(partition: u32, from: u64) -> OffsetRange {
        OffsetRange { partition, first: from, next: from + 1, last_record: None }
    }

    fn cached_views(states: &mut VideoStateCache, id: &str, covered: &[u32]) -> Option<i64> {
        let id = VideoId::parse(id).unwrap();
        match states.look_up(&id, 0, |home| covered.contains(&home)) {
            CachedVideo::Known(state, _) => Some(state.counters.views),
            CachedVideo::New | CachedVideo::Unknown => None,
        }
    }

    fn is_taken_for_new(states: &mut VideoStateCache, id: &str, partition: u32) -> bool {
        matches!(states.look_up(&VideoId::parse(id).unwrap(), partition, |_| true), CachedVideo::New)
    }

    /// Returns a cache after one counted record of each of the partitions 1 and 2; the home of "v" is partition 1.
    fn cache_with_counts() -> VideoStateCache {
        let mut states = VideoStateCache::default();
        let spans = [one_record_range(1, 0), one_record_range(2, 0)];
        states.invalidate_unless_at(1, &spans, |_| 0);
        states.insert_written(&spans, &[state("v", 7)], |_| Some(1));
        states
    }

    #[test]
    fn a_written_state_stays_cached_until_another_writer_commits() {
        let mut states = cache_with_counts();
        states.invalidate_unless_at(1, &[one_record_range(1, 1)], |_| 0);
        assert_eq!(cached_views(&mut states, "v", &[1]), Some(7));
        assert_eq!(cached_views(&mut states, "w", &[1]), None);
    }

    #[test]
    fn a_state_is_not_used_when_its_home_partition_is_not_covered() {
        let mut states = cache_with_counts();
        states.invalidate_unless_at(1, &[one_record_range(2, 1)], |_| 0);
        assert_eq!(cached_views(&mut states, "v", &[2]), None);
    }

    #[test]
    fn another_writer_invalidates_the_cache_for_good() {
        type CacheChange = fn(&mut VideoStateCache);
        let cases: [CacheChange; 3] = [
            |states| states.invalidate_unless_at(1, &[one_record_range(1, 2)], |_| 0),
            |states| {
                states.invalidate_unless_at(1, &[one_record_range(1, 1)], |partition| {
                    i64::from(partition == 1)
                });
            },
            |states| states.invalidate_unless_at(2, &[one_record_range(1, 1)], |_| 0),
        ];
        for stand in cases {
            let mut states = cache_with_counts();
            stand(&mut states);
            assert_eq!(cached_views(&mut states, "v", &[1, 2]), None);
            states.invalidate_unless_at(1, &[one_record_range(1, 1)], |_| 0);
            assert_eq!(cached_views(&mut states, "v", &[1, 2]), None, "also where it stands as before again");
        }
    }

    #[test]
    fn the_cache_evicts_the_least_used_and_is_bounded() {
        let mut states = VideoStateCache::with_max_bytes(20 * (STATE_OVERHEAD_BYTES + 4));
        let spans = [one_record_range(1, 0)];
        states.invalidate_unless_at(1, &spans, |_| 0);
        states.insert_written(&spans, &[state("hot", 1)], |_| Some(1));
        for at in 0..1000 {
            states.insert_written(&[], &[state(&format!("{:03}", at % 500), 2)], |_| Some(1));
            assert_eq!(cached_views(&mut states, "hot", &[1]), Some(1));
            let kept = states.recent_states.values().chain(states.old_states.values());
            let taken: usize = kept.map(|kept| state_bytes(&kept.state)).sum();
            assert!(taken <= 21 * (STATE_OVERHEAD_BYTES + 4), "{taken}");
        }
        assert_eq!(cached_views(&mut states, "001", &[1]), None);
    }

    #[test]
    fn an_unknown_video_is_taken_for_new_while_its_partition_is_known_from_its_first_record_on() {
        let mut states = cache_with_counts();
        assert!(is_taken_for_new(&mut states, "w", 1) && is_taken_for_new(&mut states, "w", 2));
        assert!(
            !is_taken_for_new(&mut states, "v", 1) && !is_taken_for_new(&mut states, "v", 2),
            "it is kept"
        );
        assert!(!is_taken_for_new(&mut states, "w", 3), "nothing is known of it");
        states.invalidate_unless_at(1, &[one_record_range(1, 2)], |_| 0);
        assert!(!is_taken_for_new(&mut states, "w", 1), "another one has counted there");
        assert!(is_taken_for_new(&mut states, "w", 2));
        states.stop_assuming_new();
        assert!(!is_taken_for_new(&mut states, "w", 2));
    }

    #[test]
    fn nothing_is_taken_for_new_once_something_was_forgotten() {
        let mut states = VideoStateCache::with_max_bytes(4 * (STATE_OVERHEAD_BYTES + 4));
        let spans = [one_record_range(1, 0)];
        states.invalidate_unless_at(1, &spans, |_| 0);
        let mut taken_for_new = Vec::new();
        for at in 0..8 {
            states.insert_written(&spans, &[state(&format!("{at}"), 1)], |_| Some(1));
            taken_for_new.push(is_taken_for_new(&mut states, "w", 1));
        }
        assert_eq!((taken_for_new.first(), taken_for_new.last()), (Some(&true), Some(&false)));
        let kept = (0..8).filter(|at| cached_views(&mut states, &format!("{at}"), &[1]).is_some()).count();
        assert!(kept < 8, "one was forgotten");
    }

    /// A write of a document: by this archive, or by another one.
    #[derive(Debug, Clone, Copy)]
    struct DocumentWrite {
        mine: bool,
        partition: u32,
        video: usize,
    }

    fn writes() -> impl Strategy<Value = Vec<DocumentWrite>> {
        let write = (any::<bool>(), 0..3u32, 0..4usize).prop_map(|(mine, partition, video)| DocumentWrite {
            mine,
            partition,
            video,
        });
        proptest::collection::vec(write, 0..60)
    }

    proptest! {
        /// Whichever archive writes by the rules of the documents: a state that the cache returns equals the document.
        #[test]
        fn a_cached_state_is_never_outdated(writes in writes()) {
            let mut states = VideoStateCache::with_max_bytes(3 * (STATE_OVERHEAD_BYTES + 2));
            let mut next = [0_u64; 3];
            let mut outside = [0_i64; 3];
            let mut documents: [Option<(i64, u32)>; 4] = [None; 4];
            for DocumentWrite { mine, partition, video } in writes {
                let name = format!("{video}");
                let id = VideoId::parse(&name).unwrap();
                let spans = [one_record_range(partition, next[partition as usize])];
                let document = documents[video];
                if mine {
                    states.invalidate_unless_at(1, &spans, |at| outside[at as usize]);
                    match states.look_up(&id, partition, |at| at == partition) {
                        CachedVideo::Known(state, home) => {
                            prop_assert_eq!(Some((state.counters.views, home)), document);
                        }
                        CachedVideo::New => {
                            let is_at_home = document.is_some_and(|(_, home)| home == partition);
                            prop_assert!(!is_at_home, "{:?}", document);
                            if document.is_some() {
                                states.stop_assuming_new();
                            }
                        }
                        CachedVideo::Unknown => {}
                    }
                }
                if let Some((_, home)) = document.filter(|(_, home)| *home != partition) {
                    outside[home as usize] += 1;
                }
                let views = document.map_or(0, |(views, _)| views) + 1;
                documents[video] = Some((views, partition));
                next[partition as usize] += 1;
                if mine {
                    states.insert_written(&spans, &[state(&name, views)], |_| Some(partition));
                }
            }
        }
    }
}
