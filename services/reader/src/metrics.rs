//! What a reader counts.

use std::sync::atomic::AtomicU64;

use liverank_runtime::ServiceContext;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Where something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum From {
    /// The ring in this process.
    Ring,
    /// The bus's last comments.
    Bus,
    /// The archive.
    Archive,
    /// Nowhere: the viewer was told of a gap.
    Gap,
}

/// A label of [`From`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Source {
    /// Where from.
    pub source: From,
}

/// What became of a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// A stream.
    Stream,
    /// Sent to another reader.
    Redirected,
    /// No room, or leaving.
    Refused,
}

/// A label of [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// Which.
    pub outcome: Outcome,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Viewers connected.
    pub viewers: Gauge,
    /// Videos with a ring.
    pub rooms: Gauge,
    /// Answers to connects.
    pub connects: Family<Answer, Counter>,
    /// Comments handed to viewers' sockets.
    pub messages: Counter<u64, AtomicU64>,
    /// Bytes handed to viewers' sockets, events and heartbeats.
    pub bytes: Counter<u64, AtomicU64>,
    /// Slices handed to viewers' sockets: messages by slices is how well joining works.
    pub slices: Counter<u64, AtomicU64>,
    /// Gaps told to viewers.
    pub gaps: Counter,
    /// Viewers sent to another reader, or away because this one leaves.
    pub handed_over: Counter<u64, AtomicU64>,
    /// Comments that came again and were dropped.
    pub repeats: Counter,
    /// Comments that came before their turn.
    pub early: Counter,
    /// Comments fetched because the bus did not bring them, by where they were found.
    pub filled: Family<Source, Counter>,
    /// Comments that could not be had in time.
    pub given_up: Counter,
    /// Viewers that came back, by where what they missed was found.
    pub resumes: Family<Source, Counter>,
}

impl Metrics {
    /// Registered with the shell, under `liverank_reader_…`.
    pub fn registered(shell: &ServiceContext) -> Self {
        let metrics = Self::default();
        shell.metrics.register("reader", |registry| {
            let m = metrics.clone();
            registry.register("viewers", "Viewers connected", m.viewers);
            registry.register("rooms", "Videos with a ring", m.rooms);
            registry.register("connects", "Answers to connects", m.connects);
            registry.register("messages", "Comments handed to viewers' sockets", m.messages);
            registry.register("sent_bytes", "Bytes handed to viewers' sockets", m.bytes);
            registry.register("slices", "Slices of joined comments handed to viewers' sockets", m.slices);
            registry.register("gaps", "Gaps told to viewers", m.gaps);
            registry.register("handed_over", "Viewers whose streams were ended for a move", m.handed_over);
            registry.register("repeats", "Comments that came again and were dropped", m.repeats);
            registry.register("early", "Comments that came before their turn", m.early);
            registry.register("filled", "Comments fetched that the bus did not bring", m.filled);
            registry.register("given_up", "Comments that could not be had in time", m.given_up);
            registry.register("resumes", "Viewers that came back, by where the missed was found", m.resumes);
        });
        metrics
    }

    /// Counts a viewer that came back.
    pub fn resumed(&self, source: From) {
        self.resumes.get_or_create(&Source { source }).inc();
    }

    /// Counts an answer to a connect.
    pub fn answered(&self, outcome: Outcome) {
        self.connects.get_or_create(&Answer { outcome }).inc();
    }
}
