//! The events and records that a member's thread has read, and its owner has not taken yet. Bounded; no I/O.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use liverank_core::counting::RecordFingerprint;
use tokio::sync::{Notify, oneshot};

use super::super::{ConsumerEvent, RawRecord, ReadStart};
use super::PART_NAME;
use crate::StoreError;

/// The number of records held ready: as many as the largest batch has, so that the next batch is ready when the one
/// before is done.
const MAX_HELD_RECORDS: usize = 20_000;
/// The number of bytes of records held ready, because records may be large.
const MAX_HELD_BYTES: usize = 32 << 20;

/// A list of partitions, each with an offset.
pub(super) type PartitionOffsets = Vec<(u32, u64)>;

/// A command of the owner to the thread.
pub(super) enum ConsumerCommand {
    /// Read these partitions from these offsets on, and send the result.
    Start(Vec<ReadStart>, oneshot::Sender<Result<(), StoreError>>),
    /// Report these offsets to the log as the group's progress.
    Report(PartitionOffsets),
}

/// The state of reading one partition.
#[derive(Debug, Clone, Copy)]
struct PartitionReading {
    /// The offset of the next record that the library is expected to return.
    next_offset: u64,
    expected_record: ExpectedRecord,
    /// True if it was logged that the library skipped offsets: logged once, because a producer with transactions
    /// causes it all the time.
    gap_was_logged: bool,
}

impl PartitionReading {
    const fn starting_at(next: u64, expected_record: ExpectedRecord) -> Self {
        Self { next_offset: next, expected_record, gap_was_logged: false }
    }

