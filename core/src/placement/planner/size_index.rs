//! The videos of one reader by size, with what was taken off it left out.

/// Videos in ascending order of (viewers, position). Finding the nearest one at or above, or at or below, a size takes
/// a binary search; what was taken is skipped by joining it to its neighbours (union-find with path halving), so that a
/// reader that gives away most of what it has does not search its gaps again and again.
pub(super) struct SizeIndex {
    videos: Vec<(u64, u32)>,
    /// The first slot at or after this one that is not taken; one past the end for none.
    next_free_right: Vec<u32>,
    /// One past the last slot before this one that is not taken; 0 for none.
    next_free_left: Vec<u32>,
}

/// A video in a size index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub index_slot: usize,
    pub viewers: u64,
    pub video: u32,
}

impl SizeIndex {
    pub fn new(mut videos: Vec<(u64, u32)>) -> Self {
        videos.sort_unstable();
        let slots = 0..=videos.len() as u32;
        Self { next_free_right: slots.clone().collect(), next_free_left: slots.collect(), videos }
    }

    /// The smallest video with at least `from` and at most `to` viewers.
    pub fn smallest_between(&mut self, from: u64, to: u64) -> Option<Item> {
        let slot = self.videos.partition_point(|video| video.0 < from);
        let slot = follow_links(&mut self.next_free_right, slot);
        let &(viewers, video) = self.videos.get(slot)?;
        (viewers <= to).then_some(Item { index_slot: slot, viewers, video })
    }

    /// The largest video with at most `to` viewers and at least `from`.
    pub fn largest_between(&mut self, from: u64, to: u64) -> Option<Item> {
        let end = self.videos.partition_point(|video| video.0 <= to);
        let slot = follow_links(&mut self.next_free_left, end).checked_sub(1)?;
        let (viewers, video) = self.videos[slot];
        (viewers >= from).then_some(Item { index_slot: slot, viewers, video })
    }

    /// All that are left, the largest first.
    pub fn largest_first(&self) -> impl Iterator<Item = Item> + '_ {
        let left = self
            .videos
            .iter()
            .enumerate()
            .rev()
            .filter(|(slot, _)| self.next_free_right[*slot] as usize == *slot);
        left.map(|(slot, &(viewers, video))| Item { index_slot: slot, viewers, video })
    }

    /// Takes this video out of the index, where it is in it.
    pub fn remove(&mut self, viewers: u64, video: u32) {
        if let Ok(slot) = self.videos.binary_search(&(viewers, video)) {
            self.take_video(slot);
        }
    }

    /// Takes the video in a slot out of the index.
    pub fn take_video(&mut self, slot: usize) {
        self.next_free_right[slot] = slot as u32 + 1;
        self.next_free_left[slot + 1] = slot as u32;
    }
}

/// Follows links to the slot that points at itself, shortening the way.
fn follow_links(links: &mut [u32], mut at: usize) -> usize {
    while links[at] as usize != at {
        links[at] = links[links[at] as usize];
        at = links[at] as usize;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_size_index_agrees_with_a_linear_search(
            sizes in prop::collection::vec(0_u64..50, 0..40),
            asks in prop::collection::vec((0_u64..60, 0_u64..60, any::<bool>()), 0..80),
        ) {
            let videos: Vec<(u64, u32)> = sizes.iter().enumerate().map(|(at, &size)| (size, at as u32)).collect();
            let mut plain = videos.clone();
            plain.sort_unstable();
            let mut shelf = SizeIndex::new(videos);
            for (from, to, small) in asks {
                let fits = |video: &&(u64, u32)| video.0 >= from && video.0 <= to;
                let (expected, found) = if small {
                    (plain.iter().find(fits).copied(), shelf.smallest_between(from, to))
                } else {
                    (plain.iter().rev().find(fits).copied(), shelf.largest_between(from, to))
                };
                prop_assert_eq!(found.map(|item| (item.viewers, item.video)), expected);
                if let (Some(item), Some(gone)) = (found, expected) {
                    shelf.take_video(item.index_slot);
                    plain.retain(|video| *video != gone);
                }
                prop_assert!(shelf.largest_first().map(|item| (item.viewers, item.video)).eq(plain.iter().rev().copied()));
            }
        }
    }
}
