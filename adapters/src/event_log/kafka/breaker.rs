//! Refuses appends at once while the brokers are unreachable, instead of letting them pile up and time out one by one.
//!
//! ```text
//! closed ── all brokers down ──▶ suspect ── a probe fails ──▶ open ── a probe succeeds ──▶ closed
//!    └────── appends time out and none is delivered ────────────▲
//! ```
//!
//! *Suspect* lets appends pass: the library also reports all brokers down if a broker closes the only connection
//! because it was idle, and the first append after a quiet night must not be refused for that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PART_NAME;
use crate::StoreError;

/// The time limit of the first probe. Connecting to a reachable broker takes milliseconds.
const FIRST_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// The time limit of each further probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between probes: a recovery is noticed within this time, and a broker that comes back gets five queries a
/// second from each process at most.
const PROBE_PAUSE: Duration = Duration::from_millis(200);

/// The next action of the thread that probes the brokers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProbeAction {
    /// Ask the brokers for metadata, within this time, and call [`Breaker::note_probe_result`] with the result.
    Probe(Duration),
    /// Replace the producer, which cannot go on; if that fails, call [`Breaker::note_renewal_failure`].
    Renew,
    /// The thread ends: the breaker is no longer in use.
    End,
}

#[derive(Default)]
struct BreakerState {
    is_suspect: bool,
    open_reason: Option<String>,
    needs_renewal: bool,
    is_ended: bool,
    /// The last error of a connection that the library reported.
    last_error: Option<StoreError>,
    /// The earliest time of the next probe or renewal; `None`: at once.
    next_action_at: Option<Instant>,
}

/// A circuit breaker that refuses appends while the brokers do not answer. The appending tasks, the library's
/// callbacks, and the thread that probes the brokers share one breaker.
pub(super) struct Breaker {
    /// True while `open_reason` is set: an append reads this flag and takes no lock.
    is_open: AtomicBool,
    /// The time of the last delivery, in milliseconds after `created_at`.
    last_delivery_ms: AtomicU64,
    created_at: Instant,
    /// If nothing was delivered for this long, a delivery that timed out opens the breaker.
    max_time_without_delivery: Duration,
    state: Mutex<BreakerState>,
    action_due: Condvar,
}

