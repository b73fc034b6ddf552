//! The log of interactions: the one source of truth.
//!
//! Promises of every implementation, checked by [`conformance`]:
//! 1. An append that answered is durable: it survives the death of this process and of the machine (Kafka: acks=all;
//!    embedded: fsync before the answer, grouped).
//! 2. Records of one partition have offsets 0, 1, 2, … (holes are allowed, going back is not) and keep them.
//! 3. Records of the same key are in the same partition, in the order of their appends' answers.
//! 4. An append that failed may still be in the log (its answer got lost); one that failed with
//!    [`AppendError::TooLarge`] is not.
//! 5. A consumer group's members own disjoint partitions, all of them together, and each owner reads its partitions
//!    from the offsets that it asked for.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use liverank_core::Millis;

use crate::StoreError;

pub mod conformance;
pub mod embedded;
pub mod kafka;

/// The name of the topic, unless configured otherwise.
pub const TOPIC: &str = "video_interactions";
/// Appended to the topic's name for what cannot be read.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";
/// Partitions of a topic that we create.
pub const PARTITIONS: u32 = 12;

/// Where an append landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
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
}

/// A record that could not be read, on its way to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as it was; truncated where it would exceed the log's limit.
    pub record: RawRecord,
    /// Why it could not be read.
    pub reason: String,
}

/// What a consumer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
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
    /// are at hand, so that batches grow under load and latency is least when calm.
    ///
    /// An offset that the log no longer has is [`StoreError::Unusable`], never a silent skip.
    async fn poll(&mut self, max_records: usize, max_wait: Duration) -> Result<Polled, StoreError>;

    /// Reads each partition from its offset on (inclusive). Also used to go back after a fenced batch. Partitions
    /// that are not owned (any more) are passed over.
    async fn start(&mut self, offsets: &[(u32, u64)]) -> Result<(), StoreError>;

    /// Tells the log how far the group is, for lag monitoring only: the archive's offsets are the ones that count.
    async fn report(&mut self, offsets: &[(u32, u64)]);
}

/// The log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Connects, creates the topics where they are absent, and checks them. Called once, before all else; waits for
    /// an absent broker only as long as the implementation's connect timeout.
    async fn open(&self) -> Result<(), StoreError>;

    /// Appends one record and answers once it is durable. Appends in flight at once share writes and fsyncs; their
    /// number is bounded, and one too many fails at once with [`AppendError::Unavailable`].
    async fn append(&self, key: &[u8], value: Vec<u8>) -> Result<Place, AppendError>;

    /// Appends one record to the dead letters and answers once it is durable.
    async fn bury(&self, letter: &DeadLetter) -> Result<(), StoreError>;

    /// Joins the group of consumers.
    async fn consume(&self) -> Result<Box<dyn LogConsumer>, StoreError>;

    /// The offset after the last record of each partition, by partition number from 0.
    async fn end_offsets(&self) -> Result<Vec<u64>, StoreError>;

    /// Whether the log can be written to as far as this process knows, without asking it: what `/readyz` shows.
    fn health(&self) -> Result<(), StoreError>;
}
