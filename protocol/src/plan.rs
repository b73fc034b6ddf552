//! What the planner in the managers decided, as a manager shows it.

use liverank_core::Millis;
use liverank_core::handover::ReaderShare;
use liverank_core::placement::{ChangeKind, ReachedLimit, ViewerBalance};
use serde::{Deserialize, Serialize};

use crate::{MaybeUnknown, OutsideDecision, TermState};

/// Answer of the manager's `GET /plan`: the decisions of planners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// Whether this manager may plan, because it runs with `--autopilot`.
    pub autopilot: bool,
    /// Whether the planner in this manager has the term in force.
    pub leading: bool,
    /// The term in force; null if there never was a planner.
    pub term: Option<TermState>,
    /// The last decisions of the planner in this manager, the latest first.
    pub decisions: Vec<PlannerDecision>,
    /// The last decisions of a planner outside of the managers, as the planner told them, the latest first. Managers of
    /// earlier releases leave this field out.
    #[serde(default)]
    pub outside: Vec<OutsideDecision>,
}

/// One run of the planner in a manager, and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannerDecision {
    /// The time of the decision, in milliseconds since 1970.
    pub at: Millis,
    /// The planner's term.
    pub term: u64,
    /// Number of readers considered.
    pub readers: u64,
    /// Number of videos considered.
    pub videos: u64,
    /// Number of viewers that could be moved within the budget.
    pub budget: u64,
    /// The balance of the viewers over the readers before the plan.
    pub before: ViewerBalance,
    /// The balance of the viewers over the readers after the plan, if all its orders are carried out.
    pub after: ViewerBalance,
    /// Number of viewers that the accepted orders move.
    pub moved: u64,
    /// Number of orders.
    pub chosen_total: u64,
    /// The orders, the most important first; limited in number.
    pub chosen: Vec<ChosenOrder>,
    /// The limits that kept the planner from moving more.
    pub bound_by: Vec<MaybeUnknown<ReachedLimit>>,
    /// Changes that the planner did not make, each with the reason; limited in number.
    pub rejected: Vec<String>,
}

/// One order of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenOrder {
    /// The id of the video.
    pub videoid: String,
    /// The kind of the change.
    pub kind: MaybeUnknown<ChangeKind>,
    /// The readers that serve the video, each with its part of the viewers in millionths.
    pub from: Vec<ReaderShare>,
    /// The readers that are to serve the video, each with its part of the viewers in millionths.
    pub to: Vec<ReaderShare>,
    /// Number of viewers that move.
    pub viewers: u64,
    /// The reason for the order, in words and numbers.
    pub why: String,
    /// The order's number in `GET /moves`, or the reason for which the order was refused; empty in a forecast.
    pub outcome: String,
}
