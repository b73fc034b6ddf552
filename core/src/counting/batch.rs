//! Batches: parts of the log that are applied as a whole.

use std::collections::HashSet;

use super::identity::event_identities;
use super::marks::{MarkKey, mark_key};
use super::places::first_record_of_each_id;
use super::record::{LogRecord, RecordFingerprint};
use super::unique::UniqueKinds;
use super::{moderating, reporting};
use crate::moderation::RuleChange;
use crate::{CommentId, Kind, VideoId};

/// The range of offsets that a batch covers in one partition: `first` (inclusive) to `next` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition of the offsets.
    pub partition: u32,
    /// The offset at which the archive must be for the batch to be applied.
    pub first: u64,
    /// The archive's next offset after the batch.
    pub next: u64,
    /// The fingerprint of the record at offset `next - 1`; `None` if no record was read there.
    pub last_record: Option<RecordFingerprint>,
}

/// A part of the log that is applied as a whole: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The ranges of offsets that the batch covers, one per partition. A range may be longer than its records:
    /// unreadable records have become dead letters and are skipped.
    pub offset_ranges: Vec<OffsetRange>,
    /// The records that could be read, in log order within each partition.
    pub records: Vec<LogRecord>,
}

impl Batch {
    /// Appends the batch that follows this one: in each partition that both cover, `next` starts where this one ends.
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

    /// Removes these partitions from the batch.
    pub fn drop_partitions(&mut self, partitions: &[u32]) {
        self.offset_ranges.retain(|span| !partitions.contains(&span.partition));
        self.records.retain(|record| !partitions.contains(&record.partition));
    }

    /// Returns the videos whose state [`super::apply_batch`] needs as input.
    pub fn videos(&self) -> HashSet<&VideoId> {
        self.first_record_of_each_video().map(|record| &record.event.video_id).collect()
    }

    /// Returns the first record of each video, and perhaps further records of it.
    pub fn first_record_of_each_video(&self) -> impl Iterator<Item = &LogRecord> {
        first_record_of_each_id(&self.records)
    }

    /// Returns the videos of moderation records. The effect of a moderation record depends on the state of its video,
    /// even if the record does not change that state. Every other event whose effect depends on its video's state also
    /// changes that state.
    pub fn moderated_videos(&self) -> HashSet<&VideoId> {
        let moderated = self.records.iter().filter(|record| record.event.kind == Kind::Moderation);
        moderated.map(|record| &record.event.video_id).collect()
    }

    /// Returns the comments that [`super::apply_moderated_batch`] needs as input if they are stored: of several with
    /// the same identity, the newest.
    pub fn moderation_targets(&self) -> HashSet<(&VideoId, &CommentId)> {
        moderating::target_comments(&self.records).collect()
    }

    /// Returns further entries that [`super::apply_moderated_batch`] needs as input, by their sequence numbers.
    pub fn moderation_targets_by_seq(&self) -> HashSet<(&VideoId, u64)> {
        moderating::targets_by_seq(&self.records).collect()
    }

    /// Returns the comments whose stored reports [`super::apply_moderated_batch`] needs as input.
    pub fn reported_comments(&self) -> HashSet<(&VideoId, &CommentId)> {
        self.records.iter().filter_map(|record| reporting::reported_comment(&record.event)).collect()
    }

    /// Whether [`super::apply_moderated_batch`] needs the latest revision of the comment rules as input.
    pub fn changes_rules(&self) -> bool {
        self.records.iter().any(|record| RuleChange::from_record(&record.event, 0).is_some())
    }

    /// Returns the keys of the marks that [`super::apply_moderated_batch`] needs as input if they are set.
    pub fn affected_marks(&self, unique: UniqueKinds) -> HashSet<MarkKey> {
        let of = |event| mark_key(event, unique).into_iter().chain(moderating::keys_of_removed_marks(event));
        self.records.iter().flat_map(|record| of(&record.event)).collect()
    }

    /// Returns the identities whose earlier sightings [`super::apply_batch`] needs as input.
    pub fn event_identities(&self) -> HashSet<String> {
        self.records.iter().flat_map(|record| event_identities(&record.event)).collect()
    }
}
