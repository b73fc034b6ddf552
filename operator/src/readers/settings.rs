//! The settings of readers in the resource, in the units that decisions are made in.

use liverank_core::Millis;
use liverank_core::placement::{PlanLimits, ViewerMoveBudget};
use liverank_core::scaling::ScalingPolicy;
use serde::{Deserialize, Serialize};

/// The time in milliseconds for which an assignment is left alone after a change: readers report every second, and a
/// hand-over in progress is known separately.
const ASSIGNMENT_SETTLE_MS: Millis = 10_000;

/// How the number of readers is decided: by the scaler, by the scaler after approval, or by the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScalingSetting {
    /// The scaler decides, by the number of viewers.
    Auto,
    /// The scaler decides, after somebody approves its proposal.
    Proposal,
    /// The resource decides; the scaler reports what it would do.
    DryRun,
    /// The resource decides.
    Manual,
}

/// The condition for moving viewers for balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebalanceSetting {
    /// Viewers are moved if readers are unevenly loaded.
    Auto,
    /// Viewers are moved after somebody approves the plan.
    Proposal,
    /// Moves are planned and reported, and none is ordered.
    DryRun,
    /// Viewers are never moved for balance; readers that are removed are emptied all the same.
    Paused,
}

/// The minimal number of readers after the load has been unknown for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackSetting {
    /// The minimal number of readers.
    pub readers: u32,
    /// The time for which the load must have been unknown, in milliseconds.
    pub after_ms: Millis,
    /// Whether there is one more reader for each further period of `after_ms`.
    #[serde(default)]
    pub grows: bool,
}

/// The settings in a resource that decisions about readers use.
#[expect(clippy::struct_excessive_bools, reason = "switches of the resource")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderSettings {
    /// Whether there are to be readers at all, that is, whether comments are enabled.
    pub enabled: bool,
    /// Whether the cluster hibernates and it is the readers' turn to end.
    pub hibernates: bool,
    /// Whether the operator only observes and reports, and changes nothing.
    pub paused: bool,
    /// Number of readers wanted if the scaler does not decide; the scaler's first number otherwise.
    pub replicas: u32,
    /// Minimal number of readers in [`ScalingSetting::Auto`].
    pub min: u32,
    /// Maximal number of readers in [`ScalingSetting::Auto`].
    pub max: u32,
    /// Number of viewers that one reader is to hold.
    pub viewers_per_reader: u64,
    /// Number of viewers from which a video is spread over several readers.
    pub hot_video_viewers: u64,
    /// How the number of readers is decided.
    pub scaling: ScalingSetting,
    /// Whether readers that are not needed are removed.
    pub scale_in: bool,
    /// Whether readers are added beyond the minimal number.
    pub scale_out: bool,
    /// The behaviour in [`ScalingSetting::Auto`] while the load is unknown; `None`: the number of readers stays as it
    /// is.
    pub fallback: Option<FallbackSetting>,
    /// The time for which fewer readers must have been enough before one is removed, in milliseconds.
    pub down_stabilisation_ms: Millis,
    /// Maximal number of readers added at once.
    pub max_up_step: u32,
    /// Maximal age of the managers' reports, in milliseconds.
    pub load_max_age_ms: Millis,
    /// The condition for moving viewers for balance.
    pub rebalance: RebalanceSetting,
    /// The permitted distance of a reader's load from its fair share, in percent.
    pub tolerance_percent: u32,
    /// Maximal number of viewers moved in a minute.
    pub viewers_per_minute: u64,
    /// The time limit for emptying a reader, in milliseconds.
    pub drain_timeout_ms: Millis,
    /// Whether a reader that is not empty at the end of the time limit is removed with its viewers.
    pub force: bool,
    /// Number of new readers beyond the wanted number while readers are replaced.
    pub max_surge: u32,
    /// The time limit for a new reader to serve, in milliseconds.
    pub ready_timeout_ms: Millis,
    /// The percentage of moved viewers who may fail to reconnect before moving halts.
    pub max_reconnect_error_percent: u32,
}

impl Default for ReaderSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            hibernates: false,
            paused: false,
            replicas: 2,
            min: 2,
            max: 10,
            viewers_per_reader: 20_000,
            hot_video_viewers: 15_000,
            scaling: ScalingSetting::Auto,
            scale_in: true,
            scale_out: true,
            fallback: None,
            down_stabilisation_ms: 300_000,
            max_up_step: 4,
            load_max_age_ms: 10_000,
            rebalance: RebalanceSetting::Auto,
            tolerance_percent: 10,
            viewers_per_minute: 20_000,
            drain_timeout_ms: 900_000,
            force: false,
            max_surge: 1,
            ready_timeout_ms: 120_000,
            max_reconnect_error_percent: 5,
        }
    }
}

impl ReaderSettings {
    /// Returns the policy of the scaler.
    pub fn scaling_policy(&self) -> ScalingPolicy {
        ScalingPolicy {
            min: self.min,
            max: self.max,
            viewers_per_reader: self.viewers_per_reader,
            down_stabilisation_ms: self.down_stabilisation_ms,
            max_up_step: self.max_up_step,
            report_max_age_ms: self.load_max_age_ms,
            scale_in: self.scale_in,
            scale_out: self.scale_out,
            ..ScalingPolicy::default()
        }
    }

    /// Returns the limits of the planner. `available` is the number of viewers that may be moved now.
    pub fn plan_limits(&self, available: u64) -> PlanLimits {
        PlanLimits {
            hot_video_viewers: self.hot_video_viewers,
            tolerance: self.tolerance_percent * 10,
            rest_ms: ASSIGNMENT_SETTLE_MS,
            budget: ViewerMoveBudget { available, full: self.viewers_per_minute },
            ..PlanLimits::default()
        }
    }

    /// Returns whether the resource wants no readers at all. The last readers are then removed with their viewers,
    /// because no other reader could take them.
    pub fn are_comments_off(&self) -> bool {
        let by_resource = matches!(self.scaling, ScalingSetting::DryRun | ScalingSetting::Manual);
        !self.enabled || self.hibernates || (by_resource && self.replicas == 0)
    }

    /// Returns the number of readers to begin with if the wanted number is unknown.
    pub fn first_reader_count(&self) -> u32 {
        match self.scaling {
            ScalingSetting::Auto | ScalingSetting::Proposal => {
                self.replicas.clamp(self.min, self.max.max(self.min))
            }
            ScalingSetting::DryRun | ScalingSetting::Manual => self.replicas,
        }
    }
}
