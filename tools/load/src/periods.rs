//! A run in pieces: what its percentiles were while a reader died, rather than over all of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::record::{LatencyHistogram, RunRecord};
use crate::report::TimeDistribution;

/// A piece of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LoadPeriod {
    /// When it ended, in ms since 1970, so that it can be laid beside what others did.
    pub ended_ms: i64,
    /// Viewers with a stream at its end.
    pub viewers: u64,
    /// Streams lost and opened again within it.
    pub reconnects: u64,
    /// Comments delivered within it: from their post to a viewer.
    pub delivery: TimeDistribution,
    /// The times of the comments that were posted while the viewer had its stream.
    pub live: TimeDistribution,
    /// Streams opened again within it: since the one before was lost.
    pub away: TimeDistribution,
}

/// What was counted up to now, to tell what comes after it.
struct PeriodStart {
    delivery: Histogram<u64>,
    live: Histogram<u64>,
    away: Histogram<u64>,
    reconnects: u64,
}

impl PeriodStart {
    fn start_now(record: &RunRecord) -> Self {
        Self {
            delivery: record.delivery_latency.merged_histogram(),
            live: record.live_delivery_latency.merged_histogram(),
            away: record.interruption_latency.merged_histogram(),
            reconnects: record.counts.reconnects.load(Relaxed),
        }
    }

    /// The piece from here to `end`.
    fn period_until(&self, end: &Self, viewers: u64, ended_ms: i64) -> LoadPeriod {
        LoadPeriod {
            ended_ms,
            viewers,
            reconnects: end.reconnects - self.reconnects,
            delivery: TimeDistribution::from_histogram(&LatencyHistogram::histogram_since(
                &end.delivery,
                &self.delivery,
            )),
            live: TimeDistribution::from_histogram(&LatencyHistogram::histogram_since(&end.live, &self.live)),
            away: TimeDistribution::from_histogram(&LatencyHistogram::histogram_since(&end.away, &self.away)),
        }
    }
}

/// Cuts what `record` says into pieces of `length`, until `over`.
pub async fn observe_periods(
    record: Arc<RunRecord>,
    length: Duration,
    over: CancellationToken,
) -> Vec<LoadPeriod> {
    let mut periods = Vec::new();
    let mut since = PeriodStart::start_now(&record);
    let mut ticks = interval(length);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let is_over = tokio::select! {
            _ = ticks.tick() => false,
            () = over.cancelled() => true,
        };
        let end = PeriodStart::start_now(&record);
        periods.push(since.period_until(
            &end,
            record.counts.connected.load(Relaxed),
            liverank_runtime::now_ms(),
        ));
        since = end;
        if is_over {
            return periods;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_only_what_came_within_it() {
        let record = RunRecord::new(1, 0);
        record.delivery_latency.note_latency(0, 9_000_000);
        record.interruption_latency.note_latency(1, 1_000);
        let start = PeriodStart::start_now(&record);
        (1..=100).for_each(|ms| record.delivery_latency.note_latency(ms, ms as u64 * 1_000));
        record.counts.reconnects.fetch_add(2, Relaxed);
        let period = start.period_until(&PeriodStart::start_now(&record), 7, 5);
        assert_eq!((period.ended_ms, period.viewers, period.reconnects), (5, 7, 2));
        assert_eq!((period.delivery.count, period.away.count), (100, 0));
        assert!((period.delivery.max_ms - 100.0).abs() < 0.2, "the slow one came before: {period:?}");
    }
}
