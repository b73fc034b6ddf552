//! The log of interactions: the one source of truth.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/event_log.rs`:
//! 1. An append that answered is durable: it survives the death of this process and of the machine (Kafka: acks=all;
//!    embedded: fsync before the answer, grouped).
//! 2. Records of one partition have offsets 0, 1, 2, … (holes are allowed, going back is not) and keep them.
//! 3. Records of the same key are in the same partition, in the order of their appends' answers.
//! 4. An append that failed may still be in the log (its answer got lost); one that failed with
//!    [`AppendError::TooLarge`] is not.
//! 5. A consumer group's members own disjoint partitions, all of them together, and each owner reads its partitions
//!    from the offsets that it asked for.
//! 6. A log that is not the one that was read before (its topic was deleted and made anew, or lost its end, or lost
//!    records before they were read) is refused by its reader with [`StoreError::Unusable`], and never read as if it were.

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

/// The name of the topic, unless configured otherwise.
pub const DEFAULT_TOPIC: &str = "video_interactions";
/// Appended to the topic's name for what cannot be read.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";
/// Partitions of a topic that we create.
pub const CREATED_PARTITIONS: u32 = 12;

/// Where an append landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPosition {
    /// The partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: u64,
}

/// Why an append was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The log is away, slow, full or has too much in flight. Unknown whether the record is in the log.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// The record is larger than the log takes. It is not in the log.
    #[error("the record of {bytes} bytes is larger than the log takes")]
    TooLarge {
        /// The record's size.
        bytes: usize,
    },
}

/// A record as the log holds it. Anyone may have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// When the log took it, by the log's clock.
    pub broker_time: Millis,
    /// Its key, if any.
    pub key: Option<Bytes>,
    /// Its value; empty for a tombstone.
    pub value: Bytes,
    /// The span that appended it, where that is recorded. It is no part of what the record says.
    pub trace: Option<Box<TraceContext>>,
}

impl RawRecord {
    /// Returns a fingerprint of its content, which tells it from another record at the same place.
    pub fn fingerprint(&self) -> RecordFingerprint {
        RecordFingerprint::of(self.broker_time, &self.value)
    }

    /// A copy with memory of its own. The record's own may be that of many others, too.
    #[must_use]
    pub fn detached(&self) -> Self {
        let key = self.key.as_deref().map(Bytes::copy_from_slice);
        let value = Bytes::copy_from_slice(&self.value);
        let Self { partition, offset, broker_time, .. } = *self;
        Self { partition, offset, broker_time, key, value, trace: self.trace.clone() }
    }
}

/// The place from which a partition is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadStart {
    /// The partition.
    pub partition: u32,
    /// The first offset to read.
    pub offset: u64,
    /// The mark of the record before it, where that was read. If the log still holds an offset before this one, it has
    /// to be that record's.
    pub previous_record: Option<RecordFingerprint>,
}

impl ReadStart {
    /// Reads from an offset on, whatever record stands before it.
    pub const fn without_previous(partition: u32, offset: u64) -> Self {
        Self { partition, offset, previous_record: None }
    }
}

/// A part of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRange {
    /// The partition.
    pub partition: u32,
    /// The first offset to read.
    pub first: u64,
    /// The offset after the last one to read.
    pub end: u64,
    /// As in [`ReadStart`].
    pub previous_record: Option<RecordFingerprint>,
}

/// A record that could not be read, on its way to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as it was; truncated where it would exceed the log's limit.
    pub record: RawRecord,
    /// Why it could not be read.
    pub reason: String,
}

/// A dead letter, as it is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Its place among the dead letters.
    pub letter_position: RecordPosition,
    /// When it became a dead letter, by the log's clock.
    pub dead_lettered_at: Millis,
    /// Where it was in the log; `None` where whoever wrote it did not say. Several of the same origin are one: a
    /// consumer that dies after it wrote one writes it again.
    pub origin: Option<LetterOrigin>,
    /// Why it could not be read; empty where whoever wrote it did not say.
    pub reason: String,
    /// Its key, if any.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Bytes,
    /// The whole value's bytes, where the value or the key was cut to fit.
    pub truncated_from: Option<u64>,
}

/// Says of each dead letter whether it is meant.
pub type LetterFilter<'a> = &'a (dyn Fn(&StoredDeadLetter) -> bool + Send + Sync);

/// For how long a log keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRetention {
    /// For good: until somebody removes them.
    ForGood,
    /// For at most this long after they were appended.
    For(Duration),
    /// Until there are too many of them: nobody knows when that is.
    UntilFull,
    /// The log does not say.
    Unknown,
}

/// Where a dead letter was in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterOrigin {
    /// Its place.
    pub log_position: RecordPosition,
    /// When the log took it, by the log's clock.
    pub broker_time: Millis,
}

