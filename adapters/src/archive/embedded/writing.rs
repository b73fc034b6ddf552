//! Writes of the embedded archive, each in one transaction.

use std::collections::HashSet;

use liverank_core::comment::CommentEpoch;
use liverank_core::counting::{
    Batch, BatchEffects, CountingRules, MarkChange, MarkKey, NumberedComment, UniqueMark, VideoState,
    apply_moderated_batch,
};
use liverank_core::decays::CountedDecays;
use liverank_core::windows::CountedWindows;
use liverank_core::{Millis, VideoId};
use redb::{Database, ReadableTable, WriteTransaction};

use super::super::{ArchiveMeta, ArchivePosition, CommitError, CommitResult};
use super::meta::{encode_meta, read_meta as meta_in};
use super::moderation_writing::{read_moderation, write_moderation};
use super::rows::{
    decode_parts, decode_position, decode_video, encode_comment, encode_parts, encode_video, read_positions,
};
use super::tables::Tables;
use super::windows;
use crate::redb_file::{FileFailure, begin_durable};

/// Writes the meta data of a new archive, unless there are some already, and returns those in force; `bits` are the
/// random bits of the new comment epoch.
pub fn create_meta(
    database: &Database,
    tables: &Tables,
    wanted: &CountingRules,
    bits: u64,
) -> Result<ArchiveMeta, FileFailure> {
    let transaction = begin_durable(database)?;
    let meta = {
        let mut table = transaction.open_table(tables.meta)?;
        let found = meta_in(&table)?;
        if let Some(meta) = found {
            return Ok(meta);
        }
        let (windows, decays) = (CountedWindows::default(), CountedDecays::default());
        let numbering = CommentEpoch::from_bits(bits);
        let meta =
            ArchiveMeta { comment_epoch: numbering, generation: 1, counting_rules: *wanted, windows, decays };
        table.insert((), encode_meta(&meta).as_str())?;
        meta
    };
    transaction.commit()?;
    Ok(meta)
}

/// Applies a batch if the archive's next offsets are those at which the batch begins. Every early return leaves the
/// file unchanged.
pub fn commit_batch(
    database: &Database,
    tables: &Tables,
    batch: &Batch,
    me: u64,
) -> Result<Result<CommitResult, CommitError>, FileFailure> {
    let transaction = begin_durable(database)?;
    let mut meta = meta_in(&transaction.open_table(tables.meta)?)?
        .ok_or_else(|| FileFailure::Damaged("a batch comes before the archive was opened".to_owned()))?;
    if batch.offset_ranges.is_empty() && batch.records.is_empty() {
        let batch_effects = BatchEffects::default();
        return Ok(Ok(CommitResult { batch_effects, meta_in_force: meta, stores_identity_documents: true }));
    }
    // Before the offsets move, because they tell what was counted without windows and decays.
    windows::note_counted_ranges(&transaction, tables, &mut meta, &batch.offset_ranges)?;
    if let Some(fence) = advance_offsets(&transaction, tables, batch, me)? {
        return Ok(Err(fence));
    }
    let videos = known_videos(&transaction, tables, &batch.videos())?;
    let sightings = known_sightings(&transaction, tables, &batch.event_identities())?;
    let moderated = read_moderation(&transaction, tables, batch)?;
    let marks = known_marks(&transaction, tables, batch.affected_marks(meta.counting_rules.unique))?;
    let effects =
        apply_moderated_batch(&batch.records, videos, sightings, moderated, marks, meta.counting_setup());
    put_videos(&transaction, tables, &effects.videos)?;
    put_identities(&transaction, tables, &effects.new_identities)?;
    put_comments(&transaction, tables, &effects)?;
    write_moderation(&transaction, tables, &effects)?;
    put_marks(&transaction, tables, &effects.mark_changes)?;
    windows::add_counts(&transaction, tables, &effects.window_changes)?;
    transaction.commit()?;
    Ok(Ok(CommitResult { batch_effects: effects, meta_in_force: meta, stores_identity_documents: true }))
}

