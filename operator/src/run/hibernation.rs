//! Hibernation: scaling a cluster to zero and back (`spec.hibernate`). Pure.
//!
//! Callers end before the components that they call, and the consumer after the components that write to the log:
//! nothing that was acknowledged is lost, because it is in the log and in the archive. Whether a component has ended is
//! read from its pods. On the way back all components start at once, as in a new cluster: each waits for what it needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use liverank_core::Millis;

use super::cache::{CachedPod, LiveObject};
use super::shrink;
use super::store::CachedObject;
use crate::build::{Component, Kind, Store, WantedObject};
use crate::crd::{DEFAULT_REPLICAS, HttpWorkload, RankingCluster, RankingClusterSpec};

/// Returns the components that have pods. A pod that is lost with its node counts until a minute after it should have
/// ended.
pub fn components_with_pods(pods: &[Arc<CachedPod>], now: Millis) -> BTreeSet<Component> {
    let is_there = |pod: &&Arc<CachedPod>| !pod.terminating || shrink::may_still_hold_clients(pod, now);
    pods.iter().filter(is_there).filter_map(|pod| Component::parse(&pod.component)).collect()
}

/// Returns whether a component may end: no component is left that calls it, or whose entries of the log it reads.
pub fn may_scale_to_zero(component: Component, awake: &BTreeSet<Component>) -> bool {
    let needs = |other: &Component| match component {
        Component::Consumer => other.stores().contains(&Store::Kafka),
        _ => other.talks_to().contains(&component),
    };
    // Managers and readers call each other: readers end first.
    !awake.iter().any(|other| *other > component && needs(other))
}

/// Sets the numbers of pods that components should have now, on the way to zero and back.
pub fn set_replicas(
    objects: &mut [Arc<WantedObject>],
    cluster: &RankingCluster,
    deployments: &[Arc<LiveObject>],
    awake: &BTreeSet<Component>,
) {
    if cluster.spec.hibernate {
        return scale_to_zero(objects, awake);
    }
    let is_left_to_others =
        |object: &&mut Arc<WantedObject>| object.kind == Kind::Deployment && object.replicas.is_none();
    for object in objects.iter_mut().filter(is_left_to_others) {
        let live = deployments.iter().find(|live| *live.name() == *object.name);
        restore_replicas(object, live.map(|live| &**live), &cluster.spec);
    }
}

/// Removes the pods of components that may end. Readers' pods are not removed here, because the Deployments of readers
/// are deleted instead.
fn scale_to_zero(objects: &mut [Arc<WantedObject>], awake: &BTreeSet<Component>) {
    let deployments = objects.iter_mut().filter(|it| it.kind == Kind::Deployment && !it.is_of_reader);
    for object in deployments {
        if object.component.is_some_and(|component| may_scale_to_zero(component, awake)) {
            *object = Arc::new(object.with_replicas(0));
        }
    }
}

