//! Segments as they are stored, and as they are kept in memory.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use liverank_core::counting::{IdentityTable, Sighting, identity_digest, may_be_merged};
use liverank_core::{Invalid, Millis};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::Error;
use serde::{Deserialize, Serialize};

use super::super::documents::{MetaDoc, OffsetDoc, SeenDoc, damaged, digest_bson};
use super::super::transaction::{Stop, Transaction};
use super::super::{MongoArchive, QUERY_TIMEOUT, store_error, with_timeout};
use super::CommitIdentities;
use crate::StoreError;

/// The collection.
pub(in crate::archive::mongodb) const SEGMENTS: &str = "segments";
/// Identities in memory from which on new ones get documents: 128 MiB.
const MAX_IDENTITIES_IN_MEMORY: usize = 8 << 20;
/// Segments of a partition that are remembered to be small: an owner leaves some 16.
const MAX_OPEN_SEGMENTS: usize = 64;
/// Segments forgotten a call: as much as a commit writes.
const SEGMENTS_FORGOTTEN_AT_ONCE: usize = 100;

/// Which segment of which partition. Numbers grow, and none comes twice.
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

/// A segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::archive::mongodb) struct SegmentDoc {
    #[serde(rename = "_id")]
    pub(super) id: SegmentId,
    /// When the log had the last of its identities.
    newest: Millis,
    count: i64,
    /// As [`Sighting::write_all`] writes them.
    sightings: Binary,
}

impl SegmentDoc {
    pub(in crate::archive::mongodb) fn of(id: SegmentId, sightings: &[Sighting]) -> Self {
        let newest = sightings.iter().map(|sighting| sighting.time()).max().unwrap_or_default();
        let bytes = Sighting::write_all(sightings);
        let stored = Binary { subtype: BinarySubtype::Generic, bytes };
        Self { id, newest, count: sightings.len() as i64, sightings: stored }
    }

    pub(super) fn sightings(&self) -> Result<Vec<Sighting>, StoreError> {
        let unsorted = || damaged(SEGMENTS, &Invalid::new("sightings", "must be sorted, of 16 bytes each"));
        Sighting::read_all(&self.sightings.bytes).ok_or_else(unsorted)
    }
}

/// What of a segment tells what it holds.
#[derive(Debug, Deserialize)]
struct SegmentHead {
    #[serde(rename = "_id")]
    id: SegmentId,
    count: i64,
}

/// Segments that were read or written.
#[derive(Debug, Default)]
pub(super) struct KnownSegments {
    /// The number of the newest one, by partition.
    pub(super) newest: HashMap<i64, i64>,
    /// How many identities those have that may still be merged.
    pub(super) open: BTreeMap<SegmentId, usize>,
    pub(super) table: IdentityTable,
}

impl KnownSegments {
    pub(super) fn insert(&mut self, id: SegmentId, count: usize, sightings: Vec<Sighting>) {
        let newest = self.newest.entry(id.partition).or_default();
        *newest = id.number.max(*newest);
        if may_be_merged(count) {
            self.open.insert(id, count);
            // Those of others are merged by others, and nobody says so.
            let first = SegmentId { number: i64::MIN, ..id };
            if self.open.range(first..=id).count() > MAX_OPEN_SEGMENTS
                && let Some(oldest) = self.open.range(first..).next().map(|(oldest, _)| *oldest)
            {
                self.open.remove(&oldest);
            }
        }
        self.table.insert_sorted(sightings);
    }

    fn insert_all(&mut self, others: Self) {
        for (partition, number) in others.newest {
            let newest = self.newest.entry(partition).or_default();
            *newest = number.max(*newest);
        }
        self.open.extend(others.open);
        self.table.insert_table(others.table);
    }
}

/// The identities of all segments, as far as this archive has seen them in transactions that took effect.
#[derive(Debug)]
pub(in crate::archive::mongodb) struct IdentityMemory {
    generation: i64,
    forgotten_before: Millis,
    pub(super) known: KnownSegments,
    /// Identities from which on it is full.
    pub max: usize,
}

