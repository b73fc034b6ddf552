//! Leaving: no new viewers where there is another reader for them, then those who are here go a few at a time, and only
//! then is the port closed.
//!
//! Of its drain time (`--drain-seconds`, some seconds less than Kubernetes waits) a reader takes all but the last
//! [`RESERVED_TIME`](liverank_core::handover::leaving::RESERVED_TIME) (or quarter) until its viewers have left; a second of the
//! rest until the managers have heard of that; [`REQUESTS_TIMEOUT`] until those are answered who ask then. One that is empty
//! ends in at most the last two, whatever its drain time is.

use std::sync::Arc;
use std::time::Duration;

use liverank_runtime::ServiceContext;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::RunningReader;
use crate::metrics::WaitReason;

/// How long requests may take that are being answered when the last viewer has left: longer than a viewer waits for a
/// manager's word. Who asks more slowly than that asks another reader.
pub const REQUESTS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long those may take to be gone who were sent away last.
const LATE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the log says what is waited for.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How often is looked whether everybody has left.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Waits for the shell's shutdown, empties the reader within the drain time, and then cancels `served`, so that the server
/// finishes with the rest.
///
/// The managers hear of it at once, move the videos away and say in their answers to heartbeats how fast viewers are to
/// be handed over, and for how many others have room. Whom they have not moved the reader sends away by itself
/// ([`crate::handing`]): into room that has been there for a while, and without any only when its time is nearly over
/// ([`leaving`](liverank_core::handover::leaving)).
pub async fn run(reader: Arc<RunningReader>, shell: ServiceContext, served: CancellationToken) {
    shell.shutdown.cancelled().await;
    let start = Instant::now();
    let viewers = reader.hub.viewers();
    tracing::info!(viewers, "draining");
    let until_empty = reader.begin_leaving(shell.drain_time);
    let part = shell.drain_time / 4;
    wait_until_empty(&reader, start, until_empty + LATE_TIMEOUT.min(part)).await;
    if reader.has_managers {
        reader.hub.metrics.set_waits_for(Some(WaitReason::Managers));
        reader.tell_managers(Duration::from_secs(1).min(part)).await;
    }
    let (left, seconds) = (reader.hub.viewers(), start.elapsed().as_secs_f64());
    tracing::info!(left, seconds, "drained: waiting for requests that are being answered");
    reader.hub.metrics.set_waits_for(Some(WaitReason::Requests));
    served.cancel();
}

/// Waits until the last viewer has left, for at most `limit` from `start` on.
async fn wait_until_empty(reader: &RunningReader, start: Instant, limit: Duration) {
    reader.hub.metrics.set_waits_for(Some(WaitReason::Viewers));
    let mut told = start;
    while reader.hub.viewers() > 0 && start.elapsed() < limit {
        if told.elapsed() >= LOG_EVERY {
            told = Instant::now();
            let seconds_left = limit.saturating_sub(start.elapsed()).as_secs();
            tracing::info!(viewers = reader.hub.viewers(), seconds_left, "waiting for viewers to leave");
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}
