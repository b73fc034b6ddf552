//! The weights, as the meta document stores them.

use liverank_core::score::Weights;
use serde::{Deserialize, Serialize};

/// The weights in thousandths of a point: integers, as counting uses them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsDoc {
    view: i64,
    like: i64,
    comment: i64,
    share: i64,
    watch_short: i64,
    watch_long: i64,
    watch_threshold_ms: i64,
}

impl WeightsDoc {
    pub const fn of(weights: &Weights) -> Self {
        Self {
            view: weights.view,
            like: weights.like,
            comment: weights.comment,
            share: weights.share,
            watch_short: weights.watch_short,
            watch_long: weights.watch_long,
            watch_threshold_ms: weights.watch_threshold_ms as i64,
        }
    }

    pub const fn weights(&self) -> Weights {
        Weights {
            view: self.view,
            like: self.like,
            comment: self.comment,
            share: self.share,
            watch_short: self.watch_short,
            watch_long: self.watch_long,
            watch_threshold_ms: self.watch_threshold_ms as u64,
        }
    }
}
