//! Changes of the meta document that no commit overlaps.
//!
//! A barrier is a transaction that changes the meta document and writes to the offsets of every partition. Each commit
//! reads the meta document and writes some of the offsets (and the first commit of a partition, whose offset document
//! no barrier could know, writes the meta document as well). So if a commit and a barrier overlap, one of them gets a
//! conflict and runs again.
//!
//! Consumers that commit without a pause would leave no time for a barrier. So a barrier first asks the consumers to
//! wait (to yield).

use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::Instant;

use super::documents::meta::MetaDoc;
use super::documents::offset::OffsetDoc;
use super::ownership;
use super::transaction::{AttemptEnd, Transaction, abort, to_raw_documents};
use super::{MongoArchive, PART_NAME, QUERY_TIMEOUT};
use crate::StoreError;
use crate::archive::CommitError;

/// The time for which a barrier asks consumers to wait: many times the duration of a barrier.
const YIELD_TIME: Duration = Duration::from_secs(3);
/// The time limit of a barrier, with all its attempts.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(20);
/// The time for which a barrier retries after conflicts before it ends all open transactions; consumers that still run
/// have yielded by then.
const CONFLICTS_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two attempts: about the duration of a commit.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// The changes to the meta document that a barrier makes.
pub(super) struct MetaChange {
    /// The update of the meta document.
    pub meta_update: Document,
    /// The statements on other collections, which take effect together with the update.
    pub other_updates: Vec<(String, Vec<Document>)>,
}

/// Decides on the change, from the meta document and the offsets of all partitions; returns `None` if nothing is to be
/// changed.
pub(super) type DecideMetaChange<'a> =
    &'a (dyn Fn(&MetaDoc, &[OffsetDoc]) -> Result<Option<MetaChange>, StoreError> + Sync);

/// Asks consumers to wait for `time`; returns the token of the request.
pub(super) async fn request_yield(archive: &MongoArchive, time: Duration) -> Result<String, StoreError> {
    let token = format!("{:016x}", rand::random::<u64>());
    let way = doc! { "token": &token, "ms": time.as_millis() as i64 };
    let asked = archive.collection::<Document>("meta");
    let asked = asked.update_one(doc! { "_id": MetaDoc::ID }, doc! { "$set": { "make_way": way } });
    archive.with_timeout(QUERY_TIMEOUT, "asking consumers to make way", async { asked.await }).await?;
    Ok(token)
}

/// Tells consumers to go on, if the request with this token is still the one in the meta document.
pub(super) async fn cancel_yield(archive: &MongoArchive, token: &str) -> Result<(), StoreError> {
    let meta = archive.collection::<Document>("meta");
    let mine = doc! { "_id": MetaDoc::ID, "make_way.token": token };
    let done = meta.update_one(mine, doc! { "$unset": { "make_way": "" } });
    archive.with_timeout(QUERY_TIMEOUT, "letting consumers go on", async { done.await }).await.map(drop)
}

/// Changes the meta document as `decide` says, and returns true if it was changed. Before the change, asks the
/// consumers to pause their commits.
pub(super) async fn change_meta(
    archive: &MongoArchive,
    decide: DecideMetaChange<'_>,
) -> Result<bool, StoreError> {
    let token = request_yield(archive, YIELD_TIME).await?;
    let passed = change_meta_while_yielding(archive, decide).await;
    if !matches!(passed, Ok(true)) {
        // Best effort: consumers go on by themselves soon.
        let _ = cancel_yield(archive, &token).await;
    }
    passed
}

/// Changes the meta document as [`change_meta`] does, but does not ask the consumers to pause their commits: the caller
/// has done so.
pub(super) async fn change_meta_while_yielding(
    archive: &MongoArchive,
    decide: DecideMetaChange<'_>,
) -> Result<bool, StoreError> {
    let begun = Instant::now();
    let mut patience = CONFLICTS_TIMEOUT;
    while begun.elapsed() < BARRIER_TIMEOUT {
        let session = archive.client().start_session().await;
        let mut session = session.map_err(|error| archive.store_error("starting a session", &error))?;
        let left = BARRIER_TIMEOUT.saturating_sub(begun.elapsed());
        let pinned = archive.of_session(&session);
        let attempt = tokio::time::timeout(left, try_change(&pinned, &mut session, decide)).await;
        match attempt {
            Ok(Ok(changed)) => return Ok(changed),
            Ok(Err(AttemptEnd::GiveUp(CommitError::Store(error)))) => {
                abort(&mut session).await;
                return Err(error);
            }
            Ok(Err(AttemptEnd::StoreFailed(error))) => {
                abort(&mut session).await;
                return Err(archive.store_error("changing the meta document", &error));
            }
            Ok(Err(_)) => {
                abort(&mut session).await;
            }
            Err(_) => break,
        }
        if begun.elapsed() > patience {
            patience += CONFLICTS_TIMEOUT;
            let ended = async {
                let sessions = ownership::stored_session_ids(archive, doc! {}).await?;
                ownership::kill_sessions(archive, sessions).await
            };
            archive.with_timeout(QUERY_TIMEOUT, "ending what holds the offsets", ended).await?;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    Err(StoreError::unavailable(PART_NAME, format!("no gap between commits within {BARRIER_TIMEOUT:?}")))
}

async fn try_change(
    archive: &MongoArchive,
    session: &mut mongodb::ClientSession,
    decide: DecideMetaChange<'_>,
) -> Result<bool, AttemptEnd> {
    let mut transaction = Transaction::begin(archive, session).await?;
    let meta = transaction.read_meta().await?;
    let offsets: Vec<OffsetDoc> = transaction.find("offsets", doc! {}).await?;
    let Some(mut change) = decide(&meta, &offsets)? else {
        abort(transaction.session).await;
        return Ok(false);
    };
    let unset = change.meta_update.entry("$unset".to_owned()).or_insert(doc! {}.into());
    if let Some(unset) = unset.as_document_mut() {
        unset.insert("make_way", "");
    }
    transaction
        .update("meta", to_raw_documents([doc! { "q": { "_id": MetaDoc::ID }, "u": change.meta_update }])?)
        .await?;
    let touch =
        |found: &OffsetDoc| doc! { "q": { "_id": found.partition }, "u": { "$inc": { "barrier": 1_i64 } } };
    transaction.update("offsets", to_raw_documents(offsets.iter().map(touch))?).await?;
    for (collection, statements) in change.other_updates {
        transaction.update(&collection, to_raw_documents(statements)?).await?;
    }
    transaction.commit().await?;
    Ok(true)
}
