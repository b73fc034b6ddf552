//! Compares the boards with the archive while both change.
//!
//! Within a generation, scores only grow unless something was taken back, and revisions always grow. So the boards'
//! state of a video is right if it lies between the archive's states before and after the boards were read, once the
//! boards have reached all that was committed before. A video whose state on the boards does not lie between these is
//! checked again, and is reported only if it is wrong twice in a row.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use liverank_adapters::archive::{Archive, ArchivePosition};
use liverank_adapters::ranking_store::{BoardEntry, ProjectionCheckpoint};
use liverank_adapters::{Backends, RankingStore, StoreError};
use liverank_core::boards::{BoardWindows, DeclaredBoard};
use liverank_core::counting::{CountingRules, VideoState};
use liverank_core::idle::is_idle;
use liverank_core::windows::{Window, WindowKey};
use liverank_core::{VideoId, canary};
use tokio::time::Instant;

use crate::compare::{BoardVideoVerdict, StoreDifference, compare_with_boards};
use crate::progress::CommandProgress;
use crate::report::BoardsReport;

/// The time within which the boards must reach an offset: enough for a repair of a large archive.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(1);
/// The time between two checks of the boards' offsets.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The maximum number of rounds in which a video is compared; it is compared again if it changed during a round, or
/// differed after one.
const MAX_ROUNDS: usize = 10;
/// The time between two rounds of the comparison.
const PAUSE_BETWEEN_ROUNDS: Duration = Duration::from_millis(300);
/// The maximum number of reads at the same time, each of one video.
const MAX_READS_AT_ONCE: usize = 16;
/// The maximum number of videos that are read one by one; if more must be compared again, all videos of the archive are
/// read in pages.
const MAX_READ_ONE_BY_ONE: usize = 2000;
/// The number of videos that one read of the archive returns.
const PAGE_VIDEOS: usize = 1000;
/// The number of times that the comparison starts again because a new generation began meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// The states of videos in an archive, by video.
pub type StatesByVideo = HashMap<VideoId, VideoState>;

/// The boards that are compared with the archive: the built-in ones, a declared one, or one window of a declared one.
pub struct ComparedBoards<'a> {
    archive: &'a dyn Archive,
    ranking: Arc<dyn RankingStore>,
    board: Option<&'a DeclaredBoard>,
    /// The window of the board and the window's name; `None` if the board has no windows.
    window: Option<(WindowKey, String)>,
}

impl<'a> ComparedBoards<'a> {
    /// Returns the built-in boards, `global` and `trending`.
    pub fn built_in(backends: &'a Backends) -> Self {
        Self {
            archive: &*backends.archive,
            ranking: Arc::clone(&backends.ranking),
            board: None,
            window: None,
        }
    }

    /// Returns a declared board; if the board has windows, the running window and those that are kept.
    pub fn declared(backends: &'a Backends, board: &'a DeclaredBoard) -> Vec<Self> {
        let of = |key: &str, window| {
            let ranking = backends.ranking.declared_board(key);
            Self { archive: &*backends.archive, ranking, board: Some(board), window }
        };
        let Some(BoardWindows { kind, kept_count }) = board.windows() else {
            return vec![of(&board.store_key(), None)];
        };
        let windows = kind.running_and_kept_windows((backends.clock)(), *kept_count).into_iter();
        let key = |window: &Window| WindowKey { kind: kind.clone(), start: window.start };
        windows
            .map(|window| {
                of(&board.store_key_of_window(&window), Some((key(&window), kind.window_name(&window))))
            })
            .collect()
    }

    /// Returns the name of the board, and of its window, in a report.
    pub fn name(&self) -> String {
        let board = self.board.map_or("", DeclaredBoard::name);
        match &self.window {
            None => board.to_owned(),
            Some((_, window)) => format!("{board} {window}"),
        }
    }
}

