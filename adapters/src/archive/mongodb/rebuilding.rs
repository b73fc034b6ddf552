//! Starting a generation, and scoring anew while consumers go on committing.
//!
//! A rescore fills a copy of `videos` page by page. From the barrier before the first page on, commits write both
//! collections. A state is absolute, so the later of two writes of a video is right, and two that overlap conflict.

use async_trait::async_trait;
use liverank_core::Millis;
use liverank_core::counting::{CountingRules, MarkKey, UniqueMark};
use mongodb::bson::{Document, doc};
use mongodb::{ClientSession, IndexModel, options::IndexOptions};

use super::super::{
    ArchiveMeta, ArchiveRebuild, ArchiveReplay, ArchiveSnapshot, CommitError, Progress, RebuildError,
};
use super::barrier::{self, MetaChange};
use super::documents::meta::MetaDoc;
use super::documents::rebuild::RebuildDoc;
use super::documents::video::{VideoDoc, video_update};
use super::transaction::{AttemptEnd, Transaction, abort, never_opened_error};
use super::{
    MongoArchive, OPEN_TIMEOUT, PART_NAME, QUERY_TIMEOUT, SINGLE_ANSWER_BATCH_SIZE, cut, identities, replay,
    swapping,
};
use crate::StoreError;

/// The number of videos in one transaction of a rescore: some ten milliseconds of work, as for a commit, because the
/// two may have to wait for each other.
const VIDEOS_A_PAGE: i64 = 500;
/// The pause between two attempts at a page that conflicted with a commit.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(5);
/// The time limit of a page, with its conflicts.
const PAGE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

#[async_trait]
impl ArchiveRebuild for MongoArchive {
    async fn bump_generation(&self) -> Result<ArchiveMeta, StoreError> {
        swapping::finish_pending_swap(self).await?;
        let bump = |meta: &MetaDoc, _: &[_]| {
            let mut more = doc! { "generation": 1_i64 };
            // A rescore under way goes on, towards a generation after this one.
            if meta.is_swapping() {
                return Ok(None);
            }
            if meta.rebuild.is_some() {
                more.insert("rebuild.generation", 1_i64);
            }
            if !meta.decays.is_empty() {
                more.insert("decays_of", 1_i64);
            }
            Ok(Some(MetaChange { meta_update: doc! { "$inc": more }, other_updates: Vec::new() }))
        };
        while !barrier::change_meta(self, &bump).await? {
            swapping::finish_pending_swap(self).await?;
        }
        Ok(self.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()?)
    }

    async fn rescore_videos(
        &self,
        rules: &CountingRules,
        progress: Progress<'_>,
    ) -> Result<ArchiveMeta, RebuildError> {
        swapping::finish_pending_swap(self).await?;
        let meta = self.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()?;
        meta.counting_rules.check_rescore(rules).map_err(RebuildError::Refused)?;
        let rebuild = self.begin_filling(rules).await?;
        let filled = self.fill_next_collection(&rebuild.token, rules, progress).await;
        if let Err(error) = filled {
            // A collection that is being filled costs every commit; the next rebuild begins a new one.
            let _ = self.stop_filling(&rebuild.token).await;
            return Err(error.into());
        }
        self.begin_swapping(&rebuild.token).await?;
        swapping::finish_pending_swap(self).await?;
        Ok(self.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()?)
    }

