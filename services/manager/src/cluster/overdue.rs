//! Readers whose drain takes longer than permitted, if the planner in the managers (the autopilot) is responsible. The
//! operator has a clock of its own for drains (`drain.timeoutSeconds`).
//!
//! Each manager uses its own clock: a manager that has just started, or did not see the cordon for a while, begins to
//! count anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::CordonLevel;
use liverank_core::ReaderId;
use liverank_core::handover::coordinator::ReaderStatus;

use super::KnownCluster;
use super::load::viewers_without_canary;

/// Measures for how long each reader has been drained by a planner's order, as far as this manager has seen, and knows
/// the time limit of drains.
#[derive(Debug, Default)]
pub struct DrainClock {
    limit: Option<Duration>,
    draining_since: BTreeMap<ReaderId, Instant>,
}

impl DrainClock {
    /// Makes a clock by which drains are overdue after `limit`; `None`: never.
    pub const fn new(limit: Option<Duration>) -> Self {
        Self { limit, draining_since: BTreeMap::new() }
    }

    /// Notes the readers that are being drained now. The time of every other reader is reset.
    fn note_drained(&mut self, now: Instant, drained: Vec<ReaderId>) {
        let since = |reader: &ReaderId| self.draining_since.get(reader).copied().unwrap_or(now);
        self.draining_since = drained.into_iter().map(|reader| (reader.clone(), since(&reader))).collect();
    }

    /// Returns for how long a reader has been drained, if that is longer than the limit; otherwise `None`.
    fn overdue_for(&self, now: Instant, reader: &ReaderId) -> Option<Duration> {
        let taken = now.saturating_duration_since(*self.draining_since.get(reader)?);
        self.limit.is_some_and(|limit| taken > limit).then_some(taken)
    }
}

/// A reader whose drain by a planner's order takes longer than permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverdueDrain {
    /// The reader whose drain is overdue.
    pub reader: ReaderId,
    /// The number of viewers that the reader still has.
    pub viewers: u64,
    /// The time for which the reader has been drained.
    pub drained_for: Duration,
}

impl KnownCluster {
    /// Notes which readers are being drained by a planner's order.
    pub(super) fn note_drains(&mut self, now: Instant) {
        let drained = |reader: &ReaderId| self.cordon_level(reader) == Some(CordonLevel::Draining);
        let readers = self.reader_watch.all_readers().map(|sighting| &sighting.last_record.id);
        let drained = readers.filter(|reader| drained(reader)).cloned().collect();
        self.drain_clock.note_drained(now, drained);
    }

    /// Returns true if a reader's drain takes longer than permitted.
    pub fn is_drain_overdue(&self, now: Instant, reader: &ReaderId) -> bool {
        self.overdue_drain(now, reader).is_some()
    }

    /// Returns the readers whose drain takes longer than permitted. Readers that leave by themselves have a time limit
    /// of their own, and readers that are gone have no viewers; neither are returned.
    pub fn overdue_drains(&self, now: Instant) -> Vec<OverdueDrain> {
        let readers = self.reader_watch.all_readers().map(|sighting| &sighting.last_record.id);
        readers.filter_map(|reader| self.overdue_drain(now, reader)).collect()
    }

    fn overdue_drain(&self, now: Instant, reader: &ReaderId) -> Option<OverdueDrain> {
        let drained_for = self.drain_clock.overdue_for(now, reader)?;
        let viewers = viewers_without_canary(self.reader_watch.get(reader)?);
        let is_left = viewers > 0 && self.reader_status(now, reader) == Some(ReaderStatus::Draining);
        is_left.then(|| OverdueDrain { reader: reader.clone(), viewers, drained_for })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_drain_begins_anew_after_it_was_taken_back() {
        let limit = Duration::from_mins(15);
        let (mut clock, start) = (DrainClock::new(Some(limit)), Instant::now());
        let reader = |name: &str| ReaderId::parse(name).unwrap();
        clock.note_drained(start, vec![reader("a"), reader("b")]);
        clock.note_drained(start + limit / 2, vec![reader("b")]);
        clock.note_drained(start + limit, vec![reader("a"), reader("b")]);
        let just_after = start + limit + Duration::from_millis(1);
        assert_eq!(clock.overdue_for(start + limit, &reader("b")), None);
        assert_eq!(clock.overdue_for(just_after, &reader("b")), Some(limit + Duration::from_millis(1)));
        assert_eq!(
            (clock.overdue_for(just_after, &reader("a")), clock.overdue_for(just_after, &reader("c"))),
            (None, None)
        );
        let mut without_limit = DrainClock::default();
        without_limit.note_drained(start, vec![reader("a")]);
        assert_eq!(without_limit.overdue_for(start + limit * 100, &reader("a")), None);
    }
}
