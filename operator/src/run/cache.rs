//! The watched objects as they are kept in memory: with few fields, because there are thousands. Ownership of
//! `replicas` is remembered before `managedFields` are dropped; the rest of an object that the operator applies is kept
//! as the text that it is compared by.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::core::{DynamicObject, Object};
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::store::{CachedObject, ClusterKey};
use crate::build::names;
use crate::crd::RankingCluster;
use crate::validate::{self, FieldProblem};

/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = names::MANAGED_BY_OPERATOR;
/// The field manager that owns `replicas` during the hand-over to a `HorizontalPodAutoscaler`: see [`super::apply`].
pub const HANDOVER_FIELD_MANAGER: &str = "liverank-operator-handover";

/// Longest kept text of a pod's or a controller's failure, in bytes.
const MAX_TEXT_BYTES: usize = 300;

/// A watched `RankingCluster`.
pub struct CachedCluster {
    key: ClusterKey,
    /// The resource, without fields that no reconcile reads; or the reason why these types cannot parse it.
    pub resource: Result<Arc<RankingCluster>, UnreadableResource>,
    /// The paths of fields that the resource's types do not have, in the parts of the resource that the definition
    /// leaves open.
    pub unknown_fields: Vec<FieldProblem>,
}

/// A resource that the API server accepted and that the operator's types cannot parse, for example one of a later
/// definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableResource {
    /// The resource's uid.
    pub uid: String,
    /// The number of changes of the resource's spec.
    pub generation: i64,
    /// The value of `spec.operatorClass`; `default` if it cannot be read.
    pub class: String,
    /// The reason why the resource cannot be parsed.
    pub why: String,
}

impl CachedCluster {
    /// Makes the cached form of a watched resource. A resource that these types cannot parse is kept with the reason,
    /// because it must not stop the watch of all others.
    pub fn from_watched(mut object: DynamicObject) -> Option<Self> {
        object.metadata.managed_fields = None;
        let key = ClusterKey::new(object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?);
        let class = object.data.pointer("/spec/operatorClass").and_then(Value::as_str).unwrap_or("default");
        let unreadable = UnreadableResource {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            class: class.to_owned(),
            why: String::new(),
        };
        let given = object.data.get("spec").cloned().unwrap_or_default();
        let whole = serde_json::to_value(object).ok()?;
        let resource = serde_path_to_error::deserialize::<_, RankingCluster>(whole)
            .map(Arc::new)
            .map_err(|error| UnreadableResource { why: shorten(&error.to_string()), ..unreadable });
        let read = resource.as_ref().ok().and_then(|cluster| serde_json::to_value(&cluster.spec).ok());
        let unknown_fields = read.map(|read| validate::unknown_fields(&given, &read)).unwrap_or_default();
        Some(Self { key, resource, unknown_fields })
    }
}

impl CachedObject for CachedCluster {
    fn cluster_key(&self) -> &ClusterKey {
        &self.key
    }
    fn name(&self) -> &str {
        &self.key.name
    }
}

/// A watched object that the operator made, or that only has the labels of such an object.
#[derive(Debug)]
pub struct LiveObject {
    key: ClusterKey,
    name: Box<str>,
    /// The object's uid.
    pub uid: Box<str>,
    /// The object's resource version.
    pub resource_version: Box<str>,
    /// The number of changes of the object's spec.
    pub generation: i64,
    /// The time of the object's creation, in milliseconds since 1970.
    pub created: i64,
    /// Whether the deletion of the object has begun.
    pub deleting: bool,
    /// The uid of the object that controls this one.
    pub controller_uid: Option<Box<str>>,
    /// Whether the operator owns the field `spec.replicas`.
    pub owns_replicas: bool,
    /// The value of `spec.replicas`; `None` if the object has no such field.
    pub replicas: Option<i64>,
    /// The `ConfigMap`s that the pods of the object mount; empty if the object is no Deployment.
    pub config_maps: Box<[Box<str>]>,
    /// Whether `managedFields` show that the operator has applied the object.
    applied_by_operator: bool,
    /// The parts of the object's status that are used; `Null` if there are none.
    pub status: Value,
    /// The object's annotations with the operator's own keys.
    own_annotations: Box<[(Box<str>, Box<str>)]>,
    /// The object without status and managed fields, as JSON.
    body: Box<str>,
}