/// Makes `me` the owner of the partitions, and returns their positions.
pub fn claim_partitions(
    database: &Database,
    tables: &Tables,
    partitions: &[u32],
    me: u64,
) -> Result<Vec<ArchivePosition>, FileFailure> {
    let transaction = begin_durable(database)?;
    let positions = {
        let mut owners = transaction.open_table(tables.owners)?;
        for partition in partitions {
            owners.insert(partition, me)?;
        }
        read_positions(&transaction.open_table(tables.offsets)?, partitions)?
    };
    transaction.commit()?;
    Ok(positions)
}

/// Moves the offsets; returns an error instead if another archive owns a partition, or if a partition's next offset is
/// not the one at which the batch begins.
fn advance_offsets(
    transaction: &WriteTransaction,
    tables: &Tables,
    batch: &Batch,
    me: u64,
) -> Result<Option<CommitError>, FileFailure> {
    let mut table = transaction.open_table(tables.offsets)?;
    let owners = transaction.open_table(tables.owners)?;
    for span in &batch.offset_ranges {
        let partition = span.partition;
        if owners.get(partition)?.is_some_and(|owner| owner.value() != me) {
            return Ok(Some(CommitError::TakenOver { partition }));
        }
        let before = table.get(partition)?.map(|before| before.value());
        let ArchivePosition { next_offset: actual, last_record: last } =
            before.map_or_else(ArchivePosition::default, decode_position);
        // If a range is empty, the record before it stays the last one.
        let last = if span.next == span.first { last } else { span.last_record };
        table.insert(partition, (span.next, last.map(|mark| (mark.broker_time, mark.digest))))?;
        if actual != span.first {
            return Ok(Some(CommitError::PositionMismatch { partition, expected: span.first, actual }));
        }
    }
    Ok(None)
}

fn known_videos(
    transaction: &WriteTransaction,
    tables: &Tables,
    ids: &HashSet<&VideoId>,
) -> Result<Vec<VideoState>, FileFailure> {
    let table = transaction.open_table(tables.videos)?;
    let known = ids.iter().filter_map(|id| {
        let bytes = table.get(id.as_str()).transpose()?;
        Some(bytes.map_err(FileFailure::from).and_then(|bytes| decode_video(id.as_str(), bytes.value())))
    });
    known.collect()
}

fn known_sightings(
    transaction: &WriteTransaction,
    tables: &Tables,
    identities: &HashSet<String>,
) -> Result<Vec<(String, Millis)>, FileFailure> {
    let table = transaction.open_table(tables.identities)?;
    // In the order of the table: neighbours share pages, random keys do not.
    let mut identities: Vec<&String> = identities.iter().collect();
    identities.sort_unstable();
    let known = identities.into_iter().filter_map(|identity| {
        let time = table.get(identity.as_str()).transpose()?;
        Some(time.map(|time| (identity.clone(), time.value())).map_err(FileFailure::from))
    });
    known.collect()
}

fn known_marks(
    transaction: &WriteTransaction,
    tables: &Tables,
    keys: HashSet<MarkKey>,
) -> Result<Vec<(MarkKey, UniqueMark)>, FileFailure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let values = transaction.open_table(tables.marks)?;
    let beside = (transaction.open_table(tables.mark_times)?, transaction.open_table(tables.mark_parts)?);
    read_marks(&values, &beside.0, &beside.1, keys)
}

