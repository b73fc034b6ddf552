//! Writes a cluster's status to the API server, in the way that the conversion webhook's state permits. What is written, and
//! when, is decided by [`super::reporter`].

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::time::timeout;

use super::cache::FIELD_MANAGER;
use super::lanes::RequestLimit;
use super::metrics::OperatorMetrics;
use super::store::ClusterKey;
use crate::crd::{RankingCluster, RankingClusterStatus};
use crate::status::is_different;

/// The time limit of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of a write that the API server makes also without the conversion webhook. Where the webhook hangs, the API
/// server waits for it for 30 s first, within the 34 s that it gives a request.
pub const WEBHOOKLESS_WRITE_TIMEOUT: Duration = Duration::from_secs(40);
/// The time for which server-side applies must have failed before the status is replaced without one: a webhook that is
/// restarted or rolled out is back by then, and nobody's ownership of fields is lost for it. A replacement that is not
/// answered is tried again after as long, because each may take [`WEBHOOKLESS_WRITE_TIMEOUT`].
const REPLACE_STATUS_AFTER: Duration = Duration::from_mins(2);
/// The reason for which a write failed.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("no answer in time")]
    Unanswered,
    /// The error of the API server, or of the way to it.
    #[error("{0}")]
    Refused(String),
}

/// The way of one cluster's status to the API server. A clone goes into the task of each write, and comes back with its result.
#[derive(Clone)]
pub struct StatusWriter {
    api: Api<RankingCluster>,
    request_limit: RequestLimit,
    name: String,
    identity: String,
    metrics: OperatorMetrics,
    /// The time since which server-side applies have failed; `None` if the last one succeeded.
    applies_fail_since: Option<Instant>,
}

impl StatusWriter {
    /// Creates the writer of one cluster's status. `identity` is the leader's, for its errors.
    pub fn new(
        client: Client,
        request_limit: RequestLimit,
        key: &ClusterKey,
        identity: String,
        metrics: OperatorMetrics,
    ) -> Self {
        let (api, name) = (Api::namespaced(client, &key.namespace), key.name.to_string());
        Self { api, request_limit, name, identity, metrics, applies_fail_since: None }
    }

    /// Notes that nothing has to be written: nobody knows whether an apply would fail now.
    pub const fn note_nothing_to_write(&mut self) {
        self.applies_fail_since = None;
    }

