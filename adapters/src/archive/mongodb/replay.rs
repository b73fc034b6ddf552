//! Counting anew, into an archive of its own beside the one that serves: the same code, other collections, and its own
//! meta document, which belongs to the next generation.

use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use liverank_core::comment::CommentEpoch;
use liverank_core::counting::CountingRules;
use mongodb::bson::{Document, RawArrayBuf, doc, rawdoc};
use tokio::sync::Mutex;

use super::super::{Archive, ArchiveMeta, ArchiveReplay, Progress, RebuildError, ReplayFinish, numbering};
use super::barrier::{self, MetaChange};
use super::decays;
use super::documents::decay::CountedDecayDoc;
use super::documents::meta::MetaDoc;
use super::documents::offset::OffsetDoc;
use super::documents::rebuild::{RebuildDoc, collection_suffix};
use super::documents::video::{VideoDoc, video_update};
use super::documents::windows::CountedWindowsDoc;
use super::transaction::never_opened_error;
use super::windows;
use super::{
    MongoArchive, OPEN_TIMEOUT, PART_NAME, QUERY_TIMEOUT, SINGLE_ANSWER_BATCH_SIZE, opening, swapping,
};
use crate::StoreError;

/// The time for which consumers wait at the end of a replay, while the replay counts the records that they counted
/// last, which takes a second or two. After this time the consumers go on, and the end is tried again.
const YIELD_AT_END: Duration = Duration::from_secs(30);
/// The number of attempts to end a replay while consumers commit all the same, because they have waited long enough.
const MAX_FINISH_ROUNDS: usize = 5;
/// The number of videos that are copied in one step.
const VIDEOS_COPIED_AT_ONCE: usize = 5_000;
/// The collections that a rebuild from the log replaces.
const REPLAYED_COLLECTIONS: [&str; 10] =
    ["videos", "comments", "rules", "moderation", "held", "reports", "seen", "segments", "marks", "offsets"];

/// A replay under way: the archive that serves, and the one that is counted into.
struct MongoReplay {
    live_archive: MongoArchive,
    replayed_archive: MongoArchive,
    token: String,
    numbering_comparison: Mutex<numbering::NumberingComparison>,
}

/// Begins a replay, into an empty archive or into a copy of another database.
pub(super) async fn begin_replay(
    live: &MongoArchive,
    rules: &CountingRules,
    from: Option<&str>,
    progress: Progress<'_>,
) -> Result<Box<dyn ArchiveReplay>, RebuildError> {
    swapping::finish_pending_swap(live).await?;
    let meta = live.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()?;
    let token = swapping::unique_rebuild_name(meta.generation + 1);
    let next = live.in_database(&live.database, collection_suffix(&token));
    let source = from.map(|database| live.in_database(database, String::new()));
    let windows = windows::replay_windows(&meta.windows, source.as_ref()).await?;
    let decays = decays::replay_decays(&meta.decays, source.as_ref()).await?;
    let has_windows = !windows.is_empty();
    let start = MetaDoc::of(&ArchiveMeta {
        generation: meta.generation + 1,
        counting_rules: *rules,
        windows,
        decays,
        ..meta
    });
    live.with_timeout(OPEN_TIMEOUT, "making room for a replay", async {
        swapping::drop_leftovers(live, None).await?;
        opening::create_collections(&next).await?;
        if has_windows {
            windows::create_collection(&next).await?;
        }
        opening::write_meta_if_absent(&next, &start).await
    })
    .await?;
    if let Some(source) = &source {
        copy_archive(source, &next, rules, progress).await?;
    }
    Ok(Box::new(MongoReplay {
        live_archive: live.clone(),
        replayed_archive: next,
        token,
        numbering_comparison: Mutex::default(),
    }))
}

