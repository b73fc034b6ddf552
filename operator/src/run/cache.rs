//! The watched objects as they are kept: with few fields, because there are thousands. Ownership of `replicas` is
//! remembered before `managedFields` are dropped; the rest of an object that the operator applies is kept as the text
//! that it is compared by.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::core::{DynamicObject, Object};
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::store::{CachedObject, Key};
use crate::build::names;
use crate::crd::RankingCluster;
use crate::validate::{self, FieldProblem};

/// The field manager of everything that the operator applies.
pub const MANAGER: &str = names::MANAGED_BY_OPERATOR;
/// The field manager that owns `replicas` during the hand-over to a `HorizontalPodAutoscaler`: see [`super::apply`].
pub const HANDOVER: &str = "liverank-operator-handover";

/// Longest text of a pod's or a controller's trouble that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 300;

/// A watched `RankingCluster`.
pub struct Cluster {
    key: Key,
    /// The resource, without fields that no reconcile reads; or the reason why these types cannot parse it.
    pub resource: Result<Arc<RankingCluster>, Unreadable>,
    /// Fields that these types do not have, in the parts of the resource that the definition leaves open.
    pub unknown: Vec<FieldProblem>,
}

/// A resource that the API server accepted and these types cannot parse, for example one of a later definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The resource's uid.
    pub uid: String,
    /// The number of changes of the resource's spec.
    pub generation: i64,
    /// The value of `spec.operatorClass`; `default` if it cannot be read.
    pub class: String,
    /// The reason why the resource cannot be parsed.
    pub why: String,
}

impl Cluster {
    /// Makes the kept form of a resource. A resource that these types cannot parse is kept with the reason, because it
    /// must not stop the watch of all others.
    pub fn from_watched(mut object: DynamicObject) -> Option<Self> {
        object.metadata.managed_fields = None;
        let key = Key::new(object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?);
        let class = object.data.pointer("/spec/operatorClass").and_then(Value::as_str).unwrap_or("default");
        let unreadable = Unreadable {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            class: class.to_owned(),
            why: String::new(),
        };
        let given = object.data.get("spec").cloned().unwrap_or_default();
        let whole = serde_json::to_value(object).ok()?;
        let resource = serde_path_to_error::deserialize::<_, RankingCluster>(whole)
            .map(Arc::new)
            .map_err(|error| Unreadable { why: shorten(&error.to_string()), ..unreadable });
        let read = resource.as_ref().ok().and_then(|cluster| serde_json::to_value(&cluster.spec).ok());
        let unknown = read.map(|read| validate::unknown_fields(&given, &read)).unwrap_or_default();
        Some(Self { key, resource, unknown })
    }
}

impl CachedObject for Cluster {
    fn cluster_key(&self) -> &Key {
        &self.key
    }
    fn name(&self) -> &str {
        &self.key.name
    }
}

/// A watched object that the operator made, or might have made.
#[derive(Debug)]
pub struct Live {
    key: Key,
    name: Box<str>,
    /// The object's uid.
    pub uid: Box<str>,
    /// The object's resource version.
    pub version: Box<str>,
    /// The number of changes of the object's spec.
    pub generation: i64,
    /// The time of the object's creation, in milliseconds since 1970.
    pub created: i64,
    /// Whether the deletion of the object has begun.
    pub deleting: bool,
    /// The uid of the object that controls this one.
    pub owner: Option<Box<str>>,
    /// Whether the operator owns the field `spec.replicas`.
    pub owns_replicas: bool,
    /// The parts of the object's status that are used; `Null` if there are none.
    pub status: Value,
    /// The object's annotations with the operator's own keys.
    own_annotations: Box<[(Box<str>, Box<str>)]>,
    /// The object without status and managed fields, as JSON.
    body: Box<str>,
}

