//! The global and the trending board in memory, at one version of the ranking.

use liverank_adapters::ranking_store::{BoardEntry, BoardsSnapshot, BuiltInBoard};
use liverank_core::ranking::{RankedVideo, Ranking, first_index_around};
use liverank_core::trending::{shown_points, shown_time};
use liverank_core::{Metadata, Millis, UserId, VideoId, canary};

/// The global and the trending board, at one version of the ranking.
#[derive(Debug, Default)]
pub(crate) struct Boards {
    version: u64,
    global: Ranking,
    trending: Ranking,
    /// The half-life of the decayed scores, in ms; `None` while it is not known. If the half-life is known, decayed
    /// scores are shown as points.
    half_life_ms: Option<u64>,
    /// The revision of the canary's last state that was received. The canary is on no board; gateways measure by this
    /// revision when changes arrive here.
    canary_revision: Option<u64>,
    /// The time at which the log took the newest record of the last change, by the broker's clock; `None` if it is not known,
    /// and after a change of metadata, whose lists are not measured.
    logged_at: Option<Millis>,
}

/// A part of a board.
#[derive(Debug, Default)]
pub(crate) struct BoardPart {
    /// The lines of the part, best first.
    pub(crate) lines: Vec<RankedVideo>,
    /// The rank of the first line, from 1.
    pub(crate) first_rank: usize,
    /// The number of videos on the board.
    pub(crate) total: usize,
    /// The metadata of each line; `None` if the list was asked for without metadata.
    pub(crate) metadata: Option<Vec<Option<Metadata>>>,
    /// The time at which the log took the newest record of the boards' last change; `None` if it is not known.
    pub(crate) logged_at: Option<Millis>,
}

/// The outcome of applying a change of the boards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ApplyOutcome {
    /// The change was applied.
    Applied,
    /// The change had been applied before.
    AlreadyApplied,
    /// Earlier changes are missing: a snapshot has to be read.
    ChangesMissing,
}

impl Boards {
    /// Makes the boards of a snapshot.
    pub(crate) fn of(snapshot: &BoardsSnapshot) -> Self {
        let mut boards = Self { version: snapshot.version, ..Self::default() };
        for entry in &snapshot.entries {
            boards.set_entry(entry);
        }
        boards
    }

    /// Applies the entries that changed between the previous version and `version`. Changes nothing if the change was
    /// applied before or earlier ones are missing.
    pub(crate) fn apply(
        &mut self,
        version: u64,
        entries: &[BoardEntry],
        logged_at: Option<Millis>,
    ) -> ApplyOutcome {
        if version <= self.version {
            return ApplyOutcome::AlreadyApplied;
        }
        if version != self.version + 1 {
            return ApplyOutcome::ChangesMissing;
        }
        self.version = version;
        self.logged_at = logged_at;
        for entry in entries {
            self.set_entry(entry);
        }
        ApplyOutcome::Applied
    }

    fn set_entry(&mut self, entry: &BoardEntry) {
        if canary::is_canary(&entry.video_id) {
            self.canary_revision = Some(entry.revision);
        }
        let line =
            |score| RankedVideo { video_id: entry.video_id.clone(), score, user_id: entry.owner.clone() };
        if entry.removed {
            self.global.remove(&entry.video_id);
        } else {
            self.global.set_score(&line(entry.score));
        }
        match entry.trending.filter(|_| !entry.removed) {
            Some(trending) => self.trending.set_score(&line(trending)),
            None => self.trending.remove(&entry.video_id),
        };
    }

    /// Returns the number of videos on the global board.
    pub(crate) fn len(&self) -> usize {
        self.global.len()
    }

    /// Sets the half-life of the decayed scores, in ms. Returns whether the half-life changed.
    pub(crate) fn set_half_life(&mut self, half_life_ms: Option<u64>) -> bool {
        std::mem::replace(&mut self.half_life_ms, half_life_ms) != half_life_ms
    }

    /// Whether the half-life of the decayed scores is known.
    pub(crate) const fn knows_half_life(&self) -> bool {
        self.half_life_ms.is_some()
    }

    const fn ranking_of(&self, board: BuiltInBoard) -> &Ranking {
        match board {
            BuiltInBoard::Global => &self.global,
            BuiltInBoard::Trending => &self.trending,
        }
    }

    /// Returns the best lines of a board, at most `limit`, with points as they are shown at `now`.
    pub(crate) fn top(&self, board: BuiltInBoard, limit: Option<usize>, now: Millis) -> BoardPart {
        self.lines_from(board, 0, limit.unwrap_or(usize::MAX), now)
    }

    /// Returns the lines of a board that have this video in their middle, with points as they are shown at `now`; no
    /// lines while the video is not on the board.
    pub(crate) fn lines_around(
        &self,
        board: BuiltInBoard,
        video: &VideoId,
        limit: usize,
        now: Millis,
    ) -> BoardPart {
        let ranking = self.ranking_of(board);
        match ranking.position_of(video) {
            Some(position) => {
                self.lines_from(board, first_index_around(position, ranking.len(), limit), limit, now)
            }
            None => BoardPart { total: ranking.len(), ..BoardPart::default() },
        }
    }

    fn lines_from(&self, board: BuiltInBoard, skip: usize, limit: usize, now: Millis) -> BoardPart {
        let ranking = self.ranking_of(board);
        let mut lines = ranking.page(skip, limit);
        if let (BuiltInBoard::Trending, Some(half_life_ms)) = (board, self.half_life_ms) {
            let at = shown_time(now, half_life_ms);
            for line in &mut lines {
                line.score = shown_points(line.score, at, half_life_ms);
            }
        }
        BoardPart {
            lines,
            first_rank: skip + 1,
            total: ranking.len(),
            metadata: None,
            logged_at: self.logged_at,
        }
    }

