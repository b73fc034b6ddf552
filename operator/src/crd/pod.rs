//! What a user may say about pods. The types are Kubernetes' own; their schemas go in without their descriptions.
//!
//! What is said here is merged with what the operator writes: a name of ours cannot be taken, and what would make the
//! author more than they are is for the operator's [policy](crate::policy) to permit.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, CSIVolumeSource, ConfigMapVolumeSource, ContainerPort, EmptyDirVolumeSource, EnvFromSource,
    EnvVar, HostAlias, HostPathVolumeSource, PersistentVolumeClaimVolumeSource, PodSecurityContext, Probe,
    ProjectedVolumeSource, ResourceRequirements, SecretVolumeSource, SecurityContext, Toleration,
    TopologySpreadConstraint, VolumeMount,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ImagePullPolicy, PullSecret, schema};

/// Where and how the pods of a component run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSettings {
    /// What the container asks for and what it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep these pods away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Which nodes and which neighbours these pods want.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub affinity: Option<Affinity>,
    /// How pods spread. Absent: over hosts and zones, maxSkew 1, ScheduleAnyway; an empty list: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::topology_spread")]
    pub topology_spread: Option<Vec<TopologySpreadConstraint>>,
    /// Annotations of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the pods, beside our own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// The pods' priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// The runtime class: what the containers run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub runtime_class_name: Option<String>,
    /// Who chooses the nodes; Kubernetes' own scheduler when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub scheduler_name: Option<String>,
    /// Secrets in this namespace to pull these pods' images with, beside `spec.imagePullSecrets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub image_pull_secrets: Vec<PullSecret>,
    /// Lines of the pods' `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::host_aliases")]
    pub host_aliases: Vec<HostAlias>,
    /// What the pods may do. Each field that is given takes the place of ours; see also `spec.podUser`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_security")]
    pub security_context: Option<PodSecurityContext>,
    /// What liverank's own container may do. Each field that is given takes the place of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::container_security")]
    pub container_security_context: Option<SecurityContext>,
    /// What is logged: a least level (error, warn, info, debug, trace), or a filter such as
    /// `info,liverank_reader=debug`; `info` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9_:=,.\[\]{}-]+$"))]
    pub log_level: Option<String>,
    /// More flags of `liverank <component>`, such as `--max-connections=20000`. Those that the operator writes are not
    /// among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024), regex(pattern = "^--[a-z][a-z0-9-]*(=.*)?$")))]
    pub extra_args: Vec<String>,
    /// More variables of liverank's own container. Settings of liverank are no variables here: see `extraArgs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::own_env")]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets of which all keys become variables of liverank's own container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::env_from")]
    pub env_from: Vec<EnvFromSource>,
    /// More volumes of the pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub volumes: Vec<ExtraVolume>,
    /// Where liverank's own container has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::own_mounts")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Containers that run to their end, one after the other, before anything else starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub init_containers: Vec<ExtraContainer>,
    /// Containers beside liverank's own. They start before it and end after it, so that a proxy is there for as long as
    /// viewers are handed over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub sidecars: Vec<ExtraContainer>,
}

/// A volume: a name, and one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraVolume {
    /// Its name, to mount it by.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::foreign::<ConfigMapVolumeSource>")]
    pub config_map: Option<ConfigMapVolumeSource>,
    /// A Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::foreign::<SecretVolumeSource>")]
    pub secret: Option<SecretVolumeSource>,
    /// An empty folder that ends with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::foreign::<EmptyDirVolumeSource>")]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    /// Several sources in one folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub projected: Option<ProjectedVolumeSource>,
    /// A claim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::foreign::<PersistentVolumeClaimVolumeSource>")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    /// What a CSI driver makes for the pod, such as secrets of a vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub csi: Option<CSIVolumeSource>,
    /// A folder or file of the node; only where the operator's policy has `podSecurity: privileged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::foreign::<HostPathVolumeSource>")]
    pub host_path: Option<HostPathVolumeSource>,
}

impl ExtraVolume {
    /// How many sources it has; one is right.
    pub fn source_count(&self) -> usize {
        [
            self.config_map.is_some(),
            self.secret.is_some(),
            self.empty_dir.is_some(),
            self.projected.is_some(),
            self.persistent_volume_claim.is_some(),
            self.csi.is_some(),
            self.host_path.is_some(),
        ]
        .into_iter()
        .filter(|is_set| *is_set)
        .count()
    }
}

/// A container beside liverank's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraContainer {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Its image; the operator's policy says which are permitted.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: String,
    /// When nodes pull the image: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// What runs, in place of the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub command: Vec<String>,
    /// With which arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub args: Vec<String>,
    /// Its variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets of which all keys become its variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub env_from: Vec<EnvFromSource>,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub ports: Vec<ContainerPort>,
    /// Where it has which volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub volume_mounts: Vec<VolumeMount>,
    /// What it asks for and what it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub resources: Option<ResourceRequirements>,
    /// Whether it has started; what comes after it waits for that. Sidecars only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub startup_probe: Option<Probe>,
    /// Whether it is ready; the pod is when all its containers are. Sidecars only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub readiness_probe: Option<Probe>,
    /// Whether it has to be restarted. Sidecars only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub liveness_probe: Option<Probe>,
    /// What it may do. Each field that is given takes the place of what the operator writes: no more privileges, no
    /// capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub security_context: Option<SecurityContext>,
}

/// Whose user ids pods run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodUser {
    /// The image's: 65532.
    Image,
    /// The one that the platform gives each namespace, as OpenShift does.
    Platform,
}
