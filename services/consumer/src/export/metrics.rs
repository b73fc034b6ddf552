//! What exporters measure of themselves.

use liverank_runtime::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct ExportMetrics {
    /// Records that were committed.
    pub records: Counter,
    /// Turns that ended with an error, after which the exporter begins again.
    pub failed: Counter,
    /// How far the partitions that are exported here are behind together.
    pub lag: Gauge,
}

impl ExportMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        metrics.register("consumer", |registry| {
            registry.register(
                "export_records",
                "Records committed to topics for other systems",
                all.records.clone(),
            );
            let what = "Times that exporting failed or another consumer took over; it begins again";
            registry.register("export_failures", what, all.failed.clone());
            registry.register(
                "export_lag_records",
                "Records that are counted and not exported yet",
                all.lag.clone(),
            );
        });
        all
    }
}
