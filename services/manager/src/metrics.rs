//! The metrics of a manager.

use std::sync::atomic::AtomicU64;

use liverank_protocol::OrderedBy;
use liverank_runtime::{Metrics, label_values};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::registrations::UsedShare;

label_values! {
    /// The reason for which a video is moved.
    pub enum MoveReason {
        /// A planner outside of the managers ordered the move.
        Order = "order",
        /// The planner in a manager ordered the move.
        Autopilot = "autopilot",
        /// The video's reader has to be emptied.
        Drain = "drain",
        /// The video's reader is gone or leaves, and somebody asked for the video.
        Replaced = "replaced",
    }
}

label_values! {
    /// The kind of change of a video's readers.
    pub enum MoveKind {
        /// The video moved to as many other readers.
        Move = "move",
        /// The video has more readers than before.
        Split = "split",
        /// The video has fewer readers than before.
        Merge = "merge",
        /// The same readers got other shares.
        Reshare = "reshare",
    }
}

label_values! {
    /// The outcome of a move.
    pub enum MoveOutcome {
        /// The new assignment is in force.
        InForce = "in_force",
        /// The move was given up.
        Failed = "failed",
    }
}

/// The labels with which a move is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MoveLabels {
    /// The reason of the move.
    pub reason: MoveReason,
    /// The kind of change.
    pub kind: MoveKind,
    /// The outcome of the move.
    pub outcome: MoveOutcome,
}

/// The label with which a new video that was not registered is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// The share that was used up.
    pub share: UsedShare,
}

impl From<OrderedBy> for MoveReason {
    fn from(by: OrderedBy) -> Self {
        match by {
            OrderedBy::Order => Self::Order,
            OrderedBy::Autopilot => Self::Autopilot,
            OrderedBy::Drain => Self::Drain,
        }
    }
}

impl From<liverank_protocol::MoveKind> for MoveKind {
    fn from(kind: liverank_protocol::MoveKind) -> Self {
        match kind {
            liverank_protocol::MoveKind::Move => Self::Move,
            liverank_protocol::MoveKind::Split => Self::Split,
            liverank_protocol::MoveKind::Merge => Self::Merge,
            liverank_protocol::MoveKind::Reshare => Self::Reshare,
        }
    }
}

/// The metrics of a manager. Cheap to clone: all clones share the same counters.
#[derive(Clone, Default)]
pub struct ManagerMetrics {
    /// Requests to register a video that were answered.
    pub registrations_answered: Counter,
    /// New videos that were not registered, by the share that was used up.
    pub registrations_refused: Family<RefusalLabels, Counter>,
    /// Videos given to a reader because they had none.
    pub videos_placed: Counter,
    /// Videos given to other readers: by a move, or because their reader left or died.
    pub videos_moved: Counter,
    /// Assignments of unwatched videos that were removed.
    pub assignments_removed: Counter,
    /// Requests to keep a video ready that a reader fulfilled.
    pub readers_warmed: Counter,
    /// Requests to keep a video ready that a reader did not fulfil.
    pub warm_failures: Counter,
    /// Requests for a video's reader for which no reader could be named, or only one that leaves or is silent.
    pub requests_unserved: Counter,
    /// The number of readers that send heartbeats and cannot be reached.
    pub readers_unreachable: Gauge,
    /// Planners' orders that were refused.
    pub orders_refused: Counter,
    /// Plans made by the planner in this manager.
    pub plans_made: Counter,
    /// Moves of videos, by reason, kind of change and outcome.
    pub moves: Family<MoveLabels, Counter>,
    /// The age of the oldest last heartbeat of any reader that has not left, in seconds.
    pub heartbeat_age: Gauge<f64, AtomicU64>,
    /// The number of viewers that are still to be handed over.
    pub viewers_to_hand_over: Gauge,
    /// The number of readers that still have viewers after the time limit of a drain.
    pub drains_overdue: Gauge,
    /// 1 while the planner in this manager has the term, otherwise 0.
    pub is_leading: Gauge,
    /// Heartbeats received and accepted.
    pub heartbeats_heard: Counter,
    /// Heartbeats refused: for another reader, or with an address that is not permitted for the reader.
    pub heartbeats_refused: Counter,
    /// Loads of all assignments from the store.
    pub assignment_loads: Counter,
    /// The number of assigned videos.
    pub videos: Gauge,
    /// The number of readers that accept viewers.
    pub readers_open: Gauge,
    /// The number of readers that are suspect or gone.
    pub readers_silent: Gauge,
    /// 1 while nothing is moved because the view is stale or too many readers seem gone.
    pub moves_suspended: Gauge,
}

