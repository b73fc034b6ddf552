//! The problems of pods and of writes, in the form in which conditions report them. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use liverank_core::Millis;

use super::apply::RefusedObject;
use super::cache::{CachedPod, LiveObject};
use super::store::CachedObject;
use crate::status::ReportedProblem;

/// The reasons of refused writes that last until a person acts; all other refusals end by themselves.
const LASTING_REFUSALS: [&str; 5] =
    ["ApplyRefused", "Forbidden", "QuotaExceeded", "NameTaken", "KindMissing"];
/// Maximal number of problems of one kind in one status: one policy may refuse every object.
const MAX_REFUSALS_NAMED: usize = 10;

/// The time in milliseconds for which a pod that crashed counts as failing: longer than the kubelet's longest pause
/// between two starts, so that a start in between does not look like a recovery.
const RECOVERED_AFTER_MS: Millis = 600_000;

/// Returns the problems of pods that no node accepts or that do not run: one of each kind for a component, because its
/// pods are alike.
pub fn pod_problems(pods: &[Arc<CachedPod>], now: Millis) -> Vec<ReportedProblem> {
    let mut found: BTreeMap<(&'static str, &str), (usize, &str)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.terminating) {
        let Some(trouble) = pod_trouble(pod, now) else { continue };
        let entry = found.entry((trouble.0, &pod.component)).or_insert((0, trouble.1));
        entry.0 += 1;
        // The message does not depend on the order of the pods.
        entry.1 = entry.1.min(trouble.1);
    }
    let trouble = |((reason, component), (pods, said)): ((&str, &str), (usize, &str))| {
        let word = if pods == 1 { "pod" } else { "pods" };
        ReportedProblem {
            reason: reason.to_owned(),
            message: format!("{pods} {component} {word}: {said}"),
            needs_action: false,
            is_failed_write: false,
        }
    };
    found.into_iter().map(trouble).collect()
}

fn pod_trouble(pod: &CachedPod, now: Millis) -> Option<(&'static str, &str)> {
    let crashes = pod.restarts > u32::from(pod.ready) && recovers_at(pod).is_some_and(|calm| now < calm);
    match (&pod.unschedulable, &pod.trouble) {
        _ if crashes => Some(("PodsFailing", "CrashLoopBackOff")),
        _ if pod.ready => None,
        (Some(said), _) => Some(("Unschedulable", said)),
        (None, Some(said)) => Some(("PodsFailing", said)),
        (None, None) => None,
    }
}

fn recovers_at(pod: &CachedPod) -> Option<Millis> {
    pod.last_crash_at.filter(|_| pod.restarts > 0).map(|at| at + RECOVERED_AFTER_MS)
}

/// Returns the time at which the next crashed pod has run for long enough to count as recovered; `None` if there is
/// none. The time is needed because no event tells of the recovery.
pub fn next_recovery(pods: &[Arc<CachedPod>], now: Millis) -> Option<Millis> {
    pods.iter().filter_map(|pod| recovers_at(pod)).filter(|at| *at > now).min()
}

/// Returns the problems of routes that no Gateway accepts, so that viewers cannot connect by them.
pub fn route_problems(routes: &[Arc<LiveObject>]) -> Vec<ReportedProblem> {
    let refused = |route: &Arc<LiveObject>| {
        let conditions = route.status["parents"].as_array().into_iter().flatten();
        let mut refused = conditions.filter(|it| it["type"] == "Accepted" || it["type"] == "ResolvedRefs");
        let said = refused.find(|it| it["status"] == "False")?;
        let words = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        Some(ReportedProblem {
            reason: "RouteRefused".to_owned(),
            message: format!("HTTPRoute {}: {}: {}", route.name(), words("reason"), words("message")),
            needs_action: true,
            is_failed_write: false,
        })
    };
    routes.iter().filter_map(refused).take(MAX_REFUSALS_NAMED).collect()
}

/// Returns the problems of fields that another writer writes, too: only a person can decide who should write them.
pub fn contested_field_problems(contested: &[String]) -> Vec<ReportedProblem> {
    let trouble = |about: &String| ReportedProblem {
        reason: "Contested".to_owned(),
        message: about.clone(),
        needs_action: true,
        is_failed_write: true,
    };
    contested.iter().take(MAX_REFUSALS_NAMED).map(trouble).collect()
}

