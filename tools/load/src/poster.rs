//! Posts events until each is acknowledged: again and again with the same identity, whatever dies meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::oracle::{FoundFault, OracleFaultKind};
use crate::plan::{PostEvent, PostingPlan};
use crate::record::RunRecord;
use crate::targets::TargetAddresses;

/// Posts in flight: past it the plan runs late rather than the memory full.
const MAX_POSTS_IN_FLIGHT: usize = 2000;
/// How long a server may take: longer than its own wait for the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// Waits between tries of one event: they double from the first to the second.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// The longest that a server may ask us to stay away.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What becomes of a try.
enum TryOutcome {
    Acknowledged,
    /// It may have counted or not; try again, after a time that the server asked for.
    Again(Option<Duration>),
    /// The server refuses the event for good: the reason.
    Refused(String),
}

/// All posting of a run.
pub struct EventPoster {
    client: Client,
    targets: TargetAddresses,
    plan: PostingPlan,
    record: Arc<RunRecord>,
    request_permits: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Cancelled when what is not acknowledged by now is given up.
    pub give_up: CancellationToken,
}

impl EventPoster {
    /// A poster to the front doors in `targets`.
    pub fn new(
        client: Client,
        targets: TargetAddresses,
        plan: PostingPlan,
        record: Arc<RunRecord>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            targets,
            plan,
            record,
            request_permits: Arc::new(Semaphore::new(MAX_POSTS_IN_FLIGHT)),
            tasks: TaskTracker::new(),
            give_up: CancellationToken::new(),
        })
    }

    /// Posts `events`, each at its time, until `stop`.
    pub async fn post_events(
        self: &Arc<Self>,
        events: impl Iterator<Item = PostEvent> + Send,
        stop: &CancellationToken,
        progress: &ProgressBar,
    ) {
        let start = Instant::now();
        for event in events {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(start + event.post_after) => {}
            }
            let room = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                room = Arc::clone(&self.request_permits).acquire_owned() => room,
            };
            let (poster, progress) = (Arc::clone(self), progress.clone());
            self.tasks.spawn(async move {
                poster.post(&event).await;
                progress.inc(1);
                drop(room);
            });
        }
    }

    /// Waits for all posts under way, at most for `patience`; then they are given up.
    pub async fn wait_for_posts(&self, patience: Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            self.give_up.cancel();
            self.tasks.wait().await;
        }
    }

    /// Posts one event until it is acknowledged, refused or given up. Returns whether it was acknowledged.
    pub async fn post(&self, event: &PostEvent) -> bool {
        let (path, body) = self.plan.request_of(event);
        let sent = self.record.note_sent(event);
        let mut wait = RETRY_PAUSES.0;
        for attempt in 0.. {
            if attempt > 0 {
                self.record.counts.retried.fetch_add(1, Relaxed);
            }
            let tried = tokio::select! {
                tried = self.try_post(path, &body) => tried,
                () = self.give_up.cancelled() => break,
            };
            let asked = match tried {
                TryOutcome::Acknowledged => {
                    self.record.note_acknowledged(event, sent);
                    return true;
                }
                TryOutcome::Refused(what) => {
                    self.record.counts.refused.fetch_add(1, Relaxed);
                    self.record.note_fault(FoundFault::new(
                        OracleFaultKind::Different,
                        1,
                        format!("{} was refused: {what}", event.id),
                    ));
                    return false;
                }
                TryOutcome::Again(asked) => asked.unwrap_or_default(),
            };
            tokio::select! {
                () = tokio::time::sleep(wait.max(asked).mul_f64(rand::random_range(0.5..=1.5))) => {}
                () = self.give_up.cancelled() => break,
            }
            wait = wait.saturating_mul(2).min(RETRY_PAUSES.1);
        }
        self.record.note_given_up(event);
        false
    }

    async fn try_post(&self, path: &str, body: &Value) -> TryOutcome {
        let target = self.targets.next_target();
        let sent = self.client.post(target.url(path)).timeout(ANSWER_TIMEOUT).json(body).send().await;
        let Ok(answer) = sent else {
            self.targets.note_failed(&target);
            return TryOutcome::Again(None);
        };
        let status = answer.status();
        if status.is_success() {
            return TryOutcome::Acknowledged;
        }
        let again = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if !again {
            return TryOutcome::Refused(format!("{status} {}", answer.text().await.unwrap_or_default()));
        }
        if status.is_server_error() {
            self.targets.note_failed(&target);
        }
        let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        TryOutcome::Again(header.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)))
    }
}
