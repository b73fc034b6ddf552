//! Writing to viewers: a few threads, each of which has the sockets of a part of the viewers.
//!
//! A viewer is a record in its thread's table: a socket, a cursor into the ring of its channel, a few flags. A viewer
//! has no task, no timer and no queue. The threads are notified of each channel that has something new
//! ([`FanoutThreads::notify_threads`]); each thread goes over its viewers of that channel and writes to their sockets
//! what the channel has for them, as far as the sockets accept it. The kernel notifies a thread of sockets that can be
//! written to again, and of peers who have left.
//!
//! The writing threads are not tasks of the async runtime: this way, the kernel's scheduler shares a busy core fairly
//! between the viewers who are connected and a crowd that is just arriving, whose requests the runtime reads.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_runtime::server::RawConnection;
use mio::{Poll, Token, Waker};
use tokio_util::sync::CancellationToken;

use crate::channel::VideoChannel;

mod shard;
mod socket;
mod viewer;

use shard::WritingThread;
pub use viewer::ConnectedViewer;

/// The maximum number of writing threads: the kernel writes from one core to a few hundred thousand sockets a second,
/// and four cores fill any network card.
pub const MAX_WRITING_THREADS: usize = 4;
/// The time after which something that waits to be written is late: people do not notice a delay of 100 ms.
const LATE_WRITE_THRESHOLD: Duration = Duration::from_millis(100);
/// The value of `WorkerHandle::busy_since` that means that nothing waits to be written.
const NOTHING_WAITING_MS: u64 = u64::MAX;

/// The messages to a writing thread: viewers that join it, and channels that have something new for its viewers.
#[derive(Default)]
struct WorkerInbox {
    joining_viewers: Vec<JoiningViewer>,
    channels_with_news: Vec<Arc<VideoChannel>>,
    is_stopped: bool,
}

/// A viewer on its way to a writing thread, with its connection.
pub struct JoiningViewer {
    /// The viewer that joins, not yet with a socket.
    pub viewer: ConnectedViewer<()>,
    /// The viewer's connection, taken over from the HTTP server.
    pub raw_connection: RawConnection,
}

/// The handle of a writing thread, shared with the tasks that send viewers and notifications to it.
struct WorkerHandle {
    /// The thread's bit in [`VideoChannel::notified_writer_threads`].
    thread_bit: u32,
    inbox: Mutex<WorkerInbox>,
    waker: Waker,
    /// The time since which something waits to be written, in ms since `start`; [`NOTHING_WAITING_MS`] if nothing does.
    busy_since: AtomicU64,
    start: Instant,
    thread_has_ended: CancellationToken,
}

impl WorkerHandle {
    fn inbox(&self) -> MutexGuard<'_, WorkerInbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something into the thread's inbox and wakes the thread if it may be asleep. Does nothing if the thread has
    /// ended.
    fn post_to_inbox(&self, put: impl FnOnce(&mut WorkerInbox)) {
        let mut inbox = self.inbox();
        if inbox.is_stopped {
            return;
        }
        let asleep = inbox.joining_viewers.is_empty() && inbox.channels_with_news.is_empty();
        put(&mut inbox);
        drop(inbox);
        if asleep {
            self.wake_thread();
        }
    }

    fn wake_thread(&self) {
        // Waking fails only if the kernel has no memory for eight bytes; then the next message tries again.
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a writing thread could not be woken");
        }
    }

    fn millis_since_start(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn is_late(&self) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        since != NOTHING_WAITING_MS
            && self.millis_since_start().saturating_sub(since) > LATE_WRITE_THRESHOLD.as_millis() as u64
    }
}

/// The threads that write to viewers' sockets.
pub struct FanoutThreads {
    workers: Vec<Arc<WorkerHandle>>,
    next_thread: AtomicUsize,
    thread_has_ended: CancellationToken,
}

impl FanoutThreads {
    /// Starts one writing thread for each core that this process may use, up to [`MAX_WRITING_THREADS`].
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let ended = CancellationToken::new();
        let workers = (0..cores.min(MAX_WRITING_THREADS))
            .map(|number| start_thread(number, &ended))
            .collect::<io::Result<_>>()?;
        Ok(Self { workers, next_thread: AtomicUsize::new(0), thread_has_ended: ended })
    }

    /// Returns the number of writing threads.
    pub const fn thread_count(&self) -> usize {
        self.workers.len()
    }

    /// Gives a viewer to one of the threads, in turn: from now on that thread writes to the viewer what its channel has
    /// for it, until the viewer leaves.
    pub fn add_viewer(&self, joining: JoiningViewer) {
        let at = self.next_thread.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        self.workers[at].post_to_inbox(|inbox| inbox.joining_viewers.push(joining));
    }

    /// Notifies all threads that a channel has something for its viewers: visible comments, a heartbeat, or the end of
    /// some streams.
    pub fn notify_threads(&self, room: &Arc<VideoChannel>) {
        for desk in &self.workers {
            if room.notified_writer_threads.fetch_or(desk.thread_bit, Ordering::AcqRel) & desk.thread_bit == 0
            {
                desk.post_to_inbox(|inbox| inbox.channels_with_news.push(Arc::clone(room)));
            }
        }
    }

    /// Returns true if a thread has had something to write for longer than `LATE_WRITE_THRESHOLD`.
    pub fn is_late(&self) -> bool {
        self.workers.iter().any(|desk| desk.is_late())
    }

    /// Completes when a writing thread has ended, which happens only after `FanoutThreads::stop` or by a bug.
    pub async fn wait_for_thread_end(&self) {
        self.thread_has_ended.cancelled().await;
    }

    /// Ends all threads soon, and with them every viewer's stream.
    pub fn stop(&self) {
        for desk in &self.workers {
            desk.inbox().is_stopped = true;
            desk.wake_thread();
        }
    }
}

const WAKE_TOKEN: Token = Token(usize::MAX);

fn start_thread(number: usize, ended: &CancellationToken) -> io::Result<Arc<WorkerHandle>> {
    let poll = Poll::new()?;
    let desk = Arc::new(WorkerHandle {
        thread_bit: 1 << number,
        inbox: Mutex::default(),
        waker: Waker::new(poll.registry(), WAKE_TOKEN)?,
        busy_since: AtomicU64::new(NOTHING_WAITING_MS),
        start: Instant::now(),
        thread_has_ended: ended.clone(),
    });
    let shard = WritingThread::new(poll, Arc::clone(&desk));
    std::thread::Builder::new().name(format!("fan-out-{number}")).spawn(move || shard.run())?;
    Ok(desk)
}

#[cfg(test)]
mod tests;
