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
use super::documents::meta::MetaDoc;
use super::documents::rebuild::RebuildDoc;
use super::errors::{DUPLICATE_KEY, error_code};
use super::{MongoArchive, PART_NAME, SINGLE_ANSWER_BATCH_SIZE};
use crate::StoreError;

/// The time limit for the server to make one commit durable.
const MAX_COMMIT_TIME: Duration = Duration::from_secs(5);
/// The longest time that aborting a failed transaction may take before the next attempt or the answer; without a server
/// an abort would take seconds.
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
pub(super) enum AttemptEnd {
    /// Nothing of the attempt took effect; another attempt may succeed. The flag is true if a unique index already had
    /// the inserted document, so that something taken for new is not new.
    Retry(Error, DocumentExisted),
    /// A rebuild asks for a moment without commits.
    YieldToRebuild,
    /// Records were counted without windows and decays before the batch; this gap has to be noted first.
    CountingGap,
    /// A rebuild is about to put its collections in place: the swap has to be finished first.
    FinishSwap(Box<RebuildDoc>),
    /// The batch must not be applied.
    GiveUp(CommitError),
    /// The store failed: whether the attempt took effect may be unknown.
    StoreFailed(Error),
}

/// True if an insert failed because the document existed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DocumentExisted(pub(super) bool);

impl From<Error> for AttemptEnd {
    fn from(error: Error) -> Self {
        let passing = matches!(error_code(&error), Some(WRITE_CONFLICT | DUPLICATE_KEY | INTERRUPTED_CODE));
        // Without a server there is no use in trying again at once.
        let gone = matches!(&*error.kind, ErrorKind::ServerSelection { .. });
        let conflict = passing || is_duplicate(&error) || error.contains_label(TRANSIENT_TRANSACTION_ERROR);
        if conflict && !gone {
            let was_there =
                DocumentExisted(error_code(&error) == Some(DUPLICATE_KEY) || is_duplicate(&error));
            Self::Retry(error, was_there)
        } else {
            Self::StoreFailed(error)
        }
    }
}

impl From<StoreError> for AttemptEnd {
    fn from(error: StoreError) -> Self {
        Self::GiveUp(error.into())
    }
}

impl AttemptEnd {
    /// Returns true if the session can be used for another transaction because the server itself reported the end of
    /// this one. If the end is unknown, the transaction may still hold locks on what it wrote.
    pub(super) fn leaves_session_clean(&self) -> bool {
        match self {
            Self::Retry(error, _) => error_code(error).is_some_and(|code| code != INTERRUPTED_CODE),
            Self::YieldToRebuild | Self::CountingGap | Self::FinishSwap(_) => true,
            Self::GiveUp(error) => !matches!(error, CommitError::Store(_)),
            Self::StoreFailed(_) => false,
        }
    }
}

impl MetaDoc {
    /// Returns the rebuild that is being filled, if any. If the rebuild is in the swapping phase, the method returns an
    /// error that tells the caller to finish the swap.
    pub(super) fn rebuild_being_filled(&self) -> Result<Option<RebuildDoc>, AttemptEnd> {
        match &self.rebuild {
            Some(rebuild) if self.is_swapping() => Err(AttemptEnd::FinishSwap(Box::new(rebuild.clone()))),
            other => Ok(other.clone()),
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
pub(super) fn never_opened_error() -> StoreError {
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
            .max_commit_time(MAX_COMMIT_TIME)
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
            collection.find(filter).batch_size(SINGLE_ANSWER_BATCH_SIZE).session(&mut *self.session).await?;
        found.stream(self.session).try_collect().await
    }

    /// Reads the first document that matches a filter, in this order.
    pub(super) async fn find_first<T: DeserializeOwned + Send + Sync + Unpin>(
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
    pub(super) async fn read_meta(&mut self) -> Result<MetaDoc, AttemptEnd> {
        let found: Vec<MetaDoc> = self.find("meta", doc! { "_id": MetaDoc::ID }).await?;
        Ok(found.into_iter().next().ok_or_else(never_opened_error)?)
    }

    /// Runs `update` commands; an error if any statement does not find or create its document.
    pub(super) async fn update(
        &mut self,
        collection: &str,
        statements: Vec<RawDocumentBuf>,
    ) -> Result<(), AttemptEnd> {
        self.run_command("update", "updates", collection, statements).await
    }

    /// Deletes the documents with these ids; an error if any does not exist.
    pub(super) async fn delete(&mut self, collection: &str, ids: Vec<Bson>) -> Result<(), AttemptEnd> {
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
    ) -> Result<(), AttemptEnd> {
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
            let reply = self.archive.db().run_raw_command(whole).session(&mut *self.session).await?;
            check_reply(command, collection, count, &reply)?;
        }
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), AttemptEnd> {
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
) -> Result<Vec<RawDocumentBuf>, AttemptEnd> {
    let statements = statements.into_iter().map(|statement| RawDocumentBuf::from_document(&statement));
    Ok(statements.collect::<Result<_, _>>().map_err(Error::from)?)
}

/// Checks the reply of a command, which reports failed statements even if the command itself succeeded.
fn check_reply(command: &str, collection: &str, count: usize, reply: &Document) -> Result<(), AttemptEnd> {
    if let Ok(errors) = reply.get_array("writeErrors") {
        let codes: Vec<i32> = errors
            .iter()
            .filter_map(Bson::as_document)
            .filter_map(|error| error.get_i32("code").ok())
            .collect();
        let conflict = codes.iter().all(|code| matches!(*code, WRITE_CONFLICT | DUPLICATE_KEY));
        let what = format!("{command} of {collection}: {errors:?}");
        return Err(if conflict {
            AttemptEnd::Retry(Error::custom(what), DocumentExisted(codes.contains(&DUPLICATE_KEY)))
        } else {
            AttemptEnd::GiveUp(StoreError::unavailable(PART_NAME, what).into())
        });
    }
    let touched = reply.get_i32("n").unwrap_or_default();
    if touched as usize == count {
        Ok(())
    } else {
        // Within a snapshot this cannot happen: the documents that were read exist.
        let what = format!("{command} of {collection}: {touched} of {count} statements took effect");
        Err(AttemptEnd::GiveUp(StoreError::unavailable(PART_NAME, what).into()))
    }
}
