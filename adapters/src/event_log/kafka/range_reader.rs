//! Reading offset ranges of a topic outside of any group.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use liverank_core::counting::RecordFingerprint;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::super::{
    DeadLetterReader, LogReader, OTHER_RECORD_SEEN, RawRecord, ReadRange, StoredDeadLetter, another_log_error,
};
use super::config::{KafkaConfig, LibraryLogContext};
use super::producer::HeldOffsets;
use super::record_buffer::copy_record;
use super::{PART_NAME, QUERY_TIMEOUT, dead_letters, run_blocking, store_error};
use crate::StoreError;

/// The time without any record after which reading fails although records are left: a broker's restart is shorter.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit of one poll of the library.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// The number of bytes of records after which a call returns, whatever their number.
const MAX_BYTES_PER_CALL: usize = 16 << 20;

/// The part of a partition that is still to be read.
struct PendingRange {
    next_offset: u64,
    end_offset: u64,
    /// The fingerprint of the record at `next_offset`, which is checked and not returned.
    previous_record: Option<RecordFingerprint>,
}

/// A reader of offset ranges of a topic.
pub(super) struct RangeReader {
    topic: String,
    consumer: BaseConsumer<LibraryLogContext>,
    pending_ranges: BTreeMap<u32, PendingRange>,
}

impl RangeReader {
    /// Begins to read in the background. `held` are the offsets that the topic's partitions hold.
    pub(super) fn begin_reading(
        config: &KafkaConfig,
        topic: &str,
        stretches: &[ReadRange],
        held: &[HeldOffsets],
    ) -> Result<Self, StoreError> {
        let failed = |error: KafkaError| store_error("reading", &error);
        let mut parts = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for stretch in stretches {
            let Some(part) = pending_range(topic, stretch, held)? else { continue };
            let offset = Offset::Offset(part.next_offset as i64);
            list.add_partition_offset(topic, stretch.partition as i32, offset).map_err(failed)?;
            parts.insert(stretch.partition, part);
        }
        let mut settings = config.kafka_client_config();
        settings
            // The library demands a group name and does nothing with it: no client joins.
            .set("group.id", &config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("queued.min.messages", "50000")
            .set("queued.max.messages.kbytes", "32768")
            .set("fetch.max.bytes", "16777216")
            .set("fetch.queue.backoff.ms", "20");
        let consumer: BaseConsumer<LibraryLogContext> =
            settings.create_with_context(LibraryLogContext).map_err(failed)?;
        if !parts.is_empty() {
            consumer.assign(&list).map_err(failed)?;
        }
        Ok(Self { topic: topic.to_owned(), consumer, pending_ranges: parts })
    }

    /// Returns up to `limit` records; none at the end.
    fn read_next<T>(
        &mut self,
        limit: usize,
        read: fn(&BorrowedMessage<'_>) -> T,
    ) -> Result<Vec<T>, StoreError> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let deadline = Instant::now() + STALL_TIMEOUT;
        let mut trouble = None;
        while !self.pending_ranges.is_empty() && taken.len() < limit && bytes < MAX_BYTES_PER_CALL {
            match self.consumer.poll(POLL_TIMEOUT) {
                Some(Ok(message)) if advance_past(&self.topic, &mut self.pending_ranges, &message)? => {
                    bytes += message.payload_len() + message.key_len();
                    taken.push(read(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.note_partition_end(partition as u32)?;
                }
                Some(Err(error)) => trouble = Some(self.classify_error(&error)?),
                None if !taken.is_empty() => break,
                None if Instant::now() >= deadline => {
                    let nothing = || {
                        StoreError::unavailable(PART_NAME, format!("nothing was read for {STALL_TIMEOUT:?}"))
                    };
                    return Err(trouble.unwrap_or_else(nothing));
                }
                Some(Ok(_)) | None => {}
            }
        }
        Ok(taken)
    }

    /// Handles the end of a partition before the end of its range: either only records remain that no reader gets (the
    /// ends of transactions), or the log has been replaced, which is an error.
    fn note_partition_end(&mut self, partition: u32) -> Result<(), StoreError> {
        let Some(part) = self.pending_ranges.get(&partition) else { return Ok(()) };
        let (_, high) = self
            .consumer
            .fetch_watermarks(&self.topic, partition as i32, QUERY_TIMEOUT)
            .map_err(|error| store_error("looking where the log ends", &error))?;
        if part.previous_record.is_some() || (high.max(0) as u64) < part.end_offset {
            let seen = format!("the log ends at {high}");
            return Err(another_log_error(
                PART_NAME,
                &format!("topic {}", self.topic),
                partition,
                part.next_offset,
                &seen,
            ));
        }
        self.pending_ranges.remove(&partition);
        Ok(())
    }

    /// Returns `Ok` with an error that may pass, to be reported if no record comes for too long; returns `Err` with an
    /// error for which waiting does not help.
    fn classify_error(&self, error: &KafkaError) -> Result<StoreError, StoreError> {
        let told = store_error("reading", error);
        let lost = matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset));
        if lost {
            let reason = format!("topic {}: records vanished while they were read: {error}", self.topic);
            return Err(StoreError::unusable(PART_NAME, reason));
        }
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) || !told.is_transient() {
            return Err(told);
        }
        Ok(told)
    }
}

