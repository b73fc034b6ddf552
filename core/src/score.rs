//! Scores of videos, in integers (counts, milliseconds and thousandths of a point), so that no order of events and no
//! regrouping of batches changes a sum.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Interaction, Invalid, Kind};

/// The largest weight accepted, in points.
pub const MAX_WEIGHT: f64 = 1000.0;

/// The points that an interaction of each kind adds to a score, in thousandths of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// The worth of one view, in thousandths of a point.
    pub view: i64,
    /// The worth of one like, in thousandths of a point.
    pub like: i64,
    /// The worth of one comment, in thousandths of a point.
    pub comment: i64,
    /// The worth of one share, in thousandths of a point.
    pub share: i64,
    /// The worth of one watch that is shorter than `watch_threshold_ms`, in thousandths of a point.
    pub watch_short: i64,
    /// The worth of one watch of `watch_threshold_ms` or more, in thousandths of a point.
    pub watch_long: i64,
    /// The duration from which a watch counts as long, in milliseconds.
    pub watch_threshold_ms: u64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            view: 1000,
            like: 2000,
            comment: 2000,
            share: 3000,
            watch_short: 1000,
            watch_long: 2000,
            watch_threshold_ms: 2000,
        }
    }
}

impl Weights {
    /// Returns the weights in points, and the threshold in milliseconds, as a JSON object whose members have the names of
    /// the fields.
    pub fn to_json(&self) -> Value {
        let Self { view, like, comment, share, watch_short, watch_long, watch_threshold_ms } = *self;
        let points = points_of_thousandths;
        json!({
            "view": points(view), "like": points(like), "comment": points(comment), "share": points(share),
            "watch_short": points(watch_short), "watch_long": points(watch_long),
            "watch_threshold_ms": watch_threshold_ms,
        })
    }

    /// Reads weights as [`Weights::to_json`] writes them. `None` if a member is missing or is no such number, or if there is
    /// a member that this release does not know: a score then has a part that it cannot compute.
    pub fn from_json(value: &Value) -> Option<Self> {
        let weight = |field: &'static str| parse_weight(field, value[field].as_f64()?).ok();
        let read = Self {
            view: weight("view")?,
            like: weight("like")?,
            comment: weight("comment")?,
            share: weight("share")?,
            watch_short: weight("watch_short")?,
            watch_long: weight("watch_long")?,
            watch_threshold_ms: value["watch_threshold_ms"].as_u64()?,
        };
        (read.to_json().as_object()?.len() == value.as_object()?.len()).then_some(read)
    }
}

/// Converts a weight of 0 to 1000 points with at most three decimal places to thousandths of a point.
pub fn parse_weight(field: &'static str, points: f64) -> Result<i64, Invalid> {
    if !points.is_finite() || !(0.0..=MAX_WEIGHT).contains(&points) {
        return Err(Invalid::new(field, "must be a number from 0 to 1000"));
    }
    let thousandths = (points * 1000.0).round();
    if (points * 1000.0 - thousandths).abs() > 1e-6 {
        return Err(Invalid::new(field, "must have at most three decimal places"));
    }
    Ok(thousandths as i64)
}

/// The counters of a video: how often each kind of interaction happened, less what was taken back. Counters are sums
/// only, so merging two of them is addition. A counter that a stored document does not have yet is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// The number of views.
    pub views: i64,
    /// The number of likes.
    pub likes: i64,
    /// The number of comments.
    pub comments: i64,
    /// The number of shares.
    pub shares: i64,
    /// The total watch time, in milliseconds.
    pub watch_ms: i64,
    /// The number of watches that were shorter than the threshold in force when they were counted.
    pub watch_short: i64,
    /// The number of watches that were as long as the threshold in force, or longer.
    pub watch_long: i64,
}

impl Counters {
    /// Counts one interaction. Moderation, unlikes and unshares change nothing here.
    pub fn count_event(&mut self, event: &Interaction, weights: &Weights) {
        match event.kind {
            Kind::View => self.views += 1,
            Kind::Like => self.likes += 1,
            Kind::Comment => self.comments += 1,
            Kind::Share => self.shares += 1,
            // Whether a like or share is taken back depends on what has counted before: [`Counters::uncount_event`].
            Kind::Moderation | Kind::Unlike | Kind::Unshare => {}
            Kind::WatchTime => {
                self.watch_ms += event.watch_ms as i64;
                if event.watch_ms < weights.watch_threshold_ms {
                    self.watch_short += 1;
                } else {
                    self.watch_long += 1;
                }
            }
        }
    }

    /// Adds other counters to these.
    pub const fn merge(&mut self, others: &Self) {
        let Self { views, likes, comments, shares, watch_ms, watch_short, watch_long } = *others;
        self.views += views;
        self.likes += likes;
        self.comments += comments;
        self.shares += shares;
        self.watch_ms += watch_ms;
        self.watch_short += watch_short;
        self.watch_long += watch_long;
    }

