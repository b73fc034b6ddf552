//! Tries again, as services do, what a store may refuse for a moment: on a busy machine it answers late, has no
//! coordinator yet, or still loads.

use std::time::{Duration, Instant};

use liverank_adapters::StoreError;
use liverank_adapters::archive::CommitError;
use liverank_adapters::export_topics::ExportError;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// An error that says whether trying again may help.
pub trait Failure {
    fn is_transient(&self) -> bool;
}

impl Failure for StoreError {
    fn is_transient(&self) -> bool {
        StoreError::is_transient(self)
    }
}

impl Failure for ExportError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

impl Failure for CommitError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// Calls `attempt` until it succeeds or fails for good, and returns that; after `limit` returns the last error.
pub async fn retry<T, E: Failure>(
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Err(error) if error.is_transient() && begun.elapsed() < limit => tokio::time::sleep(PAUSE).await,
            ended => return ended,
        }
    }
}
