//! An index of one reader's videos by size, from which videos can be removed.

/// Videos in ascending order of (viewers, position). Finding the nearest video at or above, or at or below, a size
/// takes a binary search. Removed videos are skipped by joining their slots to the neighbours (union-find with path
/// halving), so that a reader that gives away most of its videos does not search the gaps again and again.
pub(super) struct SizeIndex {
    videos: Vec<(u64, u32)>,
    /// For each slot, the first slot at or after it that is not removed; one past the end if there is none.
    next_present_right: Vec<u32>,
    /// For each slot, one past the last slot before it that is not removed; 0 if there is none.
    next_present_left: Vec<u32>,
}

/// A video in a size index, with its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexedVideo {
    pub index_slot: usize,
    pub viewer_count: u64,
    pub video: u32,
}

impl SizeIndex {
    pub fn new(mut videos: Vec<(u64, u32)>) -> Self {
        videos.sort_unstable();
        let slots = 0..=videos.len() as u32;
        Self { next_present_right: slots.clone().collect(), next_present_left: slots.collect(), videos }
    }

    /// Returns the smallest video with at least `from` and at most `to` viewers.
    pub fn smallest_between(&mut self, from: u64, to: u64) -> Option<IndexedVideo> {
        let slot = self.videos.partition_point(|video| video.0 < from);
        let slot = follow_links(&mut self.next_present_right, slot);
        let &(viewer_count, video) = self.videos.get(slot)?;
        (viewer_count <= to).then_some(IndexedVideo { index_slot: slot, viewer_count, video })
    }

    /// Returns the largest video with at most `to` viewers and at least `from`.
    pub fn largest_between(&mut self, from: u64, to: u64) -> Option<IndexedVideo> {
        let end = self.videos.partition_point(|video| video.0 <= to);
        let slot = follow_links(&mut self.next_present_left, end).checked_sub(1)?;
        let (viewer_count, video) = self.videos[slot];
        (viewer_count >= from).then_some(IndexedVideo { index_slot: slot, viewer_count, video })
    }

    /// Returns all videos that are not removed, the largest first.
    pub fn largest_first(&self) -> impl Iterator<Item = IndexedVideo> + '_ {
        let left = self
            .videos
            .iter()
            .enumerate()
            .rev()
            .filter(|(slot, _)| self.next_present_right[*slot] as usize == *slot);
        left.map(|(slot, &(viewer_count, video))| IndexedVideo { index_slot: slot, viewer_count, video })
    }

    /// Removes this video from the index, if the index has it.
    pub fn remove(&mut self, viewers: u64, video: u32) {
        if let Ok(slot) = self.videos.binary_search(&(viewers, video)) {
            self.remove_slot(slot);
        }
    }

    /// Removes the video in a slot from the index.
    pub fn remove_slot(&mut self, slot: usize) {
        self.next_present_right[slot] = slot as u32 + 1;
        self.next_present_left[slot + 1] = slot as u32;
    }
}

/// Follows links to the slot that points at itself, and shortens the path on the way.
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
                prop_assert_eq!(found.map(|item| (item.viewer_count, item.video)), expected);
                if let (Some(item), Some(gone)) = (found, expected) {
                    shelf.remove_slot(item.index_slot);
                    plain.retain(|video| *video != gone);
                }
                prop_assert!(shelf.largest_first().map(|item| (item.viewer_count, item.video)).eq(plain.iter().rev().copied()));
            }
        }
    }
}
