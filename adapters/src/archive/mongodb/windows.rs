//! Counts by window. A document holds the counters of one video in one window; commits add to it without reading it.

use liverank_core::counting::VideoState;
use liverank_core::score::Counters;
use liverank_core::windows::{CountedWindows, WindowChange, WindowKey, WindowKind};
use liverank_core::{Millis, VideoId};
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use serde::{Deserialize, Serialize};

use super::super::{Archive, ArchiveMeta, WindowCount};
use super::barrier::{self, MetaChange};
use super::documents::meta::MetaDoc;
use super::documents::offset::OffsetDoc;
use super::documents::video::VideoDoc;
use super::documents::windows::CountedWindowsDoc;
use super::documents::{IdDoc, damaged_document};
use super::errors::{NAMESPACE_EXISTS, error_code};
use super::transaction::{AttemptEnd, Transaction, never_opened_error, to_raw_documents};
use super::{MongoArchive, OPEN_TIMEOUT, QUERY_TIMEOUT, swapping};
use crate::StoreError;

/// The number of counts that are deleted in one call: some ten milliseconds of work.
const COUNTS_FORGOTTEN_AT_ONCE: usize = 5_000;

/// The counters of a video in a window. A counter that is absent is 0.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WindowDoc {
    /// The kind, the start and the video as one text; in byte order of this text the videos of a window follow one
    /// another.
    #[serde(rename = "_id")]
    id: String,
    kind: String,
    start: Millis,
    video_id: String,
    #[serde(flatten)]
    counters: Counters,
}

impl WindowDoc {
    pub(super) fn into_count(self) -> Result<WindowCount, StoreError> {
        let wrong = |error| damaged_document("windows", &error);
        let kind = WindowKind::parse(&self.kind).map_err(wrong)?;
        let video = VideoId::parse(&self.video_id).map_err(wrong)?;
        let window = WindowKey { kind, start: self.start };
        Ok(WindowCount { window, video, counters: self.counters })
    }
}

/// Returns the prefix of the ids of all videos of a window. The prefix ends with a blank, which keeps the ids of two
/// windows apart.
fn window_id_prefix(WindowKey { kind, start }: &WindowKey) -> String {
    format!("{kind} {start:015} ")
}

/// Returns the statement that adds to the counters of a video in a window.
fn addition_statement(WindowChange { window, video, counters }: &WindowChange) -> Document {
    // The fields are named, so that the compiler finds a counter that is not stored.
    let Counters { views, likes, comments, shares, watch_ms, watch_short, watch_long } = *counters;
    let added = [
        ("views", views),
        ("likes", likes),
        ("comments", comments),
        ("shares", shares),
        ("watch_ms", watch_ms),
        ("watch_short", watch_short),
        ("watch_long", watch_long),
    ];
    let added = added.into_iter().filter(|(_, count)| *count != 0);
    let added: Document = added.map(|(name, count)| (name.to_owned(), Bson::from(count))).collect();
    let id = format!("{}{video}", window_id_prefix(window));
    let what = doc! { "kind": window.kind.to_string(), "start": window.start, "video_id": video.as_str() };
    doc! { "q": { "_id": id }, "u": { "$inc": added, "$setOnInsert": what }, "upsert": true }
}

impl Transaction<'_> {
    pub(super) async fn add_to_windows(&mut self, changes: &[WindowChange]) -> Result<(), AttemptEnd> {
        self.update("windows", to_raw_documents(changes.iter().map(addition_statement))?).await
    }
}

/// Creates the collection of counts if it is absent, so that no transaction has to.
pub(super) async fn create_collection(archive: &MongoArchive) -> Result<(), Error> {
    match archive.db().create_collection(archive.collection_name("windows")).await {
        Err(error) if error_code(&error) == Some(NAMESPACE_EXISTS) => Ok(()),
        other => other,
    }
}

/// Makes the archive count these kinds of windows from now on, and no others. The change is made by a barrier, so no
/// commit overlaps it.
pub(super) async fn set_counted_windows(
    archive: &MongoArchive,
    kinds: &[WindowKind],
) -> Result<ArchiveMeta, StoreError> {
    if !kinds.is_empty() {
        archive.with_timeout(OPEN_TIMEOUT, "creating a collection", create_collection(archive)).await?;
    }
    let decide = |meta: &MetaDoc, offsets: &[OffsetDoc]| {
        if meta.is_swapping() {
            return Ok(None);
        }
        let before = meta.clone().into_meta()?;
        let last = last_counted_time(offsets);
        let windows = CountedWindowsDoc::to_bson(&CountedWindowsDoc::from_windows(
            &before.windows.with_wanted_kinds(kinds, last),
        ))?;
        let meta = doc! { "$set": { "windows": windows } };
        Ok(Some(MetaChange {
            meta_update: meta,
            other_updates: vec![("offsets".to_owned(), counting_start_statements(&before, offsets))],
        }))
    };
    while !barrier::change_meta(archive, &decide).await? {
        swapping::finish_pending_swap(archive).await?;
    }
    archive.read_meta_doc().await?.ok_or_else(never_opened_error)?.into_meta()
}

/// Returns the statements that record that windows and decays are counted from here on; none if either was counted
/// `before`.
pub(super) fn counting_start_statements(before: &ArchiveMeta, offsets: &[OffsetDoc]) -> Vec<Document> {
    if !before.windows.is_empty() || !before.decays.is_empty() {
        return Vec::new();
    }
    offsets.iter().map(OffsetDoc::end_gap_statement).collect()
}

