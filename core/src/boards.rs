//! Declared boards: which videos are on such a board, and by what they are ordered.
//!
//! A declared board depends on what the archive stores of a video and on nothing else: its counters, its decayed
//! score, its metadata. So a declared board can be filled from the archive at any time, and a video's line on it
//! follows from the state of that video alone. [`DeclaredBoard::state_on_board`] and [`DeclaredBoard::rules_of_board`]
//! say what a video looks like on the board; from then on the video is handled as on any other board. A board with
//! windows is one board per window, made of the counters of that window.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::counting::{CountingRules, VideoState, sha256};
use crate::decays::{Decay, MAX_DECAYS, MAX_HALF_LIFE_MINUTES};
use crate::metadata::MAX_CATEGORY_CHARS;
use crate::moderation::ActorRole;
use crate::score::{Weights, parse_weight, points_of_thousandths};
use crate::windows::{MAX_KINDS, Window, WindowKind, WindowUnit};
use crate::{Invalid, Millis, comment};

/// The most boards that may be declared: each is one more write to the store of boards with every batch, and one more
/// list of all its videos in the memory of each WebSocket service.
pub const MAX_BOARDS: usize = 16;
/// The longest name of a board, in characters: the name is a part of keys and of addresses.
pub const MAX_NAME_CHARS: usize = 32;
/// The largest minimum that a board may demand of a video, in points.
pub const MAX_MINIMUM_POINTS: f64 = 1e9;
/// The most ended windows that one board keeps: each is stored as a board of its own.
pub const MAX_KEPT: u64 = 31;
/// The number of ended windows that a board keeps unless its declaration says otherwise.
pub const DEFAULT_KEPT: u64 = 7;
/// The most ended windows that all boards together keep: each consumer looks at each of them every few seconds.
pub const MAX_KEPT_TOGETHER: usize = 64;
/// The names of the boards that exist without being declared.
pub const BUILT_IN_BOARDS: [&str; 2] = ["global", "trending"];

/// The order of the videos on a board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BoardOrder {
    /// The videos are ordered by points.
    #[default]
    Points,
    /// The videos are ordered by the decayed score, as on the board `trending`.
    Trending,
}

impl BoardOrder {
    /// Returns the order's name in declarations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Points => "points",
            Self::Trending => "trending",
        }
    }
}

/// The weights of a board: what each kind of event is worth on it, in thousandths of a point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoardWeights {
    view: i64,
    like: i64,
    comment: i64,
    share: i64,
    watch_short: i64,
    watch_long: i64,
}

/// The windows of a board: their kind, and how many ended ones it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardWindows {
    /// The unit and time zone of the windows.
    pub kind: WindowKind,
    /// The number of ended windows that are kept.
    pub keep: usize,
}

/// A declared board: its name, order, weights, conditions and windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredBoard {
    name: String,
    order: BoardOrder,
    weights: Option<BoardWeights>,
    category: Option<String>,
    /// The points that a video needs to be on the board, in thousandths.
    minimum: i64,
    windows: Option<BoardWindows>,
    /// The board's own decay; `None` if it has the half-life of all boards.
    decay: Option<Decay>,
}

/// The declared boards, in the order of their declaration. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredBoards(Arc<[DeclaredBoard]>);