impl Live {
    /// Makes the kept form of an object; `None` if it belongs to no cluster.
    pub fn from_watched(object: DynamicObject) -> Option<Self> {
        let cluster = object.labels().get(names::INSTANCE_LABEL)?;
        let key = Key::new(object.metadata.namespace.as_deref()?, cluster);
        let name = object.metadata.name.as_deref()?.into();
        let owner = object.owner_references().iter().find(|it| it.controller == Some(true));
        let owner = owner.map(|it| it.uid.as_str().into());
        let owns_replicas = object.managed_fields().iter().any(applies_replicas);
        let created = creation_millis(&object.metadata);
        let marks = object.annotations().iter().filter(|(name, _)| name.starts_with(names::OUR_PREFIX));
        let marks = marks.map(|(name, text)| (name.as_str().into(), text.as_str().into())).collect();
        let DynamicObject { metadata, mut data, .. } = object;
        let status =
            data.get_mut("status").map(Value::take).map_or(Value::Null, |status| prune_status(&status));
        if let Some(fields) = data.as_object_mut() {
            fields.remove("status");
            let kept = json!({
                "name": metadata.name, "namespace": metadata.namespace, "labels": metadata.labels,
                "annotations": metadata.annotations, "ownerReferences": metadata.owner_references,
            });
            fields.insert("metadata".into(), kept);
        }
        Some(Self {
            key,
            name,
            uid: metadata.uid?.into(),
            version: metadata.resource_version?.into(),
            generation: metadata.generation.unwrap_or(0),
            created,
            deleting: metadata.deletion_timestamp.is_some(),
            owner,
            owns_replicas,
            status,
            own_annotations: marks,
            body: data.to_string().into(),
        })
    }

    /// Returns the value of an annotation with one of the operator's own keys; `None` if the object does not have it.
    pub fn our_annotation(&self, name: &str) -> Option<&str> {
        self.own_annotations.iter().find(|(mark, _)| **mark == *name).map(|(_, text)| &**text)
    }

    /// Returns the object as JSON, without status and managed fields.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.body).expect("was written by us from a value")
    }
}

impl CachedObject for Live {
    fn cluster_key(&self) -> &Key {
        &self.key
    }
    fn name(&self) -> &str {
        &self.name
    }
}

fn creation_millis(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond())
}

fn applies_replicas(entry: &ManagedFieldsEntry) -> bool {
    let ours = entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply");
    let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
    ours && fields.is_some_and(|spec| spec.get("f:replicas").is_some())
}

/// Returns the parts of a status by which a roll-out is judged; conditions without their times, which change without
/// meaning.
fn prune_status(status: &Value) -> Value {
    const STATUS_COUNTS: [&str; 6] = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "currentReplicas",
    ];
    let mut kept = serde_json::Map::new();
    for name in STATUS_COUNTS {
        if let Some(count) = status.get(name) {
            kept.insert(name.into(), count.clone());
        }
    }
    let conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let short = |condition: &Value| {
        let text = condition["message"].as_str().unwrap_or_default();
        json!({
            "type": condition["type"], "status": condition["status"], "reason": condition["reason"],
            "message": shorten(text),
        })
    };
    let conditions: Vec<Value> = conditions.map(short).collect();
    if !conditions.is_empty() {
        kept.insert("conditions".into(), conditions.into());
    }
    // A route has conditions for each Gateway that it is attached to.
    let parents = status.get("parents").and_then(Value::as_array).into_iter().flatten();
    let parents: Vec<Value> =
        parents.flat_map(|parent| parent["conditions"].as_array().into_iter().flatten()).map(short).collect();
    if !parents.is_empty() {
        kept.insert("parents".into(), parents.into());
    }
    if kept.is_empty() { Value::Null } else { Value::Object(kept) }
}

fn shorten(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TEXT_BYTES)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}

/// The label with the zone of a node, and of pods that the API server bound to it.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A pod with only the fields that are read.
pub type SlimPod = Object<SlimSpec, SlimStatus>;

