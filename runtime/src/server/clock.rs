//! The time limits of a connection: for a request's head, for the pause between two requests, and for the peer to read
//! an answer.
//!
//! Pure: the current time is an argument. The connection notes what happens on its socket, and asks when it has to be
//! closed.

use std::time::{Duration, Instant};

/// The time within which a request's head must arrive, from its first byte on: several times what the worst mobile
/// network needs. On a new connection the time runs from the moment when the connection was accepted.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time over which a peer's reading rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(30);
/// The minimum rate, in bytes a second, at which a peer must read an answer of known length: a phone at the edge of a
/// network manages it, and a megabyte is held for two minutes at most.
const MIN_ANSWER_RATE: u64 = 8 * 1024;
/// The minimum rate, in bytes a second, at which a peer must read a stream. This rate is lower than that of an answer
/// of known length because a stream holds little memory.
const MIN_STREAM_RATE: u64 = 1024;

/// The phase of a connection; each phase has its own time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
    /// The connection was accepted at this time, and no byte has arrived since.
    New(Instant),
    /// The first bytes of a request's head arrived at this time, and the head is not complete yet.
    ReceivingHead(Instant),
    /// No request is being sent or answered, since this time.
    Idle(Instant),
    /// A request is being answered; no time limit of this phase runs.
    Busy,
}

/// The time limits of one connection: the phase that it is in, and how fast the peer reads.
#[derive(Debug)]
pub struct ConnectionTimer {
    phase: ConnectionPhase,
    keep_alive: Duration,
    /// The time since which data has been waiting for the peer to read it, and the number of bytes that the peer has
    /// read since. `None` if nothing is waiting.
    unsent_since: Option<(Instant, u64)>,
    /// Whether the length of the current answer is known.
    has_known_length: bool,
}

impl ConnectionTimer {
    /// Creates the timer of a connection that was accepted at `now`.
    pub const fn new(now: Instant, keep_alive: Duration) -> Self {
        Self { phase: ConnectionPhase::New(now), keep_alive, unsent_since: None, has_known_length: false }
    }

    /// Notes that bytes arrived from the peer.
    pub const fn note_received(&mut self, now: Instant) {
        match self.phase {
            ConnectionPhase::New(since) => self.phase = ConnectionPhase::ReceivingHead(since),
            ConnectionPhase::Idle(_) => self.phase = ConnectionPhase::ReceivingHead(now),
            ConnectionPhase::ReceivingHead(_) | ConnectionPhase::Busy => {}
        }
    }

    /// Returns true if no byte of a request has arrived and no answer is being sent. Such a connection can be closed at
    /// any time without a loss for its peer.
    pub const fn is_idle(&self) -> bool {
        matches!(self.phase, ConnectionPhase::New(_) | ConnectionPhase::Idle(_))
            && self.unsent_since.is_none()
    }

    /// Returns true if no complete request has arrived and no answer is being sent. Unlike [`Self::is_idle`], also true while a head
    /// arrives: such a connection is closed to make room for another client.
    pub const fn has_no_request(&self) -> bool {
        !matches!(self.phase, ConnectionPhase::Busy) && self.unsent_since.is_none()
    }

    /// Notes that a request's head is complete.
    pub const fn note_request_head(&mut self) {
        self.phase = ConnectionPhase::Busy;
    }

    /// Notes that the answer begins. `sized`: the answer's length is known.
    pub const fn note_answer_begun(&mut self, sized: bool) {
        self.has_known_length = sized;
    }

    /// Notes that the whole answer was given to the connection for sending.
    pub const fn note_answer_given(&mut self, now: Instant) {
        self.phase = ConnectionPhase::Idle(now);
    }

    /// Notes that the peer accepted this many bytes.
    pub const fn note_bytes_read_by_peer(&mut self, bytes: u64) {
        if let Some((_, taken)) = &mut self.unsent_since {
            *taken += bytes;
        }
    }

    /// Notes that the peer accepts no more bytes for now, although more are waiting.
    pub const fn note_peer_full(&mut self, now: Instant) {
        if self.unsent_since.is_none() {
            self.unsent_since = Some((now, 0));
        }
    }

    /// Notes that all waiting bytes were sent.
    pub const fn note_flushed(&mut self) {
        self.unsent_since = None;
    }

    /// Returns the time of the next check (`Self::is_overdue`); `None` if no time limit runs.
    pub fn next_check(&self) -> Option<Instant> {
        let phase = match self.phase {
            ConnectionPhase::New(since) | ConnectionPhase::ReceivingHead(since) => Some(since + HEAD_TIMEOUT),
            ConnectionPhase::Idle(since) => Some(since + self.keep_alive),
            ConnectionPhase::Busy => None,
        };
        let waiting = self.unsent_since.map(|(since, _)| since + RATE_WINDOW);
        // While the peer still reads the last answer, the connection is not idle.
        match (phase, waiting) {
            (_, Some(waiting)) => Some(waiting),
            (phase, None) => phase,
        }
    }

    /// Returns true if a time limit has run out and the connection has to be closed.
    pub fn is_overdue(&mut self, now: Instant) -> bool {
        if self.next_check().is_none_or(|at| now < at) {
            return false;
        }
        let Some((_, taken)) = self.unsent_since else { return true };
        let rate = if self.has_known_length { MIN_ANSWER_RATE } else { MIN_STREAM_RATE };
        self.unsent_since = Some((now, 0));
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
        let mut clock = ConnectionTimer::new(start, KEEP_ALIVE);
        assert!(!clock.is_overdue((start + HEAD_TIMEOUT).checked_sub(SECOND).unwrap()));
        assert!(clock.is_overdue(start + HEAD_TIMEOUT));
        clock.note_request_head();
        assert_eq!(clock.next_check(), None);
        let done = start + 5 * SECOND;
        clock.note_answer_given(done);
        assert!(!clock.is_overdue((done + KEEP_ALIVE).checked_sub(SECOND).unwrap()));
        assert!(clock.is_overdue(done + KEEP_ALIVE));
        // From the first byte of the next head on, the time limit of the head runs, however many more bytes arrive.
        let first = done + 70 * SECOND;
        clock.note_received(first);
        clock.note_received(first + 9 * SECOND);
        assert!(!clock.is_overdue(first + 9 * SECOND));
        assert!(clock.is_overdue(first + HEAD_TIMEOUT));
    }

    #[test]
    fn a_connection_is_idle_before_and_between_requests() {
        let start = Instant::now();
        let mut clock = ConnectionTimer::new(start, KEEP_ALIVE);
        assert!(clock.is_idle());
        clock.note_received(start + 9 * SECOND);
        assert!(!clock.is_idle());
        assert!(clock.is_overdue(start + HEAD_TIMEOUT), "a first head has its time from the connection on");
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
            let mut clock = ConnectionTimer::new(start, KEEP_ALIVE);
            clock.note_request_head();
            clock.note_answer_begun(sized);
            clock.note_peer_full(start);
            for _ in 0..RATE_WINDOW.as_secs() {
                clock.note_bytes_read_by_peer(rate);
                clock.note_peer_full(start + SECOND);
            }
            assert!(!clock.is_overdue((start + RATE_WINDOW).checked_sub(SECOND).unwrap()));
            assert_eq!(clock.is_overdue(start + RATE_WINDOW), over, "{sized} {rate}");
        }
        let mut clock = ConnectionTimer::new(start, KEEP_ALIVE);
        clock.note_request_head();
        clock.note_peer_full(start);
        clock.note_flushed();
        assert_eq!(clock.next_check(), None, "who has it all may wait");
    }
}
