//! The archive on MongoDB 6.0 or newer, as a replica set.
//!
//! | collection | a document is | found by |
//! |---|---|---|
//! | `videos` | a video's counts: as clients read them, and the integers that counting continues from | `_id`, `video_id` (the same) |
//! | `comments` | a comment and its position in the log | `video_id, seq`; `comment_id`; `partition, offset` |
//! | `rules` | a restriction of a user, as it was changed last | `_id`; `revision` |
//! | `moderation` | an action of a moderator: the audit log | `_id`: time, partition and offset |
//! | `offsets` | the next offset to count in a partition, and the partition's owner | `_id` |
//! | `seen` | an identity, as a digest, and the time at which the log first had it | `_id`; `time` |
//! | `segments` | identities of events of a commit, or of several | `_id`: partition, number; `newest` |
//! | `meta` | the settings fixed for the archive's life, or until a rebuild, and the rebuild under way | `_id` |
//! | `windows` | the counters of a video in a window; there is none until windows are declared | `_id`: kind, start, video |
//! | `…_next_…` | the collections of a rebuild, which will replace the collections of the same name without the suffix | |
//!
//! | module | does |
//! |---|---|
//! | [`config`] | the user's settings, and the driver's options made from them |
//! | `credentials` | the client in use, and its replacement when the credentials in a file change |
//! | `errors` | the driver's errors, by what a caller can do about them |
//! | `documents` | the documents, and their conversion into the core's types |
//! | `opening` | checks the server, creates what is absent |
//! | `transaction` | the parts that all transactions have in common |
//! | `commit` | the transaction of a batch |
//! | `states` | the cache of videos' states, which saves reading them |
//! | `identities` | identities of events in segments, and the cache of them, which saves reading them |
//! | `stopwatch` | measures the duration of a commit's steps |
//! | `moderation` | restrictions, the audit log, comments that were removed |
//! | `windows` | counts by window |
//! | `decays` | decayed scores of boards with a decay of their own, and gaps in which events were counted without them |
//! | `ownership` | the owner of a partition, and the end of the transactions that its former owner left open |
//! | `barrier` | changes of the meta document that no commit overlaps |
//! | `rebuilding`, `replay` | scoring anew, counting anew |
//! | `swapping` | replaces old collections by new ones |
//! | `cut` | reads the whole archive as of one moment |

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use liverank_core::counting::{Batch, CountingRules, IdentityTable, NumberedComment, VideoState};
use liverank_core::decays::Decay;
use liverank_core::windows::{WindowKey, WindowKind};
use liverank_core::{Comment, CommentId, Metadata, Millis, UserId, VideoId};
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::{Client, ClientSession, Collection, Database};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::{
    Archive, ArchiveMeta, ArchivePosition, ArchiveRebuild, CommentPage, CommitError, CommitResult,
    ModerationArchive,
};
use crate::StoreError;

mod barrier;
mod commit;
mod config;
mod credentials;
mod cut;
mod decays;
mod documents;
mod errors;
mod identities;
mod inspect;
mod moderation;
mod opening;
mod ownership;
mod rebuilding;
mod replay;
mod reports;
mod states;
mod stopwatch;
mod swapping;
mod transaction;
mod windows;

pub use config::MongoConfig;
use credentials::{ClientInUse, CredentialsWatch};
use documents::IdDoc;
use documents::comment::CommentDoc;
use documents::meta::MetaDoc;
use documents::offset::OffsetDoc;
use documents::video::{HeadDoc, MetadataDoc, OwnerDoc, VideoDoc, WatchDoc};
use errors::{LoginChange, PART_NAME};
use ownership::CommitState;

/// The time limit of a query, in which the driver looks for a server and may send the query twice.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);
/// The time limit of opening an archive: long, because the server builds an index that an existing archive does not have
/// yet.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);
/// The number of identities forgotten in one call: some 2 MiB of command at most, some ten milliseconds of work.
const IDENTITIES_FORGOTTEN_AT_ONCE: i64 = 5_000;
/// The batch size of answers, in documents: more than any limit asks for, so that an answer is in one piece, up to the
/// server's 16 MiB.
const SINGLE_ANSWER_BATCH_SIZE: u32 = 100_000;

