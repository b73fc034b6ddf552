//! Idle videos leave the boards: videos that nobody has interacted with for the configured time. The archive keeps them,
//! and the next event brings a video back with all its points.
//!
//! Boards with windows are left out: each window is removed as a whole.

use std::time::Duration;

use liverank_adapters::{Backends, RankingStore, StoreError};
use liverank_core::Millis;
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::CountingRules;
use liverank_core::idle::idle_score_threshold;
use tokio::time::Instant;

use crate::repair::no_archive_error;
use crate::windows::newest_counted_time;

/// Pause between two calls, so that projections are not held up.
const PAUSE_BETWEEN_CALLS: Duration = Duration::from_millis(20);

/// Removes idle videos from the built-in boards and from declared ones, until the time `until`; the remaining ones are
/// removed in the next turn. `idle_for` is the time without an event after which a video is idle; zero means that no
/// video ever is.
pub async fn remove_idle_videos(
    backends: &Backends,
    boards: &DeclaredBoards,
    idle_for: Duration,
    until: Instant,
) -> Result<(), StoreError> {
    if idle_for.is_zero() {
        return Ok(());
    }
    let meta = backends.archive.archive_meta().await?.ok_or_else(no_archive_error)?;
    let Some(newest) = newest_counted_time(backends).await? else { return Ok(()) };
    // A clock that is ahead must not make videos idle, neither the log's nor this one.
    let now = newest.min((backends.clock)());
    let turn = IdleRemovalTurn { generation: meta.generation, now, idle_for, until };
    turn.remove_from_board(&*backends.ranking, "global", &meta.counting_rules).await?;
    for board in boards.iter().filter(|board| board.windows().is_none()) {
        let store = backends.ranking.declared_board(&board.store_key());
        // Without a half-life of its own, a board has the decayed scores of all boards, by the weights of all.
        let own = || board.rules_of_board(&meta.counting_rules);
        let rules = board.decay().map_or(meta.counting_rules, |_| own());
        turn.remove_from_board(&*store, board.name(), &rules).await?;
    }
    Ok(())
}

/// The inputs of one turn of removing idle videos from boards.
struct IdleRemovalTurn {
    generation: u64,
    now: Millis,
    idle_for: Duration,
    until: Instant,
}

impl IdleRemovalTurn {
    async fn remove_from_board(
        &self,
        store: &dyn RankingStore,
        board: &str,
        rules: &CountingRules,
    ) -> Result<(), StoreError> {
        let Some(line) = idle_score_threshold(self.now, self.idle_for.as_millis() as Millis, rules) else {
            return Ok(());
        };
        let mut videos = 0;
        loop {
            let retired = store.retire_idle(self.generation, line).await?;
            videos += retired;
            if retired == 0 || Instant::now() > self.until {
                break;
            }
            tokio::time::sleep(PAUSE_BETWEEN_CALLS).await;
        }
        if videos > 0 {
            tracing::info!(board, videos, "videos that nobody interacts with have left the board");
        }
        Ok(())
    }
}
