//! Reading without a group: offset ranges of the log, and the dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use redb::Database;

use super::super::{
    CREATED_PARTITIONS, LetterReader, LogReader, OTHER_RECORD_SEEN, RawRecord, ReadRange, ReadStart,
    RecordPosition, StoredDeadLetter, another_log_error,
};
use super::records::{LETTER_PARTITION, LogHeads, StoredRange, read_letters, read_records};
use super::{PART_NAME, SharedLog, run_blocking};
use crate::StoreError;
use crate::redb_file::Failure;

/// Checks that the log reaches each of these starts, and that the record before it is the one that was read there.
pub async fn check_starts(shared: &Arc<SharedLog>, starts: Vec<ReadStart>) -> Result<(), StoreError> {
    let ends = shared.signal.borrow().durable_ends;
    let mut marked = Vec::new();
    for ReadStart { partition, offset, previous_record: after } in starts {
        let Some(end) = ends.get(partition as usize).copied() else {
            let reason =
                format!("there is no partition {partition}, only {CREATED_PARTITIONS} of them, from 0 on");
            return Err(StoreError::unusable(PART_NAME, reason));
        };
        if offset > end {
            return Err(another_log_error(
                PART_NAME,
                "the log,",
                partition,
                offset,
                &format!("the log ends at {end}"),
            ));
        }
        if let (Some(mark), Some(before)) = (after, offset.checked_sub(1)) {
            marked.push((StoredRange { partition, first: before, end: offset }, mark));
        }
    }
    if marked.is_empty() {
        return Ok(());
    }
    let file = Arc::clone(shared);
    let (extents, marks): (Vec<_>, Vec<_>) = marked.into_iter().unzip();
    let count = extents.len();
    let found =
        run_blocking(move || file.file.with_database(|database, _| read_each(database, &extents))).await?;
    debug_assert_eq!(found.len(), count, "`read` fails where a record is missing");
    match found.iter().zip(marks).find(|(record, mark)| record.fingerprint() != *mark) {
        None => Ok(()),
        Some((record, _)) => Err(another_log_error(
            PART_NAME,
            "the log,",
            record.partition,
            record.offset + 1,
            OTHER_RECORD_SEEN,
        )),
    }
}

/// Reads one record of each of these ranges, one range at a time, so that no bound on a single read leaves any out.
fn read_each(database: &Database, extents: &[StoredRange]) -> Result<Vec<RawRecord>, Failure> {
    let mut records = Vec::with_capacity(extents.len());
    for extent in extents {
        records.extend(read_records(database, std::slice::from_ref(extent), 1)?);
    }
    Ok(records)
}

/// Reads offset ranges of the log, one after the other.
pub struct EmbeddedReader {
    shared: Arc<SharedLog>,
    /// The ranges, or parts of them, that are still to be read.
    ranges_left: Vec<StoredRange>,
}

impl EmbeddedReader {
    pub async fn open(shared: Arc<SharedLog>, stretches: &[ReadRange]) -> Result<Self, StoreError> {
        let ends =
            stretches.iter().map(|stretch| ReadStart::without_previous(stretch.partition, stretch.end));
        let starts = stretches.iter().map(|stretch| ReadStart {
            partition: stretch.partition,
            offset: stretch.first,
            previous_record: stretch.previous_record,
        });
        check_starts(&shared, ends.chain(starts).collect()).await?;
        let left = stretches
            .iter()
            .map(|stretch| StoredRange {
                partition: stretch.partition,
                first: stretch.first,
                end: stretch.end,
            })
            .filter(|extent| extent.first < extent.end)
            .collect();
        Ok(Self { shared, ranges_left: left })
    }
}

#[async_trait]
impl LogReader for EmbeddedReader {
    async fn next_records(&mut self, max_records: usize) -> Result<Vec<RawRecord>, StoreError> {
        if self.ranges_left.is_empty() {
            return Ok(Vec::new());
        }
        let (shared, left) = (Arc::clone(&self.shared), self.ranges_left.clone());
        let limit = max_records.max(1);
        let records = run_blocking(move || {
            shared.file.with_database(|database, _| read_records(database, &left, limit))
        })
        .await?;
        for record in &records {
            if let Some(extent) =
                self.ranges_left.iter_mut().find(|extent| extent.partition == record.partition)
            {
                extent.first = record.offset + 1;
            }
        }
        self.ranges_left.retain(|extent| extent.first < extent.end);
        Ok(records)
    }
}

/// Reads the dead letters of the embedded log.
pub struct EmbeddedLetterReader {
    shared: Arc<SharedLog>,
    /// The number of the next letter to read; `end` is the number after the last one.
    numbers_left: u64,
    end: u64,
}

impl EmbeddedLetterReader {
    pub async fn open(shared: Arc<SharedLog>, only: Option<RecordPosition>) -> Result<Self, StoreError> {
        let file = Arc::clone(&shared);
        let end = run_blocking(move || file.file.with_database(|database, _| LogHeads::load_heads(database)))
            .await?
            .next_letter;
        let (next, end) = match only {
            None => (0, end),
            Some(place) if place.partition == LETTER_PARTITION && place.offset < end => {
                (place.offset, place.offset + 1)
            }
            Some(_) => (0, 0),
        };
        Ok(Self { shared, numbers_left: next, end })
    }
}

#[async_trait]
impl LetterReader for EmbeddedLetterReader {
    async fn next_letters(&mut self, max_letters: usize) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let (from, to, limit) = (self.numbers_left, self.end, max_letters.max(1));
        if from >= to {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        let reading =
            move || shared.file.with_database(|database, _| read_letters(database, from, to, limit));
        let letters = run_blocking(reading).await?;
        self.numbers_left = letters.last().map_or(self.end, |letter| letter.letter_position.offset + 1);
        Ok(letters)
    }
}
