//! A limited number of places that many holders share: while places are free, everybody gets one; when all are taken,
//! each holder may have a fair share.
//!
//! Pure: only decides which holder has which place, and which holder has to give one up.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// The places of each holder. Each place carries a `T`, by which its holder can be told to leave.
#[derive(Debug)]
pub struct FairShares<K, T> {
    place_count: usize,
    /// The largest number of places of one holder.
    max_per_holder: usize,
    places_taken: usize,
    next_place_number: u64,
    holders: HashMap<K, HashMap<u64, T>>,
    /// The number of holders by their number of places: a full server refuses many without a look at each holder.
    holders_by_places: BTreeMap<usize, usize>,
}

/// The place that a holder got from `FairShares`.
#[derive(Debug)]
pub struct HeldPlace<T> {
    /// The number of the place, by which it is freed.
    pub place_number: u64,
    /// The `T` of the place that was taken away in exchange, from a holder with the most places.
    pub displaced_value: Option<T>,
}

impl<K: Clone + Eq + Hash, T> FairShares<K, T> {
    /// Creates `place_count` places, of which one holder may have at most `most`.
    pub fn new(place_count: usize, most: usize) -> Self {
        Self {
            place_count,
            max_per_holder: most,
            places_taken: 0,
            next_place_number: 0,
            holders: HashMap::new(),
            holders_by_places: BTreeMap::new(),
        }
    }

    /// Gives `holder` a place. If none is free, a place is taken from a holder with the most places, but only if that
    /// is more than `holder` would have then. Returns `None` if `holder` already has its share.
    pub fn give_place(&mut self, holder: K, tell: T) -> Option<HeldPlace<T>> {
        let own = self.holders.get(&holder).map_or(0, HashMap::len);
        if own >= self.max_per_holder {
            return None;
        }
        if self.places_taken < self.place_count {
            return Some(HeldPlace { place_number: self.insert_place(holder, tell), displaced_value: None });
        }
        self.displace_largest_holder(holder, tell)
    }

    /// Takes a place from a holder with the most places and gives it to `holder`, as [`Self::give_place`] does when
    /// none is free. Callers use the method for places that are limited by something else than their number.
    pub fn displace_largest_holder(&mut self, holder: K, tell: T) -> Option<HeldPlace<T>> {
        let own = self.holders.get(&holder).map_or(0, HashMap::len);
        let instead_of = Some(self.take_place_from_largest_holder(own + 1)?);
        Some(HeldPlace { place_number: self.insert_place(holder, tell), displaced_value: instead_of })
    }

    fn insert_place(&mut self, holder: K, tell: T) -> u64 {
        self.next_place_number += 1;
        let places = self.holders.entry(holder).or_default();
        places.insert(self.next_place_number, tell);
        let count = places.len();
        self.places_taken += 1;
        self.update_holder_counts(count - 1, count);
        self.next_place_number
    }

    /// Notes that a holder has `after` places in place of `before`.
    fn update_holder_counts(&mut self, before: usize, after: usize) {
        if let Some(holders) = self.holders_by_places.get_mut(&before) {
            *holders -= 1;
            if *holders == 0 {
                self.holders_by_places.remove(&before);
            }
        }
        if after > 0 {
            *self.holders_by_places.entry(after).or_default() += 1;
        }
    }

    /// Takes a place from the holder with the most places if it has more than `than`. Returns the `T` of the place.
    pub fn take_place_from_largest_holder(&mut self, than: usize) -> Option<T> {
        let most = *self.holders_by_places.last_key_value()?.0;
        if most <= than {
            return None;
        }
        let (holder, places) = self.holders.iter().find(|(_, places)| places.len() == most)?;
        let (holder, number) = (holder.clone(), *places.keys().next()?);
        self.free_place(&holder, number)
    }

    /// Frees a place and returns its `T`. Has no effect if the place was already taken away.
    pub fn free_place(&mut self, holder: &K, number: u64) -> Option<T> {
        let Entry::Occupied(mut places) = self.holders.entry(holder.clone()) else { return None };
        let tell = places.get_mut().remove(&number)?;
        self.places_taken -= 1;
        let count = places.get().len();
        if count == 0 {
            places.remove();
        }
        self.update_holder_counts(count + 1, count);
        Some(tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_may_have_all_places_until_another_comes() {
        let mut shares = FairShares::new(10, 100);
        let all: Vec<u64> = (0..10).map(|n| shares.give_place("hog", n).unwrap().place_number).collect();
        assert!(shares.give_place("hog", 10).is_none(), "it would only take from itself");
        let mut left = 0;
        while let Some(given) = shares.give_place("guest", 99) {
            assert!(given.displaced_value.is_some_and(|told| told < 10));
            left += 1;
        }
        assert_eq!(left, 5, "until both have as many");
        for number in all {
            shares.free_place(&"hog", number);
        }
        assert_eq!((shares.places_taken, shares.holders.len()), (5, 1));
        assert!(
            (0..5)
                .all(|n| shares.give_place("third", n).is_some_and(|given| given.displaced_value.is_none()))
        );
        assert_eq!(shares.holders_by_places, BTreeMap::from([(5, 2)]));
    }

    #[test]
    fn no_holder_has_more_places_than_allowed() {
        let mut shares = FairShares::new(10, 3);
        assert_eq!((0..10).filter(|n| shares.give_place("a", *n).is_some()).count(), 3);
        assert_eq!((0..10).filter(|n| shares.give_place("b", *n).is_some()).count(), 3);
    }
}
