//! Writes a cluster's status: at once when something important changes, else at most once in [`NUMBERS_INTERVAL`].

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::time::timeout;

use super::cache::FIELD_MANAGER;
use super::events::{self, PendingEvent};
use super::lanes::RequestLimit;
use super::metrics::OperatorMetrics;
use super::store::ClusterKey;
use crate::crd::{LastDecision, PastDecision, RankingCluster, RankingClusterStatus};
use crate::readers::{Decision, DecisionAction, DecisionNumbers};
use crate::status::{self, StatusInput, is_different, is_worth_writing_now};

/// The minimal time between two writes of the status that only change numbers.
pub const NUMBERS_INTERVAL: Duration = Duration::from_secs(15);
/// The pause after a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The time limit of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of a write that the API server makes also without the conversion webhook. Where the webhook hangs, the API
/// server waits for it for 30 s first, within the 34 s that it gives a request.
pub const WEBHOOKLESS_WRITE_TIMEOUT: Duration = Duration::from_secs(40);
/// The time for which server-side applies must have failed before the status is replaced without one: a webhook that is
/// restarted or rolled out is back by then, and nobody's ownership of fields is lost for it. A replacement that fails is tried
/// again after as long, because each may take [`WEBHOOKLESS_WRITE_TIMEOUT`].
const REPLACE_STATUS_AFTER: Duration = Duration::from_mins(2);

/// The writer of one cluster's status.
pub struct Reporter {
    api: Api<RankingCluster>,
    request_limit: RequestLimit,
    name: String,
    identity: String,
    metrics: OperatorMetrics,
    /// The status that was written last, and the time of the write: the store may not show it yet.
    last_written: Option<(RankingClusterStatus, Instant)>,
    next_write_not_before: Instant,
    /// The error of the last write, if it failed: the same error is not logged again.
    last_error: Option<String>,
    /// The time since which server-side applies have failed; `None` if the last one succeeded.
    applies_fail_since: Option<Instant>,
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
            api: Api::namespaced(client, &key.namespace),
            request_limit,
            name: key.name.to_string(),
            identity,
            metrics,
            last_written: None,
            next_write_not_before: Instant::now(),
            last_error: None,
            applies_fail_since: None,
            latest_decision: None,
            history,
        }
    }

    /// Notes decisions: the last one and the history go into the status.
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

    /// Writes the status if that is due. Returns the events about conditions that changed, and when a postponed write
    /// is due.
    pub async fn write_status(&mut self, report: &StatusInput<'_>) -> (Vec<PendingEvent>, Option<Instant>) {
        let known = self.last_written.as_ref().map(|(status, _)| status).or(report.cluster.status.as_ref());
        let none = RankingClusterStatus::default();
        let before = known.unwrap_or(&none);
        let after = status::make_status(report, before);
        if !is_different(before, &after) {
            // Nothing is to be written, so nobody knows whether an apply would fail now.
            self.applies_fail_since = None;
            return (Vec::new(), None);
        }
        let now = Instant::now();
        let due = self.last_written.as_ref().map_or(now, |(_, at)| *at + NUMBERS_INTERVAL);
        let due = if is_worth_writing_now(before, &after) {
            self.next_write_not_before
        } else {
            due.max(self.next_write_not_before)
        };
        if now < due {
            return (Vec::new(), Some(due));
        }
        let news = events::condition_events(known, &after);
        if let Err(error) = Box::pin(self.store_status(&after, now)).await {
            self.metrics.count_failure("status");
            if self.last_error.as_ref() != Some(&error) {
                // The status, where a person would look first, cannot report this error.
                tracing::warn!(cluster = self.name, error, "the status cannot be written");
            }
            self.last_error = Some(error);
            self.next_write_not_before = now + RETRY_AFTER;
            return (Vec::new(), Some(self.next_write_not_before));
        }
        self.last_error = None;
        self.last_written = Some((after, now));
        (news, None)
    }

    /// Writes the status by a server-side apply. Replaces the whole status if applies have failed for
    /// [`REPLACE_STATUS_AFTER`], or if an apply leaves something of an earlier replacement.
    ///
    /// An apply needs the conversion webhook once somebody has applied the resource in v1beta1, and the status has to
    /// report when the webhook is unavailable. A replacement needs no webhook, but makes the API server forget which
    /// fields each writer's applies have set.
    async fn store_status(&mut self, status: &RankingClusterStatus, now: Instant) -> Result<(), String> {
        let applied = json!({
            "apiVersion": RankingCluster::api_version(&()), "kind": RankingCluster::kind(&()),
            "metadata": {"name": self.name}, "status": status,
        });
        let applying = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.patch_status(&applying, &Patch::Apply(applied), WRITE_TIMEOUT).await;
        let replacing =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match applied {
            Ok(stored) => {
                self.applies_fail_since = None;
                if stored.status.is_some_and(|stored| !is_different(&stored, status)) {
                    return Ok(());
                }
                self.patch_status(&replacing, &status_replacement_patch(status)?, WRITE_TIMEOUT)
                    .await
                    .map(drop)
            }
            Err(error) => {
                let since = *self.applies_fail_since.get_or_insert(now);
                if now.saturating_duration_since(since) < REPLACE_STATUS_AFTER {
                    return Err(error);
                }
                let whole = status_replacement_patch(status)?;
                let replaced = self.patch_status(&replacing, &whole, WEBHOOKLESS_WRITE_TIMEOUT).await;
                if replaced.is_err() {
                    self.applies_fail_since = Some(now);
                }
                replaced.map(drop)
            }
        }
    }

    async fn patch_status(
        &self,
        parameters: &PatchParams,
        patch: &Patch<serde_json::Value>,
        limit: Duration,
    ) -> Result<RankingCluster, String> {
        // On the heap: an actor would hold the request on its own for as long as a look takes.
        let sent = Box::pin(self.api.patch_status(&self.name, parameters, patch));
        let written = self.request_limit.run(timeout(limit, sent)).await;
        self.metrics.count_write("RankingCluster", "status");
        let result = written.map_err(|_| "no answer in time".to_owned())?;
        result.map_err(|error| format!("{}: {error}", self.identity))
    }
}

