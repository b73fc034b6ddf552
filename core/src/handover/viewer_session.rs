//! The viewer session: a viewer's position in the stream, and the next step when its stream ends. A gateway has one
//! for each of its viewers.

use std::time::Duration;

use super::ElapsedTime;
use crate::backoff;

/// The policy by which a viewer session retries to find a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest first wait. The wait is a random part of it, so that the viewers of a reader that died do not
    /// arrive all at once.
    pub first_pause: Duration,
    /// The longest wait: waits double from try to try up to this.
    pub longest_pause: Duration,
    /// The duration from which a stream counts as stable: the failure after it counts as the first one.
    pub stable_after: Duration,
    /// The time after which the search for a reader is given up.
    pub give_up_after: Duration,
}

/// The next step of a viewer session after its stream was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStep {
    /// At this time, ask who serves the video (earlier answers must not be used), and connect to the `choice`-th of
    /// its readers, counted round from the best. One manager after the other is to be asked until one answers that can
    /// reach the store: a manager that cannot does not know of moves.
    AskForReader {
        /// The time of the next attempt.
        at: ElapsedTime,
        /// The index of the reader to choose, in the order of the route.
        choice: u32,
    },
    /// The search has taken too long: the client has to come back by itself.
    GiveUp,
}

/// The decisions of a gateway about one viewer's stream.
#[derive(Debug, Clone)]
pub struct ViewerSession {
    patience: RetryPolicy,
    /// The id of the last event that the client has, unchanged; empty before the first.
    last_id: String,
    accept_greeting: bool,
    /// The number of failed attempts in a row.
    failures: u32,
    /// The time since which the viewer has had no stable stream.
    note_stream_lost: ElapsedTime,
    /// The time since which a stream is open; `None` if there is none.
    open_since: Option<ElapsedTime>,
}

impl ViewerSession {
    /// Makes the session of a viewer with the id of its last event, or with an empty id if the viewer only wants later
    /// comments. The id is kept unchanged: the reader checks it.
    pub const fn new(now: ElapsedTime, last_id: String, patience: RetryPolicy) -> Self {
        Self {
            patience,
            last_id,
            accept_greeting: false,
            failures: 0,
            note_stream_lost: now,
            open_since: None,
        }
    }

    /// Returns the id that a reader is given as the last event id; empty for none.
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Whether the viewer was greeted by a reader that did not know the video's position yet, and has got no event
    /// since. Such a viewer is not new, and cannot say what it has missed.
    pub const fn lacks_position(&self) -> bool {
        self.accept_greeting && self.last_id.is_empty()
    }

    /// Notes that a reader's stream has begun.
    pub const fn note_stream_opened(&mut self, now: ElapsedTime) {
        self.open_since = Some(now);
    }

    /// Notes a reader's greeting. Returns whether the client is to get the greeting: only the first one.
    pub const fn greeted(&mut self) -> bool {
        !std::mem::replace(&mut self.accept_greeting, true)
    }

    /// Notes the id of the last event that came, the greeting's included: the next reader continues after it. Readers
    /// guarantee the order, so nothing else has to be checked.
    pub fn note_position(&mut self, id: &str) {
        self.last_id.clear();
        self.last_id.push_str(id);
    }

    /// Notes that the stream ended or that none could be opened, and returns the next step. `lot` is random: it
    /// spreads viewers who come back together.
    pub fn lost(&mut self, now: ElapsedTime, lot: u32) -> SessionStep {
        if let Some(since) = self.open_since.take()
            && now.saturating_sub(since) >= self.patience.stable_after
        {
            self.failures = 0;
            self.note_stream_lost = now;
        }
        if now.saturating_sub(self.note_stream_lost) >= self.patience.give_up_after {
            return SessionStep::GiveUp;
        }
        let RetryPolicy { first_pause, longest_pause, .. } = self.patience;
        let most = backoff::wait_after_failures(self.failures, first_pause, longest_pause);
        let pause = most.mul_f64(f64::from(lot) / f64::from(u32::MAX));
        let choice = self.failures;
        self.failures = self.failures.saturating_add(1);
        SessionStep::AskForReader { at: now + pause, choice }
    }
}

#[cfg(test)]
mod tests;
