//! The log in one file on this machine, for one process.
//!
//! Appends go through a bounded queue to one committer thread, which writes the waiting appends in one transaction and
//! answers once the transaction is on the disk: under load, many appends share an fsync. Readers see a record only
//! after that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use liverank_core::trace::TraceContext;
use redb::{Database, DatabaseError};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use self::committer::{AppendCommitter, AppendRequest, AppendedEntry};
use self::consumer::EmbeddedConsumer;
use self::group::ConsumerGroup;
use self::reading::{EmbeddedDeadLetterReader, EmbeddedReader};
use self::shared::{PART_NAME, SharedLog, run_blocking};
use self::traces::RecordTraces;
use super::{
    AppendError, CREATED_PARTITION_COUNT, DeadLetter, DeadLetterFilter, DeadLetterReader, EventLog,
    LogConsumer, LogReader, ReadRange, RecordPosition, RecordRetention,
};
use crate::StoreError;
use crate::clock::Clock;
use crate::export_topics::ExportTopics;
use crate::redb_file::{DatabaseOpener, RedbFile};

mod committer;
mod consumer;
mod group;
mod reading;
mod records;
mod shared;
mod traces;

pub use self::shared::MAX_RECORD_BYTES;

/// The name of the log's file in the data directory.
pub const LOG_FILE_NAME: &str = "log.redb";
/// The largest number of appends that wait to be written. A commit takes milliseconds and contains all that wait: a
/// queue this long means that the disk does not answer, and a longer one would only lose more appends together.
const MAX_WAITING_APPENDS: usize = 16_384;
/// The largest number of bytes that wait to be written or are being written.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// The time for which an append waits for the disk: as long as a Kafka append waits. A disk that does not answer must
/// not block callers, who have to answer their own callers. The record may be written all the same.
const APPEND_DEADLINE: Duration = Duration::from_secs(5);
/// The memory of a waiting append in bytes, besides its key and value.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// The number of dead letters that are examined, and removed, in one transaction.
const DEAD_LETTERS_REMOVED_AT_ONCE: usize = 100;