    async fn begin_replay(
        &self,
        rules: &CountingRules,
        from: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Box<dyn ArchiveReplay>, RebuildError> {
        replay::begin_replay(self, rules, from, progress).await
    }

    async fn read_snapshot(&self, of: Option<&str>) -> Result<ArchiveSnapshot, StoreError> {
        match of {
            Some(database) => cut::read_snapshot(&self.in_database(database, String::new())).await,
            None => cut::read_snapshot(self).await,
        }
    }

    async fn known_identities(
        &self,
        of: Option<&str>,
        names: &[String],
    ) -> Result<Vec<(String, Millis)>, StoreError> {
        match of {
            Some(database) => {
                let snapshot = self.in_database(database, String::new());
                // Nobody writes to this database, so its segments are read once.
                let mut tables = self.snapshot_identities.lock().await;
                let table = match tables.remove(database) {
                    Some(table) => table,
                    None => identities::read_identity_table(&snapshot).await?,
                };
                let found = identities::read_sightings(&snapshot, &table, names).await;
                tables.insert(database.to_owned(), table);
                found
            }
            None => {
                identities::read_sightings(self, &identities::read_identity_table(self).await?, names).await
            }
        }
    }

    async fn read_marks(
        &self,
        of: Option<&str>,
        keys: &[MarkKey],
    ) -> Result<Vec<(MarkKey, UniqueMark)>, StoreError> {
        match of {
            Some(database) => cut::read_marks(&self.in_database(database, String::new()), keys).await,
            None => cut::read_marks(self, keys).await,
        }
    }
}

/// Returns the error of a rebuild that another rebuild has replaced.
fn overtaken_error() -> StoreError {
    StoreError::unusable(PART_NAME, "another rebuild has begun meanwhile, and this one has given way to it")
}

impl MongoArchive {
    /// Creates an empty collection to fill, then makes all commits write to it as well, by a barrier.
    async fn begin_filling(&self, rules: &CountingRules) -> Result<RebuildDoc, StoreError> {
        let found = self.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()?;
        let next = |meta: &ArchiveMeta| ArchiveMeta {
            generation: meta.generation + 1,
            counting_rules: *rules,
            ..meta.clone()
        };
        let token = swapping::unique_rebuild_name(found.generation + 1);
        let rebuild = RebuildDoc::new(&token, &next(&found), RebuildDoc::FILLING, &["videos"]);
        let name = rebuild.next_collection_name("videos");
        self.with_timeout(OPEN_TIMEOUT, "making room for a rebuild", async {
            swapping::drop_leftovers(self, None).await?;
            self.db().create_collection(&name).await?;
            let unique = IndexOptions::builder().unique(true).build();
            let index = IndexModel::builder().keys(doc! { "video_id": 1 }).options(unique).build();
            self.db().collection::<Document>(&name).create_index(index).await
        })
        .await?;
        let begin = |meta: &MetaDoc, _: &[_]| {
            if meta.is_swapping() {
                return Ok(None);
            }
            let meta = meta.clone().into_meta()?;
            let rebuild = RebuildDoc::new(&token, &next(&meta), RebuildDoc::FILLING, &["videos"]);
            let change = doc! { "$set": { "rebuild": swapping::rebuild_to_bson(&rebuild)? } };
            Ok(Some(MetaChange { meta_update: change, other_updates: Vec::new() }))
        };
        if !barrier::change_meta(self, &begin).await? {
            return Err(overtaken_error());
        }
        self.with_timeout(
            QUERY_TIMEOUT,
            "dropping what an earlier rebuild left",
            swapping::drop_leftovers(self, None),
        )
        .await?;
        Ok(rebuild)
    }

