//! The operator's own metrics.

use std::time::SystemTime;

use liverank_runtime::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The labels of the metrics of watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchLabels {
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
pub struct ErrorLabels {
    /// The reason of the failure, one of a bounded set: the reason of a refused write, such as `QuotaExceeded`, or
    /// `claim`, `event`, `manager`, `order`, `panic` or `status`.
    pub reason: &'static str,
}

/// The labels of the metric `writes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// The kind that was written.
    pub kind: &'static str,
    /// The kind of write: `apply`, `delete`, `status`, `claim` or `event`.
    pub verb: &'static str,
}

liverank_runtime::label_values! {
    /// A part of the system that the conversion webhook needs in order.
    pub enum ConversionPart {
        /// The certificate in its Secret.
        Certificate = "certificate",
        /// The definition, which tells the API server where the webhook is and whom to trust.
        Definition = "definition",
    }
}

impl ConversionPart {
    /// Returns the part's name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Definition => "definition",
        }
    }
}

liverank_runtime::label_values! {
    /// The result of a request to the conversion webhook.
    pub enum ConversionResult {
        /// All objects were converted.
        Converted = "converted",
        /// An object could not be converted.
        Refused = "refused",
        /// The request is none, or too large, or did not come in time.
        Unreadable = "unreadable",
    }
}

/// The labels of the metric `conversion_ready`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConversionPartLabel {
    /// The part of the webhook that is in order or not.
    pub part: ConversionPart,
}

/// The labels of the metric `conversions`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConversionResultLabel {
    /// The result of the request to the conversion webhook.
    pub result: ConversionResult,
}

/// The labels of a family that has at most one sample.
type NoLabels = [(&'static str, &'static str); 0];

/// The operator's metrics. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct OperatorMetrics {
    /// Number of shards that this process leads; 0 or 1 if there is only one shard.
    pub led_shards: Gauge,
    /// Number of shards into which the namespaces are divided.
    pub shard_count: Gauge,
    /// For each shard, 1 if this process leads the shard, 0 if it led the shard before.
    pub shard_leader: Family<ShardLabel, Gauge>,
    /// Number of failed renewals of Leases.
    pub renewals_failed: Counter,
    /// Number of `RankingCluster`s that this process manages.
    pub managed_clusters: Gauge,
    /// Number of `RankingCluster`s that this operator's types cannot parse.
    pub unreadable_clusters: Gauge,
    /// Number of `RankingCluster`s that another installation manages.
    pub claimed_by_others: Gauge,
    /// Duration of reconciles, in seconds.
    pub reconcile_seconds: Histogram,
    /// Number of requests to the API server that wait until the limit on requests allows them.
    pub queued_requests: Gauge,
    /// Number of requests to the API server in flight.
    pub running_requests: Gauge,
    /// Number of failures, by reason.
    pub errors: Family<ErrorLabels, Counter>,
    /// Number of writes to the API server, by kind and verb.
    pub writes: Family<WriteLabels, Counter>,
    /// The time at which a watch last made progress, in seconds since 1970.
    pub watch_progress: Family<WatchLabels, Gauge>,
    /// Number of whole lists read by watches.
    pub watch_lists: Family<WatchLabels, Counter>,
    /// Number of errors of watches.
    pub watch_errors: Family<WatchLabels, Counter>,
    /// Number of objects in the store of a watch.
    pub watch_objects: Family<WatchLabels, Gauge>,
    /// Number of requests with orders that managers accepted.
    pub accepted_orders: Counter,
    /// Number of requests to the conversion webhook, by result.
    pub conversions: Family<ConversionResultLabel, Counter>,
    /// 1 if a part that the conversion webhook needs is in order, otherwise 0; exported by the leader only.
    pub conversion_ready: Family<ConversionPartLabel, Gauge>,
    /// The end of the validity of the webhook's own certificate, in seconds since 1970. Only the leader exports it, and
    /// a family has no sample in other processes.
    pub conversion_certificate_end: Family<NoLabels, Gauge>,
}

