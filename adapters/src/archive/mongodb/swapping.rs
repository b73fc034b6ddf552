//! Replaces old collections by new ones.
//!
//! Once the phase in the meta document is `swapping`, nothing is committed until the swap is finished: a process that
//! finds this phase finishes the swap. Several processes may take each step at once and any number of times, because
//! the names of the new collections are never used again.

use std::time::Duration;

use liverank_core::counting::{CountingRules, VideoState};
use mongodb::bson::doc;
use mongodb::bson::{self, Document};
use mongodb::error::Error;

use super::documents::meta::MetaDoc;
use super::documents::rebuild::{NEXT_COLLECTION_INFIX, RebuildDoc, collection_suffix};
use super::errors::error_code;
use super::{MongoArchive, PART_NAME, ownership};
use crate::StoreError;

/// The time limit of a swap: a rename waits for transactions that read the collection, and frees the replaced one.
const SWAP_TIMEOUT: Duration = Duration::from_secs(20);
/// The server's error code for a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// Returns the state with which a video begins a generation with other rules: the trending score is kept only under
/// the same half-life.
pub(super) fn state_under_new_rules(
    mut state: VideoState,
    now: &CountingRules,
    next: &CountingRules,
) -> VideoState {
    if now.half_life_ms != next.half_life_ms {
        state.trending_log2 = f64::NEG_INFINITY;
    }
    state
}

/// Finishes a swap: renames the new collections and writes the result into the meta document.
pub(super) async fn finish_swap(archive: &MongoArchive, rebuild: &RebuildDoc) -> Result<(), StoreError> {
    let outcome = rebuild.meta_fields()?;
    archive
        .with_timeout(SWAP_TIMEOUT, "putting what was rebuilt in place", async {
            // A stopped process may have read the old collections in a transaction that is still open, and a rename would
            // wait for this transaction.
            ownership::kill_sessions(archive, ownership::stored_session_ids(archive, doc! {}).await?).await?;
            for collection in &rebuild.collections {
                rename_collection(archive, &rebuild.next_collection_name(collection), collection).await?;
            }
            let ours = doc! {
                "_id": MetaDoc::ID, "rebuild.token": &rebuild.token, "rebuild.phase": RebuildDoc::SWAPPING,
            };
            let change = doc! { "$set": outcome, "$unset": { "rebuild": "", "make_way": "" } };
            let done = archive.collection::<Document>("meta").update_one(ours, change).await?;
            if done.modified_count > 0 {
                tracing::info!(
                    part = PART_NAME,
                    generation = rebuild.generation,
                    "a new generation is in place"
                );
            }
            drop_leftovers(archive, None).await
        })
        .await
}

/// Finishes a swap that another process left unfinished, if there is one.
pub(super) async fn finish_pending_swap(archive: &MongoArchive) -> Result<(), StoreError> {
    match archive.read_meta_doc().await? {
        Some(MetaDoc { rebuild: Some(rebuild), .. }) if rebuild.phase == RebuildDoc::SWAPPING => {
            finish_swap(archive, &rebuild).await
        }
        _ => Ok(()),
    }
}

async fn rename_collection(archive: &MongoArchive, from: &str, to: &str) -> Result<(), Error> {
    let database = &archive.database;
    let command = doc! {
        "renameCollection": format!("{database}.{from}"), "to": format!("{database}.{to}"), "dropTarget": true,
        "writeConcern": { "w": "majority" },
    };
    match archive.client().database("admin").run_command(command).await {
        // Another process was faster.
        Err(error) if error_code(&error) == Some(NAMESPACE_NOT_FOUND) => Ok(()),
        other => other.map(drop),
    }
}

/// Drops the collections that rebuilds left behind, except those of the rebuild in the meta document and of the one to
/// be `spared`.
pub(super) async fn drop_leftovers(archive: &MongoArchive, spared: Option<&str>) -> Result<(), Error> {
    let meta: Option<MetaDoc> = archive.collection("meta").find_one(doc! { "_id": MetaDoc::ID }).await?;
    let current = meta.and_then(|meta| meta.rebuild).map(|rebuild| rebuild.token);
    let in_use: Vec<String> = current.as_deref().into_iter().chain(spared).map(collection_suffix).collect();
    let left = doc! { "name": { "$regex": format!("^[a-z]+{NEXT_COLLECTION_INFIX}[0-9]+-[0-9a-f]+$") } };
    for name in archive.db().list_collection_names().filter(left).await? {
        if !in_use.iter().any(|suffix| name.ends_with(suffix)) {
            archive.db().collection::<Document>(&name).drop().await?;
        }
    }
    Ok(())
}

/// Returns a name for a rebuild that no other rebuild has.
pub(super) fn unique_rebuild_name(generation: u64) -> String {
    format!("{generation}-{:016x}", rand::random::<u64>())
}

/// Returns a rebuild in the form in which the meta document stores it.
pub(super) fn rebuild_to_bson(rebuild: &RebuildDoc) -> Result<bson::Bson, StoreError> {
    bson::to_bson(rebuild).map_err(|error| StoreError::unusable(PART_NAME, error))
}
