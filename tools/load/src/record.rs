//! What all posters, viewers and lists of a run write down together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::oracle::{Comments, Fault, Tally, Wrong};
use crate::plan::{Action, Event};

/// Faults kept in words; all are counted.
const MAX_FAULTS_IN_WORDS: usize = 20;
/// Latencies from 1 µs to ten minutes, to three digits.
const LATENCY_RANGE_US: (u64, u64) = (1, 600_000_000);
/// Viewers write their latencies down in as many places, so that they need not wait for each other.
const LATENCY_SHARDS: usize = 8;

/// A histogram of latencies in µs that many may write.
pub struct Latencies(Vec<Mutex<Histogram<u64>>>);

impl Default for Latencies {
    fn default() -> Self {
        let one = || {
            Histogram::new_with_bounds(LATENCY_RANGE_US.0, LATENCY_RANGE_US.1, 3)
                .expect("the bounds are fit for a histogram")
        };
        Self((0..LATENCY_SHARDS).map(|_| Mutex::new(one())).collect())
    }
}

impl Latencies {
    /// Notes one; `who` spreads the writers.
    pub fn note(&self, who: usize, latency_us: u64) {
        lock_anyway(&self.0[who % LATENCY_SHARDS]).saturating_record(latency_us);
    }

    /// The latencies of all shards, as one histogram.
    pub fn sum(&self) -> Histogram<u64> {
        let mut sum = lock_anyway(&self.0[0]).clone();
        for shard in &self.0[1..] {
            sum.add(&*lock_anyway(shard)).expect("all shards have the same bounds");
        }
        sum
    }

    /// What a sum has that an earlier one had not.
    pub fn since(sum: &Histogram<u64>, earlier: &Histogram<u64>) -> Histogram<u64> {
        let mut rest = sum.clone();
        rest.subtract(earlier).expect("counts only grow");
        rest
    }
}

/// Numbers of a run, of events and not of requests unless they say so.
#[derive(Debug, Default)]
pub struct Counts {
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
pub struct Record {
    start: Instant,
    /// Numbers.
    pub counts: Counts,
    /// Comments.
    pub comments: Comments,
    tallies: Mutex<Vec<Tally>>,
    faults: Mutex<RecordedFaults>,
    /// From the first post of an event to its acknowledgement.
    pub ack: Latencies,
    /// From the first post of a comment to a viewer.
    pub delivery: Latencies,
    /// The same, of comments that were posted while the viewer had its stream.
    pub live: Latencies,
    /// From the post of an interaction to a list with its score.
    pub ws: Latencies,
    /// From the loss of a viewer's stream to its next one.
    pub away: Latencies,
}

#[derive(Default)]
struct RecordedFaults {
    counts: [u64; 5],
    words: Vec<String>,
}

impl Record {
    /// For a run with these numbers of videos (the probe's included) and comments.
    pub fn new(videos: usize, comments: usize) -> Self {
        Self {
            start: Instant::now(),
            counts: Counts::default(),
            comments: Comments::new(comments),
            tallies: Mutex::new(vec![Tally::default(); videos]),
            faults: Mutex::default(),
            ack: Latencies::default(),
            delivery: Latencies::default(),
            live: Latencies::default(),
            ws: Latencies::default(),
            away: Latencies::default(),
        }
    }

    /// Now, in µs since the start; never 0.
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64 + 1
    }

    /// Notes that an event is sent for the first time. Returns the time, in microseconds since the start.
    pub fn sent(&self, event: &Event) -> u64 {
        let now = self.now_us();
        self.counts.sent.fetch_add(1, Relaxed);
        if event.action == Action::Comment {
            self.comments.posted(event.number, event.video, now);
        }
        now
    }

    /// Notes that an event was acknowledged.
    pub fn acknowledged(&self, event: &Event, sent_us: u64) {
        self.ack.note(event.number, self.now_us() - sent_us);
        self.counts.acknowledged.fetch_add(1, Relaxed);
        lock_anyway(&self.tallies)[event.video].acknowledge(event);
        if event.action == Action::Comment {
            self.comments.acknowledged(event.number);
        }
    }

    /// Notes that an event was given up: it may count or not.
    pub fn given_up(&self, event: &Event) {
        self.counts.unacknowledged.fetch_add(1, Relaxed);
        lock_anyway(&self.tallies)[event.video].leave_open(event);
    }

    /// What a video's counts must be.
    pub fn tally(&self, video: usize) -> Tally {
        lock_anyway(&self.tallies)[video]
    }

    /// Notes a fault.
    pub fn fault(&self, fault: Fault) {
        let mut faults = lock_anyway(&self.faults);
        faults.counts[fault.wrong as usize] += fault.count;
        if faults.words.len() < MAX_FAULTS_IN_WORDS {
            faults.words.push(fault.what);
        }
    }

    /// How many events are wrong in this way.
    pub fn wrong(&self, wrong: Wrong) -> u64 {
        lock_anyway(&self.faults).counts[wrong as usize]
    }

    /// The first faults in words.
    pub fn words(&self) -> Vec<String> {
        lock_anyway(&self.faults).words.clone()
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A lock that outlives a panic of its holder: numbers stay numbers.
pub fn lock_anyway<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
