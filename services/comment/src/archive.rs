//! The archive as requests use it: each query has a time limit, and after a failure no query is made for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use liverank_adapters::{Archive, StoreError};
use liverank_runtime::Health;
use tokio::time::timeout;

/// The time for which the archive is not asked after it failed to answer: it slows posts down at most once in that
/// time.
const OPEN_TIME: Duration = Duration::from_secs(1);
const PART_NAME: &str = "archive";

/// A circuit breaker around the archive: for a time after a failure, requests get an error at once instead of waiting.
pub(crate) struct CircuitBreaker {
    archive: Arc<dyn Archive>,
    health: Health,
    created_at: Instant,
    /// Whether the archive has answered: its first answer is noted in the process's health.
    has_answered: AtomicBool,
    /// The time until which the archive is not asked, in ms since `created_at`; 0 while it answers.
    open_until_ms: AtomicU64,
}

impl CircuitBreaker {
    pub(crate) fn new(archive: Arc<dyn Archive>, health: Health) -> Self {
        Self {
            archive,
            health,
            created_at: Instant::now(),
            has_answered: AtomicBool::new(false),
            open_until_ms: AtomicU64::new(0),
        }
    }

    /// Returns the archive's answer to `question`, or an error after `patience`. While the archive is not to be asked,
    /// returns the error "unavailable" at once.
    pub(crate) async fn query<T, F>(
        &self,
        patience: Duration,
        question: impl FnOnce(Arc<dyn Archive>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        if self.now_millis() < self.open_until_ms.load(Relaxed) {
            return Err(StoreError::unavailable(PART_NAME, "did not answer a moment ago"));
        }
        let slow = || StoreError::unavailable(PART_NAME, format!("did not answer within {patience:?}"));
        let answer = timeout(patience, question(Arc::clone(&self.archive))).await;
        let answer = answer.unwrap_or_else(|_| Err(slow()));
        match &answer {
            Ok(_) => {
                let is_back =
                    self.open_until_ms.load(Relaxed) != 0 && self.open_until_ms.swap(0, Relaxed) != 0;
                let is_first = !self.has_answered.load(Relaxed) && !self.has_answered.swap(true, Relaxed);
                if is_back || is_first {
                    self.health.note_dependency(PART_NAME, Ok(()));
                }
            }
            Err(error) => {
                let until = self.now_millis() + OPEN_TIME.as_millis() as u64;
                self.open_until_ms.store(until, Relaxed);
                self.health.note_dependency(PART_NAME, Err(error.to_string()));
            }
        }
        answer
    }

    /// Asks an archive that failed to answer, or was never asked, whether it is there; does nothing while it answers.
    pub(crate) async fn probe_unless_well(&self, patience: Duration) {
        if self.open_until_ms.load(Relaxed) != 0 || !self.has_answered.load(Relaxed) {
            let _ = self.query(patience, |archive| async move { archive.archive_meta().await }).await;
        }
    }

    fn now_millis(&self) -> u64 {
        self.created_at.elapsed().as_millis() as u64
    }
}
