//! Segments of identities in MongoDB, and the copy of them in memory.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use liverank_core::counting::{IdentityTable, Sighting, may_be_merged};
use liverank_core::digest::identity_digest;
use liverank_core::{Invalid, Millis};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::Error;
use serde::{Deserialize, Serialize};

use super::super::documents::damaged_document;
use super::super::documents::identity::{SeenDoc, digest_bson};
use super::super::documents::meta::MetaDoc;
use super::super::documents::offset::OffsetDoc;
use super::super::transaction::{AttemptEnd, Transaction};
use super::super::{MongoArchive, QUERY_TIMEOUT};
use super::CommitIdentities;
use crate::StoreError;

/// The name of the collection of segments.
pub(in crate::archive::mongodb) const SEGMENTS: &str = "segments";
/// The number of identities in memory above which new ones are stored in documents: 128 MiB.
const MAX_IDENTITIES_IN_MEMORY: usize = 8 << 20;
/// The number of a partition's small segments that are remembered for merging; each owner of the partition leaves some
/// 16 behind.
const MAX_OPEN_SEGMENTS: usize = 64;
/// The number of segments forgotten in one call: as much as a commit writes.
const SEGMENTS_FORGOTTEN_AT_ONCE: usize = 100;

/// The key of a segment: its partition, and a number that grows and is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::archive::mongodb) struct SegmentId {
    pub partition: i64,
    pub number: i64,
}

impl SegmentId {
    pub(super) fn to_bson(self) -> Bson {
        doc! { "partition": self.partition, "number": self.number }.into()
    }
}

/// The document of a segment: a sorted list of identities with their times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::archive::mongodb) struct SegmentDoc {
    #[serde(rename = "_id")]
    pub(super) id: SegmentId,
    /// The time at which the log had the newest of the segment's identities.
    newest: Millis,
    count: i64,
    /// The identities, in the form that [`Sighting::encode_all`] writes.
    sightings: Binary,
}

impl SegmentDoc {
    pub(in crate::archive::mongodb) fn of(id: SegmentId, sightings: &[Sighting]) -> Self {
        let newest = sightings.iter().map(|sighting| sighting.time()).max().unwrap_or_default();
        let bytes = Sighting::encode_all(sightings);
        let stored = Binary { subtype: BinarySubtype::Generic, bytes };
        Self { id, newest, count: sightings.len() as i64, sightings: stored }
    }

    pub(super) fn sightings(&self) -> Result<Vec<Sighting>, StoreError> {
        let unsorted =
            || damaged_document(SEGMENTS, &Invalid::new("sightings", "must be sorted, of 16 bytes each"));
        Sighting::decode_all(&self.sightings.bytes).ok_or_else(unsorted)
    }
}

/// The fields of a segment without its identities.
#[derive(Debug, Deserialize)]
struct SegmentHead {
    #[serde(rename = "_id")]
    id: SegmentId,
    count: i64,
}

/// Segments that were read or written, with their identities.
#[derive(Debug, Default)]
pub(super) struct KnownSegments {
    /// The number of the newest known segment, by partition.
    pub(super) newest_numbers: HashMap<i64, i64>,
    /// The number of identities of each segment that may still be merged.
    pub(super) mergeable_segments: BTreeMap<SegmentId, usize>,
    pub(super) identities: IdentityTable,
}

impl KnownSegments {
    pub(super) fn insert(&mut self, id: SegmentId, count: usize, sightings: Vec<Sighting>) {
        let newest = self.newest_numbers.entry(id.partition).or_default();
        *newest = id.number.max(*newest);
        if may_be_merged(count) {
            self.mergeable_segments.insert(id, count);
            // Segments of other owners' partitions are merged by these owners, which do not report it.
            let first = SegmentId { number: i64::MIN, ..id };
            if self.mergeable_segments.range(first..=id).count() > MAX_OPEN_SEGMENTS
                && let Some(oldest) = self.mergeable_segments.range(first..).next().map(|(oldest, _)| *oldest)
            {
                self.mergeable_segments.remove(&oldest);
            }
        }
        self.identities.insert_sorted(sightings);
    }

    fn insert_all(&mut self, others: Self) {
        for (partition, number) in others.newest_numbers {
            let newest = self.newest_numbers.entry(partition).or_default();
            *newest = number.max(*newest);
        }
        self.mergeable_segments.extend(others.mergeable_segments);
        self.identities.insert_table(others.identities);
    }
}

/// The identities of all segments, as far as this archive has read or written them in transactions that took effect.
#[derive(Debug)]
pub(in crate::archive::mongodb) struct IdentityMemory {
    generation: i64,
    forgotten_before: Millis,
    pub(super) known_segments: KnownSegments,
    /// The number of identities above which the memory is full.
    pub max_identities: usize,
}

impl Default for IdentityMemory {
    fn default() -> Self {
        let (known_segments, max_identities) = (KnownSegments::default(), MAX_IDENTITIES_IN_MEMORY);
        Self { generation: 0, forgotten_before: Millis::MIN, known_segments, max_identities }
    }
}

impl IdentityMemory {
    /// Drops the identities that the meta document declares forgotten. Drops all identities if another generation is in
    /// force, because each generation has segments of its own.
    pub(super) fn apply_meta(&mut self, meta: &MetaDoc) {
        if self.generation != meta.generation {
            *self =
                Self { generation: meta.generation, max_identities: self.max_identities, ..Self::default() };
        }
        let forgotten = meta.identities_from.unwrap_or(Millis::MIN);
        if self.forgotten_before != forgotten {
            self.forgotten_before = forgotten;
            self.known_segments.identities.forget_before(forgotten);
        }
    }

