//! Export topics in memory, for tests of exporters. No process uses them: `liverank up` without Kafka exports nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{ExportError, ExportRecord, ExportSource, ExportTopics, ExportWriter};
use crate::StoreError;

/// The outcome of a write that is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFailure {
    /// Nothing of the write takes effect, and the writer gets an error.
    Aborted,
    /// The write takes effect, and its answer is lost.
    AnswerLost,
    /// Another writer has begun for the source before the write.
    TakenOver,
}

/// The records of one topic, and its positions and writers.
#[derive(Default)]
struct Topic {
    records: Vec<ExportRecord>,
    positions: BTreeMap<u32, u64>,
    note: Option<String>,
    /// The number of writers that have begun for each source (`None`: the boards): only the last one may write.
    last_writer_numbers: BTreeMap<Option<u32>, u64>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Topic>,
    injected_failures: VecDeque<InjectedFailure>,
}

/// Export topics in memory. Cheap to clone: all clones share the same topics.
#[derive(Clone, Default)]
pub struct MemoryTopics(Arc<Mutex<State>>);

impl MemoryTopics {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all records of a topic, in the order of their transactions.
    pub fn records(&self, topic: &str) -> Vec<ExportRecord> {
        self.lock().topics.get(topic).map(|topic| topic.records.clone()).unwrap_or_default()
    }

    /// Returns the offset up to which a partition is exported; `None` if nobody has begun.
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        self.lock().topics.get(topic)?.positions.get(&partition).copied()
    }

    /// Makes the next writes fail, one for each of `failures`.
    pub fn fail_next(&self, failures: impl IntoIterator<Item = InjectedFailure>) {
        self.lock().injected_failures.extend(failures);
    }

    /// Returns true if writes are still to fail.
    pub fn will_fail(&self) -> bool {
        !self.lock().injected_failures.is_empty()
    }
}

const fn source_key(source: ExportSource) -> Option<u32> {
    match source {
        ExportSource::Partition(partition) => Some(partition),
        ExportSource::Boards { .. } => None,
    }
}

#[async_trait]
impl ExportTopics for MemoryTopics {
    async fn prepare_topic(&self, topic: &str) -> Result<(), StoreError> {
        self.lock().topics.entry(topic.to_owned()).or_default();
        Ok(())
    }

    async fn open_writer(
        &self,
        topic: &str,
        source: ExportSource,
    ) -> Result<Box<dyn ExportWriter>, ExportError> {
        let mut state = self.lock();
        let here = state.topics.entry(topic.to_owned()).or_default();
        let source = source_key(source);
        let turn = here.last_writer_numbers.entry(source).or_default();
        *turn += 1;
        let writer_number = *turn;
        let next_offset = source.map_or(0, |partition| *here.positions.entry(partition).or_default());
        let note = here.note.clone().filter(|_| source.is_none());
        let topics = self.clone();
        Ok(Box::new(MemoryWriter {
            topics,
            topic: topic.to_owned(),
            source_key: source,
            writer_number,
            next_offset,
            note,
        }))
    }
}

struct MemoryWriter {
    topics: MemoryTopics,
    topic: String,
    source_key: Option<u32>,
    writer_number: u64,
    next_offset: u64,
    note: Option<String>,
}

impl MemoryWriter {
    /// Runs `write` on the topic if this writer is the last one of its source, unless the write is made to fail.
    fn commit(&mut self, write: impl FnOnce(&mut Topic)) -> Result<(), ExportError> {
        let away = || Err(StoreError::unavailable("export", "made to fail").into());
        let mut state = self.topics.lock();
        let failure = state.injected_failures.pop_front();
        let here = state.topics.entry(self.topic.clone()).or_default();
        if failure == Some(InjectedFailure::TakenOver) {
            *here.last_writer_numbers.entry(self.source_key).or_default() += 1;
        }
        if here.last_writer_numbers.get(&self.source_key) != Some(&self.writer_number) {
            return Err(ExportError::TakenOver);
        }
        if failure == Some(InjectedFailure::Aborted) {
            return away();
        }
        write(here);
        if failure == Some(InjectedFailure::AnswerLost) { away() } else { Ok(()) }
    }
}

#[async_trait]
impl ExportWriter for MemoryWriter {
    fn position(&self) -> u64 {
        self.next_offset
    }

    fn committed_note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    async fn write(&mut self, records: Vec<ExportRecord>, position: Option<u64>) -> Result<(), ExportError> {
        let partition = self.source_key;
        self.commit(|topic| {
            topic.records.extend(records);
            if let Some((partition, position)) = partition.zip(position) {
                topic.positions.insert(partition, position);
            }
        })?;
        self.next_offset = position.filter(|_| partition.is_some()).unwrap_or(self.next_offset);
        Ok(())
    }

    async fn write_with_note(&mut self, records: Vec<ExportRecord>, note: String) -> Result<(), ExportError> {
        self.commit(|topic| {
            topic.records.extend(records);
            topic.note = Some(note.clone());
        })?;
        self.note = Some(note);
        Ok(())
    }
}
