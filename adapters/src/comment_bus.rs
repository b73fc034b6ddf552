//! Comments on their way from the consumer to the readers, and the last ones of each video, for readers and viewers that
//! come later.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/comment_bus.rs`:
//! 1. A published comment reaches every subscription to its video that exists at that time, at most a few times, in the
//!    order published; a subscription that may have missed something hears [`Delivery::Reset`].
//! 2. The last comments of a video are kept ([`KEPT_COMMENTS_PER_VIDEO`], as far as [`KEPT_BYTES_PER_VIDEO`] have room for them), for at least a while
//!    ([`KEPT_SECONDS`]); publishing one again changes nothing.
//! 3. A comment that a published deletion removes is kept no longer, and is not handed out again: whoever asks for it is
//!    told that it was removed, or to ask the archive.
//! 4. It may lose everything at any time. The archive has every comment, and readers compare heads to find what they
//!    did not get.

use async_trait::async_trait;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::trace::TraceContext;
use liverank_core::{CommentId, VideoId};
use tokio::sync::mpsc;

use crate::StoreError;

pub mod embedded;
pub mod redis;

/// How many comments of a video are kept, at least: what a reconnecting viewer may ask for at most.
pub const KEPT_COMMENTS_PER_VIDEO: usize = 1000;
/// What the kept comments of a video may take together, as they are published: the thousand that are promised, of 4 KB each in
/// the mean. Longer ones would take 17 MB. The archive has those that there is no room for. The newest one is kept, whatever it takes.
pub const KEPT_BYTES_PER_VIDEO: usize = 4 * 1024 * 1024;
/// How long a video's last comments are kept after the newest one: longer than a viewer stays away, short enough that
/// videos nobody talks about any more cost no memory.
pub const KEPT_SECONDS: u64 = 3600;

/// Deliveries kept for a subscriber who is slow: a burst over all its videos, and in the worst case (the longest comments
/// in four-byte characters) 64 MiB.
pub const DELIVERY_QUEUE_LENGTH: usize = 4096;

/// The trace of a comment, among those of a batch.
fn trace_of(traces: &[(CommentId, TraceContext)], comment: &Comment) -> Option<TraceContext> {
    traces.iter().find(|(id, _)| *id == comment.id).map(|(_, trace)| *trace)
}

/// A message to a subscriber.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// A comment of a video subscribed to.
    Comment {
        /// Which count its `seq` belongs to.
        numbering: CommentEpoch,
        /// The comment.
        comment: Comment,
        /// The span that published it, where that is recorded.
        trace: Option<Box<TraceContext>>,
    },
    /// Comments of any video subscribed to may have been missed: compare heads.
    Reset,
}

/// Where a video's comments stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelHead {
    /// The run of sequence numbers.
    pub comment_epoch: CommentEpoch,
    /// The number of the last comment.
    pub seq: u64,
}

/// One reader's subscription to any number of videos. Dropping it ends them all.
#[async_trait]
pub trait Subscription: Send + Sync {
    /// Hears of a video's comments from now on: those published after this has answered.
    async fn subscribe(&self, video: &VideoId) -> Result<(), StoreError>;

    /// Hears of them no longer; what was published before may still be on its way.
    async fn unsubscribe(&self, video: &VideoId) -> Result<(), StoreError>;
}

/// The way of the comments.
#[async_trait]
pub trait CommentBus: Send + Sync {
    /// Publishes comments, those of a video in the order given, and keeps them among the last ones. At least once.
    async fn publish_comments(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
    ) -> Result<(), StoreError> {
        self.publish_traced(numbering, comments, &[]).await
    }

    /// The same, with the spans that publish some of them: subscribers go on with these.
    async fn publish_traced(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
        traces: &[(CommentId, TraceContext)],
    ) -> Result<(), StoreError>;

    /// A new subscription, and where its deliveries arrive. The channel is bounded; one who reads too slowly gets
    /// [`Delivery::Reset`]. Reconnects and resubscribes by itself.
    async fn new_subscription(&self)
    -> Result<(Box<dyn Subscription>, mpsc::Receiver<Delivery>), StoreError>;

    /// The kept comments of a video with sequence numbers above `after`, oldest first, at most `limit`.
    ///
    /// `Some(vec![])`: `after` is the last kept comment of this comment epoch, so there is none above it. `None`: the
    /// next one (`after + 1`) is not kept, or the kept comments are of another comment epoch; ask the archive.
    async fn recent_comments(
        &self,
        numbering: &CommentEpoch,
        video: &VideoId,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<Comment>>, StoreError>;

    /// The last kept comment of each video, in their order; `None` where none is kept.
    async fn channel_heads(&self, videos: &[VideoId]) -> Result<Vec<Option<ChannelHead>>, StoreError>;
}
