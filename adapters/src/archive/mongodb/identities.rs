//! The identities of events in segments, and the copy of all segments in memory, which saves reading them (ADR 039).
//!
//! A segment holds the identities of the events that a commit counted. All segments in a commit's snapshot are in
//! memory before the commit decides: the offset documents give the number of each partition's newest segment. So an
//! identity that is not in memory is new, unless it is in a document of its own (`seen`):
//! [`CommitIdentities::reads_documents`].

use std::collections::{BTreeSet, HashMap, HashSet};

use liverank_core::counting::{
    Batch, BatchEffects, OffsetRange, REPEAT_WINDOW_MS, Sighting, event_identities, identity_of_event,
    merge_sorted, segments_to_merge,
};
use liverank_core::digest::identity_digest;
use liverank_core::{Kind, Millis};
use mongodb::bson::{Document, doc};

use super::documents::identity::{SeenDoc, digest_bson};
use super::documents::meta::MetaDoc;
use super::documents::offset::OffsetDoc;
use super::transaction::{AttemptEnd, Transaction, to_raw_documents};

mod segments;

pub(super) use segments::{
    IdentityMemory, SEGMENTS, SegmentDoc, SegmentId, forget_segments, read_identity_table, read_sightings,
};
use segments::{KnownSegments, read_newer_segments};

/// The number of identities that one transaction may write as documents: more may take too much of MongoDB's cache
/// ([`CommitResult::stores_identity_documents`] is what keeps batches below it). A larger batch was gathered before its
/// consumer knew that, and its identities are written as a segment.
///
/// [`CommitResult::stores_identity_documents`]: super::super::CommitResult::stores_identity_documents
const MAX_DOCUMENTS_A_COMMIT: usize = 100_000;

/// The identities of a batch: those that the archive knows, and those that the commit writes.
pub(super) struct CommitIdentities {
    /// The digests of the identities of the batch's events other than comments, sorted, each with the index of its record
    /// in the batch.
    event_digests: Vec<([u8; 16], usize)>,
    /// The segments that were read for this commit because they are newer than those in memory.
    read_segments: KnownSegments,
    /// The segments that the commit writes.
    written_segments: KnownSegments,
    /// The segments that were merged into those that the commit writes.
    merged_segments: Vec<SegmentId>,
    /// The names of identities that have a document in `seen` already.
    stored_documents: HashSet<String>,
    /// True if identities of events may be in documents, so that the commit reads the documents, too.
    reads_documents: bool,
    /// True if new identities of events are written as documents.
    writes_documents: bool,
    /// True if batches are to be small enough for their identities to be documents.
    pub bounds_batches: bool,
    /// The changes to the offset documents.
    pub offset_changes: OffsetChanges,
    /// The time at which the log appended the batch's newest record.
    newest_record_time: Millis,
}

/// The changes to offset documents that a commit makes because of identities.
#[derive(Debug, Default)]
pub(super) struct OffsetChanges {
    /// The newest segment, if the commit writes one.
    pub newest_segment: Option<SegmentId>,
    /// The time until which documents may hold identities of a partition's events, by partition, for partitions for
    /// which it changes.
    pub documents_until: HashMap<i64, Millis>,
}

impl OffsetChanges {
    /// Returns the members to be set in the offset document of a partition.
    pub(super) fn members_of_partition(&self, partition: i64) -> Document {
        let mut members = Document::new();
        if let Some(newest) = self.newest_segment.filter(|newest| newest.partition == partition) {
            members.insert("segments", newest.number);
        }
        if let Some(until) = self.documents_until.get(&partition) {
            members.insert("documents_until", *until);
        }
        members
    }
}

impl CommitIdentities {
    /// Reads the segments that are not in memory, and decides whether documents are read and written, in the
    /// transaction of a commit.
    pub(super) async fn prepare(
        transaction: &mut Transaction<'_>,
        batch: &Batch,
        meta: &MetaDoc,
        offsets: &HashMap<i64, OffsetDoc>,
        memory: &mut IdentityMemory,
    ) -> Result<Self, AttemptEnd> {
        memory.apply_meta(meta);
        let events = event_digests(batch);
        let times = || batch.records.iter().map(|record| record.broker_time);
        let newest_record_time = times().max().unwrap_or_default();
        let read_segments = if events.is_empty() {
            KnownSegments::default()
        } else {
            read_newer_segments(transaction, offsets, memory).await?
        };
        let is_full =
            memory.known_segments.identities.len() + read_segments.identities.len() >= memory.max_identities;
        let has_room = !is_full && times().all(|time| Sighting::from_digest(&[0; 16], time).is_some());
        let older = offsets.values().any(OffsetDoc::is_of_a_release_without_segments);
        let bounds_batches = older || !has_room;
        let writes_documents = bounds_batches && events.len() <= MAX_DOCUMENTS_A_COMMIT;
        let until = offsets.values().filter_map(OffsetDoc::documents_until).max();
        let matter = |until: Millis| times().any(|time| time < until.saturating_add(REPEAT_WINDOW_MS));
        Ok(Self {
            event_digests: events,
            read_segments,
            written_segments: KnownSegments::default(),
            merged_segments: Vec::new(),
            stored_documents: HashSet::new(),
            reads_documents: writes_documents || until.is_some_and(matter),
            writes_documents,
            bounds_batches,
            offset_changes: OffsetChanges::default(),
            newest_record_time,
        })
    }

