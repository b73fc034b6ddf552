//! A transaction of the MongoDB server: its reads are of one snapshot, its writes take effect together or not at all.

use std::time::Duration;

use futures::TryStreamExt;
use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, doc};
use mongodb::error::{
    Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use mongodb::options::{ReadConcern, TransactionOptions};
use serde::de::DeserializeOwned;

use super::super::CommitError;
use super::config::durable_write_concern;
use super::documents::{MetaDoc, RebuildDoc};
use super::opening::{DUPLICATE_KEY, code};
use super::{MongoArchive, PART_NAME, WHOLE_ANSWER_BATCH, store_error};
use crate::StoreError;

/// The time limit for the server to make one commit durable.
const MAX_COMMIT: Duration = Duration::from_secs(5);
/// The longest time for which ending an attempt delays the next one, or the answer: without a server it would take
/// seconds.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);
/// The pause before the server is asked again whether a commit took effect.
const COMMIT_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The server's error code of a write conflict.
const WRITE_CONFLICT: i32 = 112;
/// The server's error code of an operation that was killed: by an archive that claimed our partitions, or for a
/// rebuild.
const INTERRUPTED_CODE: i32 = 11601;
/// The number of statements or ids in one command: at most 1.5 KB each, which is half of the server's limit of 16 MiB.
const MAX_STATEMENTS_A_COMMAND: usize = 5_000;

/// The reason why an attempt at a transaction ended.
pub(super) enum Stop {
    /// Nothing of the attempt took effect, and it may if tried again. The flag: a unique index had the document that was
    /// inserted, so something that was taken for new is not.
    Retry(Error, WasThere),
    /// A rebuild asks for a moment without commits.
    YieldToRebuild,
    /// Records were counted without windows and decays before the batch; this gap has to be noted first.
    Gap,
    /// A rebuild is about to put its collections in place: the swap has to be finished first.
    FinishSwap(Box<RebuildDoc>),
    /// The batch must not be applied.
    GiveUp(CommitError),
}

/// Whether an insert failed because the document is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WasThere(pub(super) bool);

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let passing = matches!(code(&error), Some(WRITE_CONFLICT | DUPLICATE_KEY | INTERRUPTED_CODE));
        // Without a server there is no use in trying again at once.
        let gone = matches!(&*error.kind, ErrorKind::ServerSelection { .. });
        let conflict = passing || is_duplicate(&error) || error.contains_label(TRANSIENT_TRANSACTION_ERROR);
        if conflict && !gone {
            let was_there = WasThere(code(&error) == Some(DUPLICATE_KEY) || is_duplicate(&error));
            Self::Retry(error, was_there)
        } else {
            Self::GiveUp(store_error("committing", &error).into())
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::GiveUp(error.into())
    }
}

impl Stop {
    /// Returns true if the session can be used for another transaction because the server itself reported the end of
    /// this one. If the end is unknown, the transaction may still hold locks on what it wrote.
    pub(super) fn leaves_session_clean(&self) -> bool {
        match self {
            Self::Retry(error, _) => code(error).is_some_and(|code| code != INTERRUPTED_CODE),
            Self::YieldToRebuild | Self::Gap | Self::FinishSwap(_) => true,
            Self::GiveUp(error) => !matches!(error, CommitError::Store(_)),
        }
    }
}

/// Returns true if a failed commit may have taken effect. A write concern that was not met means that the commit took
/// effect on the primary, but may be undone; if a `killSessions` ended the wait for the majority, the driver sets no
/// label on the error.
fn may_have_committed(error: &Error) -> bool {
    error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
        || matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteConcernError(_)))
}

fn is_duplicate(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::InsertMany(failed) => failed
            .write_errors
            .as_ref()
            .is_some_and(|errors| errors.iter().any(|error| error.code == DUPLICATE_KEY)),
        _ => false,
    }
}

/// Returns the error for an archive that was never opened.
pub(super) fn never_opened() -> StoreError {
    StoreError::unusable(
        PART_NAME,
        "the archive is not there: it was never opened, or its database was dropped",
    )
}

/// A transaction under way. A transaction that is not committed must be aborted.
pub(super) struct Transaction<'a> {
    pub archive: &'a MongoArchive,
    pub session: &'a mut ClientSession,
}

impl<'a> Transaction<'a> {
    pub(super) async fn begin(
        archive: &'a MongoArchive,
        session: &'a mut ClientSession,
    ) -> Result<Self, Error> {
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(durable_write_concern())
            .max_commit_time(MAX_COMMIT)
            .build();
        session.start_transaction().with_options(options).await?;
        Ok(Self { archive, session })
    }

    pub(super) async fn find<T: DeserializeOwned + Send + Sync + Unpin>(
        &mut self,
        collection: &str,
        filter: Document,
    ) -> Result<Vec<T>, Error> {
        let collection = self.archive.collection::<T>(collection);
        let mut found =
            collection.find(filter).batch_size(WHOLE_ANSWER_BATCH).session(&mut *self.session).await?;
        found.stream(self.session).try_collect().await
    }

