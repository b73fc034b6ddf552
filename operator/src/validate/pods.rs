//! Checks the parts of a pod that Kubernetes could refuse.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{ProblemList, keys};
use crate::build::quantity;
use crate::crd::{MAX_PROBE_TIME, PodSettings, ProbeTimes};

/// Checks the settings of a component's pods, and adds each problem to `problems`.
pub(super) fn check_pod(path: &str, pod: &PodSettings, problems: &mut ProblemList) {
    if let Some(resources) = &pod.resources {
        check_resources(&format!("{path}.resources"), resources, problems);
    }
    keys::check_keys(&format!("{path}.nodeSelector"), pod.node_selector.keys(), problems);
    for (at, toleration) in pod.tolerations.iter().enumerate() {
        check_toleration(&format!("{path}.tolerations[{at}]"), toleration, problems);
    }
    check_spread(
        &format!("{path}.topologySpread"),
        pod.topology_spread.as_deref().unwrap_or_default(),
        problems,
    );
    for (probe, times) in [
        ("startupProbe", pod.startup_probe),
        ("readinessProbe", pod.readiness_probe),
        ("livenessProbe", pod.liveness_probe),
    ] {
        check_probe_times(&format!("{path}.{probe}"), times.unwrap_or_default(), problems);
    }
    keys::check_annotations(&format!("{path}.annotations"), &pod.annotations, problems);
    keys::check_keys(&format!("{path}.labels"), pod.labels.keys(), problems);
}

/// Checks the times of a probe. Definitions of earlier releases have no bounds for them.
fn check_probe_times(path: &str, times: ProbeTimes, problems: &mut ProblemList) {
    for (field, given) in [
        ("periodSeconds", times.period_seconds),
        ("timeoutSeconds", times.timeout_seconds),
        ("failureThreshold", times.failure_threshold),
    ] {
        if given.is_some_and(|given| !(1..=MAX_PROBE_TIME).contains(&given)) {
            problems.add(format!("{path}.{field}"), format!("write a number from 1 to {MAX_PROBE_TIME}"));
        }
    }
}

pub(super) fn check_resources(path: &str, resources: &ResourceRequirements, problems: &mut ProblemList) {
    let read = |which: &str, all: &Option<BTreeMap<String, Quantity>>, problems: &mut ProblemList| {
        let mut read = BTreeMap::new();
        for (name, Quantity(text)) in all.iter().flatten() {
            match quantity::parse_nanos(text) {
                Some(nanos) if nanos >= 0 => drop(read.insert(name.clone(), nanos)),
                _ => problems.add(
                    format!("{path}.{which}.{name}"),
                    format!("{text:?} is no amount: write one such as 250m, 2 or 512Mi"),
                ),
            }
        }
        read
    };
    let requests = read("requests", &resources.requests, problems);
    let limits = read("limits", &resources.limits, problems);
    for (name, requested) in requests {
        if limits.get(&name).is_some_and(|limit| *limit < requested) {
            problems.add(format!("{path}.requests.{name}"), "raise the limit or lower the request");
        }
    }
    if resources.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        problems.add(format!("{path}.claims"), "remove it: these pods have no resource claims to name");
    }
}

fn check_toleration(path: &str, toleration: &Toleration, problems: &mut ProblemList) {
    let operator = toleration.operator.as_deref().unwrap_or("Equal");
    let has = |field: &Option<String>| field.as_ref().is_some_and(|text| !text.is_empty());
    if !matches!(operator, "Equal" | "Exists" | "Lt" | "Gt") {
        problems.add(format!("{path}.operator"), "write Equal or Exists");
    }
    if operator == "Exists" && has(&toleration.value) {
        problems.add(format!("{path}.value"), "remove it: Exists takes any value");
    }
    if !has(&toleration.key) && operator != "Exists" {
        problems.add(format!("{path}.key"), "set it, or operator: Exists to tolerate every taint");
    }
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        problems.add(format!("{path}.effect"), "write NoSchedule, PreferNoSchedule or NoExecute");
    } else if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        problems.add(format!("{path}.tolerationSeconds"), "set effect: NoExecute: only that one waits");
    }
}

fn check_spread(path: &str, constraints: &[TopologySpreadConstraint], problems: &mut ProblemList) {
    let mut seen = BTreeSet::new();
    for (at, constraint) in constraints.iter().enumerate() {
        if constraint.max_skew < 1 {
            problems.add(format!("{path}[{at}].maxSkew"), "write a number from 1");
        }
        if constraint.topology_key.is_empty() {
            problems
                .add(format!("{path}[{at}].topologyKey"), "name a label of nodes: kubernetes.io/hostname");
        }
        if !matches!(constraint.when_unsatisfiable.as_str(), "DoNotSchedule" | "ScheduleAnyway") {
            problems.add(format!("{path}[{at}].whenUnsatisfiable"), "write DoNotSchedule or ScheduleAnyway");
        }
        if !seen.insert((&constraint.topology_key, &constraint.when_unsatisfiable)) {
            problems.add(
                format!("{path}[{at}]"),
                "remove it: an earlier one has the same topologyKey and whenUnsatisfiable",
            );
        }
    }
}
