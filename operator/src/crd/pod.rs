//! The user's settings for pods. The types are Kubernetes' own; their schemas are included without their descriptions.
//!
//! The settings are merged with the operator's own: a name that the operator uses cannot be taken, and privileges
//! beyond the author's own need the permission of the operator's [policy](crate::policy).

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

/// Settings of a component's pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSettings {
    /// The resources that the container requests and its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// The taints of nodes that these pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// The nodes and neighbouring pods that these pods prefer or need.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub affinity: Option<Affinity>,
    /// The spread constraints. Absent: over hosts (maxSkew 1, ScheduleAnyway), zones preferred; an empty list: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::topology_spread")]
    pub topology_spread: Option<Vec<TopologySpreadConstraint>>,
    /// Annotations of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the pods, in addition to the operator's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// The pods' priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// The runtime class of the containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub runtime_class_name: Option<String>,
    /// The scheduler of the pods; Kubernetes' own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
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
    /// The pods' privileges. Each field that is given replaces the operator's; see also `spec.podUser`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_security")]
    pub security_context: Option<PodSecurityContext>,
    /// The privileges of liverank's own container. Each field that is given replaces the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::container_security")]
    pub container_security_context: Option<SecurityContext>,
    /// The log level, from error to trace, or a filter such as `info,liverank_reader=debug`; `info` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[a-zA-Z0-9_:=,.\[\]{}-]+$"))]
    pub log_level: Option<String>,
    /// More flags of `liverank <component>`, such as `--max-connections=20000`. Flags that the operator writes cannot
    /// be given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024), regex(pattern = "^--[a-z][a-z0-9-]*(=.*)?$")))]
    pub extra_args: Vec<String>,
    /// Times of the check that it has started: periodSeconds (1), timeoutSeconds (5), failureThreshold (120).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe_times")]
    pub startup_probe: Option<ProbeTimes>,
    /// Times of the check that it is ready: 5, 3 and 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe_times")]
    pub readiness_probe: Option<ProbeTimes>,
    /// Times of the check that restarts it if it fails: 10, 5 and 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::probe_times")]
    pub liveness_probe: Option<ProbeTimes>,
    /// More environment variables of liverank's own container. liverank's settings are not given here: see `extraArgs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::own_env")]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose keys all become variables of liverank's own container.
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
    /// The mounts of these volumes in liverank's own container.
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
    /// Containers beside liverank's own. They start before it and end after it, as a proxy has to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub sidecars: Vec<ExtraContainer>,
}

/// The times of a probe, as Kubernetes names them; those that are absent are the operator's, as is what a probe asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeTimes {
    /// Seconds from one check to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<i32>,
    /// Seconds that a check may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Number of checks that fail one after the other before the probe fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<i32>,
}

/// A volume: a name, and one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraVolume {
    /// The volume's name, by which it is mounted.
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
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
    /// A PersistentVolumeClaim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::foreign::<PersistentVolumeClaimVolumeSource>")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    /// A volume of a CSI driver, such as secrets of a vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub csi: Option<CSIVolumeSource>,
    /// A folder or file of the node; only if the operator's policy has `podSecurity: privileged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::foreign::<HostPathVolumeSource>")]
    pub host_path: Option<HostPathVolumeSource>,
}

impl ExtraVolume {
    /// Returns the number of sources that are set; a valid volume has exactly one.
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
    /// The container's name.
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The container's image; the operator's policy has to permit it.
    #[schemars(length(max = 512), regex(pattern = r"^\S+$"))]
    pub image: String,
    /// When nodes pull the image: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// The command, in place of the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub command: Vec<String>,
    /// The arguments of the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub args: Vec<String>,
    /// The container's variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub env: Vec<EnvVar>,
    /// ConfigMaps and Secrets whose keys all become the container's variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub env_from: Vec<EnvFromSource>,
    /// The container's ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub ports: Vec<ContainerPort>,
    /// The mounts of volumes in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::opaque_list")]
    pub volume_mounts: Vec<VolumeMount>,
    /// The resources that the container requests and its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub resources: Option<ResourceRequirements>,
    /// The check that it has started; later containers wait for it. Sidecars only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub startup_probe: Option<Probe>,
    /// The check that it is ready; a pod is ready if all containers are. Sidecars only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub readiness_probe: Option<Probe>,
    /// The check that restarts it if it fails. Sidecars only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub liveness_probe: Option<Probe>,
    /// The container's privileges. Each field that is given replaces the operator's, which permits no privilege
    /// escalation and no capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub security_context: Option<SecurityContext>,
}

/// The user ids that pods run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodUser {
    /// The user id of the image: 65532.
    Image,
    /// The user id that the platform gives each namespace, as OpenShift does.
    Platform,
}
