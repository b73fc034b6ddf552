//! Reads the whole archive as of one moment: every read is of the same snapshot of the server.

use futures::TryStreamExt;
use liverank_core::VideoId;
use liverank_core::counting::{MarkKey, UniqueMark};
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::{CollectionOptions, ReadConcern};
use mongodb::{ClientSession, Collection, SessionCursor};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::{ArchiveSnapshot, CommentTally, StoredVideo};
use super::MongoArchive;
use super::documents::damaged_document;
use super::documents::identity::digest_bson;
use super::documents::mark::UniqueMarkDoc;
use super::documents::meta::MetaDoc;
use super::documents::offset::OffsetDoc;
use super::documents::video::VideoDoc;
use super::transaction::never_opened_error;
use super::windows::WindowDoc;
use crate::StoreError;

/// The number of documents that the server puts into one answer while a snapshot is read.
const CURSOR_BATCH_SIZE: u32 = 10_000;

#[derive(Debug, Deserialize)]
struct CommentTallyDoc {
    #[serde(rename = "_id")]
    video_id: String,
    count: i64,
    /// The highest sequence number of the video's comments.
    last: i64,
}

/// Reads the whole archive. Has no time limit of its own; the server keeps a snapshot for five minutes.
pub(super) async fn read_snapshot(archive: &MongoArchive) -> Result<ArchiveSnapshot, StoreError> {
    let wrong = |error: Error| archive.store_error("reading a snapshot", &error);
    let mut session = archive.client().start_session().snapshot(true).await.map_err(wrong)?;
    let archive = &archive.of_session(&session);
    let meta = snapshot_collection::<MetaDoc>(archive, "meta");
    let meta = meta
        .find_one(doc! { "_id": MetaDoc::ID })
        .session(&mut session)
        .await
        .map_err(wrong)?
        .ok_or_else(never_opened_error)?
        .into_meta()?;
    let offsets: Vec<OffsetDoc> = read_all(archive, &mut session, "offsets", "_id").await.map_err(wrong)?;
    let videos: Vec<VideoDoc> = read_all(archive, &mut session, "videos", "video_id").await.map_err(wrong)?;
    let windows: Vec<WindowDoc> = if meta.windows.is_empty() {
        Vec::new()
    } else {
        read_all(archive, &mut session, "windows", "_id").await.map_err(wrong)?
    };
    let tallies = read_comment_tallies(archive, &mut session).await.map_err(wrong)?;
    let videos = videos.into_iter().map(|video| {
        let score = video.score;
        Ok(StoredVideo { state: video.into_state()?, score })
    });
    let comments = tallies.into_iter().map(|tally| {
        let video_id =
            VideoId::parse(&tally.video_id).map_err(|error| damaged_document("comments", &error))?;
        Ok(CommentTally { video_id, comment_count: tally.count as u64, highest_seq: tally.last as u64 })
    });
    Ok(ArchiveSnapshot {
        meta,
        positions: offsets.iter().map(|found| (found.partition as u32, found.position())).collect(),
        videos: videos.collect::<Result<_, StoreError>>()?,
        comment_tallies: comments.collect::<Result<_, StoreError>>()?,
        window_counts: windows.into_iter().map(WindowDoc::into_count).collect::<Result<_, StoreError>>()?,
    })
}

/// Returns a collection for reads within a snapshot session. The read concern has to be set on the collection: the
/// client's own read concern would win over the session's, and each read would be of another moment.
fn snapshot_collection<T: Send + Sync>(archive: &MongoArchive, name: &str) -> Collection<T> {
    let options = CollectionOptions::builder().read_concern(ReadConcern::snapshot()).build();
    archive.db().collection_with_options(&archive.collection_name(name), options)
}

async fn read_all<T: DeserializeOwned + Send + Sync + Unpin>(
    archive: &MongoArchive,
    session: &mut ClientSession,
    collection: &str,
    key: &str,
) -> Result<Vec<T>, Error> {
    let collection = snapshot_collection::<T>(archive, collection);
    let found = collection.find(doc! {}).sort(doc! { key: 1 }).batch_size(CURSOR_BATCH_SIZE);
    let mut found: SessionCursor<T> = found.session(&mut *session).await?;
    found.stream(session).try_collect().await
}

async fn read_comment_tallies(
    archive: &MongoArchive,
    session: &mut ClientSession,
) -> Result<Vec<CommentTallyDoc>, Error> {
    // Reads along the unique index of (`video_id`, `seq`), which contains all the fields that are needed.
    let stages = [
        doc! { "$sort": { "video_id": 1, "seq": 1 } },
        doc! { "$group": { "_id": "$video_id", "count": { "$sum": 1_i64 }, "last": { "$max": "$seq" } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    let comments = snapshot_collection::<Document>(archive, "comments");
    let grouped = comments
        .aggregate(stages)
        .allow_disk_use(true)
        .batch_size(CURSOR_BATCH_SIZE)
        .with_type::<CommentTallyDoc>();
    let mut grouped = grouped.session(&mut *session).await?;
    grouped.stream(session).try_collect().await
}

/// Reads the marks with these keys that are set, and their values.
pub(super) async fn read_marks(
    archive: &MongoArchive,
    keys: &[MarkKey],
) -> Result<Vec<(MarkKey, UniqueMark)>, StoreError> {
    let ids: Vec<_> = keys.iter().map(digest_bson).collect();
    let found: Vec<UniqueMarkDoc> =
        archive.find_documents("marks", doc! { "_id": { "$in": ids } }, doc! {}, keys.len()).await?;
    Ok(found.iter().filter_map(UniqueMarkDoc::key_and_mark).collect())
}
