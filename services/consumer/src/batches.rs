//! Turns records of the log into batches: sorts readable from unreadable records, and bounds the size of a batch.

use std::collections::{BTreeMap, HashSet};

use liverank_adapters::archive::ArchivePosition;
use liverank_adapters::event_log::{DeadLetter, RawRecord};
use liverank_core::counting::{
    Batch, LogRecord, OffsetRange, UniqueKinds, extra_written_bytes, has_effects_beyond_counts,
};
use liverank_core::decays::MAX_DECAYS;
use liverank_core::windows::MAX_WINDOW_KINDS;
use liverank_core::{Interaction, UnreadableRecord, VideoId};

/// Maximum number of bytes of the archive's memory that the commit of a batch may use, as estimated by
/// [`GatheredBatch::append_classified`]. A MongoDB with the smallest cache that we support (512 MiB) refuses a
/// transaction that changes about 75 MiB, and slows down all others before that.
const MAX_ARCHIVE_BYTES: usize = 48 << 20;
/// Maximum bytes of this process's memory for the records of a batch. There are two batches: one that is being
/// committed and one that is gathered.
const MAX_BATCH_MEMORY_BYTES: usize = 64 << 20;
/// Estimated bytes of the archive's memory that the counters of a video and the bookkeeping for them use.
const VIDEO_ARCHIVE_BYTES: usize = 600;
/// Estimated bytes of the archive's memory that a video's counters in one window use, without the video's id.
const WINDOW_ARCHIVE_BYTES: usize = 400;
/// Estimated bytes of the archive's memory that a score by one half-life uses, in a video's document and in one mark.
const DECAY_ARCHIVE_BYTES: usize = 150;
/// Estimated bytes of the archive's memory for an event's identity in a segment: its 16 bytes in the segment, in the
/// log of operations, and in the segment that it is merged with.
const IDENTITY_ARCHIVE_BYTES: usize = 48;

/// The optional state that the archive counts beside the counters of each video; it makes a commit larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalCounting {
    /// Number of kinds of windows that are counted.
    pub window_kind_count: usize,
    /// Number of half-lives that boards have of their own.
    pub half_life_count: usize,
    /// Whether the identity of each event has a document of its own (and is not in a segment).
    pub identity_documents: bool,
}

impl OptionalCounting {
    /// The largest possible values; used until the first commit returns the real ones.
    pub const MAXIMUM: Self =
        Self { window_kind_count: MAX_WINDOW_KINDS, half_life_count: MAX_DECAYS, identity_documents: true };
}

/// The records that were read and are not being committed yet.
#[derive(Default)]
pub struct GatheredBatch {
    /// The readable records.
    pub batch: Batch,
    /// The unreadable records, which become dead letters before the batch's offsets are committed.
    pub unreadable_records: Vec<DeadLetter>,
    /// The ids of the batch's videos: all records of a video share one text in memory.
    videos: HashSet<VideoId>,
    /// Upper estimate of the bytes of the archive's memory that the commit will use.
    archive_bytes: usize,
    /// Estimated bytes of this process's memory that the records use.
    memory_bytes: usize,
}

impl GatheredBatch {
    /// Returns whether more records may be added.
    pub const fn has_room(&self) -> bool {
        self.archive_bytes < MAX_ARCHIVE_BYTES && self.memory_bytes < MAX_BATCH_MEMORY_BYTES
    }

