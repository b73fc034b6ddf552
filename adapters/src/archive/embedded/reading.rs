//! Reads of the archive, each from one snapshot.

use std::ops::Bound;

use liverank_core::counting::{NumberedComment, VideoState};
use liverank_core::{Comment, CommentId, VideoId};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::super::{ArchiveMeta, ArchivePosition, CommentPage};
use super::meta::read_meta as meta_in;
use super::rows::{decode_comment, decode_video, read_positions};
use super::tables::Tables;
use crate::redb_file::FileFailure;

pub fn read_meta(database: &Database, tables: &Tables) -> Result<Option<ArchiveMeta>, FileFailure> {
    meta_in(&database.begin_read()?.open_table(tables.meta)?)
}

pub fn read_offsets(
    database: &Database,
    tables: &Tables,
    partitions: &[u32],
) -> Result<Vec<ArchivePosition>, FileFailure> {
    read_positions(&database.begin_read()?.open_table(tables.offsets)?, partitions)
}

pub fn read_videos(
    database: &Database,
    tables: &Tables,
    ids: &[VideoId],
) -> Result<Vec<Option<VideoState>>, FileFailure> {
    let table = database.begin_read()?.open_table(tables.videos)?;
    let state = |id: &VideoId| match table.get(id.as_str())? {
        Some(bytes) => decode_video(id.as_str(), bytes.value()).map(Some),
        None => Ok(None),
    };
    ids.iter().map(state).collect()
}

pub fn videos_after(
    database: &Database,
    tables: &Tables,
    after: Option<&VideoId>,
    limit: usize,
) -> Result<Vec<VideoState>, FileFailure> {
    let table = database.begin_read()?.open_table(tables.videos)?;
    let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str()));
    let states = table.range::<&str>((from, Bound::Unbounded))?.take(limit).map(|entry| {
        let (id, bytes) = entry?;
        decode_video(id.value(), bytes.value())
    });
    states.collect()
}

pub fn read_comments(
    database: &Database,
    tables: &Tables,
    video: &VideoId,
    page: CommentPage,
    limit: usize,
) -> Result<Vec<Comment>, FileFailure> {
    let table = database.begin_read()?.open_table(tables.comments)?;
    let id = video.as_str();
    match page {
        CommentPage::Before(seq) => {
            let range = table.range((id, 0)..(id, seq))?;
            range.rev().take(limit).map(|entry| decode_comment_row(&entry?)).collect()
        }
        CommentPage::After(seq) => {
            let bounds = (Bound::Excluded((id, seq)), Bound::Included((id, u64::MAX)));
            // An exclusive bound at the very end would be above the inclusive one.
            if seq == u64::MAX {
                return Ok(Vec::new());
            }
            let range = table.range::<(&str, u64)>(bounds)?;
            range.take(limit).map(|entry| decode_comment_row(&entry?)).collect()
        }
    }
}

type CommentRow<'a> = (redb::AccessGuard<'a, (&'static str, u64)>, redb::AccessGuard<'a, &'static [u8]>);

fn decode_comment_row((key, bytes): &CommentRow) -> Result<Comment, FileFailure> {
    let (video, seq) = key.value();
    decode_comment(video, seq, bytes.value())
}

/// Reads the comment that a row of another table points to; an error if it does not exist.
fn read_referenced_comment(
    table: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    video: &str,
    seq: u64,
) -> Result<Comment, FileFailure> {
    let missing = || FileFailure::Damaged(format!("comment {seq} of {video:?} is not there"));
    let bytes = table.get((video, seq))?.ok_or_else(missing)?;
    decode_comment(video, seq, bytes.value())
}

pub fn read_comment(
    database: &Database,
    tables: &Tables,
    video: &VideoId,
    id: &CommentId,
) -> Result<Option<Comment>, FileFailure> {
    let transaction = database.begin_read()?;
    let seq = transaction
        .open_table(tables.newest_by_id)?
        .get((video.as_str(), id.as_str()))?
        .map(|seq| seq.value());
    let table = transaction.open_table(tables.comments)?;
    seq.map(|seq| read_referenced_comment(&table, video.as_str(), seq)).transpose()
}

pub fn comments_from(
    database: &Database,
    tables: &Tables,
    partition: u32,
    offset: u64,
    limit: usize,
) -> Result<Vec<NumberedComment>, FileFailure> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(tables.comments)?;
    let places = transaction.open_table(tables.entries_by_log_position)?;
    let comments = places.range((partition, offset)..=(partition, u64::MAX))?.take(limit).map(|entry| {
        let (place, target) = entry?;
        let ((partition, offset), (video, seq)) = (place.value(), target.value());
        Ok(NumberedComment { comment: read_referenced_comment(&table, video, seq)?, partition, offset })
    });
    comments.collect()
}

pub fn comment_count(database: &Database, tables: &Tables) -> Result<u64, FileFailure> {
    Ok(database.begin_read()?.open_table(tables.comment_count)?.get(())?.map_or(0, |count| count.value()))
}
