//! The share of each caller in the videos that are registered here for the first time.
//!
//! A gateway has a budget of new videos for each of its callers. Whoever reaches a manager directly passes that budget
//! by, so the manager has one of its own: a number of new videos an hour, which callers share by their addresses
//! ([`UnitAllocator`]). Videos that nobody watches are forgotten after an hour, so strangers hold a bounded part of the
//! assignments at any time.
//!
//! Pure: time is an argument.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use liverank_runtime::free_shares::UnitAllocator;
use liverank_runtime::network::rate_limit_address;

/// The number of new videos that all direct callers of a manager register within [`COUNTING_WINDOW`]: a tenth of all
/// assignments, so that a few managers side by side leave most of them to others. A single caller gets half of it.
pub const MAX_NEW_VIDEOS: u32 = 100_000;
/// The time after which a registration is no longer counted: as long as a video is kept that nobody watches.
const COUNTING_WINDOW: Duration = Duration::from_hours(1);

/// The new videos that were registered lately, by the callers' addresses.
#[derive(Debug)]
pub struct RecentRegistrations {
    shares: UnitAllocator<IpAddr>,
    /// The caller and the time of each registration, the earliest first.
    counted_registrations: VecDeque<(Instant, IpAddr)>,
}

impl RecentRegistrations {
    /// Returns room for `videos` new videos within [`COUNTING_WINDOW`].
    pub fn new(videos: usize) -> Self {
        Self { shares: UnitAllocator::new(videos), counted_registrations: VecDeque::new() }
    }

    /// Returns the time after which the caller may register a new video; `None` if it may do so now.
    pub fn wait_before_registering(&mut self, now: Instant, caller: IpAddr) -> Option<Duration> {
        self.forget_old(now);
        if self.shares.may_take(&rate_limit_address(caller), 1) {
            return None;
        }
        let first = self.counted_registrations.front().map_or(now, |(at, _)| *at);
        Some((first + COUNTING_WINDOW).saturating_duration_since(now))
    }

    /// Counts a new video of the caller.
    pub fn count_video(&mut self, now: Instant, caller: IpAddr) {
        let caller = rate_limit_address(caller);
        self.shares.give_units(&caller, 1);
        self.counted_registrations.push_back((now, caller));
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((at, caller)) = self.counted_registrations.front().copied() {
            if now.saturating_duration_since(at) < COUNTING_WINDOW {
                break;
            }
            self.counted_registrations.pop_front();
            self.shares.return_units(&caller, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_caller_has_its_share_of_an_hour_and_leaves_room_for_others() {
        let (mut recent, start) = (RecentRegistrations::new(100), Instant::now());
        let after = |minutes| start + Duration::from_mins(minutes);
        let mut register = |now: Instant, caller| {
            let wait = recent.wait_before_registering(now, caller);
            if wait.is_none() {
                recent.count_video(now, caller);
            }
            wait
        };
        let taken = (0..200).filter(|_| register(after(0), host(1)).is_none()).count();
        assert_eq!(taken, 50, "half of all");
        assert_eq!(register(after(10), host(1)), Some(Duration::from_mins(50)), "told when to come back");
        assert_eq!(register(after(10), host(2)), None);
        assert_eq!((0..200).filter(|_| register(after(59), host(2)).is_none()).count(), 24);
        assert_eq!(register(after(60), host(1)), None, "an hour later");
        // Only the other caller's are counted then.
        assert_eq!((0..200).filter(|_| register(after(60), host(1)).is_none()).count(), 36);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let (mut recent, start) = (RecentRegistrations::new(10), Instant::now());
        for caller in 0..=255 {
            if recent.wait_before_registering(start, host(caller)).is_none() {
                recent.count_video(start, host(caller));
            }
        }
        assert_eq!(recent.counted_registrations.len(), 10);
        assert_eq!(recent.wait_before_registering(start + COUNTING_WINDOW, host(1)), None);
        assert!(recent.counted_registrations.is_empty());
    }
}
