//! Counts the log again, in memory.
//!
//! Events are counted by [`liverank_core::counting::apply_moderated_batch`], as the archive counts them. Events of the
//! same video in two partitions have no order. Where their order decides the result (who was first and is the owner;
//! which of two different events of the same identity counts), the count reports that the result is ambiguous instead
//! of guessing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use liverank_core::counting::{
    CountingRules, CountingSetup, LogRecord, MarkKey, REPEAT_WINDOW_MS, StoredModeration, UniqueMark,
    VideoState, apply_moderated_batch, event_identities, identity_of_event, mark_key,
};
use liverank_core::decays::CountedDecays;
use liverank_core::score::Counters;
use liverank_core::windows::CountedWindows;
use liverank_core::{Interaction, Kind, Millis, UserId, VideoId};

/// The number of events after which identities that can have no more repeats are dropped.
const PRUNE_EVERY: u64 = 100_000;

/// The state of a video by the log.
#[derive(Debug, Clone)]
pub struct VideoByLog {
    /// The state that results from counting the log.
    pub counted_state: VideoState,
    /// Other users who may be the owner, because the video's events lie on several partitions.
    pub other_owners: HashSet<UserId>,
    /// True if an identity of the video's events was used for different events on several partitions. Which of these
    /// events counted depends on the order of the partitions, which the log does not tell.
    pub is_ambiguous: bool,
    /// True if the times of some repeated events are ambiguous, even if the counts are not.
    pub has_ambiguous_times: bool,
}

/// The counts of videos in windows: by the window's kind and start, and by video.
pub type WindowCounts = BTreeMap<(String, Millis, VideoId), Counters>;

/// The user whom one partition's events make the owner of a video.
struct OwnerClaim {
    partition: u32,
    first_user: UserId,
    given_owner: Option<UserId>,
}

/// The first event that the log has with a certain identity.
struct FirstSighting {
    time: Millis,
    /// The event's partition and content; `None` if it came before the counting began.
    seen_identity: Option<SeenIdentity>,
}

#[derive(PartialEq, Eq)]
struct SeenIdentity {
    partition: u32,
    video: VideoId,
    content: u64,
    event_time: Millis,
}

/// Counts the records of the log. The records of each partition must come in the order of their offsets; partitions may
/// be mixed in any way.
pub struct LogTally {
    rules: CountingRules,
    /// For each partition that is not yet read to its end: the end offset, and the latest log time that was read.
    partition_ends: BTreeMap<u32, (u64, Millis)>,
    videos: HashMap<VideoId, VideoState>,
    owner_claims: HashMap<VideoId, Vec<OwnerClaim>>,
    first_sightings: HashMap<String, FirstSighting>,
    /// The marks that are set, with the event that set each.
    set_marks: HashMap<MarkKey, UniqueMark>,
    /// The windows that are counted.
    windows: CountedWindows,
    window_counts: WindowCounts,
    /// The decays that are counted.
    decays: CountedDecays,
    /// The start of the oldest window that is held, in milliseconds: earlier windows are not compared.
    oldest_window_start: Millis,
    /// The partition of the first event that set or removed each mark, and whether any event removed it.
    mark_partitions: HashMap<MarkKey, (u32, bool)>,
    ambiguous_videos: HashSet<VideoId>,
    videos_with_ambiguous_times: HashSet<VideoId>,
    counted_events: u64,
    repeated_events: u64,
    last_prune_event_count: u64,
}

impl LogTally {
    /// Creates a tally that has counted nothing yet. The tally counts by `rules`, each partition up to its offset in
    /// `ends` (exclusive).
    pub fn new(rules: CountingRules, ends: impl IntoIterator<Item = (u32, u64)>) -> Self {
        Self {
            rules,
            partition_ends: ends
                .into_iter()
                .map(|(partition, end)| (partition, (end, Millis::MIN)))
                .collect(),
            videos: HashMap::new(),
            owner_claims: HashMap::new(),
            first_sightings: HashMap::new(),
            set_marks: HashMap::new(),
            windows: CountedWindows::default(),
            window_counts: WindowCounts::new(),
            decays: CountedDecays::default(),
            oldest_window_start: Millis::MAX,
            mark_partitions: HashMap::new(),
            ambiguous_videos: HashSet::new(),
            videos_with_ambiguous_times: HashSet::new(),
            counted_events: 0,
            repeated_events: 0,
            last_prune_event_count: 0,
        }
    }

