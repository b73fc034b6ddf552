//! The health of a process: its readiness, its liveness, and the state of the services that it depends on.
//!
//! A process is ready if it can answer requests. A dependency that does not answer is shown in the report, but does not
//! make the process unready: some process must be left to answer with 503, to resolve readers and to serve history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// The health of one process, shared by all its parts. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Default)]
struct HealthState {
    /// The parts that have yet to start before the process is ready; [`Health::note_started`] removes them.
    starting_parts: BTreeSet<&'static str>,
    is_draining: bool,
    /// The reason why the process should be restarted; `None` while it is well.
    stuck_reason: Option<String>,
    part_states: BTreeMap<&'static str, Option<String>>,
}

/// The body of the answer of `/readyz`.
#[derive(Debug, Serialize)]
pub struct ReadinessReport {
    /// The state of the process: `ready`, `starting` or `draining`.
    pub status: &'static str,
    /// The names of the parts that have not started yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<&'static str>,
    /// The state of each service that the process depends on: `ok`, or the reason why the service is away.
    pub dependencies: BTreeMap<&'static str, String>,
}

impl Health {
    /// Notes that `part` is starting: the process is not ready before [`Health::note_started`] is called for the same
    /// `part`.
    pub fn note_starting(&self, part: &'static str) {
        self.lock_state().starting_parts.insert(part);
    }

    /// Notes that `part` has started.
    pub fn note_started(&self, part: &'static str) {
        self.lock_state().starting_parts.remove(part);
    }

    /// Notes that the process is about to end, so that `/readyz` answers `draining`.
    pub fn note_draining(&self) {
        self.lock_state().is_draining = true;
    }

    /// Notes that the process is stuck, that is, in a state that it cannot leave by itself, and the reason; `None`: it
    /// is not stuck any more. `/livez` then fails, so that whoever started the process can restart it. Only changes are
    /// logged.
    pub fn set_stuck(&self, why: Option<String>) {
        let before = std::mem::replace(&mut self.lock_state().stuck_reason, why.clone());
        match (before, why) {
            (None, Some(reason)) => tracing::error!(reason, "stuck: {reason}"),
            (Some(_), None) => tracing::info!("not stuck any more"),
            _ => {}
        }
    }

    /// Returns the reason why the process should be restarted; `None` if it is well.
    pub fn stuck_reason(&self) -> Option<String> {
        self.lock_state().stuck_reason.clone()
    }

    /// Notes the state of a dependency: `Ok`, or the reason why it is away. Only changes are logged.
    pub fn note_dependency(&self, part: &'static str, state: Result<(), String>) {
        let problem = state.err();
        let (before, draining) = {
            let mut state = self.lock_state();
            (state.part_states.insert(part, problem.clone()), state.is_draining)
        };
        match (before, problem) {
            // Peers that end together with this process are not worth a message.
            _ if draining => {}
            (None | Some(None), Some(reason)) => {
                tracing::warn!(dependency = part, reason, "{part} is away: {reason}");
            }
            (Some(Some(_)), None) => tracing::info!(dependency = part, "{part} is back"),
            _ => {}
        }
    }

    /// Returns true if this process can answer requests, and the report with the state of its dependencies.
    pub fn readiness(&self) -> (bool, ReadinessReport) {
        let state = self.lock_state();
        let status = match (state.is_draining, state.starting_parts.is_empty()) {
            (true, _) => "draining",
            (false, false) => "starting",
            (false, true) => "ready",
        };
        let dependencies = state
            .part_states
            .iter()
            .map(|(part, problem)| (*part, problem.clone().unwrap_or_else(|| "ok".into())))
            .collect();
        let waiting_for = state.starting_parts.iter().copied().collect();
        (status == "ready", ReadinessReport { status, waiting_for, dependencies })
    }

    fn lock_state(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_dependency_is_shown_and_does_not_end_readiness() {
        let health = Health::default();
        health.note_starting("ranking");
        assert!(!health.readiness().0);
        health.note_started("ranking");
        health.note_dependency("redis", Err("refused".into()));
        let (ready, report) = health.readiness();
        assert!(ready);
        assert_eq!(report.dependencies["redis"], "refused");
        health.note_draining();
        assert_eq!(health.readiness().1.status, "draining");
    }

    #[test]
    fn a_stuck_process_says_why_until_it_recovers() {
        let health = Health::default();
        assert_eq!(health.stuck_reason(), None);
        health.set_stuck(Some("a watch stands still".into()));
        assert_eq!(health.stuck_reason().as_deref(), Some("a watch stands still"));
        health.set_stuck(None);
        assert_eq!(health.stuck_reason(), None);
    }
}
