//! The components that are ordinary Deployments.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_REPLICAS, Pod, SecretKey, Service, ServiceAccount, rules, schema};

/// A component that holds or answers clients and may autoscale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::front()))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpWorkload {
    /// How many pods, where it does not autoscale; 2 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub replicas: Option<i32>,
    /// Who decides how many pods there are: `Operator`, by `replicas` or `autoscaling`, or `Others`: the operator leaves the
    /// number alone, for KEDA or an autoscaler of somebody's.
    pub scaled_by: ScaledBy,
    /// Makes a HorizontalPodAutoscaler, which then owns the number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// How long a pod that goes may take to send its clients away, in seconds. Scaling in goes one pod per so long.
    #[schemars(range(min = 5, max = 600))]
    pub drain_seconds: i32,
    /// Where and how its pods run.
    pub pod: Pod,
    /// Its Service.
    pub service: Service,
    /// Whom its pods run as.
    pub service_account: ServiceAccount,
    /// How many pods may be away at a time by somebody's wish.
    pub pdb: Budget,
}

impl Default for HttpWorkload {
    fn default() -> Self {
        Self {
            replicas: None,
            scaled_by: ScaledBy::Operator,
            autoscaling: None,
            drain_seconds: 60,
            pod: Pod::default(),
            service: Service::default(),
            service_account: ServiceAccount::default(),
            pdb: Budget::default(),
        }
    }
}

impl HttpWorkload {
    /// How many pods the operator wants; absent where an autoscaler decides.
    pub fn wanted_replicas(&self) -> Option<i32> {
        match (&self.autoscaling, self.scaled_by) {
            (Some(_), _) | (_, ScaledBy::Others) => None,
            (None, ScaledBy::Operator) => Some(self.replicas.unwrap_or(DEFAULT_REPLICAS)),
        }
    }
}

/// Who decides how many pods a component has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaledBy {
    /// The operator, or the autoscaler that it makes.
    #[default]
    Operator,
    /// Somebody else: the operator does not write the number.
    Others,
}

/// How a HorizontalPodAutoscaler scales.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::autoscaling()))]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Never fewer pods.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 500))]
    pub min_replicas: i32,
    /// Never more pods.
    #[schemars(range(min = 1, max = 500))]
    pub max_replicas: i32,
    /// The processor use to aim at, in percent of what the pods request.
    #[serde(default = "seventy", rename = "targetCPUUtilization")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_utilization: i32,
    /// For how long fewer pods must have been enough before one goes, in seconds.
    #[serde(default = "three_hundred")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: i32,
}

const fn two() -> i32 {
    DEFAULT_REPLICAS
}

const fn seventy() -> i32 {
    70
}

const fn three_hundred() -> i32 {
    300
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Budget {
    /// How many pods evictions may take away at a time: a number, or a percentage such as "25%".
    #[schemars(schema_with = "schema::int_or_percent")]
    pub max_unavailable: IntOrString,
}

impl Default for Budget {
    fn default() -> Self {
        Self { max_unavailable: IntOrString::Int(1) }
    }
}

/// Takes comments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Comment {
    /// Whether there are comments at all; false turns off readers and managers too.
    pub enabled: bool,
    /// An HTTP service of your own that is asked before a comment is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<CommentHook>,
    /// As of every front component.
    #[serde(flatten)]
    pub front: HttpWorkload,
}

impl Default for Comment {
    fn default() -> Self {
        Self { enabled: true, hook: None, front: HttpWorkload::default() }
    }
}

/// An HTTP service of your own that is asked before a comment is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentHook {
    /// Where it is, http or https. Where `networkPolicy.egressCIDRs` says where pods may connect to, it has to be in there.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules::hook_url()))]
    pub url: String,
    /// The key that requests are signed with, as `--comment-hook-key-file` of the comment service has it. Its Secret may change at
    /// any time.
    pub key_secret: SecretKey,
    /// How long it may take, in milliseconds.
    #[serde(default = "hook_timeout")]
    #[schemars(range(min = 50, max = 2000))]
    pub timeout_milliseconds: i32,
    /// What becomes of comments while it is away: Accept, Hold (they wait for a moderator) or Refuse.
    #[serde(default)]
    pub when_away: WhenAway,
}

const fn hook_timeout() -> i32 {
    500
}

/// What becomes of comments while the hook is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenAway {
    /// They are taken.
    Accept,
    /// They wait for a moderator.
    #[default]
    Hold,
    /// They are refused, to be sent again.
    Refuse,
}

impl WhenAway {
    /// As `--comment-hook-when-away` has it.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        }
    }
}

/// Reads the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Consumer {
    /// Who decides how many pods there are: `Operator`, by `replicas`, or `Others`: the operator leaves the number alone.
    pub scaled_by: ScaledBy,
    /// How many pods; more than the topic has partitions do nothing. Not looked at where `scaledBy` is Others.
    #[schemars(range(min = 1, max = 64))]
    pub replicas: i32,
    /// Where and how its pods run.
    pub pod: Pod,
    /// Its Service.
    pub service: Service,
    /// Whom its pods run as.
    pub service_account: ServiceAccount,
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            scaled_by: ScaledBy::Operator,
            replicas: 2,
            pod: Pod::default(),
            service: Service::default(),
            service_account: ServiceAccount::default(),
        }
    }
}

/// Knows which reader serves which video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Manager {
    /// How many pods; each can do all of it.
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// Where and how its pods run.
    pub pod: Pod,
    /// Its Service.
    pub service: Service,
    /// Whom its pods run as.
    pub service_account: ServiceAccount,
}

impl Default for Manager {
    fn default() -> Self {
        Self {
            replicas: 2,
            pod: Pod::default(),
            service: Service::default(),
            service_account: ServiceAccount::default(),
        }
    }
}

/// Everything in one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Statistics {
    /// Whether it runs.
    pub enabled: bool,
    /// Where and how its pod runs.
    pub pod: Pod,
    /// Its Service.
    pub service: Service,
    /// Whom its pod runs as.
    pub service_account: ServiceAccount,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            enabled: true,
            pod: Pod::default(),
            service: Service::default(),
            service_account: ServiceAccount::default(),
        }
    }
}
