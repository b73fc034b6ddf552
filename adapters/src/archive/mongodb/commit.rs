//! The transaction that applies a batch: it reads what the core needs, lets the core decide, and writes the core's
//! result.
//!
//! All reads are of one snapshot, and every document that a decision depends on is written too (a partition's offset,
//! a video, an identity). So if two transactions would change what the other one's decisions depend on, they conflict,
//! and one of them runs again. A video whose state is cached ([`super::states`]) is not read: the offset documents,
//! which are read, tell that it is still the same. A video that is taken for a new one is not read either: its
//! document is inserted, which fails if one exists.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use liverank_core::VideoId;
use liverank_core::counting::{
    Batch, BatchEffects, CountingRules, MarkChange, MarkKey, OffsetRange, UniqueMark, VideoState,
    apply_moderated_batch,
};
use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use tokio::time::Instant;

use super::super::{Archive, CommitError, CommitResult};
use super::documents::comment::CommentDoc;
use super::documents::identity::digest_bson;
use super::documents::mark::UniqueMarkDoc;
use super::documents::meta::MetaDoc;
use super::documents::offset::{OffsetDoc, fingerprint_document};
use super::documents::rebuild::RebuildDoc;
use super::documents::video::{VideoDoc, video_change, video_document, video_update};
use super::identities::{CommitIdentities, OffsetChanges};
use super::ownership::{CommitState, session_id};
use super::states::{CachedVideo, VideoStateCache};
use super::stopwatch::Stopwatch;
use super::transaction::{
    AttemptEnd, DocumentExisted, Transaction, abort, never_opened_error, to_raw_documents,
};
use super::{MongoArchive, PART_NAME, decays, swapping};
use crate::StoreError;

/// The time limit of a batch's commit, with conflicts, elections and retries. After this time the caller reads the
/// archive's positions again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause before a conflicting transaction runs again; the first pause is a fraction of it. A transaction
/// takes some ten milliseconds, and the conflicting one must be given time to end.
const MAX_PAUSE: Duration = Duration::from_millis(160);

pub(super) async fn commit(archive: &MongoArchive, batch: &Batch) -> Result<CommitResult, CommitError> {
    if batch.offset_ranges.is_empty() && batch.records.is_empty() {
        let meta = archive.archive_meta().await?.ok_or_else(never_opened_error)?;
        let batch_effects = BatchEffects::default();
        return Ok(CommitResult { batch_effects, meta_in_force: meta, stores_identity_documents: true });
    }
    let deadline = Instant::now() + COMMIT_TIMEOUT;
    let committed = tokio::time::timeout_at(deadline, retry_until_committed(archive, batch)).await;
    committed.unwrap_or_else(|_| {
        let reason =
            format!("a batch of {} was not committed within {COMMIT_TIMEOUT:?}", batch.records.len());
        Err(StoreError::unavailable(PART_NAME, reason).into())
    })
}

async fn retry_until_committed(archive: &MongoArchive, batch: &Batch) -> Result<CommitResult, CommitError> {
    let mut owner = archive.commit_state.lock().await;
    let mut pause = MAX_PAUSE / 32;
    loop {
        let mut session = owner.transaction_session(archive).await?;
        let pinned = archive.of_session(&session);
        let stop = match try_commit(&pinned, &mut session, batch, &mut owner).await {
            Ok(committed) => {
                owner.keep_session(session);
                return Ok(committed);
            }
            Err(stop) => stop,
        };
        if abort(&mut session).await && stop.leaves_session_clean() {
            owner.keep_session(session);
        }
        match stop {
            AttemptEnd::GiveUp(error) => return Err(error),
            AttemptEnd::StoreFailed(error) => return Err(archive.store_error("committing", &error).into()),
            AttemptEnd::FinishSwap(rebuild) => swapping::finish_swap(archive, &rebuild).await?,
            AttemptEnd::YieldToRebuild => tokio::time::sleep(MAX_PAUSE / 16).await,
            AttemptEnd::CountingGap => decays::note_gap(archive).await?,
            AttemptEnd::Retry(error, was_there) => {
                tracing::debug!(part = PART_NAME, %error, ?pause, "the batch conflicts; again");
                // Only that says that a guess was wrong. Two consumers that begin at once conflict on other documents, too, and
                // a consumer that does not guess reads each video that it meets for the first time.
                if was_there == DocumentExisted(true) {
                    owner.state_cache.stop_assuming_new();
                }
                // Jittered, or two that met once would meet again.
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                pause = MAX_PAUSE.min(pause * 2);
            }
        }
    }
}

