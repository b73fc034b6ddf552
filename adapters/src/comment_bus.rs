//! Comments on their way from the consumer to the readers, and the last ones of each video, for readers and viewers that
//! come later.
//!
//! Promises of every implementation, checked by `adapters-testkit/src/comment_bus.rs`:
//! 1. A published comment reaches every subscription to its video that exists at that time, at most a few times, in
//!    the order published; a subscription that may have missed something receives [`Delivery::Reset`].
//! 2. The last comments of a video are kept ([`KEPT_COMMENTS_PER_VIDEO`], as far as they fit into
//!    [`KEPT_BYTES_PER_VIDEO`]), for at least [`KEPT_SECONDS`]; publishing a comment again changes nothing.
//! 3. A comment that a published deletion removes is kept no longer, and is not returned again: whoever asks for it is
//!    told that it was removed, or to ask the archive.
//! 4. The bus may lose everything at any time. The archive has every comment, and readers compare channel heads to
//!    find the comments that they did not get.

use async_trait::async_trait;
use liverank_core::comment::{Comment, CommentEpoch};
use liverank_core::trace::TraceContext;
use liverank_core::{CommentId, VideoId};
use tokio::sync::mpsc;

use crate::StoreError;

pub mod embedded;
pub mod redis;

/// The number of a video's last comments that are kept, as far as they fit into [`KEPT_BYTES_PER_VIDEO`] (Redis may
/// keep a few more): the most that a reconnecting viewer may ask for.
pub const KEPT_COMMENTS_PER_VIDEO: usize = 1000;
/// The largest total size in bytes of a video's kept comments, as they are published: enough for
/// [`KEPT_COMMENTS_PER_VIDEO`] comments of 4 KB each on average. A thousand of the longest comments would take 17 MB.
/// Comments that do not fit are in the archive only. The newest comment is kept, whatever its size.
pub const KEPT_BYTES_PER_VIDEO: usize = 4 * 1024 * 1024;
/// The time in seconds for which a video's last comments are kept after the newest one: longer than a viewer stays
/// away, short enough that videos without new comments cost no memory.
pub const KEPT_SECONDS: u64 = 3600;

/// The number of deliveries kept for a subscriber that is slow: a burst over all its videos, and in the worst case
/// (the longest comments in four-byte characters) 64 MiB.
pub const DELIVERY_QUEUE_LENGTH: usize = 4096;

/// Returns the trace of a comment, among the traces of a batch.
fn trace_of(traces: &[(CommentId, TraceContext)], comment: &Comment) -> Option<TraceContext> {
    traces.iter().find(|(id, _)| *id == comment.id).map(|(_, trace)| *trace)
}

/// A message that a subscriber to comments receives.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// A comment of a video that was subscribed to.
    Comment {
        /// The comment epoch to which the comment's `seq` belongs.
        numbering: CommentEpoch,
        /// The published comment.
        comment: Comment,
        /// The trace span that published the comment; `None` if the span is not recorded.
        trace: Option<Box<TraceContext>>,
    },
    /// Comments of any video that was subscribed to may have been missed: compare channel heads.
    Reset,
}

/// The last sequence number of a video's channel, and its comment epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelHead {
    /// The comment epoch (the run of sequence numbers) of the channel.
    pub comment_epoch: CommentEpoch,
    /// The sequence number of the last comment.
    pub seq: u64,
}

/// One reader's subscription to any number of videos. Dropping it ends the subscription to all of them.
#[async_trait]
pub trait Subscription: Send + Sync {
    /// Subscribes to a video's comments: those published after this call has returned are delivered.
    async fn subscribe(&self, video: &VideoId) -> Result<(), StoreError>;

    /// Ends the delivery of a video's comments; comments that were published before may still arrive.
    async fn unsubscribe(&self, video: &VideoId) -> Result<(), StoreError>;
}

/// The bus that brings published comments from the consumer to the readers.
#[async_trait]
pub trait CommentBus: Send + Sync {
    /// Publishes comments at least once, those of a video in the order given, and keeps them among the last comments.
    async fn publish_comments(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
    ) -> Result<(), StoreError> {
        self.publish_traced(numbering, comments, &[]).await
    }

    /// Publishes comments together with the trace spans that publish some of them, which subscribers continue.
    async fn publish_traced(
        &self,
        numbering: &CommentEpoch,
        comments: &[Comment],
        traces: &[(CommentId, TraceContext)],
    ) -> Result<(), StoreError>;

    /// Returns a new subscription and the channel in which its deliveries arrive. The channel is bounded; a subscriber
    /// that reads too slowly gets [`Delivery::Reset`]. The subscription reconnects and resubscribes by itself.
    async fn new_subscription(&self)
    -> Result<(Box<dyn Subscription>, mpsc::Receiver<Delivery>), StoreError>;

    /// Returns the kept comments of a video with sequence numbers above `after`, oldest first, at most `limit`.
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

    /// Returns the last kept comment's comment epoch and number for each video, in the order of `videos`; `None` if
    /// none is kept.
    async fn channel_heads(&self, videos: &[VideoId]) -> Result<Vec<Option<ChannelHead>>, StoreError>;
}
