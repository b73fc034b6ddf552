//! From records to batches: what can be read and what cannot, and how large a batch may become.

use std::collections::{BTreeMap, HashSet};

use liverank_adapters::archive::ArchivePosition;
use liverank_adapters::event_log::{DeadLetter, RawRecord};
use liverank_core::counting::{
    Batch, LogRecord, OffsetRange, UniqueKinds, extra_written_bytes, has_effects_beyond_counts,
};
use liverank_core::decays::MAX_DECAYS;
use liverank_core::windows::MAX_KINDS;
use liverank_core::{Interaction, UnreadableRecord, VideoId};

/// Bytes that a batch may take of the archive's memory while it is committed, by [`GatheredBatch::append_sorted`]. A MongoDB with the
/// least cache that we run on (512 MiB) refuses a transaction that changes some 75 MiB, and slows down all others before
/// that.
const MAX_ARCHIVE_BYTES: usize = 48 << 20;
/// Bytes of records in a batch, as they are held here. There are two batches: one under way, one that is gathered.
const MAX_HELD_BYTES: usize = 64 << 20;
/// Bytes of the archive's memory that a video's counters and the bookkeeping take.
const VIDEO_ARCHIVE_BYTES: usize = 600;
/// Bytes of the archive's memory that a video's counters in one window take, without the video's id.
const WINDOW_ARCHIVE_BYTES: usize = 400;
/// Bytes of the archive's memory that a score by one half-life takes, in a video's document and in one mark.
const DECAY_ARCHIVE_BYTES: usize = 150;
/// What an identity takes that is in a segment: its 16 bytes there, in the log of operations, and in what the segment is merged with.
const IDENTITY_ARCHIVE_BYTES: usize = 48;

/// How much is counted beside what there always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedBesides {
    /// Kinds of windows.
    pub windows: usize,
    /// Half-lives of boards' own.
    pub decays: usize,
    /// Whether the identity of each event has a document.
    pub identity_documents: bool,
}

impl CountedBesides {
    /// As much as may be: before a commit has told.
    pub const MOST: Self = Self { windows: MAX_KINDS, decays: MAX_DECAYS, identity_documents: true };
}

/// What was read and is not being committed yet.
#[derive(Default)]
pub struct GatheredBatch {
    /// The records that can be read.
    pub batch: Batch,
    /// What of it could not be read, to become dead letters before its offsets are committed.
    pub unreadable_records: Vec<DeadLetter>,
    /// The videos of the batch: all records of one share its text.
    videos: HashSet<VideoId>,
    /// What the commit takes of the archive's memory at most, roughly.
    written: usize,
    /// What the records take here, roughly.
    memory_bytes: usize,
}

impl GatheredBatch {
    /// Whether more may be added.
    pub const fn has_room(&self) -> bool {
        self.written < MAX_ARCHIVE_BYTES && self.memory_bytes < MAX_HELD_BYTES
    }

    /// Adds what follows on. `unique` are the types of which each event leaves a mark, `counted` what is counted besides.
    ///
    /// What a record says stands in a document, in that document's indexes and in the log of operations. But of an event that
    /// is only counted nothing is left beside the counts of its video, and its identity in a segment: a thousand of them are as large there as one.
    pub fn append_sorted(&mut self, sorted: SortedRecords, unique: UniqueKinds, counted: CountedBesides) {
        let SortedRecords { batch, record_sizes: sizes, unreadable_records: poison, waiting_partitions: _ } =
            sorted;
        for (record, RecordSize { bytes, first_of_video }) in batch.records.iter().zip(sizes) {
            self.memory_bytes += size_of::<LogRecord>() + bytes;
            let event = &record.event;
            let documents = has_effects_beyond_counts(event, unique);
            if first_of_video || documents || (counted.identity_documents && event.event_id.is_some()) {
                self.written += VIDEO_ARCHIVE_BYTES + 3 * bytes + extra_written_bytes(event);
                self.written += counted.decays * DECAY_ARCHIVE_BYTES;
            }
            if event.event_id.is_some() {
                self.written += IDENTITY_ARCHIVE_BYTES;
            }
            if first_of_video {
                self.written += counted.windows * (WINDOW_ARCHIVE_BYTES + 2 * event.video_id.as_str().len());
            }
        }
        for letter in &poison {
            self.memory_bytes += size_of::<DeadLetter>() + letter.record.value.len();
        }
        self.batch.append(batch);
        self.unreadable_records.extend(poison);
    }

    /// Leaves these partitions out. What they took counts until the batch is committed.
    pub fn drop_partitions(&mut self, partitions: &[u32]) {
        self.batch.drop_partitions(partitions);
        self.unreadable_records.retain(|letter| !partitions.contains(&letter.record.partition));
    }