/// Returns the time at which the log appended the last counted record; `None` if nothing was counted.
pub(super) fn last_counted_time<'a>(offsets: impl IntoIterator<Item = &'a OffsetDoc>) -> Option<Millis> {
    offsets.into_iter().filter_map(|found| Some(found.position().last_record?.broker_time)).max()
}

/// Returns the windows that a replay counts, for an archive that counts `windows`. A replay that starts as a copy of
/// `source` has complete counts only for the kinds that `source` counted.
pub(super) async fn replay_windows(
    windows: &CountedWindows,
    source: Option<&MongoArchive>,
) -> Result<CountedWindows, StoreError> {
    let kinds: Vec<WindowKind> = windows.iter().map(|counted| counted.kind.clone()).collect();
    let Some(source) = source else { return Ok(CountedWindows::default().with_wanted_kinds(&kinds, None)) };
    let known = source.archive_meta().await?.map(|meta| meta.windows).unwrap_or_default();
    let offsets: Vec<OffsetDoc> = source.find_documents("offsets", doc! {}, doc! {}, usize::MAX).await?;
    let last = last_counted_time(&offsets);
    Ok(known.with_wanted_kinds(&kinds, last))
}

/// Reads those of these videos that have counts in a window, with these counts. The videos are read first, so counts
/// may be newer than states.
pub(super) async fn window_videos(
    archive: &MongoArchive,
    window: &WindowKey,
    ids: &[VideoId],
) -> Result<Vec<VideoState>, StoreError> {
    let videos: Vec<&str> = ids.iter().map(VideoId::as_str).collect();
    let filter = doc! { "video_id": { "$in": &videos } };
    let found: Vec<VideoDoc> = archive.find_documents("videos", filter, doc! {}, ids.len()).await?;
    let states: Vec<VideoState> =
        found.into_iter().map(VideoDoc::into_state).collect::<Result<_, StoreError>>()?;
    let prefix = window_id_prefix(window);
    let keys: Vec<String> = states.iter().map(|state| format!("{prefix}{}", state.video_id)).collect();
    let counters = archive
        .find_by_values("windows", "_id", &keys, |found: WindowDoc| (found.id, found.counters))
        .await?;
    let within = states.into_iter().zip(counters);
    Ok(within.filter_map(|(state, counters)| Some(state.with_window_counters(counters?))).collect())
}

/// Reads up to `limit` videos of a window with ids after `after`, in ascending order of ids.
pub(super) async fn read_window_videos_after(
    archive: &MongoArchive,
    window: &WindowKey,
    after: Option<&VideoId>,
    limit: usize,
) -> Result<Vec<VideoState>, StoreError> {
    let prefix = window_id_prefix(window);
    // In byte order, `!` follows the blank with which the prefix ends.
    let end = format!("{}!", prefix.trim_end());
    let begin = format!("{prefix}{}", after.map_or("", VideoId::as_str));
    let filter = doc! { "_id": { "$gt": begin, "$lt": end } };
    let found: Vec<WindowDoc> = archive.find_documents("windows", filter, doc! { "_id": 1 }, limit).await?;
    let ids: Result<Vec<VideoId>, _> = found.iter().map(|found| VideoId::parse(&found.video_id)).collect();
    let mut videos =
        window_videos(archive, window, &ids.map_err(|error| damaged_document("windows", &error))?).await?;
    videos.sort_unstable_by(|a, b| a.video_id.cmp(&b.video_id));
    Ok(videos)
}

/// Deletes some of the counts of windows of this kind that begin before `start`; returns how many were deleted.
pub(super) async fn delete_old_windows(
    archive: &MongoArchive,
    kind: &WindowKind,
    start: Millis,
) -> Result<u64, StoreError> {
    let old = doc! { "_id": { "$gt": format!("{kind} "), "$lt": format!("{kind} {start:015} ") } };
    let ids: Vec<IdDoc> =
        archive.find_documents("windows", old, doc! { "_id": 1 }, COUNTS_FORGOTTEN_AT_ONCE).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Bson> = ids.into_iter().map(|found| found.id).collect();
    let gone = archive.with_timeout(QUERY_TIMEOUT, "forgetting counts of windows", async {
        archive.collection::<IdDoc>("windows").delete_many(doc! { "_id": { "$in": ids } }).await
    });
    Ok(gone.await?.deleted_count)
}

#[cfg(test)]
mod tests {
    use mongodb::bson;

    use super::*;
    use crate::fixtures::{check_json_fixture, video};

    #[test]
    fn counts_of_windows_have_fixtures() {
        let window = WindowKey {
            kind: WindowKind::parse("day of Europe/Berlin").expect("a kind"),
            start: 1_700_000_000_000,
        };
        let today = WindowChange { window, video: video().video_id, counters: video().counters };
        // The document that the statement creates if there is none.
        let write = |change: &WindowChange| {
            let statement = addition_statement(change);
            let part = |of: &Document, name: &str| of.get_document(name).expect("a document").clone();
            let (query, update) = (part(&statement, "q"), part(&statement, "u"));
            let mut made = query;
            made.extend(part(&update, "$setOnInsert"));
            made.extend(part(&update, "$inc"));
            Bson::Document(made).into_canonical_extjson()
        };
        check_json_fixture("mongodb-window", &today, write, |json| {
            let bson = Bson::try_from(json.clone()).map_err(|error| error.to_string())?;
            let read: WindowDoc = bson::from_bson(bson).map_err(|error| error.to_string())?;
            let WindowCount { window, video, counters } =
                read.into_count().map_err(|error| error.to_string())?;
            Ok::<_, String>(WindowChange { window, video, counters })
        });
    }
}
