//! The order in which changed pod templates are rolled out, and what stops a roll-out. Pure.
//!
//! A component keeps its pods until all components before it are rolled out: their pods are up to date, as many as
//! wanted, and ready. So a bad image or a bad setting stops at the first component that cannot run it, and components
//! that viewers connect to come last.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::cache::LiveObject;
use super::store::CachedObject;
use crate::build::{Component, Kind, WantedObject, names};

/// The roll-out state of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutState {
    /// The component that is rolled out.
    pub component: Component,
    /// Number of pods wanted.
    pub desired: i32,
    /// Number of pods that are ready.
    pub ready: i32,
    /// Number of pods of the wanted template.
    pub updated: i32,
    /// Whether every pod exists, is ready, and has the wanted template.
    pub is_rolled_out: bool,
    /// Whether enough pods are ready to serve.
    pub available: bool,
    /// The reason and message of the failure of the roll-out; `None` if it has not failed.
    pub failure: Option<(&'static str, String)>,
}

/// Returns the roll-out state of every component, in the order of roll-out.
pub fn component_states(objects: &[Arc<WantedObject>], live: &[Arc<LiveObject>]) -> Vec<RolloutState> {
    let deployments = objects.iter().filter(|it| it.kind == Kind::Deployment);
    let live: HashMap<&str, &LiveObject> = live.iter().map(|it| (it.name(), &**it)).collect();
    let mut states: Vec<RolloutState> = Vec::new();
    for object in deployments {
        let Some(component) = object.component else { continue };
        let state = component_state(component, object, live.get(&*object.name).copied());
        match states.last_mut().filter(|last| last.component == component) {
            Some(last) => add_reader_state(last, state),
            None => states.push(state),
        }
    }
    states
}

/// Adds one reader's state to the state of the component: readers are several Deployments of one component.
fn add_reader_state(all: &mut RolloutState, one: RolloutState) {
    all.desired += one.desired;
    all.ready += one.ready;
    all.updated += one.updated;
    all.is_rolled_out &= one.is_rolled_out;
    all.available |= one.available;
    all.failure = all.failure.take().or(one.failure);
}

fn component_state(component: Component, object: &WantedObject, live: Option<&LiveObject>) -> RolloutState {
    let nothing = RolloutState {
        component,
        desired: object.replicas.unwrap_or(1) as i32,
        ready: 0,
        updated: 0,
        is_rolled_out: false,
        available: false,
        failure: None,
    };
    let Some(live) = live else { return nothing };
    let count = |name: &str| live.status[name].as_i64().unwrap_or(0) as i32;
    // While an autoscaler sets the number, the number in the live object is the wanted one.
    let desired = object.replicas.or(live.replicas).unwrap_or(1) as i32;
    let seen = live.status["observedGeneration"].as_i64() >= Some(live.generation);
    let newest = live.our_annotation(names::TEMPLATE_HASH_ANNOTATION) == object.template_hash.as_deref();
    let updated = if seen && newest { count("updatedReplicas") } else { 0 };
    let complete =
        updated == desired && count("replicas") == desired && count("availableReplicas") == desired;
    let available = desired == 0 || condition_message(&live.status, "Available", "True").is_some();
    let failure = newest.then(|| rollout_failure(&live.status)).flatten();
    RolloutState {
        desired,
        ready: count("readyReplicas"),
        updated,
        is_rolled_out: complete,
        available,
        failure,
        ..nothing
    }
}

/// Returns the reason and message with which a Deployment's controller reports that it makes no progress; `None` if it
/// does not.
fn rollout_failure(status: &Value) -> Option<(&'static str, String)> {
    if let Some(refused) = condition_message(status, "ReplicaFailure", "True") {
        let reason = if refused.contains("exceeded quota") { "QuotaExceeded" } else { "PodsRefused" };
        return Some((reason, refused));
    }
    condition_message(status, "Progressing", "False").map(|said| ("RolloutFailed", said))
}

/// Returns the message of a condition, if the condition has the status `wanted`.
fn condition_message(status: &Value, kind: &str, wanted: &str) -> Option<String> {
    let mut conditions = status["conditions"].as_array()?.iter();
    let found = conditions.find(|it| it["type"] == kind && it["status"] == wanted)?;
    Some(found["message"].as_str().unwrap_or_default().to_owned())
}

/// Returns the first component that is not rolled out: its turn has come, and the components after it keep their
/// templates.
pub fn next_component(states: &[RolloutState]) -> Option<&RolloutState> {
    states.iter().find(|state| !state.is_rolled_out)
}