    /// Returns an owner's videos, those with the highest score first. The canary's video has its revision instead of a
    /// score.
    pub(crate) fn best_of_owner(&self, owner: &UserId, limit: Option<usize>) -> BoardPart {
        let is_canary = owner.as_str() == canary::CANARY_ID;
        let lines = if is_canary {
            let line = |revision| RankedVideo {
                video_id: canary::video(),
                score: revision as f64,
                user_id: canary::user(),
            };
            self.canary_revision.map(line).into_iter().collect()
        } else {
            self.global.videos_of_owner(owner, limit)
        };
        BoardPart {
            lines,
            first_rank: 1,
            total: self.global.len(),
            metadata: None,
            // The canary measures its own list, and real events are measured by real lists.
            logged_at: self.logged_at.filter(|_| !is_canary),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, score: f64, trending: Option<f64>) -> BoardEntry {
        let (video_id, owner) = (VideoId::parse(id).unwrap(), UserId::parse("o").unwrap());
        BoardEntry { video_id, owner, score, trending, revision: 0, removed: false }
    }

    fn ids_of(stretch: &BoardPart) -> Vec<&str> {
        stretch.lines.iter().map(|line| line.video_id.as_str()).collect()
    }

    #[test]
    fn changes_apply_in_turn_and_a_version_gap_is_detected() {
        let mut boards = Boards::of(&BoardsSnapshot { version: 7, entries: vec![entry("a", 1.0, None)] });
        assert_eq!(boards.apply(7, &[entry("a", 9.0, None)], None), ApplyOutcome::AlreadyApplied);
        assert_eq!(boards.apply(8, &[entry("b", 2.0, None)], None), ApplyOutcome::Applied);
        assert_eq!(boards.apply(10, &[entry("c", 3.0, None)], None), ApplyOutcome::ChangesMissing);
        assert_eq!(ids_of(&boards.top(BuiltInBoard::Global, None, 0)), ["b", "a"]);
        assert_eq!(boards.apply(9, &[], None), ApplyOutcome::Applied);
        assert_eq!(boards.len(), 2);
    }

    #[test]
    fn decayed_scores_are_shown_as_points_that_stand_still_for_a_while() {
        let (hour, now) = (3_600_000, 1_800_000_000_000);
        let log2 = |points: f64, age: i64| points.log2() + (now - age) as f64 / hour as f64;
        let entries = vec![entry("fresh", 0.0, Some(log2(8.0, 0))), entry("old", 0.0, Some(log2(8.0, hour)))];
        let mut boards = Boards::of(&BoardsSnapshot { version: 1, entries });
        assert!(boards.set_half_life(Some(hour as u64)) && !boards.set_half_life(Some(hour as u64)));
        let shown = |now| boards.top(BuiltInBoard::Trending, None, now);
        assert_eq!(ids_of(&shown(now)), ["fresh", "old"]);
        for (line, points) in shown(now).lines.iter().zip([8.0, 4.0]) {
            assert!((line.score / points - 1.0).abs() < 0.012, "{line:?}");
        }
        assert_eq!(shown(now).lines, shown(now + 1_000).lines);
        assert!(shown(now + hour).lines[0].score < 4.1);
    }

    #[test]
    fn a_video_trends_from_its_first_event_of_weight_on() {
        let entries = vec![entry("a", 9.0, Some(1.0)), entry("b", 1.0, Some(2.0)), entry("c", 0.0, None)];
        let boards = Boards::of(&BoardsSnapshot { version: 1, entries });
        assert_eq!(ids_of(&boards.top(BuiltInBoard::Trending, None, 0)), ["b", "a"]);
        assert_eq!(ids_of(&boards.best_of_owner(&UserId::parse("o").unwrap(), Some(2))), ["a", "b"]);
    }

    #[test]
    fn a_removed_or_zero_score_video_leaves_its_boards() {
        let entries = vec![entry("a", 9.0, Some(1.0)), entry("b", 1.0, Some(2.0))];
        let mut boards = Boards::of(&BoardsSnapshot { version: 1, entries });
        boards.apply(2, &[entry("a", 0.5, None)], None);
        assert_eq!(ids_of(&boards.top(BuiltInBoard::Global, None, 0)), ["b", "a"]);
        assert_eq!(ids_of(&boards.top(BuiltInBoard::Trending, None, 0)), ["b"]);
        boards.apply(3, &[BoardEntry { removed: true, ..entry("b", 0.0, None) }], None);
        assert_eq!(ids_of(&boards.top(BuiltInBoard::Global, None, 0)), ["a"]);
        assert_eq!(boards.top(BuiltInBoard::Trending, None, 0).total, 0);
    }

    #[test]
    fn a_list_around_a_video_says_where_it_begins() {
        let entries = (0..9).map(|at| entry(&format!("v{at}"), f64::from(at), None)).collect();
        let boards = Boards::of(&BoardsSnapshot { version: 1, entries });
        let around = |id| boards.lines_around(BuiltInBoard::Global, &VideoId::parse(id).unwrap(), 3, 0);
        let middle = around("v4");
        assert_eq!(ids_of(&middle), ["v5", "v4", "v3"]);
        assert_eq!((middle.first_rank, middle.total), (4, 9));
        assert_eq!((ids_of(&around("v8")), around("v8").first_rank), (vec!["v8", "v7", "v6"], 1));
        assert_eq!((ids_of(&around("v0")), around("v0").first_rank), (vec!["v2", "v1", "v0"], 7));
        let absent = around("other");
        assert_eq!((absent.lines.len(), absent.total), (0, 9));
    }
}
