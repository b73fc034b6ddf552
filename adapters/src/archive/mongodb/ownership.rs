//! Whose a partition is: the transactions of an archive run in one session, whose id stands beside the offsets of the
//! partitions that it took up.
//!
//! So whoever takes a partition up can end what a stopped process left open there, which would otherwise hold the videos
//! that it wrote for a minute (`transactionLifetimeLimitSeconds`); and that process, should it wake up, finds another's
//! id there and does nothing, even where the offset still fits.

use std::time::{Duration, Instant};

use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;

use super::super::ArchivePosition;
use super::documents::{OffsetDoc, WayDoc};
use super::identities::IdentityMemory;
use super::opening::{DUPLICATE_KEY, code};
use super::states::VideoStateCache;
use super::{MongoArchive, PART_NAME, store_error, with_timeout};
use crate::StoreError;

/// How long one attempt to note an owner may wait for a transaction that holds the offset; then its session is killed
/// again, for it may have begun another.
const NOTE_OWNER_TIMEOUT: Duration = Duration::from_millis(300);
/// How long taking partitions up may take in all.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(8);
/// The server's number of an operation that ran out of time.
const OUT_OF_TIME_CODE: i32 = 50;

/// What an archive's commits, one at a time, go on from.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// Absent while a commit has it, and after one that left it in doubt.
    session: Option<ClientSession>,
    /// The id that stands beside the partitions taken up.
    noted: Option<Bson>,
    /// The cached states of videos.
    pub state_cache: VideoStateCache,
    /// The identities of events that are in segments.
    pub identities: IdentityMemory,
    /// The token of the rebuild that this consumer yields to, and since when it does.
    yielding_to: Option<(String, Instant)>,
}

/// A session's id, as others name it.
pub(super) fn id_of(session: &ClientSession) -> Bson {
    session.id().get("id").cloned().unwrap_or(Bson::Null)
}

impl Owner {
    /// The session to run a transaction in. Where it is a new one, the partitions are told before it is used.
    pub(super) async fn transaction_session(
        &mut self,
        archive: &MongoArchive,
    ) -> Result<ClientSession, StoreError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let session = archive.client.start_session().await;
        let session = session.map_err(|error| store_error("starting a session", &error))?;
        let id = id_of(&session);
        if let Some(before) = self.noted.clone().filter(|before| *before != id) {
            let renamed = async {
                kill_sessions(archive, [before.clone()]).await?;
                let offsets = archive.collection::<Document>("offsets");
                let noted =
                    doc! { "session": id.clone(), "keeper": id.clone(), "segment_keeper": id.clone() };
                let change = doc! { "$set": noted };
                offsets.update_many(doc! { "session": before }, change).await
            };
            with_timeout(CLAIM_TIMEOUT, "replacing a session", renamed).await?;
            self.noted = Some(id);
        }
        Ok(session)
    }

    /// Keeps a session for the next transaction. The session must be fit for one.
    pub(super) fn keep_session(&mut self, session: ClientSession) {
        self.session = Some(session);
    }

    /// Whether to hold back for `way`: for as long as it asks, and not for ever, for who asked may have died.
    pub(super) fn makes_way(&mut self, way: &WayDoc) -> bool {
        let since = match &self.yielding_to {
            Some((token, since)) if *token == way.token => *since,
            _ => Instant::now(),
        };
        self.yielding_to = Some((way.token.clone(), since));
        since.elapsed() < Duration::from_millis(way.ms.max(0) as u64)
    }
}

/// Makes `archive` the owner of the partitions.
pub(super) async fn take_up(
    archive: &MongoArchive,
    partitions: &[u32],
) -> Result<Vec<ArchivePosition>, StoreError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut owner = archive.owner.lock().await;
    let session = owner.transaction_session(archive).await?;
    let id = id_of(&session);
    owner.keep_session(session);
    // Before the partitions are told: a session that is replaced meanwhile must be replaced there, too.
    owner.noted = Some(id.clone());
    let taken = async {
        while !write_owner(archive, partitions, &id).await? {}
        Ok(())
    };
    with_timeout(CLAIM_TIMEOUT, "taking partitions up", taken).await?;
    archive.positions(partitions).await
}

/// Notes the owner, having killed the former ones. Returns false where a former one
/// holds an offset again, because it began a new session in between.
async fn write_owner(archive: &MongoArchive, partitions: &[u32], id: &Bson) -> Result<bool, Error> {
    let ids: Vec<i64> = partitions.iter().map(|partition| i64::from(*partition)).collect();
    let mine = doc! { "_id": { "$in": &ids }, "session": { "$ne": id } };
    kill_sessions(archive, noted_sessions(archive, mine).await?).await?;
    // A former owner of an older release did not note what it wrote outside. That it was there is noted as its end is.
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
        "update": archive.collection_name("offsets"), "updates": statements, "maxTimeMS": NOTE_OWNER_TIMEOUT.as_millis() as i64,
        "writeConcern": { "w": "majority", "j": true },
    };
    let reply = match archive.db.run_command(command).await {
        Err(error) if matches!(code(&error), Some(OUT_OF_TIME_CODE | DUPLICATE_KEY)) => return Ok(false),
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

/// The sessions noted beside offsets.
pub(super) async fn noted_sessions(archive: &MongoArchive, filter: Document) -> Result<Vec<Bson>, Error> {
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

/// Ends what these sessions have under way. They can begin anew.
pub(super) async fn kill_sessions(
    archive: &MongoArchive,
    sessions: impl IntoIterator<Item = Bson>,
) -> Result<(), Error> {
    let named: Vec<Document> = sessions.into_iter().map(|id| doc! { "id": id }).collect();
    if named.is_empty() {
        return Ok(());
    }
    archive.client.database("admin").run_command(doc! { "killSessions": named }).await.map(drop)
}
