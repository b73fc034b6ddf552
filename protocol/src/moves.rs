//! What planners order: terms, moves and cordons, and what becomes of them.

use liverank_core::handover::{CordonLevel, PlannerLease, ReaderShare};
use liverank_core::{ReaderId, VideoId};
use serde::{Deserialize, Serialize};

use crate::{MaybeUnknown, OutsideDecision};

/// The term of the planner in office, as a manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermState {
    /// The number of the term, which orders carry.
    pub term: u64,
    /// The name of the planner; empty if it is not known any more.
    pub holder: String,
    /// The Kubernetes lease that the planner showed last; absent if the planner has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<PlannerLease>,
}

/// Body of the manager's `POST /term`: begins a planner's term, or renews it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRequest {
    /// The name of the planner that wants to plan.
    pub holder: String,
    /// The term that has to be in force for a new one to begin (0: none). If absent, a new term begins whichever term
    /// is in force.
    #[serde(default)]
    pub expected: Option<u64>,
    /// The term to renew: its planner is still there. A renewal begins no new term.
    #[serde(default)]
    pub renew: Option<u64>,
    /// The lease by which the planner may plan. The request is refused if the term in force was begun with a later
    /// transition of the same lease.
    pub lease: PlannerLease,
    /// The planner's last decisions, the latest first, at most
    /// [`MAX_OUTSIDE_DECISIONS`](crate::MAX_OUTSIDE_DECISIONS). A manager shows them; the list replaces the one before. Planners of earlier releases leave this field out, and so does a planner that has
    /// nothing to tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<OutsideDecision>,
}

/// Body of the manager's `POST /moves`: a planner's orders to move videos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesRequest {
    /// The term of the planner.
    pub term: u64,
    /// The lease by which the planner may plan.
    pub lease: PlannerLease,
    /// The moves to make.
    pub moves: Vec<MoveRequest>,
}

/// One order to change a video's readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRequest {
    /// The video to move.
    pub videoid: VideoId,
    /// The assignment epoch that the planner believes to be in force.
    pub expected: u64,
    /// The readers that are to serve the video, with their shares.
    pub readers: Vec<ReaderShare>,
    /// The reason for the move, in the planner's words.
    #[serde(default)]
    pub why: String,
}

/// The manager's first answer to one move order: accepted or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveAnswer {
    /// The video of the order.
    pub videoid: VideoId,
    /// The HTTP status for this order: 202 if it is being carried out; 409 or 503 as for whole requests.
    pub status: u16,
    /// The number of the move in `GET /moves`; absent if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The assignment epoch in force, if it is not the expected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The reason for the refusal; absent if the order was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Answer of the manager's `POST /moves`, if at least one order was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveAnswers {
    /// The answer to each order, in the order of the request.
    pub moves: Vec<MoveAnswer>,
}

/// Answer of the manager's `GET /moves`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesAnswer {
    /// The moves that this manager carries out now, or finished lately, latest first.
    pub moves: Vec<MoveState>,
    /// Number of viewers that are to be handed over and are still at their old reader, over the moves of all managers.
    pub in_flight: u64,
    /// Maximum number of viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
}

/// The phase of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovePhase {
    /// The move waits until the budget of moved viewers has room.
    Waiting,
    /// The new readers are asked to load the video's recent comments.
    Warming,
    /// The new assignment is in force, and viewers go to the new readers.
    HandingOver,
    /// All viewers are moved.
    Done,
    /// The move was given up. If the new assignment was not in force yet, nothing has changed.
    Failed,
}

impl std::fmt::Display for MovePhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Warming => "warming",
            Self::HandingOver => "handing_over",
            Self::Done => "done",
            Self::Failed => "failed",
        })
    }
}

/// The source of a move's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderedBy {
    /// A planner outside of the managers, by `POST /moves`.
    Order,
    /// The planner in one of the managers.
    Autopilot,
    /// A manager, because it has to empty a reader.
    Drain,
}

impl std::fmt::Display for OrderedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Order => "order",
            Self::Autopilot => "autopilot",
            Self::Drain => "drain",
        })
    }
}

/// A move and its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveState {
    /// The number of the move at this manager.
    pub id: u64,
    /// The video that is moved.
    pub videoid: VideoId,
    /// The phase of the move.
    pub state: MaybeUnknown<MovePhase>,
    /// The readers that served the video before, with their shares.
    pub from: Vec<ReaderShare>,
    /// The readers that are to serve the video, with their shares.
    pub to: Vec<ReaderShare>,
    /// The assignment epoch on which the move was ordered; once the new assignment is in force, its epoch.
    pub epoch: u64,
    /// Number of viewers to be moved when the move began.
    pub viewers: u64,
    /// Number of viewers still to be moved.
    pub left: u64,
    /// The source of the order.
    pub by: MaybeUnknown<OrderedBy>,
    /// The reason for which the move was ordered.
    pub why: String,
    /// The planner's term under which the move was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The reason for which the move was given up; absent if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Milliseconds since the move was ordered.
    pub age_ms: u64,
}

/// Body of the manager's `POST /cordons`: a planner's orders to close or to open readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonsRequest {
    /// The term of the planner.
    pub term: u64,
    /// The lease by which the planner may plan.
    pub lease: PlannerLease,
    /// The cordons to set or to lift.
    pub cordons: Vec<CordonRequest>,
}

/// An order that closes a reader for new viewers, or opens it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonRequest {
    /// The reader to close or to open.
    pub reader: ReaderId,
    /// The level at which the reader is closed; absent or null if it is open again.
    #[serde(default)]
    pub cordon: Option<MaybeUnknown<CordonLevel>>,
    /// The reason for the cordon, in the planner's words.
    #[serde(default)]
    pub why: String,
}

/// Answer of the manager's `GET` and `POST /cordons`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonsAnswer {
    /// The cordons of all closed readers.
    pub cordons: Vec<CordonRequest>,
}
