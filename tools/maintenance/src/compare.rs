//! Finds the differences between the log, the archive and the boards. Pure: the data is read elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use liverank_adapters::ranking_store::BoardEntry;
use liverank_core::counting::{CountingRules, VideoState};
use liverank_core::decays::CountedDecays;
use liverank_core::score::{Counters, points_of_thousandths};
use liverank_core::windows::{CountedWindowKind, CountedWindows};
use liverank_core::{Millis, UserId, VideoId, canary};
use serde::Serialize;
use serde_json::{Value, json};

use crate::tally::{VideoByLog, WindowCounts};

/// The largest difference of two logarithms of the same decayed sum that is accepted: sums of floats depend on the
/// order of partitions.
pub const TRENDING_TOLERANCE: f64 = 1e-6;

/// One value that should be the same in two stores and is not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreDifference {
    /// The video whose value differs.
    pub video_id: VideoId,
    /// The name of the field that differs.
    pub field: &'static str,
    /// The source of the expected value: `log`, `archive`, or `counters` (the archive's own).
    pub by: &'static str,
    /// The expected value; null if the video is missing in that source.
    pub expected: Value,
    /// The store with the other value: `archive` or `boards`.
    pub at: &'static str,
    /// The name of the declared board that differs; `None` for the built-in boards and the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// The name of the window whose counts differ; `None` if the difference is not in a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The value found in that store; null if the video is missing there.
    pub found: Value,
}

/// A video of the archive, with what is stored beside its counters.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchivedVideo {
    /// The state from which counting continues.
    pub state: VideoState,
    /// The score that is stored beside the counters, in points.
    pub score: f64,
    /// The number of stored comments.
    pub comment_count: u64,
    /// The highest sequence number of the stored comments; 0 if there are none.
    pub highest_seq: u64,
}

/// Collects the differences of one video.
struct DifferenceCollector<'a> {
    video_id: &'a VideoId,
    right_source: &'static str,
    other_store: &'static str,
    differences: Vec<StoreDifference>,
}

impl<'a> DifferenceCollector<'a> {
    const fn new(video_id: &'a VideoId, by: &'static str, at: &'static str) -> Self {
        Self { video_id, right_source: by, other_store: at, differences: Vec::new() }
    }

    fn add_difference(&mut self, field: &'static str, expected: Value, found: Value) {
        let (by, at) = (self.right_source, self.other_store);
        let (video_id, board, window) = (self.video_id.clone(), None, None);
        self.differences.push(StoreDifference { video_id, field, by, expected, at, board, window, found });
    }

    fn check_equal<T: PartialEq + Serialize + Copy>(&mut self, field: &'static str, expected: T, found: T) {
        if expected != found {
            self.add_difference(field, json!(expected), json!(found));
        }
    }

    fn check_counters(&mut self, expected: &Counters, found: &Counters) {
        // Every counter is named, so that the compiler finds one that is not compared.
        let Counters { views, likes, comments, shares, watch_ms, watch_short, watch_long } = *expected;
        self.check_equal("views", views, found.views);
        self.check_equal("likes", likes, found.likes);
        self.check_equal("comments", comments, found.comments);
        self.check_equal("shares", shares, found.shares);
        self.check_equal("watch_time_total_ms", watch_ms, found.watch_ms);
        self.check_equal("watch_short", watch_short, found.watch_short);
        self.check_equal("watch_long", watch_long, found.watch_long);
    }

    fn check_owner(&mut self, expected: &UserId, found: &UserId) {
        if expected != found {
            self.add_difference("user_id", json!(expected), json!(found));
        }
    }

    /// Compares two logarithms; negative infinity means that there is no score.
    fn check_decayed(&mut self, field: &'static str, expected: f64, found: f64, tolerance: f64) {
        let none = |log2: f64| log2 == f64::NEG_INFINITY;
        let same = (none(expected) && none(found)) || (expected - found).abs() <= tolerance;
        if !same {
            let shown = |log2: f64| if log2.is_finite() { json!(log2) } else { Value::Null };
            self.add_difference(field, shown(expected), shown(found));
        }
    }
}

fn trending_tolerance(counters: &Counters, log2: f64) -> f64 {
    let Counters { views, likes, comments, shares, watch_ms: _, watch_short, watch_long } = counters;
    let events = views + likes + comments + shares + watch_short + watch_long;
    // Each addition may be off by its last binary place.
    TRENDING_TOLERANCE.max(events as f64 * log2.abs() * f64::EPSILON)
}