    /// Returns the identities of the batch that the archive remembers, each with the time of its last sighting.
    pub(super) async fn sightings(
        &mut self,
        transaction: &mut Transaction<'_>,
        batch: &Batch,
        memory: &IdentityMemory,
    ) -> Result<Vec<(String, Millis)>, AttemptEnd> {
        let mut sightings: HashMap<String, Millis> = HashMap::new();
        let digests: Vec<[u8; 16]> = self.event_digests.iter().map(|(digest, _)| *digest).collect();
        for table in [&memory.known_segments.identities, &self.read_segments.identities] {
            for (place, time) in table.find_sorted(&digests) {
                let (_, record) = self.event_digests[place];
                let Some(name) = identity_of_event(&batch.records[record].event) else { continue };
                let known = sightings.entry(name).or_insert(time);
                *known = time.max(*known);
            }
        }
        let may_have_documents = batch.records.iter().filter(|record| {
            self.reads_documents || record.event.comment.is_some() || record.event.kind == Kind::Moderation
        });
        let names: HashMap<[u8; 16], String> = may_have_documents
            .flat_map(|record| event_identities(&record.event))
            .map(|identity| (identity_digest(&identity), identity))
            .collect();
        for (name, time) in stored_documents(transaction, names).await? {
            self.stored_documents.insert(name.clone());
            let known = sightings.entry(name).or_insert(time);
            *known = time.max(*known);
        }
        Ok(sightings.into_iter().collect())
    }

    /// Decides on the changes to the offset documents of these partitions; `new` are the identities that the commit
    /// adds.
    pub(super) fn decide_offset_changes(
        &mut self,
        spans: &[OffsetRange],
        offsets: &HashMap<i64, OffsetDoc>,
        new: &[(String, Millis)],
        memory: &IdentityMemory,
    ) {
        // If the age of a partition's documents is unknown, they are older than the records that come now.
        let now = self.newest_record_time.saturating_add(OffsetDoc::MAX_CLOCK_DIFFERENCE_MS);
        for partition in nonempty_partitions(spans) {
            let Some(found) = offsets.get(&partition) else { continue };
            if let Some(until) =
                found.documents_until().map(|until| if until == Millis::MAX { now } else { until })
            {
                self.offset_changes.documents_until.insert(partition, until);
            }
        }
        let adds = new.iter().any(|(name, _)| !is_comment_identity(name));
        let Some(lead) = nonempty_partitions(spans).next().filter(|_| adds) else { return };
        if self.writes_documents {
            let until = self.offset_changes.documents_until.entry(lead).or_insert(self.newest_record_time);
            *until = self.newest_record_time.max(*until);
        } else {
            let counted =
                |known: &KnownSegments| known.newest_numbers.get(&lead).copied().unwrap_or_default();
            let noted = offsets.get(&lead).map_or(0, |found| found.segments);
            let number = counted(&memory.known_segments).max(counted(&self.read_segments)).max(noted) + 1;
            self.offset_changes.newest_segment = Some(SegmentId { partition: lead, number });
        }
    }

    /// Writes the new identities of a batch as a segment or as documents.
    pub(super) async fn write(
        &mut self,
        transaction: &mut Transaction<'_>,
        batch: &Batch,
        effects: &BatchEffects,
        memory: &IdentityMemory,
    ) -> Result<(), AttemptEnd> {
        let moderated = batch.records.iter().filter(|record| record.event.kind == Kind::Moderation);
        let moderation: HashSet<String> =
            moderated.filter_map(|record| identity_of_event(&record.event)).collect();
        // In a batch that spans more than a day an identity may occur twice: the later time counts.
        let mut documents: HashMap<&str, Millis> = HashMap::new();
        let mut sightings: Vec<Sighting> = Vec::new();
        for (name, time) in &effects.new_identities {
            let in_segment = self.offset_changes.newest_segment.is_some() && !is_comment_identity(name);
            if in_segment {
                sightings.extend(Sighting::from_digest(&identity_digest(name), *time));
            }
            if !in_segment || moderation.contains(name) {
                documents.insert(name, *time);
            }
        }
        write_documents(transaction, documents, &self.stored_documents).await?;
        sightings.sort_unstable();
        self.write_segment(transaction, sightings, &batch.offset_ranges, memory).await
    }

