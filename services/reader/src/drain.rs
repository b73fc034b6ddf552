//! Leaving: no new viewers where there is another reader for them, then those who are here go a few at a time, and only
//! then is the port closed.

use std::sync::Arc;
use std::time::Duration;

use liverank_runtime::ServiceContext;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Reader;

/// How often is looked whether everybody has left.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for the shell's shutdown, empties the reader within three quarters of the drain time, and then cancels
/// `served`, so that the server finishes with the rest.
///
/// The managers hear of it at once, move the videos away and say in their answers to heartbeats how fast viewers are to
/// be handed over; whom they have not moved after a quarter of the time (or at once, where there are no managers) the
/// reader sends away by itself ([`crate::handing`]).
pub async fn run(reader: Arc<Reader>, shell: ServiceContext, served: CancellationToken) {
    shell.shutdown.cancelled().await;
    let start = Instant::now();
    let viewers = reader.hub.viewers();
    tracing::info!(viewers, "draining");
    reader.leave(shell.drain);
    let part = shell.drain / 4;
    while reader.hub.viewers() > 0 && start.elapsed() < 3 * part {
        tokio::time::sleep(LOOK).await;
    }
    if reader.has_managers {
        reader.told(Duration::from_secs(1).min(part)).await;
    }
    tracing::info!(left = reader.hub.viewers(), "drained");
    served.cancel();
}
