//! Deployments, their autoscalers, and the budgets for evictions of their pods.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::scope::{self, Scope};
use super::{Component, Kind, Object, Reader, names, pod, quantity};
use crate::crd::{Autoscaling, DisruptionBudget, HttpWorkload, ScaledBy};

/// Seconds without a pod becoming ready after which a roll-out counts as failed. The time allows for pulling an image
/// of some hundred megabytes over a slow line, and for the two minutes of the startup probe.
const PROGRESS_DEADLINE_SECONDS: i32 = PULL_SECONDS + 120;
/// The seconds of `PROGRESS_DEADLINE_SECONDS` that are meant for pulling the image.
const PULL_SECONDS: i32 = 180;
/// Number of old templates kept for a rollback by hand. Readers keep no old templates: a reader is replaced, not rolled
/// back.
const REVISIONS_KEPT: i32 = 3;

/// Seconds of a reader's grace period that pass before the first viewers are moved; the validation of the grace period
/// counts them, too.
const DRAIN_START_SECONDS: i32 = 30;

/// Returns the user's settings for a component that scales horizontally; `None` for the other components.
const fn http_workload(scope: Scope<'_>, component: Component) -> Option<&HttpWorkload> {
    match component {
        Component::Gateway => Some(&scope.spec.gateway),
        Component::Websocket => Some(&scope.spec.websocket),
        Component::Comment => Some(&scope.spec.comment.front),
        Component::Manager | Component::Consumer | Component::Reader | Component::Statistics => None,
    }
}

/// Returns the seconds after which a roll-out counts as failed: more where the resource lets pods start for longer.
fn progress_deadline(scope: Scope<'_>, component: Component) -> i32 {
    PROGRESS_DEADLINE_SECONDS.max(PULL_SECONDS + pod::startup_seconds(scope, component))
}

/// Returns the wanted number of pods; `None` if an autoscaler or another program sets the number.
fn wanted_replicas(scope: Scope<'_>, component: Component) -> Option<i32> {
    match component {
        Component::Manager => Some(scope.spec.manager.replicas),
        Component::Consumer => {
            let consumer = &scope.spec.consumer;
            (consumer.scaled_by == ScaledBy::Operator).then_some(consumer.replicas)
        }
        Component::Statistics | Component::Reader => Some(1),
        Component::Gateway | Component::Websocket | Component::Comment => {
            http_workload(scope, component).and_then(HttpWorkload::wanted_replicas)
        }
    }
}

/// Returns the Deployment of a component other than the readers.
pub(super) fn component_deployment(scope: Scope<'_>, component: Component) -> Object {
    let name = names::component_object_name(scope.name, component);
    let rolling = DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            // Never fewer pods than wanted: the remaining ones would have to take over the viewers of the others.
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(if http_workload(scope, component).is_some() {
                IntOrString::String("25%".to_owned())
            } else {
                IntOrString::Int(1)
            }),
        }),
    };
    let typed = Deployment {
        metadata: scope.metadata(&name, Some(component), None),
        spec: Some(DeploymentSpec {
            replicas: wanted_replicas(scope, component),
            selector: scope.selector(component),
            strategy: Some(rolling),
            revision_history_limit: Some(REVISIONS_KEPT),
            progress_deadline_seconds: Some(progress_deadline(scope, component)),
            template: pod::template(scope, component, None),
            ..DeploymentSpec::default()
        }),
        status: None,
    };
    let annotations = template_annotation(pod::template_hash(scope, component));
    Object::of(Kind::Deployment, &name, Some(component), &with_annotations(typed, annotations))
}

/// Returns the Deployment of one reader: one pod with a stable name. If the pod has to be replaced, the old one ends
/// first, because there must never be two readers with one name. `template` is the hash of the readers' pod template.
pub(super) fn reader_deployment(scope: Scope<'_>, reader: &Reader, template: &str) -> Object {
    let name = reader.name.as_str();
    let mut annotations = template_annotation(template.to_owned());
    if let Some(drain) = &reader.drain {
        annotations.insert(names::DRAIN_ANNOTATION.to_owned(), drain.reason.clone());
        annotations.insert(names::DRAIN_SINCE_ANNOTATION.to_owned(), drain.since.clone());
    }
    let typed = Deployment {
        metadata: scope.metadata(name, Some(Component::Reader), Some(name)),
        spec: Some(DeploymentSpec {
            replicas: wanted_replicas(scope, Component::Reader),
            selector: LabelSelector {
                match_labels: Some(names::reader_selector(scope.name, name)),
                match_expressions: None,
            },
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }),
            revision_history_limit: Some(0),
            progress_deadline_seconds: Some(progress_deadline(scope, Component::Reader)),
            template: pod::template(scope, Component::Reader, Some(name)),
            ..DeploymentSpec::default()
        }),
        status: None,
    };
    Object::of_reader(Kind::Deployment, name, &with_annotations(typed, annotations))
}

fn template_annotation(hash: String) -> BTreeMap<String, String> {
    BTreeMap::from([(names::TEMPLATE_HASH_ANNOTATION.to_owned(), hash)])
}