    /// Sorts what was read, for [`GatheredBatch::append_sorted`]. A record of a later release is waited for where `waits` says so, and is
    /// unreadable otherwise.
    pub fn sort(
        &mut self,
        records: &[RawRecord],
        owned: &BTreeMap<u32, ArchivePosition>,
        waits: impl Fn(&RawRecord) -> bool,
    ) -> SortedRecords {
        let mut sorted = SortedRecords::default();
        sorted.batch.records.reserve(records.len());
        sorted.record_sizes.reserve(records.len());
        let mut last: BTreeMap<u32, (u64, &RawRecord)> = BTreeMap::new();
        // Records come in runs of a partition.
        for run in records.chunk_by(|one, next| one.partition == next.partition) {
            let partition = run[0].partition;
            let Some(from) = owned.get(&partition).map(|stands| stands.next_offset) else { continue };
            if let Some(record) = self.sort_run(run, from, &waits, &mut sorted) {
                last.insert(partition, (from, record));
            }
        }
        let span = |(partition, (from, last)): (u32, (u64, &RawRecord))| {
            let (next, last) = (last.offset + 1, Some(last.fingerprint()));
            OffsetRange { partition, first: from, next, last_record: last }
        };
        sorted.batch.offset_ranges = last.into_iter().map(span).collect();
        sorted
    }

    /// Sorts records of one partition, those from an offset on. Returns the last one that the batch covers.
    fn sort_run<'a>(
        &mut self,
        run: &'a [RawRecord],
        from: u64,
        waits: &impl Fn(&RawRecord) -> bool,
        sorted: &mut SortedRecords,
    ) -> Option<&'a RawRecord> {
        let mut last = None;
        if sorted.waiting_partitions.iter().any(|waiting| waiting.partition == run[0].partition) {
            return None;
        }
        for record in run.iter().filter(|record| record.offset >= from) {
            match self.read_shared(record) {
                Err(UnreadableRecord::NewerFormat { format }) if waits(record) => {
                    let (partition, offset) = (record.partition, record.offset);
                    sorted.waiting_partitions.push(WaitingPartition { partition, offset, format });
                    break;
                }
                Ok((readable, first_of_video)) => {
                    sorted.record_sizes.push(RecordSize { bytes: record.value.len(), first_of_video });
                    sorted.batch.records.push(readable);
                }
                Err(error) => {
                    sorted
                        .unreadable_records
                        .push(DeadLetter { record: record.detached(), reason: error.to_string() });
                }
            }
            last = Some(record);
        }
        last
    }

    /// What a record says, or what is wrong with it, and whether it is the first of its video.
    fn read_shared(&mut self, record: &RawRecord) -> Result<(LogRecord, bool), UnreadableRecord> {
        let RawRecord { partition, offset, broker_time, .. } = *record;
        let (videos, mut shared) = (&mut self.videos, false);
        let mut event = Interaction::from_log_of(&record.value, broker_time, |text| {
            let known = videos.get(text).cloned();
            shared = known.is_some();
            known
        })?;
        let first_of_video = !shared && videos.insert(event.video_id.clone());
        if !shared
            && !first_of_video
            && let Some(known) = videos.get(&event.video_id)
        {
            event.video_id = known.clone();
        }
        Ok((LogRecord { partition, offset, broker_time, event }, first_of_video))
    }
}

/// What a record says, or what is wrong with it.
pub fn read_log_record(record: &RawRecord) -> Result<LogRecord, UnreadableRecord> {
    let RawRecord { partition, offset, broker_time, .. } = *record;
    let event = Interaction::from_log(&record.value, broker_time)?;
    Ok(LogRecord { partition, offset, broker_time, event })
}

/// [`GatheredBatch::sort`] for a batch of its own.
pub fn sort_records(
    records: &[RawRecord],
    owned: &BTreeMap<u32, ArchivePosition>,
    waits: impl Fn(&RawRecord) -> bool,
) -> SortedRecords {
    GatheredBatch::default().sort(records, owned, waits)
}

/// A record of a later release, before which its partition stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingPartition {
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// Its format.
    pub format: u64,
}

/// What a record adds to the sizes of a batch.
#[derive(Debug, Clone, Copy)]
struct RecordSize {
    /// How many bytes it has in the log.
    bytes: usize,
    /// Whether the batch had nothing of its video before.
    first_of_video: bool,
}

