//! Draining a reader: it accepts no new viewers for whom there is another reader, then sends its viewers away a few at
//! a time, and only then closes the port.
//!
//! The drain time (`--drain-seconds`, some seconds less than Kubernetes waits) is divided as follows: the viewers leave
//! in all of it but the last [`MAX_RESERVED_TIME`](liverank_core::handover::leaving::MAX_RESERVED_TIME) (or a quarter,
//! if that is less); the managers get the last heartbeat within one second of the rest; requests that are being
//! answered then get [`REQUESTS_TIMEOUT`]. A reader without viewers ends within at most these last two, whatever its
//! drain time is.

use std::sync::Arc;
use std::time::Duration;

use liverank_runtime::ServiceContext;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::RunningReader;
use crate::metrics::WaitReason;

/// The time that requests which are being answered when the last viewer has left may still take: longer than a request
/// waits for a manager's answer. A client that is slower than this asks another reader.
pub const REQUESTS_TIMEOUT: Duration = Duration::from_secs(3);
/// The extra time in which the viewers that were sent away last may disconnect.
const LAST_VIEWERS_TIMEOUT: Duration = Duration::from_millis(500);
/// The time between two log messages that say what the drain waits for.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// The time between two looks at whether all viewers have left.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Waits for the shutdown signal of `shell`, empties the reader within the drain time, and then cancels `served`, so
/// that the server answers the remaining requests and ends.
///
/// The reader tells the managers at once, and the managers move its videos to other readers. In their answers to
/// heartbeats, the managers say how fast the reader is to hand over its viewers, and for how many viewers the other
/// readers have space. The reader itself sends away the viewers whom the managers have not moved ([`crate::handing`]):
/// to readers that have had space for a while, and without known space only when the drain time is nearly over
/// ([`leaving`](liverank_core::handover::leaving)).
pub async fn run(reader: Arc<RunningReader>, shell: ServiceContext, served: CancellationToken) {
    shell.shutdown.cancelled().await;
    let start = Instant::now();
    let viewers = reader.hub.viewer_total();
    tracing::info!(viewers, "draining");
    let until_empty = reader.begin_leaving(shell.drain_time);
    let part = shell.drain_time / 4;
    wait_until_empty(&reader, start, until_empty + LAST_VIEWERS_TIMEOUT.min(part)).await;
    if reader.has_managers {
        reader.hub.metrics.set_wait_reason(Some(WaitReason::Managers));
        reader.send_heartbeat_now(Duration::from_secs(1).min(part)).await;
    }
    let (left, seconds) = (reader.hub.viewer_total(), start.elapsed().as_secs_f64());
    tracing::info!(left, seconds, "drained: waiting for requests that are being answered");
    reader.hub.metrics.set_wait_reason(Some(WaitReason::Requests));
    served.cancel();
}

/// Waits until the last viewer has left, for at most `limit` after `start`.
async fn wait_until_empty(reader: &RunningReader, start: Instant, limit: Duration) {
    reader.hub.metrics.set_wait_reason(Some(WaitReason::Viewers));
    let mut told = start;
    while reader.hub.viewer_total() > 0 && start.elapsed() < limit {
        if told.elapsed() >= LOG_EVERY {
            told = Instant::now();
            let seconds_left = limit.saturating_sub(start.elapsed()).as_secs();
            tracing::info!(viewers = reader.hub.viewer_total(), seconds_left, "waiting for viewers to leave");
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}