    /// Adds the next records to the batch, and their sizes to its estimates. `unique` are the types of which each
    /// event leaves a mark; `counted` is the optional state that the archive counts.
    ///
    /// The content of a record is written to a document, to the indexes of the document and to the log of operations.
    /// But an event that is only counted leaves nothing but the counts of its video and its identity in a segment: a
    /// thousand such events take as much of the archive's memory as one, apart from their identities.
    pub fn append_classified(
        &mut self,
        sorted: ClassifiedRecords,
        unique: UniqueKinds,
        counted: OptionalCounting,
    ) {
        let ClassifiedRecords {
            batch,
            record_sizes: sizes,
            unreadable_records: poison,
            waiting_partitions: _,
        } = sorted;
        for (record, RecordSize { bytes, first_of_video }) in batch.records.iter().zip(sizes) {
            self.memory_bytes += size_of::<LogRecord>() + bytes;
            let event = &record.event;
            let documents = has_effects_beyond_counts(event, unique);
            if first_of_video || documents || (counted.identity_documents && event.event_id.is_some()) {
                self.archive_bytes += VIDEO_ARCHIVE_BYTES + 3 * bytes + extra_written_bytes(event);
                self.archive_bytes += counted.half_life_count * DECAY_ARCHIVE_BYTES;
            }
            if event.event_id.is_some() {
                self.archive_bytes += IDENTITY_ARCHIVE_BYTES;
            }
            if first_of_video {
                self.archive_bytes +=
                    counted.window_kind_count * (WINDOW_ARCHIVE_BYTES + 2 * event.video_id.as_str().len());
            }
        }
        for letter in &poison {
            self.memory_bytes += size_of::<DeadLetter>() + letter.record.value.len();
        }
        self.batch.append(batch);
        self.unreadable_records.extend(poison);
    }

    /// Removes the records of these partitions from the batch. The sizes of the removed records count until the batch
    /// is committed.
    pub fn drop_partitions(&mut self, partitions: &[u32]) {
        self.batch.drop_partitions(partitions);
        self.unreadable_records.retain(|letter| !partitions.contains(&letter.record.partition));
    }

