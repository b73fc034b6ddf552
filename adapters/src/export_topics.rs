//! Topics in which other systems read what happened: each record once, and in order.
//!
//! Only Kafka has such topics ([`crate::EventLog::export_topics`]). Promises, checked by
//! `adapters/tests/real_kafka/export.rs`:
//! 1. Readers of committed records see all records of an [`ExportWriter::write`] or none, and the same holds
//!    for its position.
//! 2. [`ExportTopics::open_writer`] ends the earlier writer of the same source: before the position is read, the
//!    transaction that the earlier writer had under way is committed as a whole, or never will be. Its later
//!    writes are refused with [`ExportError::TakenOver`].
//! 3. The position is that of the last write that took effect; the note is that of the last such write that had a note.
//! 4. Records of one source with the same key are in one partition of the topic, in the order of the writes.

use async_trait::async_trait;

use crate::StoreError;

pub mod memory;

/// A source of exported records. There is one writer for each source at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportSource {
    /// A partition of the log. This source has a position.
    Partition(u32),
    /// The boards. This source has no position.
    Boards {
        /// True if the exporter stores a note with what it writes ([`ExportWriter::write_with_note`]).
        has_note: bool,
    },
}

/// The longest note in bytes: brokers accept 4096 bytes of metadata beside an offset
/// (`offset.metadata.max.bytes`).
pub const MAX_NOTE_BYTES: usize = 4096;

/// A record to be written into an export topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRecord {
    /// The key of the record: the subject of its content. The key decides on the partition of the record.
    pub key: String,
    /// The content of the record, as JSON.
    pub value: String,
}

/// The reason why nothing was written, or why it is unknown whether it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// Another writer has begun for this source after this one. Nothing was written.
    #[error("another exporter took over")]
    TakenOver,
    /// The brokers failed. It is unknown whether the records were written: begin again and read the position.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The writer of one source. After an error the writer is of no use any more: begin again.
#[async_trait]
pub trait ExportWriter: Send + Sync {
    /// Returns the offset of the log from which on nothing is exported yet; 0 if the source has no position.
    fn position(&self) -> u64;

    /// Returns the note of the last write that had one; `None` if the source has none, or the brokers have
    /// forgotten it.
    fn committed_note(&self) -> Option<&str>;

    /// Writes records in one transaction with the position after them, if the source has one. An empty list
    /// of records writes the position alone.
    async fn write(&mut self, records: Vec<ExportRecord>, position: Option<u64>) -> Result<(), ExportError>;

    /// Writes records in one transaction with a note of at most [`MAX_NOTE_BYTES`], which replaces the
    /// earlier note.
    async fn write_with_note(&mut self, records: Vec<ExportRecord>, note: String) -> Result<(), ExportError>;
}

/// The topics that other systems read.
#[async_trait]
pub trait ExportTopics: Send + Sync {
    /// Creates the topic if it is absent, and checks its settings.
    async fn prepare_topic(&self, topic: &str) -> Result<(), StoreError>;

    /// Makes the returned writer the only one that writes for `source` in the topic. The documentation of this module
    /// lists what a writer can rely on.
    async fn open_writer(
        &self,
        topic: &str,
        source: ExportSource,
    ) -> Result<Box<dyn ExportWriter>, ExportError>;
}