/// Returns the part of a range that is to be read, `None` for an empty range; an error if the topic does not hold the
/// range.
fn pending_range(
    topic: &str,
    stretch: &ReadRange,
    held: &[HeldOffsets],
) -> Result<Option<PendingRange>, StoreError> {
    let ReadRange { partition, first_offset: from, end_offset: to, previous_record: after } = *stretch;
    let log = format!("topic {topic}");
    let Some(HeldOffsets { first_offset: low, end_offset: high }) = held.get(partition as usize).copied()
    else {
        let reason = format!("{log} has no partition {partition}, only {} of them, from 0 on", held.len());
        return Err(StoreError::unusable(PART_NAME, reason));
    };
    for offset in [from, to] {
        if offset < low || offset > high {
            let seen = format!("the log holds {low} to {high}");
            return Err(another_log_error(PART_NAME, &log, partition, offset, &seen));
        }
    }
    let part = match (after, from.checked_sub(1)) {
        (Some(mark), Some(before)) if before >= low => {
            PendingRange { next_offset: before, end_offset: to, previous_record: Some(mark) }
        }
        _ => PendingRange { next_offset: from, end_offset: to, previous_record: None },
    };
    Ok((part.next_offset < part.end_offset).then_some(part))
}

/// Moves past a message. Returns true if the message belongs to the range and is to be returned.
fn advance_past(
    topic: &str,
    parts: &mut BTreeMap<u32, PendingRange>,
    message: &BorrowedMessage<'_>,
) -> Result<bool, StoreError> {
    let (partition, offset) = (message.partition() as u32, message.offset() as u64);
    let Some(part) = parts.get_mut(&partition).filter(|part| offset >= part.next_offset) else {
        return Ok(false);
    };
    let before = part.previous_record.take();
    if before.is_some_and(|mark| offset != part.next_offset || copy_record(message).fingerprint() != mark) {
        return Err(another_log_error(
            PART_NAME,
            &format!("topic {topic}"),
            partition,
            part.next_offset + 1,
            OTHER_RECORD_SEEN,
        ));
    }
    let told = before.is_none() && offset < part.end_offset;
    part.next_offset = offset + 1;
    if part.next_offset >= part.end_offset {
        parts.remove(&partition);
    }
    Ok(told)
}

/// A range reader for async callers. The library blocks, so it is called on a thread on which it may block.
pub(super) struct AsyncRangeReader(Arc<Mutex<RangeReader>>);

impl AsyncRangeReader {
    pub(super) fn new(walk: RangeReader) -> Self {
        Self(Arc::new(Mutex::new(walk)))
    }

    async fn next<T: Send + 'static>(
        &self,
        limit: usize,
        read: fn(&BorrowedMessage<'_>) -> T,
    ) -> Result<Vec<T>, StoreError> {
        let walk = Arc::clone(&self.0);
        run_blocking(move || {
            walk.lock().unwrap_or_else(PoisonError::into_inner).read_next(limit.max(1), read)
        })
        .await
    }
}

#[async_trait]
impl LogReader for AsyncRangeReader {
    async fn next_records(&mut self, max_records: usize) -> Result<Vec<RawRecord>, StoreError> {
        Self::next(self, max_records, copy_record).await
    }
}

#[async_trait]
impl DeadLetterReader for AsyncRangeReader {
    async fn next_dead_letters(&mut self, max_letters: usize) -> Result<Vec<StoredDeadLetter>, StoreError> {
        Self::next(self, max_letters, dead_letters::decode_letter).await
    }
}
