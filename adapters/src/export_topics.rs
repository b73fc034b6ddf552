//! Topics in which other systems read what happened: each record once, and in order.
//!
//! Kafka alone has them ([`crate::EventLog::export_topics`]). Promises, checked by `adapters/tests/real_kafka/export.rs`:
//! 1. Readers of committed records see all of a [`ExportWriter::write`] or nothing of it, and the position with it.
//! 2. [`ExportTopics::begin`] ends whoever wrote for the same source before: what that one had under way is in as a whole, or never will be,
//!    before the position is read. Whatever it writes later is refused with [`ExportError::TakenOver`].
//! 3. The position is the one of the last write that took effect.
//!    So is the note.
//! 4. Records of one source with the same key are in one partition of the topic, in the order of the writes.

use async_trait::async_trait;

use crate::StoreError;

pub mod memory;

/// What is exported, of which there is one writer at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportSource {
    /// A partition of the log. It has a position.
    Partition(u32),
    /// The boards. They have no position.
    Boards {
        /// Whether the exporter notes what it has written, in a text of its own ([`ExportWriter::write_with_note`]).
        has_note: bool,
    },
}

/// What a note may hold: brokers take 4096 bytes beside an offset (`offset.metadata.max.bytes`).
pub const MAX_NOTE_BYTES: usize = 4096;

/// A record on its way into a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRecord {
    /// What it is about: it decides on the partition.
    pub key: String,
    /// What it says, as JSON.
    pub value: String,
}

/// Why nothing was written, or it is not known whether it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// Another writer has begun for this source since. Nothing was written.
    #[error("another exporter took over")]
    TakenOver,
    /// The brokers failed. Unknown whether it was written: begin again, and the position tells.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The writer of one source. After an error it is of no use any more: begin again.
#[async_trait]
pub trait ExportWriter: Send + Sync {
    /// The offset of the log from which on nothing is written yet; 0 where the source has no position.
    fn position(&self) -> u64;

    /// What was noted with the last write that had a note; `None` where the source has none, or the brokers have forgotten it.
    fn note(&self) -> Option<&str>;

    /// Writes records in one transaction with the position after them, where there is one. No records are a position alone.
    async fn write(&mut self, records: Vec<ExportRecord>, position: Option<u64>) -> Result<(), ExportError>;

    /// Writes records in one transaction with a note of at most [`MAX_NOTE_BYTES`], in place of the one before.
    async fn write_with_note(&mut self, records: Vec<ExportRecord>, note: String) -> Result<(), ExportError>;
}

/// The topics.
#[async_trait]
pub trait ExportTopics: Send + Sync {
    /// Creates the topic where it is absent, and checks it.
    async fn prepare(&self, topic: &str) -> Result<(), StoreError>;

    /// Becomes the only one that writes for `source` in the topic. See the promises.
    async fn begin(&self, topic: &str, source: ExportSource) -> Result<Box<dyn ExportWriter>, ExportError>;
}
