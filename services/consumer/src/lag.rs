//! How far counting and the boards are behind the log, as metrics ([`liverank_adapters::lag`] measures it).
//!
//! Each consumer tells of the partitions that it owns, so that sums over consumers count each partition once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use liverank_adapters::Backends;
use liverank_adapters::lag::{Backlog, Lag, Offsets};
use liverank_core::Millis;
use liverank_core::counting::OffsetRange;
use liverank_runtime::{Metrics, ServiceContext, now_ms};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often the stores are asked: as often as the boards are looked at, and a fraction of what an alert waits for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a look may take: a store that hangs must not hide that nothing is measured.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// A label whose values are bounded by the topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    partition: u32,
}

/// What is measured. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct LagMetrics {
    records: Family<PartitionLabel, Gauge>,
    seconds: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
    projection: Family<PartitionLabel, Gauge>,
    looked: Gauge<f64, AtomicU64>,
    freshness: Histogram,
}

impl LagMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self {
            records: Family::default(),
            seconds: Family::default(),
            projection: Family::default(),
            looked: Gauge::default(),
            freshness: Histogram::new(exponential_buckets(0.005, 2.0, 16)),
        };
        let m = all.clone();
        metrics.register("consumer", |registry| {
            registry.register("lag_records", "Records of the log that are not counted yet", m.records);
            let seconds = "How long the oldest record that is not counted yet has waited";
            registry.register("lag_seconds", seconds, m.seconds);
            let projection = "Records that are counted and not on the boards yet";
            registry.register("projection_lag_records", projection, m.projection);
            let looked = "When lag was last measured, in seconds since 1970";
            registry.register("lag_measured_timestamp_seconds", looked, m.looked);
            let freshness = "From the log taking a record to the boards showing it, for the last of a batch";
            registry.register("board_freshness_seconds", freshness, m.freshness);
        });
        all
    }

    /// Notes that everything before the end of these stretches is on the boards now.
    pub fn projected(&self, spans: &[OffsetRange], now: Millis) {
        for last in spans.iter().filter_map(|span| span.last) {
            // The log's clock may be ahead of ours: nothing is shown before it is there.
            self.freshness.observe(millis_to_seconds(now.saturating_sub(last.broker_time)));
        }
    }

    fn set_lag(&self, partition: u32, lag: Lag) {
        let label = PartitionLabel { partition };
        self.records.get_or_create(&label).set(lag.records as i64);
        self.seconds.get_or_create(&label).set(millis_to_seconds(lag.waited));
        self.projection.get_or_create(&label).set(lag.projection as i64);
    }

    /// Forgets the lag of a partition that another consumer owns now.
    fn forget_partition(&self, partition: u32) {
        let label = PartitionLabel { partition };
        self.records.remove(&label);
        self.seconds.remove(&label);
        self.projection.remove(&label);
    }
}

fn millis_to_seconds(millis: Millis) -> f64 {
    millis.max(0) as f64 / 1000.0
}

/// Measures until shutdown.
pub async fn run(
    backends: Backends,
    owned: watch::Receiver<Vec<u32>>,
    metrics: LagMetrics,
    shell: ServiceContext,
) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backlogs: BTreeMap<u32, Backlog> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let partitions = owned.borrow().clone();
        let looked = tokio::time::timeout(LOOK_TIMEOUT, Offsets::read(&backends, &partitions)).await;
        // A store that is away shows in the process's health, and in the time of the last measurement.
        let Ok(Ok(offsets)) = looked else { continue };
        let now = now_ms();
        for (partition, _) in backlogs.extract_if(.., |partition, _| !partitions.contains(partition)) {
            metrics.forget_partition(partition);
        }
        for (partition, at) in offsets.0 {
            metrics.set_lag(partition, backlogs.entry(partition).or_default().look(&at, now));
        }
        metrics.looked.set(millis_to_seconds(now));
    }
}
