//! Reading without a group: stretches of the log, and the dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use redb::Database;

use super::super::{
    LetterReader, LogReader, OTHER_RECORD_SEEN, PARTITIONS, RawRecord, ReadRange, RecordPosition, Start,
    StoredDeadLetter, another_log_error,
};
use super::records::{Extent, Heads, LETTER_PARTITION, read, read_letters};
use super::{PART_NAME, SharedLog, run_blocking};
use crate::StoreError;
use crate::redb_file::Failure;

/// Checks that the log holds what stands before these starts, as it was read there.
pub async fn check(shared: &Arc<SharedLog>, starts: Vec<Start>) -> Result<(), StoreError> {
    let ends = shared.signal.borrow().ends;
    let mut marked = Vec::new();
    for Start { partition, offset, after } in starts {
        let Some(end) = ends.get(partition as usize).copied() else {
            let reason = format!("there is no partition {partition}, only {PARTITIONS} of them, from 0 on");
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
            marked.push((Extent { partition, from: before, end: offset }, mark));
        }
    }
    if marked.is_empty() {
        return Ok(());
    }
    let file = Arc::clone(shared);
    let (extents, marks): (Vec<_>, Vec<_>) = marked.into_iter().unzip();
    let count = extents.len();
    let found = run_blocking(move || file.file.with(|database, _| read_each(database, &extents))).await?;
    debug_assert_eq!(found.len(), count, "`read` fails where a record is missing");
    match found.iter().zip(marks).find(|(record, mark)| record.mark() != *mark) {
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

/// Reads the records of these extents one by one, so that no bound on what is read at once leaves any out.
fn read_each(database: &Database, extents: &[Extent]) -> Result<Vec<RawRecord>, Failure> {
    let mut records = Vec::with_capacity(extents.len());
    for extent in extents {
        records.extend(read(database, std::slice::from_ref(extent), 1)?);
    }
    Ok(records)
}

/// Reads stretches, one after the other.
pub struct Reader {
    shared: Arc<SharedLog>,
    /// The ranges that are still to be read.
    left: Vec<Extent>,
}

impl Reader {
    pub async fn open(shared: Arc<SharedLog>, stretches: &[ReadRange]) -> Result<Self, StoreError> {
        let ends = stretches.iter().map(|stretch| Start::unmarked(stretch.partition, stretch.to));
        let starts = stretches.iter().map(|stretch| Start {
            partition: stretch.partition,
            offset: stretch.from,
            after: stretch.after,
        });
        check(&shared, ends.chain(starts).collect()).await?;
        let left = stretches
            .iter()
            .map(|stretch| Extent { partition: stretch.partition, from: stretch.from, end: stretch.to })
            .filter(|extent| extent.from < extent.end)
            .collect();
        Ok(Self { shared, left })
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self, max_records: usize) -> Result<Vec<RawRecord>, StoreError> {
        if self.left.is_empty() {
            return Ok(Vec::new());
        }
        let (shared, left) = (Arc::clone(&self.shared), self.left.clone());
        let limit = max_records.max(1);
        let records =
            run_blocking(move || shared.file.with(|database, _| read(database, &left, limit))).await?;
        for record in &records {
            if let Some(extent) = self.left.iter_mut().find(|extent| extent.partition == record.partition) {
                extent.from = record.offset + 1;
            }
        }
        self.left.retain(|extent| extent.from < extent.end);
        Ok(records)
    }
}

/// Reads dead letters.
pub struct Letters {
    shared: Arc<SharedLog>,
    /// The number of the next letter, and the one after the last.
    next: u64,
    end: u64,
}

impl Letters {
    pub async fn open(shared: Arc<SharedLog>, only: Option<RecordPosition>) -> Result<Self, StoreError> {
        let file = Arc::clone(&shared);
        let end = run_blocking(move || file.file.with(|database, _| Heads::load(database))).await?.letter;
        let (next, end) = match only {
            None => (0, end),
            Some(place) if place.partition == LETTER_PARTITION && place.offset < end => {
                (place.offset, place.offset + 1)
            }
            Some(_) => (0, 0),
        };
        Ok(Self { shared, next, end })
    }
}

#[async_trait]
impl LetterReader for Letters {
    async fn next(&mut self, max_letters: usize) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let (from, to, limit) = (self.next, self.end, max_letters.max(1));
        if from >= to {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        let reading = move || shared.file.with(|database, _| read_letters(database, from, to, limit));
        let letters = run_blocking(reading).await?;
        self.next = letters.last().map_or(self.end, |letter| letter.place.offset + 1);
        Ok(letters)
    }
}