fn with_annotations(mut deployment: Deployment, annotations: BTreeMap<String, String>) -> Deployment {
    deployment.metadata.annotations = Some(annotations);
    deployment
}

/// Returns the disruption budget of a component; all readers, of which there are `readers`, share one.
pub(super) fn disruption_budget(scope: Scope<'_>, component: Component, readers: usize) -> Object {
    let name = names::component_object_name(scope.name, component);
    let max_unavailable = given_budget(scope, component).map_or_else(
        || match component {
            Component::Reader => IntOrString::Int(evictable_readers(scope, readers)),
            // A share of the pods: the remaining consumers take over the partitions of the evicted ones.
            Component::Consumer => IntOrString::String("25%".to_owned()),
            _ => IntOrString::Int(1),
        },
        |budget| budget.max_unavailable.clone(),
    );
    let typed = PodDisruptionBudget {
        metadata: scope.metadata(&name, Some(component), None),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(max_unavailable),
            selector: Some(scope.selector(component)),
            // A pod that is not ready anyway must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    };
    Object::of(Kind::PodDisruptionBudget, &name, Some(component), &typed)
}

/// Returns the disruption budget that the resource sets for a component; `None` if it sets none.
const fn given_budget(scope: Scope<'_>, component: Component) -> Option<&DisruptionBudget> {
    let spec = scope.spec;
    match component {
        Component::Gateway => Some(&spec.gateway.pdb),
        Component::Websocket => Some(&spec.websocket.pdb),
        Component::Comment => Some(&spec.comment.front.pdb),
        Component::Consumer => spec.consumer.pdb.as_ref(),
        Component::Manager => spec.manager.pdb.as_ref(),
        Component::Statistics => spec.statistics.pdb.as_ref(),
        Component::Reader => spec.readers.pdb.as_ref(),
    }
}

/// Returns how many of `count` readers may be evicted at a time: a tenth, so that 500 readers do not go one after the other, but
/// never more than the move budget empties within their grace period, and at least one.
fn evictable_readers(scope: Scope<'_>, count: usize) -> i32 {
    let readers = &scope.spec.readers;
    let seconds = i64::from(readers.termination_grace_period_seconds - DRAIN_START_SECONDS);
    let moved = seconds * i64::from(readers.rebalance.max_viewers_moved_per_minute) / 60;
    let emptied = moved / i64::from(readers.viewers_per_reader.max(1));
    let share = count.div_ceil(10);
    i32::try_from(emptied.min(share as i64)).unwrap_or(i32::MAX).max(1)
}

/// Returns the autoscaler of a component; `None` if it has none.
pub(super) fn autoscaler(scope: Scope<'_>, component: Component) -> Option<Object> {
    let front = http_workload(scope, component)?;
    let autoscaling = front.autoscaling.as_ref()?;
    let name = names::component_object_name(scope.name, component);
    let typed = HorizontalPodAutoscaler {
        metadata: scope.metadata(&name, Some(component), None),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: name.clone(),
            },
            min_replicas: Some(autoscaling.min_replicas),
            max_replicas: autoscaling.max_replicas,
            metrics: Some(vec![cpu_target_metric(autoscaling)]),
            behavior: Some(scale_down_one_pod_a_drain(autoscaling, front.drain_seconds)),
        },
        status: None,
    };
    let mut body = scope::to_json(&typed);
    if !autoscaling.metrics.is_empty() {
        body["spec"]["metrics"] = autoscaling.metrics.iter().cloned().map(with_canonical_target).collect();
    }
    if let Some(behavior) = &autoscaling.behavior {
        body["spec"]["behavior"] = behavior.clone();
    }
    Some(Object::as_stored_by_server(Kind::HorizontalPodAutoscaler, name, Some(component), None, body))
}

/// Returns a metric with the amounts of its target in the API server's notation: otherwise what is stored would seem to be
/// changed by somebody.
fn with_canonical_target(mut metric: Value) -> Value {
    for source in metric.as_object_mut().into_iter().flat_map(|metric| metric.values_mut()) {
        let Some(target) = source.get_mut("target").and_then(Value::as_object_mut) else { continue };
        for name in ["averageValue", "value"] {
            if let Some(amount) = target.get_mut(name) {
                let written = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
                *amount = quantity::canonical(&written).into();
            }
        }
    }
    metric
}

fn cpu_target_metric(autoscaling: &Autoscaling) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(autoscaling.target_cpu_utilization),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// Returns a behavior that removes one pod per drain time, so that the streams of the previous pod have reconnected
/// elsewhere by then.
fn scale_down_one_pod_a_drain(
    autoscaling: &Autoscaling,
    drain_seconds: i32,
) -> HorizontalPodAutoscalerBehavior {
    HorizontalPodAutoscalerBehavior {
        scale_down: Some(HPAScalingRules {
            stabilization_window_seconds: Some(autoscaling.scale_down_stabilization_seconds),
            policies: Some(vec![HPAScalingPolicy {
                type_: "Pods".to_owned(),
                value: 1,
                period_seconds: drain_seconds,
            }]),
            ..HPAScalingRules::default()
        }),
        scale_up: None,
    }
}
