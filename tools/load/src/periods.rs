//! The figures of a run for each period: for example the percentiles while a reader died, rather than over the whole
//! run.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::record::{LatencyHistogram, RunRecord};
use crate::report::TimeDistribution;

/// The figures of one period of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LoadPeriod {
    /// The end of the period, in milliseconds since 1970, so that it can be compared with other logs.
    pub ended_ms: i64,
    /// The number of viewers with a stream at the end of the period.
    pub viewers: u64,
    /// The number of streams that were lost and opened again within the period.
    pub reconnects: u64,
    /// The delivery times of comments within the period: from their post to a viewer.
    pub delivery: TimeDistribution,
    /// The delivery times of comments that were posted while their viewer had a stream.
    pub live: TimeDistribution,
    /// The interruptions of viewers that got a new stream within the period: from the loss of the stream before.
    #[serde(rename = "away")]
    pub interruption: TimeDistribution,
}

/// The figures of a run at the beginning of a period, to be subtracted from those at its end.
struct PeriodStart {
    delivery: Histogram<u64>,
    live: Histogram<u64>,
    interruption: Histogram<u64>,
    reconnects: u64,
}

impl PeriodStart {
    fn start_now(record: &RunRecord) -> Self {
        Self {
            delivery: record.delivery_latency.merged_histogram(),
            live: record.live_delivery_latency.merged_histogram(),
            interruption: record.interruption_latency.merged_histogram(),
            reconnects: record.counts.reconnects.load(Relaxed),
        }
    }

    /// Returns the figures of the period from `self` to `end`.
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
            interruption: TimeDistribution::from_histogram(&LatencyHistogram::histogram_since(
                &end.interruption,
                &self.interruption,
            )),
        }
    }
}

/// Records a period of `record` each `length` until `over` is cancelled; the last one may be shorter. Returns all
/// periods.
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
            record.counts.connected_viewers.load(Relaxed),
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
        assert_eq!((period.delivery.count, period.interruption.count), (100, 0));
        assert!((period.delivery.max_ms - 100.0).abs() < 0.2, "the slow one came before: {period:?}");
    }
}
