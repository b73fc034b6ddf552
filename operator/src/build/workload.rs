//! Deployments, what scales them, and how many of their pods may be evicted at a time.

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

use super::scope::Scope;
use super::{Component, Kind, Object, Reader, names, pod};
use crate::crd::{Autoscaling, HttpWorkload, ScaledBy};

/// Seconds without a pod becoming ready after which a roll-out counts as failed: an image of some hundred megabytes over
/// a slow line, and a startup probe's two minutes.
const PROGRESS_DEADLINE_SECONDS: i32 = 300;
/// Old templates kept to roll back to by hand. A reader has none: it is replaced, and gone.
const REVISIONS_KEPT: i32 = 3;

/// Seconds of a reader's grace period in which nobody moves: the rule on the grace period counts them, too.
const DRAIN_SLACK_SECONDS: i32 = 30;

/// What the user may say of a component that scales.
const fn http_workload(scope: Scope<'_>, component: Component) -> Option<&HttpWorkload> {
    match component {
        Component::Gateway => Some(&scope.spec.gateway),
        Component::Websocket => Some(&scope.spec.websocket),
        Component::Comment => Some(&scope.spec.comment.front),
        Component::Manager | Component::Consumer | Component::Reader | Component::Statistics => None,
    }
}

/// How many pods are wanted; `None` where an autoscaler or somebody else owns the number.
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

/// The Deployment of a component that is not readers.
pub(super) fn component_deployment(scope: Scope<'_>, component: Component) -> Object {
    let name = names::component_object_name(scope.name, component);
    let rolling = DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            // Never fewer than wanted: those that are left would have to take the others' viewers.
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
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            template: pod::template(scope, component, None),
            ..DeploymentSpec::default()
        }),
        status: None,
    };
    let annotations = template_annotation(scope, component);
    Object::of(Kind::Deployment, &name, Some(component), &with_annotations(typed, annotations))
}

/// The Deployment of one reader. One pod with a stable name; where it has to be made anew, the old one goes first, for
/// two readers of one name would be one too many.
pub(super) fn reader_deployment(scope: Scope<'_>, reader: &Reader) -> Object {
    let name = reader.name.as_str();
    let mut annotations = template_annotation(scope, Component::Reader);
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
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            template: pod::template(scope, Component::Reader, Some(name)),
            ..DeploymentSpec::default()
        }),
        status: None,
    };
    Object::of_reader(Kind::Deployment, name, &with_annotations(typed, annotations))
}

fn template_annotation(scope: Scope<'_>, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([(names::TEMPLATE_HASH_ANNOTATION.to_owned(), pod::template_hash(scope, component))])
}

fn with_annotations(mut deployment: Deployment, annotations: BTreeMap<String, String>) -> Deployment {
    deployment.metadata.annotations = Some(annotations);
    deployment
}

/// The budget of a component; readers have one together.
pub(super) fn disruption_budget(scope: Scope<'_>, component: Component) -> Object {
    let name = names::component_object_name(scope.name, component);
    let max_unavailable = match component {
        Component::Reader => IntOrString::Int(evictable_readers(scope)),
        // A share: the others take the partitions of those who go.
        Component::Consumer => IntOrString::String("25%".to_owned()),
        _ => http_workload(scope, component)
            .map_or(IntOrString::Int(1), |front| front.pdb.max_unavailable.clone()),
    };
    let typed = PodDisruptionBudget {
        metadata: scope.metadata(&name, Some(component), None),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(max_unavailable),
            selector: Some(scope.selector(component)),
            // A pod that cannot answer anyway must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    };
    Object::of(Kind::PodDisruptionBudget, &name, Some(component), &typed)
}

/// How many readers evictions may take away at a time: a tenth, so that 500 readers do not go one after the other, and
/// never more than the move budget empties within their grace period.
fn evictable_readers(scope: Scope<'_>) -> i32 {
    let readers = &scope.spec.readers;
    let seconds = i64::from(readers.termination_grace_period_seconds - DRAIN_SLACK_SECONDS);
    let moved = seconds * i64::from(readers.rebalance.max_viewers_moved_per_minute) / 60;
    let emptied = moved / i64::from(readers.viewers_per_reader.max(1));
    let share = scope.input.readers.len().div_ceil(10);
    i32::try_from(emptied.min(share as i64)).unwrap_or(i32::MAX).max(1)
}

/// The autoscaler of a component, where it has one.
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
    Some(Object::of(Kind::HorizontalPodAutoscaler, &name, Some(component), &typed))
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

/// Scaling in goes one pod a drain: the streams of the one before have found their places by then.
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
