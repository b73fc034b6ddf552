//! Whether two counts of one log number its comments alike.
//!
//! A comment is known by its place in the log. Where each one that the first archive holds is in the second at the same
//! place, with the same identity, number and video, a reader's position means the same in both.

use std::collections::BTreeMap;

use liverank_core::counting::NumberedComment;

use super::{Archive, Progress};
use crate::StoreError;

/// Comments compared at once.
const COMMENTS_A_PAGE: usize = 2_000;

/// How far the comparison is.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The next offset to compare, by partition.
    next_offsets: BTreeMap<u32, u64>,
    compared_comments: u64,
    found_difference: bool,
}

impl Checked {
    /// Whether a difference was found.
    pub(super) const fn differ(&self) -> bool {
        self.found_difference
    }

    /// Compares further, up to these offsets (exclusive), to which both archives must have counted.
    pub(super) async fn go_on(
        &mut self,
        live: &dyn Archive,
        next: &dyn Archive,
        to: &[(u32, u64)],
        progress: Progress<'_>,
    ) -> Result<(), StoreError> {
        let of = live.comment_count().await?;
        for &(partition, end) in to {
            let mut from = self.next_offsets.get(&partition).copied().unwrap_or(0);
            while !self.found_difference && from < end {
                let ours = live.comments_from(partition, from, COMMENTS_A_PAGE).await?;
                let ours: Vec<_> = ours.into_iter().filter(|comment| comment.offset < end).collect();
                let Some(last) = ours.last().map(|comment| comment.offset) else { break };
                let theirs = next.comments_from(partition, from, COMMENTS_A_PAGE).await?;
                self.found_difference = !starts_alike(&ours, &theirs);
                self.compared_comments += ours.len() as u64;
                progress(self.compared_comments, of.max(self.compared_comments));
                from = last + 1;
            }
            self.next_offsets.insert(partition, end.max(from));
        }
        Ok(())
    }
}

/// Whether `theirs` starts with the very comments that `ours` are, in the same order.
fn starts_alike(ours: &[NumberedComment], theirs: &[NumberedComment]) -> bool {
    let key = |numbered: &NumberedComment| {
        let comment = &numbered.comment;
        (numbered.offset, comment.seq, comment.id.clone(), comment.video_id.clone())
    };
    ours.len() <= theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| key(ours) == key(theirs))
}
