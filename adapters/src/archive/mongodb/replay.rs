//! Counting anew, into an archive of its own beside the one that serves: the same code, other collections, and its own
//! meta document, which belongs to the next generation.

use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use liverank_core::comment::CommentEpoch;
use liverank_core::counting::Rules;
use mongodb::bson::{Document, RawArrayBuf, doc, rawdoc};
use tokio::sync::Mutex;

use super::super::{Archive, Finished, Meta, Progress, RebuildError, Replay, numbering};
use super::barrier::{self, Change};
use super::documents::{MetaDoc, OffsetDoc, RebuildDoc, VideoDoc, suffix, video_update};
use super::transaction::never_opened;
use super::{MongoArchive, OPEN_TIMEOUT, PART, READ_TIMEOUT, WHOLE, opening, store_error, swapping, within};
use crate::StoreError;

/// For how long consumers wait at the end of a replay, while it counts what they counted last: half of what they were
/// ahead by at the time is a second or two of counting; beyond this they go on, and the end is tried again.
const WAY: Duration = Duration::from_secs(30);
/// How often the end is tried when consumers commit all the same, because they had gone on waiting for too long.
const ROUNDS: usize = 5;
/// Videos copied at once.
const PAGE: usize = 5_000;
/// What a rebuild from the log replaces.
const COLLECTIONS: [&str; 9] =
    ["videos", "comments", "rules", "moderation", "held", "reports", "seen", "marks", "offsets"];

/// A replay under way.
struct MongoReplay {
    live: MongoArchive,
    next: MongoArchive,
    token: String,
    checked: Mutex<numbering::Checked>,
}

/// Begins one, empty or as a copy of another database.
pub(super) async fn begin(
    live: &MongoArchive,
    rules: &Rules,
    from: Option<&str>,
    progress: Progress<'_>,
) -> Result<Box<dyn Replay>, RebuildError> {
    swapping::finish_any(live).await?;
    let meta = live.meta_doc().await?.ok_or_else(never_opened)?.into_meta()?;
    let token = swapping::unique_rebuild_name(meta.generation + 1);
    let next = live.beside(live.db.name(), suffix(&token));
    let start = MetaDoc::of(&Meta { generation: meta.generation + 1, rules: *rules, ..meta });
    within(OPEN_TIMEOUT, "making room for a replay", async {
        swapping::clear(live, None).await?;
        opening::create(&next).await?;
        opening::settle(&next, &start).await
    })
    .await?;
    if let Some(database) = from {
        copy(&live.beside(database, String::new()), &next, rules, progress).await?;
    }
    Ok(Box::new(MongoReplay { live: live.clone(), next, token, checked: Mutex::default() }))
}

async fn copy(
    from: &MongoArchive,
    to: &MongoArchive,
    rules: &Rules,
    progress: Progress<'_>,
) -> Result<(), RebuildError> {
    let name = from.db.name();
    let meta = from.meta_doc().await?;
    let meta =
        meta.ok_or_else(|| RebuildError::Refused(format!("there is no archive in database {name}")))?;
    let meta = meta.into_meta()?;
    meta.rules.rescored_by(rules).map_err(|why| {
        RebuildError::Refused(format!("the archive in database {name} cannot be begun with: {why}"))
    })?;
    for collection in ["comments", "rules", "moderation", "held", "reports", "seen", "marks"] {
        let out = doc! { "$out": { "db": to.db.name(), "coll": to.name(collection) } };
        // As long as it takes: the server does it alone.
        let copied = from.collection::<Document>(collection).aggregate([out]).await;
        copied.map_err(|error| store_error("copying an archive", &error))?;
    }
    let offsets = within(READ_TIMEOUT, "reading offsets", async {
        let found = from.collection::<Document>("offsets").find(doc! {}).await?;
        let found: Vec<Document> = found.try_collect().await?;
        Ok(found)
    })
    .await?;
    let kept = |mut offset: Document| {
        for member in ["session", "keeper"] {
            offset.remove(member);
        }
        offset
    };
    let offsets: Vec<Document> = offsets.into_iter().map(kept).collect();
    if !offsets.is_empty() {
        within(READ_TIMEOUT, "copying offsets", async {
            to.collection::<Document>("offsets").insert_many(offsets).await
        })
        .await?;
    }
    copy_videos(from, to, &meta.rules, rules, progress).await?;
    Ok(())
}

