//! A member of the consumer group.
//!
//! A thread of its own polls the client library; [`Inbox`] is between the thread and the member's owner. The library's
//! callbacks run inside that thread's polls, so that no record is read between a revocation and its report.
//!
//! The group's protocol never waits for us: an assignment is acknowledged at once with nothing to read, and the
//! partitions are given to the library (`incremental_assign`, which may come at any later time) when
//! [`LogConsumer::start_partitions`] gives the offsets. Otherwise an unreachable archive would keep the whole group
//! from rebalancing, and a library that starts at a committed offset would read from the wrong one.
//!
//! The record before the start shows whether the log is the one that was read before: reading begins one offset
//! earlier, so that the check costs no request of its own. During reading, a topic that was deleted and created anew
//! has another id. The library does not expose ids and goes on in the new topic at the old offset; only a line of its
//! log says that the id has changed, and this line comes through the same queue before any record of the new topic
//! does. (Brokers before 3.1 serve reads without ids: with them the change is noticed at the next start.)

use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::{ConsumerEvent, LogConsumer, OTHER_RECORD_SEEN, ReadStart, another_log_error};
use super::config::KafkaConfig;
use super::inbox::{ConsumerCommand, Inbox};
use super::rebalance::{Member, RebalanceContext};
use super::record_buffer::RecordBuffer;
use super::{PART_NAME, QUERY_TIMEOUT, store_error};
use crate::StoreError;

/// The time for which the thread waits for records before it looks for commands. This time bounds the delay of a
/// command; without records the thread wakes up at most forty times a second.
const THREAD_POLL_TIME: Duration = Duration::from_millis(25);
/// The number of records that the thread reads before it looks for commands: a fraction of a millisecond's work. The
/// inbox may exceed its bound by this number.
const MAX_RECORDS_AT_ONCE: usize = 256;
/// The time limit for the thread to carry out a command. The thread waits for the library by the wall clock, which may
/// jump.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// The time for which dropping a member waits until it has left the group. The partitions of a member that has left
/// move to other members at once, not when the member's session ends.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before a member with a fatal error joins the group again.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);
/// The time limit of a seek, which is a message to the library's own threads.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// A member of the consumer group, as its owner uses it. A separate thread reads the records.
pub(super) struct KafkaConsumer {
    inbox: Arc<Inbox>,
    /// A channel that closes when the thread has left the group.
    left_group: mpsc::Receiver<()>,
}

impl KafkaConsumer {
    /// Joins the group in the background.
    pub(super) fn join(config: &KafkaConfig) -> Result<Self, StoreError> {
        let inbox = Arc::new(Inbox::default());
        let (tell, left_group) = mpsc::channel();
        let reader = ConsumerThread {
            settings: consumer_settings(config),
            topic: config.topic.clone(),
            inbox: Arc::clone(&inbox),
        };
        // The first client is created here, so that the caller gets the error of a configuration that cannot work.
        let member = reader.create_member()?;
        std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(move || {
                reader.run_until_left(member);
                drop(tell);
            })
            .map_err(|error| StoreError::unavailable(PART_NAME, format!("starting a thread: {error}")))?;
        Ok(Self { inbox, left_group })
    }
}

#[async_trait]
impl LogConsumer for KafkaConsumer {
    async fn next_event(
        &mut self,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<ConsumerEvent, StoreError> {
        let deadline = Instant::now() + max_wait;
        loop {
            if let Some(polled) = self.inbox.take_event(max_records)? {
                return Ok(polled);
            }
            if tokio::time::timeout_at(deadline, self.inbox.wait_for_arrival()).await.is_err() {
                return Ok(self.inbox.take_event(max_records)?.unwrap_or(ConsumerEvent::Idle));
            }
        }
    }

    async fn start_partitions(&mut self, starts: &[ReadStart]) -> Result<(), StoreError> {
        let (tell, told) = oneshot::channel();
        self.inbox.send_command(ConsumerCommand::Start(starts.to_vec(), tell));
        tokio::time::timeout(COMMAND_TIMEOUT, told)
            .await
            .unwrap_or_else(|_| {
                Ok(Err(StoreError::unavailable(PART_NAME, "the client library does not answer")))
            })
            .unwrap_or_else(|_| Err(StoreError::unavailable(PART_NAME, "the consumer has ended")))
    }

    async fn report_offsets(&mut self, offsets: &[(u32, u64)]) {
        self.inbox.send_command(ConsumerCommand::Report(offsets.to_vec()));
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.inbox.request_leave();
        // The process may end right after: then the group would miss this member only when its session ends.
        let _ = self.left_group.recv_timeout(LEAVE_TIMEOUT);
    }
}

/// The thread that polls the client library for a member.
struct ConsumerThread {
    settings: ClientConfig,
    topic: String,
    inbox: Arc<Inbox>,
}

impl ConsumerThread {
    fn create_member(&self) -> Result<Member, StoreError> {
        let turns = RebalanceContext { inbox: Arc::clone(&self.inbox), topic: self.topic.clone() };
        let member: Member = self
            .settings
            .create_with_context(turns)
            .map_err(|error| store_error("creating the consumer", &error))?;
        member.subscribe(&[&self.topic]).map_err(|error| store_error("joining the group", &error))?;
        Ok(member)
    }

