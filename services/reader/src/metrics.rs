//! The metrics of a reader.

use std::sync::atomic::AtomicU64;

use liverank_core::Millis;
use liverank_runtime::{ServiceContext, label_values};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::viewer_zone::ViewerZone;

label_values! {
    /// The source of the comments that were given to a returning viewer or filled into a hole.
    pub enum CommentSource {
        /// The ring in this process had all of them.
        Ring = "ring",
        /// The last comments that the bus keeps.
        Bus = "bus",
        /// The archive.
        Archive = "archive",
        /// Nowhere: the viewer was told of a gap.
        Gap = "gap",
    }
}

label_values! {
    /// The event that a leaving reader waits for before it ends.
    pub enum WaitReason {
        /// The viewers who have not left.
        Viewers = "viewers",
        /// The last heartbeat, which tells the managers how many viewers are left.
        Managers = "managers",
        /// The requests that are being answered.
        Requests = "requests",
    }
}

/// The label `what`: the event that a leaving reader waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WaitReasonLabel {
    /// The event that is waited for.
    pub what: WaitReason,
}

/// The label `source`: the store in which comments were found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabel {
    /// The store in which the comments were found.
    pub source: CommentSource,
}

label_values! {
    /// The outcome of a request to connect.
    pub enum ConnectOutcome {
        /// The viewer was given a stream.
        Stream = "stream",
        /// The viewer was sent to another reader.
        Redirected = "redirected",
        /// The viewer was refused: the reader is full, or it is leaving, or the viewer's address has used its share of
        /// new videos.
        Refused = "refused",
    }
}

/// The label `reason`: the outcome of a request to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectOutcomeLabel {
    /// The outcome of the request.
    pub reason: ConnectOutcome,
}

/// The label `zone`: the zone of viewers' gateways, compared with the reader's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ViewerZoneLabel {
    /// The compared zone.
    pub zone: ViewerZone,
}

/// A histogram, in seconds, of the time from a comment's post, by the comment service's clock, until the reader has the
/// comment.
#[derive(Debug, Clone)]
pub struct CommentDelay(Histogram);

impl Default for CommentDelay {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.005, 2.0, 14)))
    }
}

impl CommentDelay {
    /// Records the delay of a comment that was posted at `posted` and arrived at `now`, both in ms; 0 if the comment
    /// service's clock is ahead of this one.
    pub fn note_delay(&self, posted: Millis, now: Millis) {
        self.0.observe(now.saturating_sub(posted).max(0) as f64 / 1000.0);
    }
}

/// The metrics of a reader. Cheap to clone: all clones share the same counters.
#[derive(Debug, Clone, Default)]
pub struct ReaderMetrics {
    /// The number of viewers connected now.
    pub viewers: Gauge,
    /// The maximum number of viewers.
    pub capacity: Gauge,
    /// The number of viewers connected now, by the zone of their gateway; all together as many as `viewers`.
    pub viewers_by_zone: Family<ViewerZoneLabel, Gauge>,
    /// Comments that became visible, each times the viewers of its video whose gateways are in other zones.
    pub messages_to_other_zones: Counter<u64, AtomicU64>,
    /// The delay from a comment's post until the reader has it.
    pub comment_delay: CommentDelay,
    /// The number of channels: those with viewers, those kept ready for viewers, and those that had viewers a moment
    /// ago.
    pub active_channels: Gauge,
    /// Bytes that the rings of all channels take.
    pub ring_bytes: Gauge,
    /// Comments that were evicted from a ring because of its limit in bytes, before its limit in comments.
    pub evicted_for_bytes: Counter<u64, AtomicU64>,
    /// Requests to connect, by their outcome.
    pub connects_answered: Family<ConnectOutcomeLabel, Counter>,
    /// Comments written to viewers' sockets, without the canary's.
    pub messages_written: Counter<u64, AtomicU64>,
    /// Bytes written to viewers' sockets, of events and heartbeats.
    pub bytes_written: Counter<u64, AtomicU64>,
    /// Writes to viewers' sockets: messages divided by writes is the number of comments that a write joins.
    pub socket_writes: Counter<u64, AtomicU64>,
    /// Gaps that viewers were told of.
    pub gaps_reported: Counter,
    /// Viewers whose streams were ended for a move, or because this reader leaves.
    pub viewers_handed_over: Counter<u64, AtomicU64>,
    /// Direct viewers whose streams were ended to make room for viewers of other addresses.
    pub streams_ended_for_others: Counter<u64, AtomicU64>,
    /// 1 for the event that a leaving reader waits for, 0 for the others.
    pub drain_waits_for: Family<WaitReasonLabel, Gauge>,
    /// Comments that the bus delivered again and that were dropped.
    pub repeated_comments: Counter,
    /// Comments that arrived before one with a lower sequence number.
    pub out_of_order_comments: Counter,
    /// Comments that were fetched because the bus did not deliver them, by the store in which they were found.
    pub backfilled_comments: Family<SourceLabel, Counter>,
    /// Comments that neither the bus nor the archive had in time, so that viewers were told of a gap.
    pub lost_comments: Counter,
    /// Viewers that came back, by the store in which the comments that they missed were found.
    pub resumed_viewers: Family<SourceLabel, Counter>,
}

