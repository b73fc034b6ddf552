//! Limits concurrent requests to the API server, so that one operator does not use all of its capacity, and a few
//! clusters whose admission webhooks hang do not block the operator.
//!
//! A request holds a place in the limit while it is young. A request that is not answered [soon](SLOT_TIME) gives its
//! place back and continues without one: each cluster has at most one such request, and its [`super::apply::Applier`]
//! backs off.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::metrics::OperatorMetrics;

/// Maximal number of requests to the API server that are younger than `SLOT_TIME`: young requests take the API server's
/// time, and it allows some hundred requests at once.
const MAX_YOUNG_REQUESTS: usize = 16;
/// The time for which a request counts as young: ten times what a write takes on a busy API server. A slower request is
/// not waiting for the operator.
const SLOT_TIME: Duration = Duration::from_millis(250);

/// The limit on the requests to the API server that are younger than `SLOT_TIME`. Clones share the limit.
#[derive(Clone)]
pub struct RequestLimit {
    permits: Arc<Semaphore>,
    metrics: OperatorMetrics,
}

impl RequestLimit {
    /// Creates the limit, with no requests running.
    pub fn new(metrics: OperatorMetrics) -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_YOUNG_REQUESTS)), metrics }
    }

    /// Runs a request as soon as the limit allows one more. The future `work` has to bound its own time.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let queued = GaugeGuard::new(&self.metrics.queued_requests);
        let place = self.permits.acquire().await;
        drop(queued);
        let _running = GaugeGuard::new(&self.metrics.running_requests);
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep(SLOT_TIME) => {}
        }
        drop(place);
        work.await
    }
}

/// Increases a gauge as long as it lives, also if the future that holds it is cancelled.
struct GaugeGuard<'a>(&'a prometheus_client::metrics::gauge::Gauge);

impl<'a> GaugeGuard<'a> {
    fn new(gauge: &'a prometheus_client::metrics::gauge::Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use liverank_runtime::Metrics;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_that_hang_keep_nobody_else_from_theirs() {
        let lanes = RequestLimit::new(OperatorMetrics::new(&Metrics::default()));
        // Each of these clusters has a request that hangs for ten seconds, and another one at once.
        for _ in 0..60 {
            let lanes = lanes.clone();
            tokio::spawn(async move {
                loop {
                    lanes.run(sleep(Duration::from_secs(10))).await;
                }
            });
        }
        let mut longest = Duration::ZERO;
        let end = Instant::now() + Duration::from_mins(2);
        while Instant::now() < end {
            let began = Instant::now();
            lanes.run(sleep(Duration::from_millis(5))).await;
            longest = longest.max(began.elapsed());
            sleep(Duration::from_millis(50)).await;
        }
        // All requests began at the same moment: four rounds of 16 places.
        assert!(longest < Duration::from_secs(2), "a healthy cluster waited for {longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_is_not_counted_any_more() {
        let lanes = RequestLimit::new(OperatorMetrics::new(&Metrics::default()));
        let all = futures::future::join_all(
            (0..MAX_YOUNG_REQUESTS).map(|_| lanes.run(std::future::pending::<()>())),
        );
        let waits = tokio::time::timeout(Duration::from_millis(50), lanes.run(sleep(Duration::ZERO)));
        tokio::select! {
            biased;
            _ = all => unreachable!("they hang"),
            waited = waits => assert!(waited.is_err(), "there was a place"),
        }
        assert_eq!((lanes.metrics.queued_requests.get(), lanes.metrics.running_requests.get()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_young_ones_run_at_once() {
        let lanes = RequestLimit::new(OperatorMetrics::new(&Metrics::default()));
        // Each request measures its time from its start: a sleep alone would count from its creation.
        let request = || async { sleep(Duration::from_millis(100)).await };
        let all = (0..100).map(|_| lanes.run(request()));
        let began = Instant::now();
        futures::future::join_all(all).await;
        let rounds = 100_u64.div_ceil(MAX_YOUNG_REQUESTS as u64);
        // Timers are exact to a millisecond each.
        let took = Duration::from_millis(100 * rounds)..Duration::from_millis(110 * rounds);
        assert!(took.contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}