    /// Reads until the owner is gone; joins the group again if the member cannot go on.
    fn run_until_left(&self, mut member: Member) {
        while let Err(error) = self.read_until_left(&member) {
            tracing::warn!(part = PART_NAME, %error, "the consumer broke; joining anew");
            self.inbox.set_transient_error(error);
            drop(member);
            self.inbox.note_all_revoked();
            member = loop {
                if self.inbox.owner_has_left() {
                    return;
                }
                std::thread::sleep(REJOIN_PAUSE);
                match self.create_member() {
                    Ok(member) => break member,
                    Err(error) => self.inbox.set_transient_error(error),
                }
            };
        }
    }

    /// Reads until the owner is gone, or returns the error after which the member cannot go on.
    fn read_until_left(&self, member: &Member) -> Result<(), StoreError> {
        let mut buffer = RecordBuffer::default();
        while !self.inbox.owner_has_left() {
            while let Some(command) = self.inbox.next_command() {
                self.run_command(member, command);
            }
            // Without room the library is not polled: a member that accepts no records for `max.poll.interval.ms` is
            // meant to lose its partitions to one that does.
            if !self.inbox.wait_for_room(THREAD_POLL_TIME) {
                continue;
            }
            match self.read_available_records(member, &mut buffer) {
                None => {}
                Some(KafkaError::PartitionEOF(partition)) => {
                    let partition = partition as u32;
                    if let Some(offset) = self.inbox.on_partition_end(partition) {
                        let seen = format!("the log ends at {}", offset.saturating_sub(1));
                        self.stop_partition_of_other_log(partition, offset, &seen);
                    }
                }
                Some(KafkaError::MessageConsumptionFatal(code)) => {
                    return Err(store_error("reading", &KafkaError::MessageConsumptionFatal(code)));
                }
                Some(error) => self.handle_error(member, &error),
            }
            if self.inbox.take_log_invalidated() {
                tracing::warn!(
                    part = PART_NAME,
                    topic = self.topic,
                    "the topic has another id: looking whether it is the same"
                );
                self.revoke_and_reassign(member);
            }
        }
        Ok(())
    }

    /// Waits for a record, and reads all that follow it without waiting, up to [`MAX_RECORDS_AT_ONCE`]. Returns the
    /// error that came after them, if there was one.
    ///
    /// The group may take partitions away in any of these polls; then the inbox refuses the records that were read of
    /// them before.
    fn read_available_records(&self, member: &Member, buffer: &mut RecordBuffer) -> Option<KafkaError> {
        let (mut records, mut wait) = (Vec::new(), THREAD_POLL_TIME);
        let mut ended = None;
        while records.len() < MAX_RECORDS_AT_ONCE {
            match member.poll(wait) {
                None => break,
                Some(Ok(message)) => records.push(buffer.copy_record(&message)),
                Some(Err(error)) => {
                    ended = Some(error);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        for (partition, offset) in self.inbox.push(records) {
            self.stop_partition_of_other_log(partition, offset, OTHER_RECORD_SEEN);
        }
        ended
    }

    fn run_command(&self, member: &Member, command: ConsumerCommand) {
        match command {
            ConsumerCommand::Start(starts, tell) => {
                // The caller may be gone; the offsets are the ones to read from all the same.
                let _ = tell.send(self.start_partitions(member, starts));
            }
            ConsumerCommand::Report(offsets) => {
                if let Err(error) =
                    self.partition_list(&offsets).and_then(|list| member.commit(&list, CommitMode::Async))
                {
                    tracing::debug!(part = PART_NAME, %error, "the group's progress was not reported");
                }
            }
        }
    }

    fn start_partitions(&self, member: &Member, starts: Vec<ReadStart>) -> Result<(), StoreError> {
        let failed = |error: KafkaError| store_error("starting to read", &error);
        let (fresh, again) = self.inbox.start_partitions(starts);
        if !fresh.is_empty() {
            member.incremental_assign(&self.partition_list(&fresh).map_err(failed)?).map_err(failed)?;
        }
        self.seek_partitions(member, &again).map_err(failed)
    }

    /// Continues at these offsets in partitions that are assigned to the library.
    fn seek_partitions(&self, member: &Member, offsets: &[(u32, u64)]) -> Result<(), KafkaError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let list = self.partition_list(offsets)?;
        let sought = member.seek_partitions(list.clone(), SEEK_TIMEOUT)?;
        // A partition whose reading has ended with an error, or not begun yet, cannot seek; after a new assignment it
        // can.
        if sought.elements().iter().any(|partition| partition.error().is_err()) {
            member.incremental_unassign(&list)?;
            member.incremental_assign(&list)?;
        }
        Ok(())
    }

    fn partition_list(&self, offsets: &[(u32, u64)]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition as i32, Offset::Offset(*offset as i64))?;
        }
        Ok(list)
    }