    /// Logs the first gap in the offsets that the library returns for this partition.
    fn log_gap_before(&mut self, record: &RawRecord) {
        if record.offset == self.next_offset || std::mem::replace(&mut self.gap_was_logged, true) {
            return;
        }
        let (partition, from, to) = (record.partition, self.next_offset, record.offset);
        tracing::info!(
            part = PART_NAME,
            partition,
            from,
            to,
            "the log gave no records from one offset up to another: a producer with transactions leaves such holes, and \
             compaction; nothing else of ours does"
        );
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedRecord {
    /// The records that are to be read.
    Records,
    /// The record before the first one to be read, which must have this fingerprint: the library reads from one offset
    /// earlier.
    PreviousRecord(RecordFingerprint),
    /// No record: what the library returns is not of the log that was to be read.
    Nothing,
}

#[derive(Default)]
struct InboxState {
    /// Assignments and revocations, in their order.
    rebalance_events: VecDeque<ConsumerEvent>,
    owned_partitions: HashSet<u32>,
    partition_readings: BTreeMap<u32, PartitionReading>,
    /// True if the log may have been replaced since it was started: every start has to be checked again.
    log_invalidated: bool,
    records: VecDeque<RawRecord>,
    held_bytes: usize,
    /// The error of a partition that cannot be read any further: returned at each poll until the partition is started
    /// again.
    fatal_error: Option<(Option<u32>, StoreError)>,
    /// An error that may pass: returned once.
    transient_error: Option<StoreError>,
    commands: VecDeque<ConsumerCommand>,
    owner_left: bool,
}

/// The records, rebalance events and errors that a member's thread has ready for the member's owner, and the owner's
/// commands for the thread.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    /// Wakes the owner: something has arrived.
    arrival_notify: Notify,
    /// Wakes the thread, which waits for room.
    room_condition: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The owner's side.

    /// Waits until something has arrived since the last [`Self::take_event`].
    pub(super) async fn wait_for_arrival(&self) {
        self.arrival_notify.notified().await;
    }

    /// Takes the next event or error, if there is any.
    pub(super) fn take_event(&self, max_records: usize) -> Result<Option<ConsumerEvent>, StoreError> {
        let mut state = self.lock();
        if let Some(turn) = state.rebalance_events.pop_front() {
            return Ok(Some(turn));
        }
        if let Some(error) = state.transient_error.take() {
            return Err(error);
        }
        if !state.records.is_empty() {
            let count = state.records.len().min(max_records.max(1));
            let records: Vec<_> = state.records.drain(..count).collect();
            state.held_bytes -= records.iter().map(record_bytes).sum::<usize>();
            self.room_condition.notify_all();
            return Ok(Some(ConsumerEvent::Records(records)));
        }
        // After the records that were read before the error.
        state.fatal_error.as_ref().map_or(Ok(None), |(_, error)| Err(error.clone()))
    }

    /// Adds a command for the thread.
    pub(super) fn send_command(&self, command: ConsumerCommand) {
        self.lock().commands.push_back(command);
        self.room_condition.notify_all();
    }

    /// Tells the thread to leave the group.
    pub(super) fn request_leave(&self) {
        self.lock().owner_left = true;
        self.room_condition.notify_all();
    }

    // The thread's side.

    /// Returns true if the owner is gone.
    pub(super) fn owner_has_left(&self) -> bool {
        self.lock().owner_left
    }

    pub(super) fn next_command(&self) -> Option<ConsumerCommand> {
        self.lock().commands.pop_front()
    }

    /// Returns true if there is room for another record; waits for room, or for a command, at most `patience`.
    pub(super) fn wait_for_room(&self, patience: Duration) -> bool {
        let full = |state: &InboxState| {
            state.records.len() >= MAX_HELD_RECORDS || state.held_bytes >= MAX_HELD_BYTES
        };
        let mut state = self.lock();
        if full(&state) && state.commands.is_empty() && !state.owner_left {
            state =
                self.room_condition.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        !full(&state)
    }

    /// Adds records, except those that are not expected in their partition. Returns each partition in which the record
    /// before the first one is not the record that was read there, with the offset that was to be read next.
    pub(super) fn push(&self, records: Vec<RawRecord>) -> PartitionOffsets {
        if records.is_empty() {
            return PartitionOffsets::new();
        }
        let mut state = self.lock();
        let others = records.into_iter().filter_map(|record| {
            let partition = record.partition;
            state.push(record).map(|offset| (partition, offset))
        });
        let others = others.collect();
        let arrived = !state.records.is_empty();
        drop(state);
        if arrived {
            self.arrival_notify.notify_one();
        }
        others
    }

    /// Notes that the library has reached the end of a partition. Returns the offset that was to be read next if the
    /// record before it did not come.
    pub(super) fn on_partition_end(&self, partition: u32) -> Option<u64> {
        let mut state = self.lock();
        let reading = state.partition_readings.get_mut(&partition)?;
        if !matches!(reading.expected_record, ExpectedRecord::PreviousRecord(_)) {
            return None;
        }
        reading.expected_record = ExpectedRecord::Nothing;
        Some(reading.next_offset + 1)
    }

    /// Notes that the group assigned these partitions to the member.
    pub(super) fn note_assigned(&self, partitions: Vec<u32>) {
        if !partitions.is_empty() {
            let mut state = self.lock();
            state.owned_partitions.extend(&partitions);
            state.rebalance_events.push_back(ConsumerEvent::Assigned(partitions));
            drop(state);
            self.arrival_notify.notify_one();
        }
    }

    /// Notes that the group revoked these partitions. Returns those that were being read.
    pub(super) fn note_revoked(&self, mut partitions: Vec<u32>) -> Vec<u32> {
        let mut state = self.lock();
        partitions.retain(|partition| state.owned_partitions.remove(partition));
        state.forget_records(&partitions);
        let read =
            partitions.iter().copied().filter(|at| state.partition_readings.remove(at).is_some()).collect();
        if !partitions.is_empty() {
            state.rebalance_events.push_back(ConsumerEvent::Revoked(partitions));
            drop(state);
            self.arrival_notify.notify_one();
        }
        read
    }

    /// Notes that the member lost the group, and with it all partitions.
    pub(super) fn note_all_revoked(&self) {
        let owned = self.lock().owned_partitions.iter().copied().collect();
        self.note_revoked(owned);
    }

    /// Starts reading anew at these offsets. Returns the offsets from which the library has to read the owned
    /// partitions: first those that were not being read yet, then those that were.
    pub(super) fn start_partitions(
        &self,
        mut starts: Vec<ReadStart>,
    ) -> (PartitionOffsets, PartitionOffsets) {
        let mut state = self.lock();
        starts.retain(|start| state.owned_partitions.contains(&start.partition));
        let partitions: Vec<_> = starts.iter().map(|start| start.partition).collect();
        state.forget_records(&partitions);
        let (mut fresh, mut again) = (PartitionOffsets::new(), PartitionOffsets::new());
        for ReadStart { partition, offset, previous_record: after } in starts {
            let reading = match (after, offset.checked_sub(1)) {
                (Some(mark), Some(before)) => {
                    PartitionReading::starting_at(before, ExpectedRecord::PreviousRecord(mark))
                }
                _ => PartitionReading::starting_at(offset, ExpectedRecord::Records),
            };
            let known = state.partition_readings.insert(partition, reading).is_some();
            if known { &mut again } else { &mut fresh }.push((partition, reading.next_offset));
        }
        (fresh, again)
    }

    /// Returns each partition that is being read, with the next offset to read for the library and the one for the
    /// owner.
    pub(super) fn next_offsets(&self) -> Vec<(u32, u64, u64)> {
        let state = self.lock();
        let both = |reading: &PartitionReading| match reading.expected_record {
            ExpectedRecord::PreviousRecord(_) => (reading.next_offset, reading.next_offset + 1),
            ExpectedRecord::Records | ExpectedRecord::Nothing => (reading.next_offset, reading.next_offset),
        };
        state
            .partition_readings
            .iter()
            .map(|(partition, reading)| (*partition, both(reading).0, both(reading).1))
            .collect()
    }

    /// Skips the check of the record before the start: the log no longer holds that record, so there is nothing to
    /// compare.
    pub(super) fn skip_previous_record_check(&self, partition: u32) {
        let mut state = self.lock();
        if let Some(reading) = state
            .partition_readings
            .get_mut(&partition)
            .filter(|it| matches!(it.expected_record, ExpectedRecord::PreviousRecord(_)))
        {
            *reading = PartitionReading::starting_at(reading.next_offset + 1, ExpectedRecord::Records);
        }
    }

    /// Notes that the log may have been replaced: no further record of the partitions that are being read is accepted.
    pub(super) fn invalidate_log(&self) {
        let mut state = self.lock();
        state.log_invalidated = !state.partition_readings.is_empty();
        for reading in state.partition_readings.values_mut() {
            reading.expected_record = ExpectedRecord::Nothing;
        }
    }

    /// Returns true if the log may have been replaced since the last call.
    pub(super) fn take_log_invalidated(&self) -> bool {
        std::mem::take(&mut self.lock().log_invalidated)
    }

    /// Notes that a partition (`None`: unknown which) cannot be read any further.
    pub(super) fn set_fatal_error(&self, partition: Option<u32>, error: StoreError) {
        self.lock().fatal_error = Some((partition, error));
        self.arrival_notify.notify_one();
    }

    /// Notes an error that may pass.
    pub(super) fn set_transient_error(&self, error: StoreError) {
        self.lock().transient_error = Some(error);
        self.arrival_notify.notify_one();
    }
}

impl InboxState {
    /// Adds a record, unless it is not expected in its partition. Returns the offset that was to be read next if the
    /// record before it is not the record that was read there.
    fn push(&mut self, record: RawRecord) -> Option<u64> {
        let reading = self.partition_readings.get_mut(&record.partition)?;
        if record.offset < reading.next_offset || reading.expected_record == ExpectedRecord::Nothing {
            return None;
        }
        if let ExpectedRecord::PreviousRecord(mark) = reading.expected_record {
            let offset = reading.next_offset + 1;
            if record.offset != reading.next_offset || record.fingerprint() != mark {
                reading.expected_record = ExpectedRecord::Nothing;
                return Some(offset);
            }
            *reading = PartitionReading::starting_at(offset, ExpectedRecord::Records);
            return None;
        }
        reading.log_gap_before(&record);
        reading.next_offset = record.offset + 1;
        self.held_bytes += record_bytes(&record);
        self.records.push_back(record);
        None
    }

    fn forget_records(&mut self, partitions: &[u32]) {
        self.records.retain(|record| !partitions.contains(&record.partition));
        self.held_bytes = self.records.iter().map(record_bytes).sum();
        if self.fatal_error.as_ref().is_some_and(|(at, _)| at.is_none_or(|at| partitions.contains(&at))) {
            self.fatal_error = None;
        }
    }
}

fn record_bytes(record: &RawRecord) -> usize {
    size_of::<RawRecord>() + record.key.as_ref().map_or(0, bytes::Bytes::len) + record.value.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(partition: u32, offset: u64) -> RawRecord {
        RawRecord {
            partition,
            offset,
            broker_time: 1,
            key: None,
            value: Bytes::from_static(b"v"),
            trace: None,
        }
    }

    /// Adds one record. Returns the offset that was to be read next if the record before it is another one.
    fn push(inbox: &Inbox, record: RawRecord) -> Option<u64> {
        inbox.push(vec![record]).first().map(|(_, offset)| *offset)
    }

    fn polled_offsets(polled: Option<ConsumerEvent>) -> Vec<(u32, u64)> {
        match polled {
            Some(ConsumerEvent::Records(records)) => {
                records.iter().map(|at| (at.partition, at.offset)).collect()
            }
            other => panic!("{other:?} instead of records"),
        }
    }

    fn reading(partitions: &[u32]) -> Inbox {
        let inbox = Inbox::default();
        inbox.note_assigned(partitions.to_vec());
        assert_eq!(inbox.take_event(1).unwrap(), Some(ConsumerEvent::Assigned(partitions.to_vec())));
        inbox.start_partitions(partitions.iter().map(|at| ReadStart::without_previous(*at, 0)).collect());
        inbox
    }

    #[test]
    fn records_of_a_revoked_partition_are_dropped() {
        let inbox = reading(&[1, 2]);
        for at in [record(1, 0), record(2, 0), record(1, 1)] {
            push(&inbox, at);
        }
        assert_eq!(inbox.note_revoked(vec![1, 7]), [1]);
        push(&inbox, record(1, 2));
        assert_eq!(inbox.take_event(10).unwrap(), Some(ConsumerEvent::Revoked(vec![1])));
        assert_eq!(polled_offsets(inbox.take_event(10).unwrap()), [(2, 0)]);
        assert_eq!(inbox.take_event(10).unwrap(), None);
        assert_eq!(inbox.lock().held_bytes, 0);
    }

    #[test]
    fn a_start_drops_records_read_before_it() {
        let inbox = reading(&[1, 2]);
        for at in 0..5 {
            push(&inbox, record(1, at));
        }
        assert_eq!(
            inbox
                .start_partitions(vec![ReadStart::without_previous(1, 3), ReadStart::without_previous(9, 0)]),
            (vec![], vec![(1, 3)])
        );
        push(&inbox, record(1, 2));
        push(&inbox, record(1, 3));
        assert_eq!(polled_offsets(inbox.take_event(10).unwrap()), [(1, 3)]);
    }

    #[test]
    fn records_of_an_unstarted_partition_are_refused() {
        let inbox = Inbox::default();
        inbox.note_assigned(vec![1]);
        push(&inbox, record(1, 0));
        inbox.take_event(1).unwrap();
        assert_eq!(inbox.take_event(1).unwrap(), None);
        assert_eq!(inbox.start_partitions(vec![ReadStart::without_previous(1, 0)]), (vec![(1, 0)], vec![]));
    }

    #[test]
    fn the_record_before_the_start_is_checked_and_not_returned() {
        let after = Some(record(1, 4).fingerprint());
        let marked = |offset| ReadStart { partition: 1, offset, previous_record: after };
        let inbox = reading(&[1]);
        assert_eq!(inbox.start_partitions(vec![marked(5)]), (vec![], vec![(1, 4)]));
        assert_eq!(inbox.next_offsets(), [(1, 4, 5)]);
        assert_eq!((push(&inbox, record(1, 4)), push(&inbox, record(1, 5))), (None, None));
        assert_eq!(polled_offsets(inbox.take_event(10).unwrap()), [(1, 5)]);
        assert_eq!(inbox.on_partition_end(1), None);
        let other = RawRecord { broker_time: 2, ..record(1, 4) };
        for wrong in [other, record(1, 6)] {
            inbox.start_partitions(vec![marked(5)]);
            assert_eq!(push(&inbox, wrong), Some(5));
            assert_eq!(push(&inbox, record(1, 6)), None, "told once, and nothing read");
            assert_eq!(inbox.take_event(10).unwrap(), None);
        }
        inbox.start_partitions(vec![marked(5)]);
        assert_eq!((inbox.on_partition_end(1), inbox.on_partition_end(1)), (Some(5), None));
        inbox.start_partitions(vec![marked(5)]);
        inbox.skip_previous_record_check(1);
        assert_eq!((inbox.next_offsets(), push(&inbox, record(1, 5))), (vec![(1, 5, 5)], None));
        assert_eq!(polled_offsets(inbox.take_event(10).unwrap()), [(1, 5)]);
        assert_eq!(
            inbox.start_partitions(vec![marked(0)]),
            (vec![], vec![(1, 0)]),
            "nothing stands before the first"
        );
    }

    #[test]
    fn a_distrusted_log_gives_no_records_until_started_again() {
        let inbox = reading(&[1, 2]);
        push(&inbox, record(1, 0));
        inbox.invalidate_log();
        assert!(inbox.take_log_invalidated() && !inbox.take_log_invalidated());
        push(&inbox, record(1, 1));
        assert_eq!(polled_offsets(inbox.take_event(10).unwrap()), [(1, 0)], "what came before is good");
        inbox.start_partitions(vec![ReadStart::without_previous(1, 1)]);
        push(&inbox, record(1, 1));
        push(&inbox, record(2, 0));
        assert_eq!(polled_offsets(inbox.take_event(10).unwrap()), [(1, 1)]);
    }

    #[test]
    fn a_fatal_error_is_returned_after_the_records_until_a_new_start() {
        let inbox = reading(&[1]);
        push(&inbox, record(1, 0));
        inbox.set_fatal_error(Some(1), StoreError::unusable("kafka", "gone"));
        assert_eq!(polled_offsets(inbox.take_event(10).unwrap()), [(1, 0)]);
        assert!(inbox.take_event(10).is_err() && inbox.take_event(10).is_err());
        inbox.start_partitions(vec![ReadStart::without_previous(1, 5)]);
        assert_eq!(inbox.take_event(10).unwrap(), None);
    }

    #[test]
    fn the_inbox_is_bounded_in_records_and_in_bytes() {
        let inbox = reading(&[1]);
        for at in 0..MAX_HELD_RECORDS as u64 {
            assert!(inbox.wait_for_room(Duration::ZERO));
            push(&inbox, record(1, at));
        }
        assert!(!inbox.wait_for_room(Duration::ZERO));
        assert_eq!(polled_offsets(inbox.take_event(1).unwrap()), [(1, 0)]);
        assert!(inbox.wait_for_room(Duration::ZERO));
        let inbox = reading(&[1]);
        let large = RawRecord { value: vec![0; MAX_HELD_BYTES].into(), ..record(1, 0) };
        push(&inbox, large);
        assert!(!inbox.wait_for_room(Duration::ZERO));
    }
}