/// Returns the contradictions within an archived video: a score or comments that do not fit its own counters.
pub fn archive_contradictions(kept: &ArchivedVideo, rules: &CountingRules) -> Vec<StoreDifference> {
    let ArchivedVideo { state, score, comment_count, highest_seq } = kept;
    let mut differences = DifferenceCollector::new(&state.video_id, "counters", "archive");
    differences.check_equal("score", points_of_thousandths(state.counters.score(&rules.weights)), *score);
    // The canary's comments get sequence numbers, but are not archived.
    if !canary::is_canary(&state.video_id) {
        differences.check_equal("stored comments", state.last_seq, *comment_count);
        differences.check_equal("highest comment number", state.last_seq, *highest_seq);
    }
    differences.differences
}

/// The decayed scores that can be computed from the log, and so can be compared with it.
#[derive(Debug, Clone, Default)]
pub struct ComparableScores {
    /// True if the score of `trending` can be computed from the log.
    pub includes_trending: bool,
    /// The boards' own decays whose scores can be computed from the log.
    pub decays: CountedDecays,
}

impl ComparableScores {
    /// Returns the decayed scores that can be computed. If the score of `trending` cannot be computed, other
    /// rules were in force before, and then none of the other decayed scores can be computed either.
    pub fn of(includes_trending: bool, decays: CountedDecays) -> Self {
        Self { includes_trending, decays: if includes_trending { decays } else { CountedDecays::default() } }
    }
}

/// Returns the differences of one video between the log (`told`) and the archive (`kept`).
pub fn differences_with_log(
    told: Option<&VideoByLog>,
    kept: Option<&ArchivedVideo>,
    follows: &ComparableScores,
) -> Vec<StoreDifference> {
    let (told, kept) = match (told, kept) {
        (Some(told), Some(kept)) => (told, &kept.state),
        (None, None) => return Vec::new(),
        (Some(told), None) => return absent_difference(&told.counted_state, "log", "archive", true),
        (None, Some(kept)) => return absent_difference(&kept.state, "log", "archive", false),
    };
    if told.is_ambiguous {
        return Vec::new();
    }
    let mut differences = DifferenceCollector::new(&kept.video_id, "log", "archive");
    differences.check_counters(&told.counted_state.counters, &kept.counters);
    differences.check_equal("last_seq", told.counted_state.last_seq, kept.last_seq);
    differences.check_equal("owner_given", told.counted_state.is_owner_given, kept.is_owner_given);
    let metadata = |state: &VideoState| state.metadata.as_ref().map(|it| it.as_str().to_owned());
    let (told_metadata, kept_metadata) = (metadata(&told.counted_state), metadata(kept));
    differences.check_equal("metadata", told_metadata.as_deref(), kept_metadata.as_deref());
    differences.check_equal("removed", told.counted_state.removed_by, kept.removed_by);
    if !told.other_owners.contains(&kept.owner) {
        differences.check_owner(&told.counted_state.owner, &kept.owner);
    }
    if follows.includes_trending && !told.has_ambiguous_times {
        let tolerance = trending_tolerance(&told.counted_state.counters, told.counted_state.trending_log2);
        differences.check_decayed(
            "trending",
            told.counted_state.trending_log2,
            kept.trending_log2,
            tolerance,
        );
    }
    for counted in follows.decays.iter().filter(|_| !told.has_ambiguous_times) {
        let [expected, found] =
            [&told.counted_state, kept].map(|state| state.decayed_scores.log2_of(&counted.decay));
        let tolerance = trending_tolerance(&told.counted_state.counters, expected);
        differences.check_decayed("score by a half-life", expected, found, tolerance);
    }
    differences.differences
}

fn absent_difference(
    state: &VideoState,
    by: &'static str,
    at: &'static str,
    expected: bool,
) -> Vec<StoreDifference> {
    let mut differences = DifferenceCollector::new(&state.video_id, by, at);
    differences.check_equal("there", expected, !expected);
    differences.differences
}

/// The result of comparing a video on the boards with the archive once.
#[derive(Debug, Clone, PartialEq)]
pub enum BoardVideoVerdict {
    /// The boards agree with the archive.
    Right,
    /// The video changed meanwhile, and the boards' state lies between the archive's states before and after, as it
    /// should.
    Moving,
    /// The boards are wrong, with these differences.
    Wrong(Vec<StoreDifference>),
}