impl LiveObject {
    /// Makes the cached form of a watched object; `None` if the object belongs to no cluster.
    pub fn from_watched(object: DynamicObject) -> Option<Self> {
        let cluster = object.labels().get(names::INSTANCE_LABEL)?;
        let key = ClusterKey::new(object.metadata.namespace.as_deref()?, cluster);
        let name = object.metadata.name.as_deref()?.into();
        let owner = object.owner_references().iter().find(|it| it.controller == Some(true));
        let controller_uid = owner.map(|it| it.uid.as_str().into());
        let owns_replicas = object.managed_fields().iter().any(applies_replicas);
        let applied_by_operator = is_applied_by_operator(object.managed_fields());
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
            resource_version: metadata.resource_version?.into(),
            generation: metadata.generation.unwrap_or(0),
            created,
            deleting: metadata.deletion_timestamp.is_some(),
            controller_uid,
            owns_replicas,
            replicas: data.pointer("/spec/replicas").and_then(Value::as_i64),
            config_maps: mounted_config_maps(&data),
            applied_by_operator,
            status,
            own_annotations: marks,
            body: data.to_string().into(),
        })
    }

    /// Returns the value of an annotation with one of the operator's own keys; `None` if the object does not have it.
    pub fn our_annotation(&self, name: &str) -> Option<&str> {
        self.own_annotations.iter().find(|(mark, _)| **mark == *name).map(|(_, text)| &**text)
    }

    /// Returns whether the operator may write the object for the cluster `uid`. Labels are not enough: anybody who may
    /// create objects can set them.
    pub fn is_writable_for(&self, uid: &str) -> bool {
        is_writable_for(uid, self.controller_uid.as_deref(), self.applied_by_operator)
    }

    /// Returns the object as JSON, without status and managed fields.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.body).expect("was written by us from a value")
    }
}

impl CachedObject for LiveObject {
    fn cluster_key(&self) -> &ClusterKey {
        &self.key
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the `ConfigMap`s that the pod template of an object mounts.
fn mounted_config_maps(object: &Value) -> Box<[Box<str>]> {
    let volumes = object.pointer("/spec/template/spec/volumes").and_then(Value::as_array);
    let names = volumes.into_iter().flatten().filter_map(|volume| volume["configMap"]["name"].as_str());
    names.map(Box::from).collect()
}

fn creation_millis(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond())
}

/// Returns whether an object with the controller `owner` may be written for the cluster `uid`. An object without a
/// controller is taken back if the operator applied it before: somebody removed the reference.
pub fn is_writable_for(uid: &str, owner: Option<&str>, applied_by_operator: bool) -> bool {
    owner.map_or(applied_by_operator, |owner| owner == uid)
}

/// Returns whether the operator has applied the object with these managed fields.
pub fn is_applied_by_operator(managed: &[ManagedFieldsEntry]) -> bool {
    managed.iter().any(is_our_apply)
}

fn is_our_apply(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
}

fn applies_replicas(entry: &ManagedFieldsEntry) -> bool {
    let ours = is_our_apply(entry);
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
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The label with the hash of a pod's template, which Deployments give the pods of each `ReplicaSet`.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

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
pub struct CachedPod {
    key: ClusterKey,
    name: Box<str>,
    /// The value of the pod's component label.
    pub component: Box<str>,
    /// The reader that the pod runs; `None` if it runs another component.
    pub reader: Option<Box<str>>,
    /// The pod's IP address.
    pub ip: Option<Box<str>>,
    /// The node that the pod runs on.
    pub node: Option<Box<str>>,
    /// The zone of the node that the pod runs on, if Kubernetes copies it to pods (from 1.35 on): nodes themselves are
    /// not read.
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
    pub config_maps: Box<[Box<str>]>,
    /// Whether the pod is on a node that has not started its containers yet: it may be waiting for a volume.
    pub starting: bool,
    /// Number of restarts of the pod's container that was restarted most.
    pub restarts: u32,
    /// The time at which one of the pod's containers last ended, in milliseconds since 1970.
    pub last_crash_at: Option<i64>,
    /// The reason why no node accepts the pod.
    pub unschedulable: Option<Box<str>>,
    /// The reason why the pod does not run: a container's reason to wait, or the pod's reason to have failed.
    pub trouble: Option<Box<str>>,
    /// The Deployment that the pod belongs to; `None` if it belongs to none.
    deployment: Option<Box<str>>,
}

impl CachedPod {
    /// Makes the cached form of a watched pod; `None` if the pod belongs to no cluster.
    pub fn from_watched(pod: SlimPod) -> Option<Self> {
        let labels = pod.labels();
        let key = ClusterKey::new(pod.metadata.namespace.as_deref()?, labels.get(names::INSTANCE_LABEL)?);
        let component = labels.get(names::COMPONENT_LABEL)?.as_str().into();
        let reader = labels.get(names::READER_LABEL).map(|name| name.as_str().into());
        let deployment = deployment_of(&pod.metadata).map(Into::into);
        let zone = labels.get(ZONE_LABEL).filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into());
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
            config_maps: pod
                .spec
                .volumes
                .into_iter()
                .filter_map(|it| it.config_map)
                .map(|it| it.name)
                .collect(),
            restarts: status.container_statuses.iter().map(|it| it.restart_count).max().unwrap_or(0),
            last_crash_at: last_crash_millis(&status),
            unschedulable,
            trouble: pod_trouble(&status).map(Into::into),
            deployment,
        })
    }

    /// Returns whether the pod belongs to a Deployment.
    pub fn is_of_deployment(&self, name: &str) -> bool {
        self.deployment.as_deref() == Some(name)
    }
}

