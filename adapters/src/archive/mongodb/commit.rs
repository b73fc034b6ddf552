//! The transaction that applies a batch: read what the core wants to know, let it decide, write what it says.
//!
//! All reads are of one snapshot, and every document that a decision rests on is written too (a partition's offset, a
//! video, an identity), so that two transactions that would decide on each other's ground conflict, and one of them
//! runs again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::TryStreamExt;
use liverank_core::Millis;
use liverank_core::counting::{Batch, Effects, Rules, Span, apply};
use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{ReadConcern, TransactionOptions};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::super::{Archive, CommitError, Committed, Meta};
use super::config::durable;
use super::documents::{CommentDoc, MetaDoc, SeenDoc, VideoDoc, mark_document, video_update};
use super::opening::{DUPLICATE_KEY, code};
use super::{MongoArchive, PART, WHOLE, store_error};
use crate::StoreError;

/// How long a batch may take in all, conflicts, elections and retries included. Afterwards its caller asks where the
/// archive stands.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to make one commit durable.
const MAX_COMMIT: Duration = Duration::from_secs(5);
/// How long ending an attempt may hold up the next one, or the answer: without a server it would take seconds.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest pause before a conflicting transaction runs again; the first is a fraction of it. A transaction takes
/// some ten milliseconds, and the other one has to come to its end.
const MAX_PAUSE: Duration = Duration::from_millis(160);
/// The server's number of a write conflict.
const WRITE_CONFLICT: i32 = 112;
/// Statements or ids in one command: at a kilobyte and a half each at most, half of the server's 16 MiB.
const CHUNK: usize = 5_000;

/// Why an attempt ended.
enum Stop {
    /// Nothing of it took effect, and it may if tried again.
    Again(Error),
    /// The batch is not to be applied.
    Never(CommitError),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let conflict = matches!(code(&error), Some(WRITE_CONFLICT | DUPLICATE_KEY)) || is_duplicate(&error);
        // Without a server there is nothing to try again for the moment.
        let gone = matches!(&*error.kind, ErrorKind::ServerSelection { .. });
        if !gone && (conflict || error.contains_label(TRANSIENT_TRANSACTION_ERROR)) {
            Self::Again(error)
        } else {
            Self::Never(store_error("committing", &error).into())
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Never(error.into())
    }
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

pub(super) async fn commit(archive: &MongoArchive, batch: &Batch) -> Result<Committed, CommitError> {
    if batch.spans.is_empty() && batch.records.is_empty() {
        let meta = archive.meta().await?.ok_or_else(never_opened)?;
        return Ok(Committed { effects: Effects::default(), meta });
    }
    let deadline = Instant::now() + COMMIT_TIMEOUT;
    let committed = tokio::time::timeout_at(deadline, until_it_takes(archive, batch)).await;
    committed.unwrap_or_else(|_| {
        let reason =
            format!("a batch of {} was not committed within {COMMIT_TIMEOUT:?}", batch.records.len());
        Err(StoreError::unavailable(PART, reason).into())
    })
}

async fn until_it_takes(archive: &MongoArchive, batch: &Batch) -> Result<Committed, CommitError> {
    let mut pause = MAX_PAUSE / 32;
    loop {
        // One each: a session whose transaction was given up half-way is of no further use. They are pooled.
        let session = archive.client.start_session().await;
        let mut session = session.map_err(|error| store_error("starting a session", &error))?;
        let stop = match attempt(archive, &mut session, batch).await {
            Ok(committed) => return Ok(committed),
            Err(stop) => stop,
        };
        // Now, so that the next attempt does not meet this one. An abort that fails changes nothing: the server gives
        // the transaction up by itself.
        let _ = tokio::time::timeout(ABORT_TIMEOUT, session.abort_transaction()).await;
        match stop {
            Stop::Never(error) => return Err(error),
            Stop::Again(error) => tracing::debug!(part = PART, %error, ?pause, "the batch conflicts; again"),
        }
        // Jittered, or two that met once would meet again.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        pause = MAX_PAUSE.min(pause * 2);
    }
}

async fn attempt(
    archive: &MongoArchive,
    session: &mut ClientSession,
    batch: &Batch,
) -> Result<Committed, Stop> {
    let options = TransactionOptions::builder()
        .read_concern(ReadConcern::snapshot())
        .write_concern(durable())
        .max_commit_time(MAX_COMMIT)
        .build();
    session.start_transaction().with_options(options).await?;
    let mut transaction = Transaction { archive, session };
    let meta = transaction.meta().await?;
    let new_offsets = transaction.fence(&batch.spans).await?;
    let sightings = transaction.sightings(batch).await?;
    let videos = transaction.videos(batch).await?;
    let known: HashSet<String> = sightings.iter().map(|seen| seen.identity.clone()).collect();
    let sightings = sightings.into_iter().map(|seen| (seen.identity, seen.time));
    let effects = apply(&batch.records, videos, sightings, &meta.rules);
    transaction.advance(&batch.spans, &new_offsets).await?;
    transaction.write(&effects, &meta.rules).await?;
    transaction.remember(&effects.identities, &known).await?;
    transaction.commit().await?;
    Ok(Committed { effects, meta })
}

fn never_opened() -> StoreError {
    StoreError::unusable(PART, "the archive is not there: it was never opened, or its database was dropped")
}

struct Transaction<'a> {
    archive: &'a MongoArchive,
    session: &'a mut ClientSession,
}