/// Compares a video on the boards with the archive's states `before` and `after` the boards were read. Everything that
/// was committed before the state `before` was read must already be on the boards.
pub fn compare_with_boards(
    before: Option<&VideoState>,
    board: Option<&BoardEntry>,
    after: Option<&VideoState>,
    rules: &CountingRules,
) -> BoardVideoVerdict {
    let taken_off = after.is_some_and(VideoState::is_off_boards);
    let is_on = |state: &&VideoState| !state.is_off_boards();
    let (before, after) = match (before.filter(is_on), after.filter(is_on), board) {
        (None, None, None) => return BoardVideoVerdict::Right,
        (None, None, Some(board)) => return unexpected_on_boards(board),
        (None, Some(_), None) => return BoardVideoVerdict::Moving,
        (Some(_), None, None) if taken_off => return BoardVideoVerdict::Moving,
        (Some(state), _, None) => {
            return BoardVideoVerdict::Wrong(absent_difference(state, "archive", "boards", true));
        }
        (before, after, Some(_)) => (before, after.or(before)),
    };
    let (Some(board), Some(after)) = (board, after) else { return BoardVideoVerdict::Right };
    let exact = check_board(after, board, rules);
    if exact.is_empty() {
        return BoardVideoVerdict::Right;
    }
    // The boards have the latest revision, and differ from it.
    if board.revision != 0 && board.revision == after.revision() {
        return BoardVideoVerdict::Wrong(exact);
    }
    let revisions = before.map_or(0, VideoState::revision)..=after.revision();
    // If nothing was taken back, a state between the two lies between them in every number.
    let grew = before.is_none_or(|before| before.revision_corrections == after.revision_corrections);
    let score = |state: &VideoState| points_of_thousandths(state.counters.score(&rules.weights));
    let least = before.map_or(0.0, score);
    let trending = board.trending.unwrap_or(f64::NEG_INFINITY);
    let least_trending = before.map_or(f64::NEG_INFINITY, |before| before.trending_log2);
    let in_range = (least..=score(after)).contains(&board.score)
        && trending >= least_trending - TRENDING_TOLERANCE
        && trending <= after.trending_log2 + TRENDING_TOLERANCE;
    let between = before != Some(after)
        && (in_range || !grew)
        && (board.revision == 0 || revisions.contains(&board.revision))
        && (board.owner == after.owner || before.is_none_or(|before| board.owner == before.owner));
    if between { BoardVideoVerdict::Moving } else { BoardVideoVerdict::Wrong(exact) }
}

fn unexpected_on_boards(board: &BoardEntry) -> BoardVideoVerdict {
    let mut differences = DifferenceCollector::new(&board.video_id, "archive", "boards");
    differences.check_equal("there", false, true);
    BoardVideoVerdict::Wrong(differences.differences)
}

fn check_board(state: &VideoState, board: &BoardEntry, rules: &CountingRules) -> Vec<StoreDifference> {
    let mut differences = DifferenceCollector::new(&state.video_id, "archive", "boards");
    differences.check_equal(
        "score",
        points_of_thousandths(state.counters.score(&rules.weights)),
        board.score,
    );
    differences.check_owner(&state.owner, &board.owner);
    let trending = board.trending.unwrap_or(f64::NEG_INFINITY);
    differences.check_decayed("trending", state.trending_log2, trending, TRENDING_TOLERANCE);
    differences.differences
}

/// Returns all differences between the log and the archive, by video.
pub fn compare_log_and_archive(
    told: &BTreeMap<VideoId, VideoByLog>,
    kept: &BTreeMap<VideoId, ArchivedVideo>,
    follows: &ComparableScores,
) -> Vec<StoreDifference> {
    let mut ids: Vec<&VideoId> =
        told.keys().chain(kept.keys().filter(|id| !told.contains_key(*id))).collect();
    ids.sort_unstable();
    ids.into_iter().flat_map(|id| differences_with_log(told.get(id), kept.get(id), follows)).collect()
}

/// Returns all differences between the log and the archive in windows. Windows that are incomplete by the archive's own
/// account, and windows before the oldest one that the archive still has, are not compared.
pub fn window_differences_with_log(
    told: &BTreeMap<VideoId, VideoByLog>,
    counted: &WindowCounts,
    kept: &WindowCounts,
    windows: &CountedWindows,
) -> Vec<StoreDifference> {
    let mut differences = Vec::new();
    for CountedWindowKind { kind, complete_after } in windows {
        let name = kind.to_string();
        let of_kind = |key: &&(String, Millis, VideoId)| key.0 == name;
        let oldest = kept.keys().filter(of_kind).map(|key| key.1).min();
        let is_compared = |start: Millis| {
            oldest.is_some_and(|oldest| start >= oldest) && complete_after.is_none_or(|after| start > after)
        };
        let keys: BTreeSet<_> = counted.keys().chain(kept.keys()).filter(of_kind).collect();
        for key in keys.into_iter().filter(|key| is_compared(key.1)) {
            let (_, start, video) = key;
            // Which of two events counted depends on an order that the log does not have, so the window in which it
            // counted is unknown.
            if told.get(video).is_some_and(|told| told.is_ambiguous || told.has_ambiguous_times) {
                continue;
            }
            let of = |counts: &WindowCounts| counts.get(key).copied().unwrap_or_default();
            let mut found = DifferenceCollector::new(video, "log", "archive");
            found.check_counters(&of(counted), &of(kept));
            let window = kind.window_name(&kind.window_of(*start));
            let named = |it| StoreDifference { window: Some(format!("{window} ({name})")), ..it };
            differences.extend(found.differences.into_iter().map(named));
        }
    }
    differences
}

#[cfg(test)]
mod tests;
