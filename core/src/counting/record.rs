//! One record of the log, and its fingerprint, which distinguishes it from another record at the same position.

use sha2::{Digest as _, Sha256};

use crate::{Interaction, Millis};

/// One record of the log that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// The partition of the record.
    pub partition: u32,
    /// The offset of the record in the partition.
    pub offset: u64,
    /// The time at which the log accepted the record, by the log's clock.
    pub broker_time: Millis,
    /// The interaction or moderation that the record holds.
    pub event: Interaction,
}

/// The fingerprint of a record: what identifies it beside its position. If the record at the same position has another
/// fingerprint, the log is another one: the topic was deleted and created again, or lost its last records and was
/// written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordFingerprint {
    /// The time at which the log accepted the record, by the log's clock.
    pub broker_time: Millis,
    /// The first eight bytes of the SHA-256 of the record's value.
    pub digest: u64,
}

impl RecordFingerprint {
    /// Computes the fingerprint of a record with this value.
    pub fn of(broker_time: Millis, value: &[u8]) -> Self {
        let hash = Sha256::digest(value);
        let (first, _) = hash.split_first_chunk().expect("a SHA-256 has 32 bytes");
        Self { broker_time, digest: u64::from_be_bytes(*first) }
    }
}
