//! A limited number of places that many holders share: while places are free, everybody gets one; when all are taken,
//! each holder may have a fair share.
//!
//! Pure: only decides which holder has which place, and which holder has to give one up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// The places of each holder. Each place carries a `T`, by which its holder can be told to leave.
#[derive(Debug)]
pub struct FairShares<K, T> {
    places: usize,
    /// The largest number of places of one holder.
    max_per_holder: usize,
    places_taken: usize,
    next_number: u64,
    holders: HashMap<K, HashMap<u64, T>>,
}

/// The place that a holder got from `FairShares`.
#[derive(Debug)]
pub struct GivenPlace<T> {
    /// The number of the place, by which it is freed.
    pub place_number: u64,
    /// The `T` of the place that was taken away in exchange, from a holder with the most places.
    pub displaced: Option<T>,
}

impl<K: Clone + Eq + Hash, T> FairShares<K, T> {
    /// Creates `places` places, of which one holder may have at most `most`.
    pub fn new(places: usize, most: usize) -> Self {
        Self { places, max_per_holder: most, places_taken: 0, next_number: 0, holders: HashMap::new() }
    }

    /// Gives `holder` a place. If none is free, a place is taken from a holder with the most places, but only if that
    /// is more than `holder` would have then. Returns `None` if `holder` already has its share.
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

    /// Takes a place from a holder with the most places and gives it to `holder`, as [`Self::give_place`] does when
    /// none is free. For places that are limited by something else than their number.
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

    /// Takes a place from the holder with the most places if it has more than `than`. Returns the `T` of the place.
    fn take_from_largest(&mut self, than: usize) -> Option<T> {
        let (holder, places) = self.holders.iter().max_by_key(|(_, places)| places.len())?;
        if places.len() <= than {
            return None;
        }
        let (holder, number) = (holder.clone(), *places.keys().next()?);
        self.free_place(&holder, number)
    }

    /// Frees a place and returns its `T`. Has no effect if the place was already taken away.
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
