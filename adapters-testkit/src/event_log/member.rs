//! A member of the consumer group that the checks control.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{CHECK_TIMEOUT, is_final};
use liverank_adapters::event_log::{
    CREATED_PARTITION_COUNT, ConsumerEvent, EventLog, LogConsumer, RawRecord, ReadStart,
};

/// A member that starts each assigned partition at its last position, and collects what it reads.
pub struct Member {
    pub consumer: Box<dyn LogConsumer>,
    pub owned_partitions: BTreeSet<u32>,
    /// The next offset of each partition that was read or started.
    pub positions: BTreeMap<u32, u64>,
    pub records: Vec<RawRecord>,
    started_partitions: BTreeSet<u32>,
}

impl Member {
    pub fn new(consumer: Box<dyn LogConsumer>) -> Self {
        Self {
            consumer,
            owned_partitions: BTreeSet::new(),
            positions: BTreeMap::new(),
            records: Vec::new(),
            started_partitions: BTreeSet::new(),
        }
    }

    /// Joins as the only member and waits until all partitions are assigned. Nothing is started yet.
    pub async fn join(log: &dyn EventLog) -> Self {
        let mut member = Self::new(log.join_consumer_group().await.expect("joining the group"));
        let begun = Instant::now();
        while member.owned_partitions.len() < CREATED_PARTITION_COUNT as usize {
            assert!(
                begun.elapsed() < CHECK_TIMEOUT,
                "the only member is assigned everything, has {:?}",
                member.owned_partitions
            );
            let polled = member.next_event(100, Duration::from_millis(200)).await;
            member.handle_event(polled);
        }
        member
    }

    /// Returns the next event, as the consumer does; polls again after an error that passes.
    pub async fn next_event(&mut self, most: usize, wait: Duration) -> ConsumerEvent {
        let begun = Instant::now();
        loop {
            match self.consumer.next_event(most, wait).await {
                Ok(event) => return event,
                Err(error) => {
                    assert!(!is_final(&error) && begun.elapsed() < CHECK_TIMEOUT, "polling: {error}");
                }
            }
        }
    }

    fn handle_event(&mut self, polled: ConsumerEvent) {
        match polled {
            ConsumerEvent::Assigned(partitions) => {
                for at in partitions {
                    assert!(
                        self.owned_partitions.insert(at),
                        "partition {at} is assigned though it is owned already"
                    );
                }
            }
            ConsumerEvent::Revoked(partitions) => {
                for at in partitions {
                    assert!(
                        self.owned_partitions.remove(&at),
                        "partition {at} is revoked though it is not owned"
                    );
                    self.started_partitions.remove(&at);
                }
            }
            ConsumerEvent::Records(records) => {
                assert!(!records.is_empty(), "records are never none");
                for record in records {
                    let at = record.partition;
                    assert!(
                        self.owned_partitions.contains(&at),
                        "a record of partition {at}, which is not owned"
                    );
                    let position = self.positions.insert(at, record.offset + 1);
                    assert!(position <= Some(record.offset), "offset {} after {position:?}", record.offset);
                    self.records.push(record);
                }
            }
            ConsumerEvent::Idle => {}
        }
    }

    /// Starts the partitions that are owned and not started yet, at their last positions.
    pub async fn start_everything(&mut self) {
        let fresh: Vec<_> = self
            .owned_partitions
            .difference(&self.started_partitions)
            .map(|at| ReadStart::without_previous(*at, self.positions.get(at).copied().unwrap_or(0)))
            .collect();
        if !fresh.is_empty() {
            self.consumer.start_partitions(&fresh).await.expect("starting where the log has records");
            self.started_partitions.extend(fresh.iter().map(|start| start.partition));
        }
    }

    /// Polls once and processes the event; starts what was assigned.
    pub async fn poll_once(&mut self, wait: Duration) {
        let polled = self.next_event(100, wait).await;
        self.handle_event(polled);
        self.start_everything().await;
    }

    /// Reads until `count` records have arrived, and a little longer, in case there are too many.
    pub async fn read_until(&mut self, count: usize) {
        self.start_everything().await;
        let begun = Instant::now();
        while self.records.len() < count {
            assert!(begun.elapsed() < CHECK_TIMEOUT, "only {} of {count} records came", self.records.len());
            self.poll_once(Duration::from_millis(200)).await;
        }
        self.poll_once(Duration::from_millis(20)).await;
        assert_eq!(self.records.len(), count, "more records came than were written");
    }

    /// Starts one partition at an offset, and none of the others if they were not started before.
    pub async fn start_at(&mut self, partition: u32, offset: u64) {
        self.start_from(ReadStart::without_previous(partition, offset)).await;
    }

    /// Starts one partition at `start`, and none of the others, as [`Self::start_at`] does.
    pub async fn start_from(&mut self, start: ReadStart) {
        self.positions.insert(start.partition, start.offset);
        self.consumer.start_partitions(&[start]).await.expect("starting where the log has records");
        self.started_partitions.clone_from(&self.owned_partitions);
    }

    /// Starts one partition of a log that is not the one that was read: the start itself or a poll after it must
    /// return a final error, and nothing may be read. Returns the error's text.
    pub async fn expect_refused_start(&mut self, start: ReadStart) -> String {
        if let Err(error) = self.consumer.start_partitions(&[start]).await {
            assert!(is_final(&error), "{error:?} suggests to try again");
            return error.to_string();
        }
        let (begun, mut passing) = (Instant::now(), None);
        loop {
            assert!(
                begun.elapsed() < CHECK_TIMEOUT,
                "{start:?} was taken silently, or with a suggestion to try again: {passing:?}"
            );
            match self.consumer.next_event(100, Duration::from_millis(200)).await {
                Ok(ConsumerEvent::Idle) => {}
                Ok(other) => panic!("{start:?} is not of this log, yet came {other:?}"),
                Err(error) if is_final(&error) => return error.to_string(),
                Err(error) => passing = Some(error),
            }
        }
    }
}