/// The fields of a pod's spec that are read; see [`SlimPod`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimSpec {
    node_name: Option<Box<str>>,
    volumes: Vec<SlimVolume>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimVolume {
    config_map: Option<SlimName>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SlimName {
    name: Box<str>,
}

/// The fields of a pod's status that are read; see [`SlimPod`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    reason: Option<String>,
    conditions: Vec<SlimCondition>,
    container_statuses: Vec<SlimContainer>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    last_transition_time: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimContainer {
    restart_count: u32,
    state: SlimState,
    last_state: SlimState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimState {
    waiting: Option<SlimWaiting>,
    terminated: Option<SlimTerminated>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimTerminated {
    finished_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimWaiting {
    reason: Option<String>,
    message: Option<String>,
}

/// A watched pod of a cluster.
#[derive(Debug)]
pub struct Pod {
    key: Key,
    name: Box<str>,
    /// The value of the pod's component label.
    pub component: Box<str>,
    /// The reader that the pod runs; `None` if it runs another component.
    pub reader: Option<Box<str>>,
    /// The pod's IP address.
    pub ip: Option<Box<str>>,
    /// The node that the pod runs on.
    pub node: Option<Box<str>>,
    /// The zone of that node, if Kubernetes copies it to pods (from 1.35 on): nodes themselves are not read.
    pub zone: Option<Box<str>>,
    /// The time of the pod's creation, in milliseconds since 1970.
    pub created: i64,
    /// Whether the pod is ready.
    pub ready: bool,
    /// The time since which the pod has been ready or not, in milliseconds since 1970.
    pub ready_changed_at: i64,
    /// Whether the deletion of the pod has begun.
    pub terminating: bool,
    /// The time by which the pod should have ended, in milliseconds since 1970; `None` if its deletion has not begun.
    pub termination_due: Option<i64>,
    /// The pod's uid.
    pub uid: Box<str>,
    /// The `ConfigMap`s that the pod mounts.
    pub configs: Box<[Box<str>]>,
    /// Whether the pod is on a node that has not started its containers yet: it may be waiting for a volume.
    pub starting: bool,
    /// Number of restarts of the pod's container that was restarted most.
    pub restarts: u32,
    /// The time at which one of the pod's containers last ended, in milliseconds since 1970.
    pub crashed: Option<i64>,
    /// The reason why no node accepts the pod.
    pub unschedulable: Option<Box<str>>,
    /// The reason why the pod does not run: a container's reason to wait, or the pod's reason to have failed.
    pub trouble: Option<Box<str>>,
}

impl Pod {
    /// Makes the kept form of a pod; `None` if it belongs to no cluster.
    pub fn from_watched(pod: SlimPod) -> Option<Self> {
        let labels = pod.labels();
        let key = Key::new(pod.metadata.namespace.as_deref()?, labels.get(names::INSTANCE_LABEL)?);
        let component = labels.get(names::COMPONENT_LABEL)?.as_str().into();
        let reader = labels.get(names::READER_LABEL).map(|name| name.as_str().into());
        let zone = labels.get(ZONE).filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into());
        let created = creation_millis(&pod.metadata);
        let status = pod.status.unwrap_or_default();
        let condition = |kind: &str| status.conditions.iter().find(|it| it.kind == kind);
        let ready = condition("Ready");
        let since =
            ready.and_then(|it| it.last_transition_time).map_or(created, jiff::Timestamp::as_millisecond);
        let unplaced = condition("PodScheduled")
            .filter(|it| it.status == "False" && it.reason.as_deref() == Some("Unschedulable"));
        let unschedulable =
            unplaced.map(|it| shorten(it.message.as_deref().unwrap_or("Unschedulable")).into());
        let starting = pod.spec.node_name.is_some() && is_starting(&status);
        Some(Self {
            key,
            name: pod.metadata.name.as_deref()?.into(),
            component,
            reader,
            ip: status.pod_ip.clone(),
            node: pod.spec.node_name,
            zone,
            created,
            ready: ready.is_some_and(|it| it.status == "True"),
            ready_changed_at: since,
            terminating: pod.metadata.deletion_timestamp.is_some(),
            termination_due: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0.as_millisecond()),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            starting,
            configs: pod.spec.volumes.into_iter().filter_map(|it| it.config_map).map(|it| it.name).collect(),
            restarts: status.container_statuses.iter().map(|it| it.restart_count).max().unwrap_or(0),
            crashed: last_crash_millis(&status),
            unschedulable,
            trouble: pod_trouble(&status).map(Into::into),
        })
    }
}

/// Waiting reasons that every pod has while it starts; they are no trouble.
const STARTING_REASONS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

fn is_starting(status: &SlimStatus) -> bool {
    let waits = |it: &SlimContainer| {
        let reason = it.state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
        reason.is_some_and(|reason| STARTING_REASONS.contains(&reason))
    };
    status.reason.is_none() && status.container_statuses.iter().all(waits)
}

fn last_crash_millis(status: &SlimStatus) -> Option<i64> {
    let all = status.container_statuses.iter().flat_map(|it| [&it.state, &it.last_state]);
    let ends = all.filter_map(|state| state.terminated.as_ref()?.finished_at);
    ends.map(jiff::Timestamp::as_millisecond).max()
}

fn pod_trouble(status: &SlimStatus) -> Option<String> {
    let waiting = status.container_statuses.iter().filter_map(|it| it.state.waiting.as_ref());
    let told = waiting.filter_map(|it| Some((it.reason.as_deref()?, it.message.as_deref())));
    let mut told = told.filter(|(reason, _)| !STARTING_REASONS.contains(reason));
    match told.next() {
        // The message of a crash counts seconds: only the reason stays the same from one look to the next.
        Some((reason @ "CrashLoopBackOff", _)) => Some(reason.to_owned()),
        Some((reason, message)) => Some(shorten(&format!("{reason}: {}", message.unwrap_or_default()))),
        None => status.reason.clone(),
    }
}

impl CachedObject for Pod {
    fn cluster_key(&self) -> &Key {
        &self.key
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the resource version of any object that the API server sent.
pub fn version_of<K: Resource>(object: &K) -> String {
    object.meta().resource_version.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_replicas_are_is_remembered_before_that_goes() {
        let entry = |manager: &str, operation: &str| {
            json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:replicas": {}}}})
        };
        let live = |entry: Value| {
            let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3},
                "metadata": {"name": "d", "namespace": "ns", "uid": "u", "resourceVersion": "1",
                    "labels": {names::INSTANCE_LABEL: "x"}, "managedFields": [entry]}});
            Live::from_watched(serde_json::from_value(object).unwrap()).unwrap()
        };
        assert!(live(entry(MANAGER, "Apply")).owns_replicas);
        assert!(!live(entry(HANDOVER, "Apply")).owns_replicas);
        assert!(!live(entry(MANAGER, "Update")).owns_replicas);
        let body = live(entry(MANAGER, "Apply")).to_value();
        assert_eq!(
            (body["spec"]["replicas"].as_i64(), body["metadata"].get("managedFields")),
            (Some(3), None)
        );
    }

    #[test]
    fn a_pod_tells_where_it_is_and_what_is_wrong_with_it() {
        let pod = |status: Value| {
            let object = json!({"metadata": {"name": "p", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {names::INSTANCE_LABEL: "x", names::COMPONENT_LABEL: "reader", names::READER_LABEL: "x-reader-0", ZONE: "b"}},
                "spec": {"nodeName": "node1", "containers": []}, "status": status});
            Pod::from_watched(serde_json::from_value(object).unwrap()).unwrap()
        };
        let ready = pod(json!({"podIP": "10.0.0.1", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"}]}));
        assert!(ready.ready && ready.ready_changed_at == ready.created + 9_000);
        assert_eq!((ready.ip.as_deref(), ready.node.as_deref()), (Some("10.0.0.1"), Some("node1")));
        assert_eq!(ready.zone.as_deref(), Some("b"));
        let nowhere = pod(json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}]}));
        assert_eq!(nowhere.unschedulable.as_deref(), Some("0/2 nodes"));
        let waiting = |reason: &str, message: &str| {
            let state = json!({"waiting": {"reason": reason, "message": message}});
            pod(json!({"containerStatuses": [{"state": state}]})).trouble
        };
        assert_eq!(waiting("ContainerCreating", ""), None);
        assert_eq!(waiting("CrashLoopBackOff", "back-off 40s").as_deref(), Some("CrashLoopBackOff"));
        assert_eq!(waiting("ErrImagePull", "no such image").as_deref(), Some("ErrImagePull: no such image"));
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        assert!(pod(json!({"containerStatuses": [{"state": creating}]})).starting);
        let crashed = pod(json!({"containerStatuses": [{"restartCount": 3, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:05Z"}}}]}));
        assert!(!crashed.starting && crashed.restarts == 3);
        assert_eq!(crashed.crashed, Some(crashed.created + 5_000));
    }

    #[test]
    fn a_resource_that_cannot_be_read_is_kept_with_the_reason() {
        let cluster = |image: Value| {
            let object = json!({"apiVersion": "liverank.dev/v1alpha1", "kind": "RankingCluster",
                "metadata": {"name": "x", "namespace": "ns", "uid": "u", "generation": 4},
                "spec": {"operatorClass": "blue", "image": image, "kafka": {"bootstrapServers": "k:1"},
                    "redis": {"urlSecret": {"name": "a", "key": "b"}}, "mongodb": {"uriSecret": {"name": "a", "key": "b"}},
                    "auth": {"internalTokenSecret": {"name": "a", "key": "b"}}}});
            Cluster::from_watched(serde_json::from_value(object).unwrap()).unwrap()
        };
        assert!(cluster("i:1".into()).resource.is_ok());
        let unreadable = cluster(7.into()).resource.unwrap_err();
        assert_eq!((&*unreadable.uid, unreadable.generation, &*unreadable.class), ("u", 4, "blue"));
        assert!(unreadable.why.contains("spec.image: invalid type"), "{}", unreadable.why);
    }
}
