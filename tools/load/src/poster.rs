//! Posts each event until it is acknowledged: again and again with the same identity, whatever fails meanwhile.

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

/// The largest number of posts in flight. When it is reached, the plan runs late rather than filling the memory.
const MAX_POSTS_IN_FLIGHT: usize = 2000;
/// The time within which a server must answer: longer than the server's own wait for the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// The shortest and the longest wait between two tries of one event; the wait doubles from try to try.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// The longest wait that a server may ask for by `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The result of one try to post an event.
enum TryOutcome {
    Acknowledged,
    /// The event may have counted or not. Try again, after the time that the server asked for, if any.
    Retry(Option<Duration>),
    /// The server refused the event, and would refuse it again; with the reason.
    Refused(String),
}

/// Posts all events of a run.
pub struct EventPoster {
    client: Client,
    targets: TargetAddresses,
    plan: PostingPlan,
    record: Arc<RunRecord>,
    request_permits: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Cancelled when events that are not acknowledged yet are to be given up.
    pub give_up_token: CancellationToken,
}

impl EventPoster {
    /// Creates a poster that posts to the gateways in `targets`.
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
            give_up_token: CancellationToken::new(),
        })
    }

    /// Posts each of `events` at its time, until `stop` is cancelled.
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

    /// Waits for all posts in flight, for at most `patience`; the rest is then given up.
    pub async fn wait_for_posts(&self, patience: Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            self.give_up_token.cancel();
            self.tasks.wait().await;
        }
    }

    /// Posts one event until it is acknowledged, refused or given up. Returns true if the event was acknowledged.
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
                () = self.give_up_token.cancelled() => break,
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
                TryOutcome::Retry(asked) => asked.unwrap_or_default(),
            };
            tokio::select! {
                () = tokio::time::sleep(wait.max(asked).mul_f64(rand::random_range(0.5..=1.5))) => {}
                () = self.give_up_token.cancelled() => break,
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
            return TryOutcome::Retry(None);
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
        TryOutcome::Retry(header.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)))
    }
}
