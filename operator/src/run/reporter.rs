//! Writes a cluster's status: at once when something important changes, otherwise at most once in [`NUMBERS_INTERVAL`].
//!
//! A write that is not answered soon goes on without the look that began it. Later looks do not begin another one
//! meanwhile: when it has ended, the next look writes what is true then.

use std::time::{Duration, Instant};

use kube::Client;
use liverank_runtime::process::confine_panics;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::events::{self, PendingEvent};
use super::lanes::RequestLimit;
use super::metrics::OperatorMetrics;
use super::status_writer::StatusWriter;
use super::store::ClusterKey;
use crate::crd::{LastDecision, PastDecision, RankingClusterStatus};
use crate::readers::{Decision, DecisionAction, DecisionNumbers};
use crate::status::{self, StatusInput, is_different, is_worth_writing_now};

/// The minimal time between two writes of the status that only change numbers.
pub const NUMBERS_INTERVAL: Duration = Duration::from_secs(15);
/// The pause after a write of the status that failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The time for which a look waits for its write. Usually a write takes a hundredth of it; one that waits for a webhook
/// must not hold the look.
const WAIT_FOR_WRITE: Duration = Duration::from_secs(1);
/// The time between two checks of a write that goes on without a look.
const CHECK_WRITE_EVERY: Duration = Duration::from_secs(1);

/// The result of a write, with the writer that made it.
type EndedWrite = (StatusWriter, Result<(), String>);

/// A write that has not ended.
struct PendingWrite {
    status: RankingClusterStatus,
    begun_at: Instant,
    /// The events about the conditions that the status changes.
    news: Vec<PendingEvent>,
}

/// The writer of one cluster's status.
pub struct Reporter {
    writer: StatusWriter,
    name: String,
    metrics: OperatorMetrics,
    /// The task of the write that has not ended; it ends with the reporter.
    write: JoinSet<EndedWrite>,
    pending_write: Option<PendingWrite>,
    /// The status that was written last, and the time of the write: the store may not show it yet.
    last_written: Option<(RankingClusterStatus, Instant)>,
    next_write_not_before: Instant,
    /// The error of the last write, if it failed: the same error is not logged again.
    last_error: Option<String>,
    latest_decision: Option<Decision>,
    /// The last decisions, including those of earlier leaders.
    history: Vec<PastDecision>,
}

impl Reporter {
    /// Creates the writer for one cluster, with the history from its status.
    pub fn new(
        client: Client,
        request_limit: RequestLimit,
        key: &ClusterKey,
        identity: String,
        metrics: OperatorMetrics,
        history: Vec<PastDecision>,
    ) -> Self {
        Self {
            writer: StatusWriter::new(client, request_limit, key, identity, metrics.clone()),
            name: key.name.to_string(),
            metrics,
            write: JoinSet::new(),
            pending_write: None,
            last_written: None,
            next_write_not_before: Instant::now(),
            last_error: None,
            latest_decision: None,
            history,
        }
    }

    /// Notes decisions, so that the last one and the history are written into the status.
    pub fn note_decisions(&mut self, decisions: &[Decision]) {
        if let Some(last) = decisions.last() {
            self.latest_decision = Some(last.clone());
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
        self.latest_decision.clone()
    }

    /// Writes the status if a write is due. Returns the events about conditions that changed, and the time at which a
    /// postponed write is due.
    pub async fn write_status(&mut self, report: &StatusInput<'_>) -> (Vec<PendingEvent>, Option<Instant>) {
        let ended = self.write.try_join_next();
        let mut news = ended.map(|ended| self.note_ended_write(ended)).unwrap_or_default();
        if self.pending_write.is_some() {
            return (news, Some(Instant::now() + CHECK_WRITE_EVERY));
        }
        let known = self.last_written.as_ref().map(|(status, _)| status).or(report.cluster.status.as_ref());
        let none = RankingClusterStatus::default();
        let before = known.unwrap_or(&none);
        let after = status::make_status(report, before);
        if !is_different(before, &after) {
            self.writer.note_nothing_to_write();
            return (news, None);
        }
        let now = Instant::now();
        let due = self.last_written.as_ref().map_or(now, |(_, at)| *at + NUMBERS_INTERVAL);
        let due = if is_worth_writing_now(before, &after) {
            self.next_write_not_before
        } else {
            due.max(self.next_write_not_before)
        };
        if now < due {
            return (news, Some(due));
        }
        let told = events::condition_events(known, &after);
        self.begin_write(after, told, report.cluster.metadata.resource_version.clone(), now);
        if let Ok(Some(ended)) = timeout(WAIT_FOR_WRITE, self.write.join_next()).await {
            news.extend(self.note_ended_write(ended));
        }
        let next = if self.pending_write.is_some() {
            Some(Instant::now() + CHECK_WRITE_EVERY)
        } else {
            self.last_error.is_some().then_some(self.next_write_not_before)
        };
        (news, next)
    }

    /// Begins a write in a task of its own. `seen` is the version of the resource that the status was made from.
    fn begin_write(
        &mut self,
        status: RankingClusterStatus,
        news: Vec<PendingEvent>,
        seen: Option<String>,
        now: Instant,
    ) {
        let (mut writer, written) = (self.writer.clone(), status.clone());
        self.write.spawn(confine_panics(async move {
            let result = Box::pin(writer.write(&written, seen.as_deref(), now)).await;
            (writer, result)
        }));
        self.pending_write = Some(PendingWrite { status, begun_at: now, news });
    }

    /// Notes the result of the write. Returns the events about what it changed.
    fn note_ended_write(&mut self, ended: Result<EndedWrite, JoinError>) -> Vec<PendingEvent> {
        let Some(PendingWrite { status, begun_at, news }) = self.pending_write.take() else {
            return Vec::new();
        };
        let result = match ended {
            Ok((writer, result)) => {
                self.writer = writer;
                result
            }
            Err(broke) => Err(broke.to_string()),
        };
        let Err(error) = result else {
            self.last_error = None;
            self.last_written = Some((status, begun_at));
            return news;
        };
        self.metrics.count_failure("status");
        if self.last_error.as_ref() != Some(&error) {
            // The status, where a person would look first, cannot report this error.
            tracing::warn!(cluster = self.name, error, "the status cannot be written");
        }
        self.last_error = Some(error);
        self.next_write_not_before = Instant::now() + RETRY_AFTER;
        Vec::new()
    }
}

#[cfg(test)]
impl Reporter {
    /// Sets since when server-side applies fail to the time after which the status is replaced.
    pub fn note_applies_failed_for_long(&mut self) {
        self.writer.note_applies_failed_for_long();
    }
}

/// Returns the decision that a status reports, so that a new leader does not report it again; `None` if its action is
/// unknown.
pub fn last_decision(told: &LastDecision) -> Option<Decision> {
    Some(Decision {
        id: told.id.clone(),
        time: told.time.as_ref().map_or(0, |time| time.0.as_millisecond()),
        action: DecisionAction::parse(&told.action)?,
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
