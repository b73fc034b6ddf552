//! Counts by window, the windows and decays that are counted, and the offsets up to which they are.

use std::ops::Bound;

use liverank_core::counting::{OffsetRange, VideoState};
use liverank_core::decays::Decay;
use liverank_core::score::Counters;
use liverank_core::windows::{WindowChange, WindowKey, WindowKind};
use liverank_core::{Millis, VideoId};
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::super::{ArchiveMeta, WindowCount};
use super::meta::{change_meta, encode_meta};
use super::rows::{decode_position, decode_video};
use super::tables::{StoredPosition, Tables};
use crate::redb_file::{FileFailure, begin_durable};

/// The key of a count: the kind and start of a window, and the video.
type WindowCountKey = (&'static str, Millis, &'static str);

/// Makes the archive count these kinds of windows from now on, and no others.
pub fn set_counted_windows(
    database: &Database,
    tables: &Tables,
    kinds: &[WindowKind],
) -> Result<ArchiveMeta, FileFailure> {
    change_meta(database, tables, |transaction, before| {
        let last = start_at_current_offsets(transaction, tables, before)?;
        Ok(ArchiveMeta { windows: before.windows.with_wanted_kinds(kinds, last), ..before.clone() })
    })
}

/// Makes the archive count these decays from now on, and no others.
pub fn set_counted_decays(
    database: &Database,
    tables: &Tables,
    decays: &[Decay],
) -> Result<ArchiveMeta, FileFailure> {
    change_meta(database, tables, |transaction, before| {
        let last = start_at_current_offsets(transaction, tables, before)?;
        Ok(ArchiveMeta {
            decays: before.decays.with_wanted_decays(decays, last, rand::random),
            ..before.clone()
        })
    })
}

/// Stores the present offsets as those from which windows and decays are counted, if neither was counted `before`.
/// Returns the time at which the log appended the last counted record.
fn start_at_current_offsets(
    transaction: &WriteTransaction,
    tables: &Tables,
    before: &ArchiveMeta,
) -> Result<Option<Millis>, FileFailure> {
    let offsets = transaction.open_table(tables.offsets)?;
    let mut counted_to = transaction.open_table(tables.window_offsets)?;
    let mut last: Option<Millis> = None;
    for entry in offsets.iter()? {
        let (partition, found) = entry?;
        let stands = decode_position(found.value());
        last = last.max(stands.last_record.map(|record| record.broker_time));
        if before.windows.is_empty() && before.decays.is_empty() {
            counted_to.insert(partition.value(), stands.next_offset)?;
        }
    }
    Ok(last)
}

/// Stores that these ranges are counted in windows and by decays, and notes gaps that were counted without them. To be
/// called before the offsets move.
pub fn note_counted_ranges(
    transaction: &WriteTransaction,
    tables: &Tables,
    meta: &mut ArchiveMeta,
    spans: &[OffsetRange],
) -> Result<(), FileFailure> {
    if meta.windows.is_empty() && meta.decays.is_empty() {
        return Ok(());
    }
    let offsets = transaction.open_table(tables.offsets)?;
    let mut counted_to = transaction.open_table(tables.window_offsets)?;
    let (mut windows, mut decays) = (meta.windows.clone(), meta.decays.clone());
    for span in spans {
        let before = counted_to.insert(span.partition, span.next)?.map_or(0, |next| next.value());
        if before != span.first {
            let found: Option<StoredPosition> = offsets.get(span.partition)?.map(|found| found.value());
            let last = found.and_then(|found| decode_position(found).last_record);
            let until = last.map(|record| record.broker_time);
            windows = windows.with_counting_gap(until);
            decays = decays.with_counting_gap(until, rand::random);
        }
    }
    if (&windows, &decays) != (&meta.windows, &meta.decays) {
        (meta.windows, meta.decays) = (windows, decays);
        transaction.open_table(tables.meta)?.insert((), encode_meta(meta).as_str())?;
    }
    Ok(())
}

