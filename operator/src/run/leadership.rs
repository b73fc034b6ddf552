//! A time in office: what everything that only the leader does is given.

use super::lease::{Candidate, Held};
use super::metrics::OperatorMetrics;
use super::shard::Shard;
use tokio_util::sync::CancellationToken;

/// One time in office.
pub struct Leadership {
    /// The lease that fences its orders.
    pub held_lease: Held,
    /// The shard that is led: nothing is done about clusters of other namespaces.
    pub shard: Shard,
    /// The name of the process that holds the Lease.
    pub identity: String,
    /// What reads and writes the Lease.
    pub candidate: Candidate,
    /// Cancelled when it is over.
    pub over: CancellationToken,
    /// The operator's metrics.
    pub metrics: OperatorMetrics,
}

impl Leadership {
    /// Somebody says that another leads: looks at the Lease itself, and steps down where it is so. Nothing is believed
    /// of a Lease that cannot be read: whether it is renewed in time decides then.
    pub async fn check_still_leading(&self) {
        match self.candidate.is_unchanged(&self.held_lease).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("not leading any more: the Lease is another's");
                self.over.cancel();
            }
            Err(error) => tracing::debug!(error = format!("{error:#}"), "the Lease cannot be read"),
        }
    }
}
