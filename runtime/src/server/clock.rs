//! How long a connection may take: for a request's head, between two requests, and to take an answer.
//!
//! Pure: the times are arguments. The connection tells what happens on its socket, and asks when it has to be ended.

use std::time::{Duration, Instant};

/// How long a request's head may take from its first byte on: several times what the worst mobile network needs. A new
/// connection has the same time for the whole of its first head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Over which time it is looked how much a peer takes.
const WINDOW: Duration = Duration::from_secs(30);
/// The least that has to be taken of an answer of a known length while some of it waits, in bytes a second: a phone at
/// the edge of a network manages it, and a megabyte is kept for two minutes at most.
const ANSWER_RATE: u64 = 8 * 1024;
/// The least rate of a stream, in bytes a second: a stream holds little memory.
const STREAM_RATE: u64 = 1024;

/// What the connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The connection came then, and no byte since.
    New(Instant),
    /// A head is on its way, since then.
    Head(Instant),
    /// Nothing is asked, since then.
    Idle(Instant),
    /// A request is being answered.
    Busy,
}

/// Measures how fast a peer takes what it is sent.
#[derive(Debug)]
pub struct Clock {
    phase: Phase,
    keep_alive: Duration,
    /// Since when the peer has not taken all there is, and how many bytes it has taken since.
    waiting: Option<(Instant, u64)>,
    /// Whether the answer's length is known.
    sized: bool,
}

impl Clock {
    /// The clock of a connection that came at `now`.
    pub const fn new(now: Instant, keep_alive: Duration) -> Self {
        Self { phase: Phase::New(now), keep_alive, waiting: None, sized: false }
    }

    /// Bytes came.
    pub const fn heard(&mut self, now: Instant) {
        match self.phase {
            Phase::New(since) => self.phase = Phase::Head(since),
            Phase::Idle(_) => self.phase = Phase::Head(now),
            Phase::Head(_) | Phase::Busy => {}
        }
    }

    /// Whether the peer asks for nothing: no byte of a request is here, and no answer is on its way. Such a connection can
    /// be closed at any time, and its peer loses nothing.
    pub const fn asks_nothing(&self) -> bool {
        matches!(self.phase, Phase::New(_) | Phase::Idle(_)) && self.waiting.is_none()
    }

    /// A request's head is whole.
    pub const fn asked(&mut self) {
        self.phase = Phase::Busy;
    }

    /// Its answer begins; `sized`: its length is known.
    pub const fn answering(&mut self, sized: bool) {
        self.sized = sized;
    }

    /// The answer has been given to the connection.
    pub const fn answered(&mut self, now: Instant) {
        self.phase = Phase::Idle(now);
    }

    /// The peer took this many bytes.
    pub const fn took(&mut self, bytes: u64) {
        if let Some((_, taken)) = &mut self.waiting {
            *taken += bytes;
        }
    }

    /// The peer takes nothing more for now, and there is more for it.
    pub const fn full(&mut self, now: Instant) {
        if self.waiting.is_none() {
            self.waiting = Some((now, 0));
        }
    }

    /// The peer has taken all there is.
    pub const fn flushed(&mut self) {
        self.waiting = None;
    }

    /// When to ask next whether it has to end; `None` where nothing is waited for.
    pub fn look_at(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::New(since) | Phase::Head(since) => Some(since + HEAD_TIMEOUT),
            Phase::Idle(since) => Some(since + self.keep_alive),
            Phase::Busy => None,
        };
        let waiting = self.waiting.map(|(since, _)| since + WINDOW);
        // While the last answer is still being taken, nobody is idle.
        match (phase, waiting) {
            (_, Some(waiting)) => Some(waiting),
            (phase, None) => phase,
        }
    }

    /// Whether it has to end.
    pub fn is_over(&mut self, now: Instant) -> bool {
        if self.look_at().is_none_or(|at| now < at) {
            return false;
        }
        let Some((_, taken)) = self.waiting else { return true };
        let rate = if self.sized { ANSWER_RATE } else { STREAM_RATE };
        self.waiting = Some((now, 0));
        if matches!(self.phase, Phase::Idle(_)) {
            self.phase = Phase::Idle(now);
        }
        taken < rate * WINDOW.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(75);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_head_has_ten_seconds_and_a_pause_as_long_as_was_set() {
        let start = Instant::now();
        let mut clock = Clock::new(start, KEEP);
        assert!(!clock.is_over((start + HEAD_TIMEOUT).checked_sub(SECOND).unwrap()));
        assert!(clock.is_over(start + HEAD_TIMEOUT));
        clock.asked();
        assert_eq!(clock.look_at(), None);
        let done = start + 5 * SECOND;
        clock.answered(done);
        assert!(!clock.is_over((done + KEEP).checked_sub(SECOND).unwrap()));
        assert!(clock.is_over(done + KEEP));
        // The first byte of the next head: from there on its own time runs, however many more come.
        let first = done + 70 * SECOND;
        clock.heard(first);
        clock.heard(first + 9 * SECOND);
        assert!(!clock.is_over(first + 9 * SECOND));
        assert!(clock.is_over(first + HEAD_TIMEOUT));
    }

    #[test]
    fn asks_nothing_before_the_first_byte_and_between_two_requests() {
        let start = Instant::now();
        let mut clock = Clock::new(start, KEEP);
        assert!(clock.asks_nothing());
        clock.heard(start + 9 * SECOND);
        assert!(!clock.asks_nothing());
        assert!(clock.is_over(start + HEAD_TIMEOUT), "a first head has its time from the connection on");
        clock.asked();
        assert!(!clock.asks_nothing());
        clock.full(start);
        clock.answered(start);
        assert!(!clock.asks_nothing(), "the answer is still being taken");
        clock.flushed();
        assert!(clock.asks_nothing());
    }

    #[test]
    fn who_takes_an_answer_too_slowly_is_ended_and_who_takes_a_stream_slowly_is_not() {
        let start = Instant::now();
        for (sized, rate, over) in [
            (true, ANSWER_RATE - 1, true),
            (true, ANSWER_RATE, false),
            (false, STREAM_RATE, false),
            (false, 1, true),
        ] {
            let mut clock = Clock::new(start, KEEP);
            clock.asked();
            clock.answering(sized);
            clock.full(start);
            for _ in 0..WINDOW.as_secs() {
                clock.took(rate);
                clock.full(start + SECOND);
            }
            assert!(!clock.is_over((start + WINDOW).checked_sub(SECOND).unwrap()));
            assert_eq!(clock.is_over(start + WINDOW), over, "{sized} {rate}");
        }
        let mut clock = Clock::new(start, KEEP);
        clock.asked();
        clock.full(start);
        clock.flushed();
        assert_eq!(clock.look_at(), None, "who has it all may wait");
    }
}
