//! The comparison of this consumer's clock with those of the stores.
//!
//! A clock that is ahead ends no window too early, because the earliest clock decides ([`ComparedClocks`]); but a consumer
//! begins windows by its own.

use std::time::Duration;

use liverank_adapters::Backends;
use liverank_adapters::clock::ComparedClocks;
use liverank_runtime::ServiceContext;

use crate::metrics::ConsumerMetrics;

/// Interval of comparing the clocks: a clock that drifts does so slowly.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

/// Measures once a minute, until shutdown, the time by which this consumer's clock is ahead of the earliest of its own
/// clock and the stores' clocks.
pub async fn compare_clocks(backends: Backends, metrics: ConsumerMetrics, shell: ServiceContext) {
    let mut again = tokio::time::interval(COMPARE_EVERY);
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = again.tick() => {}
        }
        match ComparedClocks::read(&backends).await {
            Ok(clocks) => {
                metrics.clock_ahead.set(clocks.ahead_ms as f64 / 1000.0);
            }
            // A store that is away shows elsewhere; the number stays until the next comparison.
            Err(error) => tracing::debug!(%error, "the clocks were not compared"),
        }
    }
}
