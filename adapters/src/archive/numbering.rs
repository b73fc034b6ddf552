//! Compares two archives that counted the same log: do they number its comments alike?
//!
//! A comment is recognised by its position in the log. If the second archive has each comment of the first
//! one at the same position, with the same identity, sequence number and video, then a reader's position
//! means the same in both archives.

use std::collections::BTreeMap;

use liverank_core::counting::NumberedComment;

use super::{Archive, Progress};
use crate::StoreError;

/// The number of comments that are read from each archive and compared in one step.
const COMMENTS_A_PAGE: usize = 2_000;

/// The state of a comparison: the offsets up to which comments are compared, and the result so far.
#[derive(Debug, Default)]
pub(super) struct NumberingComparison {
    /// The next offset to compare, by partition.
    next_offsets: BTreeMap<u32, u64>,
    compared_comment_count: u64,
    found_difference: bool,
}

impl NumberingComparison {
    /// Returns true if the comparison has found a difference between the archives.
    pub(super) const fn found_difference(&self) -> bool {
        self.found_difference
    }

    /// Continues the comparison up to these offsets (exclusive, by partition), up to which both archives must
    /// have counted.
    pub(super) async fn compare_up_to(
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
                self.compared_comment_count += ours.len() as u64;
                progress(self.compared_comment_count, of.max(self.compared_comment_count));
                from = last + 1;
            }
            self.next_offsets.insert(partition, end.max(from));
        }
        Ok(())
    }
}

/// Returns true if `theirs` starts with exactly the comments in `ours`, in the same order.
fn starts_alike(ours: &[NumberedComment], theirs: &[NumberedComment]) -> bool {
    let key = |numbered: &NumberedComment| {
        let comment = &numbered.comment;
        (numbered.offset, comment.seq, comment.id.clone(), comment.video_id.clone())
    };
    ours.len() <= theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| key(ours) == key(theirs))
}
