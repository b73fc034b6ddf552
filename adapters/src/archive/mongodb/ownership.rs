//! The owners of partitions: the transactions of an archive run in one session, whose id is stored beside the offsets
//! of the partitions that the archive claimed.
//!
//! So an archive that claims a partition can end the transaction that a stopped process left open there, which would
//! otherwise lock the videos that it wrote for a minute (`transactionLifetimeLimitSeconds`). If the stopped process
//! wakes up, it finds another session's id and commits nothing, even if the offset still fits.

use std::time::{Duration, Instant};

use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;

use super::super::ArchivePosition;
use super::documents::meta::YieldRequestDoc;
use super::documents::offset::OffsetDoc;
use super::errors::{DUPLICATE_KEY, error_code};
use super::identities::IdentityMemory;
use super::states::VideoStateCache;
use super::{MongoArchive, PART_NAME};
use crate::StoreError;

/// The time for which one attempt to store an owner waits for a transaction that locks the offset document; then the
/// former owner's session is killed again, because it may have begun another transaction.
const WRITE_OWNER_TIMEOUT: Duration = Duration::from_millis(300);
/// The time limit for claiming partitions.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(8);
/// The server's error code of an operation that exceeded its time limit.
const OUT_OF_TIME_CODE: i32 = 50;

/// The state that an archive keeps between its commits, which run one at a time.
#[derive(Debug, Default)]
pub(super) struct CommitState {
    /// The session for transactions. Absent while a commit uses the session, and after a commit that left the session
    /// in doubt.
    session: Option<ClientSession>,
    /// The session id that is stored beside the claimed partitions.
    stored_session_id: Option<Bson>,
    /// The cached states of videos.
    pub state_cache: VideoStateCache,
    /// The identities of events that are in segments.
    pub identities: IdentityMemory,
    /// The token of the rebuild that this consumer yields to, and since when it does.
    yielding_to: Option<(String, Instant)>,
}

/// Returns a session's id, as the server's documents name it.
pub(super) fn session_id(session: &ClientSession) -> Bson {
    session.id().get("id").cloned().unwrap_or(Bson::Null)
}

impl CommitState {
    /// Returns the session to run a transaction in. The id of a new session is stored beside the claimed partitions
    /// before the session is used.
    pub(super) async fn transaction_session(
        &mut self,
        archive: &MongoArchive,
    ) -> Result<ClientSession, StoreError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let session = archive.client().start_session().await;
        let session = session.map_err(|error| archive.store_error("starting a session", &error))?;
        let id = session_id(&session);
        if let Some(before) = self.stored_session_id.clone().filter(|before| *before != id) {
            let renamed = async {
                kill_sessions(archive, [before.clone()]).await?;
                let offsets = archive.collection::<Document>("offsets");
                let noted =
                    doc! { "session": id.clone(), "keeper": id.clone(), "segment_keeper": id.clone() };
                let change = doc! { "$set": noted };
                offsets.update_many(doc! { "session": before }, change).await
            };
            archive.with_timeout(CLAIM_TIMEOUT, "replacing a session", renamed).await?;
            self.stored_session_id = Some(id);
        }
        Ok(session)
    }

    /// Forgets the kept session, so that the next transaction runs in a new one.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
    }

    /// Keeps a session for the next transaction. The session must have no transaction open.
    pub(super) fn keep_session(&mut self, session: ClientSession) {
        self.session = Some(session);
    }

    /// Returns true while commits must wait because of the request `way`. Commits wait only for the time that the
    /// request gives, because the process that made the request may have died.
    pub(super) fn must_yield(&mut self, way: &YieldRequestDoc) -> bool {
        let since = match &self.yielding_to {
            Some((token, since)) if *token == way.token => *since,
            _ => Instant::now(),
        };
        self.yielding_to = Some((way.token.clone(), since));
        since.elapsed() < Duration::from_millis(way.ms.max(0) as u64)
    }
}

