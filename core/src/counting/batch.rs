//! A stretch of the log that is applied as one.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::places::first_records;
use super::{MarkKey, UniqueKinds, event_identities, mark_key, moderating, reporting};
use crate::moderation::RuleChange;
use crate::{CommentId, Interaction, Kind, Millis, VideoId};

/// One readable record of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// When the log took it, by the log's clock.
    pub broker_time: Millis,
    /// What it says.
    pub event: Interaction,
}

/// What a record is besides its place. The same place with another mark is another log: its topic was deleted and made
/// anew, or lost its end and was written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordFingerprint {
    /// When the log took the record, by the log's clock.
    pub broker_time: Millis,
    /// The first eight bytes of the SHA-256 of its value.
    pub digest: u64,
}

impl RecordFingerprint {
    /// The mark of a record with this value.
    pub fn of(broker_time: Millis, value: &[u8]) -> Self {
        let hash = Sha256::digest(value);
        let (first, _) = hash.split_first_chunk().expect("a SHA-256 has 32 bytes");
        Self { broker_time, digest: u64::from_be_bytes(*first) }
    }
}

/// The stretch of one partition that a batch covers: offsets `from` (inclusive) to `next` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition.
    pub partition: u32,
    /// The offset the archive must stand at for the batch to apply.
    pub first: u64,
    /// The offset it stands at afterwards.
    pub next: u64,
    /// The mark of the record at offset `next - 1`; `None` where none was read there.
    pub last_record: Option<RecordFingerprint>,
}

/// A stretch of the log that is applied as one: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The partitions covered, each once. A span may be longer than its records: what could not be read has gone to
    /// the dead letters and is stepped over.
    pub offset_ranges: Vec<OffsetRange>,
    /// The readable records, in log order within each partition.
    pub records: Vec<LogRecord>,
}

impl Batch {
    /// Adds a batch that follows on: in each partition that both cover it starts where this one ends.
    pub fn append(&mut self, next: Self) {
        for span in next.offset_ranges {
            match self.offset_ranges.iter_mut().find(|before| before.partition == span.partition) {
                Some(before) if span.next == span.first => debug_assert_eq!(before.next, span.first),
                Some(before) => (before.next, before.last_record) = (span.next, span.last_record),
                None => self.offset_ranges.push(span),
            }
        }
        self.records.extend(next.records);
    }

    /// Leaves these partitions out.
    pub fn drop_partitions(&mut self, partitions: &[u32]) {
        self.offset_ranges.retain(|span| !partitions.contains(&span.partition));
        self.records.retain(|record| !partitions.contains(&record.partition));
    }

    /// The videos whose state [`super::apply_moderated_batch`] wants to be given.
    pub fn videos(&self) -> HashSet<&VideoId> {
        self.first_records().map(|record| &record.event.video_id).collect()
    }

    /// Of each video the first record, and perhaps others.
    pub fn first_records(&self) -> impl Iterator<Item = &LogRecord> {
        first_records(&self.records)
    }

    /// The videos of moderation records. What these do depends on the state of the video, also where they do not change it:
    /// what any other event decides by its video's state, it changes.
    pub fn moderated_videos(&self) -> HashSet<&VideoId> {
        let moderated = self.records.iter().filter(|record| record.event.kind == Kind::Moderation);
        moderated.map(|record| &record.event.video_id).collect()
    }

    /// The comments that [`super::apply_moderated_batch`] wants to be given, where they are stored: of several with the same identity the newest.
    pub fn moderation_targets(&self) -> HashSet<(&VideoId, &CommentId)> {
        moderating::targets(&self.records).collect()
    }

    /// The entries that it wants to be given beside them, by their numbers.
    pub fn targets_by_seq(&self) -> HashSet<(&VideoId, u64)> {
        moderating::numbered_targets(&self.records).collect()
    }

    /// The comments whose reports it wants to be given, where there are any.
    pub fn reported_comments(&self) -> HashSet<(&VideoId, &CommentId)> {
        self.records.iter().filter_map(|record| reporting::reported(&record.event)).collect()
    }

    /// Whether [`super::apply_moderated_batch`] wants to be given the latest revision of the rules.
    pub fn changes_rules(&self) -> bool {
        self.records.iter().any(|record| RuleChange::of(&record.event, 0).is_some())
    }

    /// The marks that [`super::apply_moderated_batch`] wants to be given, where they are set.
    pub fn affected_marks(&self, unique: UniqueKinds) -> HashSet<MarkKey> {
        let of = |event| mark_key(event, unique).into_iter().chain(moderating::forgotten_marks(event));
        self.records.iter().flat_map(|record| of(&record.event)).collect()
    }

    /// The identities whose earlier sighting [`super::apply_moderated_batch`] wants to be given.
    pub fn event_identities(&self) -> HashSet<String> {
        self.records.iter().flat_map(|record| event_identities(&record.event)).collect()
    }
}