impl DeclaredBoards {
    /// Reads a declaration: a list of boards, each with `name` and, if given, `order`, `weights`, `category`,
    /// `minimum`, `halfLifeMinutes`, `window`, `timeZone` and `keep`.
    ///
    /// # Errors
    /// Names the board and the member that is wrong, in the reason. The error's `field` is always `boards`.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        let Value::Array(given) = value else { return Err(Invalid::new("boards", "must be a list")) };
        if given.len() > MAX_BOARDS {
            let wrong = format!("must be at most {MAX_BOARDS}, and are {}", given.len());
            return Err(Invalid::new("boards", wrong));
        }
        let mut boards: Vec<DeclaredBoard> = Vec::with_capacity(given.len());
        for (at, value) in given.iter().enumerate() {
            let wrong = |Invalid { field, reason }| {
                Invalid::new("boards", format!("{field} of board {} {reason}", at + 1))
            };
            let board = DeclaredBoard::read(value).map_err(wrong)?;
            if boards.iter().any(|other| other.name == board.name) {
                return Err(wrong(Invalid::new("name", "must be one that no other board has")));
            }
            boards.push(board);
        }
        let declared = Self(boards.into());
        declared.check_windows()?;
        declared.check_decays()?;
        Ok(declared)
    }

    fn check_windows(&self) -> Result<(), Invalid> {
        let kinds = self.window_kinds().len();
        if kinds > MAX_KINDS {
            let wrong = format!(
                "window and timeZone of all boards must make at most {MAX_KINDS} pairs, and make {kinds}"
            );
            return Err(Invalid::new("boards", wrong));
        }
        let kept: usize = self.iter().filter_map(DeclaredBoard::windows).map(|windows| windows.keep).sum();
        if kept > MAX_KEPT_TOGETHER {
            let wrong =
                format!("keep of all boards must be at most {MAX_KEPT_TOGETHER} together, and is {kept}");
            return Err(Invalid::new("boards", wrong));
        }
        Ok(())
    }

    fn check_decays(&self) -> Result<(), Invalid> {
        let decays = self.decays().len();
        if decays > MAX_DECAYS {
            let wrong = format!(
                "halfLifeMinutes of all boards, with the weights beside it, must make at most {MAX_DECAYS} pairs, and make \
                 {decays}"
            );
            return Err(Invalid::new("boards", wrong));
        }
        Ok(())
    }

    /// Returns the decays of boards with a half-life of their own, each once.
    pub fn decays(&self) -> Vec<Decay> {
        let mut decays: Vec<Decay> = Vec::new();
        for decay in self.iter().filter_map(DeclaredBoard::decay) {
            if !decays.contains(&decay) {
                decays.push(decay);
            }
        }
        decays
    }

    /// Returns the kinds of windows that boards have, each once, with the largest `keep` of any board.
    pub fn window_kinds(&self) -> Vec<BoardWindows> {
        let mut kinds: Vec<BoardWindows> = Vec::new();
        for windows in self.iter().filter_map(DeclaredBoard::windows) {
            match kinds.iter_mut().find(|known| known.kind == windows.kind) {
                Some(known) => known.keep = known.keep.max(windows.keep),
                None => kinds.push(windows.clone()),
            }
        }
        kinds
    }

    /// Returns the names under which stores keep the boards at the time `now`: one for each board without windows, and
    /// one for each running or kept window of the others.
    pub fn keys(&self, now: Millis) -> Vec<String> {
        let of = |board: &DeclaredBoard| match board.windows() {
            None => vec![board.key()],
            Some(BoardWindows { kind, keep }) => {
                kind.running_and_kept(now, *keep).iter().map(|window| board.key_of(window)).collect()
            }
        };
        self.iter().flat_map(of).collect()
    }

    /// Returns the boards in the order of their declaration.
    pub fn iter(&self) -> std::slice::Iter<'_, DeclaredBoard> {
        self.0.iter()
    }

    /// Whether no board is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the index of the board with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.iter().position(|board| board.name == name)
    }

    /// Makes the error for a name that no board has: it lists the names that there are.
    pub fn unknown_board_error(&self) -> Invalid {
        let names: Vec<&str> =
            BUILT_IN_BOARDS.into_iter().chain(self.iter().map(DeclaredBoard::name)).collect();
        let (last, others) = names.split_last().expect("two are built in");
        Invalid::new("board", format!("must be {} or {last}", others.join(", ")))
    }
}

