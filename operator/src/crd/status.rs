//! What the operator answers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What the operator answers. Written on change, and for viewers' sake at most once in 15 s.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RankingClusterStatus {
    /// The generation of the spec that all this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Degraded, Contested, Autoscaling, UpdatePending, Stalled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The revision of the operator's builder that the workloads were built with; it changes with the spec only, so that
    /// a new operator restarts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub builder_revision: Option<String>,
    /// The last restart that was asked for by `restartAt` and has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub restarted_at: Option<Time>,
    /// Who wrote this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorStatus>,
    /// The components and how many of their pods are there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub components: Vec<Component>,
    /// The readers and their viewers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<ReadersStatus>,
    /// The last thing that was decided about readers, and why.
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
    /// Its name.
    #[schemars(length(max = 63))]
    pub id: String,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub time: Option<Time>,
    /// What was done.
    #[schemars(length(max = 63))]
    pub action: String,
    /// Why, in words.
    #[schemars(length(max = 256))]
    pub reason: String,
}

/// A plan that waits to be approved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingPlan {
    /// What it is about: `Scaling` or `Rebalance`.
    #[schemars(length(min = 1, max = 63))]
    pub subject: String,
    /// Its name, by which it is approved.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub id: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub time: Option<Time>,
    /// When it is withdrawn at the latest; earlier, where what it was made from has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub expires: Option<Time>,
    /// What would be done and why.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub summary: String,
    /// What it costs: viewers who change readers.
    #[serde(default)]
    pub viewers_moved: i64,
    /// What it leads to.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub effect: String,
    /// Its steps, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub steps: Vec<String>,
    /// A hash of what it was made from.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub inputs_hash: String,
}

impl RankingClusterStatus {
    /// Decisions that are remembered.
    pub const MAX_HISTORY: usize = 50;
}

/// Who wrote the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperatorStatus {
    /// The operator's pod.
    #[schemars(length(max = 253))]
    pub identity: String,
    /// Its version.
    #[schemars(length(max = 63))]
    pub version: String,
}

/// A component and how many of its pods are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Its name, such as `gateway`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Pods wanted.
    #[serde(default)]
    pub desired: i32,
    /// Pods that answer.
    #[serde(default)]
    pub ready: i32,
    /// Pods of the newest template.
    #[serde(default)]
    pub updated: i32,
}

/// The readers and their viewers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadersStatus {
    /// Readers that exist and are not leaving; what the scale subresource shows.
    pub replicas: i32,
    /// The label selector of readers' pods.
    #[schemars(length(max = 512))]
    pub selector: String,
    /// Readers wanted.
    pub desired: i32,
    /// A value of `spec.readers.replicas` that is not followed, because it is from before `scaling.mode` was Auto. Any
    /// other value is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unheeded_replicas: Option<i32>,
    /// Readers that answer.
    pub ready: i32,
    /// Readers that are being emptied.
    pub draining: i32,
    /// Viewers connected, to two significant digits; absent while nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub viewers: Option<i64>,
    /// How far the fullest reader is above the mean, in percent, to two significant digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imbalance_percent: Option<i32>,
    /// When viewers were last known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub load_as_of: Option<Time>,
}

/// The last thing that was decided about readers, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LastDecision {
    /// Its name; the event about it carries the same.
    #[schemars(length(max = 63))]
    pub id: String,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub time: Option<Time>,
    /// What is done: such as `ScaleUp`, `ScaleDown`, `Hold`, `Upgrade`, `Rebalance`, `None`.
    #[schemars(length(max = 63))]
    pub action: String,
    /// Why, in words.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// What it was decided on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<DecisionInputs>,
    /// The limits that kept it from going further, the tightest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub bound_by: Vec<String>,
    /// What was chosen, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub chosen: Vec<String>,
    /// What was not, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 256)))]
    pub rejected: Vec<String>,
    /// A hash of all that went in: the same inputs, the same decision.
    #[schemars(length(max = 64))]
    pub inputs_hash: String,
}

/// What a decision was made on, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionInputs {
    /// Readers that there were, those that are leaving apart.
    pub readers: i32,
    /// Of these, how many had reported lately enough.
    pub fresh: i32,
    /// Readers that are leaving.
    pub draining: i32,
    /// Viewers reported, to two significant digits.
    pub viewers: i64,
    /// Viewers expected by the time that a new reader would be there, to two significant digits.
    pub expected_viewers: i64,
    /// Readers that the viewers alone ask for, before any limit.
    pub raw: i32,
    /// Readers decided on.
    pub desired: i32,
}
