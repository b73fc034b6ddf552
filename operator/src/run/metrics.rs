//! The operator's own metrics.

use std::time::SystemTime;

use liverank_runtime::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The labels of the metrics of watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Watch {
    /// The kind of object that is watched.
    pub kind: &'static str,
}

/// The label of a shard, one of at most [`super::shard::MAX_SHARDS`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShardLabel {
    /// The number of the shard, from 0.
    pub shard: u32,
}

/// The labels of the metric `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Failure {
    /// The reason of the failure, one of a bounded set: the reason of a refused write, such as `QuotaExceeded`, or
    /// `claim`, `event`, `manager`, `order`, `panic` or `status`.
    pub reason: &'static str,
}

/// The labels of the metric `writes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Write {
    /// The kind that was written.
    pub kind: &'static str,
    /// The kind of write: `apply`, `delete`, `status`, `claim` or `event`.
    pub verb: &'static str,
}

/// The operator's metrics. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct OperatorMetrics {
    /// Number of shards that this process leads; 0 or 1 if there is only one shard.
    pub leader: Gauge,
    /// Number of shards into which the namespaces are divided.
    pub shards: Gauge,
    /// 1 for each shard that this process leads, 0 for a shard that it led before.
    pub shard_leader: Family<ShardLabel, Gauge>,
    /// Number of failed renewals of Leases.
    pub renewals_failed: Counter,
    /// Number of `RankingCluster`s that this process manages.
    pub clusters: Gauge,
    /// Number of `RankingCluster`s that this operator's types cannot parse.
    pub unreadable: Gauge,
    /// Number of `RankingCluster`s that another installation manages.
    pub claimed_by_others: Gauge,
    /// Duration of reconciles, in seconds.
    pub reconcile_seconds: Histogram,
    /// Number of requests to the API server that wait for a place.
    pub queued: Gauge,
    /// Number of requests to the API server in flight.
    pub running: Gauge,
    /// Number of failures, by reason.
    pub errors: Family<Failure, Counter>,
    /// Number of writes to the API server, by kind and verb.
    pub writes: Family<Write, Counter>,
    /// The time at which a watch last made progress, in seconds since 1970.
    pub watch_progress: Family<Watch, Gauge>,
    /// Number of whole lists read by watches.
    pub watch_lists: Family<Watch, Counter>,
    /// Number of errors of watches.
    pub watch_errors: Family<Watch, Counter>,
    /// Number of objects in the store of a watch.
    pub watch_objects: Family<Watch, Gauge>,
    /// Number of requests with orders that managers accepted.
    pub orders: Counter,
}

impl OperatorMetrics {
    /// Creates and registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self {
            leader: Gauge::default(),
            shards: Gauge::default(),
            shard_leader: Family::default(),
            renewals_failed: Counter::default(),
            clusters: Gauge::default(),
            unreadable: Gauge::default(),
            claimed_by_others: Gauge::default(),
            // From 1 ms: a look that finds nothing to do takes less, one that waits for a slow API server 10 s.
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.5, 12)),
            queued: Gauge::default(),
            running: Gauge::default(),
            errors: Family::default(),
            writes: Family::default(),
            watch_progress: Family::default(),
            watch_lists: Family::default(),
            watch_errors: Family::default(),
            watch_objects: Family::default(),
            orders: Counter::default(),
        };
        metrics.register("operator", |registry| {
            let m = all.clone();
            registry.register(
                "leader",
                "Shards that this process leads; 1 or 0 where there is one",
                m.leader,
            );
            registry.register("shards", "Shards that this process goes by", m.shards);
            let text = "1 while this process leads the shard";
            registry.register("shard_leader", text, m.shard_leader);
            registry.register(
                "lease_renewals_failed",
                "Renewals of the Lease that failed",
                m.renewals_failed,
            );
            registry.register("clusters", "RankingClusters looked after", m.clusters);
            registry.register("reconcile_seconds", "How long reconciles took", m.reconcile_seconds);
            registry.register("clusters_unreadable", "RankingClusters that cannot be read", m.unreadable);
            let text = "RankingClusters that another installation looks after";
            registry.register("clusters_claimed_by_others", text, m.claimed_by_others);
            registry.register(
                "requests_queued",
                "Requests to the API server that wait for a place",
                m.queued,
            );
            registry.register("requests_running", "Requests to the API server under way", m.running);
            registry.register("errors", "What went wrong, by kind", m.errors);
            registry.register("writes", "Writes to the API server", m.writes);
            let text = "When a watch last made progress, in seconds since 1970";
            registry.register("watch_progress_timestamp_seconds", text, m.watch_progress);
            registry.register("watch_lists", "Whole lists read by watches", m.watch_lists);
            registry.register("watch_errors", "Watches that broke", m.watch_errors);
            registry.register("watch_objects", "Objects that a watch holds", m.watch_objects);
            registry.register("orders", "Orders that managers took", m.orders);
        });
        all
    }

    /// Notes that this process leads a shard, or no longer does.
    pub fn note_leading(&self, shard: u32, leads: bool) {
        self.leader.inc_by(if leads { 1 } else { -1 });
        self.shard_leader.get_or_create(&ShardLabel { shard }).set(i64::from(leads));
    }

    /// Counts a failure, by its reason.
    pub fn count_failure(&self, reason: &'static str) {
        self.errors.get_or_create(&Failure { reason }).inc();
    }

    /// Counts a write, by its kind and verb.
    pub fn count_write(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }

    /// Notes that a watch made progress.
    pub fn note_progress(&self, kind: &'static str) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.watch_progress.get_or_create(&Watch { kind }).set(now.as_secs() as i64);
    }
}

#[cfg(test)]
mod tests {
    use liverank_runtime::metrics_reference::{OPERATOR_HEADING, reference_tables, with_part};

    use super::*;

    #[test]
    fn the_reference_lists_what_the_operator_tells() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let metrics = Metrics::default();
        let all = OperatorMetrics::new(&metrics);
        // Families without samples are not exported.
        all.note_leading(0, true);
        all.count_failure("conflict");
        all.count_write("pods", "apply");
        all.note_progress("pods");
        all.watch_lists.get_or_create(&Watch { kind: "pods" }).inc();
        all.watch_errors.get_or_create(&Watch { kind: "pods" }).inc();
        all.watch_objects.get_or_create(&Watch { kind: "pods" }).set(1);
        let own = reference_tables(&metrics.encode_text());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let wanted = with_part(&text, OPERATOR_HEADING, &own);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, wanted).unwrap();
            return;
        }
        assert_eq!(text, wanted, "docs/metrics.md is another: UPDATE_DOCS=1 writes it anew");
    }
}