    /// Adds the videos' states that a snapshot holds; counting continues from them.
    pub fn add_initial_videos(&mut self, videos: impl IntoIterator<Item = VideoState>) {
        self.videos.extend(videos.into_iter().map(|state| (state.video_id.clone(), state)));
    }

    /// Makes the tally count `windows`, too, starting from `counts`. Windows that begin before `from` are not held.
    pub fn add_initial_windows(&mut self, windows: CountedWindows, counts: WindowCounts, from: Millis) {
        self.windows = windows;
        self.oldest_window_start = from;
        self.window_counts = counts;
    }

    /// Makes the tally count the scores of `decays`, too.
    pub fn add_decays(&mut self, decays: CountedDecays) {
        self.decays = decays;
    }

    /// Returns the decays that are counted.
    pub const fn decays(&self) -> &CountedDecays {
        &self.decays
    }

    /// Removes and returns the counts by window.
    pub fn take_window_counts(&mut self) -> WindowCounts {
        std::mem::take(&mut self.window_counts)
    }

    /// Returns the rules by which events are counted.
    pub const fn rules(&self) -> &CountingRules {
        &self.rules
    }

    /// Returns the number of events that counted, and the number of repeats.
    pub const fn event_counts(&self) -> (u64, u64) {
        (self.counted_events, self.repeated_events)
    }

    /// Adds marks that were set before the counting began, for the records that are counted next. A mark that this
    /// tally has already set or removed itself stays as it is.
    pub fn add_earlier_marks(&mut self, earlier: Vec<(MarkKey, UniqueMark)>) {
        for (key, mark) in earlier {
            if !self.mark_partitions.contains_key(&key) {
                self.set_marks.insert(key, mark);
            }
        }
    }

    /// Counts these records of the log. `earlier` has the identities of these records that were seen before the
    /// counting began, with their times.
    pub fn count_records(&mut self, records: &[LogRecord], earlier: Vec<(String, Millis)>) {
        for (identity, time) in earlier {
            self.first_sightings.entry(identity).or_insert(FirstSighting { time, seen_identity: None });
        }
        let ids: HashSet<&VideoId> = records.iter().map(|record| &record.event.video_id).collect();
        // Videos and identities that do not change are not among the effects, so they stay here, too.
        let known: Vec<VideoState> = ids.into_iter().filter_map(|id| self.videos.get(id).cloned()).collect();
        let sightings: Vec<(String, Millis)> = records
            .iter()
            .flat_map(|record| event_identities(&record.event))
            .filter_map(|identity| self.first_sightings.get(&identity).map(|first| (identity, first.time)))
            .collect();
        let keys: HashSet<MarkKey> =
            records.iter().filter_map(|record| mark_key(&record.event, self.rules.unique)).collect();
        let marks: Vec<_> =
            keys.iter().filter_map(|key| Some((*key, self.set_marks.get(key)?.clone()))).collect();
        let in_force = CountingSetup { rules: &self.rules, windows: &self.windows, decays: &self.decays };
        let effects =
            apply_moderated_batch(records, known, sightings, StoredModeration::default(), marks, in_force);
        for change in effects.mark_changes {
            match change.new_value {
                Some(mark) => self.set_marks.insert(change.key, mark),
                None => self.set_marks.remove(&change.key),
            };
        }
        for change in effects
            .window_changes
            .into_iter()
            .filter(|change| change.window.start >= self.oldest_window_start)
        {
            let key = (change.window.kind.to_string(), change.window.start, change.video);
            self.window_counts.entry(key).or_default().merge(&change.counters);
        }
        for record in records {
            self.note_record(record);
        }
        self.counted_events += effects.counted_event_count;
        self.repeated_events += effects.repeated_event_count;
        self.videos.extend(effects.videos.into_iter().map(|state| (state.video_id.clone(), state)));
        self.forget_old_identities();
    }

    fn note_owner_claim(&mut self, record: &LogRecord) {
        let event = &record.event;
        let claims = self.owner_claims.entry(event.video_id.clone()).or_default();
        let claim = claims.iter_mut().find(|claim| claim.partition == record.partition);
        match claim {
            Some(claim) if claim.given_owner.is_none() => claim.given_owner.clone_from(&event.owner_id),
            Some(_) => {}
            None => claims.push(OwnerClaim {
                partition: record.partition,
                first_user: event.user_id.clone(),
                given_owner: event.owner_id.clone(),
            }),
        }
    }