impl Default for IdentityMemory {
    fn default() -> Self {
        let (known, max) = (KnownSegments::default(), MAX_IDENTITIES_IN_MEMORY);
        Self { generation: 0, forgotten_before: Millis::MIN, known, max }
    }
}

impl IdentityMemory {
    /// Drops what the meta document says to be past. The segments of a generation are in collections of its own.
    pub(super) fn follow(&mut self, meta: &MetaDoc) {
        if self.generation != meta.generation {
            *self = Self { generation: meta.generation, max: self.max, ..Self::default() };
        }
        let forgotten = meta.identities_from.unwrap_or(Millis::MIN);
        if self.forgotten_before != forgotten {
            self.forgotten_before = forgotten;
            self.known.table.forget_before(forgotten);
        }
    }

    /// Keeps what a transaction has read and written, now that it has taken effect.
    pub(in crate::archive::mongodb) fn keep(&mut self, commit: CommitIdentities) {
        self.known.insert_all(commit.read);
        for id in &commit.merged {
            self.known.open.remove(id);
        }
        self.known.insert_all(commit.written);
    }
}

/// Reads the segments that the snapshot of a transaction has and the memory lacks.
pub(super) async fn read_newer_segments(
    transaction: &mut Transaction<'_>,
    offsets: &HashMap<i64, OffsetDoc>,
    memory: &IdentityMemory,
) -> Result<KnownSegments, Stop> {
    let known = &memory.known.newest;
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
    // At first all there are: also those of before a rebuild by a release that knows none.
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
    read.table.forget_before(memory.forgotten_before);
    Ok(read)
}

/// Forgets segments of which the log had all identities before `watermark`; returns how many identities that were.
pub(in crate::archive::mongodb) async fn forget_segments(
    archive: &MongoArchive,
    watermark: Millis,
) -> Result<u64, StoreError> {
    let heads = archive.collection::<SegmentHead>(SEGMENTS);
    let old = doc! { "newest": { "$lt": watermark } };
    let found: Vec<SegmentHead> = with_timeout(QUERY_TIMEOUT, "reading old segments", async {
        let found = heads.find(old).projection(doc! { "count": 1 }).sort(doc! { "newest": 1 });
        found.limit(SEGMENTS_FORGOTTEN_AT_ONCE as i64).await?.try_collect().await
    })
    .await?;
    if found.is_empty() {
        return Ok(0);
    }
    // First, so that no memory holds for longer what nobody else can know of.
    let meta = archive.collection::<Document>("meta");
    let from = doc! { "$max": { "identities_from": watermark } };
    let noted = meta.update_one(doc! { "_id": MetaDoc::ID }, from);
    with_timeout(QUERY_TIMEOUT, "noting what is forgotten", async { noted.await }).await?;
    let ids: Vec<Bson> = found.iter().map(|head| head.id.to_bson()).collect();
    let gone = with_timeout(QUERY_TIMEOUT, "forgetting segments", async {
        heads.delete_many(doc! { "_id": { "$in": ids } }).await
    });
    gone.await?;
    Ok(found.iter().map(|head| head.count as u64).sum())
}

/// Reads all segments, each as it is when it is read.
pub(in crate::archive::mongodb) async fn read_table(
    archive: &MongoArchive,
) -> Result<IdentityTable, StoreError> {
    let wrong = |error: Error| store_error("reading segments", &error);
    let mut table = IdentityTable::default();
    let mut found = archive.collection::<SegmentDoc>(SEGMENTS).find(doc! {}).await.map_err(wrong)?;
    while let Some(segment) = found.try_next().await.map_err(wrong)? {
        table.insert_sorted(segment.sightings()?);
    }
    Ok(table)
}

/// Reads which of these identities the archive remembers; of those in segments `table` tells.
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
