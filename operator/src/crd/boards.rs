//! The declaration of boards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Decimal, rules};

/// A board beside `global` and `trending`. It is filled from the archive while the system serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::board()))]
pub struct Board {
    /// The board's name in `board=`: small letters, digits and hyphens.
    #[schemars(length(max = 32), regex(pattern = r"^[a-z][a-z0-9-]*$"))]
    pub name: String,
    /// The order of the videos: by Points, or Trending (as on the board `trending`).
    #[serde(default)]
    pub order: BoardOrder,
    /// The points of each type of interaction; types that are not named are worth nothing. The weights of `scoring`
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BoardWeights>,
    /// Only videos whose metadata have this `category`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub category: Option<String>,
    /// The points from which a video is on the board.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub minimum: i64,
    /// The minutes after which an interaction counts half; only with the order Trending. The half-life of `scoring`
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 525_600))]
    pub half_life_minutes: Option<i64>,
    /// The length of the board's windows; no windows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<BoardWindow>,
    /// The time zone of the board's windows, by its IANA name; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// The number of past windows that can still be read; 7 when absent. At most 64 of all boards together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31))]
    pub keep: Option<i64>,
}

/// The length of a board's windows: the board counts from zero in each. Not with the order Trending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BoardWindow {
    /// An hour of the clock.
    Hour,
    /// A day: 23 or 25 hours long if the clocks change in it.
    Day,
    /// A week, from Monday on.
    Week,
}

/// The order of a board's videos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BoardOrder {
    /// By points, the most first.
    #[default]
    Points,
    /// By the decayed score, as on the board `trending`.
    Trending,
}

/// The points that each type of interaction is worth on a board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BoardWeights {
    /// Points of one view.
    pub view: Decimal,
    /// Points of one like.
    pub like: Decimal,
    /// Points of one comment.
    pub comment: Decimal,
    /// Points of one share.
    pub share: Decimal,
    /// Points of one watch that is shorter than the threshold of `scoring`.
    pub watch_time_short: Decimal,
    /// Points of one watch of the threshold or more.
    pub watch_time_long: Decimal,
}

impl Board {
    /// Returns the declaration of the board as an entry of the flag `--boards`.
    pub fn declaration(&self) -> Value {
        let order = match self.order {
            BoardOrder::Points => "points",
            BoardOrder::Trending => "trending",
        };
        let mut board = json!({ "name": self.name, "order": order, "minimum": self.minimum });
        if let Some(weights) = &self.weights {
            // The fields are named, so that the compiler finds a weight that is not in the declaration.
            let BoardWeights { view, like, comment, share, watch_time_short, watch_time_long } = weights;
            board["weights"] = json!({
                "view": view.as_f64(),
                "like": like.as_f64(),
                "comment": comment.as_f64(),
                "share": share.as_f64(),
                "watch_short": watch_time_short.as_f64(),
                "watch_long": watch_time_long.as_f64(),
            });
        }
        if let Some(category) = &self.category {
            board["category"] = json!(category);
        }
        if let Some(minutes) = self.half_life_minutes {
            board["halfLifeMinutes"] = json!(minutes);
        }
        if let Some(window) = self.window {
            board["window"] = json!(match window {
                BoardWindow::Hour => "hour",
                BoardWindow::Day => "day",
                BoardWindow::Week => "week",
            });
        }
        if let Some(zone) = &self.time_zone {
            board["timeZone"] = json!(zone);
        }
        if let Some(keep) = self.keep {
            board["keep"] = json!(keep);
        }
        board
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::Kind;
    use liverank_core::counting::UniqueKinds;
    use liverank_core::score::Weights;

    use super::*;
    use crate::crd::scoring::UniqueType;

    #[test]
    fn a_board_of_the_resource_can_have_every_weight_of_core() {
        let mut weights = serde_json::to_value(BoardWeights::default()).unwrap();
        for points in weights.as_object_mut().unwrap().values_mut() {
            *points = json!(1);
        }
        let board: Board = serde_json::from_value(json!({"name": "a", "weights": weights})).unwrap();
        let declared = board.declaration()["weights"].clone();
        let all = serde_json::to_value(Weights::default()).unwrap();
        for name in all.as_object().unwrap().keys().filter(|name| *name != "watch_threshold_ms") {
            assert_eq!(declared[name], json!(1.0), "BoardWeights in operator/src/crd/boards.rs lacks {name}");
        }
    }

    #[test]
    fn the_resource_has_the_types_that_core_can_count_once_per_user() {
        for kind in Kind::ALL {
            let of_core = kind.name().parse::<UniqueKinds>().is_ok();
            let of_resource = serde_json::from_value::<UniqueType>(json!(kind.name())).is_ok();
            assert_eq!(of_resource, of_core, "{}: UniqueType in operator/src/crd/scoring.rs", kind.name());
        }
    }
}