/// Returns every combination of labels with which a move can be counted. All series exist from the start, because a
/// series that begins with its first move shows no increase.
fn possible_moves() -> impl Iterator<Item = MoveLabels> {
    use {MoveKind as Kind, MoveReason as Reason};
    let reasons = [Reason::Order, Reason::Autopilot, Reason::Drain, Reason::Replaced];
    let kinds = [Kind::Move, Kind::Split, Kind::Merge, Kind::Reshare];
    reasons.into_iter().flat_map(move |reason| {
        kinds.into_iter().flat_map(move |kind| {
            [MoveOutcome::InForce, MoveOutcome::Failed].map(|outcome| MoveLabels { reason, kind, outcome })
        })
    })
}

impl ManagerMetrics {
    /// Counts a video that was given to another reader because its own reader cannot be used.
    pub fn count_reader_replacement(&self) {
        let (reason, kind, outcome) = (MoveReason::Replaced, MoveKind::Move, MoveOutcome::InForce);
        self.moves.get_or_create(&MoveLabels { reason, kind, outcome }).inc();
    }

    /// Counts a new video that was not registered because `share` is used up.
    pub fn count_refused_registration(&self, share: UsedShare) {
        self.registrations_refused.get_or_create(&RefusalLabels { share }).inc();
    }

    /// Makes the metrics and registers them under `liverank_manager_…`.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        for labels in possible_moves() {
            drop(all.moves.get_or_create(&labels));
        }
        for share in [UsedShare::Address, UsedShare::Reader] {
            drop(all.registrations_refused.get_or_create(&RefusalLabels { share }));
        }
        metrics.register("manager", |registry| {
            let m = all.clone();
            registry.register("registrations", "Registrations answered", m.registrations_answered);
            registry.register(
                "registrations_refused",
                "New videos not registered, by whose share is used up: the address's or the reader's",
                m.registrations_refused,
            );
            registry.register("videos_placed", "Videos given to a reader", m.videos_placed);
            registry.register("videos_moved", "Videos given to another reader", m.videos_moved);
            registry.register("videos_removed", "Unwatched videos let go", m.assignments_removed);
            registry.register("heartbeats", "Heartbeats heard", m.heartbeats_heard);
            registry.register("heartbeats_refused", "Heartbeats refused", m.heartbeats_refused);
            registry.register("warmed", "Videos that a reader holds ready, as asked", m.readers_warmed);
            registry.register("warm_failures", "Videos that a reader did not make ready", m.warm_failures);
            registry.register(
                "unserved",
                "Requests that no reader that takes viewers could be named for",
                m.requests_unserved,
            );
            registry.register(
                "readers_unreachable",
                "Readers that report themselves and cannot be reached",
                m.readers_unreachable,
            );
            registry.register("orders_refused", "Orders refused", m.orders_refused);
            registry.register("plans", "Plans made", m.plans_made);
            registry.register("moves", "Moves of videos by why, kind and outcome", m.moves);
            let age = "Time since the heartbeat that is the longest ago";
            registry.register("heartbeat_age_seconds", age, m.heartbeat_age);
            registry.register("viewers_in_flight", "Viewers to be handed over", m.viewers_to_hand_over);
            registry.register(
                "drains_overdue",
                "Readers that have viewers after the time that a drain may take, with the autopilot",
                m.drains_overdue,
            );
            registry.register("leading", "1 while its planner is in office", m.is_leading);
            registry.register("loads", "Loads of all assignments", m.assignment_loads);
            registry.register("videos", "Videos assigned", m.videos);
            registry.register("readers_open", "Readers that take viewers", m.readers_open);
            registry.register("readers_silent", "Readers that are suspect or gone", m.readers_silent);
            registry.register("moves_suspended", "1 while no video is moved", m.moves_suspended);
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_move_of_each_kind_is_an_increase() {
        let metrics = Metrics::default();
        let all = ManagerMetrics::new(&metrics);
        let line = |count| {
            let labels = r#"reason="replaced",kind="move",outcome="in_force""#;
            format!("liverank_manager_moves_total{{{labels}}} {count}\n")
        };
        let told = metrics.encode_text();
        assert!(told.contains(&line(0)), "{told}");
        assert_eq!(told.matches("liverank_manager_moves_total{").count(), 4 * 4 * 2);
        all.count_reader_replacement();
        let told = metrics.encode_text();
        assert!(told.contains(&line(1)), "{told}");
        assert_eq!(told.matches("liverank_manager_moves_total{").count(), 4 * 4 * 2);
    }
}
