//! A period of leadership: the Lease that the leader holds, its shard, and when the period ends.

use super::lease::{Candidate, HeldLease};
use super::metrics::OperatorMetrics;
use super::shard::Shard;
use tokio_util::sync::CancellationToken;

/// A period in which this process leads a shard.
pub struct Leadership {
    /// The held Lease, which fences the leader's orders.
    pub held_lease: HeldLease,
    /// The shard that this process leads: clusters in other shards' namespaces are left alone.
    pub shard: Shard,
    /// The name of the process that holds the Lease.
    pub identity: String,
    /// The candidate that reads and writes the Lease.
    pub candidate: Candidate,
    /// Cancelled when the leadership is over.
    pub ended: CancellationToken,
    /// The operator's metrics.
    pub metrics: OperatorMetrics,
}

impl Leadership {
    /// Checks, because another leader seems to exist, whether this process still holds the Lease, and ends the
    /// leadership if it does not. If the Lease cannot be read, nothing is concluded: the renewals decide then.
    pub async fn check_still_leading(&self) {
        match self.candidate.still_holds_lease(&self.held_lease).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("not leading any more: the Lease is another's");
                self.ended.cancel();
            }
            Err(error) => tracing::debug!(error = format!("{error:#}"), "the Lease cannot be read"),
        }
    }
}
