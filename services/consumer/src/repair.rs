//! The repair of boards from the archive: after a lost projection, in a Redis that came back empty or with an old
//! dump, and for a new generation of scores. The consumer repairs boards while it serves; `liverank rebuild` repairs
//! them, too.

use std::collections::BTreeMap;

use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::ranking_store::{DescribedVideo, ProjectionCheckpoint, ProjectionOutcome};
use liverank_adapters::{Archive, Backends, StoreError};
use liverank_core::counting::VideoState;
use liverank_core::{Comment, VideoId};

use crate::projection::{ProjectionTarget, to_described};

/// Number of videos or comments in one step: enough to be fast, few enough not to block a store.
const PAGE_ITEMS: usize = 1000;
/// Maximum number of times a repair starts again because a new generation began meanwhile; new generations are started
/// by hand, so they are rare.
const MAX_ATTEMPTS: usize = 3;

impl ProjectionTarget<'_> {
    /// Returns the next page of videos that belong on the boards, in the order of their ids.
    async fn videos_after(
        &self,
        archive: &dyn Archive,
        after: Option<&VideoId>,
    ) -> Result<Vec<VideoState>, StoreError> {
        match self.window {
            None => archive.videos_after(after, PAGE_ITEMS).await,
            Some(window) => archive.window_videos_after(window, after, PAGE_ITEMS).await,
        }
    }
}

/// The result of a repair of boards.
#[derive(Debug, Clone)]
pub struct RepairResult {
    /// The archive's meta document in force, whose generation the boards have now.
    pub archive_meta: ArchiveMeta,
    /// Number of videos written to the boards.
    pub video_count: usize,
    /// Number of comments published again.
    pub comment_count: usize,
}

/// The reason why a repair of boards failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepairError {
    /// The boards have a later generation than the archive. The archive was set back to an older state, perhaps from a
    /// backup. Only a new generation that is later still brings them in step.
    #[error(
        "the boards are of generation {boards}, the archive of {archive}: it was put back to an older state, or \
         another system writes to these boards (see --prefix); `liverank rebuild redis` makes the boards anew"
    )]
    BoardsAhead {
        /// The generation of the boards.
        boards: u64,
        /// The generation of the archive.
        archive: u64,
    },
    /// A store is away, or cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fills the built-in boards from the archive, and stores with the boards the offsets of the log before which the
/// boards contain all records. Comments of the `owned` partitions are published again from the offsets that the boards
/// had, because an offset on the boards also means that everything before it was published. `partitions` is the number
/// of the log's partitions. `progress` is called with the number of videos done.
pub async fn repair_boards(
    backends: &Backends,
    owned: &[u32],
    partitions: u32,
    progress: &(dyn Fn(usize) + Send + Sync),
) -> Result<RepairResult, RepairError> {
    let target = ProjectionTarget { ranking_store: &*backends.ranking, declared_board: None, window: None };
    repair_target(backends, target, owned, partitions, progress).await
}

/// Repairs boards as [`repair_boards`] does, for any target. For a declared board no comments are published, because
/// its offsets do not cover comments.
pub async fn repair_target(
    backends: &Backends,
    target: ProjectionTarget<'_>,
    owned_partitions: &[u32],
    partition_count: u32,
    progress: &(dyn Fn(usize) + Send + Sync),
) -> Result<RepairResult, RepairError> {
    for _ in 0..MAX_ATTEMPTS {
        // The meta document is read first, so that nothing that is written under its generation is older than it.
        let meta = backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?;
        let repair =
            BoardRepair { backends, target, meta: &meta, owned_partitions, partition_count, progress };
        if let Some((video_count, comment_count)) = repair.try_repair().await? {
            return Ok(RepairResult { archive_meta: meta, video_count, comment_count });
        }
    }
    let reason = "a new generation began again and again while the boards were filled";
    Err(StoreError::unavailable(target.ranking_store.store_name(), reason).into())
}

/// Returns the error that the archive does not exist: it was never opened, or was removed.
pub fn no_archive_error() -> StoreError {
    StoreError::unusable("archive", "there is none in this database: no consumer has opened it yet")
}

struct BoardRepair<'a> {
    backends: &'a Backends,
    target: ProjectionTarget<'a>,
    meta: &'a ArchiveMeta,
    owned_partitions: &'a [u32],
    partition_count: u32,
    progress: &'a (dyn Fn(usize) + Send + Sync),
}

