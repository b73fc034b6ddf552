//! Reserved capacity: viewers who are on their way to a reader and in no report yet. Counted are one viewer for each
//! video assigned lately, and the viewers of a dead reader. Counting these viewers keeps a burst of registrations, or
//! a returning crowd, from going to one reader.
//!
//! A viewer who has arrived is counted in the reader's report: if a reader reports more viewers than before, so many
//! reservations are fulfilled. If viewers were counted twice, a reader that takes over from another would seem full
//! before it is, and viewers would be sent to readers that are to be emptied next.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::ElapsedTime;
use crate::ReaderId;

/// The time after which a reservation ends: by then the reader reports the viewer, or the viewer does not come.
pub const RESERVATION_LIFETIME: Duration = Duration::from_secs(5);
/// The time within which reservations are merged into one entry, so that there are at most 50 entries per reader.
const ARRIVAL_STEP: Duration = Duration::from_millis(100);

/// The viewers who are on their way, for each reader.
#[derive(Debug, Default)]
pub struct ReservedCapacity(HashMap<ReaderId, ExpectedViewers>);

#[derive(Debug, Default)]
struct ExpectedViewers {
    /// The reservations, oldest first: the time and the number of viewers.
    reservations: VecDeque<(ElapsedTime, u64)>,
    viewer_count: u64,
}

impl ReservedCapacity {
    /// Notes that `viewers` viewers are on their way to `reader`. `now` must not go back.
    pub fn reserve(&mut self, now: ElapsedTime, reader: &ReaderId, viewers: u64) {
        let expected = self.0.entry(reader.clone()).or_default();
        expected.expire(now);
        expected.viewer_count += viewers;
        match expected.reservations.back_mut() {
            Some((at, last)) if now.saturating_sub(*at) < ARRIVAL_STEP => *last += viewers,
            _ => expected.reservations.push_back((now, viewers)),
        }
    }

    /// Removes reservations of viewers who have not come in time.
    pub fn expire(&mut self, now: ElapsedTime) {
        self.0.retain(|_, expected| {
            expected.expire(now);
            expected.viewer_count > 0
        });
    }

    /// Notes that a reader reports `viewers` more viewers than before: its oldest reservations are fulfilled.
    pub fn note_arrived(&mut self, reader: &ReaderId, viewers: u64) {
        let Some(expected) = self.0.get_mut(reader) else { return };
        let mut left = viewers;
        while left > 0
            && let Some((_, first)) = expected.reservations.front_mut()
        {
            let arrived = left.min(*first);
            *first -= arrived;
            left -= arrived;
            expected.viewer_count -= arrived;
            if *first == 0 {
                expected.reservations.pop_front();
            }
        }
    }

    /// Returns the number of viewers on their way to a reader.
    pub fn reserved_for(&self, reader: &ReaderId) -> u64 {
        self.0.get(reader).map_or(0, |expected| expected.viewer_count)
    }
}

impl ExpectedViewers {
    fn expire(&mut self, now: ElapsedTime) {
        while let Some((_, viewers)) =
            self.reservations.pop_front_if(|(at, _)| now.saturating_sub(*at) >= RESERVATION_LIFETIME)
        {
            self.viewer_count -= viewers;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_expire_and_are_bounded() {
        let (mut reserved, now) = (ReservedCapacity::default(), Duration::from_secs(100));
        let reader = ReaderId::parse("a").unwrap();
        reserved.reserve(now, &reader, 1);
        reserved.reserve(now + RESERVATION_LIFETIME / 2, &reader, 5);
        assert_eq!(reserved.reserved_for(&reader), 6);
        reserved.expire(now + RESERVATION_LIFETIME);
        assert_eq!(reserved.reserved_for(&reader), 5);
        reserved.expire(now + RESERVATION_LIFETIME * 2);
        assert!(reserved.0.is_empty());
        for nth in 0..100_000 {
            reserved.reserve(now + Duration::from_millis(nth), &reader, 1);
        }
        assert!(reserved.0[&reader].reservations.len() <= 50);
    }

    #[test]
    fn an_arrival_ends_its_reservation() {
        let (mut reserved, now) = (ReservedCapacity::default(), Duration::ZERO);
        let [a, b] = ["a", "b"].map(|name| ReaderId::parse(name).unwrap());
        reserved.reserve(now, &a, 3);
        reserved.reserve(now + Duration::from_secs(1), &a, 4);
        reserved.reserve(now, &b, 2);
        reserved.note_arrived(&a, 5);
        assert_eq!((reserved.reserved_for(&a), reserved.reserved_for(&b)), (2, 2));
        reserved.expire(now + RESERVATION_LIFETIME);
        assert_eq!(
            (reserved.reserved_for(&a), reserved.reserved_for(&b)),
            (2, 0),
            "the first to be expected are the first to arrive"
        );
        reserved.note_arrived(&a, 50);
        assert_eq!(reserved.reserved_for(&a), 0);
    }
}