impl<'a> IntoIterator for &'a DeclaredBoards {
    type Item = &'a DeclaredBoard;
    type IntoIter = std::slice::Iter<'a, DeclaredBoard>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl DeclaredBoard {
    fn read(value: &Value) -> Result<Self, Invalid> {
        let Value::Object(given) = value else { return Err(Invalid::new("all", "must be an object")) };
        only(
            given,
            "all",
            &[
                "name",
                "order",
                "weights",
                "category",
                "minimum",
                "halfLifeMinutes",
                "window",
                "timeZone",
                "keep",
            ],
        )?;
        let name = text(given, "name")?.ok_or_else(|| Invalid::new("name", "is required"))?;
        check_name(name)?;
        let order = match text(given, "order")? {
            None | Some("points") => BoardOrder::Points,
            Some("trending") => BoardOrder::Trending,
            Some(_) => return Err(Invalid::new("order", "must be points or trending")),
        };
        let half_life = half_life_minutes(given, order)?;
        let weights = match given.get("weights") {
            None | Some(Value::Null) => None,
            Some(_) if order == BoardOrder::Trending && half_life.is_none() => {
                let why = "go together with the order trending only where the board has halfLifeMinutes of its own: that of all \
                           is made by the weights of all";
                return Err(Invalid::new("weights", why));
            }
            Some(Value::Object(given)) => Some(BoardWeights::read(given)?),
            Some(_) => return Err(Invalid::new("weights", "must be an object")),
        };
        let category = text(given, "category")?.map(str::to_owned);
        if category.as_ref().is_some_and(|it| it.trim().is_empty() || it.chars().count() > MAX_CATEGORY_CHARS)
        {
            let wrong = format!("must be 1 to {MAX_CATEGORY_CHARS} characters, not only blanks");
            return Err(Invalid::new("category", wrong));
        }
        let minimum = number(given, "minimum")?.unwrap_or(0.0);
        if !(0.0..=MAX_MINIMUM_POINTS).contains(&minimum) {
            return Err(Invalid::new("minimum", format!("must be a number from 0 to {MAX_MINIMUM_POINTS}")));
        }
        let minimum = (minimum * 1000.0).round() as i64;
        let windows = BoardWindows::read(given, order)?;
        let decay = half_life.map(|minutes| Decay::new(minutes, weights)).transpose()?;
        Ok(Self { name: name.to_owned(), order, weights, category, minimum, windows, decay })
    }

    /// Returns the board's name: small letters, digits and `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the order of the board.
    pub const fn order(&self) -> BoardOrder {
        self.order
    }

    /// Returns the only category of videos on the board; `None` if it has videos of any category.
    pub fn category(&self) -> Option<&str> {
        self.category.as_deref()
    }

    /// Returns the points that a video needs to be on the board.
    pub fn minimum(&self) -> f64 {
        points_of_thousandths(self.minimum)
    }

    /// Returns the board's windows; `None` if it has none.
    pub const fn windows(&self) -> Option<&BoardWindows> {
        self.windows.as_ref()
    }

    /// Returns the board's own half-life and weights; `None` if it has the half-life of all boards.
    pub const fn decay(&self) -> Option<Decay> {
        self.decay
    }

    /// Returns the name under which stores keep the board: the board's name, and a digest of its declaration. So a
    /// board whose declaration has changed is filled beside the old one, and the two are never confused.
    pub fn key(&self) -> String {
        self.key_with("")
    }

    /// Returns the name under which stores keep one window of the board, as [`Self::key`] does for the board.
    pub fn key_of(&self, window: &Window) -> String {
        let Some(BoardWindows { kind, .. }) = &self.windows else { return self.key() };
        self.key_with(&format!("{kind} from {}, ", window.start))
    }

    fn key_with(&self, window: &str) -> String {
        let Self { name, order, weights, category, minimum, windows: _, decay } = self;
        let order = match (order, decay) {
            (BoardOrder::Trending, Some(own)) => format!("trending by {} minutes", own.half_life_minutes()),
            (order, _) => order.name().to_owned(),
        };
        // Each part can be written in one way only, and only the last one may contain any text.
        let weights = weights.map_or_else(|| "those of all".to_owned(), |own| own.to_string());
        let category = category.as_deref().map_or_else(|| "any".to_owned(), |it| format!("of {it}"));
        let content = format!("{order}, from {minimum}, {weights}, {window}{category}");
        format!("{name}:{}", comment::to_hex(&sha256(&content)[..8]))
    }

    /// Returns the rules by which the board's scores are made, if `rules` are the rules of all boards.
    #[must_use]
    pub fn rules_of_board(&self, rules: &CountingRules) -> CountingRules {
        let weights = self.weights.map_or(rules.weights, |own| own.with_threshold(&rules.weights));
        let half_life_ms = self.decay.map_or(rules.half_life_ms, |decay| decay.half_life_ms());
        CountingRules { weights, half_life_ms, ..*rules }
    }