    /// Reads the first document that matches a filter, in this order.
    pub(super) async fn newest<T: DeserializeOwned + Send + Sync + Unpin>(
        &mut self,
        collection: &str,
        filter: Document,
        order: Document,
    ) -> Result<Option<T>, Error> {
        let collection = self.archive.collection::<T>(collection);
        collection.find_one(filter).sort(order).session(&mut *self.session).await
    }

    /// Reads all documents whose `field` is one of `ids`.
    pub(super) async fn find_each<T: DeserializeOwned + Send + Sync + Unpin>(
        &mut self,
        collection: &str,
        field: &str,
        ids: Vec<Bson>,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        for ids in ids.chunks(MAX_STATEMENTS_A_COMMAND) {
            all.extend(self.find(collection, doc! { field: { "$in": ids } }).await?);
        }
        Ok(all)
    }

    /// Reads the meta document in force: with each batch, because a rebuild may change it.
    pub(super) async fn meta(&mut self) -> Result<MetaDoc, Stop> {
        let found: Vec<MetaDoc> = self.find("meta", doc! { "_id": MetaDoc::ID }).await?;
        Ok(found.into_iter().next().ok_or_else(never_opened)?)
    }

    /// Runs `update` commands; an error if any statement does not find or create its document.
    pub(super) async fn update(
        &mut self,
        collection: &str,
        statements: Vec<RawDocumentBuf>,
    ) -> Result<(), Stop> {
        self.run_command("update", "updates", collection, statements).await
    }

    /// Deletes the documents with these ids; an error if any does not exist.
    pub(super) async fn delete(&mut self, collection: &str, ids: Vec<Bson>) -> Result<(), Stop> {
        let statement = |id: Bson| RawDocumentBuf::from_document(&doc! { "q": { "_id": id }, "limit": 1 });
        let statements =
            ids.into_iter().map(statement).collect::<Result<Vec<_>, _>>().map_err(Error::from)?;
        self.run_command("delete", "deletes", collection, statements).await
    }

    async fn run_command(
        &mut self,
        command: &str,
        member: &str,
        collection: &str,
        statements: Vec<RawDocumentBuf>,
    ) -> Result<(), Stop> {
        let mut statements = statements.into_iter().peekable();
        while statements.peek().is_some() {
            let (mut chunk, mut count) = (RawArrayBuf::new(), 0);
            for statement in statements.by_ref().take(MAX_STATEMENTS_A_COMMAND) {
                chunk.push(statement);
                count += 1;
            }
            let mut whole = RawDocumentBuf::new();
            whole.append(command, self.archive.collection_name(collection));
            whole.append(member, chunk);
            let reply = self.archive.db.run_raw_command(whole).session(&mut *self.session).await?;
            check_reply(command, collection, count, &reply)?;
        }
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), Stop> {
        loop {
            match self.session.commit_transaction().await {
                // When asked again, the server says whether the commit took effect; the time limit is the caller's.
                Err(error) if may_have_committed(&error) => {
                    tracing::debug!(part = PART_NAME, %error, "unknown whether it was committed; asking again");
                    tokio::time::sleep(COMMIT_RETRY_PAUSE).await;
                }
                other => return Ok(other?),
            }
        }
    }
}

/// Aborts a transaction now, so that the next attempt does not conflict with it. An abort that fails has no
/// consequence: the server ends the transaction by itself. Returns true if the abort succeeded in time.
pub(super) async fn abort(session: &mut ClientSession) -> bool {
    matches!(tokio::time::timeout(ABORT_TIMEOUT, session.abort_transaction()).await, Ok(Ok(())))
}

/// Converts statements into the form in which they are sent.
pub(super) fn to_raw_documents(
    statements: impl IntoIterator<Item = Document>,
) -> Result<Vec<RawDocumentBuf>, Stop> {
    let statements = statements.into_iter().map(|statement| RawDocumentBuf::from_document(&statement));
    Ok(statements.collect::<Result<_, _>>().map_err(Error::from)?)
}

/// Checks the reply of a command: it reports statements that failed, although the command itself succeeded.
fn check_reply(command: &str, collection: &str, count: usize, reply: &Document) -> Result<(), Stop> {
    if let Ok(errors) = reply.get_array("writeErrors") {
        let codes: Vec<i32> = errors
            .iter()
            .filter_map(Bson::as_document)
            .filter_map(|error| error.get_i32("code").ok())
            .collect();
        let conflict = codes.iter().all(|code| matches!(*code, WRITE_CONFLICT | DUPLICATE_KEY));
        let what = format!("{command} of {collection}: {errors:?}");
        return Err(if conflict {
            Stop::Retry(Error::custom(what), WasThere(codes.contains(&DUPLICATE_KEY)))
        } else {
            Stop::GiveUp(StoreError::unavailable(PART_NAME, what).into())
        });
    }
    let touched = reply.get_i32("n").unwrap_or_default();
    if touched as usize == count {
        Ok(())
    } else {
        // Within a snapshot this cannot happen: the documents that were read exist.
        let what = format!("{command} of {collection}: {touched} of {count} statements took effect");
        Err(Stop::GiveUp(StoreError::unavailable(PART_NAME, what).into()))
    }
}
