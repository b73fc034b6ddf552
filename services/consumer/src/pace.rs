//! Trying again: paced, with jitter, until it works, cannot work, or the process is asked to end.

use std::time::Duration;

use liverank_adapters::StoreError;
use liverank_core::backoff;
use liverank_runtime::ServiceContext;

use crate::STORE_RETRY_BACKOFF;

/// Waits that double from `first` to `most`.
#[derive(Debug, Clone, Copy)]
pub struct RetryBackoff {
    /// Before the second try.
    pub first_wait: Duration,
    /// Between tries at most.
    pub longest_wait: Duration,
}

impl RetryBackoff {
    /// The wait after `failures` failures in a row, without jitter.
    pub fn wait_after(&self, failures: u32) -> Duration {
        backoff::wait_after_failures(failures, self.first_wait, self.longest_wait)
    }

    /// Waits after `failures` failures in a row, half of it by chance, or less where shutdown comes. Returns whether
    /// to go on.
    pub async fn pause_after(&self, failures: u32, shell: &ServiceContext) -> bool {
        let wait = self.wait_after(failures).mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            () = shell.shutdown.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}

/// Does `attempt` until it is done. `None` where shutdown came first; an error where it does not pass. How the
/// store is shows in the process's health.
pub async fn retry_until_done<T, F: Future<Output = Result<T, StoreError>>>(
    shell: &ServiceContext,
    what: &'static str,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<Option<T>> {
    let mut away = None;
    for failures in 0.. {
        // A store's library may hang for longer than a drain takes; what is given up here has counted nothing.
        let outcome = tokio::select! {
            outcome = attempt() => outcome,
            () = shell.shutdown.cancelled() => return Ok(None),
        };
        match outcome {
            Ok(done) => {
                if let Some(part) = away {
                    shell.health.note_dependency(part, Ok(()));
                }
                return Ok(Some(done));
            }
            Err(error) if error.is_transient() => {
                away = Some(error.part());
                shell.health.note_dependency(error.part(), Err(error.to_string()));
            }
            Err(error) => return Err(anyhow::Error::new(error).context(what)),
        }
        if !STORE_RETRY_BACKOFF.pause_after(failures, shell).await {
            return Ok(None);
        }
    }
    Ok(None)
}