/// The archive on MongoDB. Connects and reconnects by itself.
#[derive(Debug, Clone)]
pub struct MongoArchive {
    client_in_use: ClientInUse,
    /// The name of the database.
    database: String,
    /// The suffix of the names of its collections: empty, except for an archive that is to replace another one.
    suffix: String,
    logins: LoginChange,
    /// The number of times that the servers refused the login.
    login_refusals: Arc<AtomicU64>,
    commit_state: Arc<Mutex<CommitState>>,
    /// The identities in the segments of other databases to which nobody writes, by the databases' names.
    snapshot_identities: Arc<Mutex<HashMap<String, IdentityTable>>>,
}

impl MongoArchive {
    /// Returns an archive that connects in the background: a server that cannot be reached is no error here. A
    /// configuration that cannot work is an error.
    pub async fn new(config: MongoConfig) -> Result<Self, StoreError> {
        let address = config.uri.read(PART_NAME)?;
        let options = config.driver_options(&address);
        let logins = LoginChange::of(&config);
        let options = errors::with_timeout(QUERY_TIMEOUT, "reading the address", logins, options).await?;
        let client = Client::with_options(options.clone());
        let client = client.map_err(|error| errors::store_error("configuring", logins, &error))?;
        let archive = Self {
            client_in_use: ClientInUse::new(client),
            database: config.database.clone(),
            suffix: String::new(),
            logins,
            login_refusals: Arc::default(),
            commit_state: Arc::default(),
            snapshot_identities: Arc::default(),
        };
        if let Some(watch) = CredentialsWatch::new(config, address, &options, &archive.login_refusals)? {
            watch.start(&archive.client_in_use, &archive.commit_state);
        }
        Ok(archive)
    }

    /// Returns the client in use; another one after the credentials have changed.
    fn client(&self) -> Client {
        self.client_in_use.get()
    }

    /// Returns the archive's database, of the client in use.
    fn db(&self) -> Database {
        self.client().database(&self.database)
    }

    /// Returns the same archive on the client of a session. What belongs to a session has to be done on its client, also
    /// while another client takes that one's place.
    fn of_session(&self, session: &ClientSession) -> Self {
        Self { client_in_use: ClientInUse::new(session.client()), ..self.clone() }
    }

    /// Sets the largest number of events' identities that are kept in memory, approximately; beyond it each identity
    /// is stored in a document of its own. The default is 8,388,608 identities, which take 128 MiB.
    pub async fn set_max_identities_in_memory(&self, max: usize) {
        self.commit_state.lock().await.identities.max_identities = max;
    }

    /// Returns an archive on the same servers, in the database `database` and in collections whose names end in
    /// `suffix`.
    fn in_database(&self, database: &str, suffix: String) -> Self {
        Self {
            client_in_use: self.client_in_use.clone(),
            database: database.to_owned(),
            suffix,
            logins: self.logins,
            login_refusals: Arc::clone(&self.login_refusals),
            commit_state: Arc::default(),
            snapshot_identities: Arc::default(),
        }
    }

    /// Bounds the time of a request to the server, as [`errors::with_timeout`] does.
    async fn with_timeout<T>(
        &self,
        time: Duration,
        doing: &str,
        talk: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        let talk = async { talk.await.inspect_err(|error| self.note_error(error)) };
        errors::with_timeout(time, doing, self.logins, talk).await
    }

    /// Turns a driver's error into a [`StoreError`], as [`errors::store_error`] does.
    fn store_error(&self, doing: &str, error: &Error) -> StoreError {
        self.note_error(error);
        errors::store_error(doing, self.logins, error)
    }