/// Sets the first number of pods of a Deployment whose number an autoscaler or another program owns, if the operator
/// made it zero: no autoscaler begins at zero by itself.
fn restore_replicas(object: &mut Arc<WantedObject>, live: Option<&LiveObject>, spec: &RankingClusterSpec) {
    let at_zero = |live: &LiveObject| live.owns_replicas && live.replicas == Some(0);
    if object.replicas.is_some() || !live.is_some_and(at_zero) {
        return;
    }
    let of_front = |front: &HttpWorkload| {
        let least = front.autoscaling.as_ref().map(|autoscaling| autoscaling.min_replicas);
        least.or(front.replicas).unwrap_or(DEFAULT_REPLICAS)
    };
    let first = match object.component {
        Some(Component::Gateway) => of_front(&spec.gateway),
        Some(Component::Websocket) => of_front(&spec.websocket),
        Some(Component::Comment) => of_front(&spec.comment.front),
        Some(Component::Consumer) => spec.consumer.replicas,
        _ => 1,
    };
    *object = Arc::new(object.with_replicas(first.into()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::build::{self, Input, OperatorFacts};
    use crate::run::cache::FIELD_MANAGER;

    fn cluster() -> RankingCluster {
        let text = include_str!("../../tests/build/clusters/full.yaml");
        let value: Value = serde_yaml::from_str(text).unwrap();
        serde_json::from_value(value).unwrap()
    }

    fn objects(cluster: &RankingCluster) -> Vec<Arc<WantedObject>> {
        let operator = OperatorFacts::default();
        let input = Input { cluster, revision: build::CURRENT_REVISION, readers: &[], operator: &operator };
        build::desired_objects(&input).iter().map(|object| Arc::new(WantedObject::of(object))).collect()
    }

    proptest! {
        /// Whichever pods end first: all components end, and none that others still call.
        #[test]
        fn all_go_and_nobody_before_those_who_ask(picks in prop::collection::vec(0_usize..7, 7)) {
            let mut awake: BTreeSet<Component> = Component::ROLL_OUT_ORDER.into();
            for pick in picks {
                let going: Vec<Component> =
                    awake.iter().copied().filter(|component| may_scale_to_zero(*component, &awake)).collect();
                prop_assert!(!going.is_empty(), "{awake:?} wait for each other");
                let gone = going[pick % going.len()];
                awake.remove(&gone);
                let asks = |other: &&Component| other.talks_to().contains(&gone) && **other > gone;
                prop_assert_eq!(awake.iter().find(asks), None, "{:?} is asked by others", gone);
                let writes = [Component::Gateway, Component::Comment];
                prop_assert!(gone != Component::Consumer || writes.iter().all(|it| !awake.contains(it)));
            }
            prop_assert!(awake.is_empty());
        }
    }

    #[test]
    fn those_whose_turn_it_is_lose_their_pods_and_no_others() {
        let mut all = objects(&cluster());
        let before = all.clone();
        scale_to_zero(&mut all, &Component::ROLL_OUT_ORDER.into());
        let changed = |all: &[Arc<WantedObject>]| -> Vec<String> {
            let pairs = before.iter().zip(all).filter(|(before, after)| before != after);
            pairs.map(|(before, _)| before.component.unwrap().name().to_owned()).collect()
        };
        assert_eq!(changed(&all), ["gateway"]);
        scale_to_zero(&mut all, &BTreeSet::new());
        assert_eq!(changed(&all), ["manager", "consumer", "comment", "websocket", "statistics", "gateway"]);
        assert!(all.iter().all(|it| it.kind != Kind::Deployment || it.replicas == Some(0)));
    }

    #[test]
    fn who_is_scaled_by_an_autoscaler_begins_with_its_least() {
        let mut cluster = cluster();
        let autoscaling = serde_json::from_value(json!({"minReplicas": 3, "maxReplicas": 9})).unwrap();
        cluster.spec.gateway.autoscaling = Some(autoscaling);
        let all = objects(&cluster);
        let is_gateway =
            |it: &&Arc<WantedObject>| it.kind == Kind::Deployment && it.component == Some(Component::Gateway);
        let gateway = all.iter().find(is_gateway).unwrap();
        let woken = |manager: &str, replicas: u32| {
            let entry = json!({"manager": manager, "operation": "Apply", "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
            let live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas},
                "metadata": {"name": "g", "namespace": "ns", "uid": "u", "resourceVersion": "1",
                    "labels": {"app.kubernetes.io/instance": "x"}, "managedFields": [entry]}});
            let live = LiveObject::from_watched(serde_json::from_value(live).unwrap()).unwrap();
            let mut object = Arc::clone(gateway);
            restore_replicas(&mut object, Some(&live), &cluster.spec);
            object.replicas
        };
        assert_eq!(woken(FIELD_MANAGER, 0), Some(3));
        assert_eq!(woken(FIELD_MANAGER, 3), None, "from here on the autoscaler has it");
        assert_eq!(woken("somebody", 0), None, "it is somebody else's zero");
    }
}
