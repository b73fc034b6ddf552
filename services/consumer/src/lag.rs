//! How far counting and the boards are behind the log.
//!
//! One truth, by the stores' own offsets: the log says where each partition ends, the archive where counting stands, the
//! boards up to where they show it. Each consumer tells of the partitions that it owns, so that sums over consumers count
//! each partition once. The age of a backlog is counted from the first look that saw it, so it depends on no record's
//! own time; only what was there at the first look of this process is as old as the last record that was counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use liverank_adapters::archive::Position;
use liverank_adapters::{Backends, StoreError};
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
const EVERY: Duration = Duration::from_secs(2);
/// How long a look may take: a store that hangs must not hide that nothing is measured.
const WITHIN: Duration = Duration::from_secs(10);
/// Looks kept of a partition: half an hour of a growing backlog. Past it every second one is forgotten, which costs
/// precision and never the age of the oldest.
const LOOKS: usize = 900;

/// A label whose values are bounded by the topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPartition {
    partition: u32,
}

/// What is measured. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct LagMetrics {
    records: Family<OfPartition, Gauge>,
    seconds: Family<OfPartition, Gauge<f64, AtomicU64>>,
    projection: Family<OfPartition, Gauge>,
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
            self.freshness.observe(seconds(now.saturating_sub(last.broker_time)));
        }
    }

    fn tell(&self, partition: u32, lag: Lag) {
        let label = OfPartition { partition };
        self.records.get_or_create(&label).set(lag.records as i64);
        self.seconds.get_or_create(&label).set(seconds(lag.waited));
        self.projection.get_or_create(&label).set(lag.projection as i64);
    }

    /// Whoever owns the partition now tells of it.
    fn forget(&self, partition: u32) {
        let label = OfPartition { partition };
        self.records.remove(&label);
        self.seconds.remove(&label);
        self.projection.remove(&label);
    }
}

fn seconds(millis: Millis) -> f64 {
    millis.max(0) as f64 / 1000.0
}

/// Measures until shutdown.
pub async fn run(
    backends: Backends,
    owned: watch::Receiver<Vec<u32>>,
    metrics: LagMetrics,
    shell: ServiceContext,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backlogs: BTreeMap<u32, Backlog> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let partitions = owned.borrow().clone();
        let looked = tokio::time::timeout(WITHIN, Offsets::read(&backends, &partitions)).await;
        // A store that is away shows in the process's health, and in the time of the last measurement.
        let Ok(Ok(offsets)) = looked else { continue };
        let now = now_ms();
        for (partition, _) in backlogs.extract_if(.., |partition, _| !partitions.contains(partition)) {
            metrics.forget(partition);
        }
        for (partition, at) in offsets.0 {
            metrics.tell(partition, backlogs.entry(partition).or_default().look(&at, now));
        }
        metrics.looked.set(seconds(now));
    }
}

/// Where everybody stands in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    /// The offset after the last record in the log.
    end: u64,
    /// Where counting stands.
    counted: Position,
    /// Up to where the boards show it.
    shown: u64,
}

struct Offsets(Vec<(u32, Offset)>);

impl Offsets {
    /// In an order that never makes a lag of what happens meanwhile: who is behind is asked first.
    async fn read(backends: &Backends, partitions: &[u32]) -> Result<Self, StoreError> {
        if partitions.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let shown: BTreeMap<u32, u64> = backends.ranking.standing().await?.offsets.into_iter().collect();
        let counted = backends.archive.offsets(partitions).await?;
        let ends = backends.log.end_offsets().await?;
        let offset = |(partition, counted): (&u32, Position)| {
            let end = *ends.get(*partition as usize)?;
            Some((*partition, Offset { end, counted, shown: shown.get(partition).copied().unwrap_or(0) }))
        };
        Ok(Self(partitions.iter().zip(counted).filter_map(offset).collect()))
    }
}

/// How far one partition is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lag {
    records: u64,
    waited: Millis,
    projection: u64,
}

/// What was seen of one partition's end, the oldest first: where it was, and since when something before it waits.
#[derive(Debug, Default)]
struct Backlog {
    seen: VecDeque<(u64, Millis)>,
    looked: bool,
}

impl Backlog {
    fn look(&mut self, at: &Offset, now: Millis) -> Lag {
        let next = at.counted.next;
        while self.seen.front().is_some_and(|(end, _)| *end <= next) {
            self.seen.pop_front();
        }
        let is_new = self.seen.back().map_or(at.end > next, |(end, _)| at.end > *end);
        if is_new {
            let found = at.counted.last.filter(|_| !self.looked).map(|last| last.broker_time);
            self.seen.push_back((at.end, found.unwrap_or(now)));
        }
        self.looked = true;
        if self.seen.len() > LOOKS {
            let mut number = 0_usize;
            self.seen.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        Lag {
            records: at.end.saturating_sub(next),
            waited: self.seen.front().map_or(0, |(_, since)| now.saturating_sub(*since).max(0)),
            projection: next.saturating_sub(at.shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use liverank_core::counting::RecordFingerprint;

    use super::*;

    fn at(end: u64, next: u64, shown: u64) -> Offset {
        Offset { end, counted: Position { next, last: None }, shown }
    }

    #[test]
    fn a_backlog_is_as_old_as_its_oldest_record() {
        let mut backlog = Backlog::default();
        let mut look = |end, next, now| backlog.look(&at(end, next, next), now);
        assert_eq!(look(10, 10, 0), Lag { records: 0, waited: 0, projection: 0 });
        assert_eq!(look(15, 10, 1_000), Lag { records: 5, waited: 0, projection: 0 });
        assert_eq!(
            look(20, 12, 3_000),
            Lag { records: 8, waited: 2_000, projection: 0 },
            "12 came before 1 s"
        );
        assert_eq!(
            look(20, 15, 5_000),
            Lag { records: 5, waited: 2_000, projection: 0 },
            "15 came before 3 s"
        );
        assert_eq!(look(20, 20, 6_000), Lag { records: 0, waited: 0, projection: 0 });
        assert_eq!(look(21, 20, 9_000), Lag { records: 1, waited: 0, projection: 0 });
    }

    #[test]
    fn what_was_there_at_the_start_is_as_old_as_the_last_record_that_counted() {
        let last = Some(RecordFingerprint { broker_time: 1_000, digest: 0 });
        let found = Offset { end: 9, counted: Position { next: 4, last }, shown: 1 };
        let mut backlog = Backlog::default();
        assert_eq!(backlog.look(&found, 61_000), Lag { records: 5, waited: 60_000, projection: 3 });
        let counted = Offset { counted: Position { next: 9, last }, ..found };
        assert_eq!(backlog.look(&counted, 62_000).waited, 0);
        let more = Offset { end: 10, ..counted };
        assert_eq!(backlog.look(&more, 63_000).waited, 0, "only what was there at the start");
    }

    #[test]
    fn a_backlog_that_grows_for_ever_takes_bounded_memory_and_keeps_its_age() {
        let mut backlog = Backlog::default();
        backlog.look(&at(0, 0, 0), 0);
        for second in 1..100_000 {
            let lag = backlog.look(&at(second, 0, 0), second as Millis * 1_000);
            assert_eq!(lag.waited, (second as Millis - 1) * 1_000);
            assert!(backlog.seen.len() <= LOOKS);
        }
    }
}