/// Adds a batch's counts to the counts of windows.
pub fn add_counts(
    transaction: &WriteTransaction,
    tables: &Tables,
    changes: &[WindowChange],
) -> Result<(), FileFailure> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(tables.windows)?;
    for WindowChange { window: WindowKey { kind, start }, video, counters } in changes {
        let kind = kind.to_string();
        let key = (kind.as_str(), *start, video.as_str());
        let before = table.get(key)?.map(|bytes| decode_counters(bytes.value())).transpose()?;
        let mut sum = before.unwrap_or_default();
        sum.merge(counters);
        table.insert(key, encode_counters(&sum).as_slice())?;
    }
    Ok(())
}

fn encode_counters(counters: &Counters) -> Vec<u8> {
    serde_json::to_vec(counters).expect("numbers always serialise")
}

fn decode_counters(bytes: &[u8]) -> Result<Counters, FileFailure> {
    serde_json::from_slice(bytes)
        .map_err(|error| FileFailure::Damaged(format!("counts of a window: {error}")))
}

/// Reads those of these videos that have counts in a window, with these counts.
pub fn read_window_videos(
    database: &Database,
    tables: &Tables,
    window: &WindowKey,
    ids: &[VideoId],
) -> Result<Vec<VideoState>, FileFailure> {
    let transaction = database.begin_read()?;
    let (videos, windows) = (transaction.open_table(tables.videos)?, transaction.open_table(tables.windows)?);
    let kind = window.kind.to_string();
    let mut found = Vec::new();
    for id in ids {
        let counts = windows.get((kind.as_str(), window.start, id.as_str()))?;
        if let (Some(counts), Some(state)) = (counts, videos.get(id.as_str())?) {
            let state = decode_video(id.as_str(), state.value())?;
            found.push(state.with_window_counters(decode_counters(counts.value())?));
        }
    }
    Ok(found)
}

/// Reads up to `limit` videos of a window with ids after `after`, in ascending order of ids.
pub fn read_window_videos_after(
    database: &Database,
    tables: &Tables,
    window: &WindowKey,
    after: Option<&VideoId>,
    limit: usize,
) -> Result<Vec<VideoState>, FileFailure> {
    let kind = window.kind.to_string();
    let ids: Vec<VideoId> = {
        let table = database.begin_read()?.open_table(tables.windows)?;
        let from = match after {
            Some(after) => Bound::Excluded((kind.as_str(), window.start, after.as_str())),
            None => Bound::Included((kind.as_str(), window.start, "")),
        };
        let to = Bound::Excluded((kind.as_str(), window.start + 1, ""));
        let keys = table.range::<(&str, Millis, &str)>((from, to))?.take(limit);
        keys.map(|entry| parse_video_id(entry?.0.value().2)).collect::<Result<_, FileFailure>>()?
    };
    read_window_videos(database, tables, window, &ids)
}

fn parse_video_id(id: &str) -> Result<VideoId, FileFailure> {
    VideoId::parse(id).map_err(|error| FileFailure::Damaged(error.to_string()))
}

/// Reads all counts by window.
pub fn read_all_window_counts(
    table: &impl ReadableTable<WindowCountKey, &'static [u8]>,
) -> Result<Vec<WindowCount>, FileFailure> {
    let decoded = table.iter()?.map(|entry| {
        let (key, counts) = entry?;
        let (kind, start, id) = key.value();
        let kind = WindowKind::parse(kind).map_err(|error| FileFailure::Damaged(error.to_string()))?;
        let window = WindowKey { kind, start };
        Ok(WindowCount { window, video: parse_video_id(id)?, counters: decode_counters(counts.value())? })
    });
    decoded.collect()
}

