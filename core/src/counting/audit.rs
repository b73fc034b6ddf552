//! The entries of the audit log.

use super::record::LogRecord;
use crate::{Interaction, Millis};

/// One entry of the audit log: an action of a moderator, or the report of a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The time at which the log accepted the record, by the log's clock.
    pub time: Millis,
    /// The partition of the record.
    pub partition: u32,
    /// The offset of the record in the partition.
    pub offset: u64,
    /// The moderation record itself.
    pub record: Interaction,
}

impl AuditEntry {
    pub(super) fn from_record(record: &LogRecord, says: Interaction) -> Self {
        Self { time: record.broker_time, partition: record.partition, offset: record.offset, record: says }
    }
}