    async fn write_segment(
        &mut self,
        transaction: &mut Transaction<'_>,
        sightings: Vec<Sighting>,
        spans: &[OffsetRange],
        memory: &IdentityMemory,
    ) -> Result<(), AttemptEnd> {
        let Some(id) = self.offset_changes.newest_segment else { return Ok(()) };
        let partitions: BTreeSet<i64> = nonempty_partitions(spans).collect();
        let open =
            memory.known_segments.mergeable_segments.iter().chain(&self.read_segments.mergeable_segments);
        let open = open.filter(|(id, _)| partitions.contains(&id.partition));
        let small = segments_to_merge(open.map(|(id, count)| (*id, *count)), sightings.len());
        let ids = small.iter().map(|id| id.to_bson()).collect();
        // Some segments may be gone: forgotten, or merged by a former owner of their partition.
        let found: Vec<SegmentDoc> = transaction.find_each(SEGMENTS, "_id", ids).await?;
        transaction.delete(SEGMENTS, found.iter().map(|segment| segment.id.to_bson()).collect()).await?;
        let mut whole = sightings.clone();
        for segment in &found {
            whole = merge_sorted(&whole, &segment.sightings()?);
        }
        let segments = transaction.archive.collection::<SegmentDoc>(SEGMENTS);
        segments.insert_one(SegmentDoc::of(id, &whole)).session(&mut *transaction.session).await?;
        self.written_segments.insert(id, whole.len(), sightings);
        self.merged_segments = small;
        Ok(())
    }
}

/// Returns the digests of the events' identities, without those of comments, each with the index of its record. The
/// list is sorted.
fn event_digests(batch: &Batch) -> Vec<([u8; 16], usize)> {
    let named = batch.records.iter().enumerate().filter(|(_, record)| record.event.comment.is_none());
    let digests = named
        .filter_map(|(place, record)| Some((identity_digest(&identity_of_event(&record.event)?), place)));
    let mut digests: Vec<_> = digests.collect();
    digests.sort_unstable();
    digests
}

/// Returns the partitions of the ranges that are not empty, in ascending order: their offset documents are written.
fn nonempty_partitions(spans: &[OffsetRange]) -> impl Iterator<Item = i64> {
    let moved = spans.iter().filter(|span| span.next != span.first);
    moved.map(|span| i64::from(span.partition)).collect::<BTreeSet<_>>().into_iter()
}

/// Returns true if an identity is that of a comment ([`identity_of_event`]).
fn is_comment_identity(identity: &str) -> bool {
    identity.starts_with("c:")
}

/// Reads which of these identities have documents, and the time in each. `names` has the name of each identity by its
/// digest.
async fn stored_documents(
    transaction: &mut Transaction<'_>,
    mut names: HashMap<[u8; 16], String>,
) -> Result<Vec<(String, Millis)>, AttemptEnd> {
    // In the order of the index: neighbours share pages, random ids do not.
    let mut digests: Vec<[u8; 16]> = names.keys().copied().collect();
    digests.sort_unstable();
    let ids = digests.iter().map(digest_bson).collect();
    let found: Vec<SeenDoc> = transaction.find_each("seen", "_id", ids).await?;
    Ok(found.into_iter().filter_map(|seen| Some((names.remove(&seen.digest()?)?, seen.time))).collect())
}

/// Writes identities as documents. The identities in `stored` have documents already, whose times are more than a day
/// ago by the log's clock (otherwise their events would not count): these documents get the new time.
async fn write_documents(
    transaction: &mut Transaction<'_>,
    identities: HashMap<&str, Millis>,
    stored: &HashSet<String>,
) -> Result<(), AttemptEnd> {
    let (again, fresh): (Vec<_>, Vec<_>) = identities.into_iter().partition(|(id, _)| stored.contains(*id));
    if !fresh.is_empty() {
        let mut fresh: Vec<_> = fresh.into_iter().map(|(id, time)| (identity_digest(id), time)).collect();
        fresh.sort_unstable();
        let fresh = fresh.iter().map(|(digest, time)| SeenDoc::of(digest, *time));
        let seen = transaction.archive.collection::<SeenDoc>("seen");
        seen.insert_many(fresh).session(&mut *transaction.session).await?;
    }
    let statements = again.into_iter().map(|(id, time)| {
        let digest = digest_bson(&identity_digest(id));
        doc! { "q": { "_id": digest }, "u": { "$set": { "time": time } } }
    });
    transaction.update("seen", to_raw_documents(statements)?).await
}
