//! What a planner outside of the managers decided, told to the managers for the people who look after the system.

use serde::{Deserialize, Serialize};

/// Maximum number of decisions in one request, and of those that a manager remembers.
pub const MAX_OUTSIDE_DECISIONS: usize = 10;
/// Maximum number of entries in each list of a decision. A `RankingCluster`'s status has as many.
pub const MAX_DECISION_LINES: usize = 10;

/// A decision of a planner outside of the managers, such as the operator. A manager shows such a decision and does not
/// act on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideDecision {
    /// The decision's name; the event about the decision has the same name.
    pub id: String,
    /// The time of the decision, in milliseconds since 1970, by the planner's clock.
    pub at: i64,
    /// The action that was decided, such as `ScaleUp`, `Hold` or `Rebalance`. Later releases may add others.
    pub action: String,
    /// The reason for the decision, in words and numbers.
    pub reason: String,
    /// The limits that restricted the decision, the tightest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_by: Vec<String>,
    /// The readers or moves that were chosen, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<String>,
    /// The choices that were rejected, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<String>,
}

impl OutsideDecision {
    /// Returns all texts of the decision, each with the name of its field.
    pub fn named_texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let single = [
            ("decisions.id", &self.id),
            ("decisions.action", &self.action),
            ("decisions.reason", &self.reason),
        ];
        let lists = [
            ("decisions.bound_by", &self.bound_by),
            ("decisions.chosen", &self.chosen),
            ("decisions.rejected", &self.rejected),
        ];
        let lists = lists.into_iter().flat_map(|(name, lines)| lines.iter().map(move |line| (name, line)));
        single.into_iter().chain(lists).map(|(name, text)| (name, text.as_str()))
    }
}