#[cfg(test)]
impl Reporter {
    /// Sets since when server-side applies fail to the time after which the status is replaced.
    pub fn note_applies_failed_for_long(&mut self) {
        self.applies_fail_since = Instant::now().checked_sub(REPLACE_STATUS_AFTER);
    }
}

/// Returns the JSON patch that replaces the whole status, whatever is there. Beside this, only `unreadable` writes the
/// status, of resources that nothing else is written for.
fn status_replacement_patch(status: &RankingClusterStatus) -> Result<Patch<serde_json::Value>, String> {
    let written = json!([{ "op": "add", "path": "/status", "value": status }]);
    serde_json::from_value(written).map(Patch::Json).map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::BoxFuture;
    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use liverank_runtime::Metrics;
    use serde_json::Value;
    use tokio::time::sleep;

    use super::*;

    const CLUSTER: &str = include_str!("../../tests/build/clusters/minimal.yaml");

    /// Answers as the API server does while the conversion webhook is away and somebody has applied the resource in
    /// v1beta1. Keeps the bodies of the writes that it accepts.
    async fn answer_without_webhook(
        accepted: Arc<Mutex<Vec<Value>>>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        let is_apply = request.headers()["content-type"] == "application/apply-patch+yaml";
        let (code, answer) = if is_apply {
            let message = "conversion webhook for liverank.dev/v1alpha1, Kind=RankingCluster failed";
            (500, json!({"kind": "Status", "status": "Failure", "code": 500, "message": message}))
        } else {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            accepted.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            (200, serde_yaml::from_str(CLUSTER).unwrap())
        };
        Ok(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
    }

    fn reporter_of(
        answer: impl Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>>
        + Send
        + Sync
        + 'static,
    ) -> Reporter {
        let client = Client::new(tower::service_fn(answer), "tv");
        let metrics = OperatorMetrics::new(&Metrics::default());
        let lanes = RequestLimit::new(metrics.clone());
        Reporter::new(client, lanes, &ClusterKey::new("tv", "live"), "test".to_owned(), metrics, Vec::new())
    }

    fn status_seven() -> RankingClusterStatus {
        RankingClusterStatus { observed_generation: Some(7), ..RankingClusterStatus::default() }
    }

    #[tokio::test]
    async fn the_status_is_replaced_once_nobody_has_converted_for_a_while() {
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let server = Arc::clone(&accepted);
        let mut reporter =
            reporter_of(move |request| Box::pin(answer_without_webhook(Arc::clone(&server), request)));
        let (status, begun) = (status_seven(), Instant::now());
        for seconds in [0, 119] {
            let told = Box::pin(reporter.store_status(&status, begun + Duration::from_secs(seconds)))
                .await
                .unwrap_err();
            assert!(told.contains("conversion webhook"), "{told}");
        }
        assert!(accepted.lock().unwrap().is_empty(), "a short absence costs nobody the ownership of fields");
        Box::pin(reporter.store_status(&status, begun + REPLACE_STATUS_AFTER)).await.unwrap();
        // `add` replaces what is there, so that what the new status lacks is gone.
        let written = json!([{"op": "add", "path": "/status", "value": status}]);
        assert_eq!(*accepted.lock().unwrap(), [written]);
    }

    /// Answers as the API server does while the conversion webhook hangs and somebody has applied the resource in v1beta1: an
    /// apply is never answered, and another write once the API server has waited for the webhook. Counts the other writes.
    async fn answer_with_hanging_webhook(
        waits: Duration,
        others: Arc<AtomicU32>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        if request.headers()["content-type"] == "application/apply-patch+yaml" {
            return std::future::pending().await;
        }
        others.fetch_add(1, Ordering::Relaxed);
        sleep(waits).await;
        let answer: Value = serde_yaml::from_str(CLUSTER).unwrap();
        Ok(Response::new(Body::from(answer.to_string().into_bytes())))
    }

    fn reporter_with_hanging_webhook(waits: Duration) -> (Reporter, Arc<AtomicU32>) {
        let others = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&others);
        let answer = move |request: Request<Body>| -> BoxFuture<'static, _> {
            Box::pin(answer_with_hanging_webhook(waits, Arc::clone(&counted), request))
        };
        (reporter_of(answer), others)
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_hangs_delays_the_status_and_does_not_keep_it_back() {
        let (mut reporter, _) = reporter_with_hanging_webhook(Duration::from_secs(30));
        let (status, begun) = (status_seven(), Instant::now());
        for seconds in [0, 119] {
            let told = Box::pin(reporter.store_status(&status, begun + Duration::from_secs(seconds))).await;
            assert_eq!(told.unwrap_err(), "no answer in time");
        }
        Box::pin(reporter.store_status(&status, begun + REPLACE_STATUS_AFTER)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_replacement_that_hangs_is_not_tried_at_each_look() {
        let (mut reporter, replacements) = reporter_with_hanging_webhook(Duration::from_hours(1));
        let (status, begun) = (status_seven(), Instant::now());
        for (seconds, tried) in [(0, 0), (120, 1), (160, 1), (239, 1), (240, 2)] {
            let told = Box::pin(reporter.store_status(&status, begun + Duration::from_secs(seconds))).await;
            assert_eq!(told.unwrap_err(), "no answer in time");
            assert_eq!(replacements.load(Ordering::Relaxed), tried, "after {seconds} s");
        }
    }

    #[tokio::test]
    async fn what_an_apply_leaves_of_an_earlier_replacement_is_removed() {
        let methods = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&methods);
        let left = json!({"observedGeneration": 7, "builderRevision": "3"});
        let mut reporter = reporter_of(move |request| {
            asked.lock().unwrap().push(request.headers()["content-type"].clone());
            let mut answer: Value = serde_yaml::from_str(CLUSTER).unwrap();
            answer["status"] = left.clone();
            Box::pin(async move { Ok(Response::new(Body::from(answer.to_string().into_bytes()))) })
        });
        Box::pin(reporter.store_status(&status_seven(), Instant::now())).await.unwrap();
        let types = methods.lock().unwrap().clone();
        assert_eq!(types, ["application/apply-patch+yaml", "application/json-patch+json"]);
    }
}
