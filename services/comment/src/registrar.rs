//! Registers videos that were commented on with the manager, without delaying the answers to posts.
//!
//! Registration is optional: a reader registers the videos that it is asked for, too. So a video is dropped if the
//! queue is full.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::VideoId;
use liverank_protocol::{RegisterAnswer, RegisterRequest};
use liverank_runtime::peer::{PeerError, ServiceReplicas};
use liverank_runtime::{ServiceContext, Tasks};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::metrics::CommentMetrics;
use crate::recent::RecentEntries;

/// The maximum number of videos that wait to be registered: a manager registers as many in a second or two.
const MAX_WAITING: usize = 1_024;
/// The maximum number of videos remembered as registered: the working set of one comment service, at about 100 bytes
/// each.
const MAX_REMEMBERED: usize = 20_000;
/// The time for which a video counts as registered: the manager forgets videos without viewers after an hour.
const REGISTRATION_VALID_FOR: Duration = Duration::from_mins(5);
/// The pause after a manager did not answer: long enough not to overload it, because its other clients wait too.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Registers videos with the manager. Cheap to clone: all clones share one queue.
#[derive(Clone)]
pub struct VideoRegistrar {
    queue: mpsc::Sender<VideoId>,
    recent: Arc<Mutex<RecentEntries<VideoId, ()>>>,
    metrics: CommentMetrics,
}

impl VideoRegistrar {
    /// Starts a registrar that sends registrations to `managers` until shutdown. Without managers it does nothing.
    pub fn start(
        managers: Option<ServiceReplicas>,
        tasks: &mut Tasks,
        shell: &ServiceContext,
        metrics: CommentMetrics,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let recent = Arc::new(Mutex::new(RecentEntries::new(MAX_REMEMBERED, REGISTRATION_VALID_FOR)));
        let registrar = Self { queue, recent, metrics };
        if let Some(managers) = managers {
            tasks.spawn("register", register_videos(waiting, managers, registrar.clone(), shell.clone()));
        }
        registrar
    }

    /// Queues `video` for registration, unless it was registered lately. Never waits.
    pub fn register_soon(&self, video: &VideoId) {
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.get(now, video).is_some() {
            return;
        }
        match self.queue.try_send(video.clone()) {
            Ok(()) => recent.insert(now, video.clone(), ()),
            Err(TrySendError::Full(_)) => {
                self.metrics.registrations_dropped.inc();
            }
            // Without managers, no task reads the queue.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn forget_video(&self, video: &VideoId) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).remove(video);
    }
}

async fn register_videos(
    mut waiting: mpsc::Receiver<VideoId>,
    managers: ServiceReplicas,
    registrar: VideoRegistrar,
    shell: ServiceContext,
) {
    loop {
        let video = tokio::select! {
            () = shell.shutdown.cancelled() => return,
            video = waiting.recv() => video,
        };
        let Some(video) = video else { return };
        let question = RegisterRequest { videoid: video.clone() };
        let registered = managers.post::<RegisterAnswer>(&["register"], &question).await;
        let manager = match registered {
            Err(PeerError::Unavailable(reason)) => {
                registrar.forget_video(&video);
                Err(reason)
            }
            // Also if the manager refused: asking again would not help.
            Ok(_) | Err(PeerError::Refused { .. }) => Ok(()),
        };
        let away = manager.is_err();
        shell.health.note_dependency("manager", manager);
        if away {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}
