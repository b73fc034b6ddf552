//! A simulated log that makes the batches which the checks commit.

use std::collections::{BTreeMap, HashMap};

use liverank_core::comment::Comment;
use liverank_core::counting::{
    Batch, CountingRules, CountingSetup, LogRecord, MarkKey, OffsetRange, StoredModeration, UniqueMark,
    VideoState, apply_moderated_batch, event_identities,
};
use liverank_core::decays::CountedDecays;
use liverank_core::event::CommentBody;
use liverank_core::score::Counters;
use liverank_core::windows::CountedWindows;
use liverank_core::{CommentId, EventId, Interaction, Kind, Millis, UserId, VideoId};

use liverank_adapters::Archive;

/// The time at which the simulated logs begin, in milliseconds since 1970.
pub const LOG_START_TIME: Millis = 1_700_000_000_000;

pub fn video(id: &str) -> VideoId {
    VideoId::parse(id).unwrap()
}

pub fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// Returns the next offset of each of the partitions, in their order.
pub async fn next_offsets(archive: &dyn Archive, partitions: &[u32]) -> Vec<u64> {
    let positions = archive.partition_positions(partitions).await.unwrap();
    positions.into_iter().map(|position| position.next_offset).collect()
}

/// Returns a view of the video `id` by the user `viewer`.
pub fn view(id: &str) -> Interaction {
    Interaction {
        video_id: video(id),
        user_id: user("viewer"),
        kind: Kind::View,
        watch_ms: 0,
        timestamp: LOG_START_TIME,
        event_id: None,
        owner_id: None,
        comment: None,
        moderation: None,
    }
}

/// Returns an event of another kind for the video `id` by the user `viewer`.
pub fn event_of_kind(id: &str, kind: Kind) -> Interaction {
    Interaction { kind, watch_ms: if kind == Kind::WatchTime { 1500 } else { 0 }, ..view(id) }
}

/// Returns a view of the video `id` with the identity `event_id`.
pub fn view_with_event_id(id: &str, event_id: &str) -> Interaction {
    Interaction { event_id: Some(EventId::parse(event_id).unwrap()), ..view(id) }
}

/// Returns a comment on the video `id`.
pub fn comment(id: &str, comment_id: &str, text: &str) -> Interaction {
    let comment_id = CommentId::parse(comment_id).unwrap();
    let comment = Some(CommentBody { comment_id, text: text.to_owned(), reply_to: None });
    Interaction { kind: Kind::Comment, comment, ..view(id) }
}

/// A simulated log: the next offset of each partition, and a clock.
#[derive(Default)]
pub struct SimulatedLog {
    next_offsets: BTreeMap<u32, u64>,
    elapsed: Millis,
}

impl SimulatedLog {
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the log's clock by `time` milliseconds.
    pub fn advance_clock(&mut self, time: Millis) {
        self.elapsed += time;
    }

    /// Returns the time of the next record.
    pub fn now(&self) -> Millis {
        LOG_START_TIME + self.elapsed
    }

    /// Returns the next batch of the log, with these events on these partitions, one millisecond apart.
    pub fn batch(&mut self, events: impl IntoIterator<Item = (u32, Interaction)>) -> Batch {
        let mut batch = Batch::default();
        for (partition, event) in events {
            let next = self.next_offsets.entry(partition).or_default();
            match batch.offset_ranges.iter_mut().find(|span| span.partition == partition) {
                Some(span) => span.next = *next + 1,
                None => batch.offset_ranges.push(OffsetRange {
                    partition,
                    first: *next,
                    next: *next + 1,
                    last_record: None,
                }),
            }
            let broker_time = LOG_START_TIME + self.elapsed;
            batch.records.push(LogRecord { partition, offset: *next, broker_time, event });
            *next += 1;
            self.elapsed += 1;
        }
        batch
    }

    /// Returns the next batch of the log, with all events on partition 0.
    pub fn batch_on_partition_0(&mut self, events: impl IntoIterator<Item = Interaction>) -> Batch {
        self.batch(events.into_iter().map(|event| (0, event)))
    }