/// An event that a consumer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// These partitions are this member's from now on, in addition to those it has. It reads nothing of them until
    /// [`LogConsumer::start`] says from where.
    Assigned(Vec<u32>),
    /// These partitions are this member's no longer; buffered records of them are dropped already.
    Revoked(Vec<u32>),
    /// Records of owned partitions, in offset order within each. Never empty.
    Records(Vec<RawRecord>),
    /// Nothing happened within the time given.
    Idle,
}

/// One member of the consumer group. Dropping it leaves the group.
#[async_trait]
pub trait LogConsumer: Send {
    /// The next thing that happened, waiting at most `max_wait` for it: at most `max_records` records, and as many as
    /// are at hand, so that batches grow under load and latency is least when calm. Whoever drops it while it waits
    /// misses nothing: the next poll tells it.
    ///
    /// An offset that the log no longer has is [`StoreError::Unusable`], never a silent skip. Where the log may be another
    /// one since it was started, a partition is revoked and assigned again, so that its start is checked again.
    async fn next_event(
        &mut self,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<ConsumerEvent, StoreError>;

    /// Reads each partition from its offset on (inclusive). Also used to go back after a fenced batch. Partitions
    /// that are not owned (any more) are passed over. Where the log is not the one that was read before, this or a poll
    /// after it, before any record of the partition, is [`StoreError::Unusable`].
    async fn start(&mut self, starts: &[ReadStart]) -> Result<(), StoreError>;

    /// Tells the log how far the group is, for lag monitoring only: the archive's offsets are the ones that count.
    async fn report_offsets(&mut self, offsets: &[(u32, u64)]);
}

/// Reads stretches of the log, outside of any group.
#[async_trait]
pub trait LogReader: Send {
    /// Up to `max_records` records (one at least is asked for), in offset order within each partition; none once all
    /// stretches have been read. Whoever drops it while it runs has to drop the reader, too: the records may be lost.
    async fn next_records(&mut self, max_records: usize) -> Result<Vec<RawRecord>, StoreError>;
}

/// Reads dead letters.
#[async_trait]
pub trait LetterReader: Send {
    /// Up to `max_letters` letters, in the order of their places within each partition of theirs; none at the end.
    /// Dropping it is as with [`LogReader::next_records`].
    async fn next_letters(&mut self, max_letters: usize) -> Result<Vec<StoredDeadLetter>, StoreError>;
}

/// The log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Connects, creates the topics where they are absent, and checks them. Called once, before all else; waits for
    /// an absent broker only as long as the implementation's connect timeout.
    async fn open(&self) -> Result<(), StoreError>;

    /// Appends one record and answers once it is durable. Appends in flight at once share writes and fsyncs; their
    /// number is bounded, and one too many fails at once with [`AppendError::Unavailable`].
    async fn append(&self, key: &[u8], value: Vec<u8>) -> Result<RecordPosition, AppendError> {
        self.append_traced(key, value, None).await
    }

    /// The same, with the span that appends: whoever reads the record goes on with it.
    async fn append_traced(
        &self,
        key: &[u8],
        value: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<RecordPosition, AppendError>;

    /// Appends one record to the dead letters and answers once it is durable.
    async fn append_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError>;

    /// Joins the group of consumers.
    async fn join_consumers(&self) -> Result<Box<dyn LogConsumer>, StoreError>;

    /// The offset after the last record of each partition, by partition number from 0.
    async fn end_offsets(&self) -> Result<Vec<u64>, StoreError>;

    /// The first offset that each partition still holds, by partition number from 0; where it holds none, its end.
    async fn first_offsets(&self) -> Result<Vec<u64>, StoreError>;

    /// Reads these stretches, each of another partition, as they are. A stretch that the log does not hold as a whole,
    /// and one whose mark is another, is [`StoreError::Unusable`], here or when it is read.
    async fn read_ranges(&self, stretches: &[ReadRange]) -> Result<Box<dyn LogReader>, StoreError>;

    /// Reads the dead letters that are there now: all of them, or the one at a place of theirs (none, if none is there).
    async fn read_dead_letters(
        &self,
        only: Option<RecordPosition>,
    ) -> Result<Box<dyn LetterReader>, StoreError>;

    /// Removes dead letters that are there now, those that `is_meant` says. Letters that come meanwhile are not looked at.
    /// Returns how many went. Who is killed in the middle may leave copies of others, which are one ([`StoredDeadLetter`]).
    async fn remove_dead_letters(&self, is_meant: LetterFilter<'_>) -> Result<u64, StoreError>;

    /// For how long records are kept.
    async fn record_retention(&self) -> Result<RecordRetention, StoreError>;

    /// Topics for other systems beside the log; `None` where it is not on Kafka.
    fn export_topics(&self) -> Option<&dyn ExportTopics> {
        None
    }

    /// Whether the log can be written to as far as this process knows, without asking it: what `/readyz` shows.
    fn write_health(&self) -> Result<(), StoreError>;
}

/// The error for a log that is not the one that was read before. `log` names it; `seen` says what it has instead of the
/// offset that is to be read next.
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

/// What is seen where the record before an offset has another mark.
const OTHER_RECORD_SEEN: &str = "the record before it is not the one that was read there";