async fn copy_archive(
    from: &MongoArchive,
    to: &MongoArchive,
    rules: &CountingRules,
    progress: Progress<'_>,
) -> Result<(), RebuildError> {
    let name = &from.database;
    let meta = from.read_meta_doc().await?;
    let meta =
        meta.ok_or_else(|| RebuildError::Refused(format!("there is no archive in database {name}")))?;
    let meta = meta.into_meta()?;
    meta.counting_rules.check_rescore(rules).map_err(|why| {
        RebuildError::Refused(format!("the archive in database {name} cannot be begun with: {why}"))
    })?;
    let mut collections =
        vec!["comments", "rules", "moderation", "held", "reports", "seen", "segments", "marks"];
    if !meta.windows.is_empty() {
        collections.push("windows");
    }
    for collection in collections {
        let out = doc! { "$out": { "db": &to.database, "coll": to.collection_name(collection) } };
        // Without a time limit: the server copies alone.
        let copied = from.collection::<Document>(collection).aggregate([out]).await;
        copied.map_err(|error| to.store_error("copying an archive", &error))?;
    }
    let offsets = from
        .with_timeout(QUERY_TIMEOUT, "reading offsets", async {
            let found = from.collection::<Document>("offsets").find(doc! {}).await?;
            let found: Vec<Document> = found.try_collect().await?;
            Ok(found)
        })
        .await?;
    let kept = |mut offset: Document| {
        for member in ["session", "keeper", "segment_keeper"] {
            offset.remove(member);
        }
        offset
    };
    let offsets: Vec<Document> = offsets.into_iter().map(kept).collect();
    if !offsets.is_empty() {
        to.with_timeout(QUERY_TIMEOUT, "copying offsets", async {
            to.collection::<Document>("offsets").insert_many(offsets).await
        })
        .await?;
    }
    copy_videos(from, to, &meta.counting_rules, rules, progress).await?;
    Ok(())
}

