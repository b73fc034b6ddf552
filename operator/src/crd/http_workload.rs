//! The components that are ordinary Deployments: all but the readers.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CommentRules, DEFAULT_REPLICAS, PodSettings, SecretKey, ServiceAccountSettings, ServiceSettings, rules,
    schema,
};

/// A component that serves clients and may autoscale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::front_service_rules()))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpWorkload {
    /// Number of pods if the component does not autoscale; 2 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub replicas: Option<i32>,
    /// Who sets the number of pods: `Operator`, by `replicas` or `autoscaling`, or `Others`: the operator does not
    /// write the number, so that KEDA or another autoscaler can.
    pub scaled_by: ScaledBy,
    /// Makes a HorizontalPodAutoscaler, which then owns the number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Seconds that an ending pod has for sending its clients away. Scaling in removes one pod per this time.
    #[schemars(range(min = 5, max = 600))]
    pub drain_seconds: i32,
    /// Settings of the component's pods.
    pub pod: PodSettings,
    /// Settings of the Service.
    pub service: ServiceSettings,
    /// The ServiceAccount that the pods run as.
    pub service_account: ServiceAccountSettings,
    /// The limit on pods that evictions may take away at a time.
    pub pdb: DisruptionBudget,
}

impl Default for HttpWorkload {
    fn default() -> Self {
        Self {
            replicas: None,
            scaled_by: ScaledBy::Operator,
            autoscaling: None,
            drain_seconds: 60,
            pod: PodSettings::default(),
            service: ServiceSettings::default(),
            service_account: ServiceAccountSettings::default(),
            pdb: DisruptionBudget::default(),
        }
    }
}

impl HttpWorkload {
    /// Returns the number of pods that the operator wants; `None` if an autoscaler sets the number.
    pub fn wanted_replicas(&self) -> Option<i32> {
        match (&self.autoscaling, self.scaled_by) {
            (Some(_), _) | (_, ScaledBy::Others) => None,
            (None, ScaledBy::Operator) => Some(self.replicas.unwrap_or(DEFAULT_REPLICAS)),
        }
    }
}

/// The owner of a component's number of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaledBy {
    /// The operator, or the autoscaler that it makes.
    #[default]
    Operator,
    /// Somebody else, such as KEDA: the operator does not write the number.
    Others,
}

/// Settings of a HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::autoscaling()))]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Minimal number of pods.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 500))]
    pub min_replicas: i32,
    /// Maximal number of pods.
    #[schemars(range(min = 1, max = 500))]
    pub max_replicas: i32,
    /// The target of the pods' CPU use, in percent of what they request.
    #[serde(default = "default_cpu_percent", rename = "targetCPUUtilization")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_utilization: i32,
    /// Seconds for which fewer pods must have been enough before one is removed.
    #[serde(default = "three_hundred")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: i32,
    /// Metrics in place of the CPU use, as a HorizontalPodAutoscaler has them; at most 8. An empty list means the CPU use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::metrics")]
    pub metrics: Vec<Value>,
    /// The behavior in place of ours, as a HorizontalPodAutoscaler has it. Ours removes one pod per drain time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::opaque")]
    pub behavior: Option<Value>,
}

const fn default_replicas() -> i32 {
    DEFAULT_REPLICAS
}

const fn default_cpu_percent() -> i32 {
    70
}

/// Returns the default of `scaleDownStabilizationSeconds`.
const fn three_hundred() -> i32 {
    300
}

/// Settings of a PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DisruptionBudget {
    /// Number of pods that evictions may take away at a time, or a percentage such as "25%".
    #[schemars(schema_with = "schema::int_or_percent")]
    pub max_unavailable: IntOrString,
}

impl Default for DisruptionBudget {
    fn default() -> Self {
        Self { max_unavailable: IntOrString::Int(1) }
    }
}

