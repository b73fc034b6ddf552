//! Whoever watches: where it stands, and what it does when its stream ends. A gateway has one for each of its viewers.

use std::time::Duration;

use super::ElapsedTime;
use crate::backoff;

/// How often and how long a viewer session tries to find a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait is a random part of this, so that the viewers of a reader that died do not arrive as one.
    pub first_pause: Duration,
    /// Later waits double up to this.
    pub longest_pause: Duration,
    /// A stream that lasted this long was a good one: what comes after it is a first failure.
    pub stable_after: Duration,
    /// How long it looks for a reader before it gives up.
    pub give_up_after: Duration,
}

/// The next action of a viewer session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStep {
    /// At this time, ask who serves the video (what was known before now is not to be believed), and go to the
    /// `choice`-th of its readers, counted round from the best. One manager after the other is to be asked until one
    /// answers that sees the store: one that is cut off knows of no move.
    AskForReader {
        /// The time of the next attempt.
        at: ElapsedTime,
        /// The number of the reader to choose, in the order of the route.
        choice: u32,
    },
    /// Looked for long enough: the client is to come back by itself.
    GiveUp,
}

/// The decisions of a gateway about one viewer's stream.
#[derive(Debug, Clone)]
pub struct ViewerSession {
    patience: RetryPolicy,
    /// The id of the last event that the client has, as it came; empty before the first.
    last_id: String,
    accept_greeting: bool,
    /// Attempts in a row that came to nothing.
    failures: u32,
    /// The time since which the viewer has no good stream.
    note_stream_lost: ElapsedTime,
    /// The time since which a stream is open; `None`: there is none.
    open_since: Option<ElapsedTime>,
}

impl ViewerSession {
    /// A viewer that comes back with the id of its last event, or with an empty one, if it wants only what comes from now
    /// on. The id is kept as it came: the reader judges it.
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

    /// What a reader is to be told as the last id; empty for none.
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Whether it was greeted by a reader that did not know yet where the comments stand, and has heard nothing since: it does
    /// not begin anew, and cannot say what it misses.
    pub const fn lacks_position(&self) -> bool {
        self.accept_greeting && self.last_id.is_empty()
    }

    /// Notes that a reader's stream has begun.
    pub const fn note_stream_opened(&mut self, now: ElapsedTime) {
        self.open_since = Some(now);
    }

    /// A reader greets. Returns whether the client is to have the greeting: the first one only.
    pub const fn greeted(&mut self) -> bool {
        !std::mem::replace(&mut self.accept_greeting, true)
    }

    /// Notes the id of the last event that came, the greeting's included: from there the next reader goes on. Readers
    /// promise order, so nothing else has to be looked at.
    pub fn note_position(&mut self, id: &str) {
        self.last_id.clear();
        self.last_id.push_str(id);
    }

    /// There is no stream (any more): it ended, or none could be had. `lot` is random: it spreads those who come back
    /// together.
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
