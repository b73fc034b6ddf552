//! Finds the `ConfigMaps` and Secrets that pods cannot mount. The pod itself says only that its container is being
//! created; the kubelet writes an event with the name within a second. Only pods that do not start are checked, one of
//! each component, because the others are alike. No Secret is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use liverank_core::Millis;
use serde_json::Value;
use tokio::time::timeout;

use super::cache::{CachedPod, LiveObject};
use super::lanes::RequestLimit;
use crate::status::ReportedProblem;

/// The time in milliseconds that the containers of a pod may take to start before its events are read: usually they
/// take less.
const READ_EVENTS_AFTER_MS: Millis = 2_000;
/// The time between two reads of a pod's events.
const READ_EVENTS_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// The time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximal number of events of one pod that are read.
const MAX_EVENTS_READ: u32 = 5;

/// The last mount error of each pod and the time at which it was read, by the pod's uid.
#[derive(Debug, Default)]
pub struct MountChecker(HashMap<Box<str>, (Instant, Option<String>)>);

impl MountChecker {
    /// Returns the problems of pods that do not start because a volume cannot be mounted, and the time of the next
    /// check; `None` if no pod is waiting.
    pub async fn check_mounts(
        &mut self,
        api: (&Client, &RequestLimit),
        namespace: &str,
        pods: &[Arc<CachedPod>],
        deployments: &[Arc<LiveObject>],
        now: Millis,
    ) -> (Vec<ReportedProblem>, Option<Instant>) {
        let waiting = oldest_waiting_pods(pods);
        self.0.retain(|uid, _| waiting.values().any(|(pod, _)| pod.uid == *uid));
        let (mut troubles, mut next) = (Vec::new(), None);
        for (component, (pod, count)) in waiting {
            let due = Instant::now()
                + Duration::from_millis(u64::try_from(pod.created + READ_EVENTS_AFTER_MS - now).unwrap_or(0));
            if now < pod.created + READ_EVENTS_AFTER_MS {
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
                continue;
            }
            let known = self.0.get(&pod.uid).filter(|(at, _)| at.elapsed() < READ_EVENTS_AGAIN_AFTER);
            let said = if let Some((_, said)) = known {
                said.clone()
            } else {
                let said = fetch_mount_event(api, namespace, &pod.uid).await;
                self.0.insert(pod.uid.clone(), (Instant::now(), said.clone()));
                said
            };
            let again = Instant::now() + READ_EVENTS_AGAIN_AFTER;
            next = Some(next.map_or(again, |next: Instant| next.min(again)));
            troubles.extend(said.map(|said| mount_trouble(component, count, &said, deployments)));
        }
        (troubles, next)
    }
}

/// Returns, for each component with pods that do not start, the oldest of these pods and their number.
fn oldest_waiting_pods(pods: &[Arc<CachedPod>]) -> BTreeMap<&str, (&CachedPod, usize)> {
    let mut waiting: BTreeMap<&str, (&CachedPod, usize)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.starting && !pod.terminating) {
        let entry = waiting.entry(&pod.component).or_insert((pod, 0));
        entry.1 += 1;
        if (pod.created, &pod.uid) < (entry.0.created, &entry.0.uid) {
            entry.0 = pod;
        }
    }
    waiting
}

async fn fetch_mount_event(
    (client, lanes): (&Client, &RequestLimit),
    namespace: &str,
    uid: &str,
) -> Option<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let fields = format!("involvedObject.uid={uid},reason=FailedMount");
    let parameters = ListParams::default().fields(&fields).limit(MAX_EVENTS_READ);
    let found = lanes.run(timeout(REQUEST_TIMEOUT, events.list(&parameters))).await.ok()?.ok()?;
    let said = found.items.into_iter().filter(|event| event.message.is_some());
    said.max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0)).and_then(|event| event.message)
}