    /// Returns a video's state as seen on this board: marked as removed if the video does not belong there. If the
    /// board has a decay of its own, `trending` is the score by that decay.
    #[must_use]
    pub fn state_on_board(&self, mut video: VideoState, rules: &CountingRules) -> VideoState {
        if let Some(decay) = &self.decay {
            video.trending = video.decayed.log2_of(decay);
        }
        if !self.has(&video, rules) {
            video.removed_by = video.removed_by.or(Some(ActorRole::Service));
        }
        video
    }

    fn has(&self, video: &VideoState, rules: &CountingRules) -> bool {
        let of_category = |category: &String| {
            let metadata = video.metadata.as_ref().map(crate::Metadata::to_value);
            metadata.is_some_and(|it| it["category"].as_str() == Some(category))
        };
        video.counters.score(&self.rules_of_board(rules).weights) >= self.minimum
            && (self.order == BoardOrder::Points || video.trending.is_finite())
            && self.category.as_ref().is_none_or(of_category)
    }
}

impl BoardWindows {
    fn read(given: &Map<String, Value>, order: BoardOrder) -> Result<Option<Self>, Invalid> {
        let zone = text(given, "timeZone")?;
        let keep = number(given, "keep")?;
        let Some(unit) = text(given, "window")? else {
            let alone = [("timeZone", zone.is_some()), ("keep", keep.is_some())];
            let alone = alone.into_iter().find(|(_, is_there)| *is_there);
            return match alone {
                Some((field, _)) => Err(Invalid::new(field, "goes together with window only")),
                None => Ok(None),
            };
        };
        let unit = WindowUnit::of_name(unit);
        let unit = unit.ok_or_else(|| Invalid::new("window", "must be hour, day or week"))?;
        if order == BoardOrder::Trending {
            let why = "cannot go together with the order trending: decayed scores have no windows";
            return Err(Invalid::new("window", why));
        }
        let kind = WindowKind::new(unit, zone.unwrap_or("UTC"))?;
        let keep = keep.unwrap_or(DEFAULT_KEPT as f64);
        if keep.fract() != 0.0 || !(0.0..=MAX_KEPT as f64).contains(&keep) {
            return Err(Invalid::new("keep", format!("must be a whole number from 0 to {MAX_KEPT}")));
        }
        Ok(Some(Self { kind, keep: keep as usize }))
    }
}

impl fmt::Display for BoardWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, like, comment, share, watch_short, watch_long } = self;
        write!(f, "{view} {like} {comment} {share} {watch_short} {watch_long}")
    }
}

impl FromStr for BoardWeights {
    type Err = Invalid;

    /// Reads what [`fmt::Display`] writes: six numbers, in thousandths of a point.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("weights", "must be six numbers of thousandths");
        let read: Result<Vec<i64>, _> = text.split(' ').map(str::parse).collect();
        let [view, like, comment, share, watch_short, watch_long] = read.map_err(|_| wrong())?[..] else {
            return Err(wrong());
        };
        Ok(Self { view, like, comment, share, watch_short, watch_long })
    }
}

impl BoardWeights {
    /// Converts the board's weights to [`Weights`]; a long watch has the same threshold as in `all`.
    pub(crate) const fn with_threshold(self, all: &Weights) -> Weights {
        let Self { view, like, comment, share, watch_short, watch_long } = self;
        let watch_threshold_ms = all.watch_threshold_ms;
        Weights { view, like, comment, share, watch_short, watch_long, watch_threshold_ms }
    }