impl ReaderMetrics {
    /// Sets the metric that shows what a leaving reader waits for before it ends; `None`: the reader is not leaving.
    pub fn set_wait_reason(&self, wait: Option<WaitReason>) {
        for what in [WaitReason::Viewers, WaitReason::Managers, WaitReason::Requests] {
            let is_it = i64::from(wait == Some(what));
            self.drain_waits_for.get_or_create(&WaitReasonLabel { what }).set(is_it);
        }
    }

    /// Returns the number of viewers connected now whose gateways are in `zone`, compared with the reader's.
    pub fn viewers_of_zone(&self, zone: ViewerZone) -> u64 {
        self.viewers_by_zone.get_or_create(&ViewerZoneLabel { zone }).get().max(0) as u64
    }

    /// Makes the metrics and registers them under `liverank_reader_…`.
    pub fn register(shell: &ServiceContext) -> Self {
        let metrics = Self::default();
        // Series that exist from the start on can be compared with the time before their first event.
        for source in [CommentSource::Bus, CommentSource::Archive] {
            metrics.backfilled_comments.get_or_create(&SourceLabel { source }).inc_by(0);
        }
        for zone in ViewerZone::ALL {
            drop(metrics.viewers_by_zone.get_or_create(&ViewerZoneLabel { zone }));
        }
        metrics.set_wait_reason(None);
        shell.metrics.register("reader", |registry| {
            let m = metrics.clone();
            registry.register("viewers", "Viewers connected", m.viewers);
            registry.register("capacity", "Viewers taken at most", m.capacity);
            registry.register(
                "viewers_by_zone",
                "Viewers connected, by whether their gateway is in the reader's zone",
                m.viewers_by_zone,
            );
            registry.register(
                "messages_to_other_zones",
                "Comments shown, each times the viewers of its video by gateways in other zones",
                m.messages_to_other_zones,
            );
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
                m.evicted_for_bytes,
            );
            registry.register("connects", "Answers to connects", m.connects_answered);
            registry.register("messages", "Comments handed to viewers' sockets", m.messages_written);
            registry.register("sent_bytes", "Bytes handed to viewers' sockets", m.bytes_written);
            registry.register(
                "socket_writes",
                "Writes of joined comments to viewers' sockets",
                m.socket_writes,
            );
            registry.register("gaps", "Gaps told to viewers", m.gaps_reported);
            registry.register("handed_over", "Viewers whose streams were ended for a move", m.viewers_handed_over);
            registry.register(
                "ended_for_others",
                "Direct viewers whose streams were ended for viewers of other addresses",
                m.streams_ended_for_others,
            );
            let waits = "1 for what a reader that leaves waits for: that viewers leave, that managers hear of it, or requests";
            registry.register("drain_waits_for", waits, m.drain_waits_for);
            registry.register("repeats", "Comments that came again and were dropped", m.repeated_comments);
            registry.register(
                "out_of_order",
                "Comments that came before a lower sequence number",
                m.out_of_order_comments,
            );
            registry.register("backfilled", "Comments fetched that the bus did not bring", m.backfilled_comments);
            registry.register("lost", "Comments that nobody had in time", m.lost_comments);
            registry.register("resumes", "Viewers that came back, by where the missed was found", m.resumed_viewers);
        });
        metrics
    }

    /// Counts a viewer that came back, by the source of the comments that it missed.
    pub fn count_resume(&self, source: CommentSource) {
        self.resumed_viewers.get_or_create(&SourceLabel { source }).inc();
    }

    /// Counts an answered request to connect, by its outcome.
    pub fn count_connect(&self, reason: ConnectOutcome) {
        self.connects_answered.get_or_create(&ConnectOutcomeLabel { reason }).inc();
    }
}
