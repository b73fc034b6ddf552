//! Writes a cluster's status: at once when something important changes, else at most once in [`NUMBERS_INTERVAL`].

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::time::timeout;

use super::cache::MANAGER;
use super::events::{self, News};
use super::lanes::Lanes;
use super::metrics::OperatorMetrics;
use super::store::Key;
use crate::crd::{LastDecision, PastDecision, RankingCluster, RankingClusterStatus};
use crate::readers::{Action, Decision, DecisionNumbers};
use crate::status::{self, StatusInput, is_different, is_worth_writing_now};

/// The minimal time between two writes of the status that only change numbers.
pub const NUMBERS_INTERVAL: Duration = Duration::from_secs(15);
/// The pause after a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The time limit of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The writer of one cluster's status.
pub struct Reporter {
    api: Api<RankingCluster>,
    lanes: Lanes,
    name: String,
    identity: String,
    metrics: OperatorMetrics,
    /// The status that was written last, and the time of the write: the store may not show it yet.
    written: Option<(RankingClusterStatus, Instant)>,
    not_before: Instant,
    /// The error of the last write, if it failed: the same error is not logged again.
    refused: Option<String>,
    decision: Option<Decision>,
    /// The last decisions, including those of earlier leaders.
    history: Vec<PastDecision>,
}

impl Reporter {
    /// Creates the writer for one cluster, with the history from its status.
    pub fn new(
        client: Client,
        lanes: Lanes,
        key: &Key,
        identity: String,
        metrics: OperatorMetrics,
        history: Vec<PastDecision>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &key.namespace),
            lanes,
            name: key.name.to_string(),
            identity,
            metrics,
            written: None,
            not_before: Instant::now(),
            refused: None,
            decision: None,
            history,
        }
    }

    /// Notes decisions: the last one and the history go into the status.
    pub fn note_decisions(&mut self, decisions: &[Decision]) {
        if let Some(last) = decisions.last() {
            self.decision = Some(last.clone());
        }
        self.history.extend(decisions.iter().map(status::past_decision));
        let surplus = self.history.len().saturating_sub(RankingClusterStatus::MAX_HISTORY);
        self.history.drain(..surplus);
    }

    /// Returns the last decisions, the latest last.
    pub fn history(&self) -> Vec<PastDecision> {
        self.history.clone()
    }

    /// Returns the last decision of this leader.
    pub fn last_decision(&self) -> Option<Decision> {
        self.decision.clone()
    }

    /// Writes the status if that is due. Returns the events about conditions that changed, and when a postponed write
    /// is due.
    pub async fn write_status(&mut self, report: &StatusInput<'_>) -> (Vec<News>, Option<Instant>) {
        let known = self.written.as_ref().map(|(status, _)| status).or(report.cluster.status.as_ref());
        let none = RankingClusterStatus::default();
        let before = known.unwrap_or(&none);
        let after = status::make_status(report, before);
        if !is_different(before, &after) {
            return (Vec::new(), None);
        }
        let now = Instant::now();
        let due = self.written.as_ref().map_or(now, |(_, at)| *at + NUMBERS_INTERVAL);
        let due =
            if is_worth_writing_now(before, &after) { self.not_before } else { due.max(self.not_before) };
        if now < due {
            return (Vec::new(), Some(due));
        }
        let news = events::of_conditions(known, &after);
        if let Err(error) = self.patch_status(&after).await {
            self.metrics.count_failure("status");
            if self.refused.as_ref() != Some(&error) {
                // The status, where a person would look first, cannot report this error.
                tracing::warn!(cluster = self.name, error, "the status cannot be written");
            }
            self.refused = Some(error);
            self.not_before = now + RETRY_AFTER;
            return (Vec::new(), Some(self.not_before));
        }
        self.refused = None;
        self.written = Some((after, now));
        (news, None)
    }

    async fn patch_status(&self, status: &RankingClusterStatus) -> Result<(), String> {
        let body = json!({
            "apiVersion": RankingCluster::api_version(&()), "kind": RankingCluster::kind(&()),
            "metadata": {"name": self.name}, "status": status,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let body = Patch::Apply(body);
        let written = timeout(WRITE_TIMEOUT, self.api.patch_status(&self.name, &parameters, &body));
        let written = self.lanes.run(written).await;
        self.metrics.count_write("RankingCluster", "status");
        let result = written.map_err(|_| "no answer in time".to_owned())?;
        result.map(drop).map_err(|error| format!("{}: {error}", self.identity))
    }
}

/// Returns the decision that a status reports, so that a new leader does not report it again; `None` if its action is
/// unknown.
pub fn last_decision(told: &LastDecision) -> Option<Decision> {
    Some(Decision {
        id: told.id.clone(),
        time: told.time.as_ref().map_or(0, |time| time.0.as_millisecond()),
        action: Action::parse(&told.action)?,
        reason: told.reason.clone(),
        bound_by: told.bound_by.clone(),
        chosen: told.chosen.clone(),
        rejected: told.rejected.clone(),
        inputs: parse_inputs(told),
        inputs_hash: told.inputs_hash.clone(),
    })
}

fn parse_inputs(told: &LastDecision) -> DecisionNumbers {
    let told = told.inputs.clone().unwrap_or_default();
    DecisionNumbers {
        readers: told.readers as u32,
        fresh: told.fresh as u32,
        draining: told.draining as u32,
        viewers: told.viewers as u64,
        expected: told.expected_viewers as u64,
        raw: told.raw as u32,
        desired: told.desired as u32,
    }
}
