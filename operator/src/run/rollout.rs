//! In which order changed pod templates are rolled out, and what stops that. Pure.
//!
//! A component keeps the pods it has until all before it have theirs: up to date, as many as wanted, and answering. So a
//! bad image or a bad setting stops at the first component that cannot run it, and those that face viewers come last.

use serde_json::Value;

use super::kept::Live;
use super::store::Kept;
use crate::build::{Component, Kind, Object, names};

/// How a component stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which.
    pub component: Component,
    /// Pods wanted.
    pub desired: i32,
    /// Pods that answer.
    pub ready: i32,
    /// Pods of the wanted template.
    pub updated: i32,
    /// Whether every pod is there, answers, and is of the wanted template.
    pub rolled: bool,
    /// Whether enough pods answer to serve.
    pub available: bool,
    /// Why it does not get on, in a condition's reason and words.
    pub failed: Option<(&'static str, String)>,
}

/// How all components stand, in the order of roll-out.
pub fn states(objects: &[Object], live: &[std::sync::Arc<Live>]) -> Vec<State> {
    let deployments = objects.iter().filter(|it| it.kind == Kind::Deployment);
    let mut states: Vec<State> = Vec::new();
    for object in deployments {
        let Some(component) = object.component else { continue };
        let found = live.iter().find(|it| it.name() == object.name);
        let state = state_of(component, object, found.map(|it| &**it));
        match states.last_mut().filter(|last| last.component == component) {
            Some(last) => add(last, state),
            None => states.push(state),
        }
    }
    states
}

/// Readers are several Deployments of one component.
fn add(all: &mut State, one: State) {
    all.desired += one.desired;
    all.ready += one.ready;
    all.updated += one.updated;
    all.rolled &= one.rolled;
    all.available |= one.available;
    all.failed = all.failed.take().or(one.failed);
}

fn state_of(component: Component, object: &Object, live: Option<&Live>) -> State {
    let nothing = State {
        component,
        desired: object.body["spec"]["replicas"].as_i64().unwrap_or(1) as i32,
        ready: 0,
        updated: 0,
        rolled: false,
        available: false,
        failed: None,
    };
    let Some(live) = live else { return nothing };
    let body = live.body();
    let count = |name: &str| live.status[name].as_i64().unwrap_or(0) as i32;
    // While an autoscaler has it, what is wanted is what it wrote.
    let desired = object.body["spec"]["replicas"].as_i64().or(body["spec"]["replicas"].as_i64()).unwrap_or(1) as i32;
    let seen = live.status["observedGeneration"].as_i64() >= Some(live.generation);
    let newest = live.mark(names::TEMPLATE_HASH) == object.template_hash();
    let updated = if seen && newest { count("updatedReplicas") } else { 0 };
    let complete = updated == desired && count("replicas") == desired && count("availableReplicas") == desired;
    let available = desired == 0 || is(&live.status, "Available", "True").is_some();
    let failed = newest.then(|| failure(&live.status)).flatten();
    State { desired, ready: count("readyReplicas"), updated, rolled: complete, available, failed, ..nothing }
}

/// Why a Deployment does not get on, as its controller says.
fn failure(status: &Value) -> Option<(&'static str, String)> {
    if let Some(refused) = is(status, "ReplicaFailure", "True") {
        let reason = if refused.contains("exceeded quota") { "QuotaExceeded" } else { "PodsRefused" };
        return Some((reason, refused));
    }
    is(status, "Progressing", "False").map(|said| ("RolloutFailed", said))
}

/// The message of a condition, where it has this status.
fn is(status: &Value, kind: &str, wanted: &str) -> Option<String> {
    let mut conditions = status["conditions"].as_array()?.iter();
    let found = conditions.find(|it| it["type"] == kind && it["status"] == wanted)?;
    Some(found["message"].as_str().unwrap_or_default().to_owned())
}

/// The component whose turn it is: the first that is not rolled. Those after it keep their templates.
pub fn turn(states: &[State]) -> Option<&State> {
    states.iter().find(|state| !state.rolled)
}

/// The Deployment as it is to be applied now: with its own template where its turn has come, else with the one it has.
/// Readers are replaced, never changed.
pub fn admitted(object: &Object, live: Option<&Live>, turn: Option<Component>) -> Object {
    let Some(live) = live.filter(|_| object.kind == Kind::Deployment) else { return object.clone() };
    let changed = live.mark(names::TEMPLATE_HASH) != object.template_hash();
    let early = turn.is_some_and(|turn| object.component.is_some_and(|it| it > turn));
    if changed && (early || object.reader.is_some()) {
        return object.keeping_template(&live.body());
    }
    object.clone()
}
