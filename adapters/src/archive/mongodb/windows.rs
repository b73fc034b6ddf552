//! Counts by window. A document is what happened to one video in one window; commits add to it, and read none.

use liverank_core::counting::VideoState;
use liverank_core::score::Counters;
use liverank_core::windows::{CountedKind, CountedWindows, WindowChange, WindowKey, WindowKind};
use liverank_core::{Millis, VideoId};
use mongodb::bson::{self, Bson, Document, doc};
use mongodb::error::Error;
use serde::{Deserialize, Serialize};

use super::super::{Archive, ArchiveMeta, WindowCount};
use super::barrier::{self, Change};
use super::documents::{IdDoc, MetaDoc, OffsetDoc, VideoDoc, damaged};
use super::opening::{NAMESPACE_EXISTS, code};
use super::transaction::{Stop, Transaction, never_opened, to_raw_documents};
use super::{MongoArchive, OPEN_TIMEOUT, PART_NAME, QUERY_TIMEOUT, swapping, with_timeout};
use crate::StoreError;

/// Counts forgotten a call: some ten milliseconds of work.
const COUNTS_FORGOTTEN_AT_ONCE: usize = 5_000;

/// A kind of windows that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CountedDoc {
    kind: String,
    /// Absent where all windows have all that happened in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

impl CountedDoc {
    pub(super) fn all(windows: &CountedWindows) -> Vec<Self> {
        let of = |CountedKind { kind, whole_after }: &CountedKind| Self {
            kind: kind.to_string(),
            whole_after: *whole_after,
        };
        windows.iter().map(of).collect()
    }

    pub(super) fn read(stored: &[Self]) -> Result<CountedWindows, StoreError> {
        let of = |Self { kind, whole_after }: &Self| {
            let kind = WindowKind::parse(kind).map_err(|error| damaged("meta", &error))?;
            Ok(CountedKind { kind, whole_after: *whole_after })
        };
        stored.iter().map(of).collect()
    }

    pub(super) fn to_bson(stored: &[Self]) -> Result<Bson, StoreError> {
        bson::to_bson(stored).map_err(|error| StoreError::unusable(PART_NAME, error))
    }
}

/// What happened to a video in a window. A counter that is absent is 0.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WindowDoc {
    /// Kind, start and video, in an order of bytes in which the videos of a window are together.
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
        let wrong = |error| damaged("windows", &error);
        let kind = WindowKind::parse(&self.kind).map_err(wrong)?;
        let video = VideoId::parse(&self.video_id).map_err(wrong)?;
        let window = WindowKey { kind, start: self.start };
        Ok(WindowCount { window, video, counters: self.counters })
    }
}

/// What the ids of all videos of a window begin with. After a blank, or there would be none between two windows.
fn prefix(WindowKey { kind, start }: &WindowKey) -> String {
    format!("{kind} {start:015} ")
}

/// The statement that adds to what happened to a video in a window.
fn addition(WindowChange { window, video, counters }: &WindowChange) -> Document {
    // By name, so that the compiler finds a counter that is not stored.
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
    let id = format!("{}{video}", prefix(window));
    let what = doc! { "kind": window.kind.to_string(), "start": window.start, "video_id": video.as_str() };
    doc! { "q": { "_id": id }, "u": { "$inc": added, "$setOnInsert": what }, "upsert": true }
}

impl Transaction<'_> {
    pub(super) async fn add_to_windows(&mut self, changes: &[WindowChange]) -> Result<(), Stop> {
        self.update("windows", to_raw_documents(changes.iter().map(addition))?).await
    }
}

/// Creates the collection where it is absent: no transaction has to.
pub(super) async fn create(archive: &MongoArchive) -> Result<(), Error> {
    match archive.db.create_collection(archive.collection_name("windows")).await {
        Err(error) if code(&error) == Some(NAMESPACE_EXISTS) => Ok(()),
        other => other,
    }
}

/// Counts these kinds from now on: no commit overlaps the change.
pub(super) async fn count(archive: &MongoArchive, kinds: &[WindowKind]) -> Result<ArchiveMeta, StoreError> {
    if !kinds.is_empty() {
        with_timeout(OPEN_TIMEOUT, "creating a collection", create(archive)).await?;
    }
    let decide = |meta: &MetaDoc, offsets: &[OffsetDoc]| {
        if meta.is_swapping() {
            return Ok(None);
        }
        let before = meta.clone().into_meta()?;
        let last = last_counted(offsets);
        let windows = CountedDoc::to_bson(&CountedDoc::all(&before.windows.changed_to(kinds, last)))?;
        let meta = doc! { "$set": { "windows": windows } };
        Ok(Some(Change {
            meta_update: meta,
            other_updates: vec![("offsets".to_owned(), begin_here(&before, offsets))],
        }))
    };
    while !barrier::change_meta(archive, &decide).await? {
        swapping::finish_any(archive).await?;
    }
    archive.read_meta_doc().await?.ok_or_else(never_opened)?.into_meta()
}

