//! Posts comments at a fixed rate. Each comment is tried under the same idempotency key until it is acknowledged, so
//! the number of acknowledged comments must equal the number of sequence numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

/// The time limit of one try to post a comment.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two tries of the same comment.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// The most tries of one comment: they last minutes, longer than any outage that a test causes. A comment that is
/// never acknowledged stays in `pending`, and the test reports it.
const MAX_TRIES: usize = 400;

/// The comments that the harness wants to be posted: the rate, and the videos.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WantedPosting {
    /// Comments a second, over all videos together; 0 posts none.
    pub per_second: f64,
    /// The weight of each video: a video gets the part `weight / sum of weights` of all comments.
    pub videos: BTreeMap<String, u32>,
}

/// Counts of the comments that were posted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedCounts {
    /// The number of acknowledged comments, by video id.
    pub acknowledged: BTreeMap<String, u64>,
    /// The number of comments that were sent and are not acknowledged yet.
    pub pending: u64,
    /// The number of tries that failed and were repeated.
    pub retries: u64,
}

/// The task that posts comments.
pub struct CommentPoster {
    client: Client,
    gateway: Url,
    /// A random number in every idempotency key, so that two runs of this program never share a key.
    run: u64,
    posting: Mutex<WantedPosting>,
    posted_counts: Mutex<PostedCounts>,
    changed: Notify,
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CommentPoster {
    /// Starts the task; nothing is posted until `set_posting` is called.
    pub fn new(client: Client, gateway: Url) -> Arc<Self> {
        let poster = Arc::new(Self {
            client,
            gateway,
            run: rand::random(),
            posting: Mutex::default(),
            posted_counts: Mutex::default(),
            changed: Notify::new(),
        });
        tokio::spawn(Arc::clone(&poster).post_forever());
        poster
    }

    /// Replaces the rate and the videos from now on.
    pub fn set_posting(&self, posting: WantedPosting) {
        *lock_mutex(&self.posting) = posting;
        self.changed.notify_one();
    }

    /// Returns the counts of the comments that were posted so far.
    pub fn posted_counts(&self) -> PostedCounts {
        lock_mutex(&self.posted_counts).clone()
    }

    async fn post_forever(self: Arc<Self>) {
        let mut number = 0u64;
        loop {
            let posting = lock_mutex(&self.posting).clone();
            let turn: Vec<&String> = posting
                .videos
                .iter()
                .flat_map(|(video, share)| std::iter::repeat_n(video, *share as usize))
                .collect();
            if posting.per_second <= 0.0 || turn.is_empty() {
                self.changed.notified().await;
                continue;
            }
            // Strides of a number that shares no divisor with the turn's length mix the videos evenly.
            let video = turn[(number as usize).wrapping_mul(7919) % turn.len()].clone();
            lock_mutex(&self.posted_counts).pending += 1;
            tokio::spawn(Arc::clone(&self).post_comment(number, video));
            number += 1;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs_f64(1.0 / posting.per_second)) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    async fn post_comment(self: Arc<Self>, number: u64, video: String) {
        let key = format!("{:x}-{number}", self.run);
        let body = json!({
            "userid": format!("poster-{}", number % 100), "videoid": video, "comment": format!("comment {number}"),
            "idempotency_key": key,
        });
        let Ok(url) = self.gateway.join("/comment") else { return };
        for _ in 0..MAX_TRIES {
            let answer = self.client.post(url.clone()).json(&body).timeout(TRY_TIMEOUT).send().await;
            if answer.is_ok_and(|answer| answer.status().as_u16() == 201) {
                let mut posted = lock_mutex(&self.posted_counts);
                posted.pending -= 1;
                *posted.acknowledged.entry(video).or_default() += 1;
                return;
            }
            lock_mutex(&self.posted_counts).retries += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