/// Records by what is to be done with them.
#[derive(Debug, Default)]
pub struct SortedRecords {
    /// The readable ones, as a batch that starts where we stand. It has no spans where nothing is left of them, because
    /// they belong to partitions that were given up, or were counted already, or wait.
    pub batch: Batch,
    /// The sizes of the batch's records.
    record_sizes: Vec<RecordSize>,
    /// The unreadable ones.
    pub unreadable_records: Vec<DeadLetter>,
    /// Where partitions wait for a later release. Nothing behind that is in the batch, or unreadable.
    pub waiting_partitions: Vec<WaitingPartition>,
}

#[cfg(test)]
mod tests {
    use liverank_core::counting::RecordFingerprint;

    use super::*;

    fn owned_positions(next: &[(u32, u64)]) -> BTreeMap<u32, ArchivePosition> {
        next.iter()
            .map(|(partition, next)| (*partition, ArchivePosition { next_offset: *next, last_record: None }))
            .collect()
    }

    fn raw(partition: u32, offset: u64, value: &str) -> RawRecord {
        let value = value.as_bytes().to_vec().into();
        RawRecord { partition, offset, broker_time: 1_700_000_000_000, key: None, value, trace: None }
    }

    const VIEW_JSON: &str = r#"{"video_id":"v","user_id":"u","type":"view"}"#;

    #[test]
    fn a_batch_starts_at_our_position_and_skips_holes_and_unreadable_records() {
        let owned = owned_positions(&[(0, 5), (1, 0)]);
        let records = [raw(0, 7, VIEW_JSON), raw(1, 0, "{"), raw(0, 9, VIEW_JSON), raw(1, 1, "{}")];
        let mark = RecordFingerprint::of(1_700_000_000_000, VIEW_JSON.as_bytes());
        let mark_of_poison = RecordFingerprint::of(1_700_000_000_000, b"{}");
        let SortedRecords { batch, unreadable_records: poison, waiting_partitions: waiting, .. } =
            sort_records(&records, &owned, |_| true);
        assert_eq!(waiting, []);
        assert_eq!(
            batch.offset_ranges,
            [
                OffsetRange { partition: 0, first: 5, next: 10, last_record: Some(mark) },
                OffsetRange { partition: 1, first: 0, next: 2, last_record: Some(mark_of_poison) }
            ]
        );
        assert_eq!(batch.records.len(), 2);
        assert_eq!(poison.len(), 2);
        assert!(poison[1].reason.starts_with("type: is required"), "{}", poison[1].reason);
    }

    #[test]
    fn foreign_and_counted_records_are_skipped() {
        let sorted =
            sort_records(&[raw(3, 0, VIEW_JSON), raw(0, 4, VIEW_JSON)], &owned_positions(&[(0, 5)]), |_| {
                true
            });
        assert_eq!(
            (sorted.batch.offset_ranges.len(), sorted.batch.records.len(), sorted.unreadable_records.len()),
            (0, 0, 0)
        );
    }

    fn take(gathered: &mut GatheredBatch, values: &[String], unique: UniqueKinds) {
        take_with(gathered, values, unique, true);
    }

    fn take_with(
        gathered: &mut GatheredBatch,
        values: &[String],
        unique: UniqueKinds,
        identity_documents: bool,
    ) {
        let records: Vec<_> = values.iter().zip(0..).map(|(value, at)| raw(0, at, value)).collect();
        let sorted = gathered.sort(&records, &owned_positions(&[(0, 0)]), |_| true);
        let besides = CountedBesides { windows: 0, decays: 0, identity_documents };
        gathered.append_sorted(sorted, unique, besides);
    }

    #[test]
    fn all_records_of_a_video_share_its_text() {
        let escaped = VIEW_JSON.replace("\"v\"", "\"\\u0076\"");
        let removed = r#"{"action":"remove_video","role":"moderator"}"#;
        let moderated = format!(
            r#"{{"type":"moderation","version":2,"video_id":"v","user_id":"m","event_id":"e","timestamp":1,"moderation":{removed}}}"#
        );
        let other = VIEW_JSON.replace("\"v\"", "\"w\"");
        let values = [&escaped, VIEW_JSON, &other, &moderated].map(str::to_owned);
        let mut gathered = GatheredBatch::default();
        take(&mut gathered, &values, UniqueKinds::default());
        take(&mut gathered, &values, UniqueKinds::default());
        let ids = || gathered.batch.records.iter().map(|record| &record.event.video_id);
        let texts: HashSet<&str> = ids().map(VideoId::as_str).collect();
        let addresses: HashSet<usize> = ids().map(VideoId::address).collect();
        assert_eq!(
            (gathered.batch.records.len(), texts.len(), addresses.len()),
            (8, 2, 2),
            "{:?}",
            gathered.unreadable_records
        );
    }

