//! What the boards show of the archive's videos: of each batch, of a repair, and for whoever compares the two.

use liverank_adapters::RankingStore;
use liverank_adapters::ranking_store::{BoardEntry, Described};
use liverank_core::boards::DeclaredBoard;
use liverank_core::canary;
use liverank_core::counting::{CountingRules, VideoState};
use liverank_core::score::points_of_thousandths;
use liverank_core::windows::WindowKey;

/// What is projected to, and repaired.
#[derive(Clone, Copy)]
pub struct ProjectionTarget<'a> {
    /// Where it is kept.
    pub ranking_store: &'a dyn RankingStore,
    /// The declared board that it is; `None` for the boards that there always are.
    pub declared_board: Option<&'a DeclaredBoard>,
    /// The window of the board that it is, if it is one's.
    pub window: Option<&'a WindowKey>,
}

impl ProjectionTarget<'_> {
    /// The half-life of the decayed scores there.
    pub fn half_life_ms(&self, rules: &CountingRules) -> u64 {
        self.declared_board.map_or(*rules, |board| board.rules_of_board(rules)).half_life_ms
    }

    /// These videos as they are there.
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

/// What is said of a video beside the boards: nothing of one that is on none. The archive keeps that, and whoever puts the video
/// back says it anew.
pub fn described(video: &VideoState) -> Described {
    Described {
        video_id: video.video_id.clone(),
        revision: video.revision(),
        metadata: video.metadata.clone().filter(|_| !video.is_off_boards()),
    }
}

/// A video as the boards show it.
pub fn to_board_entry(video: &VideoState, rules: &CountingRules) -> BoardEntry {
    BoardEntry {
        video_id: video.video_id.clone(),
        owner: video.owner.clone(),
        score: points_of_thousandths(video.counters.score(&rules.weights)),
        trending: video.trending.is_finite().then_some(video.trending),
        revision: video.revision(),
        removed: video.is_off_boards(),
    }
}
