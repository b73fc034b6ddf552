//! Whoever watches: where it stands, and what it does when its stream ends. A gateway has one for each of its viewers;
//! a direct client acts by the same rules.

use std::time::Duration;

use super::Time;
use crate::Position;

/// What one waits for and how often it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait is a random part of this, so that the viewers of a reader that died do not arrive as one.
    pub first_pause: Duration,
    /// Later waits double up to this.
    pub longest_pause: Duration,
    /// A stream that lasted this long was a good one: what comes after it is a first failure.
    pub settled: Duration,
    /// A reader that said nothing for this long is gone.
    pub silence: Duration,
    /// How long it looks for a reader before it gives up.
    pub gives_up: Duration,
}

/// Sent on so often in a row, it asks the managers instead of following further: readers that do not agree will have
/// been told by then.
const MOST_HOPS: u32 = 2;

/// Why there is no stream (any more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// It ended, as a reader ends those that it hands over; or it broke, or fell silent.
    Ended,
    /// A reader knows a better one: the address to go to.
    Redirected(String),
    /// A reader took no viewer, or could not be reached, or no manager could say who serves the video.
    Failed,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// At this time, ask who serves the video (what was known before now is not to be believed), and go to the
    /// `choice`-th of its readers, counted round from the best. After a failure another manager is to be asked than
    /// before: the one that was may be cut off and know of no move.
    Ask {
        /// When.
        at: Time,
        /// Which.
        choice: u32,
    },
    /// Go to this address at once.
    Go(String),
    /// Looked for long enough: the client is to come back by itself.
    GiveUp,
}

/// What a stream brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Its first event, with where the viewer stands where that is known.
    Connected(Option<Position>),
    /// A comment.
    Comment(Position),
    /// What it misses, up to this position.
    Gap(Position),
}

/// What is to become of what a stream brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It is for the client.
    On,
    /// The client has had it.
    Drop,
    /// Something is missing before it: end the stream and resume from where the client stands.
    Broken,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct ViewerSession {
    patience: RetryPolicy,
    position: Option<Position>,
    greeted: bool,
    /// Attempts in a row that came to nothing.
    failures: u32,
    /// Redirects in a row.
    hops: u32,
    /// Since when there is no good stream.
    lost: Time,
    /// Since when there is a stream, and when it last said something.
    open: Option<(Time, Time)>,
}

impl ViewerSession {
    /// One that stands at `position` (a client that comes back), or wants what comes from now on.
    pub const fn new(now: Time, position: Option<Position>, patience: RetryPolicy) -> Self {
        Self { patience, position, greeted: false, failures: 0, hops: 0, lost: now, open: None }
    }

    /// What a reader is to be told as the last id.
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// What to do first.
    pub const fn begin(&self, now: Time) -> Step {
        Step::Ask { at: now, choice: 0 }
    }

    /// A reader's stream has begun.
    pub const fn opened(&mut self, now: Time) {
        self.open = Some((now, now));
        self.hops = 0;
    }

    /// The stream said something, if only a heartbeat.
    pub const fn heard(&mut self, now: Time) {
        if let Some((_, last)) = &mut self.open {
            *last = now;
        }
    }

    /// Whether the stream has been silent for too long.
    pub fn is_silent(&self, now: Time) -> bool {
        self.open.is_some_and(|(_, last)| now.saturating_sub(last) >= self.patience.silence)
    }

    /// There is no stream (any more). `lot` is random: it spreads those who come back together.
    pub fn lost(&mut self, now: Time, why: Lost, lot: u32) -> Step {
        if let Some((since, _)) = self.open.take()
            && now.saturating_sub(since) >= self.patience.settled
        {
            self.failures = 0;
            self.lost = now;
        }
        if now.saturating_sub(self.lost) >= self.patience.gives_up {
            return Step::GiveUp;
        }
        if let Lost::Redirected(address) = why {
            self.hops += 1;
            if self.hops <= MOST_HOPS {
                return Step::Go(address);
            }
        }
        self.hops = 0;
        let doubled = self.patience.first_pause.saturating_mul(1 << self.failures.min(16));
        let most = doubled.min(self.patience.longest_pause);
        let pause = most.mul_f64(f64::from(lot) / f64::from(u32::MAX));
        let choice = self.failures;
        self.failures = self.failures.saturating_add(1);
        Step::Ask { at: now + pause, choice }
    }

    /// Takes note of what a stream brought, and says whether the client is to have it.
    pub fn take(&mut self, seen: Seen) -> Pass {
        match seen {
            Seen::Connected(position) => {
                if self.position.is_none() {
                    self.position = position;
                }
                if std::mem::replace(&mut self.greeted, true) { Pass::Drop } else { Pass::On }
            }
            Seen::Comment(position) => match &self.position {
                Some(at) if at.numbering != position.numbering => Pass::Broken,
                Some(at) if position.seq <= at.seq => Pass::Drop,
                Some(at) if position.seq > at.seq + 1 => Pass::Broken,
                _ => {
                    self.position = Some(position);
                    Pass::On
                }
            },
            Seen::Gap(position) => {
                self.position = Some(position);
                Pass::On
            }
        }
    }

    /// Takes note of the last id in whole events that were passed on unread: for those who rely on the readers' promise
    /// of order, and look at bytes rather than at events.
    pub fn stands_at(&mut self, position: Position) {
        self.position = Some(position);
    }
}

#[cfg(test)]
mod tests;