/// The log in one file, for one process.
pub struct EmbeddedLog {
    shared: Arc<SharedLog>,
    /// The queue to the committer thread. `None` only while dropping.
    queue: Option<SyncSender<AppendRequest>>,
    committer: Option<JoinHandle<()>>,
    waiting_bytes_budget: Arc<Semaphore>,
    /// The partition of the next record without a key.
    next_keyless_partition: AtomicU32,
    /// The topics for other systems, which only tests have.
    export_topics: Option<Arc<dyn ExportTopics>>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`; creates the directory and the file if they are absent. `clock` gives the records'
    /// times.
    ///
    /// Returns an error with the reason if the file is in use by another process, cannot be written, is damaged or has
    /// another format.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        Self::start_committer(RedbFile::open(records::LOG_FILE_KIND, dir, LOG_FILE_NAME)?, clock)
    }

    /// Opens a log on the database that `open` returns; `open` is called again after every failure, and errors call the
    /// log `name`. Tests use it to replace the disk.
    pub fn open_on_medium(
        name: &str,
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let open: DatabaseOpener = Box::new(move |_| Ok(open()?));
        Self::start_committer(RedbFile::open_with(records::LOG_FILE_KIND, name.to_owned(), open)?, clock)
    }

    fn start_committer(file: RedbFile, clock: Clock) -> Result<Self, StoreError> {
        let shared = Arc::new(SharedLog {
            file,
            group: ConsumerGroup::default(),
            signal: watch::Sender::default(),
            traces: RecordTraces::default(),
        });
        let mut committer = AppendCommitter::new(Arc::clone(&shared), clock)?;
        let (queue, waiting) = sync_channel(MAX_WAITING_APPENDS);
        let thread = std::thread::Builder::new()
            .name("log-committer".to_owned())
            .spawn(move || committer.run(&waiting))
            .map_err(|error| {
                StoreError::unavailable(PART_NAME, format!("cannot start its thread: {error}"))
            })?;
        let waiting_bytes_budget = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        let (queue, committer, turn) = (Some(queue), Some(thread), AtomicU32::new(0));
        Ok(Self {
            shared,
            queue,
            committer,
            waiting_bytes_budget,
            next_keyless_partition: turn,
            export_topics: None,
        })
    }

    /// Returns the log with topics for other systems beside it. For tests of exporters.
    #[must_use]
    pub fn with_export_topics(mut self, topics: Arc<dyn ExportTopics>) -> Self {
        self.export_topics = Some(topics);
        self
    }

    fn partition_for(&self, key: &[u8]) -> u32 {
        if key.is_empty() {
            return self.next_keyless_partition.fetch_add(1, Ordering::Relaxed) % CREATED_PARTITION_COUNT;
        }
        records::partition_of(key)
    }

    async fn append_and_wait(&self, entry: AppendedEntry) -> Result<RecordPosition, StoreError> {
        let unavailable = |reason: &str| StoreError::unavailable(PART_NAME, reason);
        let cost = (entry.size_bytes() + REQUEST_OVERHEAD_BYTES) as u32;
        let permit = Arc::clone(&self.waiting_bytes_budget)
            .try_acquire_many_owned(cost)
            .map_err(|_| unavailable("too many bytes wait to be written"))?;
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(|| unavailable("is being closed"))?;
        queue.try_send(AppendRequest { entry, answer_sender: answer, _waiting_bytes: permit }).map_err(
            |error| match error {
                TrySendError::Full(_) => unavailable("too many appends wait to be written"),
                TrySendError::Disconnected(_) => unavailable("its committer is gone"),
            },
        )?;
        match timeout(APPEND_DEADLINE, answered).await {
            Ok(answer) => answer.map_err(|_| unavailable("its committer is gone"))?,
            Err(_) => Err(unavailable("the disk takes too long to write")),
        }
    }
}

impl Drop for EmbeddedLog {
    /// Writes the waiting appends, then closes the file (unless a consumer still uses it).
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.committer.take() {
            // The thread catches panics by itself; a panic that got through has printed its own message.
            let _ended = thread.join();
        }
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn open(&self) -> Result<(), StoreError> {
        self.check_writable()
    }

    /// Appends a record. A record without a key (an empty key) goes to the next partition in turn.
    async fn append_traced(
        &self,
        key: &[u8],
        value: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<RecordPosition, AppendError> {
        let bytes = key.len() + value.len();
        if bytes > MAX_RECORD_BYTES {
            return Err(AppendError::TooLarge { bytes });
        }
        let partition = self.partition_for(key);
        let key = (!key.is_empty()).then(|| Bytes::copy_from_slice(key));
        Ok(self.append_and_wait(AppendedEntry::Record { partition, key, value: value.into(), trace }).await?)
    }

    async fn append_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let (letter, cut) = records::truncate_dead_letter(letter);
        self.append_and_wait(AppendedEntry::DeadLetter(letter, cut)).await?;
        Ok(())
    }

    async fn join_consumer_group(&self) -> Result<Box<dyn LogConsumer>, StoreError> {
        Ok(Box::new(EmbeddedConsumer::join(Arc::clone(&self.shared))))
    }

    async fn end_offsets(&self) -> Result<Vec<u64>, StoreError> {
        Ok(self.shared.signal.borrow().durable_ends.to_vec())
    }

    /// Returns 0 for each partition: no record is ever removed.
    async fn first_offsets(&self) -> Result<Vec<u64>, StoreError> {
        Ok(vec![0; CREATED_PARTITION_COUNT as usize])
    }

    async fn read_ranges(&self, stretches: &[ReadRange]) -> Result<Box<dyn LogReader>, StoreError> {
        Ok(Box::new(EmbeddedReader::open(Arc::clone(&self.shared), stretches).await?))
    }

    async fn read_dead_letters(
        &self,
        only: Option<RecordPosition>,
    ) -> Result<Box<dyn DeadLetterReader>, StoreError> {
        Ok(Box::new(EmbeddedDeadLetterReader::open(Arc::clone(&self.shared), only).await?))
    }

    async fn remove_dead_letters(&self, is_meant: DeadLetterFilter<'_>) -> Result<u64, StoreError> {
        let mut letters = self.read_dead_letters(None).await?;
        let mut removed = 0;
        loop {
            let page = letters.next_dead_letters(DEAD_LETTERS_REMOVED_AT_ONCE).await?;
            if page.is_empty() {
                return Ok(removed);
            }
            let meant =
                page.iter().filter(|letter| is_meant(letter)).map(|letter| letter.letter_position.offset);
            let meant: Vec<u64> = meant.collect();
            if !meant.is_empty() {
                removed += meant.len() as u64;
                let shared = Arc::clone(&self.shared);
                run_blocking(move || {
                    shared.file.with_database(|database, _| records::remove_dead_letters(database, &meant))
                })
                .await?;
            }
        }
    }

    /// Returns [`RecordRetention::Forever`]: no record is ever removed.
    async fn record_retention(&self) -> Result<RecordRetention, StoreError> {
        Ok(RecordRetention::Forever)
    }

    fn export_topics(&self) -> Option<&dyn ExportTopics> {
        self.export_topics.as_deref()
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        self.shared.file.file_health()
    }
}
