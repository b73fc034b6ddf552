//! A declared board: how its declaration is read, which videos are on it, and the name under which stores keep it.

use serde_json::{Map, Value};

use super::members::{WHOLE_BOARD_FIELD, check_known_members, number_member, text_member};
use super::order::BoardOrder;
use super::weights::BoardWeights;
use super::windows::BoardWindows;
use crate::comment::to_hex;
use crate::counting::rules::CountingRules;
use crate::counting::video::VideoState;
use crate::decays::{Decay, MAX_HALF_LIFE_MINUTES};
use crate::digest::sha256;
use crate::metadata::MAX_CATEGORY_CHARS;
use crate::moderation::actor_role::ActorRole;
use crate::score::points_of_thousandths;
use crate::windows::Window;
use crate::{Invalid, Metadata};

/// The longest name of a board, in characters: the name is a part of keys and of addresses.
pub const MAX_NAME_CHARS: usize = 32;
/// The largest minimum that a board may demand of a video, in points.
pub const MAX_MINIMUM_POINTS: f64 = 1e9;
/// The names of the boards that exist without being declared.
pub const BUILT_IN_BOARDS: [&str; 2] = ["global", "trending"];

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

impl DeclaredBoard {
    pub(super) fn from_json(value: &Value) -> Result<Self, Invalid> {
        let Value::Object(given) = value else {
            return Err(Invalid::new(WHOLE_BOARD_FIELD, "must be an object"));
        };
        check_known_members(
            given,
            WHOLE_BOARD_FIELD,
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
        let name = text_member(given, "name")?.ok_or_else(|| Invalid::new("name", "is required"))?;
        check_name(name)?;
        let order = match text_member(given, "order")? {
            None | Some("points") => BoardOrder::Points,
            Some("trending") => BoardOrder::Trending,
            Some(_) => return Err(Invalid::new("order", "must be points or trending")),
        };
        let half_life = parse_half_life_minutes(given, order)?;
        let weights = match given.get("weights") {
            None | Some(Value::Null) => None,
            Some(_) if order == BoardOrder::Trending && half_life.is_none() => {
                let why = "go together with the order trending only where the board has halfLifeMinutes of its own: that of all \
                           is made by the weights of all";
                return Err(Invalid::new("weights", why));
            }
            Some(Value::Object(given)) => Some(BoardWeights::from_json(given)?),
            Some(_) => return Err(Invalid::new("weights", "must be an object")),
        };
        let category = text_member(given, "category")?.map(str::to_owned);
        if category.as_ref().is_some_and(|it| it.trim().is_empty() || it.chars().count() > MAX_CATEGORY_CHARS)
        {
            let wrong = format!("must be 1 to {MAX_CATEGORY_CHARS} characters, not only blanks");
            return Err(Invalid::new("category", wrong));
        }
        let minimum = number_member(given, "minimum")?.unwrap_or(0.0);
        if !(0.0..=MAX_MINIMUM_POINTS).contains(&minimum) {
            return Err(Invalid::new("minimum", format!("must be a number from 0 to {MAX_MINIMUM_POINTS}")));
        }
        let minimum = (minimum * 1000.0).round() as i64;
        let windows = BoardWindows::from_json(given, order)?;
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

    /// Returns the weights of the board's own; `None` if it has those of all boards.
    pub const fn weights(&self) -> Option<BoardWeights> {
        self.weights
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
    pub fn store_key(&self) -> String {
        self.store_key_with_window_name("")
    }

    /// Returns the name under which stores keep one window of the board, as [`Self::store_key`] does for the board.
    pub fn store_key_of_window(&self, window: &Window) -> String {
        let Some(BoardWindows { kind, .. }) = &self.windows else { return self.store_key() };
        self.store_key_with_window_name(&format!("{kind} from {}, ", window.start))
    }

    fn store_key_with_window_name(&self, window: &str) -> String {
        let Self { name, order, weights, category, minimum, windows: _, decay } = self;
        let order = match (order, decay) {
            (BoardOrder::Trending, Some(own)) => format!("trending by {} minutes", own.half_life_minutes()),
            (order, _) => order.name().to_owned(),
        };
        // Each part can be written in one way only, and only the last one may contain any text.
        let weights = weights.map_or_else(|| "those of all".to_owned(), |own| own.to_string());
        let category = category.as_deref().map_or_else(|| "any".to_owned(), |it| format!("of {it}"));
        let content = format!("{order}, from {minimum}, {weights}, {window}{category}");
        format!("{name}:{}", to_hex(&sha256(&content)[..8]))
    }

    /// Returns the board's own counting rules, derived from `rules`, the rules of all boards.
    #[must_use]
    pub fn rules_of_board(&self, rules: &CountingRules) -> CountingRules {
        let weights = self.weights.map_or(rules.weights, |own| own.to_weights(&rules.weights));
        let half_life_ms = self.decay.map_or(rules.half_life_ms, |decay| decay.half_life_ms());
        CountingRules { weights, half_life_ms, ..*rules }
    }

    /// Returns a video's state as seen on this board: marked as removed if the video does not belong there. If the
    /// board has a decay of its own, `trending` is the score by that decay.
    #[must_use]
    pub fn state_on_board(&self, mut video: VideoState, rules: &CountingRules) -> VideoState {
        if let Some(decay) = &self.decay {
            video.trending_log2 = video.decayed_scores.log2_of(decay);
        }
        if !self.includes(&video, rules) {
            video.removed_by = video.removed_by.or(Some(ActorRole::Service));
        }
        video
    }

    fn includes(&self, video: &VideoState, rules: &CountingRules) -> bool {
        let of_category = |category: &String| {
            let metadata = video.metadata.as_ref().map(Metadata::to_value);
            metadata.is_some_and(|it| it["category"].as_str() == Some(category))
        };
        video.counters.score(&self.rules_of_board(rules).weights) >= self.minimum
            && (self.order == BoardOrder::Points || video.trending_log2.is_finite())
            && self.category.as_ref().is_none_or(of_category)
    }
}

/// Reads a board's own half-life in minutes from its declaration; `None` if the declaration gives none.
fn parse_half_life_minutes(given: &Map<String, Value>, order: BoardOrder) -> Result<Option<u64>, Invalid> {
    const FIELD: &str = "halfLifeMinutes";
    let Some(minutes) = number_member(given, FIELD)? else { return Ok(None) };
    if text_member(given, "window")?.is_some() {
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
