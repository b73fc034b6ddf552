//! The archive as requests use it: each query has a time limit, and after a failure no query is made for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use liverank_adapters::{Archive, StoreError};
use liverank_runtime::Health;
use tokio::time::timeout;

/// The time for which the archive is not asked after it failed to answer: it slows posts down at most once in that
/// time.
const OPEN_TIME: Duration = Duration::from_secs(1);
const PART_NAME: &str = "archive";

/// An archive whose failures do not hold up requests.
pub(crate) struct CircuitBreaker {
    archive: Arc<dyn Archive>,
    health: Health,
    born: Instant,
    /// The time until which the archive is not asked, in ms since `born`; 0 while it answers.
    away_until: AtomicU64,
}

impl CircuitBreaker {
    pub(crate) fn new(archive: Arc<dyn Archive>, health: Health) -> Self {
        Self { archive, health, born: Instant::now(), away_until: AtomicU64::new(0) }
    }

    /// Returns the archive's answer to `question`, or an error after `patience`. While the archive is not to be asked,
    /// returns the error "unavailable" at once.
    pub(crate) async fn ask<T, F>(
        &self,
        patience: Duration,
        question: impl FnOnce(Arc<dyn Archive>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        if self.now_millis() < self.away_until.load(Relaxed) {
            return Err(StoreError::unavailable(PART_NAME, "did not answer a moment ago"));
        }
        let slow = || StoreError::unavailable(PART_NAME, format!("did not answer within {patience:?}"));
        let answer = timeout(patience, question(Arc::clone(&self.archive))).await;
        let answer = answer.unwrap_or_else(|_| Err(slow()));
        match &answer {
            Ok(_) => {
                if self.away_until.load(Relaxed) != 0 && self.away_until.swap(0, Relaxed) != 0 {
                    self.health.note_dependency(PART_NAME, Ok(()));
                }
            }
            Err(error) => {
                let until = self.now_millis() + OPEN_TIME.as_millis() as u64;
                self.away_until.store(until, Relaxed);
                self.health.note_dependency(PART_NAME, Err(error.to_string()));
            }
        }
        answer
    }

    /// Asks an archive that failed to answer whether it is back; does nothing while it answers.
    pub(crate) async fn look(&self, patience: Duration) {
        if self.away_until.load(Relaxed) != 0 {
            let _ = self.ask(patience, |archive| async move { archive.archive_meta().await }).await;
        }
    }

    fn now_millis(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }
}