/// Compares every video of the archive and of the boards. `cut` is the archive's generation and its videos when its
/// offsets were `positions`; with `None`, or if another generation has begun since, the archive is read now.
pub async fn compare_boards(
    compared_boards: &ComparedBoards<'_>,
    cut: Option<(u64, StatesByVideo)>,
    positions: &BTreeMap<u32, ArchivePosition>,
    progress: &CommandProgress,
) -> anyhow::Result<(BoardsReport, Vec<StoreDifference>)> {
    let mut start = cut.map(|(generation, cut)| (generation, cut, positions.clone()));
    for _ in 0..MAX_ATTEMPTS {
        let meta = compared_boards.archive.archive_meta().await.context("reading the archive")?;
        let meta = meta.context("the archive was removed")?;
        let board_rules = compared_boards
            .board
            .map_or(meta.counting_rules, |board| board.rules_of_board(&meta.counting_rules));
        let comparison = BoardsComparison {
            compared_boards,
            archive_rules: meta.counting_rules,
            board_rules,
            generation: meta.generation,
        };
        let (states, positions) = match start.take().filter(|(read_in, ..)| meta.generation == *read_in) {
            Some((_, states, positions)) => (states, positions),
            // The cut belongs to an earlier generation, so the archive is read again.
            None => (comparison.read_all_states().await?, comparison.read_positions(positions).await?),
        };
        match comparison.run_comparison(states, positions, progress).await? {
            ComparisonOutcome::Done(report, mut differences) => {
                for difference in &mut differences {
                    difference.board = compared_boards.board.map(|_| compared_boards.name());
                }
                return Ok((report, differences));
            }
            ComparisonOutcome::NotCaughtUp(problem) => {
                return Ok((BoardsReport { problem: Some(problem), ..BoardsReport::default() }, Vec::new()));
            }
            ComparisonOutcome::GenerationChanged => {}
        }
    }
    let problem = "not compared: a new generation began again and again meanwhile".to_owned();
    Ok((BoardsReport { problem: Some(problem), ..BoardsReport::default() }, Vec::new()))
}

enum ComparisonOutcome {
    Done(BoardsReport, Vec<StoreDifference>),
    /// The boards did not reach the archive's offsets in time; with a description.
    NotCaughtUp(String),
    /// Another generation has begun, so the comparison must start again.
    GenerationChanged,
}

struct BoardsComparison<'a> {
    compared_boards: &'a ComparedBoards<'a>,
    /// The rules by which the archive counts.
    archive_rules: CountingRules,
    /// The rules by which these boards are scored.
    board_rules: CountingRules,
    generation: u64,
}