    /// Reads the weights of a declaration. A kind that is not named is worth nothing.
    fn read(given: &Map<String, Value>) -> Result<Self, Invalid> {
        only(given, "weights", &["view", "like", "comment", "share", "watch_short", "watch_long"])?;
        let weight = |field: &'static str, shown: &'static str| {
            let points = number(given, field).map_err(|error| Invalid::new(shown, error.reason))?;
            points.map_or(Ok(0), |points| parse_weight(shown, points))
        };
        let weights = Self {
            view: weight("view", "weights.view")?,
            like: weight("like", "weights.like")?,
            comment: weight("comment", "weights.comment")?,
            share: weight("share", "weights.share")?,
            watch_short: weight("watch_short", "weights.watch_short")?,
            watch_long: weight("watch_long", "weights.watch_long")?,
        };
        if weights == Self::default() {
            return Err(Invalid::new("weights", "must have one that is more than 0"));
        }
        Ok(weights)
    }
}

/// Reads the half-life of its own that a board asks for, in minutes; `None` if it asks for none.
fn half_life_minutes(given: &Map<String, Value>, order: BoardOrder) -> Result<Option<u64>, Invalid> {
    const FIELD: &str = "halfLifeMinutes";
    let Some(minutes) = number(given, FIELD)? else { return Ok(None) };
    if text(given, "window")?.is_some() {
        let why = "cannot go together with window: what happened in a window does not decay";
        return Err(Invalid::new(FIELD, why));
    }
    if order == BoardOrder::Points {
        return Err(Invalid::new(FIELD, "goes together with the order trending only"));
    }
    if minutes.fract() != 0.0 || !(1.0..=MAX_HALF_LIFE_MINUTES as f64).contains(&minutes) {
        let wrong = format!("must be a whole number from 1 to {MAX_HALF_LIFE_MINUTES}");
        return Err(Invalid::new(FIELD, wrong));
    }
    Ok(Some(minutes as u64))
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let of_kind = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !first || name.len() > MAX_NAME_CHARS || !name.bytes().all(of_kind) {
        let wrong = format!(
            "must be 1 to {MAX_NAME_CHARS} small letters, digits and hyphens, and begin with a letter"
        );
        return Err(Invalid::new("name", wrong));
    }
    if BUILT_IN_BOARDS.contains(&name) {
        return Err(Invalid::new("name", "must not be global or trending: these are there"));
    }
    Ok(())
}

fn only(given: &Map<String, Value>, field: &'static str, known: &[&str]) -> Result<(), Invalid> {
    match given.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            let known = known.join(", ");
            Err(Invalid::new(field, format!("has the member {key:?}, which is none of {known}")))
        }
        None => Ok(()),
    }
}

fn text<'a>(given: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Invalid> {
    match given.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::new(field, "must be a string")),
    }
}

