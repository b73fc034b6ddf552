//! The formats of the log's records, and why a record cannot be read.

use serde_json::Value;

use crate::Invalid;

/// The newest record format that this release reads. A record of a later format says so in its member `format`, and a
/// consumer that meets one waits for a release that knows it ([`UnreadableRecord::NewerFormat`]). A record without the
/// member has format 1. A release that writes what this one would misread (another type, another meaning) raises the
/// number for those records only: all others stay readable for this release.
pub const NEWEST_RECORD_FORMAT: u64 = 2;

/// The reason for which a record of the log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableRecord {
    /// A later release wrote the record. The record waits for a release that can read it, and never becomes a dead
    /// letter.
    #[error("the record is of format {format}, and this release reads formats up to {NEWEST_RECORD_FORMAT}")]
    NewerFormat {
        /// The format that the record names.
        format: u64,
    },
    /// The record is malformed: no release reads it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Returns the whole number in `member` of a record if it is greater than `latest`, the newest that this release
/// reads. A value that is not a whole number is no format: foreign records may have such a member.
pub(super) fn version_if_newer(record: &Value, member: &str, latest: u64) -> Option<u64> {
    record.get(member)?.as_u64().filter(|number| *number > latest)
}