/// The comment service: accepts comments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Comment {
    /// Whether there are comments at all; with false, readers and managers do not run either.
    pub enabled: bool,
    /// An HTTP service of your own that is called before a comment is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<CommentHook>,
    /// Rules that every comment has to keep, beside those that moderators set. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<CommentRules>,
    /// The settings that every HTTP workload has.
    #[serde(flatten)]
    pub front: HttpWorkload,
}

impl Default for Comment {
    fn default() -> Self {
        Self { enabled: true, hook: None, rules: None, front: HttpWorkload::default() }
    }
}

/// An HTTP service of your own that is called before a comment is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentHook {
    /// The hook's URL, http or https. If `networkPolicy.egressCIDRs` are given, they have to include its address.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules::hook_url()))]
    pub url: String,
    /// The key that requests are signed with, in the format of the comment service's `--comment-hook-key-file`. Its
    /// Secret may change at any time.
    pub key_secret: SecretKey,
    /// The hook's time limit in milliseconds.
    #[serde(default = "hook_timeout")]
    #[schemars(range(min = 50, max = 2000))]
    pub timeout_milliseconds: i32,
    /// The handling of comments while the hook fails: Accept, Hold (for a moderator) or Refuse.
    #[serde(default)]
    pub when_away: HookFailureAction,
}

const fn hook_timeout() -> i32 {
    500
}

/// The handling of comments while the hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HookFailureAction {
    /// They are accepted.
    Accept,
    /// They are held until a moderator decides.
    #[default]
    Hold,
    /// They are refused; the client may send them again.
    Refuse,
}

impl HookFailureAction {
    /// Returns the value of the flag `--comment-hook-when-away`.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        }
    }
}

/// The consumer: reads the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Consumer {
    /// Who sets the number of pods: `Operator`, by `replicas`, or `Others`: the operator does not write the number.
    pub scaled_by: ScaledBy,
    /// Number of pods; those beyond the number of the topic's partitions idle. Ignored if `scaledBy` is Others.
    #[schemars(range(min = 1, max = 64))]
    pub replicas: i32,
    /// Settings of the consumers' pods.
    pub pod: PodSettings,
    /// Settings of the Service.
    pub service: ServiceSettings,
    /// The ServiceAccount that the pods run as.
    pub service_account: ServiceAccountSettings,
    /// The limit on pods that evictions may take away at a time; a quarter of them when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdb: Option<DisruptionBudget>,
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            scaled_by: ScaledBy::Operator,
            replicas: 2,
            pod: PodSettings::default(),
            service: ServiceSettings::default(),
            service_account: ServiceAccountSettings::default(),
            pdb: None,
        }
    }
}

/// The manager: knows which reader serves which video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Manager {
    /// Number of pods; each can do the whole work.
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// Settings of the managers' pods.
    pub pod: PodSettings,
    /// Settings of the Service.
    pub service: ServiceSettings,
    /// The ServiceAccount that the pods run as.
    pub service_account: ServiceAccountSettings,
    /// The limit on pods that evictions may take away at a time; one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdb: Option<DisruptionBudget>,
}

impl Default for Manager {
    fn default() -> Self {
        Self {
            replicas: 2,
            pod: PodSettings::default(),
            service: ServiceSettings::default(),
            service_account: ServiceAccountSettings::default(),
            pdb: None,
        }
    }
}

/// The statistics service: all services' reports in one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StatisticsService {
    /// Whether the statistics service runs.
    pub enabled: bool,
    /// Settings of the service's pod.
    pub pod: PodSettings,
    /// Settings of the Service.
    pub service: ServiceSettings,
    /// The ServiceAccount that the pod runs as.
    pub service_account: ServiceAccountSettings,
    /// The limit on pods that evictions may take away at a time; one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdb: Option<DisruptionBudget>,
}

impl Default for StatisticsService {
    fn default() -> Self {
        Self {
            enabled: true,
            pod: PodSettings::default(),
            service: ServiceSettings::default(),
            service_account: ServiceAccountSettings::default(),
            pdb: None,
        }
    }
}