/// Returns the name of the Deployment that a pod belongs to, by the `ReplicaSet` that controls the pod: `ReplicaSet`s
/// are not watched, and a Deployment names each by its own name and the hash of the template, which has no hyphen. So
/// the `ReplicaSet` of another Deployment has another name. A person who may create `ReplicaSet`s, or pods with any
/// controller, can get round this check, but has more permissions than a Deployment's author anyway.
fn deployment_of(metadata: &ObjectMeta) -> Option<&str> {
    let hash = metadata.labels.as_ref()?.get(TEMPLATE_HASH_LABEL).filter(|hash| !hash.contains('-'))?;
    let owners = metadata.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true))?;
    let is_replica_set = controller.kind == "ReplicaSet" && controller.api_version == "apps/v1";
    let name = controller.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    (is_replica_set && !hash.is_empty()).then_some(name)
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

impl CachedObject for CachedPod {
    fn cluster_key(&self) -> &ClusterKey {
        &self.key
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the resource version of any object that the API server sent.
pub fn resource_version_of<K: Resource>(object: &K) -> String {
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
            LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap()
        };
        assert!(live(entry(FIELD_MANAGER, "Apply")).owns_replicas);
        assert!(!live(entry(HANDOVER_FIELD_MANAGER, "Apply")).owns_replicas);
        assert!(!live(entry(FIELD_MANAGER, "Update")).owns_replicas);
        let body = live(entry(FIELD_MANAGER, "Apply")).to_value();
        assert_eq!(
            (body["spec"]["replicas"].as_i64(), body["metadata"].get("managedFields")),
            (Some(3), None)
        );
    }

