//! Writing to viewers: a few threads, each with the sockets of its share of them.
//!
//! A viewer is a record in its thread's table: a socket, a cursor into its room's ring, a few flags. It has no task, no
//! timer and no queue. A room with something new is named to the threads ([`FanoutThreads::notify_threads`]); each goes over those of
//! its viewers who are in that room and writes to their sockets, as far as these take it, what the room has for them.
//! The kernel tells a thread of sockets that take something again, and of peers who have left.
//!
//! Threads of their own, because the scheduler then shares a busy core fairly between those who are watching and a crowd
//! that is just arriving, whose requests the runtime reads.

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

/// The kernel writes from one core to a few hundred thousand sockets a second; four cores of it fill any network card.
pub const MAX_WRITING_THREADS: usize = 4;
/// What is waiting longer than this to be written is late: people do not notice this much.
const LATE_WRITE_THRESHOLD: Duration = Duration::from_millis(100);
/// Means that nothing waits to be written.
const NOTHING_WAITING_MS: u64 = u64::MAX;

/// The viewers that are handed to a thread, and the rooms that have something new for its viewers.
#[derive(Default)]
struct WorkerInbox {
    joining: Vec<JoiningViewer>,
    channels_with_news: Vec<Arc<VideoChannel>>,
    stopped: bool,
}

/// A viewer on its way to a thread.
pub struct JoiningViewer {
    /// The viewer that joins.
    pub viewer: ConnectedViewer<()>,
    /// Its socket.
    pub raw_connection: RawConnection,
}

/// What others see of a thread.
struct WorkerHandle {
    /// Its bit in [`VideoChannel::called_threads`].
    bit: u32,
    inbox: Mutex<WorkerInbox>,
    waker: Waker,
    /// Since when something waits to be written, in ms since the start; [`NOTHING_WAITING_MS`]: nothing does.
    busy_since: AtomicU64,
    start: Instant,
    has_ended: CancellationToken,
}

impl WorkerHandle {
    fn inbox(&self) -> MutexGuard<'_, WorkerInbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something into the inbox, unless the thread has ended.
    fn post_to_inbox(&self, put: impl FnOnce(&mut WorkerInbox)) {
        let mut inbox = self.inbox();
        if inbox.stopped {
            return;
        }
        let asleep = inbox.joining.is_empty() && inbox.channels_with_news.is_empty();
        put(&mut inbox);
        drop(inbox);
        if asleep {
            self.wake_thread();
        }
    }

    fn wake_thread(&self) {
        // Fails where the kernel has no memory for eight bytes; then the next post tries again.
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
    desks: Vec<Arc<WorkerHandle>>,
    next_thread: AtomicUsize,
    wait_for_thread_end: CancellationToken,
}

impl FanoutThreads {
    /// Starts one thread a core that this process may use, up to [`MAX_WRITING_THREADS`].
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let ended = CancellationToken::new();
        let desks = (0..cores.min(MAX_WRITING_THREADS))
            .map(|number| start(number, &ended))
            .collect::<io::Result<_>>()?;
        Ok(Self { desks, next_thread: AtomicUsize::new(0), wait_for_thread_end: ended })
    }

    /// How many threads write.
    pub const fn thread_count(&self) -> usize {
        self.desks.len()
    }

    /// Takes a viewer in: from now on its thread writes to it what its room has for it, until it leaves.
    pub fn add_viewer(&self, joining: JoiningViewer) {
        let at = self.next_thread.fetch_add(1, Ordering::Relaxed) % self.desks.len();
        self.desks[at].post_to_inbox(|inbox| inbox.joining.push(joining));
    }

    /// Tells the threads that a room has something for its viewers: comments that were shown, a heartbeat, the end.
    pub fn notify_threads(&self, room: &Arc<VideoChannel>) {
        for desk in &self.desks {
            if room.called_threads.fetch_or(desk.bit, Ordering::AcqRel) & desk.bit == 0 {
                desk.post_to_inbox(|inbox| inbox.channels_with_news.push(Arc::clone(room)));
            }
        }
    }

    /// Whether viewers wait noticeably for what is there for them already.
    pub fn is_late(&self) -> bool {
        self.desks.iter().any(|desk| desk.is_late())
    }

    /// Completes when a thread has ended, which it only does when it was stopped, or by a bug.
    pub async fn ended(&self) {
        self.wait_for_thread_end.cancelled().await;
    }

    /// Ends all threads soon, and with them every viewer's stream.
    pub fn stop(&self) {
        for desk in &self.desks {
            desk.inbox().stopped = true;
            desk.wake_thread();
        }
    }
}

const WAKE_TOKEN: Token = Token(usize::MAX);

fn start(number: usize, ended: &CancellationToken) -> io::Result<Arc<WorkerHandle>> {
    let poll = Poll::new()?;
    let desk = Arc::new(WorkerHandle {
        bit: 1 << number,
        inbox: Mutex::default(),
        waker: Waker::new(poll.registry(), WAKE_TOKEN)?,
        busy_since: AtomicU64::new(NOTHING_WAITING_MS),
        start: Instant::now(),
        has_ended: ended.clone(),
    });
    let shard = WritingThread::new(poll, Arc::clone(&desk));
    std::thread::Builder::new().name(format!("fan-out-{number}")).spawn(move || shard.run())?;
    Ok(desk)
}

#[cfg(test)]
mod tests;
