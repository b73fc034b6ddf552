//! Making the boards good from the archive: after a projection that was lost, in a Redis that came back empty or with
//! an old dump, and for a new generation of scores. The consumer does it while it serves, and so does
//! `liverank rebuild`.

use std::collections::BTreeMap;

use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::ranking_store::{Described, ProjectionCheckpoint, ProjectionOutcome};
use liverank_adapters::{Archive, Backends, StoreError};
use liverank_core::counting::VideoState;
use liverank_core::{Comment, VideoId};

use crate::projection::{ProjectionTarget, described};

/// Videos or comments of one step: large enough to be fast, small enough not to hold a store up.
const PAGE_ITEMS: usize = 1000;
/// How often a repair begins anew when a new generation begins under it; they are made by hand.
const MAX_ATTEMPTS: usize = 3;

impl ProjectionTarget<'_> {
    /// The next videos that belong there.
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

/// The result of a repair.
#[derive(Debug, Clone)]
pub struct RepairResult {
    /// What is in force, and on the boards now.
    pub archive_meta: ArchiveMeta,
    /// Videos on the boards.
    pub videos: usize,
    /// Comments published again.
    pub comments: usize,
}

/// Why a repair could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepairError {
    /// The boards are of a later generation than the archive: it was put back to an older state, from a backup
    /// perhaps. Only a generation later still gets them in step.
    #[error(
        "the boards are of generation {boards}, the archive of {archive}: it was put back to an older state, or \
         another system writes to these boards (see --prefix); `liverank rebuild redis` makes the boards anew"
    )]
    BoardsAhead {
        /// The boards' generation.
        boards: u64,
        /// The archive's.
        archive: u64,
    },
    /// A store is away, or cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fills the boards with what the archive has and notes where they stand then. Comments of the partitions that are
/// `owned` are published again from where the boards stood, since an offset on the boards says that everything before
/// it was published, too. `partitions` is how many there are. `progress` is told how many videos are done.
pub async fn repair_boards(
    backends: &Backends,
    owned: &[u32],
    partitions: u32,
    progress: &(dyn Fn(usize) + Send + Sync),
) -> Result<RepairResult, RepairError> {
    let target = ProjectionTarget { ranking_store: &*backends.ranking, declared_board: None, window: None };
    repair_target(backends, target, owned, partitions, progress).await
}

/// [`repair_boards`], of these boards. For a declared one no comments are published: its offsets say nothing of them.
pub async fn repair_target(
    backends: &Backends,
    target: ProjectionTarget<'_>,
    owned: &[u32],
    partitions: u32,
    progress: &(dyn Fn(usize) + Send + Sync),
) -> Result<RepairResult, RepairError> {
    for _ in 0..MAX_ATTEMPTS {
        // What is in force is read before all else, so that what is written for it is not older than it.
        let meta = backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?;
        let repair = BoardRepair { backends, target, meta: &meta, owned, partitions, progress };
        if let Some((videos, comments)) = repair.try_repair().await? {
            return Ok(RepairResult { archive_meta: meta, videos, comments });
        }
    }
    let reason = "a new generation began again and again while the boards were filled";
    Err(StoreError::unavailable("redis", reason).into())
}

/// The archive was never opened, or removed.
pub fn no_archive_error() -> StoreError {
    StoreError::unusable("archive", "there is none in this database: no consumer has opened it yet")
}

struct BoardRepair<'a> {
    backends: &'a Backends,
    target: ProjectionTarget<'a>,
    meta: &'a ArchiveMeta,
    owned: &'a [u32],
    partitions: u32,
    progress: &'a (dyn Fn(usize) + Send + Sync),
}

impl BoardRepair<'_> {
    /// Videos and comments done, or `None` where a later generation has begun.
    async fn try_repair(&self) -> Result<Option<(usize, usize)>, RepairError> {
        let ranking = self.target.ranking_store;
        let standing = ranking.checkpoint().await?;
        if let Some(boards) = standing.generation.filter(|boards| *boards > self.meta.generation) {
            // It may have begun just now; then the archive says so.
            let archive =
                self.backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?.generation;
            return if archive >= boards {
                Ok(None)
            } else {
                Err(RepairError::BoardsAhead { boards, archive })
            };
        }
        // Before the videos: everything up to here is in what is read below, so this is what may be noted at the end.
        let positions = self.positions_to_publish_from(&standing).await?;
        let mut comments = 0;
        for (partition, stands) in &standing.offsets {
            if self.target.declared_board.is_none() && self.owned.contains(partition) {
                comments += self.publish_comments_from(*partition, *stands).await?;
            }
        }
        // Where the store came back empty nobody knows what was published: readers find out by comparing heads.
        let Some(videos) = self.fill_boards().await? else { return Ok(None) };
        let offsets = match self.target.declared_board {
            None => noted_offsets(self.meta.generation, self.owned, &positions, &standing),
            // They say one thing alone, which is true of every partition now.
            Some(_) => positions.into_iter().collect(),
        };
        // Before the generation is in force: who shows its scores needs it.
        let half_life = self.target.half_life_ms(&self.meta.counting_rules);
        ranking.note_half_life(self.meta.generation, half_life).await?;
        if self.target.declared_board.is_none() {
            ranking.note_described().await?;
        }
        let restored = ranking.commit_snapshot(self.meta.generation, &offsets).await?;
        Ok((restored != ProjectionOutcome::Superseded).then_some((videos, comments)))
    }

    async fn positions_to_publish_from(
        &self,
        standing: &ProjectionCheckpoint,
    ) -> Result<BTreeMap<u32, u64>, StoreError> {
        let known = standing.offsets.iter().map(|(partition, _)| *partition);
        let mut all: Vec<u32> = (0..self.partitions).chain(known).chain(self.owned.iter().copied()).collect();
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

    /// Walks through the archive; `None` where a later generation has begun.
    async fn fill_boards(&self) -> Result<Option<usize>, StoreError> {
        let mut after = None;
        let mut filled = 0;
        loop {
            let page = self.target.videos_after(&*self.backends.archive, after.as_ref()).await?;
            let entries = self.target.board_entries(&page, &self.meta.counting_rules);
            // Also nothing at all begins the generation.
            if page.is_empty() && filled > 0 {
                return Ok(Some(filled));
            }
            let restored = self.target.ranking_store.write_snapshot(self.meta.generation, &entries).await?;
            if restored == ProjectionOutcome::Superseded {
                return Ok(None);
            }
            if self.target.declared_board.is_none() {
                let described: Vec<Described> = page.iter().map(described).collect();
                self.target.ranking_store.describe(self.meta.generation, &described).await?;
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

/// What may be noted of the partitions after a repair that began when the archive stood at `positions` and the boards
/// at `standing`.
///
/// An offset says two things: that what lies before it is on the boards, which a repair makes true of every partition,
/// and that its comments were published, which it makes true of owned ones only. Of the others it can note what an
/// earlier generation had noted, as far as the archive still stands there (one counted anew may stand before it).
/// Boards that were empty tell nothing of what was published, so there is nothing to keep.
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