    #[test]
    fn an_object_is_written_by_its_owner_or_by_who_applied_it_and_never_by_its_labels() {
        let live = |owner: Option<&str>, manager: &str, operation: &str| {
            let owners: Vec<Value> = owner
                .map(|uid| json!({"apiVersion": "v1", "kind": "K", "name": "k", "uid": uid, "controller": true}))
                .into_iter()
                .collect();
            let object = json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "x-gateway", "namespace": "ns", "uid": "u", "resourceVersion": "1",
                    "labels": {names::INSTANCE_LABEL: "x"}, "ownerReferences": owners,
                    "managedFields": [{"manager": manager, "operation": operation, "fieldsType": "FieldsV1",
                        "apiVersion": "v1", "fieldsV1": {"f:spec": {}}}]}});
            LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap()
        };
        let cases = [
            (Some("mine"), FIELD_MANAGER, "Apply", true),
            (Some("mine"), "kubectl", "Apply", true),
            (Some("other"), FIELD_MANAGER, "Apply", false),
            (None, FIELD_MANAGER, "Apply", true),
            (None, FIELD_MANAGER, "Update", false),
            (None, "kubectl-client-side-apply", "Update", false),
            (None, "helm", "Apply", false),
        ];
        for (owner, manager, operation, writable) in cases {
            let live = live(owner, manager, operation);
            assert_eq!(live.is_writable_for("mine"), writable, "{owner:?} {manager} {operation}");
        }
    }

    #[test]
    fn a_pod_belongs_to_the_deployment_of_its_replica_set() {
        let of = |kind: &str, owner: &str, hash: &str, controller: bool| {
            let object = json!({"spec": {}, "metadata": {"name": "p", "namespace": "ns",
                "labels": {names::INSTANCE_LABEL: "x", names::COMPONENT_LABEL: "manager", TEMPLATE_HASH_LABEL: hash},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u",
                    "controller": controller}]}});
            let pod = CachedPod::from_watched(serde_json::from_value(object).unwrap()).unwrap();
            pod.is_of_deployment("x-manager")
        };
        assert!(of("ReplicaSet", "x-manager-abc12", "abc12", true));
        assert!(!of("ReplicaSet", "x-manager-abc12", "abc12", false), "it does not control the pod");
        assert!(!of("ReplicaSet", "x-manager-abc12", "other", true), "the label is not that of the name");
        assert!(!of("ReplicaSet", "mine-abc12", "abc12", true), "another Deployment");
        assert!(!of("ReplicaSet", "x-manager-more-abc12", "more-abc12", true));
        assert!(!of("Job", "x-manager-abc12", "abc12", true));
        let bare = json!({"spec": {}, "metadata": {"name": "p", "namespace": "ns", "labels": {
            names::INSTANCE_LABEL: "x", names::COMPONENT_LABEL: "manager", TEMPLATE_HASH_LABEL: "abc12"}}});
        let bare = CachedPod::from_watched(serde_json::from_value(bare).unwrap()).unwrap();
        assert!(!bare.is_of_deployment("x-manager"), "labels alone");
    }

    #[test]
    fn a_pod_tells_where_it_is_and_what_is_wrong_with_it() {
        let pod = |status: Value| {
            let object = json!({"metadata": {"name": "p", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {names::INSTANCE_LABEL: "x", names::COMPONENT_LABEL: "reader", names::READER_LABEL: "x-reader-0", ZONE_LABEL: "b"}},
                "spec": {"nodeName": "node1", "containers": []}, "status": status});
            CachedPod::from_watched(serde_json::from_value(object).unwrap()).unwrap()
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
        assert_eq!(crashed.last_crash_at, Some(crashed.created + 5_000));
    }

    #[test]
    fn a_resource_that_cannot_be_read_is_kept_with_the_reason() {
        let cluster = |image: Value| {
            let object = json!({"apiVersion": "liverank.dev/v1alpha1", "kind": "RankingCluster",
                "metadata": {"name": "x", "namespace": "ns", "uid": "u", "generation": 4},
                "spec": {"operatorClass": "blue", "image": image, "kafka": {"bootstrapServers": "k:1"},
                    "redis": {"urlSecret": {"name": "a", "key": "b"}}, "mongodb": {"uriSecret": {"name": "a", "key": "b"}},
                    "auth": {"internalTokenSecret": {"name": "a", "key": "b"}}}});
            CachedCluster::from_watched(serde_json::from_value(object).unwrap()).unwrap()
        };
        assert!(cluster("i:1".into()).resource.is_ok());
        let unreadable = cluster(7.into()).resource.unwrap_err();
        assert_eq!((&*unreadable.uid, unreadable.generation, &*unreadable.class), ("u", 4, "blue"));
        assert!(unreadable.why.contains("spec.image: invalid type"), "{}", unreadable.why);
    }
}