impl Breaker {
    pub(super) fn new(max_time_without_delivery: Duration) -> Self {
        Self {
            is_open: AtomicBool::new(false),
            last_delivery_ms: AtomicU64::new(0),
            created_at: Instant::now(),
            max_time_without_delivery,
            state: Mutex::default(),
            action_due: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an error if appends are refused at present.
    pub(super) fn check_is_closed(&self) -> Result<(), StoreError> {
        if !self.is_open.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.lock();
        match (&state.open_reason, &state.last_error) {
            (None, _) => Ok(()),
            (Some(reason), None) => Err(StoreError::unavailable(PART_NAME, reason)),
            (
                Some(reason),
                Some(
                    StoreError::Unavailable { reason: heard, .. }
                    | StoreError::Unusable { reason: heard, .. },
                ),
            ) => Err(StoreError::unavailable(PART_NAME, format!("{reason} ({heard})"))),
        }
    }

    /// Notes that a record was delivered, which shows that the brokers answer.
    pub(super) fn note_delivery(&self) {
        self.last_delivery_ms.store(self.created_at.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Notes that a delivery timed out. Opens the breaker only if nothing at all is delivered, because one partition's
    /// failure does not affect the others.
    pub(super) fn note_delivery_timeout(&self, reason: &str) {
        let last = Duration::from_millis(self.last_delivery_ms.load(Ordering::Relaxed));
        if self.created_at.elapsed().saturating_sub(last) >= self.max_time_without_delivery {
            self.open_breaker(&mut self.lock(), reason);
        }
    }

    /// Notes the error of a failed connection, as the library reports it.
    pub(super) fn note_connection_error(&self, error: StoreError) {
        self.lock().last_error = Some(error);
    }

    /// Returns the last connection error that the library reported, if no probe has succeeded since.
    pub(super) fn last_connection_error(&self) -> Option<StoreError> {
        self.lock().last_error.clone()
    }

    /// Notes that the library has no connection left: starts probing.
    pub(super) fn note_all_brokers_down(&self, reason: &str) {
        let mut state = self.lock();
        if state.open_reason.is_none() && !state.is_suspect {
            tracing::debug!(reason, "no connection to any broker: probing");
            state.is_suspect = true;
            self.action_due.notify_all();
        }
    }

    /// Notes that the producer can never deliver again: opens the breaker until the producer is replaced.
    pub(super) fn note_fatal_error(&self, reason: &str) {
        let mut state = self.lock();
        state.needs_renewal = true;
        self.open_breaker(&mut state, reason);
    }

    fn open_breaker(&self, state: &mut BreakerState, reason: &str) {
        if state.open_reason.is_none() {
            tracing::warn!(part = PART_NAME, reason, "the log is away: appends are refused");
            state.open_reason = Some(reason.to_owned());
            self.is_open.store(true, Ordering::Release);
        }
        self.action_due.notify_all();
    }

    /// Ends the probing thread, by [`ProbeAction::End`].
    pub(super) fn stop_probing(&self) {
        self.lock().is_ended = true;
        self.action_due.notify_all();
    }

    /// Waits for the next action of the probing thread.
    pub(super) fn next_action(&self) -> ProbeAction {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.is_ended {
                return ProbeAction::End;
            }
            match state.next_action_at.filter(|at| *at > now) {
                Some(at) => {
                    state = self
                        .action_due
                        .wait_timeout(state, at - now)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                None if state.needs_renewal => {
                    state.needs_renewal = false;
                    return ProbeAction::Renew;
                }
                None if state.open_reason.is_some() => return ProbeAction::Probe(PROBE_TIMEOUT),
                None if state.is_suspect => return ProbeAction::Probe(FIRST_PROBE_TIMEOUT),
                None => state = self.action_due.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Notes the outcome of a probe: success closes the breaker, failure opens it.
    pub(super) fn note_probe_result(&self, outcome: Result<(), String>) {
        let mut state = self.lock();
        state.next_action_at = Some(Instant::now() + PROBE_PAUSE);
        match outcome {
            Ok(()) => {
                state.is_suspect = false;
                state.last_error = None;
                // A producer with a fatal error delivers nothing, whatever the brokers answer.
                if !state.needs_renewal && state.open_reason.take().is_some() {
                    tracing::info!(part = PART_NAME, "the log is back");
                    self.note_delivery();
                    self.is_open.store(false, Ordering::Release);
                }
            }
            Err(reason) => self.open_breaker(&mut state, &reason),
        }
    }

    /// Notes that the producer could not be replaced: the next attempt comes after the pause.
    pub(super) fn note_renewal_failure(&self) {
        let mut state = self.lock();
        state.needs_renewal = true;
        state.next_action_at = Some(Instant::now() + PROBE_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_starts_a_probe_and_does_not_open_the_breaker() {
        let breaker = Breaker::new(Duration::from_secs(5));
        breaker.note_all_brokers_down("1/1 brokers are down");
        assert!(breaker.check_is_closed().is_ok());
        assert_eq!(breaker.next_action(), ProbeAction::Probe(FIRST_PROBE_TIMEOUT));
        breaker.note_probe_result(Ok(()));
        assert!(breaker.check_is_closed().is_ok());
    }

    #[test]
    fn a_failed_probe_opens_the_breaker_and_a_good_one_closes_it() {
        let breaker = Breaker::new(Duration::from_secs(5));
        breaker.note_all_brokers_down("1/1 brokers are down");
        breaker.note_probe_result(Err("timed out".to_owned()));
        let error = breaker.check_is_closed().unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("timed out"), "{error}");
        let begun = Instant::now();
        assert_eq!(breaker.next_action(), ProbeAction::Probe(PROBE_TIMEOUT));
        assert!(begun.elapsed() >= PROBE_PAUSE / 2, "probes are paced");
        breaker.note_probe_result(Ok(()));
        assert!(breaker.check_is_closed().is_ok());
    }

    #[test]
    fn a_timeout_opens_the_breaker_only_when_nothing_is_delivered() {
        let breaker = Breaker::new(Duration::from_millis(50));
        std::thread::sleep(Duration::from_millis(60));
        breaker.note_delivery();
        breaker.note_delivery_timeout("one partition has no leader");
        assert!(breaker.check_is_closed().is_ok());
        std::thread::sleep(Duration::from_millis(60));
        breaker.note_delivery_timeout("no partition has");
        assert!(breaker.check_is_closed().is_err());
    }

    #[test]
    fn a_broken_producer_is_renewed_before_anything_closes() {
        let breaker = Breaker::new(Duration::from_secs(5));
        breaker.note_fatal_error("fenced");
        breaker.note_probe_result(Ok(()));
        assert!(breaker.check_is_closed().is_err(), "brokers that answer do not mend a producer");
        assert_eq!(breaker.next_action(), ProbeAction::Renew);
        breaker.note_renewal_failure();
        assert_eq!(breaker.next_action(), ProbeAction::Renew);
        assert_eq!(breaker.next_action(), ProbeAction::Probe(PROBE_TIMEOUT));
        breaker.note_probe_result(Ok(()));
        assert!(breaker.check_is_closed().is_ok());
        breaker.stop_probing();
        assert_eq!(breaker.next_action(), ProbeAction::End);
    }
}