/// Deletes up to `limit` counts of windows of this kind that begin before `start`, those of the oldest windows first;
/// returns how many were deleted.
pub fn delete_old_windows(
    database: &Database,
    tables: &Tables,
    kind: &WindowKind,
    start: Millis,
    limit: usize,
) -> Result<u64, FileFailure> {
    let transaction = begin_durable(database)?;
    let kind = kind.to_string();
    let mut forgotten = 0;
    {
        let mut table = transaction.open_table(tables.windows)?;
        let old = (kind.as_str(), Millis::MIN, "")..(kind.as_str(), start, "");
        for entry in table.extract_from_if::<(&str, Millis, &str), _>(old, |_, _| true)?.take(limit) {
            entry?;
            forgotten += 1;
        }
    }
    if forgotten > 0 {
        transaction.commit()?;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use liverank_core::counting::{Batch, CountingRules, LogRecord, RecordFingerprint};
    use liverank_core::{Interaction, Kind, UserId};
    use redb::backends::InMemoryBackend;

    use super::super::tables::LIVE_TABLES;
    use super::super::{reading, writing};
    use super::*;

    const BEGIN: Millis = 1_700_000_000_000;

    /// Commits the record at this offset: a like of the user `who`, or its opposite.
    fn commit(database: &Database, offset: u64, who: &str, kind: Kind) {
        let video = VideoId::parse("v").unwrap();
        let event = Interaction {
            video_id: video,
            user_id: UserId::parse(who).unwrap(),
            kind,
            watch_ms: 0,
            timestamp: BEGIN,
            event_id: None,
            owner_id: None,
            comment: None,
            moderation: None,
        };
        let last = RecordFingerprint { broker_time: BEGIN + offset as Millis, digest: 1 };
        let span = OffsetRange { partition: 0, first: offset, next: offset + 1, last_record: Some(last) };
        let record = LogRecord { partition: 0, offset, broker_time: last.broker_time, event };
        let batch = Batch { offset_ranges: vec![span], records: vec![record] };
        writing::commit_batch(database, &LIVE_TABLES, &batch, 7).unwrap().unwrap();
    }

    fn events_in_score(database: &Database) -> u64 {
        let ids = [VideoId::parse("v").unwrap()];
        let video = reading::read_videos(database, &LIVE_TABLES, &ids).unwrap().pop().flatten().unwrap();
        video.decayed_scores.iter().map(|score| score.event_count).sum()
    }

    #[test]
    fn what_a_release_without_windows_and_half_lives_counted_in_between_is_noted() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let transaction = begin_durable(&database).unwrap();
        LIVE_TABLES.create_absent(&transaction).unwrap();
        transaction.commit().unwrap();
        let rules = CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() };
        writing::create_meta(&database, &LIVE_TABLES, &rules, 7).unwrap();
        set_counted_windows(&database, &LIVE_TABLES, &[WindowKind::parse("day of UTC").unwrap()]).unwrap();
        let before = set_counted_decays(&database, &LIVE_TABLES, &[Decay::new(60, None).unwrap()]).unwrap();
        commit(&database, 0, "ana", Kind::Like);
        assert_eq!(
            (reading::read_meta(&database, &LIVE_TABLES).unwrap(), events_in_score(&database)),
            (Some(before.clone()), 1)
        );
        // An earlier release counts a record, and does not move the offset up to which windows are counted.
        let transaction = begin_durable(&database).unwrap();
        transaction.open_table(LIVE_TABLES.offsets).unwrap().insert(0, (2, Some((BEGIN + 5, 3)))).unwrap();
        transaction.commit().unwrap();
        commit(&database, 2, "ana", Kind::Unlike);
        commit(&database, 3, "ben", Kind::Like);
        commit(&database, 4, "ben", Kind::Unlike);
        let after = reading::read_meta(&database, &LIVE_TABLES).unwrap().unwrap();
        let (was, is) = (before.decays.iter().next().unwrap(), after.decays.iter().next().unwrap());
        assert!(is.run != was.run && is.complete_after == Some(BEGIN + 5), "{is:?}");
        assert_eq!(after.windows.iter().next().unwrap().complete_after, Some(BEGIN + 5));
        assert_eq!(
            events_in_score(&database),
            1,
            "ana's stays, as it may be gone already; ben's is taken off"
        );
    }
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::fixtures::{check_json_fixture, parse_json, video};

    #[test]
    fn stored_counts_of_windows_have_fixtures() {
        let write = |counters: &Counters| parse_json(&encode_counters(counters));
        check_json_fixture("embedded-window", &video().counters, write, |value| {
            decode_counters(value.to_string().as_bytes())
        });
    }
}