    fn note_record(&mut self, record: &LogRecord) {
        let event = &record.event;
        // A moderation record does not make its author the owner of the video.
        if event.kind != Kind::Moderation {
            self.note_owner_claim(record);
        }
        if let Some((end, time)) = self.partition_ends.get_mut(&record.partition) {
            *time = record.broker_time.max(*time);
            if record.offset + 1 >= *end {
                self.partition_ends.remove(&record.partition);
            }
        }
        self.note_mark(record);
        let Some(identity) = identity_of_event(event) else { return };
        let seen = SeenIdentity {
            partition: record.partition,
            video: event.video_id.clone(),
            content: content_hash(event),
            event_time: event.timestamp,
        };
        let first = event_identities(event).find_map(|name| self.first_sightings.get(&name));
        if let Some(FirstSighting { time, seen_identity: Some(first) }) = first
            && first.partition != seen.partition
        {
            // Two partitions have no order, so either event may have been the first; the window for repeats may decide,
            // too.
            if first.content != seen.content || (record.broker_time - time).abs() >= REPEAT_WINDOW_MS {
                self.ambiguous_videos.insert(first.video.clone());
                self.ambiguous_videos.insert(seen.video.clone());
            } else if first.event_time != seen.event_time {
                self.videos_with_ambiguous_times.insert(seen.video.clone());
            }
        }
        if first.is_none_or(|first| record.broker_time - first.time >= REPEAT_WINDOW_MS) {
            self.first_sightings
                .insert(identity, FirstSighting { time: record.broker_time, seen_identity: Some(seen) });
        }
    }

    /// Notes that a record sets or removes a mark. The order of events on two partitions that set or remove the same
    /// mark is unknown. If one of these events removes the mark, their order decides what counts; otherwise the order
    /// decides only the time at which the event counted.
    fn note_mark(&mut self, record: &LogRecord) {
        let event = &record.event;
        let Some(key) = mark_key(event, self.rules.unique) else { return };
        let takes_back = event.kind.kind_taken_back().is_some();
        let (first, removed) = self.mark_partitions.entry(key).or_insert((record.partition, takes_back));
        *removed |= takes_back;
        if *first != record.partition {
            self.videos_with_ambiguous_times.insert(event.video_id.clone());
            if *removed {
                self.ambiguous_videos.insert(event.video_id.clone());
            }
        }
    }

    /// Drops identities that can have no more repeats: everything that is still to be read is later by more than the
    /// window for repeats.
    fn forget_old_identities(&mut self) {
        let seen = self.counted_events + self.repeated_events;
        let read_to = self.partition_ends.values().map(|(_, time)| *time).min();
        if let (Some(read_to), true) = (read_to, seen - self.last_prune_event_count >= PRUNE_EVERY) {
            self.last_prune_event_count = seen;
            let oldest = read_to.saturating_sub(REPEAT_WINDOW_MS);
            self.first_sightings.retain(|_, sighting| sighting.time > oldest);
        }
    }

    /// Returns the state of each video by the log.
    pub fn into_videos(mut self) -> BTreeMap<VideoId, VideoByLog> {
        let told = |state: VideoState| {
            let claims = self.owner_claims.remove(&state.video_id).unwrap_or_default();
            let id = state.video_id.clone();
            let told = VideoByLog {
                other_owners: other_owners(&claims),
                is_ambiguous: self.ambiguous_videos.contains(&id),
                has_ambiguous_times: self.videos_with_ambiguous_times.contains(&id),
                counted_state: state,
            };
            (id, told)
        };
        self.videos.into_values().map(told).collect()
    }
}

/// Returns every user who would be the owner in some order of the partitions.
fn other_owners(claims: &[OwnerClaim]) -> HashSet<UserId> {
    if claims.len() < 2 {
        return HashSet::new();
    }
    let given: HashSet<UserId> = claims.iter().filter_map(|claim| claim.given_owner.clone()).collect();
    if given.is_empty() { claims.iter().map(|claim| claim.first_user.clone()).collect() } else { given }
}

/// Returns a hash of the parts of an event that decide the counts.
fn content_hash(event: &Interaction) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&event.video_id, &event.user_id, &event.owner_id, event.kind, event.watch_ms).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