async fn copy_videos(
    from: &MongoArchive,
    to: &MongoArchive,
    before: &CountingRules,
    rules: &CountingRules,
    progress: Progress<'_>,
) -> Result<(), StoreError> {
    let of = from
        .with_timeout(QUERY_TIMEOUT, "counting videos", async {
            from.collection::<VideoDoc>("videos").estimated_document_count().await
        })
        .await?;
    let (mut after, mut done) = (None, 0);
    loop {
        let page = from.videos_after(after.as_ref(), VIDEOS_COPIED_AT_ONCE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.video_id.clone());
        done += page.len() as u64;
        let carried = page.into_iter().map(|state| swapping::state_under_new_rules(state, before, rules));
        let mut statements = RawArrayBuf::new();
        for state in carried {
            statements.push(video_update(&state, &rules.weights));
        }
        let command = rawdoc! {
            "update": to.collection_name("videos"), "updates": statements, "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let reply = to
            .with_timeout(OPEN_TIMEOUT, "copying videos", async { to.db().run_raw_command(command).await })
            .await?;
        if let Ok(errors) = reply.get_array("writeErrors") {
            return Err(StoreError::unavailable(PART_NAME, format!("copying videos: {errors:?}")));
        }
        progress(done, of.max(done));
    }
}

#[async_trait]
impl ArchiveReplay for MongoReplay {
    fn archive(&self) -> &dyn Archive {
        &self.replayed_archive
    }

    async fn swap_in(&self, anyway: bool, progress: Progress<'_>) -> Result<ReplayFinish, StoreError> {
        // Most of the comments are compared before the consumers have to wait.
        let live = read_offset_docs(&self.live_archive).await?;
        let next = read_offset_docs(&self.replayed_archive).await?;
        let common: Vec<(u32, u64)> = partition_offsets(&live)
            .map(|(partition, offset)| (partition, offset.min(offset_of_partition(&next, partition))))
            .collect();
        let mut checked = self.numbering_comparison.lock().await;
        checked.compare_up_to(&self.live_archive, &self.replayed_archive, &common, progress).await?;
        let way = barrier::request_yield(&self.live_archive, YIELD_AT_END).await?;
        for _ in 0..MAX_FINISH_ROUNDS {
            let live = read_offset_docs(&self.live_archive).await?;
            let behind: Vec<(u32, u64)> = partition_offsets(&live)
                .filter(|(partition, offset)| offset_of_partition(&next, *partition) < *offset)
                .collect();
            if !behind.is_empty() && !anyway {
                return Ok(ReplayFinish::Behind(behind));
            }
            let all: Vec<(u32, u64)> = partition_offsets(&live).collect();
            checked.compare_up_to(&self.live_archive, &self.replayed_archive, &all, progress).await?;
            let renumbered = checked.found_difference();
            if self.note_swap(&all, renumbered).await? {
                swapping::finish_pending_swap(&self.live_archive).await?;
                let meta =
                    self.live_archive.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()?;
                return Ok(ReplayFinish::Done { meta, renumbered });
            }
        }
        barrier::cancel_yield(&self.live_archive, &way).await?;
        Err(StoreError::unavailable(PART_NAME, "consumers went on committing; finish the replay again"))
    }

    async fn discard_replay(&self) -> Result<(), StoreError> {
        self.live_archive
            .with_timeout(
                QUERY_TIMEOUT,
                "dropping a replay",
                swapping::drop_leftovers(&self.live_archive, None),
            )
            .await
    }
}

impl MongoReplay {
    /// Returns the description of the swap: the collections to be put in place, and `meta` as the result.
    fn swap_description(&self, meta: &ArchiveMeta) -> RebuildDoc {
        let mut collections = REPLAYED_COLLECTIONS.to_vec();
        if !meta.windows.is_empty() {
            collections.push("windows");
        }
        let mut rebuild = RebuildDoc::new(&self.token, meta, RebuildDoc::SWAPPING, &collections);
        rebuild.windows = Some(CountedWindowsDoc::from_windows(&meta.windows));
        rebuild.decays = Some(CountedDecayDoc::from_decays(&meta.decays));
        rebuild
    }

    /// Stores in the meta document that the new collections are to be put in place; returns false if the live
    /// archive's offsets are no longer `checked`.
    async fn note_swap(&self, checked: &[(u32, u64)], renumber: bool) -> Result<bool, StoreError> {
        let counted =
            self.replayed_archive.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()?;
        let minted = CommentEpoch::from_bits(rand::random());
        let next = read_offset_docs(&self.replayed_archive).await?;
        let decide = |meta: &MetaDoc, live: &[OffsetDoc]| {
            let mut now: Vec<(u32, u64)> = partition_offsets(live).collect();
            now.sort_unstable();
            let mut then = checked.to_vec();
            then.sort_unstable();
            if meta.is_swapping() || now != then {
                return Ok(None);
            }
            let meta = meta.clone().into_meta()?;
            let numbering = if renumber { minted.clone() } else { meta.comment_epoch };
            let meta =
                ArchiveMeta { comment_epoch: numbering, generation: meta.generation + 1, ..counted.clone() };
            let rebuild = self.swap_description(&meta);
            // Partitions stay with their owners.
            let owner = |found: &OffsetDoc| {
                let owner = live.iter().find(|live| live.partition == found.partition);
                let mut change = doc! {};
                for (member, value) in [
                    ("session", owner.and_then(|live| live.session.clone())),
                    ("keeper", owner.and_then(|live| live.keeper.clone())),
                    ("segment_keeper", owner.and_then(|live| live.segment_keeper.clone())),
                ] {
                    let (operator, value) = value.map_or(("$unset", "".into()), |value| ("$set", value));
                    let members = change.entry(operator.to_owned()).or_insert_with(|| doc! {}.into());
                    if let Some(members) = members.as_document_mut() {
                        members.insert(member, value);
                    }
                }
                doc! { "q": { "_id": found.partition }, "u": change }
            };
            let owners = (rebuild.next_collection_name("offsets"), next.iter().map(owner).collect());
            let change = doc! { "$set": { "rebuild": swapping::rebuild_to_bson(&rebuild)? } };
            Ok(Some(MetaChange { meta_update: change, other_updates: vec![owners] }))
        };
        barrier::change_meta_while_yielding(&self.live_archive, &decide).await
    }
}

async fn read_offset_docs(archive: &MongoArchive) -> Result<Vec<OffsetDoc>, StoreError> {
    archive.find_documents("offsets", doc! {}, doc! { "_id": 1 }, SINGLE_ANSWER_BATCH_SIZE as usize).await
}

/// Returns each partition with its next offset.
fn partition_offsets(offsets: &[OffsetDoc]) -> impl Iterator<Item = (u32, u64)> {
    offsets.iter().map(|found| (found.partition as u32, found.next as u64))
}

fn offset_of_partition(offsets: &[OffsetDoc], partition: u32) -> u64 {
    let found = offsets.iter().find(|found| found.partition == i64::from(partition));
    found.map_or(0, |found| found.next as u64)
}