/// Reads the marks among `keys` that are set, and their values.
pub fn read_marks(
    values: &impl ReadableTable<MarkKey, u64>,
    times: &impl ReadableTable<MarkKey, Millis>,
    parts: &impl ReadableTable<MarkKey, &'static [u8]>,
    keys: impl IntoIterator<Item = MarkKey>,
) -> Result<Vec<(MarkKey, UniqueMark)>, FileFailure> {
    let mut keys: Vec<MarkKey> = keys.into_iter().collect();
    keys.sort_unstable();
    let mut set = Vec::new();
    for key in keys {
        let Some(bits) = values.get(key)? else { continue };
        let counted_at = times.get(key)?.map(|at| at.value());
        let decayed = parts.get(key)?.map(|bytes| decode_parts(bytes.value())).transpose()?;
        let decay_contributions = decayed.unwrap_or_default();
        set.push((
            key,
            UniqueMark { trending_log2: f64::from_bits(bits.value()), counted_at, decay_contributions },
        ));
    }
    Ok(set)
}

fn put_marks(
    transaction: &WriteTransaction,
    tables: &Tables,
    changes: &[MarkChange],
) -> Result<(), FileFailure> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut values = transaction.open_table(tables.marks)?;
    let mut times = transaction.open_table(tables.mark_times)?;
    let mut parts = transaction.open_table(tables.mark_parts)?;
    for MarkChange { key, new_value: now, .. } in changes {
        match now {
            Some(mark) => values.insert(key, mark.trending_log2.to_bits())?,
            None => values.remove(key)?,
        };
        match now.as_ref().and_then(|mark| mark.counted_at) {
            Some(at) => times.insert(key, at)?,
            None => times.remove(key)?,
        };
        match now.as_ref().map(|mark| &mark.decay_contributions).filter(|decayed| !decayed.is_empty()) {
            Some(decayed) => drop(parts.insert(key, encode_parts(decayed).as_slice())?),
            None => drop(parts.remove(key)?),
        }
    }
    Ok(())
}

fn put_videos(
    transaction: &WriteTransaction,
    tables: &Tables,
    videos: &[VideoState],
) -> Result<(), FileFailure> {
    let mut table = transaction.open_table(tables.videos)?;
    for state in videos {
        table.insert(state.video_id.as_str(), encode_video(state).as_slice())?;
    }
    Ok(())
}

fn put_identities(
    transaction: &WriteTransaction,
    tables: &Tables,
    identities: &[(String, Millis)],
) -> Result<(), FileFailure> {
    let mut times = transaction.open_table(tables.identities)?;
    let mut sightings = transaction.open_table(tables.sightings)?;
    // In the order of the table, as in `known_sightings`. An identity may come twice, a day apart: the later time
    // stays.
    let mut identities: Vec<&(String, Millis)> = identities.iter().collect();
    identities.sort_by(|a, b| a.0.cmp(&b.0));
    for (identity, time) in identities {
        let before = times.insert(identity.as_str(), time)?.map(|before| before.value());
        if let Some(before) = before {
            sightings.remove((before, identity.as_str()))?;
        }
        sightings.insert((*time, identity.as_str()), ())?;
    }
    Ok(())
}

fn put_comments(
    transaction: &WriteTransaction,
    tables: &Tables,
    effects: &BatchEffects,
) -> Result<(), FileFailure> {
    if effects.archived_comments().next().is_none() {
        return Ok(());
    }
    let mut table = transaction.open_table(tables.comments)?;
    let mut places = transaction.open_table(tables.entries_by_log_position)?;
    let mut names = transaction.open_table(tables.newest_by_id)?;
    let mut added = 0;
    for NumberedComment { comment, partition, offset } in effects.archived_comments() {
        let (video, seq) = (comment.video_id.as_str(), comment.seq);
        table.insert((video, seq), encode_comment(comment).as_slice())?;
        places.insert((*partition, *offset), (video, seq))?;
        names.insert((video, comment.id.as_str()), seq)?;
        added += 1;
    }
    let mut count = transaction.open_table(tables.comment_count)?;
    let before = count.get(())?.map_or(0, |count| count.value());
    count.insert((), before + added)?;
    Ok(())
}

