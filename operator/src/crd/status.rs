//! The status of a `RankingCluster`, which the operator writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// The operator's report. Written on change; changes of viewers alone at most once in 15 s.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RankingClusterStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions Ready, Reconciling, Degraded, Contested, Autoscaling, UpdatePending, Stalled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The revision of the operator's builder that the workloads were built with; it changes only with the spec, so
    /// that a new operator restarts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub builder_revision: Option<String>,
    /// The latest time in `restartAt` at which a restart was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub restarted_at: Option<Time>,
    /// The operator that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorStatus>,
    /// The components and their numbers of pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub components: Vec<ComponentStatus>,
    /// The readers and their viewers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<ReadersStatus>,
    /// The last decision about readers, and its reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// The last 50 decisions in short, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub history: Vec<PastDecision>,
    /// Plans that wait to be approved (`kubectl liverank approve`), one of each subject at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["subject"])
    )]
    pub proposals: Vec<WaitingPlan>,
}

/// A decision about readers, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PastDecision {
    /// The decision's name.
    #[schemars(length(max = 63))]
    pub id: String,
    /// The time of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub time: Option<Time>,
    /// The action that was decided.
    #[schemars(length(max = 63))]
    pub action: String,
    /// The reason, in words.
    #[schemars(length(max = 256))]
    pub reason: String,
}

/// A plan that waits to be approved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingPlan {
    /// The subject of the plan: `Scaling` or `Rebalance`.
    #[schemars(length(min = 1, max = 63))]
    pub subject: String,
    /// The plan's name, by which it is approved.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub id: String,
    /// The time at which the plan was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub time: Option<Time>,
    /// The time at which the plan expires; it is withdrawn earlier if its inputs change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub expires: Option<Time>,
    /// The plan's actions and their reason.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub summary: String,
    /// The plan's cost: the number of viewers who change readers.
    #[serde(default)]
    pub viewers_moved: i64,
    /// The effect of the plan.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub effect: String,
    /// The plan's steps, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub steps: Vec<String>,
    /// A hash of the plan's inputs.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub inputs_hash: String,
}

impl RankingClusterStatus {
    /// The number of decisions that the status remembers.
    pub const MAX_HISTORY: usize = 50;
}

/// The operator that wrote the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperatorStatus {
    /// The name of the operator's pod.
    #[schemars(length(max = 253))]
    pub identity: String,
    /// The operator's version.
    #[schemars(length(max = 63))]
    pub version: String,
}

/// A component and its numbers of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// The component's name, such as `gateway`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Number of pods wanted.
    #[serde(default)]
    pub desired: i32,
    /// Number of pods that are ready.
    #[serde(default)]
    pub ready: i32,
    /// Number of pods of the newest template.
    #[serde(default)]
    pub updated: i32,
}

/// The readers and their viewers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadersStatus {
    /// Number of readers that are not being emptied; the scale subresource shows it.
    pub replicas: i32,
    /// The label selector of readers' pods.
    #[schemars(length(max = 512))]
    pub selector: String,
    /// Number of readers wanted.
    pub desired: i32,
    /// A value of `spec.readers.replicas` that is ignored, because it was set before `scaling.mode` was Auto. Any other
    /// value is followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unheeded_replicas: Option<i32>,
    /// Number of readers that are ready.
    pub ready: i32,
    /// Number of readers that are being emptied.
    pub draining: i32,
    /// Viewers connected, to two significant digits; absent while the load is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub viewers: Option<i64>,
    /// How far the fullest reader is above the mean, in percent, to two significant digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imbalance_percent: Option<i32>,
    /// The zones of readers that know theirs, at most 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub zones: Vec<ZoneStatus>,
    /// The time of the last known load.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub load_as_of: Option<Time>,
}

/// The readers of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneStatus {
    /// The zone.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Number of readers.
    #[serde(default)]
    pub readers: i32,
    /// Their viewers, to two significant digits.
    #[serde(default)]
    pub viewers: i64,
    /// Those of them by gateways of other zones, to two significant digits.
    #[serde(default)]
    pub other_zone_viewers: i64,
}

/// The last decision about readers, and its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LastDecision {
    /// The decision's name; the event about it has the same name.
    #[schemars(length(max = 63))]
    pub id: String,
    /// The time of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub time: Option<Time>,
    /// The action: such as `ScaleUp`, `ScaleDown`, `Hold`, `Upgrade`, `Rebalance`, `None`.
    #[schemars(length(max = 63))]
    pub action: String,
    /// The reason, in words.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// The numbers that the decision is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<DecisionInputs>,
    /// The limits that restricted the decision, the tightest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub bound_by: Vec<String>,
    /// The choices that were made, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub chosen: Vec<String>,
    /// The choices that were rejected, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub rejected: Vec<String>,
    /// A hash of all inputs: the same inputs give the same decision.
    #[schemars(length(max = 64))]
    pub inputs_hash: String,
}

/// The numbers that a decision is based on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionInputs {
    /// Number of readers, without those that are being emptied.
    pub readers: i32,
    /// Number of these readers that had reported recently enough.
    pub fresh: i32,
    /// Number of readers that are being emptied.
    pub draining: i32,
    /// Viewers reported, to two significant digits.
    pub viewers: i64,
    /// Viewers expected at the time at which a new reader would be ready, to two significant digits.
    pub expected_viewers: i64,
    /// Number of readers needed for the viewers alone, before any limit.
    pub raw: i32,
    /// Number of readers that was decided.
    pub desired: i32,
}
