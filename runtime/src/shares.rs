//! Places shared by many hosts: first come, first served while there is room, and a fair share for each when there is not.
//!
//! Pure: who has which place, and who has to give one up for whom.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Places by holder; each place carries `T`, by which its holder can be told to leave.
#[derive(Debug)]
pub struct FairShares<K, T> {
    places: usize,
    /// Places of one holder.
    max_per_holder: usize,
    places_taken: usize,
    next_number: u64,
    holders: HashMap<K, HashMap<u64, T>>,
}

/// A place that was given.
#[derive(Debug)]
pub struct GivenPlace<T> {
    /// Its number.
    pub place_number: u64,
    /// Whoever has to leave for it: of those who have most.
    pub displaced: Option<T>,
}

impl<K: Clone + Eq + Hash, T> FairShares<K, T> {
    /// `places` in all, at most `most` for one holder.
    pub fn new(places: usize, most: usize) -> Self {
        Self { places, max_per_holder: most, places_taken: 0, next_number: 0, holders: HashMap::new() }
    }

    /// Gives `holder` a place. Where none is free, one is taken from whoever has most, if that is more than the holder would
    /// have then. `None` where the holder has its share.
    pub fn give_place(&mut self, holder: K, tell: T) -> Option<GivenPlace<T>> {
        let own = self.holders.get(&holder).map_or(0, HashMap::len);
        if own >= self.max_per_holder {
            return None;
        }
        if self.places_taken < self.places {
            return Some(GivenPlace { place_number: self.insert(holder, tell), displaced: None });
        }
        self.exchange(holder, tell)
    }

    /// Gives `holder` the place of whoever has most, as [`Self::give_place`] does where none is free. For those whose places run out by
    /// something else than their number.
    pub fn exchange(&mut self, holder: K, tell: T) -> Option<GivenPlace<T>> {
        let own = self.holders.get(&holder).map_or(0, HashMap::len);
        let instead_of = Some(self.take_from_largest(own + 1)?);
        Some(GivenPlace { place_number: self.insert(holder, tell), displaced: instead_of })
    }

    fn insert(&mut self, holder: K, tell: T) -> u64 {
        self.next_number += 1;
        self.holders.entry(holder).or_default().insert(self.next_number, tell);
        self.places_taken += 1;
        self.next_number
    }

    /// Takes a place from the holder of most, where these are more than `than`.
    fn take_from_largest(&mut self, than: usize) -> Option<T> {
        let (holder, places) = self.holders.iter().max_by_key(|(_, places)| places.len())?;
        if places.len() <= than {
            return None;
        }
        let (holder, number) = (holder.clone(), *places.keys().next()?);
        self.free_place(&holder, number)
    }

    /// The place is free again. Of no effect where it was taken away.
    pub fn free_place(&mut self, holder: &K, number: u64) -> Option<T> {
        let Entry::Occupied(mut places) = self.holders.entry(holder.clone()) else { return None };
        let tell = places.get_mut().remove(&number)?;
        self.places_taken -= 1;
        if places.get().is_empty() {
            places.remove();
        }
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
            assert!(given.displaced.is_some_and(|told| told < 10));
            left += 1;
        }
        assert_eq!(left, 5, "until both have as many");
        for number in all {
            shares.free_place(&"hog", number);
        }
        assert_eq!((shares.places_taken, shares.holders.len()), (5, 1));
        assert!((0..5).all(|n| shares.give_place("third", n).is_some_and(|given| given.displaced.is_none())));
    }

    #[test]
    fn no_holder_has_more_places_than_allowed() {
        let mut shares = FairShares::new(10, 3);
        assert_eq!((0..10).filter(|n| shares.give_place("a", *n).is_some()).count(), 3);
        assert_eq!((0..10).filter(|n| shares.give_place("b", *n).is_some()).count(), 3);
    }
}