/// Returns the problems of writes that the API server refuses, lasting ones first.
pub fn refusal_problems(refused: &[RefusedObject]) -> Vec<ReportedProblem> {
    let lasts = |reason: &str| LASTING_REFUSALS.contains(&reason);
    let mut all: Vec<ReportedProblem> = refused
        .iter()
        // The namespace is deleted with everything in it: nobody has to act.
        .filter(|it| it.reason != "NamespaceTerminating")
        .map(|it| ReportedProblem {
            reason: it.reason.into(),
            message: it.message.clone(),
            needs_action: lasts(it.reason),
            is_failed_write: true,
        })
        .collect();
    all.sort_by_key(|trouble| !trouble.needs_action);
    all.truncate(MAX_REFUSALS_NAMED);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Millis = 1_767_225_600_000;

    /// Makes a pod whose container crashed `ago` milliseconds ago and is now in `state`.
    fn pod(ready: bool, restarts: u32, ago: Millis, state: &Value) -> Arc<CachedPod> {
        let at = jiff::Timestamp::from_millisecond(NOW - ago).unwrap();
        let object = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {
                "app.kubernetes.io/instance": "x", "app.kubernetes.io/component": "gateway"}},
            "spec": {"nodeName": "n"},
            "status": {
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [{"restartCount": restarts, "state": state,
                    "lastState": {"terminated": {"finishedAt": at.to_string()}}}],
            },
        });
        Arc::new(CachedPod::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    #[test]
    fn a_pod_that_crashes_again_and_again_does_not_recover_in_between() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}});
        let ended = json!({"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}});
        let mut told = Vec::new();
        for restarts in 2..9 {
            let pause = (10_000 << restarts).min(300_000);
            for (ready, ago, state) in [
                (false, 1_000, &waiting),
                (false, pause, &waiting),
                (false, pause + 1_000, &running),
                // The pod is ready for a while and then crashes.
                (true, pause + 20_000, &running),
                (false, 100, &ended),
            ] {
                told.push(pod_problems(&[pod(ready, restarts, ago, state)], NOW));
            }
        }
        assert_eq!(told[0][0].message, "1 gateway pod: CrashLoopBackOff");
        assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
        let calm = pod(true, 5, RECOVERED_AFTER_MS + 1, &running);
        assert_eq!(pod_problems(&[calm], NOW), []);
        assert_eq!(
            next_recovery(&[pod(true, 5, 1_000, &running)], NOW),
            Some(NOW - 1_000 + RECOVERED_AFTER_MS)
        );
        // One crash may happen to any pod.
        assert_eq!(pod_problems(&[pod(true, 1, 1_000, &running)], NOW), []);
    }

    #[test]
    fn a_route_that_no_gateway_takes_is_told() {
        let route = |accepted: &str| {
            let conditions = json!([{"type": "Accepted", "status": accepted, "reason": "NotAllowedByListeners",
                "message": "no listener takes it", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "metadata": {"name": "x-gateway", "namespace": "ns", "uid": "u", "resourceVersion": "1",
                    "labels": {"app.kubernetes.io/instance": "x"}},
                "status": {"parents": [{"parentRef": {"name": "public"}, "conditions": conditions}]}});
            Arc::new(LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap())
        };
        assert_eq!(route_problems(&[route("True")]), []);
        let told = route_problems(&[route("False")]);
        assert_eq!(told[0].message, "HTTPRoute x-gateway: NotAllowedByListeners: no listener takes it");
    }

    #[test]
    fn what_lasts_comes_first_and_what_goes_by_itself_is_not_told() {
        let refused = |reason, message: &str| RefusedObject { reason, message: message.into() };
        let all = refusal_problems(&[
            refused("ApiUnavailable", "a"),
            refused("NamespaceTerminating", "b"),
            refused("QuotaExceeded", "c"),
        ]);
        let words: Vec<_> = all.iter().map(|it| (it.reason.as_str(), it.needs_action)).collect();
        assert_eq!(words, [("QuotaExceeded", true), ("ApiUnavailable", false)]);
    }
}