    /// Returns a batch for a range of `count` records that nobody can read.
    pub fn unreadable_batch(&mut self, partition: u32, count: u64) -> Batch {
        let next = self.next_offsets.entry(partition).or_default();
        let span = OffsetRange { partition, first: *next, next: *next + count, last_record: None };
        *next = span.next;
        Batch { offset_ranges: vec![span], records: Vec::new() }
    }
}

/// The expected contents of the archive, computed by the core alone.
#[derive(Default)]
pub struct Model {
    pub videos: BTreeMap<VideoId, VideoState>,
    pub comments: BTreeMap<VideoId, Vec<Comment>>,
    sightings: HashMap<String, Millis>,
    marks: HashMap<MarkKey, UniqueMark>,
    /// The windows that are counted.
    pub windows: CountedWindows,
    /// The decays that are counted.
    pub decays: CountedDecays,
    /// The expected counts, by kind and start of a window, and by video.
    pub window_counts: BTreeMap<(String, Millis, VideoId), Counters>,
}

impl Model {
    /// Applies a batch, and checks that the archive does the same and returns the same effects.
    pub async fn commit(&mut self, archive: &dyn Archive, batch: &Batch, rules: &CountingRules) {
        let known: Vec<_> = batch.videos().iter().filter_map(|id| self.videos.get(*id).cloned()).collect();
        let seen: Vec<_> = batch
            .records
            .iter()
            .flat_map(|record| event_identities(&record.event))
            .filter_map(|id| self.sightings.get(&id).map(|at| (id.clone(), *at)))
            .collect();
        let marks = batch.affected_marks(rules.unique).into_iter();
        let marks: Vec<_> = marks.filter_map(|key| Some((key, self.marks.get(&key)?.clone()))).collect();
        let in_force = CountingSetup { rules, windows: &self.windows, decays: &self.decays };
        let expected =
            apply_moderated_batch(&batch.records, known, seen, StoredModeration::default(), marks, in_force);
        let committed = archive.commit_batch(batch).await.expect("a batch that follows on is committed");
        assert_eq!(committed.batch_effects, expected, "a commit does what the core says");
        self.videos.extend(expected.videos.into_iter().map(|state| (state.video_id.clone(), state)));
        self.sightings.extend(expected.new_identities);
        for change in expected.mark_changes {
            match change.new_value {
                Some(log2) => self.marks.insert(change.key, log2),
                None => self.marks.remove(&change.key),
            };
        }
        for change in expected.window_changes {
            let key = (change.window.kind.to_string(), change.window.start, change.video);
            self.window_counts.entry(key).or_default().merge(&change.counters);
        }
        for numbered in expected.comments {
            self.comments.entry(numbered.comment.video_id.clone()).or_default().push(numbered.comment);
        }
    }

    /// Checks that reading the archive gives the contents of this model.
    pub async fn check(&self, archive: &dyn Archive) {
        let held = archive.videos_after(None, self.videos.len() + 10).await.unwrap();
        assert_eq!(held, self.videos.values().cloned().collect::<Vec<_>>(), "the archive holds these videos");
        let ids: Vec<VideoId> = self.videos.keys().cloned().collect();
        let heads: Vec<u64> = self.videos.values().map(|state| state.last_seq).collect();
        let marks: Vec<MarkKey> = self.marks.keys().copied().collect();
        let held = archive.rebuild_archive().read_marks(None, &marks).await.unwrap();
        assert_eq!(held.into_iter().collect::<HashMap<_, _>>(), self.marks, "the marks are set");
        assert_eq!(archive.last_seqs(&ids).await.unwrap(), heads, "the heads are the last numbers");
        let mut comments = 0;
        for (video, expected) in &self.comments {
            let page = liverank_adapters::archive::CommentPage::After(0);
            let held = archive.comments(video, page, expected.len() + 10).await.unwrap();
            assert_eq!(&held, expected, "the comments of {video}");
            comments += expected.len() as u64;
        }
        assert_eq!(archive.comment_count().await.unwrap(), comments, "the number of comments");
    }
}
