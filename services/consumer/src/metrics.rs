//! What a consumer measures of itself.

use liverank_runtime::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::lag::LagMetrics;

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct ConsumerMetrics {
    /// Events that counted.
    pub events_counted: Counter,
    /// Events that were repeats.
    pub events_repeated: Counter,
    /// Records that could not be read and went to the dead letters.
    pub unreadable_records: Counter,
    /// Batches that were refused because another consumer was further.
    pub batches_fenced: Counter,
    /// Seconds of each commit.
    pub commit_seconds: Histogram,
    /// Events of each batch.
    pub batch_events: Histogram,
    /// Seconds from the commit to the boards, per batch.
    pub project_seconds: Histogram,
    /// Repairs of the boards from the archive.
    pub board_repairs: Counter,
    /// Partitions owned.
    pub owned_partitions: Gauge,
    /// Partitions that wait for a later release of this program.
    pub waiting_partitions: Gauge,
    /// Batches waiting for the projector.
    pub waiting_batches: Gauge,
    /// How far counting and the boards are behind.
    pub lag_metrics: LagMetrics,
}

impl ConsumerMetrics {
    /// Makes and registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let all = Self {
            events_counted: Counter::default(),
            events_repeated: Counter::default(),
            unreadable_records: Counter::default(),
            batches_fenced: Counter::default(),
            commit_seconds: seconds(),
            batch_events: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            project_seconds: seconds(),
            board_repairs: Counter::default(),
            owned_partitions: Gauge::default(),
            waiting_partitions: Gauge::default(),
            waiting_batches: Gauge::default(),
            lag_metrics: LagMetrics::new(metrics),
        };
        metrics.register("consumer", |registry| {
            registry.register("events_counted", "Events that counted", all.events_counted.clone());
            registry.register(
                "events_repeated",
                "Events that were repeats of counted ones",
                all.events_repeated.clone(),
            );
            registry.register(
                "events_poison",
                "Records that went to the dead letters",
                all.unreadable_records.clone(),
            );
            registry.register(
                "batches_fenced",
                "Batches refused: another consumer was further",
                all.batches_fenced.clone(),
            );
            registry.register("commit_seconds", "Time of a commit", all.commit_seconds.clone());
            registry.register("batch_events", "Events in a batch", all.batch_events.clone());
            registry.register("project_seconds", "Time from commit to boards", all.project_seconds.clone());
            registry.register("repairs", "Repairs of the boards from the archive", all.board_repairs.clone());
            registry.register("partitions", "Partitions owned", all.owned_partitions.clone());
            registry.register(
                "partitions_waiting",
                "Partitions that wait: a later release wrote their next record",
                all.waiting_partitions.clone(),
            );
            registry.register(
                "batches_waiting",
                "Batches waiting for the projector",
                all.waiting_batches.clone(),
            );
        });
        all
    }
}