async fn copy_videos(
    from: &MongoArchive,
    to: &MongoArchive,
    before: &Rules,
    rules: &Rules,
    progress: Progress<'_>,
) -> Result<(), StoreError> {
    let of = within(READ_TIMEOUT, "counting videos", async {
        from.collection::<VideoDoc>("videos").estimated_document_count().await
    })
    .await?;
    let (mut after, mut done) = (None, 0);
    loop {
        let page = from.videos_after(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.video_id.clone());
        done += page.len() as u64;
        let carried = page.into_iter().map(|state| swapping::carried_over(state, before, rules));
        let mut statements = RawArrayBuf::new();
        for state in carried {
            statements.push(video_update(&state, &rules.weights));
        }
        let command = rawdoc! {
            "update": to.name("videos"), "updates": statements, "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let reply =
            within(OPEN_TIMEOUT, "copying videos", async { to.db.run_raw_command(command).await }).await?;
        if let Ok(errors) = reply.get_array("writeErrors") {
            return Err(StoreError::unavailable(PART, format!("copying videos: {errors:?}")));
        }
        progress(done, of.max(done));
    }
}

#[async_trait]
impl Replay for MongoReplay {
    fn archive(&self) -> &dyn Archive {
        &self.next
    }

    async fn finish(&self, anyway: bool, progress: Progress<'_>) -> Result<Finished, StoreError> {
        // Most of the comments are compared before anybody has to wait.
        let live = offsets(&self.live).await?;
        let next = offsets(&self.next).await?;
        let common: Vec<(u32, u64)> = place(&live)
            .map(|(partition, offset)| (partition, offset.min(stand(&next, partition))))
            .collect();
        let mut checked = self.checked.lock().await;
        checked.go_on(&self.live, &self.next, &common, progress).await?;
        let way = barrier::ask_for_way(&self.live, WAY).await?;
        for _ in 0..ROUNDS {
            let live = offsets(&self.live).await?;
            let behind: Vec<(u32, u64)> =
                place(&live).filter(|(partition, offset)| stand(&next, *partition) < *offset).collect();
            if !behind.is_empty() && !anyway {
                return Ok(Finished::Behind(behind));
            }
            let all: Vec<(u32, u64)> = place(&live).collect();
            checked.go_on(&self.live, &self.next, &all, progress).await?;
            let renumbered = checked.differ();
            if self.swap(&all, renumbered).await? {
                swapping::finish_any(&self.live).await?;
                let meta = self.live.meta_doc().await?.ok_or_else(never_opened)?.into_meta()?;
                return Ok(Finished::Done { meta, renumbered });
            }
        }
        barrier::give_way_back(&self.live, &way).await?;
        Err(StoreError::unavailable(PART, "consumers went on committing; finish the replay again"))
    }

    async fn abandon(&self) -> Result<(), StoreError> {
        within(READ_TIMEOUT, "dropping a replay", swapping::clear(&self.live, None)).await
    }
}

impl MongoReplay {
    /// Notes that the new collections are to be put in place, unless the live archive has moved on from `checked`.
    async fn swap(&self, checked: &[(u32, u64)], renumber: bool) -> Result<bool, StoreError> {
        let rules = self.next.meta_doc().await?.ok_or_else(never_opened)?.into_meta()?.rules;
        let minted = CommentEpoch::from_bits(rand::random());
        let next = offsets(&self.next).await?;
        let decide = |meta: &MetaDoc, live: &[OffsetDoc]| {
            let mut now: Vec<(u32, u64)> = place(live).collect();
            now.sort_unstable();
            let mut then = checked.to_vec();
            then.sort_unstable();
            if meta.is_swapping() || now != then {
                return Ok(None);
            }
            let meta = meta.clone().into_meta()?;
            let numbering = if renumber { minted.clone() } else { meta.numbering };
            let meta = Meta { numbering, generation: meta.generation + 1, rules };
            let rebuild = RebuildDoc::new(&self.token, &meta, RebuildDoc::SWAPPING, &COLLECTIONS);
            // Partitions stay with those who have them.
            let owner = |found: &OffsetDoc| {
                let owner = live.iter().find(|live| live.partition == found.partition);
                let mut change = doc! {};
                for (member, value) in [
                    ("session", owner.and_then(|live| live.session.clone())),
                    ("keeper", owner.and_then(|live| live.keeper.clone())),
                ] {
                    let (operator, value) = value.map_or(("$unset", "".into()), |value| ("$set", value));
                    let members = change.entry(operator.to_owned()).or_insert_with(|| doc! {}.into());
                    if let Some(members) = members.as_document_mut() {
                        members.insert(member, value);
                    }
                }
                doc! { "q": { "_id": found.partition }, "u": change }
            };
            let owners = (rebuild.source("offsets"), next.iter().map(owner).collect());
            let change = doc! { "$set": { "rebuild": swapping::rebuild_to_bson(&rebuild)? } };
            Ok(Some(Change { meta: change, others: vec![owners] }))
        };
        barrier::change_meta_while_yielding(&self.live, &decide).await
    }
}

async fn offsets(archive: &MongoArchive) -> Result<Vec<OffsetDoc>, StoreError> {
    archive.find("offsets", doc! {}, doc! { "_id": 1 }, WHOLE as usize).await
}

/// Where partitions stand.
fn place(offsets: &[OffsetDoc]) -> impl Iterator<Item = (u32, u64)> {
    offsets.iter().map(|found| (found.partition as u32, found.next as u64))
}

fn stand(offsets: &[OffsetDoc], partition: u32) -> u64 {
    let found = offsets.iter().find(|found| found.partition == i64::from(partition));
    found.map_or(0, |found| found.next as u64)
}