/// Returns whether a Deployment keeps the pod template of the live one: if it is not its component's turn yet, and
/// always if it is a reader's, because readers are replaced, not changed.
pub fn keeps_live_template(object: &WantedObject, live: &LiveObject, turn: Option<Component>) -> bool {
    let changed = live.our_annotation(names::TEMPLATE_HASH_ANNOTATION) != object.template_hash.as_deref();
    let early = turn.is_some_and(|turn| object.component.is_some_and(|it| it > turn));
    object.kind == Kind::Deployment && changed && (early || object.is_of_reader)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::build::Object;
    use crate::run::held::HeldDeployments;

    fn object(component: Component, template: &str, replicas: Option<i32>) -> Arc<WantedObject> {
        Arc::new(WantedObject::of(&Object {
            kind: Kind::Deployment,
            name: format!("x-{}", component.name()),
            component: Some(component),
            reader: (component == Component::Reader).then(|| "x-reader".into()),
            body: json!({
                "metadata": {"annotations": {names::TEMPLATE_HASH_ANNOTATION: template}},
                "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"image": template}]}}},
            }),
        }))
    }

    fn live(component: Component, template: &str, status: &Value) -> Arc<LiveObject> {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": format!("x-{}", component.name()), "namespace": "ns", "uid": "u", "resourceVersion": "1",
                "generation": 2, "labels": {names::INSTANCE_LABEL: "x"}, "annotations": {names::TEMPLATE_HASH_ANNOTATION: template},
            },
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": template}]}}},
            "status": status,
        });
        Arc::new(LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    fn well() -> Value {
        json!({
            "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
            "conditions": [{"type": "Available", "status": "True"}],
        })
    }

    fn only(wanted: &Arc<WantedObject>, found: &Arc<LiveObject>) -> RolloutState {
        component_states(std::slice::from_ref(wanted), std::slice::from_ref(found)).remove(0)
    }

    #[test]
    fn a_component_is_rolled_when_all_its_pods_are_new_and_answer() {
        let wanted = object(Component::Manager, "new", Some(2));
        assert!(only(&wanted, &live(Component::Manager, "new", &well())).is_rolled_out);
        assert!(!only(&wanted, &live(Component::Manager, "old", &well())).is_rolled_out);
        for (field, value) in
            [("observedGeneration", 1), ("updatedReplicas", 1), ("availableReplicas", 1), ("replicas", 3)]
        {
            let mut status = well();
            status[field] = value.into();
            assert!(!only(&wanted, &live(Component::Manager, "new", &status)).is_rolled_out, "{field}");
        }
        let none = component_states(std::slice::from_ref(&wanted), &[]).remove(0);
        assert!(!none.is_rolled_out && !none.available && none.desired == 2);
    }

    #[test]
    fn what_an_autoscaler_wrote_is_what_is_wanted() {
        let state = only(&object(Component::Gateway, "t", None), &live(Component::Gateway, "t", &well()));
        assert!(state.is_rolled_out && state.desired == 2);
    }

    #[test]
    fn a_failed_roll_out_says_why() {
        let mut status = well();
        status["conditions"] = json!([{"type": "Progressing", "status": "False", "message": "deadline"}]);
        let state = only(&object(Component::Manager, "t", Some(2)), &live(Component::Manager, "t", &status));
        assert_eq!(state.failure, Some(("RolloutFailed", "deadline".into())));
        status["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "message": "pods \"x\" is forbidden: exceeded quota: q"}]);
        let state = only(&object(Component::Manager, "t", Some(2)), &live(Component::Manager, "t", &status));
        assert_eq!(state.failure.unwrap().0, "QuotaExceeded");
    }

    #[test]
    fn those_after_the_one_whose_turn_it_is_keep_their_templates_and_are_still_scaled() {
        let all = [object(Component::Manager, "new", Some(2)), object(Component::Gateway, "new", Some(5))];
        let found = [live(Component::Manager, "old", &well()), live(Component::Gateway, "old", &well())];
        let states = component_states(&all, &found);
        let turn = next_component(&states).map(|state| state.component);
        assert_eq!(turn, Some(Component::Manager));
        let image = |object: &WantedObject| {
            object.body()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
        };
        let mut memory = HeldDeployments::default();
        let mut now = |at: usize, live, turn| memory.object_for_turn(&all[at], live, turn);
        assert_eq!(image(&now(0, Some(&found[0]), turn)), "new");
        let held = now(1, Some(&found[1]), turn);
        assert_eq!(
            (image(&held), held.template_hash.as_deref(), held.replicas),
            (json!("old"), Some("old"), Some(5))
        );
        assert_eq!(image(&now(1, None, turn)), "new", "what is not there yet is made");
        assert_eq!(image(&now(1, Some(&found[1]), None)), "new");
    }

    #[test]
    fn a_reader_is_never_changed() {
        let wanted = object(Component::Reader, "new", Some(1));
        let found = live(Component::Reader, "old", &well());
        let admitted = HeldDeployments::default().object_for_turn(&wanted, Some(&found), None);
        assert_eq!(admitted.template_hash.as_deref(), Some("old"));
    }
}