async fn try_commit(
    archive: &MongoArchive,
    session: &mut ClientSession,
    batch: &Batch,
    owner: &mut CommitState,
) -> Result<CommitResult, AttemptEnd> {
    let me = session_id(session);
    let mut watch = Stopwatch::default();
    let transaction = Transaction::begin(archive, session).await?;
    let mut commit = CommitAttempt { transaction };
    let meta_doc = commit.transaction.read_meta().await?;
    if meta_doc.make_way.as_ref().is_some_and(|way| owner.must_yield(way)) {
        return Err(AttemptEnd::YieldToRebuild);
    }
    let filling = meta_doc.rebuild_being_filled()?;
    let lost_decays = meta_doc.has_lost_decays();
    let meta = meta_doc.clone().into_meta()?;
    let offsets = OffsetDocs::from_docs(commit.transaction.find("offsets", doc! {}).await?);
    let new_offsets = offsets.check_fence(&batch.offset_ranges, &me)?;
    let counts_more = !meta.windows.is_empty() || !meta.decays.is_empty();
    if lost_decays || (counts_more && offsets.has_gap(&batch.offset_ranges)) {
        return Err(AttemptEnd::CountingGap);
    }
    let may_keep = !offsets.has_owner_of_older_release();
    if !may_keep {
        owner.state_cache.clear();
    }
    owner.state_cache.invalidate_unless_at(meta.generation, &batch.offset_ranges, |home| {
        offsets.outside_write_count(home)
    });
    let memory = &mut owner.identities;
    let transaction = &mut commit.transaction;
    let mut identities = CommitIdentities::prepare(transaction, batch, &meta_doc, &offsets.0, memory).await?;
    let sightings = identities.sightings(transaction, batch, memory).await?;
    let videos = commit.read_videos(batch, &mut owner.state_cache).await?;
    let moderated = commit.transaction.read_moderation(batch).await?;
    let marks = commit.read_marks(batch, &meta.counting_rules).await?;
    watch.end_step("reading");
    let known_videos = videos.by_id.values().filter_map(|known| known.state.clone());
    let setup = meta.counting_setup();
    let effects = apply_moderated_batch(&batch.records, known_videos, sightings, moderated, marks, setup);
    watch.end_step("applying");
    identities.decide_offset_changes(&batch.offset_ranges, &offsets.0, &effects.new_identities, memory);
    let left = &videos.losing_partitions;
    commit
        .advance_offsets(&batch.offset_ranges, &new_offsets, left, counts_more, &identities.offset_changes)
        .await?;
    commit.write_effects(&effects, &meta.counting_rules, &videos).await?;
    commit.transaction.write_moderation(&effects).await?;
    if let Some(rebuild) = filling {
        commit.write_next_generation(&effects.videos, &rebuild, &meta.counting_rules).await?;
    }
    watch.end_step("writing videos and comments");
    identities.write(&mut commit.transaction, batch, &effects, memory).await?;
    commit.write_marks(&effects.mark_changes).await?;
    commit.transaction.add_to_windows(&effects.window_changes).await?;
    watch.end_step("writing identities and marks");
    commit.transaction.commit().await?;
    watch.end_step("making it durable");
    let stores_identity_documents = identities.bounds_batches;
    owner.identities.add_segments(identities);
    if may_keep {
        owner.state_cache.insert_written(&batch.offset_ranges, &effects.videos, |id| {
            Some(videos.by_id.get(id)?.home_partition)
        });
    }
    watch.end_step("keeping");
    let (events, changed) = (batch.records.len(), effects.videos.len());
    tracing::debug!(part = PART_NAME, events, videos = changed, ms = %watch, "a batch was committed");
    Ok(CommitResult { batch_effects: effects, meta_in_force: meta, stores_identity_documents })
}

/// The offset documents of all partitions, also of those that other consumers own.
struct OffsetDocs(HashMap<i64, OffsetDoc>);

impl OffsetDocs {
    fn from_docs(found: Vec<OffsetDoc>) -> Self {
        Self(found.into_iter().map(|found| (found.partition, found)).collect())
    }

    /// Refuses a batch whose first offset is not the next one of its partition, or whose partition another archive has
    /// claimed. Returns the partitions that have no offset document yet.
    fn check_fence(&self, spans: &[OffsetRange], me: &Bson) -> Result<HashSet<u32>, AttemptEnd> {
        let mut absent = HashSet::new();
        for &OffsetRange { partition, first: from, .. } in spans {
            let found = self.0.get(&i64::from(partition));
            if found.and_then(|found| found.session.as_ref()).is_some_and(|owner| owner != me) {
                return Err(AttemptEnd::GiveUp(CommitError::TakenOver { partition }));
            }
            let actual = found.map_or(0, |found| found.next as u64);
            if actual != from {
                return Err(AttemptEnd::GiveUp(CommitError::PositionMismatch {
                    partition,
                    expected: from,
                    actual,
                }));
            }
            if found.is_none() {
                absent.insert(partition);
            }
        }
        Ok(absent)
    }

