//! The log of interactions: the one source of truth.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/event_log.rs`:
//! 1. An append that was acknowledged is durable: it survives the death of this process and of the machine
//!    (Kafka: `acks=all`; embedded: a grouped fsync before the answer).
//! 2. Records of one partition have offsets 0, 1, 2, … (holes are allowed, going back is not) and keep them.
//! 3. Records of the same key are in the same partition, in the order in which their appends were
//!    acknowledged.
//! 4. An append that failed may still be in the log (its answer got lost); an append that failed with
//!    [`AppendError::TooLarge`] is not.
//! 5. A consumer group's members own disjoint partitions, all of them together, and each owner reads its
//!    partitions from the offsets that it asked for.
//! 6. A log that is not the one that was read before (its topic was deleted and created anew, or lost its
//!    end, or lost records before they were read) is refused by its reader with [`StoreError::Unusable`], and
//!    never read as if it were.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use liverank_core::Millis;
use liverank_core::counting::RecordFingerprint;
use liverank_core::trace::TraceContext;

use crate::StoreError;
use crate::export_topics::ExportTopics;

pub mod embedded;
pub mod kafka;

/// The name of the log's topic, unless configured otherwise.
pub const DEFAULT_TOPIC: &str = "video_interactions";
/// The suffix of the topic of dead letters, appended to the name of the log's topic.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";
/// The number of partitions of a topic that liverank creates.
pub const CREATED_PARTITION_COUNT: u32 = 12;

/// The position at which a record was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPosition {
    /// The partition of the record.
    pub partition: u32,
    /// The offset of the record in its partition.
    pub offset: u64,
}

/// The reason why an append was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The log is unreachable, slow or full, or has too many appends in flight. It is unknown whether the
    /// record is in the log.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// The record is larger than the log accepts. The record is not in the log.
    #[error("the record of {bytes} bytes is larger than the log takes")]
    TooLarge {
        /// The size of the record in bytes.
        bytes: usize,
    },
}

/// A record as the log holds it. Any program may have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// The partition of the record.
    pub partition: u32,
    /// The offset of the record in its partition.
    pub offset: u64,
    /// The time at which the log appended the record, by the log's clock.
    pub broker_time: Millis,
    /// The key of the record, if any.
    pub key: Option<Bytes>,
    /// The value of the record; empty for a tombstone.
    pub value: Bytes,
    /// The trace span that appended the record; `None` if the span is not recorded. The trace is no part of the
    /// record's content.
    pub trace: Option<Box<TraceContext>>,
}

impl RawRecord {
    /// Returns a fingerprint of the record's content, which tells it from another record at the same
    /// position.
    pub fn fingerprint(&self) -> RecordFingerprint {
        RecordFingerprint::of(self.broker_time, &self.value)
    }

    /// Returns a copy with memory of its own. The memory of the original may be shared with many other
    /// records.
    #[must_use]
    pub fn owned_copy(&self) -> Self {
        let key = self.key.as_deref().map(Bytes::copy_from_slice);
        let value = Bytes::copy_from_slice(&self.value);
        let Self { partition, offset, broker_time, .. } = *self;
        Self { partition, offset, broker_time, key, value, trace: self.trace.clone() }
    }
}

/// The position from which a partition is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadStart {
    /// The partition to read.
    pub partition: u32,
    /// The first offset to read.
    pub offset: u64,
    /// The fingerprint of the record before `offset`, if that record was read. If the log still holds the
    /// offset before this one, the record there must have this fingerprint.
    pub previous_record: Option<RecordFingerprint>,
}

impl ReadStart {
    /// Returns a start at an offset without a check of the record before it.
    pub const fn without_previous(partition: u32, offset: u64) -> Self {
        Self { partition, offset, previous_record: None }
    }
}

/// A range of offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRange {
    /// The partition to read.
    pub partition: u32,
    /// The first offset to read.
    pub first_offset: u64,
    /// The offset after the last one to read.
    pub end_offset: u64,
    /// The fingerprint of the record before `first_offset`, to be checked as [`ReadStart::previous_record`] is.
    pub previous_record: Option<RecordFingerprint>,
}

