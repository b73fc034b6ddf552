//! Connections that stay open (comment streams, `WebSockets`): how many there may be, and how they leave when the
//! process ends.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{ServiceContext, server};

/// The content type of server-sent events. They are UTF-8 in any case; readers that do not know that take them for Latin-1.
pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// The part of the drain time over which streams leave; the rest is for their last bytes.
const LEAVE_WITHIN: f64 = 0.7;
/// A stream holds a socket to the client and one to the service behind; where both run in one process, that service's
/// end is a third. One more for everything else.
const FILES_PER_STREAM: u64 = 4;

/// All streams of the process.
pub struct Streams {
    room: Arc<Semaphore>,
    shutdown: CancellationToken,
    drain: Duration,
    /// Streams that live outside of their HTTP connection (`WebSockets`).
    pub tasks: TaskTracker,
    open: Gauge,
}

impl Streams {
    /// Room for `limit` streams, or fewer where the limit of open files says so.
    pub fn new(limit: usize, shell: &ServiceContext, open: Gauge) -> Self {
        let by_files = (server::raise_file_limit() / FILES_PER_STREAM).max(16) as usize;
        Self {
            room: Arc::new(Semaphore::new(limit.min(by_files))),
            shutdown: shell.shutdown.clone(),
            drain: shell.drain,
            tasks: TaskTracker::new(),
            open,
        }
    }

    /// Makes room for one more of this client's, or `None` where there is none or the process is on its way out.
    pub fn enter(&self, _client: IpAddr) -> Option<StreamPermit> {
        if self.shutdown.is_cancelled() {
            return None;
        }
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        self.open.inc();
        let shutdown = self.shutdown.clone();
        let spread = self.drain.mul_f64(LEAVE_WITHIN);
        // All that leave at once come back at once, somewhere else: so each waits a while of its own.
        let leave = Box::pin(async move {
            shutdown.cancelled().await;
            tokio::time::sleep(spread.mul_f64(rand::random())).await;
        });
        Some(StreamPermit { leave, open: self.open.clone(), _room: room })
    }

    /// Waits for the shutdown, and then for the tasks, at most as long as the drain.
    pub async fn drained(&self) {
        self.shutdown.cancelled().await;
        self.tasks.close();
        let _ = tokio::time::timeout(self.drain, self.tasks.wait()).await;
    }
}

/// One stream's place among the others; dropping it frees it.
pub struct StreamPermit {
    /// Completes when it is this stream's turn to leave.
    pub leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    open: Gauge,
    _room: OwnedSemaphorePermit,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_as_many_as_configured_and_they_leave_within_the_drain() {
        let shell = ServiceContext::new(Duration::from_secs(10));
        let open = Gauge::default();
        let streams = Streams::new(2, &shell, open.clone());
        let (first, second) = (streams.enter(HERE).unwrap(), streams.enter(HERE).unwrap());
        assert!(streams.enter(HERE).is_none());
        drop(second);
        let second = streams.enter(HERE).unwrap();
        assert_eq!(open.get(), 2);
        shell.shutdown.cancel();
        let start = tokio::time::Instant::now();
        tokio::join!(first.leave_now(), second.leave_now());
        assert!(start.elapsed() <= shell.drain.mul_f64(LEAVE_WITHIN) + Duration::from_millis(1));
        assert!(streams.enter(HERE).is_none(), "a process on its way out takes no more");
    }

    impl StreamPermit {
        async fn leave_now(mut self) {
            self.leave.as_mut().await;
        }
    }
}
