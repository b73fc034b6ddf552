//! The one thread that writes the embedded log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use bytes::Bytes;
use liverank_core::trace::TraceContext;
use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::{DeadLetter, RecordPosition};
use super::records::{
    DEAD_LETTER_DETAILS_TABLE, DEAD_LETTER_PARTITION, DEAD_LETTERS_TABLE, LogEnds, RECORDS_TABLE,
    encode_dead_letter, encode_record,
};
use super::shared::SharedLog;
use crate::StoreError;
use crate::clock::Clock;
use crate::redb_file::{FileFailure, RETRY_INTERVAL, begin_durable};

/// The largest number of appends written in one transaction: with more, sharing the fsync saves nothing further, and
/// the first append would wait for the last.
const MAX_APPENDS_PER_COMMIT: usize = 4096;
/// The largest number of bytes written in one transaction.
const MAX_GROUP_BYTES: usize = 8 << 20;

/// An entry that is to be written.
pub enum AppendedEntry {
    Record {
        partition: u32,
        key: Option<Bytes>,
        value: Bytes,
        trace: Option<TraceContext>,
    },
    /// A dead letter, and the size of its whole value in bytes if the value or the key was truncated.
    DeadLetter(DeadLetter, Option<u64>),
}

impl AppendedEntry {
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Record { key, value, .. } => key.as_ref().map_or(0, Bytes::len) + value.len(),
            Self::DeadLetter(letter, _) => {
                letter.record.key.as_ref().map_or(0, Bytes::len)
                    + letter.record.value.len()
                    + letter.reason.len()
            }
        }
    }
}

/// An append that waits to be written.
pub struct AppendRequest {
    pub entry: AppendedEntry,
    /// Receives the result once the append is durable or has failed; the caller may be gone by then.
    pub answer_sender: oneshot::Sender<Result<RecordPosition, StoreError>>,
    /// The append's part of the bytes that may wait, released on drop.
    pub _waiting_bytes: OwnedSemaphorePermit,
}

pub struct AppendCommitter {
    shared: Arc<SharedLog>,
    clock: Clock,
    log_ends: LogEnds,
    /// The number of the file's opening (`RedbFile` generation) at which `log_ends` were read.
    generation: u64,
}

impl AppendCommitter {
    pub fn new(shared: Arc<SharedLog>, clock: Clock) -> Result<Self, StoreError> {
        let mut committer = Self { shared, clock, log_ends: LogEnds::default(), generation: 0 };
        committer.reread_if_reopened()?;
        Ok(committer)
    }

    /// Writes appends until the log is dropped.
    pub fn run(&mut self, waiting: &Receiver<AppendRequest>) {
        loop {
            // While the file is broken, somebody has to try it again even if there are no appends.
            let first = if self.shared.file.file_health().is_ok() {
                waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                waiting.recv_timeout(RETRY_INTERVAL)
            };
            match first {
                Ok(first) => self.write_group(gather_waiting(first, waiting)),
                // The failure is stored in the file's health; changes of the health are logged there.
                Err(RecvTimeoutError::Timeout) => drop(self.reread_if_reopened()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads the ends of the log from the file, if the file was opened again since the last read.
    fn reread_if_reopened(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        shared.file.with_database(|database, generation| self.read_log_ends(database, generation))
    }

    fn read_log_ends(&mut self, database: &Database, generation: u64) -> Result<(), FileFailure> {
        if generation != self.generation {
            // A commit that failed may be in the file all the same.
            self.log_ends = LogEnds::load_ends(database)?;
            self.generation = generation;
            self.publish_durable_ends();
        }
        Ok(())
    }

    fn publish_durable_ends(&self) {
        self.shared.signal.send_modify(|signal| signal.durable_ends = self.log_ends.next_offsets);
    }

    fn write_group(&mut self, group: Vec<AppendRequest>) {
        let shared = Arc::clone(&self.shared);
        let result = shared.file.with_database(|database, generation| {
            self.read_log_ends(database, generation)?;
            self.commit_group(database, &group)
        });
        match result {
            Ok(places) => {
                // Stored before anybody can read the records.
                shared.traces.keep_traces(group.iter().zip(&places).filter_map(|(request, place)| {
                    let AppendedEntry::Record { trace, .. } = &request.entry else { return None };
                    Some((*place, (*trace)?))
                }));
                self.publish_durable_ends();
                for (request, place) in group.into_iter().zip(places) {
                    let _gone = request.answer_sender.send(Ok(place));
                }
            }
            Err(error) => {
                for request in group {
                    let _gone = request.answer_sender.send(Err(error.clone()));
                }
            }
        }
    }

    fn commit_group(
        &mut self,
        database: &Database,
        group: &[AppendRequest],
    ) -> Result<Vec<RecordPosition>, FileFailure> {
        let mut heads = self.log_ends.clone();
        let mut places = Vec::with_capacity(group.len());
        let now = (self.clock)();
        let transaction = begin_durable(database)?;
        {
            let mut records = transaction.open_table(RECORDS_TABLE)?;
            let mut letters = transaction.open_table(DEAD_LETTERS_TABLE)?;
            let mut notes = transaction.open_table(DEAD_LETTER_DETAILS_TABLE)?;
            for request in group {
                match &request.entry {
                    AppendedEntry::Record { partition, key, value, trace: _ } => {
                        let at = *partition as usize;
                        let (partition, offset) = (*partition, heads.next_offsets[at]);
                        heads.last_times[at] = heads.last_times[at].max(now);
                        heads.next_offsets[at] += 1;
                        let bytes = encode_record(heads.last_times[at], key.as_deref(), value);
                        records.insert((partition, offset), bytes.as_slice())?;
                        places.push(RecordPosition { partition, offset });
                    }
                    AppendedEntry::DeadLetter(letter, cut) => {
                        letters
                            .insert(heads.next_dead_letter_number, encode_dead_letter(letter).as_slice())?;
                        notes.insert(heads.next_dead_letter_number, (now, *cut))?;
                        places.push(RecordPosition {
                            partition: DEAD_LETTER_PARTITION,
                            offset: heads.next_dead_letter_number,
                        });
                        heads.next_dead_letter_number += 1;
                    }
                }
            }
        }
        transaction.commit()?;
        self.log_ends = heads;
        Ok(places)
    }
}

/// Collects the appends that are waiting already, up to a bound, without waiting for more.
fn gather_waiting(first: AppendRequest, waiting: &Receiver<AppendRequest>) -> Vec<AppendRequest> {
    let mut bytes = first.entry.size_bytes();
    let mut group = vec![first];
    while group.len() < MAX_APPENDS_PER_COMMIT && bytes < MAX_GROUP_BYTES {
        let Ok(next) = waiting.try_recv() else { break };
        bytes += next.entry.size_bytes();
        group.push(next);
    }
    group
}
