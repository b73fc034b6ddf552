//! Checks that all watches make progress. A watch that stalls while the API server answers does not recover by itself,
//! and a process that looks healthy although it observes nothing is worse than one that is restarted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use liverank_runtime::Health;
use tokio::time::{interval, timeout};

/// The time without progress after which a watch counts as stalled: at rest there is a bookmark a minute and a new
/// watch every 200 s, and an error is tried again every 30 s.
pub const STALLED_AFTER: Duration = Duration::from_mins(5);
/// The time between two checks for stalled watches.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// The time limit for the API server's answer about its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// The time at which each watch last made progress.
#[derive(Debug, Default)]
pub struct WatchProgress(Mutex<BTreeMap<(&'static str, Box<str>), Instant>>);

impl WatchProgress {
    /// Notes progress of the watch of `kind` in a namespace or in all of them (empty): a list, an event, a bookmark or
    /// a new watch.
    pub fn note_progress(&self, kind: &'static str, namespace: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((kind, namespace.into()), Instant::now());
    }

    /// Returns the watches that have made no progress for `limit`.
    fn stalled_watches(&self, now: Instant, limit: Duration) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let still = all.iter().filter(|(_, at)| now.saturating_duration_since(**at) >= limit);
        let name = |(kind, namespace): &(&str, Box<str>)| {
            if namespace.is_empty() { (*kind).to_owned() } else { format!("{kind} in {namespace}") }
        };
        still.map(|(watch, _)| name(watch)).collect()
    }
}

/// Makes `/livez` fail while watches stall although the API server answers. Never returns. The API server is only
/// queried if a watch stalls.
pub async fn report_stalled_watches(
    progress: &WatchProgress,
    client: &Client,
    health: &Health,
    limit: Duration,
) {
    let mut looks = interval(CHECK_EVERY.min(limit / 4));
    loop {
        looks.tick().await;
        let still = progress.stalled_watches(Instant::now(), limit);
        let answers = !still.is_empty()
            && timeout(VERSION_TIMEOUT, client.apiserver_version())
                .await
                .is_ok_and(|version| version.is_ok());
        let why = format!("the API server answers, and yet these watches stand still: {}", still.join(", "));
        health.set_stuck(answers.then_some(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_stands_still_when_nothing_came_for_long_and_not_before() {
        let progress = WatchProgress::default();
        progress.note_progress("Pod", "");
        progress.note_progress("Pod", "tv");
        let (now, limit) = (Instant::now(), Duration::from_mins(1));
        assert!(progress.stalled_watches(now + Duration::from_secs(59), limit).is_empty());
        assert_eq!(progress.stalled_watches(now + Duration::from_secs(61), limit), ["Pod", "Pod in tv"]);
        progress.note_progress("Pod", "");
        progress.note_progress("Pod", "tv");
        assert!(progress.stalled_watches(Instant::now(), limit).is_empty());
    }
}