    /// Separates records that were read into readable records, unreadable records and partitions that wait, to be added
    /// to the batch. At a record of a later release the partition waits if `waits` returns true for the record;
    /// otherwise the record is unreadable.
    pub fn classify(
        &mut self,
        records: &[RawRecord],
        owned: &BTreeMap<u32, ArchivePosition>,
        waits: impl Fn(&RawRecord) -> bool,
    ) -> ClassifiedRecords {
        let mut sorted = ClassifiedRecords::default();
        sorted.batch.records.reserve(records.len());
        sorted.record_sizes.reserve(records.len());
        let mut last: BTreeMap<u32, (u64, &RawRecord)> = BTreeMap::new();
        // Records come in runs of a partition.
        for run in records.chunk_by(|one, next| one.partition == next.partition) {
            let partition = run[0].partition;
            let Some(from) = owned.get(&partition).map(|stands| stands.next_offset) else { continue };
            if let Some(record) = self.classify_partition(run, from, &waits, &mut sorted) {
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

    /// Separates the records of one partition from the offset `from` on into readable and unreadable ones. Returns the
    /// last record that the batch covers; `None` if it covers none.
    fn classify_partition<'a>(
        &mut self,
        run: &'a [RawRecord],
        from: u64,
        waits: &impl Fn(&RawRecord) -> bool,
        sorted: &mut ClassifiedRecords,
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
                        .push(DeadLetter { record: record.owned_copy(), reason: error.to_string() });
                }
            }
            last = Some(record);
        }
        last
    }

    /// Parses a record, with a shared text for its video's id. Returns the record and whether it is the first of its
    /// video in the batch, or the reason why it cannot be read.
    fn read_shared(&mut self, record: &RawRecord) -> Result<(LogRecord, bool), UnreadableRecord> {
        let RawRecord { partition, offset, broker_time, .. } = *record;
        let (videos, mut shared) = (&mut self.videos, false);
        let mut event = Interaction::from_log_with_known_ids(&record.value, broker_time, |text| {
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

/// Parses a record of the log. Returns the reason if the record cannot be read.
pub fn read_log_record(record: &RawRecord) -> Result<LogRecord, UnreadableRecord> {
    let RawRecord { partition, offset, broker_time, .. } = *record;
    let event = Interaction::from_log(&record.value, broker_time)?;
    Ok(LogRecord { partition, offset, broker_time, event })
}

/// Separates records into readable records, unreadable records and partitions that wait, as for an empty batch.
pub fn classify_records(
    records: &[RawRecord],
    owned: &BTreeMap<u32, ArchivePosition>,
    waits: impl Fn(&RawRecord) -> bool,
) -> ClassifiedRecords {
    GatheredBatch::default().classify(records, owned, waits)
}

/// The position of a record of a later release: its partition is not read beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingPartition {
    /// The partition that waits.
    pub partition: u32,
    /// The offset of the record.
    pub offset: u64,
    /// The format of the record: newer than this release can read.
    pub format: u64,
}

/// The values of one record by which a batch's size is estimated.
#[derive(Debug, Clone, Copy)]
struct RecordSize {
    /// Bytes of the record's value in the log.
    bytes: usize,
    /// Whether the record is the first of its video in the batch.
    first_of_video: bool,
}

/// Records of the log, separated into readable ones, unreadable ones and partitions that wait.
#[derive(Debug, Default)]
pub struct ClassifiedRecords {
    /// The readable records, as a batch that starts at the next offset of each partition. The batch has no offset
    /// ranges if no record is left: all belong to partitions that were given up, were counted already, or wait.
    pub batch: Batch,
    /// The sizes of the batch's records, in the same order.
    record_sizes: Vec<RecordSize>,
    /// The unreadable records, as dead letters.
    pub unreadable_records: Vec<DeadLetter>,
    /// The partitions that wait for a later release. Records behind the one at which a partition waits are neither in
    /// the batch nor among the unreadable records.
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
        let ClassifiedRecords { batch, unreadable_records: poison, waiting_partitions: waiting, .. } =
            classify_records(&records, &owned, |_| true);
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
        let sorted = classify_records(
            &[raw(3, 0, VIEW_JSON), raw(0, 4, VIEW_JSON)],
            &owned_positions(&[(0, 5)]),
            |_| true,
        );
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
        let sorted = gathered.classify(&records, &owned_positions(&[(0, 0)]), |_| true);
        let besides = OptionalCounting { window_kind_count: 0, half_life_count: 0, identity_documents };
        gathered.append_classified(sorted, unique, besides);
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
            gathered.archive_bytes / VIDEO_ARCHIVE_BYTES
        };
        assert_eq!(written(vec![view(0); 50], ""), 1);
        assert!(written((0..50).map(view).collect(), "") >= 50, "videos");
        assert!(written((0..50).map(id).collect(), "") >= 50, "identities");
        assert!(written((0..50).map(comment).collect(), "") >= 50, "comments");
        assert!(written(vec![view(0); 50], "view") >= 50, "marks");
        assert_eq!(written(vec![view(0); 50], "like"), 1);
        let mut in_segments = GatheredBatch::default();
        take_with(&mut in_segments, &(0..50).map(id).collect::<Vec<_>>(), UniqueKinds::default(), false);
        let written = in_segments.archive_bytes;
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
            (
                steps,
                gathered.archive_bytes >= MAX_ARCHIVE_BYTES,
                gathered.memory_bytes >= MAX_BATCH_MEMORY_BYTES,
            )
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
        let ClassifiedRecords { batch, unreadable_records: poison, waiting_partitions: waiting, .. } =
            classify_records(&records(), &owned, |_| true);
        let spans: Vec<_> =
            batch.offset_ranges.iter().map(|span| (span.partition, span.first, span.next)).collect();
        assert_eq!(spans, [(0, 5, 7), (2, 3, 4)]);
        assert_eq!((batch.records.len(), poison.len()), (2, 1));
        let at = |partition, offset| WaitingPartition { partition, offset, format: 99 };
        assert_eq!(waiting, [at(1, 0), at(0, 8)]);

        let ClassifiedRecords { batch, unreadable_records: poison, waiting_partitions: waiting, .. } =
            classify_records(&records(), &owned, |record| record.partition == 1);
        let next: Vec<_> = batch.offset_ranges.iter().map(|span| (span.partition, span.next)).collect();
        assert_eq!((next, waiting), (vec![(0, 11), (2, 4)], vec![at(1, 0)]));
        assert!(poison[1].reason.contains("format 99"), "{}", poison[1].reason);
    }
}
