//! The metrics of a consumer.

use std::sync::atomic::AtomicU64;

use liverank_runtime::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::lag::LagMetrics;

/// The metrics of a consumer. Cheap to clone: all clones share the metrics.
#[derive(Clone)]
pub struct ConsumerMetrics {
    /// Number of events that counted.
    pub events_counted: Counter,
    /// Number of events that were repeats of counted events.
    pub events_repeated: Counter,
    /// Number of records that could not be read and became dead letters.
    pub unreadable_records: Counter,
    /// Number of batches that the archive refused because another consumer was further, or owned the partition.
    pub batches_fenced: Counter,
    /// Duration of each commit, in seconds.
    pub commit_seconds: Histogram,
    /// Number of events in each batch.
    pub batch_events: Histogram,
    /// Time from the commit of a batch to its scores being on the boards, in seconds.
    pub project_seconds: Histogram,
    /// Number of repairs of the boards from the archive.
    pub board_repairs: Counter,
    /// Number of partitions that this consumer owns.
    pub owned_partitions: Gauge,
    /// Number of partitions that wait for a later release of this program.
    pub waiting_partitions: Gauge,
    /// Number of committed batches that wait for the projector.
    pub waiting_batches: Gauge,
    /// Time by which this consumer's clock is ahead of the earliest of its own, the archive's and the boards' store's, in
    /// seconds.
    pub clock_ahead: Gauge<f64, AtomicU64>,
    /// The lag of counting and of the boards.
    pub lag_metrics: LagMetrics,
}

impl ConsumerMetrics {
    /// Creates the consumer's metrics and registers them.
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
            clock_ahead: Gauge::default(),
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
                "clock_ahead_seconds",
                "How far the consumer's clock is ahead of the earliest of its own, MongoDB's and Redis's",
                all.clock_ahead.clone(),
            );
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
