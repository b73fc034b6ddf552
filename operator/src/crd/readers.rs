//! Settings of readers: their number, when viewers move, and how readers are started and emptied.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DisruptionBudget, PodSettings, ServiceAccountSettings, ServiceSettings, rules};

/// Readers hold viewers' streams. Each is a Deployment of its own, so that the operator can choose the one to remove
/// and empty it first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::readers()))]
#[serde(rename_all = "camelCase", default)]
pub struct Readers {
    /// The wanted number if `scaling.mode` is not Auto; `kubectl scale` sets it. In Auto it is the number that a new
    /// cluster begins with.
    #[schemars(range(min = 0, max = 500))]
    pub replicas: i32,
    /// Minimal number of readers in Auto.
    #[schemars(range(min = 1, max = 500))]
    pub min_replicas: i32,
    /// Maximal number of readers in Auto.
    #[schemars(range(min = 1, max = 500))]
    pub max_replicas: i32,
    /// The number of viewers that one reader is to hold.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub viewers_per_reader: i32,
    /// The number of viewers from which a video is spread over several readers.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub hot_video_viewers: i32,
    /// Who sets the number of readers, and how fast it changes.
    pub scaling: Scaling,
    /// The settings for moving viewers between readers.
    pub rebalance: Rebalance,
    /// The settings for emptying a reader before it is removed.
    pub drain: Drain,
    /// The settings for replacing readers when their template changes.
    pub rollout: Rollout,
    /// Seconds that a reader which is told to end has for handing its viewers over; a rule makes it long enough for two
    /// readers at once.
    #[schemars(range(min = 30, max = 600))]
    pub termination_grace_period_seconds: i32,
    /// Settings of the readers' pods.
    pub pod: PodSettings,
    /// Each reader's Service.
    pub service: ServiceSettings,
    /// The ServiceAccount that the pods run as.
    pub service_account: ServiceAccountSettings,
    /// The limit on readers that evictions may take away at a time. Absent: a tenth of the readers, but no more than the move
    /// budget empties within their grace period, and at least one. Viewers of more than that lose their streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdb: Option<DisruptionBudget>,
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
            pdb: None,
        }
    }
}

/// Who sets the number of readers, and how fast it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// `Auto`: the operator sets the number by the viewers. `Proposal`: it proposes a number in the status, and waits
    /// for `kubectl liverank approve`. `DryRun`: it says what it would do, and `replicas` counts. `Manual`: `replicas`
    /// counts.
    pub mode: ScalingMode,
    /// `Paused` keeps readers that are not needed.
    pub scale_in: ScaleIn,
    /// `Paused` adds no readers beyond `minReplicas`, whatever the load; those that die are replaced.
    pub scale_out: ScaleOut,
    /// The behaviour in Auto while the load is unknown. Absent: the number of readers stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Seconds for which fewer readers must have been enough before one is removed.
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: i32,
    /// Maximal number of readers added at a time.
    #[schemars(range(min = 1, max = 100))]
    pub max_scale_up_step: i32,
    /// Maximal age in seconds of a reader's report to decide by. Without reports nothing shrinks.
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

/// The owner of the number of readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// The operator, by the number of viewers.
    #[default]
    Auto,
    /// The operator, after somebody approves the number that it proposes.
    Proposal,
    /// `spec.readers.replicas`; the operator reports the number that it would set.
    DryRun,
    /// `spec.readers.replicas`; the operator proposes nothing.
    Manual,
}

/// Whether readers that are not needed are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaleIn {
    /// Readers that are not needed are removed.
    #[default]
    Enabled,
    /// Readers that are not needed are kept.
    Paused,
}

/// Whether readers are added if there are too few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScaleOut {
    /// Readers are added.
    #[default]
    Enabled,
    /// No readers are added beyond `minReplicas`.
    Paused,
}

/// The behaviour while the load is unknown: the managers do not answer, or their answers are not plausible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// The minimal number of readers. Additional readers are kept: without the load nobody knows which are empty.
    #[schemars(range(min = 1, max = 500))]
    pub replicas: i32,
    /// Seconds for which the load must have been unknown.
    #[serde(default = "default_unknown_load_seconds")]
    #[schemars(range(min = 10, max = 3600))]
    pub after_seconds: i32,
    /// `Fixed`: there are at least `replicas` readers. `Grow`: and one more each time that the load stays unknown for as long
    /// again, up to `maxReplicas`.
    #[serde(default)]
    pub behavior: FallbackBehavior,
}

/// The number of readers while the load stays unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FallbackBehavior {
    /// The number that the fallback names.
    #[default]
    Fixed,
    /// That number, and one more for each further period in which the load is unknown.
    Grow,
}

const fn default_unknown_load_seconds() -> i32 {
    60
}

/// Settings for moving viewers between readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rebalance {
    /// `Auto`: when readers are unevenly loaded. `Proposal`: the plan is in the status, and waits for `kubectl liverank
    /// approve`. `DryRun`: the plan is only reported. `Paused`: never. Readers that are removed are emptied in every
    /// mode.
    pub mode: RebalanceMode,
    /// The permitted distance of a reader's load from the mean, in percent, before viewers move.
    #[schemars(range(min = 1, max = 50))]
    pub tolerance_percent: i32,
    /// Maximal number of viewers moved in a minute, over all readers and for every reason together.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_viewers_moved_per_minute: i32,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { mode: RebalanceMode::Auto, tolerance_percent: 10, max_viewers_moved_per_minute: 20_000 }
    }
}

/// The condition for moving viewers between readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RebalanceMode {
    /// Viewers move when readers are unevenly loaded.
    #[default]
    Auto,
    /// Viewers move after somebody approves the plan.
    Proposal,
    /// Viewers do not move; the operator only reports the plan.
    DryRun,
    /// Viewers do not move; the operator makes no plan.
    Paused,
}

/// Settings for emptying a reader before it is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// The time limit for emptying a reader, in seconds.
    #[schemars(range(min = 10, max = 86_400))]
    pub timeout_seconds: i32,
    /// What happens after it: `Hold` keeps the reader and reports it, `Force` removes it, and its viewers reconnect.
    pub on_timeout: OnTimeout,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout_seconds: 900, on_timeout: OnTimeout::Hold }
    }
}

/// The handling of a reader that could not be emptied in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnTimeout {
    /// The reader stays, and a condition reports it.
    #[default]
    Hold,
    /// The reader is removed; viewers that are still connected reconnect.
    Force,
}

/// Settings for replacing readers when their template changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// Number of new readers that start before old ones are emptied into them.
    #[schemars(range(min = 1, max = 10))]
    pub max_surge: i32,
    /// Seconds that a new reader may take to become ready before the rollout halts.
    #[schemars(range(min = 10, max = 3600))]
    pub ready_timeout_seconds: i32,
    /// The percentage of moved viewers who may have failed to reconnect or missed something before the rollout halts.
    #[schemars(range(min = 0, max = 100))]
    pub max_reconnect_error_percent: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_surge: 1, ready_timeout_seconds: 120, max_reconnect_error_percent: 5 }
    }
}