    fn handle_error(&self, member: &Member, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset) => self.handle_out_of_range(member),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => {
                self.inbox.set_transient_error(store_error("reading", error));
                self.revoke_and_reassign(member);
            }
            // The next poll joins again; the lost partitions are reported as a revocation.
            Some(RDKafkaErrorCode::PollExceeded) => {
                tracing::warn!(
                    part = PART_NAME,
                    "records were not taken for too long: left the group for now"
                );
            }
            _ => self.inbox.set_transient_error(store_error("reading", error)),
        }
    }

    /// Handles an offset that was to be read and is not in the log. The error does not name the partition.
    fn handle_out_of_range(&self, member: &Member) {
        let (mut stopped, mut told) = (Vec::new(), false);
        let reading = self.inbox.next_offsets();
        for (partition, position, next) in reading.iter().copied() {
            let (low, high) = match member.fetch_watermarks(&self.topic, partition as i32, QUERY_TIMEOUT) {
                Ok((low, high)) => (low.max(0) as u64, high.max(0) as u64),
                Err(error) => {
                    self.inbox.set_transient_error(store_error("looking what the log holds", &error));
                    return self.revoke_and_reassign(member);
                }
            };
            if next < low || next > high {
                self.stop_partition_of_other_log(partition, next, &format!("the log holds {low} to {high}"));
                told = true;
            } else if position < low {
                // Records expired up to here, and no further: nothing is missing, and there is nothing to compare.
                self.inbox.skip_previous_record_check(partition);
                stopped.push((partition, next));
            }
        }
        if stopped.is_empty() && !told {
            // The cause is gone, or the records are back: the library has stopped reading some partition, so all seek
            // again.
            stopped = reading.iter().map(|(partition, position, _)| (*partition, *position)).collect();
        }
        if let Err(error) = self.seek_partitions(member, &stopped) {
            self.inbox.set_transient_error(store_error("going on where the log begins", &error));
            self.revoke_and_reassign(member);
        }
    }

    fn stop_partition_of_other_log(&self, partition: u32, offset: u64, seen: &str) {
        let log = format!("topic {}", self.topic);
        self.inbox
            .set_fatal_error(Some(partition), another_log_error(PART_NAME, &log, partition, offset, seen));
    }

    /// Revokes all partitions that are being read and assigns them again, so that every start is checked again.
    fn revoke_and_reassign(&self, member: &Member) {
        let partitions: Vec<u32> =
            self.inbox.next_offsets().iter().map(|(partition, ..)| *partition).collect();
        let read: Vec<(u32, u64)> =
            self.inbox.note_revoked(partitions.clone()).into_iter().map(|partition| (partition, 0)).collect();
        if let Err(error) = self.partition_list(&read).and_then(|list| member.incremental_unassign(&list)) {
            tracing::debug!(part = PART_NAME, %error, "the library had let go of some already");
        }
        self.inbox.note_assigned(partitions);
    }
}

fn consumer_settings(config: &KafkaConfig) -> ClientConfig {
    let mut settings = config.kafka_client_config();
    let session_ms = config.session_timeout.as_millis();
    settings
        .set("group.id", &config.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        // The archive's offsets count; the group's are for monitoring of the lag only.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        // Reports an end of the partition that comes before the record that is to be checked.
        .set("enable.partition.eof", "true")
        // For the log line about a changed topic id. It writes a few lines each time the library learns about the
        // topic: when a leader changes, and every five minutes.
        .set("debug", "metadata")
        .set_log_level(RDKafkaLogLevel::Debug)
        // The partitions of a killed member move after this time.
        .set("session.timeout.ms", session_ms.to_string())
        // Rebalances are noticed with heartbeats: two rounds of them move a partition. A session has six, so that a
        // late one costs nothing.
        .set("heartbeat.interval.ms", (session_ms / 6).min(1_000).to_string())
        // At least the longest session: the library demands it.
        .set("max.poll.interval.ms", "60000")
        // The records of one largest batch, ready in the library beside those in the inbox.
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.max.bytes", "16777216")
        .set("max.partition.fetch.bytes", "1048576")
        // The pause after the bounds above were reached: the default is a second, in which a batch has long been
        // processed.
        .set("fetch.queue.backoff.ms", "20");
    settings
}
