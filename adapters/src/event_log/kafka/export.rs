//! Topics for other systems: a transactional producer for each source.
//!
//! Producers of one source share a `transactional.id`, by which the brokers fence all but the last one that began. The
//! position of a partition is the committed offset of a group of its own that has no members; it is committed in the
//! transaction of the records. A consumer that joins no group reads the position, as readers of committed records do:
//! it waits for a transaction that is about to commit. The note of the boards' exporter is the metadata of such an
//! offset, in another group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::config::{KafkaConfig, LibraryLogContext};
use super::transaction_errors::export_error;
use super::{KafkaLog, PART_NAME, QUERY_TIMEOUT, store_error, topics};
use crate::StoreError;
use crate::export_topics::{
    ExportError, ExportRecord, ExportSource, ExportTopics, ExportWriter, MAX_NOTE_BYTES,
};

/// The time in milliseconds after which the brokers abort a transaction whose producer is gone. Until the transaction
/// is aborted, readers of committed records get no record that comes after it, unless the next writer begins earlier; a
/// transaction of ours takes a fraction of a second.
const TRANSACTION_TIMEOUT_MS: &str = "15000";
/// The time limit of one step of a transaction. Shorter than the brokers' limit, so that a step times out before the
/// transaction is aborted. For as long the client library repeats a step by itself after an error that may pass.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for beginning to write for a source: a transaction of another producer may have to be ended first. For
/// as long the client library begins again by itself after an error that may pass.
pub(super) const BEGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// The suffix of the export group's name, after the consumer group's name.
const GROUP_SUFFIX: &str = "-export";
/// The suffix of the name of the group that holds the note of the boards, after the export group's name. The note has a
/// group of its own because its offset has no meaning, and monitoring of the exports' lag would take it for a position.
const NOTE_GROUP_SUFFIX: &str = "-boards";

/// The partition of the boards' topic beside whose offset the note is stored: each topic has partition 0.
const NOTE_PARTITION: u32 = 0;

/// A client that reads committed offsets.
pub(super) type PositionReader = BaseConsumer<LibraryLogContext>;
pub(super) type TransactionalProducer = BaseProducer<LibraryLogContext>;

impl KafkaConfig {
    /// Returns the name of the group whose committed offsets are the positions up to which each partition is exported.
    pub fn export_group(&self) -> String {
        format!("{}{GROUP_SUFFIX}", self.group)
    }

    fn note_group(&self) -> String {
        format!("{}{NOTE_GROUP_SUFFIX}", self.export_group())
    }
}

#[async_trait]
impl ExportTopics for KafkaLog {
    async fn prepare_topic(&self, topic: &str) -> Result<(), StoreError> {
        if [self.config.topic.clone(), self.config.dead_letter_topic()].contains(&topic.to_owned()) {
            let what = format!("{topic} is the log's own topic: what is exported needs one of its own");
            return Err(StoreError::unusable(PART_NAME, what));
        }
        topics::prepare_export_topic(&self.config, topic).await
    }

    async fn open_writer(
        &self,
        topic: &str,
        source: ExportSource,
    ) -> Result<Box<dyn ExportWriter>, ExportError> {
        let (config, topic) = (self.config.clone(), topic.to_owned());
        let begun = tokio::task::spawn_blocking(move || KafkaExportWriter::open(&config, topic, source));
        let writer = begun.await.unwrap_or_else(|error| Err(join_error(&error)))?;
        Ok(Box::new(writer))
    }
}

/// The only writer of one source; see `ExportTopics::open_writer`.
struct KafkaExportWriter {
    /// The producer; absent once a write has failed.
    producer: Option<TransactionalProducer>,
    topic: Arc<str>,
    position_key: Option<Arc<PositionKey>>,
    next_offset: u64,
    note: Option<String>,
}

/// The consumer group, topic and partition under which the brokers keep the committed position of a source.
struct PositionKey {
    group: ConsumerGroupMetadata,
    topic: String,
    partition: u32,
}

/// The offset and the note that are committed for a source.
#[derive(Clone, Default)]
struct CommittedPosition {
    next_offset: u64,
    note: Option<String>,
}

impl PositionKey {
    fn of(reader: &PositionReader, topic: String, partition: u32) -> Result<Arc<Self>, StoreError> {
        let group = reader.group_metadata();
        let group = group.ok_or_else(|| StoreError::unavailable(PART_NAME, "there is no group"))?;
        Ok(Arc::new(Self { group, topic, partition }))
    }

    fn to_partition_list(&self, committed: &CommittedPosition) -> Result<TopicPartitionList, KafkaError> {
        let mut offsets = TopicPartitionList::new();
        let mut place = offsets.add_partition(&self.topic, self.partition as i32);
        place.set_offset(Offset::Offset(committed.next_offset as i64))?;
        if let Some(note) = &committed.note {
            place.set_metadata(note);
        }
        Ok(offsets)
    }
}

