//! `RankingCluster`, `rankingclusters.liverank.dev/v1alpha1`: the user's spec and the operator's status.
//! `crds/rankingcluster.yaml` is generated from these types; their doc comments are the descriptions that `kubectl
//! explain` prints.
//!
//! Defaults are defined in one place, the `Default` of each struct. The schema takes them from there, so that the
//! defaults that the API server fills in are the same as those of these types when they are read from a bare YAML file.
#![allow(clippy::doc_markdown, reason = "`kubectl explain` prints these comments as they stand")]
#![allow(clippy::duplicated_attributes, reason = "two columns may be of one type")]

mod access;
mod boards;
mod comment_rules;
mod definition;
mod exposure;
mod http_workload;
mod maintenance;
mod pod;
mod readers;
mod rules;
mod schema;
mod scoring;
mod service;
mod status;
mod stores;
mod tls;
pub mod v1beta1;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, Resource as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access::{Auth, Jwks, Monitoring, NetworkPolicy, Peer, Tracing};
pub use boards::{Board, BoardOrder, BoardWeights, BoardWindow};
pub use comment_rules::{CommentRules, LinkRule, PatternRule, RuleAction, WordRule};
pub use definition::{definition, definition_yaml};
pub use exposure::{Exposure, ExposureType, ParentRef, ReaderExposure};
pub use http_workload::{
    Autoscaling, Comment, CommentHook, Consumer, DisruptionBudget, HookFailureAction, HttpWorkload, Manager,
    ScaledBy, StatisticsService,
};
pub use maintenance::{Day, DeferrableWork, MaintenanceSettings, MaintenanceWindow};
pub use pod::{ExtraContainer, ExtraVolume, PodSettings, PodUser, ProbeTimes};
pub use readers::{
    Drain, Fallback, FallbackBehavior, OnTimeout, Readers, Rebalance, RebalanceMode, Rollout, ScaleIn,
    ScaleOut, Scaling, ScalingMode,
};
pub use schema::MAX_PROBE_TIME;
pub use scoring::{Decimal, Scoring};
pub use service::{ServiceAccountSettings, ServiceSettings, ServiceType};
pub use status::{
    ComponentStatus, DecisionInputs, LastDecision, OperatorStatus, PastDecision, RankingClusterStatus,
    ReadersStatus, WaitingPlan, ZoneStatus,
};
pub use stores::{Kafka, MongoDb, Redis, RedisTopology, SecretKey};
pub use tls::{InternalTls, PublicTls, Tls};

/// Number of pods of an HTTP workload whose `replicas` is not set and that does not autoscale. This is no default in
/// the schema: with one, `autoscaling` could never be set alone.
pub const DEFAULT_REPLICAS: i32 = 2;

