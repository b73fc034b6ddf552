//! Reports of comments: one row a comment, and one row in each queue that contains the comment.

use std::collections::HashSet;

use liverank_core::moderation::ReportedComment;
use liverank_core::{CommentId, VideoId};
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::super::{ReportPosition, ReportQueue};
use super::rows::damaged_row;
use super::tables::Tables;
use crate::redb_file::FileFailure;

fn encode_reported(comment: &ReportedComment) -> Vec<u8> {
    serde_json::to_vec(comment).expect("text and numbers always serialise")
}

fn decode_reported(bytes: &[u8]) -> Result<ReportedComment, FileFailure> {
    serde_json::from_slice(bytes).map_err(|error| damaged_row("reports of a comment", error))
}

fn find_reported(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    (video, id): (&str, &str),
) -> Result<Option<ReportedComment>, FileFailure> {
    table.get((video, id))?.map(|bytes| decode_reported(bytes.value())).transpose()
}

/// Reads those of these comments that were reported.
pub(super) fn read_reports(
    transaction: &WriteTransaction,
    tables: &Tables,
    comments: &HashSet<(&VideoId, &CommentId)>,
) -> Result<Vec<ReportedComment>, FileFailure> {
    if comments.is_empty() {
        return Ok(Vec::new());
    }
    let table = transaction.open_table(tables.reports)?;
    let found = comments.iter().map(|(video, id)| find_reported(&table, (video.as_str(), id.as_str())));
    found.filter_map(Result::transpose).collect()
}

/// Writes the reported comments that have changed, and their rows in the queues.
pub(super) fn write_reports(
    transaction: &WriteTransaction,
    tables: &Tables,
    changed: &[ReportedComment],
) -> Result<(), FileFailure> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(tables.reports)?;
    let mut queues = transaction.open_table(tables.report_queues)?;
    for comment in changed {
        let key = (comment.video.as_str(), comment.id.as_str());
        let before = find_reported(&table, key)?;
        table.insert(key, encode_reported(comment).as_slice())?;
        for queue in ReportQueue::ALL {
            if let Some(place) = before.as_ref().and_then(|before| queue.sort_key(before)) {
                queues.remove((queue.name(), place.as_str()))?;
            }
            if let Some(place) = queue.sort_key(comment) {
                queues.insert((queue.name(), place.as_str()), key)?;
            }
        }
    }
    Ok(())
}

pub(super) fn read_reports_of_comment(
    database: &Database,
    tables: &Tables,
    video: &VideoId,
    id: &CommentId,
) -> Result<Option<ReportedComment>, FileFailure> {
    find_reported(&database.begin_read()?.open_table(tables.reports)?, (video.as_str(), id.as_str()))
}

/// A text that sorts after every sort key of a queue.
const AFTER_ALL_SORT_KEYS: &str = "~";

pub(super) fn read_report_queue(
    database: &Database,
    tables: &Tables,
    queue: ReportQueue,
    after: Option<ReportPosition>,
    limit: usize,
) -> Result<Vec<ReportedComment>, FileFailure> {
    let transaction = database.begin_read()?;
    let (table, queues) =
        (transaction.open_table(tables.reports)?, transaction.open_table(tables.report_queues)?);
    let until = after.map_or_else(|| AFTER_ALL_SORT_KEYS.to_owned(), |place| queue.sort_key_of(place));
    let part = (queue.name(), "")..(queue.name(), until.as_str());
    let found = queues.range::<(&str, &str)>(part)?.rev().take(limit).map(|entry| {
        let (_, key) = entry?;
        find_reported(&table, key.value())?
            .ok_or_else(|| damaged_row("reports of a comment", "a queue has one that is not there"))
    });
    found.collect()
}

pub(super) fn count_open_reports(
    database: &Database,
    tables: &Tables,
    video: Option<&VideoId>,
    most: u64,
) -> Result<u64, FileFailure> {
    let queues = database.begin_read()?.open_table(tables.report_queues)?;
    let mut count = 0;
    let name = ReportQueue::OpenNewest.name();
    for entry in queues.range::<(&str, &str)>((name, "")..(name, AFTER_ALL_SORT_KEYS))? {
        let (_, key) = entry?;
        if video.is_none_or(|video| key.value().0 == video.as_str()) {
            count += 1;
        }
        if count >= most {
            break;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::fixtures::{check_json_fixture, fixture_reported, parse_json};

    #[test]
    fn stored_reports_have_fixtures() {
        let write = |comment: &ReportedComment| parse_json(&encode_reported(comment));
        check_json_fixture("embedded-reports", &fixture_reported(), write, |value| {
            decode_reported(value.to_string().as_bytes())
        });
    }
}
