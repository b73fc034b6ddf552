//! What the boards show of the archive's videos: of each batch, of a repair, and for whoever compares the two.

use liverank_adapters::RankingStore;
use liverank_adapters::ranking_store::{BoardEntry, DescribedVideo};
use liverank_core::boards::DeclaredBoard;
use liverank_core::canary;
use liverank_core::counting::{CountingRules, VideoState};
use liverank_core::score::points_of_thousandths;
use liverank_core::windows::WindowKey;

/// The boards that are projected to, and repaired.
#[derive(Clone, Copy)]
pub struct ProjectionTarget<'a> {
    /// The store of the boards.
    pub ranking_store: &'a dyn RankingStore,
    /// The declared board; `None` for the built-in boards.
    pub declared_board: Option<&'a DeclaredBoard>,
    /// The window of the declared board; `None` if the store is not of a window.
    pub window: Option<&'a WindowKey>,
}

impl ProjectionTarget<'_> {
    /// Returns the half-life of the decayed scores on the boards, in milliseconds.
    pub fn half_life_ms(&self, rules: &CountingRules) -> u64 {
        self.declared_board.map_or(*rules, |board| board.rules_of_board(rules)).half_life_ms
    }

    /// Returns the entries of these videos on the boards.
    pub fn board_entries(&self, videos: &[VideoState], rules: &CountingRules) -> Vec<BoardEntry> {
        let Some(board) = self.declared_board else {
            return videos.iter().map(|video| to_board_entry(video, rules)).collect();
        };
        // What the system measures itself by is told to subscribers of the boards that there always are.
        let videos = videos.iter().filter(|video| !canary::is_canary(&video.video_id));
        let own = board.rules_of_board(rules);
        videos.map(|video| to_board_entry(&board.state_on_board(video.clone(), rules), &own)).collect()
    }
}

/// Returns the metadata of a video that are stored beside the boards; none for a video that is on no board. The
/// archive keeps the metadata of such a video, and they are stored again when the video is put back.
pub fn to_described(video: &VideoState) -> DescribedVideo {
    DescribedVideo {
        video_id: video.video_id.clone(),
        revision: video.revision(),
        metadata: video.metadata.clone().filter(|_| !video.is_off_boards()),
    }
}

/// Returns the entry of a video on the boards.
pub fn to_board_entry(video: &VideoState, rules: &CountingRules) -> BoardEntry {
    BoardEntry {
        video_id: video.video_id.clone(),
        owner: video.owner.clone(),
        score: points_of_thousandths(video.counters.score(&rules.weights)),
        trending: video.trending_log2.is_finite().then_some(video.trending_log2),
        revision: video.revision(),
        removed: video.is_off_boards(),
    }
}