    #[test]
    fn a_counted_video_takes_room_once_in_a_batch() {
        let view = |video: usize| format!(r#"{{"video_id":"{video}","user_id":"u","type":"view"}}"#);
        let id = |id: usize| format!(r#"{{"video_id":"0","user_id":"u","type":"view","event_id":"{id}"}}"#);
        let comment = |id: usize| {
            format!(r#"{{"video_id":"0","user_id":"u","type":"comment","comment_id":"{id}","comment":"hi"}}"#)
        };
        let written = |values: Vec<String>, unique: &str| {
            let mut gathered = GatheredBatch::default();
            let count = values.len();
            take(&mut gathered, &values, unique.parse().unwrap());
            assert_eq!(gathered.batch.records.len(), count);
            gathered.written / VIDEO_ARCHIVE_BYTES
        };
        assert_eq!(written(vec![view(0); 50], ""), 1);
        assert!(written((0..50).map(view).collect(), "") >= 50, "videos");
        assert!(written((0..50).map(id).collect(), "") >= 50, "identities");
        assert!(written((0..50).map(comment).collect(), "") >= 50, "comments");
        assert!(written(vec![view(0); 50], "view") >= 50, "marks");
        assert_eq!(written(vec![view(0); 50], "like"), 1);
        let mut in_segments = GatheredBatch::default();
        take_with(&mut in_segments, &(0..50).map(id).collect::<Vec<_>>(), UniqueKinds::default(), false);
        let written = in_segments.written;
        assert!(written / IDENTITY_ARCHIVE_BYTES >= 50 && written < 10 * VIDEO_ARCHIVE_BYTES, "{written}");
    }

    #[test]
    fn a_batch_is_bounded_by_written_bytes_and_by_held_bytes() {
        let long = "x".repeat(250);
        let videos = |step: usize, at: usize| {
            format!(r#"{{"video_id":"{step} {at}{long}","user_id":"u","type":"view"}}"#)
        };
        let users = |step: usize, at: usize| {
            format!(r#"{{"video_id":"{step}","user_id":"{at}{long}","type":"view"}}"#)
        };
        let steps = |value: &dyn Fn(usize, usize) -> String| {
            let mut gathered = GatheredBatch::default();
            let mut steps = 0;
            while gathered.has_room() {
                let values: Vec<_> = (0..1_000).map(|at| value(steps, at)).collect();
                take(&mut gathered, &values, UniqueKinds::default());
                steps += 1;
            }
            (steps, gathered.written >= MAX_ARCHIVE_BYTES, gathered.memory_bytes >= MAX_HELD_BYTES)
        };
        let (few, written, _) = steps(&videos);
        let (many, _, held) = steps(&users);
        assert!(written && held && few < many, "{few} {many}");
    }

    const NEWER_RECORD_JSON: &str = r#"{"video_id":"v","user_id":"u","type":"save","format":99}"#;

    #[test]
    fn a_partition_stops_before_a_record_of_a_later_release_and_the_others_go_on() {
        let records = || {
            let of_two = [
                raw(0, 5, VIEW_JSON),
                raw(1, 0, NEWER_RECORD_JSON),
                raw(0, 6, "{"),
                raw(0, 8, NEWER_RECORD_JSON),
                raw(1, 1, VIEW_JSON),
            ];
            [of_two.as_slice(), &[raw(0, 9, VIEW_JSON), raw(0, 10, "{"), raw(2, 3, VIEW_JSON)]].concat()
        };
        let owned = owned_positions(&[(0, 5), (1, 0), (2, 3)]);
        let SortedRecords { batch, unreadable_records: poison, waiting_partitions: waiting, .. } =
            sort_records(&records(), &owned, |_| true);
        let spans: Vec<_> =
            batch.offset_ranges.iter().map(|span| (span.partition, span.first, span.next)).collect();
        assert_eq!(spans, [(0, 5, 7), (2, 3, 4)]);
        assert_eq!((batch.records.len(), poison.len()), (2, 1));
        let at = |partition, offset| WaitingPartition { partition, offset, format: 99 };
        assert_eq!(waiting, [at(1, 0), at(0, 8)]);

        let SortedRecords { batch, unreadable_records: poison, waiting_partitions: waiting, .. } =
            sort_records(&records(), &owned, |record| record.partition == 1);
        let next: Vec<_> = batch.offset_ranges.iter().map(|span| (span.partition, span.next)).collect();
        assert_eq!((next, waiting), (vec![(0, 11), (2, 4)], vec![at(1, 0)]));
        assert!(poison[1].reason.contains("format 99"), "{}", poison[1].reason);
    }
}
