//! Retries of store operations with exponential backoff and jitter, until the operation works, cannot work, or the
//! process shuts down.

use std::time::Duration;

use liverank_adapters::StoreError;
use liverank_core::backoff;
use liverank_runtime::ServiceContext;

use crate::STORE_RETRY_BACKOFF;

/// An exponential backoff: waits that double from `first_wait` to `longest_wait`.
#[derive(Debug, Clone, Copy)]
pub struct RetryBackoff {
    /// The wait before the second try.
    pub first_wait: Duration,
    /// The longest wait between two tries.
    pub longest_wait: Duration,
}

impl RetryBackoff {
    /// Returns the wait after `failures` failures in a row, without jitter.
    pub fn wait_after(&self, failures: u32) -> Duration {
        backoff::wait_after_failures(failures, self.first_wait, self.longest_wait)
    }

    /// Waits after `failures` failures in a row: half of the wait is random, and shutdown ends it early. Returns false
    /// if shutdown came, true if the caller should go on.
    pub async fn pause_after(&self, failures: u32, shell: &ServiceContext) -> bool {
        let wait = self.wait_after(failures).mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            () = shell.shutdown.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}

/// Calls `attempt` until it succeeds. Returns `None` if shutdown came first, and an error if the failure is not
/// transient. The state of `store`, which `attempt` asks, is shown in the process's health.
pub async fn retry_until_done<T, F: Future<Output = Result<T, StoreError>>>(
    shell: &ServiceContext,
    store: &'static str,
    what: &'static str,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<Option<T>> {
    for failures in 0.. {
        // A store's client library may hang for longer than a drain takes. An attempt that is given up here has
        // counted nothing.
        let outcome = tokio::select! {
            outcome = attempt() => outcome,
            () = shell.shutdown.cancelled() => return Ok(None),
        };
        match outcome {
            Ok(done) => {
                shell.health.note_dependency(store, Ok(()));
                return Ok(Some(done));
            }
            Err(error) if error.is_transient() => {
                shell.health.note_dependency(store, Err(error.to_string()));
            }
            Err(error) => return Err(anyhow::Error::new(error).context(what)),
        }
        if !STORE_RETRY_BACKOFF.pause_after(failures, shell).await {
            return Ok(None);
        }
    }
    Ok(None)
}