impl KafkaExportWriter {
    fn open(config: &KafkaConfig, topic: String, source: ExportSource) -> Result<Self, ExportError> {
        let producer = producer_of_source(config, &topic, source)?;
        let failed = |doing, error: &KafkaError| export_error(&producer, doing, error);
        producer.init_transactions(BEGIN_TIMEOUT).map_err(|error| failed("beginning to export", &error))?;
        let mut writer =
            Self { producer: None, topic: topic.into(), position_key: None, next_offset: 0, note: None };
        match source {
            ExportSource::Partition(partition) => {
                let reader = position_reader(config, &config.export_group())?;
                let position = PositionKey::of(&reader, config.topic.clone(), partition)?;
                let known = read_position(&reader, config, &writer.topic, partition)?;
                if known.is_none() {
                    // Committed before the first record, so that a topic with records always has a position.
                    commit_records(
                        &producer,
                        &writer.topic,
                        &[],
                        Some((&position, &CommittedPosition::default())),
                    )?;
                }
                writer.next_offset = known.unwrap_or(0);
                writer.position_key = Some(position);
            }
            ExportSource::Boards { has_note: true } => {
                let reader = position_reader(config, &config.note_group())?;
                writer.note = read_note(&reader, &writer.topic)?;
                writer.position_key =
                    Some(PositionKey::of(&reader, writer.topic.to_string(), NOTE_PARTITION)?);
            }
            ExportSource::Boards { has_note: false } => {}
        }
        writer.producer = Some(producer);
        Ok(writer)
    }

    async fn commit(
        &mut self,
        records: Vec<ExportRecord>,
        position: Option<CommittedPosition>,
    ) -> Result<(), ExportError> {
        let producer = self.producer.take();
        let producer = producer.ok_or_else(|| StoreError::unavailable(PART_NAME, "a write before failed"))?;
        let (topic, source) = (Arc::clone(&self.topic), self.position_key.clone());
        // If the caller is dropped meanwhile, the thread keeps the producer and ends the transaction in either way.
        let written = tokio::task::spawn_blocking(move || {
            let position = source.as_deref().zip(position.as_ref());
            commit_records(&producer, &topic, &records, position).map(|()| producer)
        });
        self.producer = Some(written.await.unwrap_or_else(|error| Err(join_error(&error)))?);
        Ok(())
    }
}

#[async_trait]
impl ExportWriter for KafkaExportWriter {
    fn position(&self) -> u64 {
        self.next_offset
    }

    fn committed_note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    async fn write(&mut self, records: Vec<ExportRecord>, position: Option<u64>) -> Result<(), ExportError> {
        let committed = position.map(|next_offset| CommittedPosition { next_offset, note: None });
        self.commit(records, committed).await?;
        self.next_offset = position.unwrap_or(self.next_offset);
        Ok(())
    }

    async fn write_with_note(&mut self, records: Vec<ExportRecord>, note: String) -> Result<(), ExportError> {
        if note.len() > MAX_NOTE_BYTES {
            let what = format!("a note of {} bytes is longer than {MAX_NOTE_BYTES}", note.len());
            return Err(StoreError::unusable(PART_NAME, what).into());
        }
        let committed = CommittedPosition { next_offset: 0, note: Some(note.clone()) };
        self.commit(records, Some(committed)).await?;
        self.note = Some(note);
        Ok(())
    }
}

impl Drop for KafkaExportWriter {
    fn drop(&mut self) {
        // The client library joins its threads, which may take a moment.
        if let (Some(producer), Ok(runtime)) = (self.producer.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(producer));
        }
    }
}

fn join_error(error: &tokio::task::JoinError) -> ExportError {
    StoreError::unavailable(PART_NAME, format!("the call was given up: {error}")).into()
}

fn producer_of_source(
    config: &KafkaConfig,
    topic: &str,
    source: ExportSource,
) -> Result<TransactionalProducer, StoreError> {
    match source {
        ExportSource::Partition(partition) => transactional_producer(config, topic, &partition.to_string()),
        ExportSource::Boards { .. } => transactional_producer(config, topic, "boards"),
    }
}

pub(super) fn transactional_producer(
    config: &KafkaConfig,
    topic: &str,
    source: &str,
) -> Result<TransactionalProducer, StoreError> {
    let mut settings = config.kafka_client_config();
    settings
        .set("transactional.id", format!("{}.{topic}.{source}", config.export_group()))
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
        .set("message.timeout.ms", TRANSACTION_TIMEOUT_MS)
        // Puts a key on the partition that the Java client would choose, too, so that others can join this topic with
        // theirs.
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0");
    settings
        .create_with_context(LibraryLogContext)
        .map_err(|error| store_error("creating the producer of exports", &error))
}

/// Returns a client that reads a group's committed offsets, and is no member of the group.
pub(super) fn position_reader(config: &KafkaConfig, group: &str) -> Result<PositionReader, StoreError> {
    let mut settings = config.kafka_client_config();
    settings
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    settings
        .create_with_context(LibraryLogContext)
        .map_err(|error| store_error("creating the reader of positions", &error))
}

