//! The weights of a board.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::members::{check_known_members, number_member};
use crate::Invalid;
use crate::score::{Weights, parse_weight, points_of_thousandths};

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
    pub(crate) const fn to_weights(self, all: &Weights) -> Weights {
        let Self { view, like, comment, share, watch_short, watch_long } = self;
        let watch_threshold_ms = all.watch_threshold_ms;
        Weights { view, like, comment, share, watch_short, watch_long, watch_threshold_ms }
    }

    /// Returns the points of one event of each kind, by the kind's name in a declaration.
    pub fn points_by_kind(&self) -> [(&'static str, f64); 6] {
        let Self { view, like, comment, share, watch_short, watch_long } = *self;
        [
            ("view", view),
            ("like", like),
            ("comment", comment),
            ("share", share),
            ("watch_short", watch_short),
            ("watch_long", watch_long),
        ]
        .map(|(kind, thousandths)| (kind, points_of_thousandths(thousandths)))
    }

    /// Reads the weights of a declaration. A kind that is not named is worth nothing.
    pub(super) fn from_json(given: &Map<String, Value>) -> Result<Self, Invalid> {
        check_known_members(
            given,
            "weights",
            &["view", "like", "comment", "share", "watch_short", "watch_long"],
        )?;
        let weight = |field: &'static str, shown: &'static str| {
            let points = number_member(given, field).map_err(|error| Invalid::new(shown, error.reason))?;
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
