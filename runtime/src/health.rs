//! What a process knows of itself and of the parts it depends on.
//!
//! Ready means: this process can answer. A dependency that is away is shown, and does not make it unready, for
//! somebody must be left to answer 503, to resolve and to serve history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// Shared by all parts of a process.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Default)]
struct HealthState {
    /// What has yet to happen before the first answer; emptied by [`Health::note_started`].
    starting: BTreeSet<&'static str>,
    draining: bool,
    /// Why the process should be started anew; `None` while it is well.
    stuck: Option<String>,
    part_states: BTreeMap<&'static str, Option<String>>,
}

/// What `/readyz` says.
#[derive(Debug, Serialize)]
pub struct ReadinessReport {
    /// `ready`, `starting` or `draining`.
    pub status: &'static str,
    /// The parts that have not started yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<&'static str>,
    /// Each part it depends on: `ok`, or what is wrong.
    pub dependencies: BTreeMap<&'static str, String>,
}

impl Health {
    /// Not ready before [`Health::note_started`] is called for the same `part`.
    pub fn note_starting(&self, part: &'static str) {
        self.state().starting.insert(part);
    }

    /// `part` has started.
    pub fn note_started(&self, part: &'static str) {
        self.state().starting.remove(part);
    }

    /// The process is on its way out.
    pub fn note_draining(&self) {
        self.state().draining = true;
    }

    /// The process is in a state that it does not leave by itself (or not any more): `/livez` says so, and whoever started
    /// it may start it anew. Logs the transitions, and only those.
    pub fn set_stuck(&self, why: Option<String>) {
        let before = std::mem::replace(&mut self.state().stuck, why.clone());
        match (before, why) {
            (None, Some(reason)) => tracing::error!(reason, "stuck: {reason}"),
            (Some(_), None) => tracing::info!("not stuck any more"),
            _ => {}
        }
    }

    /// Why the process should be started anew, where it should.
    pub fn why_stuck(&self) -> Option<String> {
        self.state().stuck.clone()
    }

    /// Notes how a dependency is. Logs the transitions, and only those.
    pub fn note_dependency(&self, part: &'static str, state: Result<(), String>) {
        let problem = state.err();
        let (before, draining) = {
            let mut state = self.state();
            (state.part_states.insert(part, problem.clone()), state.draining)
        };
        match (before, problem) {
            // Peers that leave together with us are no news.
            _ if draining => {}
            (None | Some(None), Some(reason)) => {
                tracing::warn!(dependency = part, reason, "{part} is away: {reason}");
            }
            (Some(Some(_)), None) => tracing::info!(dependency = part, "{part} is back"),
            _ => {}
        }
    }

    /// Whether this process can answer, and how its dependencies are.
    pub fn readiness(&self) -> (bool, ReadinessReport) {
        let state = self.state();
        let status = match (state.draining, state.starting.is_empty()) {
            (true, _) => "draining",
            (false, false) => "starting",
            (false, true) => "ready",
        };
        let dependencies = state
            .part_states
            .iter()
            .map(|(part, problem)| (*part, problem.clone().unwrap_or_else(|| "ok".into())))
            .collect();
        let waiting_for = state.starting.iter().copied().collect();
        (status == "ready", ReadinessReport { status, waiting_for, dependencies })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HealthState> {
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
        assert_eq!(health.why_stuck(), None);
        health.set_stuck(Some("a watch stands still".into()));
        assert_eq!(health.why_stuck().as_deref(), Some("a watch stands still"));
        health.set_stuck(None);
        assert_eq!(health.why_stuck(), None);
    }
}
