//! How far counting and the boards are behind the log.
//!
//! One truth, by the stores' own offsets: the log says where each partition ends, the archive where counting stands, the
//! boards up to where they show it. The age of a backlog is counted from the first look that saw it, so it depends on no
//! record's own time; only what was there at the first look of a process is as old as the last record that was counted.

use std::collections::{BTreeMap, VecDeque};

use liverank_core::Millis;

use crate::archive::Position;
use crate::{Backends, StoreError};

/// Looks kept of a partition: half an hour of a growing backlog. Past it every second one is forgotten, which costs
/// precision and never the age of the oldest.
const MAX_LOOKS: usize = 900;

/// The offsets of one partition: its end, what was counted, what is on the boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// The offset after the last record in the log.
    pub end: u64,
    /// The position up to which records were counted.
    pub counted: Position,
    /// Up to where the boards show it.
    pub shown: u64,
}

/// The offsets of several partitions, by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets(pub Vec<(u32, Offset)>);

impl Offsets {
    /// Of these partitions, in an order that never makes a lag of what happens meanwhile: who is behind is asked first.
    ///
    /// # Errors
    /// A store is away.
    pub async fn read(backends: &Backends, partitions: &[u32]) -> Result<Self, StoreError> {
        if partitions.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let shown: BTreeMap<u32, u64> = backends.ranking.standing().await?.offsets.into_iter().collect();
        let counted = backends.archive.offsets(partitions).await?;
        let ends = backends.log.end_offsets().await?;
        let offset = |(partition, counted): (&u32, Position)| {
            let end = *ends.get(*partition as usize)?;
            Some((*partition, Offset { end, counted, shown: shown.get(partition).copied().unwrap_or(0) }))
        };
        Ok(Self(partitions.iter().zip(counted).filter_map(offset).collect()))
    }
}

/// How far one partition is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Records of the log that are not counted yet.
    pub records: u64,
    /// How long the oldest of them has waited, in milliseconds.
    pub waited: Millis,
    /// Records that are counted and not on the boards yet.
    pub projection: u64,
}

/// What was seen of one partition's end, the oldest first: where it was, and since when something before it waits.
#[derive(Debug, Default)]
pub struct Backlog {
    seen: VecDeque<(u64, Millis)>,
    looked: bool,
}

impl Backlog {
    /// Returns how far the partition is behind, by its offsets at `now`.
    pub fn look(&mut self, at: &Offset, now: Millis) -> Lag {
        let next = at.counted.next;
        while self.seen.front().is_some_and(|(end, _)| *end <= next) {
            self.seen.pop_front();
        }
        let is_new = self.seen.back().map_or(at.end > next, |(end, _)| at.end > *end);
        if is_new {
            let found = at.counted.last.filter(|_| !self.looked).map(|last| last.broker_time);
            self.seen.push_back((at.end, found.unwrap_or(now)));
        }
        self.looked = true;
        if self.seen.len() > MAX_LOOKS {
            let mut number = 0_usize;
            self.seen.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        Lag {
            records: at.end.saturating_sub(next),
            waited: self.seen.front().map_or(0, |(_, since)| now.saturating_sub(*since).max(0)),
            projection: next.saturating_sub(at.shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::counting::RecordFingerprint;

    use super::*;

    fn offsets_at(end: u64, next: u64, shown: u64) -> Offset {
        Offset { end, counted: Position { next, last: None }, shown }
    }

    #[test]
    fn a_backlog_is_as_old_as_its_oldest_record() {
        let mut backlog = Backlog::default();
        let mut look = |end, next, now| backlog.look(&offsets_at(end, next, next), now);
        assert_eq!(look(10, 10, 0), Lag { records: 0, waited: 0, projection: 0 });
        assert_eq!(look(15, 10, 1_000), Lag { records: 5, waited: 0, projection: 0 });
        assert_eq!(
            look(20, 12, 3_000),
            Lag { records: 8, waited: 2_000, projection: 0 },
            "12 came before 1 s"
        );
        assert_eq!(
            look(20, 15, 5_000),
            Lag { records: 5, waited: 2_000, projection: 0 },
            "15 came before 3 s"
        );
        assert_eq!(look(20, 20, 6_000), Lag { records: 0, waited: 0, projection: 0 });
        assert_eq!(look(21, 20, 9_000), Lag { records: 1, waited: 0, projection: 0 });
    }

    #[test]
    fn a_backlog_from_before_the_start_is_as_old_as_the_last_counted_record() {
        let last = Some(RecordFingerprint { broker_time: 1_000, digest: 0 });
        let found = Offset { end: 9, counted: Position { next: 4, last }, shown: 1 };
        let mut backlog = Backlog::default();
        assert_eq!(backlog.look(&found, 61_000), Lag { records: 5, waited: 60_000, projection: 3 });
        let counted = Offset { counted: Position { next: 9, last }, ..found };
        assert_eq!(backlog.look(&counted, 62_000).waited, 0);
        let more = Offset { end: 10, ..counted };
        assert_eq!(backlog.look(&more, 63_000).waited, 0, "only what was there at the start");
    }

    #[test]
    fn a_backlog_that_grows_for_ever_takes_bounded_memory_and_keeps_its_age() {
        let mut backlog = Backlog::default();
        backlog.look(&offsets_at(0, 0, 0), 0);
        for second in 1..100_000 {
            let lag = backlog.look(&offsets_at(second, 0, 0), second as Millis * 1_000);
            assert_eq!(lag.waited, (second as Millis - 1) * 1_000);
            assert!(backlog.seen.len() <= MAX_LOOKS);
        }
    }
}