/// Makes `archive` the owner of the partitions, and returns their positions.
pub(super) async fn claim_partitions(
    archive: &MongoArchive,
    partitions: &[u32],
) -> Result<Vec<ArchivePosition>, StoreError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut owner = archive.commit_state.lock().await;
    let session = owner.transaction_session(archive).await?;
    let id = session_id(&session);
    owner.keep_session(session);
    // Set before the partitions are claimed: if the session is replaced meanwhile, it must be replaced in their
    // documents, too.
    owner.stored_session_id = Some(id.clone());
    let taken = async {
        while !write_owner(archive, partitions, &id).await? {}
        Ok(())
    };
    archive.with_timeout(CLAIM_TIMEOUT, "taking partitions up", taken).await?;
    archive.positions(partitions).await
}

/// Stores the owner of partitions, after killing the sessions of the former owners. Returns false if a former owner
/// locks an offset document again because it began a new session in between.
async fn write_owner(archive: &MongoArchive, partitions: &[u32], id: &Bson) -> Result<bool, Error> {
    let ids: Vec<i64> = partitions.iter().map(|partition| i64::from(*partition)).collect();
    let mine = doc! { "_id": { "$in": &ids }, "session": { "$ne": id } };
    kill_sessions(archive, stored_session_ids(archive, mine).await?).await?;
    // A former owner of an older release did not count its outside writes. That it was the owner is recorded together
    // with its end.
    let older = doc! { "$and": [{ "$ne": [{ "$type": "$session" }, "missing"] }, { "$ne": ["$session", "$keeper"] }] };
    let change = doc! { "$set": {
        "next": { "$ifNull": ["$next", 0_i64] },
        "last": { "$ifNull": ["$last", null] },
        "uncounted": { "$add": [{ "$ifNull": ["$uncounted", 0_i64] }, { "$cond": [older, 1_i64, 0_i64] }] },
        "session": { "$literal": id },
        "keeper": { "$literal": id },
        "segment_keeper": { "$literal": id },
    } };
    let statements: Vec<Document> = ids
        .iter()
        .map(|partition| doc! { "q": { "_id": partition }, "u": [change.clone()], "upsert": true })
        .collect();
    let command = doc! {
        "update": archive.collection_name("offsets"), "updates": statements, "maxTimeMS": WRITE_OWNER_TIMEOUT.as_millis() as i64,
        "writeConcern": { "w": "majority", "j": true },
    };
    let reply = match archive.db().run_command(command).await {
        Err(error) if matches!(error_code(&error), Some(OUT_OF_TIME_CODE | DUPLICATE_KEY)) => {
            return Ok(false);
        }
        reply => reply?,
    };
    match reply.get_array("writeErrors") {
        Ok(errors) => {
            tracing::debug!(part = PART_NAME, ?errors, "a former owner holds an offset; again");
            Ok(false)
        }
        Err(_) => Ok(true),
    }
}

/// Reads the ids of the sessions that are stored beside offsets.
pub(super) async fn stored_session_ids(archive: &MongoArchive, filter: Document) -> Result<Vec<Bson>, Error> {
    use futures::TryStreamExt;
    let found = archive.collection::<OffsetDoc>("offsets").find(filter).await?;
    let found: Vec<OffsetDoc> = found.try_collect().await?;
    let mut sessions: Vec<Bson> = Vec::new();
    for session in found.into_iter().filter_map(|found| found.session) {
        if !sessions.contains(&session) {
            sessions.push(session);
        }
    }
    Ok(sessions)
}

/// Ends the open transactions of these sessions. The sessions can begin new transactions afterwards.
pub(super) async fn kill_sessions(
    archive: &MongoArchive,
    sessions: impl IntoIterator<Item = Bson>,
) -> Result<(), Error> {
    let named: Vec<Document> = sessions.into_iter().map(|id| doc! { "id": id }).collect();
    if named.is_empty() {
        return Ok(());
    }
    archive.client().database("admin").run_command(doc! { "killSessions": named }).await.map(drop)
}