impl BoardRepair<'_> {
    /// Repairs the boards once. Returns the numbers of videos and comments done; `None` if a later generation has
    /// begun.
    async fn try_repair(&self) -> Result<Option<(usize, usize)>, RepairError> {
        let ranking = self.target.ranking_store;
        let standing = ranking.checkpoint().await?;
        if let Some(boards) = standing.generation.filter(|boards| *boards > self.meta.generation) {
            // The generation may have begun just now; then the archive has it, too.
            let archive =
                self.backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?.generation;
            return if archive >= boards {
                Ok(None)
            } else {
                Err(RepairError::BoardsAhead { boards, archive })
            };
        }
        // The positions are read before the videos: everything before them is in what is read below, so they may be
        // noted at the end.
        let positions = self.positions_to_publish_from(&standing).await?;
        let mut comments = 0;
        for (partition, stands) in &standing.offsets {
            if self.target.declared_board.is_none() && self.owned_partitions.contains(partition) {
                comments += self.publish_comments_from(*partition, *stands).await?;
            }
        }
        // If the store came back empty, it is unknown which comments were published: readers find missing ones by
        // comparing heads.
        let Some(videos) = self.fill_boards().await? else { return Ok(None) };
        let offsets = match self.target.declared_board {
            None => noted_offsets(self.meta.generation, self.owned_partitions, &positions, &standing),
            // Offsets of a declared board cover scores only, and the scores of every partition are on the board now.
            Some(_) => positions.into_iter().collect(),
        };
        // The half-life is noted before the generation is in force, because whoever shows the generation's scores
        // needs it.
        let half_life = self.target.half_life_ms(&self.meta.counting_rules);
        ranking.note_half_life(self.meta.generation, half_life).await?;
        if self.target.declared_board.is_none() {
            ranking.note_metadata_complete().await?;
        }
        let restored = ranking.commit_snapshot(self.meta.generation, &offsets).await?;
        Ok((restored != ProjectionOutcome::Superseded).then_some((videos, comments)))
    }

    async fn positions_to_publish_from(
        &self,
        standing: &ProjectionCheckpoint,
    ) -> Result<BTreeMap<u32, u64>, StoreError> {
        let known = standing.offsets.iter().map(|(partition, _)| *partition);
        let mut all: Vec<u32> =
            (0..self.partition_count).chain(known).chain(self.owned_partitions.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let positions = self.backends.archive.partition_positions(&all).await?;
        Ok(all.into_iter().zip(positions.into_iter().map(|position| position.next_offset)).collect())
    }

    async fn publish_comments_from(&self, partition: u32, mut offset: u64) -> Result<usize, StoreError> {
        let mut published = 0;
        loop {
            let page = self.backends.archive.comments_from(partition, offset, PAGE_ITEMS).await?;
            let Some(last) = page.last() else { return Ok(published) };
            offset = last.offset + 1;
            published += page.len();
            let comments: Vec<Comment> = page.into_iter().map(|numbered| numbered.comment).collect();
            self.backends.comments.publish_comments(&self.meta.comment_epoch, &comments).await?;
        }
    }

    /// Writes all videos of the archive to the boards. Returns the number of videos; `None` if a later generation has
    /// begun.
    async fn fill_boards(&self) -> Result<Option<usize>, StoreError> {
        let mut after = None;
        let mut filled = 0;
        loop {
            let page = self.target.videos_after(&*self.backends.archive, after.as_ref()).await?;
            let entries = self.target.board_entries(&page, &self.meta.counting_rules);
            // An empty page is also written once, because it begins the generation.
            if page.is_empty() && filled > 0 {
                return Ok(Some(filled));
            }
            let restored = self.target.ranking_store.write_snapshot(self.meta.generation, &entries).await?;
            if restored == ProjectionOutcome::Superseded {
                return Ok(None);
            }
            if self.target.declared_board.is_none() {
                let described: Vec<DescribedVideo> = page.iter().map(to_described).collect();
                self.target.ranking_store.put_metadata(self.meta.generation, &described).await?;
            }
            filled += page.len();
            (self.progress)(filled);
            match page.into_iter().last() {
                Some(last) => after = Some(last.video_id),
                None => return Ok(Some(filled)),
            }
        }
    }
}

/// Returns the offsets to note on the boards after a repair. When the repair began, the archive had the offsets
/// `positions` and the boards had the checkpoint `standing`.
///
/// An offset noted on the boards promises two things: the boards have the scores of all records before the offset, and
/// the comments of those records were published. A repair puts the scores of every partition on the boards, but
/// publishes only the comments of owned partitions. For other partitions a repair can keep the offset that an earlier
/// generation had noted, but not beyond the archive's offset (an archive that was counted anew may be before it). Empty
/// boards tell nothing of published comments, so there is nothing to keep.
fn noted_offsets(
    generation: u64,
    owned: &[u32],
    positions: &BTreeMap<u32, u64>,
    standing: &ProjectionCheckpoint,
) -> Vec<(u32, u64)> {
    let stood: BTreeMap<u32, u64> = standing.offsets.iter().copied().collect();
    let of = |(&partition, &position): (&u32, &u64)| {
        let offset = if owned.contains(&partition) || standing.generation.is_none() {
            position
        } else if standing.generation < Some(generation) {
            position.min(*stood.get(&partition)?)
        } else {
            return None;
        };
        Some((partition, offset))
    };
    positions.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_foreign_partitions_are_kept_as_noted() {
        let positions = BTreeMap::from([(0, 10), (1, 20), (2, 30)]);
        let noted = |generation, stood: &[(u32, u64)]| {
            let standing = ProjectionCheckpoint { generation, offsets: stood.to_vec() };
            noted_offsets(5, &[0], &positions, &standing)
        };
        assert_eq!(noted(None, &[]), [(0, 10), (1, 20), (2, 30)], "an empty store");
        assert_eq!(noted(Some(5), &[(0, 9), (1, 15)]), [(0, 10)], "of the same generation");
        assert_eq!(noted(Some(4), &[(0, 9), (1, 15)]), [(0, 10), (1, 15)], "of an earlier one");
        assert_eq!(noted(Some(4), &[(1, 50)]), [(0, 10), (1, 20)], "of an archive that was counted anew");
    }
}
