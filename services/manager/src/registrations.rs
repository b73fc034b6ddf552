//! The share of each caller in the videos that are registered here for the first time.
//!
//! A gateway has a budget of new videos for each of its callers. Whoever reaches a manager directly passes that budget
//! by, so the manager has one of its own: a number of new videos an hour, which callers share by their addresses
//! ([`UnitAllocator`]). Videos that nobody watches are forgotten after an hour, so strangers hold a bounded part of the
//! assignments at any time.
//!
//! A reader names the addresses of viewers who connect directly to it. Whoever has a reader's stolen credential can
//! invent an address for each video, so each reader has a share of the same budget, too, whatever addresses it names.
//!
//! Pure: time is an argument.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use liverank_core::ReaderId;
use liverank_runtime::free_shares::UnitAllocator;
use liverank_runtime::label_values;
use liverank_runtime::network::rate_limit_address;

/// The number of new videos that all direct callers of a manager register within [`COUNTING_WINDOW`]: a tenth of all
/// assignments, so that a few managers side by side leave most of them to others. A single caller gets half of it.
pub const MAX_NEW_VIDEOS: u32 = 100_000;
/// The time after which a registration is no longer counted: as long as a video is kept that nobody watches.
const COUNTING_WINDOW: Duration = Duration::from_hours(1);

/// The caller for whom a new video counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrant {
    /// The address, or the network of an address that stands for it.
    address: IpAddr,
    /// The reader that asks for a viewer at this address; `None` if the caller asks the manager itself.
    reader: Option<ReaderId>,
}

impl Registrant {
    /// Returns the caller at `address`, for whom `reader` asks, as its token says.
    pub fn new(address: IpAddr, reader: Option<ReaderId>) -> Self {
        Self { address: rate_limit_address(address), reader }
    }
}

label_values! {
    /// The share that a refused registration would exceed.
    pub enum UsedShare {
        /// The share of the caller's address.
        Address = "address",
        /// The share of the reader that asks, of all addresses that it named.
        Reader = "reader",
    }
}

/// The refusal of a new video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The share that is used up.
    pub used_share: UsedShare,
    /// The time after which the share may have room again.
    pub wait: Duration,
}

/// The new videos that were registered lately, by the callers.
#[derive(Debug)]
pub struct RecentRegistrations {
    by_address: UnitAllocator<IpAddr>,
    /// The same registrations by the readers that asked. A reader has, as an address has, at most as many as it leaves
    /// free: half of the budget if it is the only one, and a third of it beside another one that takes all it can. So a
    /// single reader of a small system is useful, and a reader that was taken over leaves as much to all others as it
    /// takes.
    by_reader: UnitAllocator<Option<ReaderId>>,
    /// The caller and the time of each registration, the earliest first.
    counted_registrations: VecDeque<(Instant, Registrant)>,
}

impl RecentRegistrations {
    /// Returns room for `videos` new videos within [`COUNTING_WINDOW`].
    pub fn new(videos: usize) -> Self {
        Self {
            by_address: UnitAllocator::new(videos),
            by_reader: UnitAllocator::new(videos),
            counted_registrations: VecDeque::new(),
        }
    }

    /// Counts a new video of the caller, before it is known whether the video will be registered: whoever asks at the
    /// same time finds it counted. What does not register a video afterwards is taken back by [`Self::take_back`].
    ///
    /// # Errors
    /// The share of the caller is used up; then nothing is counted.
    pub fn count_video(&mut self, now: Instant, caller: &Registrant) -> Result<(), Refusal> {
        self.forget_old(now);
        if let Some(used_share) = self.used_share(caller) {
            let first = self.counted_registrations.front().map_or(now, |(at, _)| *at);
            let wait = (first + COUNTING_WINDOW).saturating_duration_since(now);
            return Err(Refusal { used_share, wait });
        }
        self.by_address.give_units(&caller.address, 1);
        self.by_reader.give_units(&caller.reader, 1);
        self.counted_registrations.push_back((now, caller.clone()));
        Ok(())
    }

    /// Takes the latest video of the caller back that was counted and not registered.
    pub fn take_back(&mut self, caller: &Registrant) {
        // It is near the end: only what was counted since then is behind it.
        let counted = self.counted_registrations.iter().rposition(|(_, registrant)| registrant == caller);
        if counted.and_then(|position| self.counted_registrations.remove(position)).is_some() {
            self.return_units(caller);
        }
    }