impl OperatorMetrics {
    /// Creates and registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self {
            led_shards: Gauge::default(),
            shard_count: Gauge::default(),
            shard_leader: Family::default(),
            renewals_failed: Counter::default(),
            managed_clusters: Gauge::default(),
            unreadable_clusters: Gauge::default(),
            claimed_by_others: Gauge::default(),
            // From 1 ms: a look that finds nothing to do takes less, one that waits for a slow API server 10 s.
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.5, 12)),
            queued_requests: Gauge::default(),
            running_requests: Gauge::default(),
            errors: Family::default(),
            writes: Family::default(),
            watch_progress: Family::default(),
            watch_lists: Family::default(),
            watch_errors: Family::default(),
            watch_objects: Family::default(),
            accepted_orders: Counter::default(),
            conversions: Family::default(),
            conversion_ready: Family::default(),
            conversion_certificate_end: Family::default(),
        };
        metrics.register("operator", |registry| {
            let m = all.clone();
            registry.register(
                "leader",
                "Shards that this process leads; 1 or 0 where there is one",
                m.led_shards,
            );
            registry.register("shards", "Shards that this process goes by", m.shard_count);
            let text = "1 while this process leads the shard";
            registry.register("shard_leader", text, m.shard_leader);
            registry.register(
                "lease_renewals_failed",
                "Renewals of the Lease that failed",
                m.renewals_failed,
            );
            registry.register("clusters", "RankingClusters looked after", m.managed_clusters);
            registry.register("reconcile_seconds", "How long reconciles took", m.reconcile_seconds);
            registry.register(
                "clusters_unreadable",
                "RankingClusters that cannot be read",
                m.unreadable_clusters,
            );
            let text = "RankingClusters that another installation looks after";
            registry.register("clusters_claimed_by_others", text, m.claimed_by_others);
            registry.register(
                "requests_queued",
                "Requests to the API server that wait for a place",
                m.queued_requests,
            );
            registry.register("requests_running", "Requests to the API server under way", m.running_requests);
            registry.register("errors", "What went wrong, by kind", m.errors);
            registry.register("writes", "Writes to the API server", m.writes);
            let text = "When a watch last made progress, in seconds since 1970";
            registry.register("watch_progress_timestamp_seconds", text, m.watch_progress);
            registry.register("watch_lists", "Whole lists read by watches", m.watch_lists);
            registry.register("watch_errors", "Watches that broke", m.watch_errors);
            registry.register("watch_objects", "Objects that a watch holds", m.watch_objects);
            registry.register("orders", "Orders that managers took", m.accepted_orders);
            register_conversion(registry, &all);
        });
        all
    }

    /// Notes that this process leads a shard, or no longer does.
    pub fn note_leading(&self, shard: u32, leads: bool) {
        self.led_shards.inc_by(if leads { 1 } else { -1 });
        self.shard_leader.get_or_create(&ShardLabel { shard }).set(i64::from(leads));
    }

    /// Counts a failure, by its reason.
    pub fn count_failure(&self, reason: &'static str) {
        self.errors.get_or_create(&ErrorLabels { reason }).inc();
    }

    /// Counts a write, by its kind and verb.
    pub fn count_write(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, verb }).inc();
    }

    /// Counts a request to the conversion webhook.
    pub fn count_conversion(&self, result: ConversionResult) {
        self.conversions.get_or_create(&ConversionResultLabel { result }).inc();
    }

    /// Sets whether a part that the conversion webhook needs is in order.
    pub fn note_conversion_part(&self, part: ConversionPart, ready: bool) {
        self.conversion_ready.get_or_create(&ConversionPartLabel { part }).set(i64::from(ready));
    }

    /// Notes the end of the validity of the webhook's own certificate, in seconds since 1970; `None` if there is none.
    pub fn note_certificate_end(&self, end: Option<i64>) {
        match end {
            Some(end) => drop(self.conversion_certificate_end.get_or_create(&[]).set(end)),
            None => self.conversion_certificate_end.clear(),
        }
    }

    /// Removes the leader's metrics about the conversion webhook.
    pub fn forget_conversion(&self) {
        self.conversion_ready.clear();
        self.conversion_certificate_end.clear();
    }

    /// Notes the time at which a watch made progress: now.
    pub fn note_progress(&self, kind: &'static str) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.watch_progress.get_or_create(&WatchLabels { kind }).set(now.as_secs() as i64);
    }
}

fn register_conversion(registry: &mut Registry, all: &OperatorMetrics) {
    let m = all.clone();
    registry.register("conversions", "Requests to the conversion webhook", m.conversions);
    let text = "1 if the leader finds this part of the conversion webhook in order";
    registry.register("conversion_ready", text, m.conversion_ready);
    let text = "End of the webhook's own certificate, in seconds since 1970; the leader's";
    registry.register("conversion_certificate_end_timestamp_seconds", text, m.conversion_certificate_end);
}

#[cfg(test)]
mod tests {
    use liverank_runtime::metrics_reference::{OPERATOR_HEADING, reference_tables, replace_part};

    use super::*;

    #[test]
    fn who_leads_no_longer_says_nothing_about_the_webhook() {
        let metrics = Metrics::default();
        let all = OperatorMetrics::new(&metrics);
        let samples = || {
            let text = metrics.encode_text();
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            samples.filter(|line| line.contains("operator_conversion_")).count()
        };
        assert_eq!(samples(), 0);
        all.note_conversion_part(ConversionPart::Certificate, true);
        all.note_conversion_part(ConversionPart::Definition, false);
        all.note_certificate_end(Some(1_800_000_000));
        assert_eq!(samples(), 3);
        all.forget_conversion();
        assert_eq!(samples(), 0);
    }

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
        all.count_conversion(ConversionResult::Converted);
        all.note_conversion_part(ConversionPart::Definition, true);
        all.note_certificate_end(Some(1));
        all.watch_lists.get_or_create(&WatchLabels { kind: "pods" }).inc();
        all.watch_errors.get_or_create(&WatchLabels { kind: "pods" }).inc();
        all.watch_objects.get_or_create(&WatchLabels { kind: "pods" }).set(1);
        let own = reference_tables(&metrics.encode_text());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let wanted = replace_part(&text, OPERATOR_HEADING, &own);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, wanted).unwrap();
            return;
        }
        assert_eq!(text, wanted, "docs/metrics.md is another: UPDATE_DOCS=1 writes it anew");
    }
}
