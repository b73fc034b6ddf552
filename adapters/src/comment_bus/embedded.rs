//! The comment bus in memory: empty after a start, as a Redis may be.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::trace::TraceContext;
use liverank_core::{CommentId, VideoId};
use tokio::sync::mpsc;

use super::{
    ChannelHead, CommentBus, DELIVERY_QUEUE_LENGTH, Delivery, KEPT_BYTES_PER_VIDEO, KEPT_COMMENTS_PER_VIDEO,
    KEPT_SECONDS, Subscription, trace_of,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;

/// The interval at which the comments of idle videos are removed: the memory that they use meanwhile is small.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The comment bus in memory, for `liverank up`.
#[derive(Default)]
pub struct EmbeddedBus {
    state: Arc<Mutex<BusState>>,
}

#[derive(Default)]
struct BusState {
    kept_comments: HashMap<VideoId, KeptComments>,
    /// The subscriptions by video, and within a video by their number.
    subscribers: HashMap<VideoId, HashMap<u64, Arc<LossyChannel<Delivery>>>>,
    last_subscription_number: u64,
    last_sweep: Option<Instant>,
}

/// The last comments of a video, without a gap in their sequence numbers.
struct KeptComments {
    comment_epoch: CommentEpoch,
    comments: VecDeque<Comment>,
    /// The approximate size of the kept comments in bytes.
    size_bytes: usize,
    newest_at: Instant,
}

/// Returns the approximate size of a comment in bytes.
fn comment_bytes(comment: &Comment) -> usize {
    /// The approximate size of a comment without its text (ids, times and containers), in bytes.
    const OTHER_FIELDS_BYTES: usize = 256;
    comment.text.len() + OTHER_FIELDS_BYTES
}

impl KeptComments {
    fn first_seq(&self) -> u64 {
        self.comments.front().map_or(0, |comment| comment.seq)
    }

    fn last_seq(&self) -> u64 {
        self.comments.back().map_or(0, |comment| comment.seq)
    }

    fn comment_at(&mut self, seq: u64) -> Option<&mut Comment> {
        let at = seq.checked_sub(self.first_seq())?;
        self.comments.get_mut(at as usize)
    }

    fn remove_all(&mut self) {
        self.comments.clear();
        self.size_bytes = 0;
    }

    /// Keeps a comment. Returns true if subscribers have to get it.
    fn keep_comment(&mut self, numbering: &CommentEpoch, comment: &Comment, now: Instant) -> bool {
        if self.comment_epoch != *numbering {
            self.comment_epoch = numbering.clone();
            self.remove_all();
        }
        if let Some(removed) = comment.entry.removed_seq().and_then(|seq| self.comment_at(seq)) {
            let before = comment_bytes(removed);
            *removed = removed.clone().into_removed();
            let after = comment_bytes(removed);
            self.size_bytes = self.size_bytes + after - before;
        }
        if !self.comments.is_empty() && comment.seq <= self.last_seq() {
            // Comments that are kept were delivered when they came; older ones were delivered long ago, or come late.
            return comment.seq < self.first_seq();
        }
        if comment.seq != self.last_seq() + 1 {
            // An earlier comment is missing: who asks for it has to ask the archive.
            self.remove_all();
        }
        self.size_bytes += comment_bytes(comment);
        self.comments.push_back(comment.clone());
        while self.comments.len() > KEPT_COMMENTS_PER_VIDEO
            || (self.size_bytes > KEPT_BYTES_PER_VIDEO && self.comments.len() > 1)
        {
            let Some(oldest) = self.comments.pop_front() else { break };
            self.size_bytes -= comment_bytes(&oldest);
        }
        self.newest_at = now;
        true
    }
}

impl BusState {
    fn publish_one(
        &mut self,
        numbering: &CommentEpoch,
        comment: &Comment,
        trace: Option<TraceContext>,
        now: Instant,
    ) {
        let kept = self.kept_comments.entry(comment.video_id.clone()).or_insert_with(|| KeptComments {
            comment_epoch: numbering.clone(),
            comments: VecDeque::new(),
            size_bytes: 0,
            newest_at: now,
        });
        if kept.keep_comment(numbering, comment, now)
            && let Some(subscribers) = self.subscribers.get(&comment.video_id)
        {
            for subscriber in subscribers.values() {
                let (numbering, comment) = (numbering.clone(), comment.clone());
                subscriber.send_or_mark_lost(Delivery::Comment {
                    numbering,
                    comment,
                    trace: trace.map(Box::new),
                });
            }
        }
    }

    /// Removes the comments of videos whose newest comment is older than [`KEPT_SECONDS`], at most once in
    /// [`SWEEP_INTERVAL`].
    fn forget_old_videos(&mut self, now: Instant) {
        let due = self.last_sweep.is_none_or(|swept| now.duration_since(swept) >= SWEEP_INTERVAL);
        if due {
            let keep = Duration::from_secs(KEPT_SECONDS);
            self.kept_comments.retain(|_, kept| now.duration_since(kept.newest_at) < keep);
            self.last_sweep = Some(now);
        }
    }

    fn unsubscribe(&mut self, video: &VideoId, number: u64) {
        if let Some(subscribers) = self.subscribers.get_mut(video) {
            subscribers.remove(&number);
            if subscribers.is_empty() {
                self.subscribers.remove(video);
            }
        }
    }
}

fn lock(state: &Mutex<BusState>) -> MutexGuard<'_, BusState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EmbeddedBus {
    /// Returns a bus without comments and subscriptions.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl CommentBus for EmbeddedBus {
    async fn publish_traced(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
        traces: &[(CommentId, TraceContext)],
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.forget_old_videos(now);
        for comment in comments {
            state.publish_one(numbering, comment, trace_of(traces, comment), now);
        }
        Ok(())
    }

    async fn new_subscription(
        &self,
    ) -> Result<(Box<dyn Subscription>, mpsc::Receiver<Delivery>), StoreError> {
        let (delivery_channel, receiver) = LossyChannel::bounded(DELIVERY_QUEUE_LENGTH, Delivery::Reset);
        let mut state = lock(&self.state);
        state.last_subscription_number += 1;
        let subscription_number = state.last_subscription_number;
        Ok((
            Box::new(EmbeddedSubscription {
                state: Arc::clone(&self.state),
                subscription_number,
                delivery_channel,
            }),
            receiver,
        ))
    }

    async fn recent_comments(
        &self,
        numbering: &CommentEpoch,
        video: &VideoId,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<Comment>>, StoreError> {
        let state = lock(&self.state);
        let Some(kept) = state.kept_comments.get(video).filter(|kept| kept.comment_epoch == *numbering)
        else {
            return Ok(None);
        };
        let (first, last) = (kept.first_seq(), kept.last_seq());
        if after.saturating_add(1) < first || after > last {
            return Ok(None);
        }
        let skipped = (after + 1 - first) as usize;
        Ok(Some(kept.comments.iter().skip(skipped).take(limit).cloned().collect()))
    }

    async fn channel_heads(&self, videos: &[VideoId]) -> Result<Vec<Option<ChannelHead>>, StoreError> {
        let state = lock(&self.state);
        let head = |kept: &KeptComments| ChannelHead {
            comment_epoch: kept.comment_epoch.clone(),
            seq: kept.last_seq(),
        };
        Ok(videos.iter().map(|video| state.kept_comments.get(video).map(head)).collect())
    }
}

struct EmbeddedSubscription {
    state: Arc<Mutex<BusState>>,
    subscription_number: u64,
    delivery_channel: Arc<LossyChannel<Delivery>>,
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn subscribe(&self, video: &VideoId) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let subscribers = state.subscribers.entry(video.clone()).or_default();
        subscribers.insert(self.subscription_number, Arc::clone(&self.delivery_channel));
        Ok(())
    }

    async fn unsubscribe(&self, video: &VideoId) -> Result<(), StoreError> {
        lock(&self.state).unsubscribe(video, self.subscription_number);
        Ok(())
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.subscribers.retain(|_, subscribers| {
            subscribers.remove(&self.subscription_number);
            !subscribers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_idle_videos_are_forgotten() {
        let comment: Comment = serde_json::from_str(
            r#"{"id":"c","userid":"u","videoid":"v","comment":"hi","timestamp":5,"seq":1}"#,
        )
        .unwrap();
        let (mut state, start) = (BusState::default(), Instant::now());
        state.forget_old_videos(start);
        state.publish_one(&CommentEpoch::from_bits(1), &comment, None, start);
        state.forget_old_videos(start + Duration::from_secs(KEPT_SECONDS - 1));
        assert_eq!(state.kept_comments.len(), 1);
        state.forget_old_videos(start + Duration::from_secs(KEPT_SECONDS) + SWEEP_INTERVAL);
        assert!(state.kept_comments.is_empty());
    }
}
