//! Which readers take longer to be emptied than they may, where the planner in the managers sees to it. An operator has a
//! clock of its own for that (`drain.timeoutSeconds`).
//!
//! Each manager goes by its own clock: one that has just begun, or that saw no cordon meanwhile, begins the time anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::CordonLevel;
use liverank_core::ReaderId;
use liverank_core::handover::coordinator::ReaderStatus;

use super::KnownCluster;

/// Since when this manager has seen each reader being emptied by a planner's order, and how long that may take.
#[derive(Debug, Default)]
pub struct DrainClock {
    limit: Option<Duration>,
    since: BTreeMap<ReaderId, Instant>,
}

impl DrainClock {
    /// A clock that finds readers overdue after `limit`; without a limit none is.
    pub const fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: BTreeMap::new() }
    }

    /// Notes the readers that are being emptied now. The time of any other one is over.
    fn note(&mut self, now: Instant, drained: Vec<ReaderId>) {
        let since = |reader: &ReaderId| self.since.get(reader).copied().unwrap_or(now);
        self.since = drained.into_iter().map(|reader| (reader.clone(), since(&reader))).collect();
    }

    /// How long a reader has been emptied for, where that is longer than it may take.
    fn overdue(&self, now: Instant, reader: &ReaderId) -> Option<Duration> {
        let taken = now.saturating_duration_since(*self.since.get(reader)?);
        self.limit.is_some_and(|limit| taken > limit).then_some(taken)
    }
}

/// A reader that a planner has had emptied for longer than that may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverdueDrain {
    /// The reader.
    pub reader: ReaderId,
    /// Viewers whom it still has.
    pub viewers: u64,
    /// How long it has been emptied for.
    pub taken: Duration,
}

impl KnownCluster {
    /// Notes which readers are being emptied by a planner's order.
    pub(super) fn note_drains(&mut self, now: Instant) {
        let drained = |reader: &ReaderId| self.cordon_level(reader) == Some(CordonLevel::Draining);
        let readers = self.reader_watch.all_sightings().map(|sighting| &sighting.last_record.id);
        let drained = readers.filter(|reader| drained(reader)).cloned().collect();
        self.drain_clock.note(now, drained);
    }

    /// Whether a reader takes longer to be emptied than it may.
    pub fn is_drain_overdue(&self, now: Instant, reader: &ReaderId) -> bool {
        self.overdue_drain(now, reader).is_some()
    }

    /// Readers that take longer to be emptied than they may. One that leaves by itself has its own time, and one that is gone
    /// has no viewers.
    pub fn overdue_drains(&self, now: Instant) -> Vec<OverdueDrain> {
        let readers = self.reader_watch.all_sightings().map(|sighting| &sighting.last_record.id);
        readers.filter_map(|reader| self.overdue_drain(now, reader)).collect()
    }

    fn overdue_drain(&self, now: Instant, reader: &ReaderId) -> Option<OverdueDrain> {
        let taken = self.drain_clock.overdue(now, reader)?;
        let viewers = self.reader_watch.get(reader)?.last_record.viewers;
        let is_left = viewers > 0 && self.reader_status(now, reader) == Some(ReaderStatus::Draining);
        is_left.then(|| OverdueDrain { reader: reader.clone(), viewers, taken })
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
        clock.note(start, vec![reader("a"), reader("b")]);
        clock.note(start + limit / 2, vec![reader("b")]);
        clock.note(start + limit, vec![reader("a"), reader("b")]);
        let just_after = start + limit + Duration::from_millis(1);
        assert_eq!(clock.overdue(start + limit, &reader("b")), None);
        assert_eq!(clock.overdue(just_after, &reader("b")), Some(limit + Duration::from_millis(1)));
        assert_eq!(
            (clock.overdue(just_after, &reader("a")), clock.overdue(just_after, &reader("c"))),
            (None, None)
        );
        let mut without_limit = DrainClock::default();
        without_limit.note(start, vec![reader("a")]);
        assert_eq!(without_limit.overdue(start + limit * 100, &reader("a")), None);
    }
}