impl Transaction<'_> {
    async fn find<T: DeserializeOwned + Send + Sync + Unpin>(
        &mut self,
        collection: &str,
        filter: Document,
    ) -> Result<Vec<T>, Error> {
        let collection = self.archive.db.collection::<T>(collection);
        let mut found = collection.find(filter).batch_size(WHOLE).session(&mut *self.session).await?;
        found.stream(self.session).try_collect().await
    }

    /// All documents whose `field` is one of `ids`.
    async fn find_each<T: DeserializeOwned + Send + Sync + Unpin>(
        &mut self,
        collection: &str,
        field: &str,
        ids: Vec<Bson>,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        for ids in ids.chunks(CHUNK) {
            all.extend(self.find(collection, doc! { field: { "$in": ids } }).await?);
        }
        Ok(all)
    }

    /// What is in force now: read with each batch, for a rebuild may change it.
    async fn meta(&mut self) -> Result<Meta, Stop> {
        let found: Vec<MetaDoc> = self.find("meta", doc! { "_id": MetaDoc::ID }).await?;
        Ok(found.into_iter().next().ok_or_else(never_opened)?.into_meta()?)
    }

    /// Refuses a batch that does not follow on. Answers the partitions that have no offset yet.
    async fn fence(&mut self, spans: &[Span]) -> Result<HashSet<u32>, Stop> {
        let ids: Vec<Bson> = spans.iter().map(|span| i64::from(span.partition).into()).collect();
        let found: Vec<super::OffsetDoc> = self.find_each("offsets", "_id", ids).await?;
        let stands: HashMap<i64, u64> =
            found.into_iter().map(|found| (found.partition, found.next as u64)).collect();
        let mut absent = HashSet::new();
        for &Span { partition, from, .. } in spans {
            let stand = stands.get(&i64::from(partition)).copied();
            let actual = stand.unwrap_or(0);
            if actual != from {
                return Err(Stop::Never(CommitError::Fenced { partition, expected: from, actual }));
            }
            if stand.is_none() {
                absent.insert(partition);
            }
        }
        Ok(absent)
    }

    async fn sightings(&mut self, batch: &Batch) -> Result<Vec<SeenDoc>, Error> {
        let ids = batch.identities().into_iter().map(Bson::from).collect();
        self.find_each("seen", "_id", ids).await
    }

    async fn videos(&mut self, batch: &Batch) -> Result<Vec<liverank_core::counting::VideoState>, Stop> {
        let ids = batch.videos().into_iter().map(|id| id.as_str().into()).collect();
        let found: Vec<VideoDoc> = self.find_each("videos", "video_id", ids).await?;
        Ok(found.into_iter().map(VideoDoc::into_state).collect::<Result<_, _>>()?)
    }

    /// The offsets first: a zombie's transaction ends here, before it touches what others wait for.
    async fn advance(&mut self, spans: &[Span], absent: &HashSet<u32>) -> Result<(), Stop> {
        let moved = spans.iter().filter(|span| span.next != span.from || absent.contains(&span.partition));
        let statements = moved.map(|span| {
            let id = i64::from(span.partition);
            let mut next = doc! { "next": span.next as i64 };
            if span.next != span.from {
                next.insert("last", span.last.map(mark_document));
            }
            let next = doc! { "$set": next };
            if absent.contains(&span.partition) {
                doc! { "q": { "_id": id }, "u": next, "upsert": true }
            } else {
                doc! { "q": { "_id": id, "next": span.from as i64 }, "u": next }
            }
        });
        self.update("offsets", statements.collect()).await
    }

    async fn write(&mut self, effects: &Effects, rules: &Rules) -> Result<(), Stop> {
        let statements = effects.videos.iter().map(|state| video_update(state, &rules.weights));
        self.update("videos", statements.collect()).await?;
        if !effects.comments.is_empty() {
            // The driver cuts these into commands of a size that the server takes.
            let comments = self.archive.comments_in::<CommentDoc>();
            let numbered = effects.comments.iter().map(CommentDoc::of);
            comments.insert_many(numbered).session(&mut *self.session).await?;
        }
        Ok(())
    }

    /// Remembers identities. Those `known` are older than a day of the log's time, or they would not have counted.
    async fn remember(
        &mut self,
        identities: &[(String, Millis)],
        known: &HashSet<String>,
    ) -> Result<(), Stop> {
        // In a batch that spans more than a day one may come twice: the later time counts.
        let latest: HashMap<&str, Millis> =
            identities.iter().map(|(id, time)| (id.as_str(), *time)).collect();
        let (again, fresh): (Vec<_>, Vec<_>) = latest.into_iter().partition(|(id, _)| known.contains(*id));
        if !fresh.is_empty() {
            let seen = fresh.into_iter().map(|(id, time)| SeenDoc { identity: id.to_owned(), time });
            self.archive.seen().insert_many(seen).session(&mut *self.session).await?;
        }
        let statements = again
            .into_iter()
            .map(|(id, time)| doc! { "q": { "_id": id }, "u": { "$set": { "time": time } } });
        self.update("seen", statements.collect()).await
    }

    /// Runs `update` commands; every statement must find or make its document.
    async fn update(&mut self, collection: &str, statements: Vec<Document>) -> Result<(), Stop> {
        let mut statements = statements.into_iter().map(Bson::from).peekable();
        while statements.peek().is_some() {
            let chunk: Vec<Bson> = statements.by_ref().take(CHUNK).collect();
            let count = chunk.len();
            let command = doc! { "update": collection, "updates": chunk, "ordered": true };
            let reply = self.archive.db.run_command(command).session(&mut *self.session).await?;
            check_update(collection, count, &reply)?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Stop> {
        loop {
            match self.session.commit_transaction().await {
                // Asked again, the server says whether it took; the bound is the whole batch's.
                Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                    tracing::debug!(part = PART, %error, "unknown whether the batch was committed; asking again");
                    tokio::time::sleep(MAX_PAUSE / 8).await;
                }
                other => return Ok(other?),
            }
        }
    }
}

/// The command's own reply tells of statements that failed, while the command as such is fine.
fn check_update(collection: &str, count: usize, reply: &Document) -> Result<(), Stop> {
    if let Ok(errors) = reply.get_array("writeErrors") {
        let codes: Vec<i32> = errors
            .iter()
            .filter_map(Bson::as_document)
            .filter_map(|error| error.get_i32("code").ok())
            .collect();
        let conflict = codes.iter().all(|code| matches!(*code, WRITE_CONFLICT | DUPLICATE_KEY));
        let what = format!("updating {collection}: {errors:?}");
        return Err(if conflict {
            Stop::Again(Error::custom(what))
        } else {
            Stop::Never(StoreError::unavailable(PART, what).into())
        });
    }
    let touched = reply.get_i32("n").unwrap_or_default();
    if touched as usize == count {
        Ok(())
    } else {
        // Within a snapshot this cannot be: what was read is there.
        let what = format!("updating {collection}: {touched} of {count} statements took effect");
        Err(Stop::Never(StoreError::unavailable(PART, what).into()))
    }
}
