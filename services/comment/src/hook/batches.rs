//! Asks the hook about many comments in one request, with a few requests at a time.
//!
//! No comment waits for a batch to fill: a single comment is sent at once. Comments that arrive while all requests are
//! running are sent with the next request, so a slower hook gets larger batches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use liverank_core::CommentId;
use liverank_core::moderation::hook::{HookAnswer, HookBreaker, question_body};
use liverank_runtime::now_ms;
use tokio::sync::mpsc;

use super::client::HookClient;
use super::metrics::HookMetrics;
use super::{HookVerdict, PendingComment, lock};

/// The maximum number of requests that run at the same time. The hook has to be ready for this many from each comment
/// service.
const MAX_REQUESTS_AT_ONCE: usize = 4;
/// The maximum number of comments in one request.
const MAX_COMMENTS_PER_REQUEST: usize = 64;
/// The number of bytes of comment text at which a request is full: some dozen comments of the greatest length.
const BATCH_BYTES: usize = 256 * 1024;

pub(super) struct HookBatcher {
    pub(super) client: HookClient,
    pub(super) timeout: Duration,
    pub(super) breaker: Arc<Mutex<HookBreaker>>,
    pub(super) metrics: HookMetrics,
}

impl HookBatcher {
    /// Sends requests for waiting comments. Never returns.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<PendingComment>) {
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = calls.next(), if !calls.is_empty() => {}
                Some(first) = waiting.recv(), if calls.len() < MAX_REQUESTS_AT_ONCE => {
                    let batch = self.next_batch(first, &mut waiting);
                    if !batch.is_empty() {
                        calls.push(self.call(batch));
                    }
                }
                // The service that sends questions has ended: whatever ends the service ends this task, too.
                else => std::future::pending().await,
            }
        }
    }

    /// Returns the next batch, without comments that have waited too long to be answered in time; these are answered
    /// "busy".
    fn next_batch(
        &self,
        first: PendingComment,
        waiting: &mut mpsc::Receiver<PendingComment>,
    ) -> Vec<PendingComment> {
        let (mut batch, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(question) = next {
            if question.waiting_since.elapsed() > self.timeout {
                let _ = question.answer.send(HookVerdict::Busy);
            } else {
                bytes += question.comment.text.len();
                batch.push(question);
            }
            let is_full = batch.len() >= MAX_COMMENTS_PER_REQUEST || bytes >= BATCH_BYTES;
            next = if is_full { None } else { waiting.try_recv().ok() };
        }
        batch
    }

    async fn call(&self, batch: Vec<PendingComment>) {
        if !lock(&self.breaker).may_ask(now_ms()) {
            return answer_batch(batch, |_| HookVerdict::Unavailable);
        }
        let ids: Vec<CommentId> = batch.iter().map(|question| question.comment.id.clone()).collect();
        let body = question_body(batch.iter().map(|question| &question.comment));
        let started = Instant::now();
        let answers = tokio::time::timeout(self.timeout, self.client.request_decisions(body, &ids)).await;
        self.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
        let answers = answers.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {:?}", self.timeout)));
        self.note_request_outcome(answers.as_ref().err());
        let mut answers: HashMap<CommentId, HookAnswer> = answers.unwrap_or_default();
        answer_batch(batch, |id| answers.remove(id).map_or(HookVerdict::Unavailable, HookVerdict::Answer));
    }

    /// Notes the outcome of a request; logs a message when the hook begins to fail and when it works again.
    fn note_request_outcome(&self, error: Option<&anyhow::Error>) {
        let mut breaker = lock(&self.breaker);
        let was_away = breaker.is_down();
        match error {
            None => breaker.note_answer(),
            Some(_) => breaker.note_failure(now_ms()),
        }
        let is_away = breaker.is_down();
        drop(breaker);
        self.metrics.is_hook_unavailable.set(i64::from(is_away));
        match error {
            Some(error) if !was_away && is_away => {
                tracing::warn!(error = format!("{error:#}"), "the hook for comments is away");
            }
            Some(error) => {
                tracing::debug!(error = format!("{error:#}"), "the hook for comments did not answer");
            }
            None if was_away => tracing::info!("the hook for comments is back"),
            None => {}
        }
    }
}

fn answer_batch(batch: Vec<PendingComment>, mut said: impl FnMut(&CommentId) -> HookVerdict) {
    for question in batch {
        // The task that asked may have ended.
        let _ = question.answer.send(said(&question.comment.id));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use liverank_core::comment::{EntryKind, UnnumberedComment};
    use tokio::sync::oneshot;

    use super::super::shares::WaitingLimits;
    use super::*;

    fn asker() -> (HookBatcher, tempfile::NamedTempFile) {
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw").unwrap();
        let client = HookClient::new(&"http://127.0.0.1:9/".parse().unwrap(), key.path()).unwrap();
        let (timeout, breaker, metrics) = (Duration::from_secs(10), Arc::default(), HookMetrics::default());
        (HookBatcher { client, timeout, breaker, metrics }, key)
    }

    pub(in super::super) fn comment(user: &str, video: &str, bytes: usize) -> UnnumberedComment {
        UnnumberedComment {
            id: "c".parse().unwrap(),
            user_id: user.parse().unwrap(),
            video_id: video.parse().unwrap(),
            text: "x".repeat(bytes),
            timestamp: 1,
            reply_to: None,
            entry: EntryKind::Comment,
        }
    }

    fn waits(age: Duration, bytes: usize) -> (PendingComment, oneshot::Receiver<HookVerdict>) {
        let (answer, said) = oneshot::channel();
        let comment = comment("u", "v", bytes);
        let waiting_since = Instant::now().checked_sub(age).expect("the machine runs for longer");
        let place = WaitingLimits::default().acquire(&comment).unwrap();
        (PendingComment { comment, waiting_since, answer, _permit: place }, said)
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_leaves_out_what_waited_too_long() {
        let (asker, _key) = asker();
        let (sender, mut waiting) = mpsc::channel(1_000);
        let (old, said) = waits(Duration::from_secs(11), 1);
        for _ in 0..100 {
            sender.try_send(waits(Duration::ZERO, 1).0).ok().unwrap();
        }
        let batch = asker.next_batch(old, &mut waiting);
        assert_eq!((batch.len(), said.await), (MAX_COMMENTS_PER_REQUEST, Ok(HookVerdict::Busy)));
        let batch = asker.next_batch(waits(Duration::ZERO, 1).0, &mut waiting);
        assert_eq!(batch.len(), 100 - MAX_COMMENTS_PER_REQUEST + 1);
        for _ in 0..100 {
            sender.try_send(waits(Duration::ZERO, 16_384).0).ok().unwrap();
        }
        let batch = asker.next_batch(waits(Duration::ZERO, 16_384).0, &mut waiting);
        assert_eq!(batch.len(), BATCH_BYTES / 16_384);
    }
}