/// A record that could not be read, on its way to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The unreadable record itself; truncated if it would exceed the log's limit.
    pub record: RawRecord,
    /// The reason why the record could not be read.
    pub reason: String,
}

/// A dead letter as it is read from the topic of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// The position of the dead letter in the topic of dead letters.
    pub letter_position: RecordPosition,
    /// The time at which the record became a dead letter, by the log's clock.
    pub dead_lettered_at: Millis,
    /// The position and time of the original record in the log; `None` if the writer of the dead letter did
    /// not give them. Several dead letters of the same origin count as one: a consumer that dies after it
    /// wrote one writes it again.
    pub origin: Option<DeadLetterOrigin>,
    /// The reason why the record could not be read; empty if the writer of the dead letter did not give it.
    pub reason: String,
    /// The key of the record, if any.
    pub key: Option<Bytes>,
    /// The value of the record.
    pub value: Bytes,
    /// The size of the whole value in bytes, if the value or the key was truncated to fit.
    pub truncated_from: Option<u64>,
}

/// A predicate that returns true for the dead letters that an operation applies to.
pub type DeadLetterFilter<'a> = &'a (dyn Fn(&StoredDeadLetter) -> bool + Send + Sync);

/// The time for which a log keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRetention {
    /// Records stay until somebody removes them.
    Forever,
    /// Records stay for at most this long after they were appended.
    For(Duration),
    /// Records stay until the log is full; the time at which that happens is unknown.
    UntilFull,
    /// The log does not tell its retention.
    Unknown,
}

/// The position and the time of a dead letter's original record in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterOrigin {
    /// The position of the original record.
    pub log_position: RecordPosition,
    /// The time at which the log appended the original record, by the log's clock.
    pub broker_time: Millis,
}

/// An event that [`LogConsumer::next_event`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// This member owns these partitions from now on, in addition to those that it has. The member reads nothing of
    /// these partitions until [`LogConsumer::start_partitions`] gives an offset for each.
    Assigned(Vec<u32>),
    /// This member owns these partitions no longer; buffered records of them are dropped already.
    Revoked(Vec<u32>),
    /// Records of owned partitions, in offset order within each partition. The list is never empty.
    Records(Vec<RawRecord>),
    /// Nothing happened within the time given.
    Idle,
}

/// A member of the consumer group. Dropping it leaves the group.
#[async_trait]
pub trait LogConsumer: Send {
    /// Returns the next event, after waiting at most `max_wait` for it. Records are returned as soon as some
    /// are available, and at most `max_records` of them, so that batches grow under load and latency is least
    /// without load. If the future is dropped while it waits, no event is lost: the next call returns it.
    ///
    /// An offset that the log no longer has is [`StoreError::Unusable`], never a silent skip. If the log may
    /// have been replaced since a partition was started, the partition is revoked and assigned again, so that
    /// its start is checked again.
    async fn next_event(
        &mut self,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<ConsumerEvent, StoreError>;

    /// Reads each partition from its offset on (inclusive). A member that already reads a partition goes back to the
    /// offset, for example after a batch was fenced. Partitions that this member does not own (any more) are ignored.
    /// If the log is not the one that was read before, this call or a later call of `next_event` returns
    /// [`StoreError::Unusable`], before any record of the partition.
    async fn start_partitions(&mut self, starts: &[ReadStart]) -> Result<(), StoreError>;

    /// Reports the group's offsets to the log, for lag monitoring only: counting goes on from the archive's
    /// offsets.
    async fn report_offsets(&mut self, offsets: &[(u32, u64)]);
}

/// Reads offset ranges of the log, outside of any consumer group.
#[async_trait]
pub trait LogReader: Send {
    /// Returns up to `max_records` records (at least 1 must be asked for), in offset order within each
    /// partition; none once all ranges have been read. If the future is dropped while it runs, the reader has
    /// to be dropped, too: records may be lost.
    async fn next_records(&mut self, max_records: usize) -> Result<Vec<RawRecord>, StoreError>;
}

/// Reads dead letters from the log's topic of dead letters.
#[async_trait]
pub trait DeadLetterReader: Send {
    /// Returns up to `max_letters` letters, in offset order within each partition of the dead letters' topic;
    /// none at the end. If the future is dropped while it runs, the reader has to be dropped, too, as with
    /// [`LogReader::next_records`].
    async fn next_dead_letters(&mut self, max_letters: usize) -> Result<Vec<StoredDeadLetter>, StoreError>;
}

/// The log of interactions and its dead letters.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Connects, creates the topics if they are absent, and checks them. This method has to be called once, before all
    /// others; it waits for an unreachable broker only as long as the implementation's connect timeout.
    async fn open(&self) -> Result<(), StoreError>;

