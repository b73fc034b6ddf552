//! The document of a partition's offset, with the partition's owner.

use std::collections::HashMap;

use liverank_core::Millis;
use liverank_core::counting::RecordFingerprint;
use mongodb::bson::{Bson, Document, doc};
use serde::Deserialize;

use super::super::super::ArchivePosition;

/// The offset document of a partition: the next offset to count, the owner, and what older releases have counted.
#[derive(Debug, Deserialize)]
pub struct OffsetDoc {
    #[serde(rename = "_id")]
    pub partition: i64,
    pub next: i64,
    /// The fingerprint of the record before `next`.
    last: Option<FingerprintDoc>,
    /// The session of the archive that claimed the partition last.
    pub session: Option<Bson>,
    /// The session of the archive that claimed the partition last, set only by releases that count outside writes.
    pub keeper: Option<Bson>,
    /// The number of this partition's batches that wrote videos whose home is another partition of which the batch had
    /// no record, by home partition. The map has at most as many entries as there are partitions.
    #[serde(default)]
    outside_writes: HashMap<String, i64>,
    /// The offset up to which the partition is counted in windows and by decays, too. A release that knows neither
    /// windows nor decays does not move this offset.
    #[serde(default)]
    pub windowed: i64,
    /// The number of times that this partition was claimed from an archive that did not count outside writes.
    #[serde(default)]
    uncounted: i64,
    /// The number of the partition's newest segment of identities.
    #[serde(default)]
    pub segments: i64,
    /// The offset up to which the partition is counted by releases that know segments. A release that knows no
    /// segments does not move this offset.
    #[serde(default)]
    segmented: i64,
    /// The time until which documents may hold identities of the partition's events, in milliseconds since 1970.
    #[serde(default)]
    documents_until: Option<Millis>,
    /// The session of the archive that claimed the partition last, set only by releases that read segments.
    #[serde(default)]
    pub segment_keeper: Option<Bson>,
}

impl OffsetDoc {
    /// Returns the name of the member that counts outside writes to videos of this home.
    pub fn outside_writes_member(home: u32) -> String {
        format!("outside_writes.{home}")
    }

    /// Returns a count that grows whenever a batch of this partition without a record of the partition `home` may have
    /// written a video whose home partition is `home`.
    pub fn outside_writes(&self, home: u32) -> i64 {
        self.uncounted + self.outside_writes.get(&home.to_string()).copied().unwrap_or_default()
    }

    /// Returns true if the partition's owner is an archive of a release that does not count its outside writes.
    pub fn is_of_an_older_release(&self) -> bool {
        self.session.is_some() && self.session != self.keeper
    }

    /// The largest difference between the clocks of two partitions' brokers that is assumed, in milliseconds: one
    /// hour.
    pub const MAX_CLOCK_DIFFERENCE_MS: Millis = 3_600_000;

    /// Returns the time until which documents may hold identities of the partition's events; `None` if no document
    /// does. Identities that a release without segments counted are in documents; [`Millis::MAX`] if their age is
    /// unknown.
    pub fn documents_until(&self) -> Option<Millis> {
        let until = |last: &FingerprintDoc| last.broker_time.saturating_add(Self::MAX_CLOCK_DIFFERENCE_MS);
        let older = (self.segmented != self.next).then(|| self.last.as_ref().map_or(Millis::MAX, until));
        older.max(self.documents_until)
    }

    /// Returns true if the partition's owner is an archive that finds no identities in segments.
    pub fn is_of_a_release_without_segments(&self) -> bool {
        self.session.is_some() && self.session != self.segment_keeper
    }

    /// Returns true if the last counted records were counted without windows and decays.
    pub const fn has_gap(&self) -> bool {
        self.windowed != self.next
    }

    /// Returns the statement that ends a gap in the counts of windows and decays: it sets the offset up to which they
    /// are counted to `next`.
    pub fn end_gap_statement(&self) -> Document {
        doc! { "q": { "_id": self.partition }, "u": { "$set": { "windowed": self.next } } }
    }

    pub fn position(&self) -> ArchivePosition {
        let last = self.last.as_ref().map(|mark| mark.fingerprint());
        ArchivePosition { next_offset: self.next as u64, last_record: last }
    }
}

/// The fingerprint of a record as stored: its time and the digest of its content.
#[derive(Debug, Clone, Copy, Deserialize)]
struct FingerprintDoc {
    broker_time: Millis,
    /// The bits of the unsigned digest: BSON has no unsigned numbers.
    digest: i64,
}

impl FingerprintDoc {
    fn fingerprint(self) -> RecordFingerprint {
        RecordFingerprint { broker_time: self.broker_time, digest: self.digest as u64 }
    }
}

/// Returns a record's fingerprint in the form in which it is stored.
pub fn fingerprint_document(mark: RecordFingerprint) -> Document {
    doc! { "broker_time": mark.broker_time, "digest": mark.digest as i64 }
}