    /// Subtracts one interaction of a kind that can be taken back (like or share, see [`Kind::kind_taken_back`]).
    pub const fn uncount_event(&mut self, kind: Kind) {
        match kind {
            Kind::Like => self.likes -= 1,
            Kind::Share => self.shares -= 1,
            _ => {}
        }
    }

    /// Returns the part of the score that comes from watching alone, in thousandths of a point.
    pub const fn watch_score(&self, weights: &Weights) -> i64 {
        self.watch_short * weights.watch_short + self.watch_long * weights.watch_long
    }

    /// Returns the whole score, in thousandths of a point.
    pub const fn score(&self, weights: &Weights) -> i64 {
        // The fields are named, so that the compiler finds a counter that is not in the sum. Both watch counters are
        // in `watch_score`.
        let Self { views, likes, comments, shares, watch_ms: _, watch_short: _, watch_long: _ } = *self;
        views * weights.view
            + likes * weights.like
            + comments * weights.comment
            + shares * weights.share
            + self.watch_score(weights)
    }
}

/// Returns the score that one interaction adds to a video, in thousandths of a point.
pub fn thousandths_added(event: &Interaction, weights: &Weights) -> i64 {
    let mut one = Counters::default();
    one.count_event(event, weights);
    one.score(weights)
}

/// Converts thousandths of a point to the number that clients see.
pub fn points_of_thousandths(thousandths: i64) -> f64 {
    thousandths as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event(kind: &str, watch: f64) -> Interaction {
        let value = json!({"video_id": "v", "user_id": "u", "type": kind, "watch_time": watch});
        Interaction::parse(&value, 0).unwrap()
    }

    #[test]
    fn every_weight_of_three_places_is_read_exactly() {
        for thousandths in 0..=1_000_000_i64 {
            let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            assert_eq!(parse_weight("weight", text.parse().unwrap()), Ok(thousandths), "{text}");
        }
    }

    #[test]
    fn the_default_weights_are_the_documented_ones() {
        let weights = Weights::default();
        let worths: Vec<f64> = ["view", "like", "comment", "share"]
            .map(|kind| points_of_thousandths(thousandths_added(&event(kind, 0.0), &weights)))
            .into();
        assert_eq!(worths, [1.0, 2.0, 2.0, 3.0]);
        assert_eq!(thousandths_added(&event("watch_time", 1.999), &weights), 1000);
        assert_eq!(thousandths_added(&event("watch_time", 2.0), &weights), 2000);
    }

    #[test]
    fn weights_are_read_as_they_are_written_and_unknown_ones_are_not() {
        let weights = Weights { view: 1_500, watch_threshold_ms: 900, ..Weights::default() };
        let written = weights.to_json();
        assert_eq!((&written["view"], &written["like"]), (&json!(1.5), &json!(2.0)));
        assert_eq!(Weights::from_json(&written), Some(weights));
        let mut later = written.clone();
        later["save"] = json!(4.0);
        assert_eq!(Weights::from_json(&later), None, "a later release has a weight more");
        for field in written.as_object().unwrap().keys() {
            let mut without = written.clone();
            without.as_object_mut().unwrap().remove(field);
            assert_eq!(Weights::from_json(&without), None, "{field}");
        }
    }

    #[test]
    fn a_kind_moves_its_own_counters_only() {
        let mut counters = Counters::default();
        counters.count_event(&event("like", 9.0), &Weights::default());
        assert_eq!(counters, Counters { likes: 1, ..Counters::default() });
        counters.count_event(&event("watch_time", 9.0), &Weights::default());
        assert_eq!(counters, Counters { likes: 1, watch_ms: 9000, watch_long: 1, ..Counters::default() });
    }

    #[test]
    fn weights_have_three_places_and_a_range() {
        assert_eq!(parse_weight("view", 0.125), Ok(125));
        assert_eq!(parse_weight("view", 1000.0), Ok(1_000_000));
        for bad in [-1.0, 1000.001, f64::NAN, 0.0005] {
            assert_eq!(parse_weight("view", bad).unwrap_err().field, "view");
        }
    }

    proptest! {
        #[test]
        fn no_order_of_events_changes_the_score(
            mut kinds in proptest::collection::vec((0..Kind::ALL.len(), 0u64..5000), 0..60), seed in any::<u64>(),
        ) {
            let weights = Weights { like: 333, watch_short: 7, ..Weights::default() };
            let total = |kinds: &[(usize, u64)]| {
                let mut counters = Counters::default();
                for (kind, ms) in kinds {
                    counters.count_event(&event(Kind::ALL[*kind].name(), *ms as f64 / 1000.0), &weights);
                }
                (counters, counters.score(&weights))
            };
            let before = total(&kinds);
            let split: i64 = kinds.iter()
                .map(|(kind, ms)| thousandths_added(&event(Kind::ALL[*kind].name(), *ms as f64 / 1000.0), &weights)).sum();
            prop_assert_eq!(before.1, split);
            let len = kinds.len().max(1);
            kinds.rotate_left(seed as usize % len);
            kinds.reverse();
            prop_assert_eq!(before, total(&kinds));
        }
    }
}