fn number(given: &Map<String, Value>, field: &'static str) -> Result<Option<f64>, Invalid> {
    match given.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| Invalid::new(field, "must be a number")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::decays::{DecayedScore, DecayedScores};
    use crate::score::Counters;
    use crate::{Metadata, UserId, VideoId};

    fn one(value: &Value) -> DeclaredBoard {
        DeclaredBoards::read(&json!([value])).unwrap().0[0].clone()
    }

    fn video(counters: Counters, trending: f64, category: Option<&str>) -> VideoState {
        VideoState {
            video_id: VideoId::parse("v").unwrap(),
            owner: UserId::parse("o").unwrap(),
            owner_given: false,
            counters,
            last_seq: 0,
            trending,
            corrections: 0,
            decayed: DecayedScores::default(),
            metadata: category.map(|it| Metadata::read(&json!({"category": it, "title": "t"})).unwrap()),
            removed_by: None,
        }
    }

    fn is_on(board: &DeclaredBoard, video: &VideoState) -> bool {
        !board.state_on_board(video.clone(), &CountingRules::default()).is_off_boards()
    }

    #[test]
    fn every_wrong_member_is_named_with_its_board() {
        for (board, word) in [
            (json!("cats"), "all of board 1"),
            (json!({}), "name of board 1 is required"),
            (json!({"name": "Cats"}), "name of board 1"),
            (json!({"name": "2cats"}), "name of board 1"),
            (json!({"name": "c".repeat(33)}), "name of board 1"),
            (json!({"name": "a:b"}), "name of board 1"),
            (json!({"name": "global"}), "name of board 1"),
            (json!({"name": "a", "order": "best"}), "order of board 1"),
            (json!({"name": "a", "half_life": 3}), "\"half_life\""),
            (json!({"name": "a", "halfLifeMinutes": 60}), "halfLifeMinutes of board 1 goes together"),
            (
                json!({"name": "a", "order": "trending", "halfLifeMinutes": 0}),
                "halfLifeMinutes of board 1 must be",
            ),
            (
                json!({"name": "a", "order": "trending", "halfLifeMinutes": 525_601}),
                "halfLifeMinutes of board 1 must be",
            ),
            (
                json!({"name": "a", "order": "trending", "halfLifeMinutes": 1.5}),
                "halfLifeMinutes of board 1 must be",
            ),
            (
                json!({"name": "a", "order": "trending", "halfLifeMinutes": "2h"}),
                "halfLifeMinutes of board 1 must be",
            ),
            (
                json!({"name": "a", "window": "day", "halfLifeMinutes": 60}),
                "halfLifeMinutes of board 1 cannot go together with window",
            ),
            (json!({"name": "a", "weights": 3}), "weights of board 1"),
            (json!({"name": "a", "weights": {}}), "weights of board 1"),
            (json!({"name": "a", "weights": {"like": 0}}), "weights of board 1"),
            (json!({"name": "a", "weights": {"likes": 1}}), "\"likes\""),
            (json!({"name": "a", "weights": {"like": 1001}}), "weights.like of board 1"),
            (json!({"name": "a", "weights": {"like": 0.0001}}), "weights.like of board 1"),
            (json!({"name": "a", "weights": {"like": "1"}}), "weights.like of board 1"),
            (json!({"name": "a", "order": "trending", "weights": {"like": 1}}), "weights of board 1"),
            (json!({"name": "a", "category": " "}), "category of board 1"),
            (json!({"name": "a", "category": "c".repeat(65)}), "category of board 1"),
            (json!({"name": "a", "minimum": -1}), "minimum of board 1"),
            (json!({"name": "a", "minimum": 2e9}), "minimum of board 1"),
            (json!({"name": "a", "window": "month"}), "window of board 1"),
            (json!({"name": "a", "window": 24}), "window of board 1"),
            (
                json!({"name": "a", "window": "day", "order": "trending"}),
                "window of board 1 cannot go together",
            ),
            (json!({"name": "a", "window": "day", "timeZone": "Europe/Bonn"}), "timeZone of board 1"),
            (json!({"name": "a", "timeZone": "UTC"}), "timeZone of board 1"),
            (json!({"name": "a", "keep": 3}), "keep of board 1"),
            (json!({"name": "a", "window": "day", "keep": 1.5}), "keep of board 1"),
            (json!({"name": "a", "window": "day", "keep": 32}), "keep of board 1"),
        ] {
            let error = DeclaredBoards::read(&json!([board.clone()])).unwrap_err();
            assert_eq!(error.field, "boards");
            assert!(error.reason.contains(word), "{board}: {}", error.reason);
        }
        let twice = DeclaredBoards::read(&json!([{"name": "a"}, {"name": "a", "minimum": 1}])).unwrap_err();
        assert!(twice.reason.contains("name of board 2"), "{}", twice.reason);
        let many: Vec<Value> = (0..=MAX_BOARDS).map(|at| json!({"name": format!("b{at}")})).collect();
        assert!(DeclaredBoards::read(&Value::Array(many)).is_err());
        assert!(DeclaredBoards::read(&json!({"name": "a"})).is_err());
    }

    #[test]
    fn windows_of_all_boards_are_bounded_together() {
        let declared = |boards: Vec<Value>| DeclaredBoards::read(&Value::Array(boards));
        let board = |at: usize, zone: &str, keep: usize| json!({"name": format!("b{at}"), "window": "day", "timeZone": zone, "keep": keep});
        let zones = ["UTC", "Europe/Berlin", "Asia/Tokyo", "America/Lima", "Asia/Kolkata"];
        let of = |zones: &[&str]| zones.iter().enumerate().map(|(at, zone)| board(at, zone, 1)).collect();
        assert!(declared(of(&zones[..4])).is_ok());
        let error = declared(of(&zones)).unwrap_err();
        assert!(error.reason.contains("timeZone of all boards"), "{}", error.reason);
        let kept = |last| declared(vec![board(0, "UTC", 31), board(1, "UTC", 31), board(2, "UTC", last)]);
        assert_eq!(kept(2).unwrap().window_kinds(), [BoardWindows { kind: utc_days(), keep: 31 }]);
        assert!(kept(3).unwrap_err().reason.contains("keep of all boards"));
    }

    #[test]
    fn half_lives_of_all_boards_are_bounded_together_and_shared() {
        let board = |at: u64, minutes: u64, weights: Value| json!({"name": format!("b{at}"), "order": "trending", "halfLifeMinutes": minutes, "weights": weights});
        let declared = |boards: Vec<Value>| DeclaredBoards::read(&Value::Array(boards));
        let likes = json!({"like": 1});
        let shared = vec![
            board(0, 60, Value::Null),
            board(1, 60, Value::Null),
            board(2, 60, likes.clone()),
            board(3, 90, likes.clone()),
            board(4, 30, likes.clone()),
        ];
        let decays = declared(shared.clone()).unwrap().decays();
        let names: Vec<String> = decays.iter().map(Decay::to_string).collect();
        assert_eq!(names, ["60", "60 0 1000 0 0 0 0", "90 0 1000 0 0 0 0", "30 0 1000 0 0 0 0"]);
        let fifth = declared(shared.into_iter().chain([board(5, 31, likes)]).collect()).unwrap_err();
        assert!(fifth.reason.contains("halfLifeMinutes of all boards"), "{}", fifth.reason);
    }

    #[test]
    fn a_board_with_a_half_life_shows_its_own_decayed_score() {
        let board =
            one(&json!({"name": "a", "order": "trending", "halfLifeMinutes": 90, "weights": {"like": 2}}));
        let decay = board.decay().unwrap();
        let (likes, mut state) =
            (Counters { likes: 3, views: 9, ..Counters::default() }, video(Counters::default(), 7.0, None));
        state.counters = likes;
        assert!(
            board.state_on_board(state.clone(), &CountingRules::default()).is_off_boards(),
            "nothing of it has decayed yet"
        );
        state.decayed = [DecayedScore { decay, log2: 5.5, events: 3 }].into_iter().collect();
        let shown = board.state_on_board(state, &CountingRules::default());
        assert_eq!((shown.trending.to_bits(), shown.is_off_boards()), (5.5_f64.to_bits(), false));
        let rules = board.rules_of_board(&CountingRules::default());
        assert_eq!((rules.half_life_ms, likes.score(&rules.weights)), (90 * 60_000, 6000));
    }

    fn utc_days() -> WindowKind {
        WindowKind::new(WindowUnit::Day, "UTC").unwrap()
    }

    #[test]
    fn each_window_of_a_board_has_a_key_of_its_own() {
        let board = one(&json!({"name": "a", "window": "day", "keep": 2}));
        assert_eq!(board.windows(), Some(&BoardWindows { kind: utc_days(), keep: 2 }));
        let (now, day) = (1_700_000_000_000, 86_400_000);
        let keys = DeclaredBoards(vec![board.clone(), one(&json!({"name": "b"}))].into()).keys(now);
        let window = |at| board.key_of(&utc_days().window_of(at));
        let plain = one(&json!({"name": "b"})).key();
        assert_eq!(keys, [window(now), window(now - day), window(now - 2 * day), plain]);
        let others = [
            json!({"name": "a"}),
            json!({"name": "a", "window": "week"}),
            json!({"name": "a", "window": "day", "timeZone": "Europe/Berlin"}),
            json!({"name": "a", "window": "day", "category": "x"}),
        ];
        for other in others {
            let other = one(&other);
            let window = other.windows().map(|windows| windows.kind.window_of(now));
            let key = window.map_or_else(|| other.key(), |window| other.key_of(&window));
            assert!(!keys.contains(&key), "{other:?}");
        }
        // The number of kept windows does not make another board.
        let kept = one(&json!({"name": "a", "window": "day", "timeZone": "utc", "keep": 0}));
        assert_eq!(kept.key_of(&utc_days().window_of(now)), window(now));
    }

    #[test]
    fn who_asks_for_a_board_that_is_not_there_is_told_which_are() {
        let names = |value: Value| DeclaredBoards::read(&value).unwrap().unknown_board_error().reason;
        assert_eq!(names(json!([])), "must be global or trending");
        assert_eq!(names(json!([{"name": "cats"}])), "must be global, trending or cats");
    }

    #[test]
    fn another_board_of_the_same_name_has_another_key() {
        let key = |value: Value| one(&value).key();
        let keys = [
            key(json!({"name": "a"})),
            key(json!({"name": "a", "minimum": 1})),
            key(json!({"name": "a", "order": "trending"})),
            key(json!({"name": "a", "order": "trending", "halfLifeMinutes": 60})),
            key(json!({"name": "a", "order": "trending", "halfLifeMinutes": 61})),
            key(json!({"name": "a", "order": "trending", "halfLifeMinutes": 60, "weights": {"like": 1}})),
            key(json!({"name": "a", "weights": {"like": 1}})),
            key(json!({"name": "a", "weights": {"view": 1}})),
            key(json!({"name": "a", "category": "x"})),
            key(json!({"name": "b"})),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "{keys:?}");
        }
        assert_eq!(key(json!({"name": "a"})), key(json!({"name": "a", "order": "points", "minimum": 0})));
        // This key is in every Redis that has such a board: another key would be another board, which is filled anew.
        assert_eq!(key(json!({"name": "a"})), KEY_OF_A);
    }

    const KEY_OF_A: &str = "a:d04adb064166f334";

    #[test]
    fn a_video_is_on_the_board_of_its_category_from_the_minimum_on() {
        let board = one(&json!({"name": "a", "category": "cats", "minimum": 2.5, "weights": {"like": 0.5}}));
        let likes = |likes, category| video(Counters { likes, ..Counters::default() }, 1.0, category);
        assert!(is_on(&board, &likes(5, Some("cats"))));
        assert!(!is_on(&board, &likes(4, Some("cats"))));
        assert!(!is_on(&board, &likes(5, Some("Cats"))) && !is_on(&board, &likes(5, None)));
        let removed = VideoState { removed_by: Some(ActorRole::Owner), ..likes(5, Some("cats")) };
        assert!(!is_on(&board, &removed));
        let trending = one(&json!({"name": "t", "order": "trending"}));
        assert!(is_on(&trending, &likes(0, None)));
        assert!(!is_on(&trending, &video(Counters::default(), f64::NEG_INFINITY, None)));
    }

    proptest! {
        /// A video's line follows from its state, and a board without a condition has every video, with the board's
        /// own points.
        #[test]
        fn points_are_the_sum_of_counts_by_the_board_s_weights(
            counts in proptest::array::uniform6(0..1_000_000_i64), weights in proptest::array::uniform6(0..=1_000_000_i64), minimum in 0..1_000_000_i64,
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let [views, likes, comments, shares, watch_short, watch_long] = counts;
            let counters = Counters { views, likes, comments, shares, watch_short, watch_long, watch_ms: 7 };
            let points = weights.map(|weight| weight as f64 / 1000.0);
            let board = one(&json!({"name": "a", "minimum": minimum, "weights": {
                "view": points[0], "like": points[1], "comment": points[2], "share": points[3], "watch_short": points[4], "watch_long": points[5],
            }}));
            let expected: i64 = counts.iter().zip(weights).map(|(count, weight)| count * weight).sum();
            let state = video(counters, 0.0, None);
            prop_assert_eq!(state.counters.score(&board.rules_of_board(&CountingRules::default()).weights), expected);
            let shown = board.state_on_board(state.clone(), &CountingRules::default());
            prop_assert_eq!(shown.is_off_boards(), expected < minimum * 1000);
            prop_assert_eq!(shown.revision(), state.revision());
        }

        #[test]
        fn nothing_that_is_declared_makes_it_panic(text in "\\PC{0,20}", number in any::<f64>()) {
            let _ = DeclaredBoards::read(&json!([{"name": text, "category": text, "minimum": number}]));
            let _ = DeclaredBoards::read(&json!([{"name": "a", "weights": {"like": number}}]));
        }
    }
}
