//! Readers: how many, when to move viewers, and how they come and go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PodSettings, ServiceAccountSettings, ServiceSettings, rules};

/// Readers hold viewers' streams. Each is a Deployment of its own, so that the operator chooses which one goes and empties
/// it first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::readers()))]
#[serde(rename_all = "camelCase", default)]
pub struct Readers {
    /// How many are wanted where `scaling.mode` is not Auto; what `kubectl scale` sets. In Auto it is what a new cluster
    /// begins with.
    #[schemars(range(min = 0, max = 500))]
    pub replicas: i32,
    /// Never fewer, in Auto.
    #[schemars(range(min = 1, max = 500))]
    pub min_replicas: i32,
    /// Never more, in Auto.
    #[schemars(range(min = 1, max = 500))]
    pub max_replicas: i32,
    /// How many viewers one reader is to hold.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub viewers_per_reader: i32,
    /// From how many viewers a video is spread over several readers.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub hot_video_viewers: i32,
    /// Who decides how many there are, and how fast.
    pub scaling: Scaling,
    /// When viewers move between readers.
    pub rebalance: Rebalance,
    /// How a reader is emptied before it goes.
    pub drain: Drain,
    /// How readers are replaced when what they run changes.
    pub rollout: Rollout,
    /// How long a reader that is told to end may take to hand its viewers over, in seconds; long enough for two readers
    /// at once, by rule.
    #[schemars(range(min = 30, max = 600))]
    pub termination_grace_period_seconds: i32,
    /// Where and how readers' pods run.
    pub pod: PodSettings,
    /// Each reader's Service.
    pub service: ServiceSettings,
    /// Whom readers' pods run as.
    pub service_account: ServiceAccountSettings,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            replicas: 2,
            min_replicas: 2,
            max_replicas: 10,
            viewers_per_reader: 20_000,
            hot_video_viewers: 15_000,
            scaling: Scaling::default(),
            rebalance: Rebalance::default(),
            drain: Drain::default(),
            rollout: Rollout::default(),
            termination_grace_period_seconds: 180,
            pod: PodSettings::default(),
            service: ServiceSettings::default(),
            service_account: ServiceAccountSettings::default(),
        }
    }
}

/// Who decides how many readers there are, and how fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// `Auto`: the operator, by the viewers there are. `Proposal`: it proposes another number in the status, and waits for
    /// `kubectl liverank approve`. `DryRun`: it says what it would do, and `replicas` decides.
    /// `Manual`: `replicas` decides.
    pub mode: ScalingMode,
    /// `Paused` keeps readers that are not needed.
    pub scale_in: ScaleIn,
    /// `Paused` adds no readers beyond `minReplicas`, whatever the load; those that die are replaced.
    pub scale_out: ScaleOut,
    /// What happens in Auto while nobody knows the load. Absent: as many readers stay as there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// For how long fewer readers must have been enough before one goes, in seconds.
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: i32,
    /// How many readers come at a time at most.
    #[schemars(range(min = 1, max = 100))]
    pub max_scale_up_step: i32,
    /// How old a reader's report may be to decide by, in seconds. Without reports nothing shrinks.
    #[schemars(range(min = 2, max = 60))]
    pub load_max_age_seconds: i32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            mode: ScalingMode::Auto,
            scale_in: ScaleIn::Enabled,
            scale_out: ScaleOut::Enabled,
            fallback: None,
            scale_down_stabilization_seconds: 300,
            max_scale_up_step: 4,
            load_max_age_seconds: 10,
        }
    }
}

/// Who decides how many readers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// The operator.
    #[default]
    Auto,
    /// The operator, once somebody approves what it proposes.
    Proposal,
    /// `replicas`; the operator says what it would do.
    DryRun,
    /// `replicas`.
    Manual,
}

/// Whether readers that are not needed go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaleIn {
    /// They go.
    #[default]
    Enabled,
    /// They stay.
    Paused,
}

/// Whether readers are added where there are too few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaleOut {
    /// They are.
    #[default]
    Enabled,
    /// They are not.
    Paused,
}

/// What happens while nobody knows the load: the managers do not answer, or cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// At least so many readers. More than these stay: without the load nobody can say that a reader is empty.
    #[schemars(range(min = 1, max = 500))]
    pub replicas: i32,
    /// For how long the load must have been unknown, in seconds.
    #[serde(default = "default_unknown_load_seconds")]
    #[schemars(range(min = 10, max = 3600))]
    pub after_seconds: i32,
}

const fn default_unknown_load_seconds() -> i32 {
    60
}

/// When viewers move between readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rebalance {
    /// `Auto`: when readers are unevenly loaded. `Proposal`: the plan stands in the status, and waits for
    /// `kubectl liverank approve`. `DryRun`: only say which. `Paused`: never. Readers that leave are emptied
    /// in every mode.
    pub mode: RebalanceMode,
    /// How far from the mean a reader may be before viewers move, in percent.
    #[schemars(range(min = 1, max = 50))]
    pub tolerance_percent: i32,
    /// How many viewers may be moved in a minute, over all readers and for every reason together.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_viewers_moved_per_minute: i32,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { mode: RebalanceMode::Auto, tolerance_percent: 10, max_viewers_moved_per_minute: 20_000 }
    }
}

/// When viewers move between readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RebalanceMode {
    /// When readers are unevenly loaded.
    #[default]
    Auto,
    /// Once somebody approves the plan.
    Proposal,
    /// Only say which would.
    DryRun,
    /// Never.
    Paused,
}

/// How a reader is emptied before it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// How long it may take, in seconds.
    #[schemars(range(min = 10, max = 86_400))]
    pub timeout_seconds: i32,
    /// What happens then: `Hold` leaves it as it is and says so, `Force` removes it, and the viewers left connect again.
    pub on_timeout: OnTimeout,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout_seconds: 900, on_timeout: OnTimeout::Hold }
    }
}

/// What happens when a reader could not be emptied in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnTimeout {
    /// It stays, and a condition says so.
    #[default]
    Hold,
    /// It goes.
    Force,
}

/// How readers are replaced when what they run changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// How many new readers come up before old ones are emptied into them.
    #[schemars(range(min = 1, max = 10))]
    pub max_surge: i32,
    /// How long a new reader may take to be ready before the rollout halts, in seconds.
    #[schemars(range(min = 10, max = 3600))]
    pub ready_timeout_seconds: i32,
    /// Of the viewers who were moved, how many in a hundred may have failed to connect or missed something before the
    /// rollout halts.
    #[schemars(range(min = 0, max = 100))]
    pub max_reconnect_error_percent: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_surge: 1, ready_timeout_seconds: 120, max_reconnect_error_percent: 5 }
    }
}