/// Reads the offset up to which a partition is exported; `None` if nobody has begun to export it.
///
/// The offset of a partition is committed before its first record is exported. Records in the topic without a committed
/// offset of any partition therefore mean that the brokers have forgotten the group, and that a new begin would export
/// everything again.
fn read_position(
    reader: &PositionReader,
    config: &KafkaConfig,
    topic: &str,
    partition: u32,
) -> Result<Option<u64>, StoreError> {
    let sources = partition_count(reader, &config.topic)?.max(partition + 1);
    let known = committed_offsets(reader, &config.topic, sources)?;
    if !known.is_empty() || !has_records(reader, topic)? {
        return Ok(known.get(&partition).copied());
    }
    // Another exporter may have begun between the two queries.
    let known = committed_offsets(reader, &config.topic, sources)?;
    if known.is_empty() {
        let (group, log) = (config.export_group(), &config.topic);
        return Err(StoreError::unusable(
            PART_NAME,
            format!(
                "the topic {topic} has records, and the group {group} has no offset of {log}: nobody exported for longer than \
                 the brokers keep offsets (offsets.retention.minutes), or somebody else wrote there. Beginning anew would \
                 export everything again: set the group's offsets with kafka-consumer-groups.sh --reset-offsets, or export to \
                 a topic that is empty"
            ),
        ));
    }
    Ok(known.get(&partition).copied())
}

/// Reads the note that the boards' exporter stored last; `None` if no note was stored, or if the brokers no longer keep
/// it.
fn read_note(reader: &PositionReader, topic: &str) -> Result<Option<String>, StoreError> {
    let failed = |error: KafkaError| store_error("asking what is exported of the boards", &error);
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, NOTE_PARTITION as i32);
    let answered = reader.committed_offsets(asked, QUERY_TIMEOUT).map_err(failed)?;
    let Some(found) = answered.find_partition(topic, NOTE_PARTITION as i32) else { return Ok(None) };
    found.error().map_err(failed)?;
    Ok(matches!(found.offset(), Offset::Offset(_)).then(|| found.metadata().to_owned()))
}

fn partition_count(reader: &PositionReader, topic: &str) -> Result<u32, StoreError> {
    let metadata = reader
        .fetch_metadata(Some(topic), QUERY_TIMEOUT)
        .map_err(|error| store_error("asking for the partitions", &error))?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len() as u32))
}

pub(super) fn committed_offsets(
    reader: &PositionReader,
    log: &str,
    partitions: u32,
) -> Result<HashMap<u32, u64>, StoreError> {
    let failed = |error: KafkaError| store_error("asking how far the export is", &error);
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked.add_partition(log, partition as i32);
    }
    let answered = reader.committed_offsets(asked, QUERY_TIMEOUT).map_err(failed)?;
    let mut known = HashMap::new();
    for found in answered.elements() {
        found.error().map_err(failed)?;
        if let Offset::Offset(next) = found.offset() {
            known.insert(found.partition() as u32, next.max(0) as u64);
        }
    }
    Ok(known)
}

fn has_records(reader: &PositionReader, topic: &str) -> Result<bool, StoreError> {
    for partition in 0..partition_count(reader, topic)? {
        let (_, end) = reader
            .fetch_watermarks(topic, partition as i32, QUERY_TIMEOUT)
            .map_err(|error| store_error("looking what the topic holds", &error))?;
        if end > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes records in one transaction. The position is sent before the records, so that whoever reads one of them finds
/// an offset that is committed or about to be.
fn commit_records(
    producer: &TransactionalProducer,
    topic: &str,
    records: &[ExportRecord],
    position: Option<(&PositionKey, &CommittedPosition)>,
) -> Result<(), ExportError> {
    let failed = |error: KafkaError| export_error(producer, "exporting", &error);
    producer.begin_transaction().map_err(failed)?;
    if let Some((source, committed)) = position {
        let offsets = source.to_partition_list(committed).map_err(failed)?;
        producer.send_offsets_to_transaction(&offsets, &source.group, STEP_TIMEOUT).map_err(failed)?;
    }
    for record in records {
        send_record(producer, topic, record).map_err(failed)?;
        producer.poll(Duration::ZERO);
    }
    producer.commit_transaction(STEP_TIMEOUT).map_err(failed)
}

/// Gives a record to the client library, which holds a bounded number of them; waits for room up to [`STEP_TIMEOUT`].
fn send_record(
    producer: &TransactionalProducer,
    topic: &str,
    record: &ExportRecord,
) -> Result<(), KafkaError> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    let mut next = BaseRecord::to(topic).key(&record.key).payload(&record.value);
    loop {
        match producer.send(next) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if Instant::now() < deadline =>
            {
                next = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error),
        }
    }
}