    fn note_error(&self, error: &Error) {
        if errors::is_login_refused(error) {
            self.login_refusals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the name of a collection in the database, with the archive's suffix.
    fn collection_name(&self, collection: &str) -> String {
        format!("{collection}{}", self.suffix)
    }

    fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.db().collection(&self.collection_name(name))
    }

    async fn read_meta_doc(&self) -> Result<Option<MetaDoc>, StoreError> {
        self.with_timeout(QUERY_TIMEOUT, "reading the meta document", async {
            self.collection::<MetaDoc>("meta").find_one(doc! { "_id": MetaDoc::ID }).await
        })
        .await
    }

    /// Reads the position in each of the partitions, in the order of `partitions`.
    async fn positions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError> {
        let ids: Vec<i64> = partitions.iter().map(|partition| i64::from(*partition)).collect();
        let split = |found: OffsetDoc| (found.partition, found.position());
        let found = self.find_by_values("offsets", "_id", &ids, split).await?;
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Reads all documents that match a filter, up to `limit`.
    async fn find_documents<T: DeserializeOwned + Send + Sync + Unpin>(
        &self,
        collection: &str,
        filter: Document,
        sort: Document,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        // MongoDB understands a limit of 0 as no limit.
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.with_timeout(QUERY_TIMEOUT, "reading", async {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let collection = self.collection::<T>(collection);
            collection
                .find(filter)
                .sort(sort)
                .limit(limit)
                .batch_size(SINGLE_ANSWER_BATCH_SIZE)
                .await?
                .try_collect()
                .await
        })
        .await
    }

    /// Finds the documents whose `field` is one of `ids`; returns them in the order of `ids`, `None` for those that do
    /// not exist.
    async fn find_by_values<T, K, V>(
        &self,
        collection: &str,
        field: &str,
        ids: &[K],
        split: impl Fn(T) -> (K, V),
    ) -> Result<Vec<Option<V>>, StoreError>
    where
        T: DeserializeOwned + Send + Sync + Unpin,
        K: Hash + Eq + Clone + Into<Bson>,
        V: Clone,
    {
        let filter = doc! { field: { "$in": ids.iter().cloned().map(Into::into).collect::<Vec<Bson>>() } };
        let found = self.find_documents(collection, filter, doc! {}, ids.len()).await?;
        let found: HashMap<K, V> = found.into_iter().map(split).collect();
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }
}

#[async_trait]
impl Archive for MongoArchive {
    async fn open(&self, wanted: &CountingRules) -> Result<ArchiveMeta, StoreError> {
        opening::open(self, wanted).await
    }

    async fn archive_meta(&self) -> Result<Option<ArchiveMeta>, StoreError> {
        self.read_meta_doc().await?.map(MetaDoc::into_meta).transpose()
    }

    async fn claim_partitions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError> {
        ownership::claim_partitions(self, partitions).await
    }

    async fn partition_positions(&self, partitions: &[u32]) -> Result<Vec<ArchivePosition>, StoreError> {
        self.positions(partitions).await
    }

    async fn commit_batch(&self, batch: &Batch) -> Result<CommitResult, CommitError> {
        commit::commit(self, batch).await
    }

    async fn video(&self, id: &VideoId) -> Result<Option<VideoState>, StoreError> {
        let found = self.find_documents("videos", doc! { "video_id": id.as_str() }, doc! {}, 1).await?;
        found.into_iter().next().map(VideoDoc::into_state).transpose()
    }

    async fn videos_after(
        &self,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError> {
        let filter = after.map_or_else(Document::new, |id| doc! { "video_id": { "$gt": id.as_str() } });
        let found = self.find_documents("videos", filter, doc! { "video_id": 1 }, limit).await?;
        found.into_iter().map(VideoDoc::into_state).collect()
    }

    async fn comments(
        &self,
        video: &VideoId,
        page: CommentPage,
        limit: usize,
    ) -> Result<Vec<Comment>, StoreError> {
        let bound = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
        let (range, order) = match page {
            CommentPage::Before(seq) => (doc! { "$lt": bound(seq) }, -1),
            CommentPage::After(seq) => (doc! { "$gt": bound(seq) }, 1),
        };
        let filter = doc! { "video_id": video.as_str(), "seq": range };
        let found = self.find_documents("comments", filter, doc! { "seq": order }, limit).await?;
        found.into_iter().map(|found: CommentDoc| Ok(found.into_numbered()?.comment)).collect()
    }

    async fn newest_comment(&self, video: &VideoId, id: &CommentId) -> Result<Option<Comment>, StoreError> {
        let filter = doc! { "comment_id": id.as_str(), "video_id": video.as_str() };
        let found = self.find_documents("comments", filter, doc! { "seq": -1 }, 1).await?;
        found.into_iter().next().map(|found: CommentDoc| Ok(found.into_numbered()?.comment)).transpose()
    }

    async fn comments_from(
        &self,
        partition: u32,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<NumberedComment>, StoreError> {
        let filter = doc! { "partition": i64::from(partition), "offset": { "$gte": offset as i64 } };
        let found = self.find_documents("comments", filter, doc! { "offset": 1 }, limit).await?;
        found.into_iter().map(CommentDoc::into_numbered).collect()
    }

    async fn set_counted_windows(&self, kinds: &[WindowKind]) -> Result<ArchiveMeta, StoreError> {
        windows::set_counted_windows(self, kinds).await
    }

    async fn set_counted_decays(&self, decays: &[Decay]) -> Result<ArchiveMeta, StoreError> {
        decays::set_counted_decays(self, decays).await
    }

    async fn window_videos(
        &self,
        window: &WindowKey,
        ids: &[VideoId],
    ) -> Result<Vec<VideoState>, StoreError> {
        windows::window_videos(self, window, ids).await
    }

    async fn window_videos_after(
        &self,
        window: &WindowKey,
        after: Option<&VideoId>,
        limit: usize,
    ) -> Result<Vec<VideoState>, StoreError> {
        windows::read_window_videos_after(self, window, after, limit).await
    }

    async fn forget_windows(&self, kind: &WindowKind, start: Millis) -> Result<u64, StoreError> {
        windows::delete_old_windows(self, kind, start).await
    }

    async fn last_seqs(&self, videos: &[VideoId]) -> Result<Vec<u64>, StoreError> {
        let ids: Vec<&str> = videos.iter().map(VideoId::as_str).collect();
        let found = self.find_in_videos(&ids, |found: HeadDoc| (found.video_id, found.last_seq)).await?;
        Ok(found.into_iter().map(|seq| seq.unwrap_or(0) as u64).collect())
    }

    async fn videos_metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        let ids: Vec<&str> = videos.iter().map(VideoId::as_str).collect();
        let found = self.find_in_videos(&ids, |found: MetadataDoc| (found.video_id, found.metadata)).await?;
        found
            .into_iter()
            .map(|json| json.flatten().as_deref().map(documents::video::parse_metadata).transpose())
            .collect()
    }

    async fn videos_watch_ms(&self, videos: &[VideoId]) -> Result<Vec<Option<i64>>, StoreError> {
        let ids: Vec<&str> = videos.iter().map(VideoId::as_str).collect();
        self.find_in_videos(&ids, |found: WatchDoc| (found.video_id, found.watch_ms)).await
    }

    async fn video_owners(&self, videos: &[VideoId]) -> Result<Vec<Option<UserId>>, StoreError> {
        let ids: Vec<&str> = videos.iter().map(VideoId::as_str).collect();
        let found = self.find_in_videos(&ids, |found: OwnerDoc| (found.video_id, found.user_id)).await?;
        found
            .into_iter()
            .map(|owner| owner.map(|id| documents::video::parse_owner(&id)).transpose())
            .collect()
    }

    async fn forget_identities_before(&self, watermark: Millis) -> Result<u64, StoreError> {
        let old = doc! { "time": { "$lt": watermark } };
        let ids: Vec<IdDoc> = self
            .find_documents("seen", old.clone(), doc! { "time": 1 }, IDENTITIES_FORGOTTEN_AT_ONCE as usize)
            .await?;
        let in_segments = identities::forget_segments(self, watermark).await?;
        if ids.is_empty() {
            return Ok(in_segments);
        }
        let ids: Vec<Bson> = ids.into_iter().map(|found| found.id).collect();
        // The filter repeats the time: an identity that was seen again since it was found stays.
        let filter = doc! { "_id": { "$in": ids }, "time": { "$lt": watermark } };
        let gone = self.with_timeout(QUERY_TIMEOUT, "forgetting identities", async {
            self.collection::<IdDoc>("seen").delete_many(filter).await
        });
        Ok(gone.await?.deleted_count + in_segments)
    }

    fn moderation_archive(&self) -> &dyn ModerationArchive {
        self
    }

    fn rebuild_archive(&self) -> &dyn ArchiveRebuild {
        self
    }

    async fn comment_count(&self) -> Result<u64, StoreError> {
        self.with_timeout(QUERY_TIMEOUT, "counting comments", async {
            self.collection::<CommentDoc>("comments").estimated_document_count().await
        })
        .await
    }

    async fn store_time(&self) -> Result<Option<Millis>, StoreError> {
        let hello = self.with_timeout(QUERY_TIMEOUT, "asking for the time", async {
            self.client().database("admin").run_command(doc! { "hello": 1 }).await
        });
        let hello = hello.await?;
        let time = hello.get_datetime("localTime").map_err(|_| StoreError::unusable(PART_NAME, "no time"))?;
        Ok(Some(time.timestamp_millis()))
    }
}

impl MongoArchive {
    async fn find_in_videos<T, V>(
        &self,
        ids: &[&str],
        split: impl Fn(T) -> (String, V),
    ) -> Result<Vec<Option<V>>, StoreError>
    where
        T: DeserializeOwned + Send + Sync + Unpin,
        V: Clone,
    {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        self.find_by_values("videos", "video_id", &ids, split).await
    }
}