/// The statements that say that windows and decays are counted from here on, where neither was counted `before`.
pub(super) fn begin_here(before: &ArchiveMeta, offsets: &[OffsetDoc]) -> Vec<Document> {
    if !before.windows.is_empty() || !before.decays.is_empty() {
        return Vec::new();
    }
    offsets.iter().map(OffsetDoc::counted_to_here).collect()
}

/// When the log took the last record that is counted.
pub(super) fn last_counted<'a>(offsets: impl IntoIterator<Item = &'a OffsetDoc>) -> Option<Millis> {
    offsets.into_iter().filter_map(|found| Some(found.position().last_record?.broker_time)).max()
}

/// The windows that a replay counts where an archive counts these: a copy that it begins with was counted without those that
/// it does not know.
pub(super) async fn of_replay(
    windows: &CountedWindows,
    source: Option<&MongoArchive>,
) -> Result<CountedWindows, StoreError> {
    let kinds: Vec<WindowKind> = windows.iter().map(|counted| counted.kind.clone()).collect();
    let Some(source) = source else { return Ok(CountedWindows::default().changed_to(&kinds, None)) };
    let known = source.archive_meta().await?.map(|meta| meta.windows).unwrap_or_default();
    let offsets: Vec<OffsetDoc> = source.find_documents("offsets", doc! {}, doc! {}, usize::MAX).await?;
    let last = last_counted(&offsets);
    Ok(known.changed_to(&kinds, last))
}

/// Those of these videos that are in a window, as they are there. The videos are read first: what is counted later is newer.
pub(super) async fn read(
    archive: &MongoArchive,
    window: &WindowKey,
    ids: &[VideoId],
) -> Result<Vec<VideoState>, StoreError> {
    let videos: Vec<&str> = ids.iter().map(VideoId::as_str).collect();
    let filter = doc! { "video_id": { "$in": &videos } };
    let found: Vec<VideoDoc> = archive.find_documents("videos", filter, doc! {}, ids.len()).await?;
    let states: Vec<VideoState> =
        found.into_iter().map(VideoDoc::into_state).collect::<Result<_, StoreError>>()?;
    let prefix = prefix(window);
    let keys: Vec<String> = states.iter().map(|state| format!("{prefix}{}", state.video_id)).collect();
    let counters = archive
        .find_by_values("windows", "_id", &keys, |found: WindowDoc| (found.id, found.counters))
        .await?;
    let within = states.into_iter().zip(counters);
    Ok(within.filter_map(|(state, counters)| Some(state.within_window(counters?))).collect())
}

/// The videos of a window after this one.
pub(super) async fn read_after(
    archive: &MongoArchive,
    window: &WindowKey,
    after: Option<&VideoId>,
    limit: usize,
) -> Result<Vec<VideoState>, StoreError> {
    let prefix = prefix(window);
    // A `!` comes next after the blank that the prefix ends with.
    let end = format!("{}!", prefix.trim_end());
    let begin = format!("{prefix}{}", after.map_or("", VideoId::as_str));
    let filter = doc! { "_id": { "$gt": begin, "$lt": end } };
    let found: Vec<WindowDoc> = archive.find_documents("windows", filter, doc! { "_id": 1 }, limit).await?;
    let ids: Result<Vec<VideoId>, _> = found.iter().map(|found| VideoId::parse(&found.video_id)).collect();
    let mut videos = read(archive, window, &ids.map_err(|error| damaged("windows", &error))?).await?;
    videos.sort_unstable_by(|a, b| a.video_id.cmp(&b.video_id));
    Ok(videos)
}

/// Forgets some of what is counted in windows of this kind that begin before `start`.
pub(super) async fn forget(
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
    let gone = with_timeout(QUERY_TIMEOUT, "forgetting counts of windows", async {
        archive.collection::<IdDoc>("windows").delete_many(doc! { "_id": { "$in": ids } }).await
    });
    Ok(gone.await?.deleted_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{check_json_fixture, video};

    #[test]
    fn counts_of_windows_have_fixtures() {
        let window = WindowKey {
            kind: WindowKind::parse("day of Europe/Berlin").expect("a kind"),
            start: 1_700_000_000_000,
        };
        let today = WindowChange { window, video: video().video_id, counters: video().counters };
        // What the statement makes where there was nothing.
        let write = |change: &WindowChange| {
            let statement = addition(change);
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
