//! What a comment service measures of itself.

use liverank_runtime::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct CommentMetrics {
    /// Comments that the log has.
    pub acknowledged: Counter,
    /// Posts answered with the comment that an earlier one made.
    pub repeated: Counter,
    /// Posts turned away because the log is away.
    pub unavailable: Counter,
    /// Comments refused because their user is banned or muted.
    pub restricted: Counter,
    /// Restrictions in force, as this service knows them.
    pub restrictions: Gauge,
    /// Seconds until the log answered.
    pub append_seconds: Histogram,
    /// Videos that were not registered because too many were waiting.
    pub registrations_dropped: Counter,
}

impl CommentMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self {
            acknowledged: Counter::default(),
            repeated: Counter::default(),
            unavailable: Counter::default(),
            restricted: Counter::default(),
            restrictions: Gauge::default(),
            append_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            registrations_dropped: Counter::default(),
        };
        metrics.register("comment", |registry| {
            let m = all.clone();
            registry.register("acknowledged", "Comments that the log has", m.acknowledged);
            registry.register("repeated", "Posts answered with an earlier one's comment", m.repeated);
            registry.register("unavailable", "Posts turned away: the log is away", m.unavailable);
            registry.register("restricted", "Comments refused: their user is banned or muted", m.restricted);
            registry.register("restrictions", "Bans and mutes known", m.restrictions);
            registry.register("append_seconds", "Time until the log answered", m.append_seconds);
            registry.register(
                "registrations_dropped",
                "Videos not registered: too many were waiting",
                m.registrations_dropped,
            );
        });
        all
    }
}