    fn used_share(&self, caller: &Registrant) -> Option<UsedShare> {
        if !self.by_address.may_take(&caller.address, 1) {
            return Some(UsedShare::Address);
        }
        let may_reader_take = caller.reader.is_none() || self.by_reader.may_take(&caller.reader, 1);
        (!may_reader_take).then_some(UsedShare::Reader)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((_, caller)) = self
            .counted_registrations
            .pop_front_if(|(at, _)| now.saturating_duration_since(*at) >= COUNTING_WINDOW)
        {
            self.return_units(&caller);
        }
    }

    fn return_units(&mut self, caller: &Registrant) {
        self.by_address.return_units(&caller.address, 1);
        self.by_reader.return_units(&caller.reader, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> Registrant {
        Registrant::new([192, 0, 2, last].into(), None)
    }

    /// Returns the `number`th of the addresses that the reader `id` invents.
    fn invented(id: &str, number: u32) -> Registrant {
        Registrant::new(IpAddr::from(number.to_be_bytes()), Some(ReaderId::parse(id).unwrap()))
    }

    #[test]
    fn a_caller_has_its_share_of_an_hour_and_leaves_room_for_others() {
        let (mut recent, start) = (RecentRegistrations::new(100), Instant::now());
        let after = |minutes| start + Duration::from_mins(minutes);
        let mut register = |now: Instant, caller| recent.count_video(now, &caller).err();
        let refused = |minutes| {
            let wait = Duration::from_mins(minutes);
            Some(Refusal { used_share: UsedShare::Address, wait })
        };
        let taken = (0..200).filter(|_| register(after(0), host(1)).is_none()).count();
        assert_eq!(taken, 50, "half of all");
        assert_eq!(register(after(10), host(1)), refused(50), "told when to come back");
        assert_eq!(register(after(10), host(2)), None);
        assert_eq!((0..200).filter(|_| register(after(59), host(2)).is_none()).count(), 24);
        assert_eq!(register(after(60), host(1)), None, "an hour later");
        // Only the other caller's are counted then.
        assert_eq!((0..200).filter(|_| register(after(60), host(1)).is_none()).count(), 36);
    }

    #[test]
    fn a_reader_has_its_share_whatever_addresses_it_names() {
        let (mut recent, now) = (RecentRegistrations::new(100), Instant::now());
        let mut register = |caller: &Registrant| recent.count_video(now, caller).err();
        let taken = (0..200).filter(|number| register(&invented("stolen", *number)).is_none()).count();
        assert_eq!(taken, 50, "half of all");
        let refusal = register(&invented("stolen", 999)).unwrap();
        assert_eq!(refusal, Refusal { used_share: UsedShare::Reader, wait: COUNTING_WINDOW });
        assert_eq!(register(&host(1)), None);
        let others = (0..200).filter(|number| register(&invented("other", *number)).is_none()).count();
        assert_eq!(others, 24, "half of what is left");
        assert_eq!(register(&host(1)), None, "others go on");
    }

    #[test]
    fn what_is_taken_back_is_free_again() {
        let (mut recent, start) = (RecentRegistrations::new(2), Instant::now());
        let later = start + COUNTING_WINDOW;
        recent.count_video(start, &invented("r", 1)).unwrap();
        recent.count_video(start, &host(2)).unwrap();
        assert!(recent.count_video(start, &host(3)).is_err(), "the budget is used up");
        recent.take_back(&invented("r", 1));
        assert_eq!(recent.count_video(start, &invented("r", 3)), Ok(()));
        recent.take_back(&invented("r", 1));
        assert!(recent.count_video(start, &host(4)).is_err(), "nothing is taken back twice");
        assert_eq!(recent.count_video(later, &host(4)), Ok(()), "those of an hour ago are forgotten");
        assert_eq!(recent.counted_registrations.len(), 1);
        assert_eq!((recent.by_address.free_units(), recent.by_reader.free_units()), (1, 1));
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let (mut recent, start) = (RecentRegistrations::new(10), Instant::now());
        for caller in 0..=255 {
            let _ = recent.count_video(start, &host(caller));
        }
        assert_eq!(recent.counted_registrations.len(), 10);
        recent.count_video(start + COUNTING_WINDOW, &host(1)).unwrap();
        assert_eq!(recent.counted_registrations.len(), 1);
    }
}
