//! Connections that stay open: how many there may be, and how they leave when the process ends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use liverank_shell::{Shell, server};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The part of the drain over which clients are sent away; the rest is for their last bytes.
const LEAVE_WITHIN: f64 = 0.7;
/// Where gateway and this service are one process, a client takes three files; one more for everything else.
const FILES_PER_CLIENT: u64 = 4;

/// All `WebSockets` of the process.
pub(crate) struct Streams {
    room: Arc<Semaphore>,
    shutdown: CancellationToken,
    drain: Duration,
    pub(crate) tasks: TaskTracker,
    open: Gauge,
}

impl Streams {
    /// Room for `limit` clients, or fewer where the limit of open files says so.
    pub(crate) fn new(limit: usize, shell: &Shell, open: Gauge) -> Self {
        let by_files = (server::raise_file_limit() / FILES_PER_CLIENT).max(16) as usize;
        Self {
            room: Arc::new(Semaphore::new(limit.min(by_files))),
            shutdown: shell.shutdown.clone(),
            drain: shell.drain,
            tasks: TaskTracker::new(),
            open,
        }
    }

    /// Makes room for one more; `None` where there is none or the process is on its way out.
    pub(crate) fn enter(&self) -> Option<Stay> {
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
        Some(Stay { leave, open: self.open.clone(), _room: room })
    }

    /// Waits for the shutdown and then for all clients, at most as long as the drain.
    pub(crate) async fn drained(&self) {
        self.shutdown.cancelled().await;
        self.tasks.close();
        let _ = tokio::time::timeout(self.drain, self.tasks.wait()).await;
    }
}

/// One client's place among the others; dropping it frees it.
pub(crate) struct Stay {
    /// Completes when it is this client's turn to leave.
    pub(crate) leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    open: Gauge,
    _room: OwnedSemaphorePermit,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.open.dec();
    }
}