    /// Adds the segments that a transaction has read and written, once the transaction has taken effect.
    pub(in crate::archive::mongodb) fn add_segments(&mut self, commit: CommitIdentities) {
        self.known_segments.insert_all(commit.read_segments);
        for id in &commit.merged_segments {
            self.known_segments.mergeable_segments.remove(id);
        }
        self.known_segments.insert_all(commit.written_segments);
    }
}

/// Reads the segments that are in the snapshot of a transaction but not in memory.
pub(super) async fn read_newer_segments(
    transaction: &mut Transaction<'_>,
    offsets: &HashMap<i64, OffsetDoc>,
    memory: &IdentityMemory,
) -> Result<KnownSegments, AttemptEnd> {
    let known = &memory.known_segments.newest_numbers;
    let newer =
        offsets.values().filter(|found| found.segments > known.get(&found.partition).copied().unwrap_or(0));
    let ranges: Vec<Document> = newer
        .map(|found| {
            let first = known.get(&found.partition).map_or(1, |known| known + 1);
            let bound = |number| SegmentId { partition: found.partition, number }.to_bson();
            doc! { "_id": { "$gte": bound(first), "$lte": bound(found.segments) } }
        })
        .collect();
    if ranges.is_empty() && !known.is_empty() {
        return Ok(KnownSegments::default());
    }
    let mut read = KnownSegments::default();
    // The first time, all segments are read: also those from before a rebuild by a release that knows no segments.
    let filter = if known.is_empty() {
        doc! {}
    } else {
        doc! { "$or": ranges }
    };
    let segments = transaction.archive.collection::<SegmentDoc>(SEGMENTS);
    let mut found = segments.find(filter).session(&mut *transaction.session).await?;
    let mut found = found.stream(&mut *transaction.session);
    while let Some(segment) = found.try_next().await? {
        let sightings = segment.sightings()?;
        read.insert(segment.id, sightings.len(), sightings);
    }
    read.identities.forget_before(memory.forgotten_before);
    Ok(read)
}

/// Deletes some of the segments whose identities the log had all before `watermark`; returns the number of identities
/// in the deleted segments.
pub(in crate::archive::mongodb) async fn forget_segments(
    archive: &MongoArchive,
    watermark: Millis,
) -> Result<u64, StoreError> {
    let heads = archive.collection::<SegmentHead>(SEGMENTS);
    let old = doc! { "newest": { "$lt": watermark } };
    let found: Vec<SegmentHead> = archive
        .with_timeout(QUERY_TIMEOUT, "reading old segments", async {
            let found = heads.find(old).projection(doc! { "count": 1 }).sort(doc! { "newest": 1 });
            found.limit(SEGMENTS_FORGOTTEN_AT_ONCE as i64).await?.try_collect().await
        })
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    // The meta document is written first, so that no process keeps in memory what other processes can no longer read.
    let meta = archive.collection::<Document>("meta");
    let from = doc! { "$max": { "identities_from": watermark } };
    let noted = meta.update_one(doc! { "_id": MetaDoc::ID }, from);
    archive.with_timeout(QUERY_TIMEOUT, "noting what is forgotten", async { noted.await }).await?;
    let ids: Vec<Bson> = found.iter().map(|head| head.id.to_bson()).collect();
    let gone = archive.with_timeout(QUERY_TIMEOUT, "forgetting segments", async {
        heads.delete_many(doc! { "_id": { "$in": ids } }).await
    });
    gone.await?;
    Ok(found.iter().map(|head| head.count as u64).sum())
}

/// Reads the identities of all segments. The segments are not read at one moment: each is as it is when it is read.
pub(in crate::archive::mongodb) async fn read_identity_table(
    archive: &MongoArchive,
) -> Result<IdentityTable, StoreError> {
    let wrong = |error: Error| archive.store_error("reading segments", &error);
    let mut table = IdentityTable::default();
    let mut found = archive.collection::<SegmentDoc>(SEGMENTS).find(doc! {}).await.map_err(wrong)?;
    while let Some(segment) = found.try_next().await.map_err(wrong)? {
        table.insert_sorted(segment.sightings()?);
    }
    Ok(table)
}

/// Reads which of these identities the archive remembers, and their times. Identities in segments are looked up in
/// `identities`.
pub(in crate::archive::mongodb) async fn read_sightings(
    archive: &MongoArchive,
    table: &IdentityTable,
    identities: &[String],
) -> Result<Vec<(String, Millis)>, StoreError> {
    let names: BTreeMap<[u8; 16], &String> =
        identities.iter().map(|identity| (identity_digest(identity), identity)).collect();
    let digests: Vec<[u8; 16]> = names.keys().copied().collect();
    let ids: Vec<Bson> = digests.iter().map(digest_bson).collect();
    let stored: Vec<SeenDoc> =
        archive.find_documents("seen", doc! { "_id": { "$in": ids } }, doc! {}, digests.len()).await?;
    let stored = stored.iter().filter_map(|seen| Some((seen.digest()?, seen.time)));
    let mut times: BTreeMap<[u8; 16], Millis> = stored.collect();
    for (place, time) in table.find_sorted(&digests) {
        let known = times.entry(digests[place]).or_insert(time);
        *known = time.max(*known);
    }
    Ok(times
        .into_iter()
        .filter_map(|(digest, time)| Some((String::clone(names.get(&digest)?), time)))
        .collect())
}