/// A whole liverank: ranked videos and live comments, on the Kafka, Redis and MongoDB that it names.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "liverank.dev",
    version = "v1alpha1",
    kind = "RankingCluster",
    namespaced,
    status = "RankingClusterStatus",
    derive = "PartialEq",
    shortname = "rkc",
    category = "liverank",
    category = "all",
    doc = "A whole liverank: ranked videos and live comments, on the Kafka, Redis and MongoDB that it names.",
    scale(
        spec_replicas_path = ".spec.readers.replicas",
        status_replicas_path = ".status.readers.replicas",
        label_selector_path = ".status.readers.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether everything that is wanted runs."
    ),
    printcolumn(
        name = "Readers",
        type_ = "integer",
        json_path = ".status.readers.ready",
        description = "Readers that serve viewers."
    ),
    printcolumn(
        name = "Viewers",
        type_ = "integer",
        json_path = ".status.readers.viewers",
        description = "Viewers connected, to two significant digits."
    ),
    printcolumn(
        name = "Imbalance",
        type_ = "integer",
        json_path = ".status.readers.imbalancePercent",
        description = "How far the fullest reader is above the mean, in percent."
    ),
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.readers.scaling.mode",
        description = "Who decides how many readers there are.",
        priority = 1
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".spec.image",
        description = "The image that every component runs.",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why it is ready or not.",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.operatorClass",
    selectable = ".spec.image"
)]
#[schemars(extend("x-kubernetes-validations" = rules::spec()))]
#[serde(rename_all = "camelCase")]
pub struct RankingClusterSpec {
    /// The operator that manages this resource: the one started with the same `--operator-class`. Immutable.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub operator_class: String,
    /// The liverank image that every component runs. Never defaulted from the operator, so that a newer operator
    /// restarts nothing by itself.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: String,
    /// When nodes pull the image: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets in this namespace to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub image_pull_secrets: Vec<PullSecret>,
    /// The user ids that pods run with; set by the operator's start options when absent. `Platform` is for OpenShift,
    /// which gives each namespace its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_user: Option<PodUser>,
    /// If true, the operator observes and reports, and writes nothing but status. Node drains and evictions still empty
    /// readers, which needs no operator.
    #[serde(default)]
    pub paused: bool,
    /// If true, no pods run: gateways end first, then the components that they call. Viewers' streams end. The stores
    /// keep their data; with false everything starts again. Until then the log must keep what was not counted yet.
    #[serde(default)]
    pub hibernate: bool,
    /// The times for work that the operator begins by itself and that can wait.
    #[serde(default)]
    pub maintenance: MaintenanceSettings,
    /// Every component restarts when this moment comes; readers hand their viewers over first. Set it to now to restart
    /// them now. An earlier moment than the last one, or none, restarts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub restart_at: Option<Time>,
    /// The log: interactions and comments.
    pub kafka: Kafka,
    /// Redis: the boards, comments in transit, and the assignments of readers.
    pub redis: Redis,
    /// MongoDB, the archive: counters and comments, exactly once.
    pub mongodb: MongoDb,
    /// The points that an interaction is worth.
    #[serde(default)]
    pub scoring: Scoring,
    /// Boards beside `global` and `trending`, at most 16: each is one more write with every batch, and one more list in
    /// the memory of each WebSocket service. A board that is removed is deleted ten minutes later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub boards: Vec<Board>,
    /// Authentication of users.
    pub auth: Auth,
    /// TLS of all ports of the pods; plain HTTP when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The network policies: the allowed peers of the pods.
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// Metrics and traces.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// The access for viewers from outside the cluster.
    #[serde(default)]
    pub exposure: Exposure,
    /// The gateway: interactions, rankings, the console page, and all other services behind one origin.
    #[serde(default)]
    pub gateway: HttpWorkload,
    /// Pushes ranked lists to viewers.
    #[serde(default)]
    pub websocket: HttpWorkload,
    /// Accepts comments. Switched off, readers and managers do not run either.
    #[serde(default)]
    pub comment: Comment,
    /// Reads the log, scores and counts interactions, numbers comments.
    #[serde(default)]
    pub consumer: Consumer,
    /// Knows which reader serves which video.
    #[serde(default)]
    pub manager: Manager,
    /// All services' reports in one answer.
    #[serde(default)]
    pub statistics: StatisticsService,
    /// The readers: hold viewers' streams and fan comments out; each is a Deployment of its own.
    #[serde(default)]
    pub readers: Readers,
}

fn default_class() -> String {
    "default".to_owned()
}

/// When nodes pull the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At each start of a pod.
    Always,
    /// If the node does not have the image.
    #[default]
    IfNotPresent,
    /// Never: the image must be on the node already.
    Never,
}

/// A Secret to pull images with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullSecret {
    /// The Secret's name, in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

impl ImagePullPolicy {
    /// Returns the name of the policy as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl RankingClusterSpec {
    /// Returns whether comments are enabled, and with them managers and readers.
    pub const fn comments(&self) -> bool {
        self.comment.enabled
    }
}

impl RankingCluster {
    /// Returns the resource's name; empty only if the resource never came from an API server.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the resource's namespace; empty only if the resource never came from an API server.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Returns the resource's uid; empty only if the resource never came from an API server.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Returns the resource's generation: the number that the API server increases with every change of the spec.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// Returns whether somebody has requested the deletion of the resource.
    pub fn is_deleting(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
}