impl BoardsComparison<'_> {
    async fn run_comparison(
        &self,
        mut before: StatesByVideo,
        mut positions: BTreeMap<u32, ArchivePosition>,
        progress: &CommandProgress,
    ) -> anyhow::Result<ComparisonOutcome> {
        let mut report = BoardsReport::default();
        // All videos in the first round, then those that were not right: `None` for one that changed during the round,
        // else its differences.
        let mut open: Option<HashMap<VideoId, Option<Vec<StoreDifference>>>> = None;
        let mut wrong = Vec::new();
        for round in 0..MAX_ROUNDS {
            progress.show_progress("comparing the boards", round as u64, MAX_ROUNDS as u64);
            match self.wait_until_caught_up(&positions).await? {
                CatchUpOutcome::CaughtUp => {}
                CatchUpOutcome::GenerationChanged => return Ok(ComparisonOutcome::GenerationChanged),
                CatchUpOutcome::TimedOut(problem) => return Ok(ComparisonOutcome::NotCaughtUp(problem)),
            }
            let boards = self.read_boards().await?;
            let ids: Vec<VideoId> = match &open {
                Some(open) => open.keys().cloned().collect(),
                None => before
                    .keys()
                    .chain(boards.keys().filter(|id| !before.contains_key(*id)))
                    .cloned()
                    .collect(),
            };
            let videos = ids.iter().filter(|id| !canary::is_canary(id)).count();
            report.videos = report.videos.max(videos);
            // Read after the boards: a video that was taken off meanwhile is below it.
            let line = self.compared_boards.ranking.idle_threshold().await.context("reading the boards")?;
            // A video that is right by its earlier state has not changed, and needs no second read.
            let stood = |id: &VideoId| {
                let state = before.get(id);
                let may_be_absent = state.is_some_and(|state| is_idle(Some(state.trending_log2), line));
                may_be_absent && !boards.contains_key(id)
                    || compare_with_boards(state, boards.get(id), state, &self.board_rules)
                        == BoardVideoVerdict::Right
            };
            let doubtful: Vec<VideoId> = ids.into_iter().filter(|id| !stood(id)).collect();
            let after = self.read_states(&doubtful).await?;
            let mut next = HashMap::new();
            for id in doubtful {
                match compare_with_boards(before.get(&id), boards.get(&id), after.get(&id), &self.board_rules)
                {
                    BoardVideoVerdict::Right => {}
                    BoardVideoVerdict::Moving => {
                        next.insert(id, None);
                    }
                    BoardVideoVerdict::Wrong(differences) => {
                        let again = open.as_ref().and_then(|open| open.get(&id)).is_some_and(Option::is_some);
                        if again {
                            wrong.extend(differences);
                        } else {
                            next.insert(id, Some(differences));
                        }
                    }
                }
            }
            if next.is_empty() {
                return Ok(settle_open_videos(report, wrong, HashMap::new()));
            }
            tokio::time::sleep(PAUSE_BETWEEN_ROUNDS).await;
            let ids: Vec<VideoId> = next.keys().cloned().collect();
            open = Some(next);
            before = self.read_states(&ids).await?;
            positions = self.read_positions(&positions).await?;
        }
        Ok(settle_open_videos(report, wrong, open.unwrap_or_default()))
    }

    /// Waits until the boards have everything that was committed up to `positions`.
    async fn wait_until_caught_up(
        &self,
        positions: &BTreeMap<u32, ArchivePosition>,
    ) -> anyhow::Result<CatchUpOutcome> {
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        loop {
            let standing = self.compared_boards.ranking.checkpoint().await.context("reading the boards")?;
            let lacking = lagging_partitions(&standing, positions);
            if standing.generation == Some(self.generation) && lacking.is_empty() {
                return Ok(CatchUpOutcome::CaughtUp);
            }
            let meta = self.compared_boards.archive.archive_meta().await.context("reading the archive")?;
            if meta.is_some_and(|meta| meta.generation != self.generation) {
                return Ok(CatchUpOutcome::GenerationChanged);
            }
            // An empty archive needs no boards.
            if standing.generation.is_none() && positions.values().all(|position| position.next_offset == 0) {
                return Ok(CatchUpOutcome::CaughtUp);
            }
            if Instant::now() > deadline {
                return Ok(CatchUpOutcome::TimedOut(self.describe_lateness(&standing, &lacking)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn describe_lateness(&self, standing: &ProjectionCheckpoint, lacking: &[(u32, u64, u64)]) -> String {
        let within = CATCH_UP_TIMEOUT.as_secs();
        let mended = "Does a consumer run? `liverank rebuild redis` fills them";
        match (standing.generation, lacking.first()) {
            (None, _) => format!("they are empty, and were not filled within {within} s. {mended}"),
            (Some(generation), _) if generation != self.generation => format!(
                "they are of generation {generation}, the archive is of {}, and this did not change within {within} \
                 s. {mended}",
                self.generation
            ),
            (_, Some((partition, stands, wanted))) => format!(
                "they stand at offset {stands} of partition {partition}, the archive at {wanted} or later, and they \
                 did not get there within {within} s. {mended}"
            ),
            (_, None) => "they stood still".to_owned(),
        }
    }

    async fn read_boards(&self) -> anyhow::Result<HashMap<VideoId, BoardEntry>> {
        let snapshot = self.compared_boards.ranking.boards_snapshot().await.context("reading the boards")?;
        Ok(snapshot.entries.into_iter().map(|entry| (entry.video_id.clone(), entry)).collect())
    }

    /// Returns an archived video with the state that it should have on these boards.
    fn state_on_these_boards(&self, state: VideoState) -> (VideoId, VideoState) {
        let state = match self.compared_boards.board {
            Some(board) => board.state_on_board(state, &self.archive_rules),
            None => state,
        };
        (state.video_id.clone(), state)
    }

    async fn read_positions(
        &self,
        known: &BTreeMap<u32, ArchivePosition>,
    ) -> anyhow::Result<BTreeMap<u32, ArchivePosition>> {
        let partitions: Vec<u32> = known.keys().copied().collect();
        let positions = self
            .compared_boards
            .archive
            .partition_positions(&partitions)
            .await
            .context("reading the archive")?;
        Ok(partitions.into_iter().zip(positions).collect())
    }

    async fn read_states(&self, ids: &[VideoId]) -> anyhow::Result<StatesByVideo> {
        if ids.len() > MAX_READ_ONE_BY_ONE {
            return self.read_all_states().await;
        }
        if let Some((window, _)) = &self.compared_boards.window {
            let states = self.compared_boards.archive.window_videos(window, ids).await;
            let states = states.context("reading the archive")?;
            return Ok(states.into_iter().map(|state| self.state_on_these_boards(state)).collect());
        }
        let read = stream::iter(ids.iter().map(|id| self.compared_boards.archive.video(id)));
        let states: Vec<Option<VideoState>> =
            read.buffer_unordered(MAX_READS_AT_ONCE).try_collect().await.context("reading the archive")?;
        Ok(states.into_iter().flatten().map(|state| self.state_on_these_boards(state)).collect())
    }

    async fn read_all_states(&self) -> anyhow::Result<StatesByVideo> {
        let mut states = StatesByVideo::new();
        let mut after: Option<VideoId> = None;
        loop {
            let (archive, from) = (self.compared_boards.archive, after.as_ref());
            let page: Result<Vec<VideoState>, StoreError> = match &self.compared_boards.window {
                None => archive.videos_after(from, PAGE_VIDEOS).await,
                Some((window, _)) => archive.window_videos_after(window, from, PAGE_VIDEOS).await,
            };
            let page = page.context("reading the archive")?;
            let Some(last) = page.last() else { return Ok(states) };
            after = Some(last.video_id.clone());
            states.extend(page.into_iter().map(|state| self.state_on_these_boards(state)));
        }
    }
}

/// Ends the comparison for the videos that are still open after the last round: those that differed in it are wrong,
/// and those that changed during it (`None`) are counted as moving.
fn settle_open_videos(
    mut report: BoardsReport,
    mut wrong: Vec<StoreDifference>,
    open: HashMap<VideoId, Option<Vec<StoreDifference>>>,
) -> ComparisonOutcome {
    for (_, last) in open {
        match last {
            None => report.moving += 1,
            Some(differences) => wrong.extend(differences),
        }
    }
    ComparisonOutcome::Done(report, wrong)
}

/// Returns the partitions in which the boards are behind, as (partition, the boards' offset, the wanted offset).
fn lagging_partitions(
    standing: &ProjectionCheckpoint,
    positions: &BTreeMap<u32, ArchivePosition>,
) -> Vec<(u32, u64, u64)> {
    let stands: HashMap<u32, u64> = standing.offsets.iter().copied().collect();
    let lacks = |(&partition, position): (&u32, &ArchivePosition)| {
        let stand = stands.get(&partition).copied().unwrap_or(0);
        (stand < position.next_offset).then_some((partition, stand, position.next_offset))
    };
    positions.iter().filter_map(lacks).collect()
}

enum CatchUpOutcome {
    CaughtUp,
    /// Another generation has begun.
    GenerationChanged,
    TimedOut(String),
}

#[cfg(test)]
pub(crate) mod tests;