    /// Returns true if records just before these ranges were counted without windows and decays.
    fn has_gap(&self, spans: &[OffsetRange]) -> bool {
        spans.iter().any(|span| self.0.get(&i64::from(span.partition)).is_some_and(OffsetDoc::has_gap))
    }

    /// Returns a count that grows whenever a batch without a record of the partition `home` may have written a video
    /// whose home partition is `home`.
    fn outside_write_count(&self, home: u32) -> i64 {
        self.0.values().map(|found| found.outside_writes(home)).sum()
    }

    fn has_owner_of_older_release(&self) -> bool {
        self.0.values().any(OffsetDoc::is_of_an_older_release)
    }
}

/// The state of a video before a batch.
#[derive(Default)]
struct KnownVideo {
    /// The state; `None` if the video has no document.
    state: Option<VideoState>,
    /// The home partition of the video from now on: one of the batch's own partitions.
    home_partition: u32,
    /// The `_id` that an earlier release gave the video's document, if one did. The document is written anew under
    /// today's `_id`.
    earlier_document_id: Option<Bson>,
}

/// The states of a batch's videos before the batch.
#[derive(Default)]
struct KnownVideos {
    by_id: HashMap<VideoId, KnownVideo>,
    /// Partitions that are not the batch's own, and lose a video to one of the batch's partitions.
    losing_partitions: BTreeSet<u32>,
}

struct CommitAttempt<'a> {
    transaction: Transaction<'a>,
}