/// Forgets up to `limit` of the identities seen before `watermark`, the oldest first; returns how many were forgotten.
pub fn forget_identities(
    database: &Database,
    tables: &Tables,
    watermark: Millis,
    limit: usize,
) -> Result<u64, FileFailure> {
    let transaction = begin_durable(database)?;
    let mut forgotten = 0;
    {
        let mut times = transaction.open_table(tables.identities)?;
        let mut sightings = transaction.open_table(tables.sightings)?;
        while forgotten < limit {
            let oldest = sightings.first()?.map(|(key, _)| {
                let (time, identity) = key.value();
                (time, identity.to_owned())
            });
            let Some((time, identity)) = oldest.filter(|(time, _)| *time < watermark) else { break };
            sightings.remove((time, identity.as_str()))?;
            times.remove(identity.as_str())?;
            forgotten += 1;
        }
    }
    if forgotten == 0 {
        return Ok(0);
    }
    transaction.commit()?;
    Ok(forgotten as u64)
}

#[cfg(test)]
mod fixtures {
    use redb::backends::InMemoryBackend;
    use serde_json::{Value, json};

    use super::super::tables::LIVE_TABLES;
    use super::*;
    use crate::fixtures::{check_json_fixture, decay_contributions};

    fn memory_database() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).expect("a file in memory")
    }

    /// Returns the row that a mark is stored as: its key in hexadecimal digits, and the bits of its number.
    fn encode_mark_row(change: &MarkChange) -> Result<Value, FileFailure> {
        let database = memory_database();
        let transaction = database.begin_write()?;
        put_marks(&transaction, &LIVE_TABLES, std::slice::from_ref(change))?;
        let table = transaction.open_table(LIVE_TABLES.marks)?;
        let (key, bits) = table.first()?.expect("one row");
        let at = transaction.open_table(LIVE_TABLES.mark_times)?.get(key.value())?.map(|at| at.value());
        let digits = format!("{:032x}", u128::from_be_bytes(key.value()));
        let mut row = json!({ "key": digits, "log2_bits": bits.value() });
        if let Some(at) = at {
            row["at"] = json!(at);
        }
        if let Some(parts) = transaction.open_table(LIVE_TABLES.mark_parts)?.get(key.value())? {
            row["parts"] = serde_json::from_slice(parts.value()).expect("JSON");
        }
        Ok(row)
    }

    /// Returns the mark that is read from a row.
    fn parse_mark(row: &Value) -> Result<MarkChange, FileFailure> {
        let text = row["key"].as_str().unwrap_or_default();
        let key = u128::from_str_radix(text, 16).expect("hexadecimal digits").to_be_bytes();
        let database = memory_database();
        let transaction = database.begin_write()?;
        let mut table = transaction.open_table(LIVE_TABLES.marks)?;
        table.insert(key, row["log2_bits"].as_u64().expect("bits"))?;
        let mut times = transaction.open_table(LIVE_TABLES.mark_times)?;
        if let Some(at) = row["at"].as_i64() {
            times.insert(key, at)?;
        }
        let mut parts = transaction.open_table(LIVE_TABLES.mark_parts)?;
        if row["parts"].is_array() {
            parts.insert(key, row["parts"].to_string().as_bytes())?;
        }
        let (key, mark) = read_marks(&table, &times, &parts, [key])?.pop().expect("it is set");
        Ok(MarkChange { key, is_stored: true, new_value: Some(mark) })
    }

    #[test]
    fn stored_unique_marks_have_fixtures() {
        let says = UniqueMark {
            trending_log2: 81_234.5,
            counted_at: Some(1_700_000_000_250),
            decay_contributions: decay_contributions(),
        };
        let today = MarkChange { key: [9; 16], is_stored: true, new_value: Some(says) };
        check_json_fixture(
            "embedded-mark",
            &today,
            |change| encode_mark_row(change).expect("a row"),
            parse_mark,
        );
    }
}
