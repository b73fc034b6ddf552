//! What all posters, viewers and lists of a run write down together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::oracle::{CommentOracle, CountTally, FoundFault, OracleFaultKind};
use crate::plan::{PostAction, PostEvent};

/// Faults kept in words; all are counted.
const MAX_FAULTS_IN_WORDS: usize = 20;
/// Latencies from 1 µs to ten minutes, to three digits.
const LATENCY_RANGE_US: (u64, u64) = (1, 600_000_000);
/// Viewers write their latencies down in as many places, so that they need not wait for each other.
const LATENCY_SHARDS: usize = 8;

/// A histogram of latencies in µs that many may write.
pub struct LatencyHistogram(Vec<Mutex<Histogram<u64>>>);

impl Default for LatencyHistogram {
    fn default() -> Self {
        let one = || {
            Histogram::new_with_bounds(LATENCY_RANGE_US.0, LATENCY_RANGE_US.1, 3)
                .expect("the bounds are fit for a histogram")
        };
        Self((0..LATENCY_SHARDS).map(|_| Mutex::new(one())).collect())
    }
}

impl LatencyHistogram {
    /// Notes one; `who` spreads the writers.
    pub fn note_latency(&self, who: usize, latency_us: u64) {
        lock_ignoring_poison(&self.0[who % LATENCY_SHARDS]).saturating_record(latency_us);
    }

    /// The latencies of all shards, as one histogram.
    pub fn merged_histogram(&self) -> Histogram<u64> {
        let mut sum = lock_ignoring_poison(&self.0[0]).clone();
        for shard in &self.0[1..] {
            sum.add(&*lock_ignoring_poison(shard)).expect("all shards have the same bounds");
        }
        sum
    }

    /// Returns the values that were recorded since an earlier state of the histogram.
    pub fn histogram_since(sum: &Histogram<u64>, earlier: &Histogram<u64>) -> Histogram<u64> {
        let mut rest = sum.clone();
        rest.subtract(earlier).expect("counts only grow");
        rest
    }
}

/// Numbers of a run, of events and not of requests unless they say so.
#[derive(Debug, Default)]
pub struct RunCounts {
    /// Posted at least once.
    pub sent: AtomicU64,
    /// Acknowledged.
    pub acknowledged: AtomicU64,
    /// Requests beyond the first of an event.
    pub retried: AtomicU64,
    /// Given up without an answer.
    pub unacknowledged: AtomicU64,
    /// Refused, and would be refused again: a bug of this program or of the system.
    pub refused: AtomicU64,
    /// Comments given to viewers.
    pub delivered: AtomicU64,
    /// Viewers connected now.
    pub connected: AtomicU64,
    /// Streams that were lost and opened again.
    pub reconnects: AtomicU64,
    /// Lists that came over `WebSockets`.
    pub lists: AtomicU64,
    /// `WebSockets` that were lost and opened again.
    pub ws_reconnects: AtomicU64,
}

/// The record of a run: what was sent, acknowledged and seen.
pub struct RunRecord {
    start: Instant,
    /// Numbers.
    pub counts: RunCounts,
    /// Comments.
    pub comments: CommentOracle,
    tallies: Mutex<Vec<CountTally>>,
    faults: Mutex<RecordedFaults>,
    /// Time from the first post of an event to its acknowledgement.
    pub acknowledgement_latency: LatencyHistogram,
    /// Time from the first post of a comment until a viewer has it.
    pub delivery_latency: LatencyHistogram,
    /// Delivery times of comments that were posted while the viewer had a stream.
    pub live_delivery_latency: LatencyHistogram,
    /// Time from the post of an interaction until a list shows its score.
    pub list_latency: LatencyHistogram,
    /// Time from the loss of a viewer's stream to its next stream.
    pub interruption_latency: LatencyHistogram,
}

#[derive(Default)]
struct RecordedFaults {
    counts: [u64; 5],
    descriptions: Vec<String>,
}

impl RunRecord {
    /// For a run with these numbers of videos (the probe's included) and comments.
    pub fn new(videos: usize, comments: usize) -> Self {
        Self {
            start: Instant::now(),
            counts: RunCounts::default(),
            comments: CommentOracle::new(comments),
            tallies: Mutex::new(vec![CountTally::default(); videos]),
            faults: Mutex::default(),
            acknowledgement_latency: LatencyHistogram::default(),
            delivery_latency: LatencyHistogram::default(),
            live_delivery_latency: LatencyHistogram::default(),
            list_latency: LatencyHistogram::default(),
            interruption_latency: LatencyHistogram::default(),
        }
    }

    /// Now, in µs since the start; never 0.
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64 + 1
    }

    /// Notes that an event is sent for the first time. Returns the time, in microseconds since the start.
    pub fn note_sent(&self, event: &PostEvent) -> u64 {
        let now = self.now_us();
        self.counts.sent.fetch_add(1, Relaxed);
        if event.post_action == PostAction::Comment {
            self.comments.note_posted(event.comment_index, event.video, now);
        }
        now
    }

    /// Notes that an event was acknowledged.
    pub fn note_acknowledged(&self, event: &PostEvent, sent_us: u64) {
        self.acknowledgement_latency.note_latency(event.comment_index, self.now_us() - sent_us);
        self.counts.acknowledged.fetch_add(1, Relaxed);
        lock_ignoring_poison(&self.tallies)[event.video].note_acknowledged(event);
        if event.post_action == PostAction::Comment {
            self.comments.note_acknowledged(event.comment_index);
        }
    }

    /// Notes that an event was given up: it may count or not.
    pub fn note_given_up(&self, event: &PostEvent) {
        self.counts.unacknowledged.fetch_add(1, Relaxed);
        lock_ignoring_poison(&self.tallies)[event.video].note_unacknowledged(event);
    }

    /// What a video's counts must be.
    pub fn tally_of_video(&self, video: usize) -> CountTally {
        lock_ignoring_poison(&self.tallies)[video]
    }

    /// Notes a fault.
    pub fn note_fault(&self, fault: FoundFault) {
        let mut faults = lock_ignoring_poison(&self.faults);
        faults.counts[fault.kind as usize] += fault.event_count;
        if faults.descriptions.len() < MAX_FAULTS_IN_WORDS {
            faults.descriptions.push(fault.description);
        }
    }

    /// How many events are wrong in this way.
    pub fn faulty_events(&self, wrong: OracleFaultKind) -> u64 {
        lock_ignoring_poison(&self.faults).counts[wrong as usize]
    }

    /// The first faults in words.
    pub fn first_faults(&self) -> Vec<String> {
        lock_ignoring_poison(&self.faults).descriptions.clone()
    }

    /// Time since the start.
    pub fn time_since_start(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A lock that outlives a panic of its holder: numbers stay numbers.
pub fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