impl CommitAttempt<'_> {
    async fn read_marks(
        &mut self,
        batch: &Batch,
        rules: &CountingRules,
    ) -> Result<Vec<(MarkKey, UniqueMark)>, AttemptEnd> {
        let mut keys: Vec<MarkKey> = batch.affected_marks(rules.unique).into_iter().collect();
        keys.sort_unstable();
        let ids = keys.iter().map(digest_bson).collect();
        let found: Vec<UniqueMarkDoc> = self.transaction.find_each("marks", "_id", ids).await?;
        Ok(found.iter().filter_map(UniqueMarkDoc::key_and_mark).collect())
    }

    async fn read_videos(
        &mut self,
        batch: &Batch,
        kept: &mut VideoStateCache,
    ) -> Result<KnownVideos, AttemptEnd> {
        // Other archives that cache states of a partition see by the partition's offset that this batch was there: the
        // offset has to move.
        let moved = batch.offset_ranges.iter().filter(|span| span.next != span.first);
        let partitions: HashSet<u32> = moved.map(|span| span.partition).collect();
        let covered = |home: u32| partitions.contains(&home);
        let first_records: Vec<_> = batch.first_record_of_each_video().collect();
        let by_id = HashMap::with_capacity(first_records.len());
        let mut videos = KnownVideos { by_id, ..KnownVideos::default() };
        let mut unknown: Vec<&str> = Vec::new();
        let moderated = batch.moderated_videos();
        for record in first_records {
            let id = &record.event.video_id;
            let Entry::Vacant(vacant) = videos.by_id.entry(id.clone()) else { continue };
            // A new video, and a video whose home was another partition, is at home where its first record is.
            let mut known = KnownVideo { home_partition: record.partition, ..KnownVideo::default() };
            match kept.look_up(id, record.partition, covered) {
                CachedVideo::Known(state, home) => (known.state, known.home_partition) = (Some(*state), home),
                CachedVideo::New if !moderated.contains(id) => {}
                CachedVideo::New | CachedVideo::Unknown => unknown.push(id.as_str()),
            }
            vacant.insert(known);
        }
        // The ids are sorted so that each command looks at one range of the index, and not at all of it.
        unknown.sort_unstable();
        let ids = unknown.into_iter().map(Bson::from).collect();
        let found: Vec<VideoDoc> = self.transaction.find_each("videos", "video_id", ids).await?;
        for document in found {
            let (foreign_id, home) = (document.earlier_document_id(), document.home());
            let state = document.into_state()?;
            let Some(known) = videos.by_id.get_mut(&state.video_id) else { continue };
            match home {
                Some(home) if covered(home) => known.home_partition = home,
                Some(home) => {
                    videos.losing_partitions.insert(home);
                }
                None => {}
            }
            (known.state, known.earlier_document_id) = (Some(state), foreign_id);
        }
        Ok(videos)
    }

    /// Writes the offsets of the batch's partitions. The offsets come first: a zombie's transaction ends here, before
    /// it locks documents that others wait for. Only the batch's own partitions are written, so two consumers never
    /// conflict on offsets, whatever they count.
    async fn advance_offsets(
        &mut self,
        spans: &[OffsetRange],
        absent: &HashSet<u32>,
        left: &BTreeSet<u32>,
        counts_more: bool,
        notes: &OffsetChanges,
    ) -> Result<(), AttemptEnd> {
        let moved = spans.iter().filter(|span| span.next != span.first || absent.contains(&span.partition));
        // A video that is written has a record, so the partition of that record moves.
        let mut left: Document =
            left.iter().map(|home| (OffsetDoc::outside_writes_member(*home), 1_i64.into())).collect();
        let statements: Vec<Document> = moved
            .clone()
            .map(|span| {
                let id = i64::from(span.partition);
                let mut next = doc! { "next": span.next as i64, "segmented": span.next as i64 };
                next.extend(notes.members_of_partition(id));
                if span.next != span.first {
                    next.insert("last", span.last_record.map(fingerprint_document));
                }
                if counts_more {
                    next.insert("windowed", span.next as i64);
                }
                let mut change = doc! { "$set": next };
                if span.next != span.first && !left.is_empty() {
                    change.insert("$inc", std::mem::take(&mut left));
                }
                if absent.contains(&span.partition) {
                    doc! { "q": { "_id": id }, "u": change, "upsert": true }
                } else {
                    doc! { "q": { "_id": id, "next": span.first as i64 }, "u": change }
                }
            })
            .collect();
        self.transaction.update("offsets", to_raw_documents(statements)?).await?;
        // A barrier that is under way does not know the offset document of a new partition, so both must write the
        // meta document.
        if moved.clone().any(|span| span.first == 0) {
            let touch = doc! { "q": { "_id": MetaDoc::ID }, "u": { "$inc": { "first_commits": 1_i64 } } };
            self.transaction.update("meta", to_raw_documents([touch])?).await?;
        }
        Ok(())
    }

    async fn write_effects(
        &mut self,
        effects: &BatchEffects,
        rules: &CountingRules,
        known: &KnownVideos,
    ) -> Result<(), AttemptEnd> {
        let (mut fresh, mut updates, mut misnamed) = (Vec::new(), Vec::new(), Vec::new());
        let new = KnownVideo::default();
        for after in &effects.videos {
            let KnownVideo { state, home_partition, earlier_document_id } =
                known.by_id.get(&after.video_id).unwrap_or(&new);
            misnamed.extend(earlier_document_id.clone());
            match state.as_ref().filter(|_| earlier_document_id.is_none()) {
                Some(before) => updates.push(video_change(before, after, &rules.weights, *home_partition)),
                None => fresh.push(video_document(after, &rules.weights, *home_partition)),
            }
        }
        self.transaction.delete("videos", misnamed).await?;
        self.transaction.update("videos", updates).await?;
        let archive = self.transaction.archive;
        if !fresh.is_empty() {
            let videos = archive.collection::<RawDocumentBuf>("videos");
            videos.insert_many(fresh).session(&mut *self.transaction.session).await?;
        }
        if effects.archived_comments().next().is_some() {
            // The driver splits these documents into commands of a size that the server accepts.
            let comments = archive.collection::<CommentDoc>("comments");
            let numbered = effects.archived_comments().map(CommentDoc::of);
            comments.insert_many(numbered).session(&mut *self.transaction.session).await?;
        }
        Ok(())
    }

    /// Writes the videos' states, scored by the rules of the next generation, into the collection that the rebuild
    /// under way fills.
    async fn write_next_generation(
        &mut self,
        states: &[VideoState],
        rebuild: &RebuildDoc,
        rules: &CountingRules,
    ) -> Result<(), AttemptEnd> {
        let next = rebuild.rules();
        let statements = states.iter().map(|state| {
            let state = swapping::state_under_new_rules(state.clone(), rules, &next);
            video_update(&state, &next.weights)
        });
        self.transaction.update(&rebuild.next_collection_name("videos"), statements.collect()).await
    }

    /// Sets and removes marks. Two batches that would decide on the same mark also conflict on its video, because the
    /// decision on a mark changes the video.
    async fn write_marks(&mut self, changes: &[MarkChange]) -> Result<(), AttemptEnd> {
        let (mut fresh, mut again, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for MarkChange { key, is_stored: stored, new_value: now } in changes {
            match now {
                Some(mark) if *stored => again.push(UniqueMarkDoc::of(key, mark).update_statement()?),
                Some(mark) => fresh.push(UniqueMarkDoc::of(key, mark)),
                None => gone.push(digest_bson(key)),
            }
        }
        if !fresh.is_empty() {
            let marks = self.transaction.archive.collection::<UniqueMarkDoc>("marks");
            marks.insert_many(fresh).session(&mut *self.transaction.session).await?;
        }
        self.transaction.update("marks", to_raw_documents(again)?).await?;
        self.transaction.delete("marks", gone).await
    }
}