    async fn fill_next_collection(
        &self,
        token: &str,
        rules: &CountingRules,
        progress: Progress<'_>,
    ) -> Result<(), StoreError> {
        let of = self
            .with_timeout(QUERY_TIMEOUT, "counting videos", async {
                self.collection::<Document>("videos").estimated_document_count().await
            })
            .await?;
        let (mut after, mut done) = (None, 0);
        loop {
            let page =
                tokio::time::timeout(PAGE_TIMEOUT, self.rescore_page(token, rules, after.as_deref())).await;
            let late =
                |_| StoreError::unavailable(PART_NAME, format!("a page took more than {PAGE_TIMEOUT:?}"));
            let (count, last) = page.map_err(late)??;
            done += count;
            progress(done, of.max(done));
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Scores the next page; returns how many videos it had, and the last video's id unless that was the last page.
    async fn rescore_page(
        &self,
        token: &str,
        rules: &CountingRules,
        after: Option<&str>,
    ) -> Result<(u64, Option<String>), StoreError> {
        loop {
            let session = self.client().start_session().await;
            let mut session = session.map_err(|error| self.store_error("starting a session", &error))?;
            let archive = self.of_session(&session);
            match archive.try_rescore_page(&mut session, token, rules, after).await {
                Ok(done) => return Ok(done),
                Err(stop) => {
                    abort(&mut session).await;
                    match stop {
                        AttemptEnd::GiveUp(CommitError::Store(error)) => return Err(error),
                        AttemptEnd::StoreFailed(error) => {
                            return Err(archive.store_error("scoring anew", &error));
                        }
                        AttemptEnd::FinishSwap(_) => return Err(overtaken_error()),
                        _ => tokio::time::sleep(RETRY_AFTER).await,
                    }
                }
            }
        }
    }

    async fn try_rescore_page(
        &self,
        session: &mut ClientSession,
        token: &str,
        rules: &CountingRules,
        after: Option<&str>,
    ) -> Result<(u64, Option<String>), AttemptEnd> {
        let mut transaction = Transaction::begin(self, session).await?;
        let meta = transaction.read_meta().await?;
        let rebuild = meta
            .rebuild_being_filled()?
            .filter(|rebuild| rebuild.token == token)
            .ok_or_else(overtaken_error)?;
        let now = meta.into_meta()?.counting_rules;
        let filter = after.map_or_else(Document::new, |id| doc! { "video_id": { "$gt": id } });
        let videos = self.collection::<VideoDoc>("videos");
        let find = videos
            .find(filter)
            .sort(doc! { "video_id": 1 })
            .limit(VIDEOS_A_PAGE)
            .batch_size(SINGLE_ANSWER_BATCH_SIZE);
        let mut found = find.session(&mut *transaction.session).await?;
        let mut statements = Vec::new();
        let mut last = None;
        while let Some(video) = found.next(&mut *transaction.session).await.transpose()? {
            let state = swapping::state_under_new_rules(video.into_state()?, &now, rules);
            last = Some(state.video_id.as_str().to_owned());
            statements.push(video_update(&state, &rules.weights));
        }
        let count = statements.len();
        if count == 0 {
            abort(transaction.session).await;
            return Ok((0, None));
        }
        transaction.update(&rebuild.next_collection_name("videos"), statements).await?;
        transaction.commit().await?;
        Ok((count as u64, last.filter(|_| count == VIDEOS_A_PAGE as usize)))
    }

    async fn begin_swapping(&self, token: &str) -> Result<(), StoreError> {
        let begin = |meta: &MetaDoc, _: &[_]| {
            let ours = meta.rebuild.as_ref().is_some_and(|rebuild| rebuild.token == token);
            let change = doc! { "$set": { "rebuild.phase": RebuildDoc::SWAPPING } };
            Ok((ours && !meta.is_swapping())
                .then(|| MetaChange { meta_update: change, other_updates: Vec::new() }))
        };
        if barrier::change_meta(self, &begin).await? { Ok(()) } else { Err(overtaken_error()) }
    }

    async fn stop_filling(&self, token: &str) -> Result<(), StoreError> {
        let stop = |meta: &MetaDoc, _: &[_]| {
            let ours = meta.rebuild.as_ref().is_some_and(|rebuild| rebuild.token == token);
            let change = doc! { "$unset": { "rebuild": "" } };
            Ok((ours && !meta.is_swapping())
                .then(|| MetaChange { meta_update: change, other_updates: Vec::new() }))
        };
        barrier::change_meta(self, &stop).await?;
        self.with_timeout(QUERY_TIMEOUT, "dropping what was filled", swapping::drop_leftovers(self, None))
            .await
    }
}