    /// Appends one record and returns once it is durable. Appends in flight at once share writes and fsyncs.
    /// The number of appends in flight is bounded; an append over the bound fails at once with
    /// [`AppendError::Unavailable`].
    async fn append(&self, key: &[u8], value: Vec<u8>) -> Result<RecordPosition, AppendError> {
        self.append_traced(key, value, None).await
    }

    /// Appends one record together with the trace span that appends it, which the reader of the record
    /// continues.
    async fn append_traced(
        &self,
        key: &[u8],
        value: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<RecordPosition, AppendError>;

    /// Appends one record to the dead letters and returns once it is durable.
    async fn append_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError>;

    /// Joins the consumer group and returns its new member.
    async fn join_consumer_group(&self) -> Result<Box<dyn LogConsumer>, StoreError>;

    /// Returns the offset after the last record of each partition, by partition number from 0.
    async fn end_offsets(&self) -> Result<Vec<u64>, StoreError>;

    /// Returns the first offset that each partition still holds, by partition number from 0; for an empty
    /// partition, its end.
    async fn first_offsets(&self) -> Result<Vec<u64>, StoreError>;

    /// Reads these ranges, of which no two are of the same partition. A range that the log does not hold as a whole, or
    /// whose previous record has another fingerprint, is [`StoreError::Unusable`], from this call or when the range is
    /// read.
    async fn read_ranges(&self, stretches: &[ReadRange]) -> Result<Box<dyn LogReader>, StoreError>;

    /// Reads the dead letters that exist now: all of them, or the one at a position in their topic (none, if
    /// none is there).
    async fn read_dead_letters(
        &self,
        only: Option<RecordPosition>,
    ) -> Result<Box<dyn DeadLetterReader>, StoreError>;

    /// Removes those dead letters that exist now and for which `is_meant` returns true. Dead letters that
    /// arrive meanwhile are not examined. Returns how many were removed. A process that is killed in the
    /// middle may leave copies of other dead letters, which count as one with their originals
    /// ([`StoredDeadLetter`]).
    async fn remove_dead_letters(&self, is_meant: DeadLetterFilter<'_>) -> Result<u64, StoreError>;

    /// Returns the time for which the log keeps its records.
    async fn record_retention(&self) -> Result<RecordRetention, StoreError>;

    /// Returns the topics for other systems beside the log; `None` if the log is not on Kafka.
    fn export_topics(&self) -> Option<&dyn ExportTopics> {
        None
    }

    /// Returns an error if the log cannot be written to as far as this process knows, without asking the log:
    /// what `/readyz` shows.
    fn check_writable(&self) -> Result<(), StoreError>;
}

/// Returns the error for a log that is not the one that was read before. `log` names the log; `seen` says
/// what the log has instead of the offset that is to be read next.
fn another_log_error(part: &'static str, log: &str, partition: u32, offset: u64, seen: &str) -> StoreError {
    StoreError::unusable(
        part,
        format!(
            "{log} partition {partition}: offset {offset} is to be read next, and {seen}: the log was made anew, or lost \
             records that it had. Going on would miscount: put it back as it was; or start anew from the log as it is with \
             `liverank rebuild mongodb`; or give liverank another topic or prefix"
        ),
    )
}

/// The text for a log in which the record before the next offset has another fingerprint.
const OTHER_RECORD_SEEN: &str = "the record before it is not the one that was read there";
