//! What a manager measures of itself.

use liverank_runtime::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct ManagerMetrics {
    /// Registrations answered.
    pub registrations: Counter,
    /// Videos given to a reader because they had none.
    pub placed: Counter,
    /// Videos given to another reader because theirs left or died.
    pub moved: Counter,
    /// Assignments of unwatched videos that were let go.
    pub removed: Counter,
    /// Readers that hold a video ready after they were asked to.
    pub warmed: Counter,
    /// Readers that did not.
    pub warm_failures: Counter,
    /// Requests for a video's reader that none could be named for, or only one that leaves or is silent.
    pub unserved: Counter,
    /// Readers that report themselves and cannot be reached.
    pub readers_unreachable: Gauge,
    /// Orders refused.
    pub orders_refused: Counter,
    /// Plans made.
    pub plans: Counter,
    /// Viewers that are to be handed over.
    pub in_flight: Gauge,
    /// 1 while the planner in this manager is in office.
    pub leading: Gauge,
    /// Heartbeats heard.
    pub heartbeats: Counter,
    /// Heartbeats refused: another reader's, or from where their reader may not be.
    pub heartbeats_refused: Counter,
    /// Loads of all assignments.
    pub loads: Counter,
    /// Videos assigned.
    pub videos: Gauge,
    /// Readers that take viewers.
    pub readers_open: Gauge,
    /// Readers that are suspect or gone.
    pub readers_silent: Gauge,
    /// 1 while nothing is moved because the view is stale or too many readers seem gone.
    pub moves_suspended: Gauge,
}

impl ManagerMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        metrics.register("manager", |registry| {
            let m = all.clone();
            registry.register("registrations", "Registrations answered", m.registrations);
            registry.register("videos_placed", "Videos given to a reader", m.placed);
            registry.register("videos_moved", "Videos given to another reader", m.moved);
            registry.register("videos_removed", "Unwatched videos let go", m.removed);
            registry.register("heartbeats", "Heartbeats heard", m.heartbeats);
            registry.register("heartbeats_refused", "Heartbeats refused", m.heartbeats_refused);
            registry.register("warmed", "Videos that a reader holds ready, as asked", m.warmed);
            registry.register("warm_failures", "Videos that a reader did not make ready", m.warm_failures);
            registry.register(
                "unserved",
                "Requests that no reader that takes viewers could be named for",
                m.unserved,
            );
            registry.register(
                "readers_unreachable",
                "Readers that report themselves and cannot be reached",
                m.readers_unreachable,
            );
            registry.register("orders_refused", "Orders refused", m.orders_refused);
            registry.register("plans", "Plans made", m.plans);
            registry.register("viewers_in_flight", "Viewers to be handed over", m.in_flight);
            registry.register("leading", "1 while its planner is in office", m.leading);
            registry.register("loads", "Loads of all assignments", m.loads);
            registry.register("videos", "Videos assigned", m.videos);
            registry.register("readers_open", "Readers that take viewers", m.readers_open);
            registry.register("readers_silent", "Readers that are suspect or gone", m.readers_silent);
            registry.register("moves_suspended", "1 while no video is moved", m.moves_suspended);
        });
        all
    }
}
