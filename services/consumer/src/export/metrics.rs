//! The metrics of exporters.

use liverank_runtime::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The metrics of exporters. Cheap to clone: all clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct ExportMetrics {
    /// Number of records committed to the topics.
    pub records: Counter,
    /// Number of export turns that ended with an error; the exporter starts again after each.
    pub failed_turns: Counter,
    /// Number of counted records that are not exported yet, over all partitions that this process exports.
    pub lag: Gauge,
}

impl ExportMetrics {
    /// Creates the exporters' metrics and registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        metrics.register("consumer", |registry| {
            registry.register(
                "export_records",
                "Records committed to topics for other systems",
                all.records.clone(),
            );
            let what = "Times that exporting failed or another consumer took over; it begins again";
            registry.register("export_failures", what, all.failed_turns.clone());
            registry.register(
                "export_lag_records",
                "Records that are counted and not exported yet",
                all.lag.clone(),
            );
        });
        all
    }
}
