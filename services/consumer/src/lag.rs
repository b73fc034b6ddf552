//! The lag metrics: the number of log records by which counting and the boards are behind ([`liverank_adapters::lag`]
//! measures it).
//!
//! Each consumer reports only the partitions that it owns, so that sums over consumers count each partition once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use liverank_adapters::lag::{LagOffsets, OffsetsByPartition, PartitionBacklog, PartitionLag};
use liverank_adapters::{Backends, StoreError};
use liverank_core::Millis;
use liverank_core::boards::{DeclaredBoard, DeclaredBoards};
use liverank_core::counting::OffsetRange;
use liverank_core::trace::TraceContext;
use liverank_runtime::{Metrics, ServiceContext, TracedHistogram, now_ms};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Interval of asking the stores for offsets: as often as the boards are compared, and a fraction of the time that an
/// alert waits.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Maximum time of one measurement: a store that hangs must not hide that nothing is measured.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// A metric label with a partition's number; its values are bounded by the topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    partition: u32,
}

/// A metric label with a declared board's name; its values are bounded by the number of boards that may be declared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoardLabel {
    board: String,
}

/// The lag metrics. Cheap to clone: all clones share the metrics.
#[derive(Clone)]
pub struct LagMetrics {
    uncounted_records: Family<PartitionLabel, Gauge>,
    oldest_wait_seconds: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
    unprojected_records: Family<PartitionLabel, Gauge>,
    declared_board_lag: Family<BoardLabel, Gauge>,
    measured_at: Gauge<f64, AtomicU64>,
    freshness: TracedHistogram,
}

impl LagMetrics {
    /// Creates the lag metrics and registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self {
            uncounted_records: Family::default(),
            oldest_wait_seconds: Family::default(),
            unprojected_records: Family::default(),
            declared_board_lag: Family::default(),
            measured_at: Gauge::default(),
            freshness: TracedHistogram::new(exponential_buckets(0.005, 2.0, 16)),
        };
        let m = all.clone();
        metrics.register("consumer", |registry| {
            registry.register("lag_records", "Records of the log that are not counted yet", m.uncounted_records);
            let seconds = "How long the oldest record that is not counted yet has waited";
            registry.register("lag_seconds", seconds, m.oldest_wait_seconds);
            let projection = "Records that are counted and not on the boards yet";
            registry.register("projection_lag_records", projection, m.unprojected_records);
            let boards = "Records that are counted and not on a declared board yet, of one with windows on the one that runs";
            registry.register("declared_board_lag_records", boards, m.declared_board_lag);
            let looked = "When lag was last measured, in seconds since 1970";
            registry.register("lag_measured_timestamp_seconds", looked, m.measured_at);
            let freshness = "From the log taking a record to the boards showing it, for the last of a batch";
            registry.register("board_freshness_seconds", freshness, m.freshness);
        });
        all
    }

    /// Observes the freshness of the boards: everything before the end of these offset ranges is on the boards at
    /// `now`. `traces` are the trace contexts of the batch's recorded events: the first one becomes the exemplar of the
    /// histogram's bucket.
    pub fn note_projected(&self, spans: &[OffsetRange], traces: &[TraceContext], now: Millis) {
        for last in spans.iter().filter_map(|span| span.last_record) {
            // The log's clock may be ahead of ours: a negative freshness counts as zero.
            self.freshness
                .observe(millis_to_seconds(now.saturating_sub(last.broker_time)), traces.first().copied());
        }
    }

    fn set_lag(&self, partition: u32, lag: PartitionLag) {
        let label = PartitionLabel { partition };
        self.uncounted_records.get_or_create(&label).set(lag.uncounted_record_count as i64);
        self.oldest_wait_seconds.get_or_create(&label).set(millis_to_seconds(lag.oldest_wait_ms));
        self.unprojected_records.get_or_create(&label).set(lag.unprojected_record_count as i64);
    }

    /// Sets the lag of each declared board, over the partitions of these offsets. Removes the metrics if there are no
    /// partitions.
    fn set_board_lags(&self, boards: &[BoardCheckpoint], offsets: &OffsetsByPartition) {
        for BoardCheckpoint { name, offsets: stands } in boards {
            let label = BoardLabel { board: name.clone() };
            if offsets.0.is_empty() {
                self.declared_board_lag.remove(&label);
                continue;
            }
            self.declared_board_lag.get_or_create(&label).set(records_behind(stands, offsets) as i64);
        }
    }

    /// Removes the lag metrics of a partition that another consumer owns now.
    fn forget_partition(&self, partition: u32) {
        let label = PartitionLabel { partition };
        self.uncounted_records.remove(&label);
        self.oldest_wait_seconds.remove(&label);
        self.unprojected_records.remove(&label);
    }
}

