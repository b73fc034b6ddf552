//! Posts comments at a rate, each until it is acknowledged and under the same key, so that what was acknowledged is what
//! must have been numbered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Waits between tries.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// Tries: minutes, which is longer than anything that a test does to the system. What is never acknowledged stays
/// pending, and a test says so.
const MAX_TRIES: usize = 400;

/// What is to be posted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WantedPosting {
    /// Comments a second, over all videos; 0 for none.
    pub per_second: f64,
    /// The share of the comments that goes to each video.
    pub videos: BTreeMap<String, u32>,
}

/// What was posted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedCounts {
    /// Comments acknowledged, by video.
    pub acknowledged: BTreeMap<String, u64>,
    /// Comments sent and not acknowledged yet.
    pub pending: u64,
    /// Tries that failed and were made again.
    pub retries: u64,
}

/// The one who posts.
pub struct CommentPoster {
    client: Client,
    gateway: Url,
    /// Part of every key: this process's comments are nobody else's.
    run: u64,
    posting: Mutex<WantedPosting>,
    posted: Mutex<PostedCounts>,
    changed: Notify,
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CommentPoster {
    /// One who posts nothing yet.
    pub fn new(client: Client, gateway: Url) -> Arc<Self> {
        let poster = Arc::new(Self {
            client,
            gateway,
            run: rand::random(),
            posting: Mutex::default(),
            posted: Mutex::default(),
            changed: Notify::new(),
        });
        tokio::spawn(Arc::clone(&poster).post_forever());
        poster
    }

    /// Posts this from now on.
    pub fn set_posting(&self, posting: WantedPosting) {
        *lock_mutex(&self.posting) = posting;
        self.changed.notify_one();
    }

    /// What was posted so far.
    pub fn posted(&self) -> PostedCounts {
        lock_mutex(&self.posted).clone()
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
            lock_mutex(&self.posted).pending += 1;
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
                let mut posted = lock_mutex(&self.posted);
                posted.pending -= 1;
                *posted.acknowledged.entry(video).or_default() += 1;
                return;
            }
            lock_mutex(&self.posted).retries += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
