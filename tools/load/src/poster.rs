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

use crate::oracle::{Fault, Wrong};
use crate::plan::{Event, Plan};
use crate::record::Record;
use crate::targets::Targets;

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
pub struct Poster {
    client: Client,
    targets: Targets,
    plan: Plan,
    record: Arc<Record>,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Cancelled when what is not acknowledged by now is given up.
    pub give_up: CancellationToken,
}

impl Poster {
    /// A poster to the front doors in `targets`.
    pub fn new(client: Client, targets: Targets, plan: Plan, record: Arc<Record>) -> Arc<Self> {
        Arc::new(Self {
            client,
            targets,
            plan,
            record,
            room: Arc::new(Semaphore::new(MAX_POSTS_IN_FLIGHT)),
            tasks: TaskTracker::new(),
            give_up: CancellationToken::new(),
        })
    }

    /// Posts `events`, each at its time, until `stop`.
    pub async fn play(
        self: &Arc<Self>,
        events: impl Iterator<Item = Event> + Send,
        stop: &CancellationToken,
        progress: &ProgressBar,
    ) {
        let start = Instant::now();
        for event in events {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(start + event.at) => {}
            }
            let room = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                room = Arc::clone(&self.room).acquire_owned() => room,
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
    pub async fn finish(&self, patience: Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            self.give_up.cancel();
            self.tasks.wait().await;
        }
    }

    /// Posts one event until it is acknowledged, refused or given up. Returns whether it was acknowledged.
    pub async fn post(&self, event: &Event) -> bool {
        let (path, body) = self.plan.request(event);
        let sent = self.record.sent(event);
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
                    self.record.acknowledged(event, sent);
                    return true;
                }
                TryOutcome::Refused(what) => {
                    self.record.counts.refused.fetch_add(1, Relaxed);
                    self.record.fault(Fault::new(
                        Wrong::Different,
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
        self.record.given_up(event);
        false
    }

    async fn try_post(&self, path: &str, body: &Value) -> TryOutcome {
        let target = self.targets.next();
        let sent = self.client.post(target.url(path)).timeout(ANSWER_TIMEOUT).json(body).send().await;
        let Ok(answer) = sent else {
            self.targets.avoid(&target);
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
            self.targets.avoid(&target);
        }
        let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        TryOutcome::Again(header.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)))
    }
}