fn millis_to_seconds(millis: Millis) -> f64 {
    millis.max(0) as f64 / 1000.0
}

/// A declared board's checkpoint: the offsets up to which events are on the board.
struct BoardCheckpoint {
    name: String,
    /// The next offset of each partition that is not on the board yet.
    offsets: BTreeMap<u32, u64>,
}

/// Returns the number of counted records that are not on a board with these offsets.
fn records_behind(stands: &BTreeMap<u32, u64>, offsets: &OffsetsByPartition) -> u64 {
    let behind = |(partition, at): &(u32, LagOffsets)| {
        at.counted_to.next_offset.saturating_sub(stands.get(partition).copied().unwrap_or(0))
    };
    offsets.0.iter().map(behind).sum()
}

/// Reads the checkpoint of a declared board; for a board with windows, of the window that runs.
async fn read_board_checkpoint(
    backends: &Backends,
    board: &DeclaredBoard,
) -> Result<BoardCheckpoint, StoreError> {
    let key = match board.windows() {
        None => board.store_key(),
        Some(windows) => board.store_key_of_window(&windows.kind.window_of((backends.clock)())),
    };
    let standing = backends.ranking.declared_board(&key).checkpoint().await?;
    Ok(BoardCheckpoint { name: board.name().to_owned(), offsets: standing.offsets.into_iter().collect() })
}

/// Reads the offsets of the declared boards first, then those of the built-in boards, the archive and the log: in this
/// order, progress during the reading never hides a lag.
async fn read_lag_offsets(
    backends: &Backends,
    boards: &DeclaredBoards,
    partitions: &[u32],
) -> Result<(Vec<BoardCheckpoint>, OffsetsByPartition), StoreError> {
    let mut standings = Vec::new();
    for board in boards {
        standings.push(read_board_checkpoint(backends, board).await?);
    }
    Ok((standings, OffsetsByPartition::read_offsets(backends, partitions).await?))
}

/// Measures the lag of counting and of the boards until shutdown.
pub async fn run(
    backends: Backends,
    boards: DeclaredBoards,
    owned: watch::Receiver<Vec<u32>>,
    metrics: LagMetrics,
    shell: ServiceContext,
) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backlogs: BTreeMap<u32, PartitionBacklog> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let partitions = owned.borrow().clone();
        let looked =
            tokio::time::timeout(LOOK_TIMEOUT, read_lag_offsets(&backends, &boards, &partitions)).await;
        // A store that is away shows in the process's health, and in the time of the last measurement.
        let Ok(Ok((standings, offsets))) = looked else { continue };
        let now = now_ms();
        for (partition, _) in backlogs.extract_if(.., |partition, _| !partitions.contains(partition)) {
            metrics.forget_partition(partition);
        }
        metrics.set_board_lags(&standings, &offsets);
        for (partition, at) in offsets.0 {
            metrics.set_lag(partition, backlogs.entry(partition).or_default().lag_at(&at, now));
        }
        metrics.measured_at.set(millis_to_seconds(now));
    }
}

#[cfg(test)]
mod tests {
    use liverank_adapters::archive::ArchivePosition;

    use super::*;

    #[test]
    fn a_board_lacks_what_is_counted_and_not_on_it() {
        let at = |counted| LagOffsets {
            log_end: 99,
            counted_to: ArchivePosition { next_offset: counted, last_record: None },
            shown_to: counted,
        };
        let offsets = OffsetsByPartition(vec![(0, at(10)), (3, at(7))]);
        let behind = |stands: &[(u32, u64)]| records_behind(&stands.iter().copied().collect(), &offsets);
        assert_eq!(behind(&[(0, 10), (3, 7)]), 0);
        // A new board lacks all records; a board may be further than asked for in partitions of other consumers.
        assert_eq!((behind(&[]), behind(&[(0, 4), (1, 50), (3, 9)])), (17, 6));
    }
}
