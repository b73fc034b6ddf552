//! The viewer session: a viewer's position in the stream, and the next step when its stream ends. A gateway has one
//! for each of its viewers.

use std::time::Duration;

use super::ElapsedTime;
use crate::backoff;

/// The policy by which a viewer session retries to find a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The upper bound of the first wait. The wait is a random part of it, so that the viewers of a reader that died do
    /// not arrive all at once.
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
    /// The gateway asks a manager, at the time `at`, who serves the video (earlier answers must not be used), and
    /// connects to reader number `choice` of the answer, modulo the number of readers. The gateway asks one manager
    /// after the other until one answers that can reach the store, because a manager without the store does not know of
    /// moves.
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
    retry_policy: RetryPolicy,
    /// The id of the last event that the client has, unchanged; empty before the first.
    last_id: String,
    was_greeted: bool,
    /// The number of failed attempts in a row.
    failures_in_a_row: u32,
    /// The time since which the viewer has had no stable stream.
    without_stream_since: ElapsedTime,
    /// The time since which a stream is open; `None` if there is none.
    open_since: Option<ElapsedTime>,
}

impl ViewerSession {
    /// Makes the session of a viewer with the id of its last event, or with an empty id if the viewer only wants later
    /// comments. The id is kept unchanged: the reader checks it.
    pub const fn new(now: ElapsedTime, last_id: String, retry_policy: RetryPolicy) -> Self {
        Self {
            retry_policy,
            last_id,
            was_greeted: false,
            failures_in_a_row: 0,
            without_stream_since: now,
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
        self.was_greeted && self.last_id.is_empty()
    }

    /// Notes that a reader's stream has begun.
    pub const fn note_stream_opened(&mut self, now: ElapsedTime) {
        self.open_since = Some(now);
    }

    /// Notes a reader's greeting. Returns whether the client is to get the greeting: only the first one.
    pub const fn note_greeting(&mut self) -> bool {
        !std::mem::replace(&mut self.was_greeted, true)
    }

    /// Notes the id of the last event that came, the greeting's included: the next reader continues after it. Readers
    /// guarantee the order, so nothing else has to be checked.
    pub fn note_position(&mut self, id: &str) {
        self.last_id.clear();
        self.last_id.push_str(id);
    }

    /// Notes that the stream ended or that none could be opened, and returns the next step. `lot` is random: it
    /// spreads viewers who come back together.
    pub fn next_step_after_loss(&mut self, now: ElapsedTime, lot: u32) -> SessionStep {
        if let Some(since) = self.open_since.take()
            && now.saturating_sub(since) >= self.retry_policy.stable_after
        {
            self.failures_in_a_row = 0;
            self.without_stream_since = now;
        }
        if now.saturating_sub(self.without_stream_since) >= self.retry_policy.give_up_after {
            return SessionStep::GiveUp;
        }
        let RetryPolicy { first_pause, longest_pause, .. } = self.retry_policy;
        let most = backoff::wait_after_failures(self.failures_in_a_row, first_pause, longest_pause);
        let pause = most.mul_f64(f64::from(lot) / f64::from(u32::MAX));
        let choice = self.failures_in_a_row;
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        SessionStep::AskForReader { at: now + pause, choice }
    }
}

#[cfg(test)]
mod tests;
