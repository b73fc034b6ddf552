//! A limited number of units (places, bytes) that holders take for as long as they please, shared so that none of them
//! has to be asked for some back.
//!
//! A holder may have at most as many units as it leaves free for others ("dynamic thresholds", Choudhury and Hahne,
//! 1998): a single holder gets half of the units, two that come together get a third each, and some are left for
//! newcomers: a holder that has none is given the last one, too.
//! [`crate::shares::FairShares`] gives out all units and takes some back instead, which takes holders that can be told
//! to leave.
//!
//! Pure: only counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::network::rate_limit_address;

/// The units of a limited resource, with the number that each holder has taken.
#[derive(Debug)]
pub struct UnitAllocator<K> {
    all_units: usize,
    taken_units: usize,
    /// The units of each holder that has any.
    by_holder: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash> UnitAllocator<K> {
    /// Creates `units` units that are all free.
    pub fn new(units: usize) -> Self {
        Self { all_units: units, taken_units: 0, by_holder: HashMap::new() }
    }

    /// Returns whether `holder` may take `units` more: it then has at most as many as it leaves free. A holder without
    /// units may always take a single free one, and while no units are taken at all, a holder may take all of them.
    pub fn may_take(&self, holder: &K, units: usize) -> bool {
        let Some(left) = self.free_units().checked_sub(units) else { return false };
        let own = self.by_holder.get(holder).copied().unwrap_or(0);
        own.saturating_add(units) <= left || (own == 0 && units == 1) || self.taken_units == 0
    }

    /// Gives `holder` these units without any check, even beyond its share and beyond the free units. The caller has
    /// asked [`Self::may_take`] before, or the holder has a right to more.
    pub fn give_units(&mut self, holder: &K, units: usize) {
        if units > 0 {
            self.taken_units += units;
            *self.by_holder.entry(holder.clone()).or_default() += units;
        }
    }

    /// Takes units of `holder` back, at most as many as it has.
    pub fn return_units(&mut self, holder: &K, units: usize) {
        let Entry::Occupied(mut own) = self.by_holder.entry(holder.clone()) else { return };
        let returned = units.min(*own.get());
        self.taken_units -= returned;
        *own.get_mut() -= returned;
        if *own.get() == 0 {
            own.remove();
        }
    }

    /// Returns the number of free units.
    pub const fn free_units(&self) -> usize {
        self.all_units.saturating_sub(self.taken_units)
    }
}

/// Units that the callers of a process share by their addresses. Cheap to clone: all clones share the units.
#[derive(Debug, Clone)]
pub struct CallerUnitPool(Arc<Mutex<UnitAllocator<IpAddr>>>);

impl CallerUnitPool {
    /// Creates room for `units` units.
    pub fn new(units: usize) -> Self {
        Self(Arc::new(Mutex::new(UnitAllocator::new(units))))
    }

    /// Returns a share for this caller that has no units yet.
    pub fn empty_share(&self, caller: IpAddr) -> CallerShare {
        CallerShare { pool: self.clone(), caller: rate_limit_address(caller), units: 0 }
    }

    /// Takes units for this caller; `None` if the caller would then have more than is left free.
    pub fn try_take_units(&self, caller: IpAddr, units: usize) -> Option<CallerShare> {
        let mut share = self.empty_share(caller);
        share.try_take_units(units).then_some(share)
    }

    /// Returns the number of free units.
    pub fn free_units(&self) -> usize {
        self.lock_units().free_units()
    }

    fn lock_units(&self) -> MutexGuard<'_, UnitAllocator<IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The units of one request of a caller. The units are free again when this value is dropped.
#[derive(Debug)]
pub struct CallerShare {
    pool: CallerUnitPool,
    caller: IpAddr,
    units: usize,
}

impl CallerShare {
    /// Takes `units` more; returns `false` and takes none if the caller would then have more than is left free.
    pub fn try_take_units(&mut self, units: usize) -> bool {
        let mut shares = self.pool.lock_units();
        if !shares.may_take(&self.caller, units) {
            return false;
        }
        shares.give_units(&self.caller, units);
        self.units += units;
        true
    }
}

impl Drop for CallerShare {
    fn drop(&mut self) {
        if self.units > 0 {
            self.pool.lock_units().return_units(&self.caller, self.units);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn one_caller_leaves_room_for_others() {
        let room = CallerUnitPool::new(1200);
        let fill =
            |caller: IpAddr| std::iter::from_fn(|| room.try_take_units(caller, 10)).collect::<Vec<_>>();
        let hog = fill(caller_address(1));
        assert_eq!(hog.len(), 60, "half of the room, in however many requests");
        let (second, third) = (fill(caller_address(2)), fill(caller_address(3)));
        assert_eq!((second.len(), third.len()), (30, 15), "half of what is left, each");
        drop(hog);
        assert_eq!(fill(caller_address(2)).len(), 22, "one that waited gets its part of what came free");
        drop((second, third));
        let shares = room.lock_units();
        let kept = (shares.free_units(), shares.by_holder.len());
        assert_eq!(kept, (1200, 0), "nothing is kept of those who are gone");
    }

    #[test]
    fn what_does_not_fit_takes_no_room() {
        let room = CallerUnitPool::new(100);
        let mut share = room.empty_share(caller_address(1));
        assert!(!share.try_take_units(101) && !share.try_take_units(usize::MAX));
        assert!(share.try_take_units(0) && share.try_take_units(50) && !share.try_take_units(1));
        let (v6, same) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let other = room.try_take_units(v6, 25);
        assert!(
            other.is_some() && room.try_take_units(same, 1).is_none(),
            "a host has a whole network of IPv6"
        );
    }

    #[test]
    fn the_last_free_units_go_to_a_caller_that_has_none() {
        let room = CallerUnitPool::new(1);
        let only = room.try_take_units(caller_address(1), 1);
        assert!(only.is_some() && room.try_take_units(caller_address(2), 1).is_none());
        let room = CallerUnitPool::new(4);
        let hog: Vec<_> = std::iter::from_fn(|| room.try_take_units(caller_address(1), 1)).collect();
        let guests: Vec<_> = (2..9).map_while(|last| room.try_take_units(caller_address(last), 1)).collect();
        assert_eq!((hog.len(), guests.len(), room.free_units()), (2, 2, 0));
    }

    #[test]
    fn what_is_given_beyond_a_share_is_owed() {
        let mut shares = UnitAllocator::new(3);
        shares.give_units(&"a", 5);
        assert!(!shares.may_take(&"b", 1) && shares.free_units() == 0);
        shares.return_units(&"a", 9);
        assert_eq!((shares.free_units(), shares.by_holder.len()), (3, 0));
    }
}
