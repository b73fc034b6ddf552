//! Reading without a group: offset ranges of the log, and the dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use redb::Database;

use super::super::{
    CREATED_PARTITION_COUNT, DeadLetterReader, LogReader, OTHER_RECORD_SEEN, RawRecord, ReadRange, ReadStart,
    RecordPosition, StoredDeadLetter, another_log_error,
};
use super::records::{DEAD_LETTER_PARTITION, LogEnds, StoredRange, read_dead_letters, read_records};
use super::shared::{PART_NAME, SharedLog, run_blocking};
use crate::StoreError;
use crate::redb_file::FileFailure;

/// Checks that the log reaches each of these starts, and that the record before it is the one that was read there.
pub async fn check_starts(shared: &Arc<SharedLog>, starts: Vec<ReadStart>) -> Result<(), StoreError> {
    let ends = shared.signal.borrow().durable_ends;
    let mut marked = Vec::new();
    for ReadStart { partition, offset, previous_record: after } in starts {
        let Some(end) = ends.get(partition as usize).copied() else {
            let reason = format!(
                "there is no partition {partition}, only {CREATED_PARTITION_COUNT} of them, from 0 on"
            );
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
            marked.push((StoredRange { partition, first_offset: before, end_offset: offset }, mark));
        }
    }
    if marked.is_empty() {
        return Ok(());
    }
    let file = Arc::clone(shared);
    let (extents, marks): (Vec<_>, Vec<_>) = marked.into_iter().unzip();
    let count = extents.len();
    let found = run_blocking(move || {
        file.file.with_database(|database, _| read_one_of_each_range(database, &extents))
    })
    .await?;
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
fn read_one_of_each_range(
    database: &Database,
    extents: &[StoredRange],
) -> Result<Vec<RawRecord>, FileFailure> {
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
        let ends = stretches
            .iter()
            .map(|stretch| ReadStart::without_previous(stretch.partition, stretch.end_offset));
        let starts = stretches.iter().map(|stretch| ReadStart {
            partition: stretch.partition,
            offset: stretch.first_offset,
            previous_record: stretch.previous_record,
        });
        check_starts(&shared, ends.chain(starts).collect()).await?;
        let left = stretches
            .iter()
            .map(|stretch| StoredRange {
                partition: stretch.partition,
                first_offset: stretch.first_offset,
                end_offset: stretch.end_offset,
            })
            .filter(|extent| extent.first_offset < extent.end_offset)
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
                extent.first_offset = record.offset + 1;
            }
        }
        self.ranges_left.retain(|extent| extent.first_offset < extent.end_offset);
        Ok(records)
    }
}

/// Reads the dead letters of the embedded log.
pub struct EmbeddedDeadLetterReader {
    shared: Arc<SharedLog>,
    /// The number of the next letter to read; `end_number` is the number after the last one.
    next_number: u64,
    end_number: u64,
}

impl EmbeddedDeadLetterReader {
    pub async fn open(shared: Arc<SharedLog>, only: Option<RecordPosition>) -> Result<Self, StoreError> {
        let file = Arc::clone(&shared);
        let end = run_blocking(move || file.file.with_database(|database, _| LogEnds::load_ends(database)))
            .await?
            .next_dead_letter_number;
        let (next, end_number) = match only {
            None => (0, end),
            Some(place) if place.partition == DEAD_LETTER_PARTITION && place.offset < end => {
                (place.offset, place.offset + 1)
            }
            Some(_) => (0, 0),
        };
        Ok(Self { shared, next_number: next, end_number })
    }
}

#[async_trait]
impl DeadLetterReader for EmbeddedDeadLetterReader {
    async fn next_dead_letters(&mut self, max_letters: usize) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let (from, to, limit) = (self.next_number, self.end_number, max_letters.max(1));
        if from >= to {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        let reading =
            move || shared.file.with_database(|database, _| read_dead_letters(database, from, to, limit));
        let letters = run_blocking(reading).await?;
        self.next_number = letters.last().map_or(self.end_number, |letter| letter.letter_position.offset + 1);
        Ok(letters)
    }
}