fn mount_trouble(
    component: &str,
    count: usize,
    said: &str,
    deployments: &[Arc<LiveObject>],
) -> ReportedProblem {
    let word = if count == 1 { "pod" } else { "pods" };
    let secret = said
        .split_once("for volume \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .and_then(|(volume, _)| secret_of(volume, deployments));
    let (reason, named) = match secret {
        Some(secret) => ("SecretMissing", format!("Secret {secret}: ")),
        None => ("MountFailed", String::new()),
    };
    ReportedProblem {
        reason: reason.to_owned(),
        message: format!("{count} {component} {word}: {named}{said}"),
        needs_action: false,
        is_failed_write: false,
    }
}

/// Returns the name of the Secret in a volume of this name: all components use the same volume name for one Secret.
fn secret_of(volume: &str, deployments: &[Arc<LiveObject>]) -> Option<String> {
    deployments.iter().find_map(|live| {
        let body = live.to_value();
        let volumes = body.pointer("/spec/template/spec/volumes").and_then(Value::as_array)?;
        let found = volumes.iter().find(|it| it["name"] == volume)?;
        found["secret"]["secretName"].as_str().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use liverank_runtime::Metrics;
    use serde_json::json;

    use super::*;
    use crate::run::metrics::OperatorMetrics;

    const NOW: Millis = 1_767_225_610_000;

    fn pod(uid: &str, created: &str, reason: &str) -> Arc<CachedPod> {
        let object = json!({
            "metadata": {"name": uid, "namespace": "tv", "uid": uid, "creationTimestamp": created, "labels": {
                "app.kubernetes.io/instance": "live", "app.kubernetes.io/component": "reader"}},
            "spec": {"nodeName": "n"},
            "status": {"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]},
        });
        Arc::new(CachedPod::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    fn deployment() -> Arc<LiveObject> {
        let volumes = json!([{"name": "jwks", "secret": {"secretName": "users"}}]);
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "live-reader-0", "namespace": "tv", "uid": "d", "resourceVersion": "1",
                "labels": {"app.kubernetes.io/instance": "live"}},
            "spec": {"template": {"spec": {"volumes": volumes}}}});
        Arc::new(LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_secret_that_is_missing_is_told_by_name() {
        const MOUNT_ERROR: &str =
            "MountVolume.SetUp failed for volume \"jwks\" : references non-existent secret key: token";
        let answer = |request: http::Request<Body>| async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains("involvedObject.uid%3Dold%2Creason%3DFailedMount"), "{query}");
            let event = json!({"metadata": {"name": "e"}, "involvedObject": {}, "message": MOUNT_ERROR,
                "lastTimestamp": "2026-01-01T00:00:03Z"});
            let list = json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": [event]});
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(list.to_string().into_bytes())))
        };
        let client = Client::new(tower::service_fn(answer), "tv");
        let lanes = RequestLimit::new(OperatorMetrics::new(&Metrics::default()));
        let mut mounts = MountChecker::default();
        let pods = [
            pod("young", "2026-01-01T00:00:01Z", "ContainerCreating"),
            pod("old", "2026-01-01T00:00:00Z", "ContainerCreating"),
        ];
        let (troubles, next) =
            mounts.check_mounts((&client, &lanes), "tv", &pods, &[deployment()], NOW).await;
        assert_eq!(troubles[0].reason, "SecretMissing");
        assert_eq!(troubles[0].message, format!("2 reader pods: Secret users: {MOUNT_ERROR}"));
        assert!(next.is_some(), "nothing tells that it was found, so it is looked at again");
        // The pod runs.
        let pods = [pod("old", "2026-01-01T00:00:00Z", "Completed")];
        assert_eq!(
            mounts.check_mounts((&client, &lanes), "tv", &pods, &[deployment()], NOW).await,
            (Vec::new(), None)
        );
        // The pod may still start by itself.
        let pods = [pod("old", "2026-01-01T00:00:09Z", "ContainerCreating")];
        let (troubles, next) =
            mounts.check_mounts((&client, &lanes), "tv", &pods, &[deployment()], NOW).await;
        assert!(troubles.is_empty() && next.is_some());
    }
}
