//! What a manager measures of itself.

use std::cmp::Ordering;
use std::sync::atomic::AtomicU64;

use liverank_core::handover::ReaderShare;
use liverank_protocol::OrderedBy;
use liverank_runtime::{Metrics, label_values};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

label_values! {
    /// Why a video is moved.
    pub enum MoveReason {
        /// A planner outside of the managers wants it.
        Order = "order",
        /// The planner in a manager wants it.
        Autopilot = "autopilot",
        /// Its reader is to be emptied.
        Drain = "drain",
        /// Its reader is gone, or leaves, and somebody asked for the video.
        Replaced = "replaced",
    }
}

label_values! {
    /// How a video's readers change.
    pub enum MoveKind {
        /// The video moved to as many other readers.
        Move = "move",
        /// More than before.
        Split = "split",
        /// Fewer than before.
        Merge = "merge",
        /// The same readers got other shares.
        Reshare = "reshare",
    }
}

label_values! {
    /// How a move went.
    pub enum MoveOutcome {
        /// The assignment is in force.
        InForce = "in_force",
        /// The move was given up.
        Failed = "failed",
    }
}

/// A move, as it is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MoveLabels {
    /// The reason of the move.
    pub reason: MoveReason,
    /// What kind of change.
    pub kind: MoveKind,
    /// How it went.
    pub outcome: MoveOutcome,
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

impl MoveKind {
    /// Its name, as in the metrics' labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Split => "split",
            Self::Merge => "merge",
            Self::Reshare => "reshare",
        }
    }

    /// Returns the kind of a change from the readers `from` to the readers `to`.
    pub fn between(from: &[ReaderShare], to: &[ReaderShare]) -> Self {
        let stays = |share: &ReaderShare| from.iter().any(|before| before.reader == share.reader);
        match to.len().cmp(&from.len()) {
            Ordering::Greater => Self::Split,
            Ordering::Less => Self::Merge,
            Ordering::Equal if to.iter().all(stays) => Self::Reshare,
            Ordering::Equal => Self::Move,
        }
    }
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct ManagerMetrics {
    /// Registrations answered.
    pub registrations_answered: Counter,
    /// Videos given to a reader because they had none.
    pub videos_placed: Counter,
    /// Videos given to another reader because theirs left or died.
    pub videos_moved: Counter,
    /// Assignments of unwatched videos that were let go.
    pub assignments_removed: Counter,
    /// Readers that hold a video ready after they were asked to.
    pub readers_warmed: Counter,
    /// Readers that did not.
    pub warm_failures: Counter,
    /// Requests for a video's reader that none could be named for, or only one that leaves or is silent.
    pub requests_unserved: Counter,
    /// Readers that report themselves and cannot be reached.
    pub readers_unreachable: Gauge,
    /// Orders refused.
    pub orders_refused: Counter,
    /// Plans made.
    pub plans_made: Counter,
    /// Moves of videos by why, what kind of change and how they went.
    pub moves: Family<MoveLabels, Counter>,
    /// Seconds since the heartbeat that is the longest ago, of readers that have not left.
    pub heartbeat_age: Gauge<f64, AtomicU64>,
    /// Viewers that are to be handed over.
    pub in_flight: Gauge,
    /// Readers that still have viewers after the time that a drain may take.
    pub drains_overdue: Gauge,
    /// 1 while the planner in this manager is in office.
    pub is_leading: Gauge,
    /// Heartbeats heard.
    pub heartbeats_heard: Counter,
    /// Heartbeats refused: another reader's, or from where their reader may not be.
    pub heartbeats_refused: Counter,
    /// Loads of all assignments.
    pub assignment_loads: Counter,
    /// Videos assigned.
    pub videos: Gauge,
    /// Readers that take viewers.
    pub readers_open: Gauge,
    /// Readers that are suspect or gone.
    pub readers_silent: Gauge,
    /// 1 while nothing is moved because the view is stale or too many readers seem gone.
    pub moves_suspended: Gauge,
}

/// Whatever a move can be counted as. All are told from the start: a series that begins with its first move shows no increase.
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
    /// Counts a video that was given to another reader because its own cannot be used.
    pub fn count_replaced(&self) {
        let (reason, kind, outcome) = (MoveReason::Replaced, MoveKind::Move, MoveOutcome::InForce);
        self.moves.get_or_create(&MoveLabels { reason, kind, outcome }).inc();
    }

    /// Makes and registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        for labels in possible_moves() {
            drop(all.moves.get_or_create(&labels));
        }
        metrics.register("manager", |registry| {
            let m = all.clone();
            registry.register("registrations", "Registrations answered", m.registrations_answered);
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
            registry.register("viewers_in_flight", "Viewers to be handed over", m.in_flight);
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
        all.count_replaced();
        let told = metrics.encode_text();
        assert!(told.contains(&line(1)), "{told}");
        assert_eq!(told.matches("liverank_manager_moves_total{").count(), 4 * 4 * 2);
    }
}
