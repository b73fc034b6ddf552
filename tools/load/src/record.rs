//! The record of a run, to which all its posters, viewers and WebSocket clients write.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use liverank_core::score::{Weights, points_of_thousandths};

use crate::oracle::{CommentOracle, CountTally, FoundFault, OracleFaultKind};
use crate::plan::{PostAction, PostEvent};

/// The number of faults that are kept with a description; all faults are counted.
const MAX_FAULT_DESCRIPTIONS: usize = 20;
/// The shortest and the longest latency that is recorded, in microseconds: up to ten minutes, with three significant
/// digits.
const LATENCY_RANGE_US: (u64, u64) = (1, 600_000_000);
/// The number of parts of a histogram, so that viewers need not wait for each other to record a latency.
const LATENCY_SHARDS: usize = 8;

/// A histogram of latencies in microseconds that many tasks can write to at once.
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
    /// Records one latency. `who` is any number that stands for the writer; it chooses the part of the histogram, so
    /// that writers are spread over the parts.
    pub fn note_latency(&self, who: usize, latency_us: u64) {
        lock_ignoring_poison(&self.0[who % LATENCY_SHARDS]).saturating_record(latency_us);
    }

    /// Returns the latencies of all parts as one histogram.
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

/// The counts of a run. The counts are of events, not of requests, unless they say so.
#[derive(Debug, Default)]
pub struct RunCounts {
    /// Events that were posted at least once.
    pub sent: AtomicU64,
    /// Events that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Requests beyond the first one of an event.
    pub retried: AtomicU64,
    /// Events that were given up without an acknowledgement.
    pub unacknowledged: AtomicU64,
    /// Events that were refused and would be refused again: a bug of this program or of the system.
    pub refused: AtomicU64,
    /// Comments that viewers were sent.
    pub delivered: AtomicU64,
    /// Viewers that are connected now.
    pub connected_viewers: AtomicU64,
    /// Viewers' streams that were lost and opened again.
    pub reconnects: AtomicU64,
    /// Lists and changes of lists that came over `WebSockets`.
    pub received_lists: AtomicU64,
    /// `WebSockets` that were lost and opened again.
    pub ws_reconnects: AtomicU64,
}

/// The record of a run: what was sent, acknowledged and seen.
pub struct RunRecord {
    start: Instant,
    /// The counts of the run.
    pub counts: RunCounts,
    /// The comments of the run: posted, acknowledged and shown.
    pub comment_oracle: CommentOracle,
    tallies: Mutex<Vec<CountTally>>,
    weights_at_start: OnceLock<Weights>,
    scores_not_compared_reason: OnceLock<String>,
    faults: Mutex<RecordedFaults>,
    /// The times from the first post of an event to its acknowledgement.
    pub acknowledgement_latency: LatencyHistogram,
    /// The times from the first post of a comment until a viewer has it.
    pub delivery_latency: LatencyHistogram,
    /// The delivery times of comments that were posted while their viewer had a stream.
    pub live_delivery_latency: LatencyHistogram,
    /// The times from the post of an interaction until a list shows its score.
    pub list_latency: LatencyHistogram,
    /// The times from the loss of a viewer's stream to its next stream.
    pub interruption_latency: LatencyHistogram,
}

#[derive(Default)]
struct RecordedFaults {
    counts: [u64; 5],
    descriptions: Vec<String>,
}

impl RunRecord {
    /// Creates the record of a run with these numbers of videos (including the probe's) and comments.
    pub fn new(videos: usize, comments: usize) -> Self {
        Self {
            start: Instant::now(),
            counts: RunCounts::default(),
            comment_oracle: CommentOracle::new(comments),
            tallies: Mutex::new(vec![CountTally::default(); videos]),
            weights_at_start: OnceLock::new(),
            scores_not_compared_reason: OnceLock::new(),
            faults: Mutex::default(),
            acknowledgement_latency: LatencyHistogram::default(),
            delivery_latency: LatencyHistogram::default(),
            live_delivery_latency: LatencyHistogram::default(),
            list_latency: LatencyHistogram::default(),
            interruption_latency: LatencyHistogram::default(),
        }
    }

    /// Returns the current time in microseconds since the start; never 0.
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64 + 1
    }

    /// Notes that an event is sent for the first time. Returns the time, in microseconds since the start.
    pub fn note_sent(&self, event: &PostEvent) -> u64 {
        let now = self.now_us();
        self.counts.sent.fetch_add(1, Relaxed);
        if event.post_action == PostAction::Comment {
            self.comment_oracle.note_posted(event.event_index, event.video, now);
        }
        now
    }

    /// Notes that an event was acknowledged.
    pub fn note_acknowledged(&self, event: &PostEvent, sent_us: u64) {
        self.acknowledgement_latency.note_latency(event.event_index, self.now_us() - sent_us);
        self.counts.acknowledged.fetch_add(1, Relaxed);
        lock_ignoring_poison(&self.tallies)[event.video].note_acknowledged(event, self.watch_threshold_ms());
        if event.post_action == PostAction::Comment {
            self.comment_oracle.note_acknowledged(event.event_index);
        }
    }

    /// Notes that an event was given up without an acknowledgement: the system may count it or not.
    pub fn note_given_up(&self, event: &PostEvent) {
        self.counts.unacknowledged.fetch_add(1, Relaxed);
        lock_ignoring_poison(&self.tallies)[event.video]
            .note_unacknowledged(event, self.watch_threshold_ms());
    }

    /// Notes the weights by which the system counts what is posted from now on. Only the first ones are kept.
    pub fn note_weights(&self, weights: Weights) {
        let _ = self.weights_at_start.set(weights);
    }

    /// Returns the points that one view adds to a video's score.
    pub fn points_per_view(&self) -> f64 {
        points_of_thousandths(self.weights_at_start.get().copied().unwrap_or_default().view)
    }

    fn watch_threshold_ms(&self) -> u64 {
        self.weights_at_start.get().copied().unwrap_or_default().watch_threshold_ms
    }

    /// Notes that scores are not compared with counts, and the reason.
    pub fn note_scores_not_compared(&self, why: String) {
        let _ = self.scores_not_compared_reason.set(why);
    }

    /// Returns the reason for which scores were not compared with counts; `None` if they were.
    pub fn scores_not_compared_reason(&self) -> Option<String> {
        self.scores_not_compared_reason.get().cloned()
    }

    /// Returns the counts that a video must have.
    pub fn tally_of_video(&self, video: usize) -> CountTally {
        lock_ignoring_poison(&self.tallies)[video]
    }

    /// Notes a fault; only the first ones keep their description.
    pub fn note_fault(&self, fault: FoundFault) {
        let mut faults = lock_ignoring_poison(&self.faults);
        faults.counts[fault.kind as usize] += fault.event_count;
        if faults.descriptions.len() < MAX_FAULT_DESCRIPTIONS {
            faults.descriptions.push(fault.description);
        }
    }

    /// Returns the number of events with a fault of this kind.
    pub fn faulty_event_count(&self, wrong: OracleFaultKind) -> u64 {
        lock_ignoring_poison(&self.faults).counts[wrong as usize]
    }

    /// Returns the descriptions of the first faults.
    pub fn first_faults(&self) -> Vec<String> {
        lock_ignoring_poison(&self.faults).descriptions.clone()
    }

    /// Returns the time since the start of the run.
    pub fn time_since_start(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Locks a mutex even if an earlier holder panicked: a panic cannot leave half-written counts behind.
pub fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
