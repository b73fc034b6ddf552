//! What a reader counts.

use std::sync::atomic::AtomicU64;

use liverank_core::Millis;
use liverank_runtime::{ServiceContext, label_values};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

label_values! {
    /// The source of the comments that a viewer who came back was given.
    pub enum CommentSource {
        /// The ring in this process.
        Ring = "ring",
        /// The bus's last comments.
        Bus = "bus",
        /// The archive.
        Archive = "archive",
        /// Nowhere: the viewer was told of a gap.
        Gap = "gap",
    }
}

label_values! {
    /// What a reader that leaves waits for.
    pub enum WaitReason {
        /// Viewers who have not left.
        Viewers = "viewers",
        /// A heartbeat that tells the managers how it is now.
        Managers = "managers",
        /// Requests that are being answered.
        Requests = "requests",
    }
}

/// A label of [`WaitReason`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WaitsFor {
    /// What is waited for.
    pub what: WaitReason,
}

/// A label of [`CommentSource`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Source {
    /// Where from.
    pub source: CommentSource,
}

label_values! {
    /// How a connect was answered.
    pub enum ConnectOutcome {
        /// With a stream.
        Stream = "stream",
        /// With the address of another reader.
        Redirected = "redirected",
        /// There was no room, or the reader is leaving.
        Refused = "refused",
    }
}

/// A label of [`ConnectOutcome`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// The outcome of the connect.
    pub reason: ConnectOutcome,
}

/// How long comments take to get here, by the time that the comment service wrote into them.
#[derive(Debug, Clone)]
pub struct CommentDelay(Histogram);

impl Default for CommentDelay {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.005, 2.0, 14)))
    }
}

impl CommentDelay {
    /// Notes a comment that was `posted` then and is here `now`. Another clock may be ahead of ours.
    pub fn note_delay(&self, posted: Millis, now: Millis) {
        self.0.observe(now.saturating_sub(posted).max(0) as f64 / 1000.0);
    }
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct ReaderMetrics {
    /// Viewers connected.
    pub viewers: Gauge,
    /// Viewers it takes at most.
    pub capacity: Gauge,
    /// Seconds from a comment's post until it is here for its viewers.
    pub comment_delay: CommentDelay,
    /// Channels with viewers, or held ready for them.
    pub active_channels: Gauge,
    /// Bytes that the rings of all channels take.
    pub ring_bytes: Gauge,
    /// Comments that left a ring for want of room, before their number was due.
    pub crowded_out: Counter<u64, AtomicU64>,
    /// Answers to connects.
    pub connects_answered: Family<Answer, Counter>,
    /// Comments handed to viewers' sockets.
    pub messages_written: Counter<u64, AtomicU64>,
    /// Bytes handed to viewers' sockets, events and heartbeats.
    pub bytes_written: Counter<u64, AtomicU64>,
    /// Writes to viewers' sockets: messages by writes is how many comments a write joins.
    pub socket_writes: Counter<u64, AtomicU64>,
    /// Gaps told to viewers.
    pub gaps_told: Counter,
    /// Viewers sent to another reader, or away because this one leaves.
    pub handed_over: Counter<u64, AtomicU64>,
    /// 1 for what a reader that leaves waits for.
    pub drain_waits_for: Family<WaitsFor, Gauge>,
    /// Comments that came again and were dropped.
    pub repeated_comments: Counter,
    /// Comments that came before one with a lower sequence number.
    pub out_of_order: Counter,
    /// Comments fetched because the bus did not bring them, by where they were found.
    pub backfilled_comments: Family<Source, Counter>,
    /// Comments that neither the bus nor the archive had in time: viewers were told of a gap.
    pub lost_comments: Counter,
    /// Viewers that came back, by where what they missed was found.
    pub resumed_viewers: Family<Source, Counter>,
}

impl ReaderMetrics {
    /// Shows what the reader waits for before it ends; `None` while it does not leave.
    pub fn set_waits_for(&self, wait: Option<WaitReason>) {
        for what in [WaitReason::Viewers, WaitReason::Managers, WaitReason::Requests] {
            let is_it = i64::from(wait == Some(what));
            self.drain_waits_for.get_or_create(&WaitsFor { what }).set(is_it);
        }
    }

    /// Registered with the shell, under `liverank_reader_…`.
    pub fn register(shell: &ServiceContext) -> Self {
        let metrics = Self::default();
        // A series that is there from the start on can be compared with the time before its first event.
        for source in [CommentSource::Bus, CommentSource::Archive] {
            metrics.backfilled_comments.get_or_create(&Source { source }).inc_by(0);
        }
        metrics.set_waits_for(None);
        shell.metrics.register("reader", |registry| {
            let m = metrics.clone();
            registry.register("viewers", "Viewers connected", m.viewers);
            registry.register("capacity", "Viewers taken at most", m.capacity);
            let delay = "From the post of a comment until it is here for its viewers";
            registry.register("comment_delay_seconds", delay, m.comment_delay.0);
            registry.register(
                "active_channels",
                "Channels with viewers, or held ready for them",
                m.active_channels,
            );
            registry.register("ring_bytes", "Bytes that the rings of all channels take", m.ring_bytes);
            registry.register(
                "ring_crowded_out",
                "Comments that left a ring because they are long, before it was as long as it may be",
                m.crowded_out,
            );
            registry.register("connects", "Answers to connects", m.connects_answered);
            registry.register("messages", "Comments handed to viewers' sockets", m.messages_written);
            registry.register("sent_bytes", "Bytes handed to viewers' sockets", m.bytes_written);
            registry.register(
                "socket_writes",
                "Writes of joined comments to viewers' sockets",
                m.socket_writes,
            );
            registry.register("gaps", "Gaps told to viewers", m.gaps_told);
            registry.register("handed_over", "Viewers whose streams were ended for a move", m.handed_over);
            let waits = "1 for what a reader that leaves waits for: that viewers leave, that managers hear of it, or requests";
            registry.register("drain_waits_for", waits, m.drain_waits_for);
            registry.register("repeats", "Comments that came again and were dropped", m.repeated_comments);
            registry.register(
                "out_of_order",
                "Comments that came before a lower sequence number",
                m.out_of_order,
            );
            registry.register("backfilled", "Comments fetched that the bus did not bring", m.backfilled_comments);
            registry.register("lost", "Comments that nobody had in time", m.lost_comments);
            registry.register("resumes", "Viewers that came back, by where the missed was found", m.resumed_viewers);
        });
        metrics
    }

    /// Counts a viewer that came back.
    pub fn count_resume(&self, source: CommentSource) {
        self.resumed_viewers.get_or_create(&Source { source }).inc();
    }

    /// Counts an answer to a connect.
    pub fn count_connect(&self, reason: ConnectOutcome) {
        self.connects_answered.get_or_create(&Answer { reason }).inc();
    }
}
