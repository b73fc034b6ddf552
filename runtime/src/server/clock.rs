//! How long a connection may take: for a request's head, between two requests, and to take an answer.
//!
//! Pure: the times are arguments. The connection tells what happens on its socket, and asks when it has to be ended.

use std::time::{Duration, Instant};

/// How long a request's head may take from its first byte on: several times what the worst mobile network needs. A new
/// connection has the same time for the whole of its first head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Over which time it is looked how much a peer takes.
const RATE_WINDOW: Duration = Duration::from_secs(30);
/// The least that has to be taken of an answer of a known length while some of it waits, in bytes a second: a phone at
/// the edge of a network manages it, and a megabyte is kept for two minutes at most.
const MIN_ANSWER_RATE: u64 = 8 * 1024;
/// The least rate of a stream, in bytes a second: a stream holds little memory.
const MIN_STREAM_RATE: u64 = 1024;

/// The phase of a connection, which says which time limit is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
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
pub struct PeerClock {
    phase: ConnectionPhase,
    keep_alive: Duration,
    /// Since when the peer has not taken all there is, and how many bytes it has taken since.
    waiting: Option<(Instant, u64)>,
    /// Whether the answer's length is known.
    sized: bool,
}

impl PeerClock {
    /// The clock of a connection that came at `now`.
    pub const fn new(now: Instant, keep_alive: Duration) -> Self {
        Self { phase: ConnectionPhase::New(now), keep_alive, waiting: None, sized: false }
    }

    /// Bytes came.
    pub const fn note_received(&mut self, now: Instant) {
        match self.phase {
            ConnectionPhase::New(since) => self.phase = ConnectionPhase::Head(since),
            ConnectionPhase::Idle(_) => self.phase = ConnectionPhase::Head(now),
            ConnectionPhase::Head(_) | ConnectionPhase::Busy => {}
        }
    }

    /// Whether the peer asks for nothing: no byte of a request is here, and no answer is on its way. Such a connection can
    /// be closed at any time, and its peer loses nothing.
    pub const fn is_idle(&self) -> bool {
        matches!(self.phase, ConnectionPhase::New(_) | ConnectionPhase::Idle(_)) && self.waiting.is_none()
    }

    /// Whether no whole request is here, and no answer is on its way.
    pub const fn answers_nothing(&self) -> bool {
        !matches!(self.phase, ConnectionPhase::Busy) && self.waiting.is_none()
    }

    /// A request's head is whole.
    pub const fn note_request_head(&mut self) {
        self.phase = ConnectionPhase::Busy;
    }

    /// Its answer begins; `sized`: its length is known.
    pub const fn note_answer_begun(&mut self, sized: bool) {
        self.sized = sized;
    }

    /// The answer has been given to the connection.
    pub const fn note_answer_given(&mut self, now: Instant) {
        self.phase = ConnectionPhase::Idle(now);
    }

    /// The peer took this many bytes.
    pub const fn note_taken(&mut self, bytes: u64) {
        if let Some((_, taken)) = &mut self.waiting {
            *taken += bytes;
        }
    }

    /// The peer takes nothing more for now, and there is more for it.
    pub const fn note_peer_full(&mut self, now: Instant) {
        if self.waiting.is_none() {
            self.waiting = Some((now, 0));
        }
    }

    /// The peer has taken all there is.
    pub const fn note_flushed(&mut self) {
        self.waiting = None;
    }

    /// When to ask next whether it has to end; `None` where nothing is waited for.
    pub fn next_look(&self) -> Option<Instant> {
        let phase = match self.phase {
            ConnectionPhase::New(since) | ConnectionPhase::Head(since) => Some(since + HEAD_TIMEOUT),
            ConnectionPhase::Idle(since) => Some(since + self.keep_alive),
            ConnectionPhase::Busy => None,
        };
        let waiting = self.waiting.map(|(since, _)| since + RATE_WINDOW);
        // While the last answer is still being taken, nobody is idle.
        match (phase, waiting) {
            (_, Some(waiting)) => Some(waiting),
            (phase, None) => phase,
        }
    }

    /// Whether it has to end.
    pub fn has_run_out(&mut self, now: Instant) -> bool {
        if self.next_look().is_none_or(|at| now < at) {
            return false;
        }
        let Some((_, taken)) = self.waiting else { return true };
        let rate = if self.sized { MIN_ANSWER_RATE } else { MIN_STREAM_RATE };
        self.waiting = Some((now, 0));
        if matches!(self.phase, ConnectionPhase::Idle(_)) {
            self.phase = ConnectionPhase::Idle(now);
        }
        taken < rate * RATE_WINDOW.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(75);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn request_heads_and_idle_pauses_have_time_limits() {
        let start = Instant::now();
        let mut clock = PeerClock::new(start, KEEP_ALIVE);
        assert!(!clock.has_run_out((start + HEAD_TIMEOUT).checked_sub(SECOND).unwrap()));
        assert!(clock.has_run_out(start + HEAD_TIMEOUT));
        clock.note_request_head();
        assert_eq!(clock.next_look(), None);
        let done = start + 5 * SECOND;
        clock.note_answer_given(done);
        assert!(!clock.has_run_out((done + KEEP_ALIVE).checked_sub(SECOND).unwrap()));
        assert!(clock.has_run_out(done + KEEP_ALIVE));
        // The first byte of the next head: from there on its own time runs, however many more come.
        let first = done + 70 * SECOND;
        clock.note_received(first);
        clock.note_received(first + 9 * SECOND);
        assert!(!clock.has_run_out(first + 9 * SECOND));
        assert!(clock.has_run_out(first + HEAD_TIMEOUT));
    }

    #[test]
    fn a_connection_is_idle_before_and_between_requests() {
        let start = Instant::now();
        let mut clock = PeerClock::new(start, KEEP_ALIVE);
        assert!(clock.is_idle());
        clock.note_received(start + 9 * SECOND);
        assert!(!clock.is_idle());
        assert!(clock.has_run_out(start + HEAD_TIMEOUT), "a first head has its time from the connection on");
        clock.note_request_head();
        assert!(!clock.is_idle());
        clock.note_peer_full(start);
        clock.note_answer_given(start);
        assert!(!clock.is_idle(), "the answer is still being taken");
        clock.note_flushed();
        assert!(clock.is_idle());
    }

    #[test]
    fn a_slowly_read_answer_is_ended_and_a_slow_stream_is_not() {
        let start = Instant::now();
        for (sized, rate, over) in [
            (true, MIN_ANSWER_RATE - 1, true),
            (true, MIN_ANSWER_RATE, false),
            (false, MIN_STREAM_RATE, false),
            (false, 1, true),
        ] {
            let mut clock = PeerClock::new(start, KEEP_ALIVE);
            clock.note_request_head();
            clock.note_answer_begun(sized);
            clock.note_peer_full(start);
            for _ in 0..RATE_WINDOW.as_secs() {
                clock.note_taken(rate);
                clock.note_peer_full(start + SECOND);
            }
            assert!(!clock.has_run_out((start + RATE_WINDOW).checked_sub(SECOND).unwrap()));
            assert_eq!(clock.has_run_out(start + RATE_WINDOW), over, "{sized} {rate}");
        }
        let mut clock = PeerClock::new(start, KEEP_ALIVE);
        clock.note_request_head();
        clock.note_peer_full(start);
        clock.note_flushed();
        assert_eq!(clock.next_look(), None, "who has it all may wait");
    }
}