    /// Writes the status by a server-side apply. Replaces the whole status if applies have failed for
    /// [`REPLACE_STATUS_AFTER`], or if an apply leaves something of an earlier replacement.
    ///
    /// An apply needs the conversion webhook once somebody has applied the resource in v1beta1, and the status has to
    /// report when the webhook is unavailable. A replacement needs no webhook, but makes the API server forget which
    /// fields each writer's applies have set. It may be late by more than a change of leader takes. So it is refused
    /// unless the resource still has the version `seen`, from which the status was made.
    pub async fn write(
        &mut self,
        status: &RankingClusterStatus,
        seen: Option<&str>,
        now: Instant,
    ) -> Result<(), String> {
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
                let whole = status_replacement_patch(status, stored.metadata.resource_version.as_deref())?;
                let written = self.patch_status(&replacing, &whole, WRITE_TIMEOUT).await;
                written.map(drop).map_err(|error| error.to_string())
            }
            Err(error) => {
                let since = *self.applies_fail_since.get_or_insert(now);
                if now.saturating_duration_since(since) < REPLACE_STATUS_AFTER {
                    return Err(error.to_string());
                }
                let whole = status_replacement_patch(status, seen)?;
                let replaced = self.patch_status(&replacing, &whole, WEBHOOKLESS_WRITE_TIMEOUT).await;
                if matches!(replaced, Err(WriteError::Unanswered)) {
                    self.applies_fail_since = Some(now);
                }
                replaced.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    async fn patch_status(
        &self,
        parameters: &PatchParams,
        patch: &Patch<serde_json::Value>,
        limit: Duration,
    ) -> Result<RankingCluster, WriteError> {
        // On the heap: an actor would hold the request on its own for as long as a look takes.
        let sent = Box::pin(self.api.patch_status(&self.name, parameters, patch));
        let written = self.request_limit.run(timeout(limit, sent)).await;
        self.metrics.count_write("RankingCluster", "status");
        let result = written.map_err(|_| WriteError::Unanswered)?;
        result.map_err(|error| WriteError::Refused(format!("{}: {error}", self.identity)))
    }
}

#[cfg(test)]
impl StatusWriter {
    /// Sets since when server-side applies fail to the time after which the status is replaced.
    pub fn note_applies_failed_for_long(&mut self) {
        self.applies_fail_since = Instant::now().checked_sub(REPLACE_STATUS_AFTER);
    }
}

/// Returns the JSON patch that replaces the whole status, whatever is there, if the resource has the version `seen`. Beside
/// this, only `unreadable` writes the status, of resources that nothing else is written for.
fn status_replacement_patch(
    status: &RankingClusterStatus,
    seen: Option<&str>,
) -> Result<Patch<serde_json::Value>, String> {
    let test = seen.map(|seen| json!({"op": "test", "path": "/metadata/resourceVersion", "value": seen}));
    let write = json!({ "op": "add", "path": "/status", "value": status });
    let written = test.into_iter().chain([write]).collect();
    serde_json::from_value(written).map(Patch::Json).map_err(|error| error.to_string())
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

    fn writer_of(
        answer: impl Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>>
        + Send
        + Sync
        + 'static,
    ) -> StatusWriter {
        let client = Client::new(tower::service_fn(answer), "tv");
        let metrics = OperatorMetrics::new(&Metrics::default());
        let lanes = RequestLimit::new(metrics.clone());
        StatusWriter::new(client, lanes, &ClusterKey::new("tv", "live"), "test".to_owned(), metrics)
    }

    fn status_seven() -> RankingClusterStatus {
        RankingClusterStatus { observed_generation: Some(7), ..RankingClusterStatus::default() }
    }

    #[tokio::test]
    async fn the_status_is_replaced_once_nobody_has_converted_for_a_while() {
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let server = Arc::clone(&accepted);
        let mut writer =
            writer_of(move |request| Box::pin(answer_without_webhook(Arc::clone(&server), request)));
        let (status, begun) = (status_seven(), Instant::now());
        for seconds in [0, 119] {
            let told = Box::pin(writer.write(&status, Some("5"), begun + Duration::from_secs(seconds)))
                .await
                .unwrap_err();
            assert!(told.contains("conversion webhook"), "{told}");
        }
        assert!(accepted.lock().unwrap().is_empty(), "a short absence costs nobody the ownership of fields");
        Box::pin(writer.write(&status, Some("5"), begun + REPLACE_STATUS_AFTER)).await.unwrap();
        // `add` replaces what is there, so that what the new status lacks is gone.
        let written = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "5"},
            {"op": "add", "path": "/status", "value": status},
        ]);
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

    fn writer_with_hanging_webhook(waits: Duration) -> (StatusWriter, Arc<AtomicU32>) {
        let others = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&others);
        let answer = move |request: Request<Body>| -> BoxFuture<'static, _> {
            Box::pin(answer_with_hanging_webhook(waits, Arc::clone(&counted), request))
        };
        (writer_of(answer), others)
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_hangs_delays_the_status_and_does_not_keep_it_back() {
        let (mut writer, _) = writer_with_hanging_webhook(Duration::from_secs(30));
        let (status, begun) = (status_seven(), Instant::now());
        for seconds in [0, 119] {
            let told = Box::pin(writer.write(&status, Some("5"), begun + Duration::from_secs(seconds))).await;
            assert_eq!(told.unwrap_err(), "no answer in time");
        }
        Box::pin(writer.write(&status, Some("5"), begun + REPLACE_STATUS_AFTER)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_replacement_that_hangs_is_not_tried_at_each_look() {
        let (mut writer, replacements) = writer_with_hanging_webhook(Duration::from_hours(1));
        let (status, begun) = (status_seven(), Instant::now());
        for (seconds, tried) in [(0, 0), (120, 1), (160, 1), (239, 1), (240, 2)] {
            let told = Box::pin(writer.write(&status, Some("5"), begun + Duration::from_secs(seconds))).await;
            assert_eq!(told.unwrap_err(), "no answer in time");
            assert_eq!(replacements.load(Ordering::Relaxed), tried, "after {seconds} s");
        }
    }

    #[tokio::test]
    async fn what_an_apply_leaves_of_an_earlier_replacement_is_removed() {
        let methods = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&methods);
        let left = json!({"observedGeneration": 7, "builderRevision": "3"});
        let mut writer = writer_of(move |request| {
            asked.lock().unwrap().push(request.headers()["content-type"].clone());
            let mut answer: Value = serde_yaml::from_str(CLUSTER).unwrap();
            answer["status"] = left.clone();
            Box::pin(async move { Ok(Response::new(Body::from(answer.to_string().into_bytes()))) })
        });
        Box::pin(writer.write(&status_seven(), Some("5"), Instant::now())).await.unwrap();
        let types = methods.lock().unwrap().clone();
        assert_eq!(types, ["application/apply-patch+yaml", "application/json-patch+json"]);
    }
}
