//! What the resource says about readers, in the units that decisions are made in.

use liverank_core::Millis;
use liverank_core::placement::{PlanLimits, ViewerMoveBudget};
use liverank_core::scaling::ScalingPolicy;
use serde::{Deserialize, Serialize};

/// How long an assignment is left alone after a change, in milliseconds: readers report every second, and a hand-over
/// under way is known by itself.
const ASSIGNMENT_REST_MS: Millis = 10_000;

/// How the number of readers is decided: by the scaler, by the scaler once somebody approves, or by the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScalingSetting {
    /// The scaler, by the viewers there are.
    Auto,
    /// The scaler, once somebody approves what it proposes.
    Proposal,
    /// The resource; the scaler says what it would do.
    DryRun,
    /// The resource.
    Manual,
}

/// Whether viewers are moved for balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebalanceSetting {
    /// Where readers are unevenly loaded.
    Auto,
    /// Once somebody approves the plan.
    Proposal,
    /// Moves are planned and told, and none is ordered.
    DryRun,
    /// Never; readers that leave are emptied all the same.
    Paused,
}

/// How many readers there are to be at least once the load has been unknown for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackSetting {
    /// At least so many readers.
    pub readers: u32,
    /// For how long the load must have been unknown, in milliseconds.
    pub after_ms: Millis,
}

/// The settings of a resource that decisions about readers use.
#[expect(clippy::struct_excessive_bools, reason = "switches of the resource")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderSettings {
    /// Whether there are to be readers at all: comments are switched on.
    pub enabled: bool,
    /// All components go to zero, and it is the readers' turn.
    pub hibernates: bool,
    /// Observe and report, change nothing.
    pub paused: bool,
    /// Readers wanted where the scaler does not decide, and where it begins.
    pub replicas: u32,
    /// Never fewer, in [`Scaling::Auto`].
    pub min: u32,
    /// Never more, in [`Scaling::Auto`].
    pub max: u32,
    /// Viewers a reader holds.
    pub viewers_per_reader: u64,
    /// Viewers from which a video is spread over several readers.
    pub hot_video_viewers: u64,
    /// How the number of readers is decided.
    pub scaling: ScalingSetting,
    /// Whether readers that are not needed go.
    pub scale_in: bool,
    /// Whether readers are added beyond the least there has to be.
    pub scale_out: bool,
    /// What happens in [`Scaling::Auto`] while the load is not known; `None`: nothing.
    pub fallback: Option<FallbackSetting>,
    /// How long fewer must have been enough, in milliseconds.
    pub down_stabilisation_ms: Millis,
    /// Readers added at once, at most.
    pub max_up_step: u32,
    /// How old what the managers say may be, in milliseconds.
    pub load_max_age_ms: Millis,
    /// Whether viewers are moved for balance.
    pub rebalance: RebalanceSetting,
    /// How far from its fair share a reader may be, in percent.
    pub tolerance_percent: u32,
    /// Viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
    /// How long emptying a reader may take, in milliseconds.
    pub drain_timeout_ms: Millis,
    /// Whether a reader goes after that time although it has viewers.
    pub force: bool,
    /// New readers beyond the wanted number while readers are replaced.
    pub max_surge: u32,
    /// How long a reader may take until it serves, in milliseconds.
    pub ready_timeout_ms: Millis,
    /// Of those who were moved, how many in a hundred may fail before moving halts.
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
    pub fn policy(&self) -> ScalingPolicy {
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
    pub fn limits(&self, available: u64) -> PlanLimits {
        PlanLimits {
            hot_video_viewers: self.hot_video_viewers,
            tolerance: self.tolerance_percent * 10,
            rest_ms: ASSIGNMENT_REST_MS,
            budget: ViewerMoveBudget { available, full: self.viewers_per_minute },
            ..PlanLimits::default()
        }
    }

    /// Whether there are to be no readers: nobody could take the viewers of the last ones, so they go as they are.
    pub fn are_comments_off(&self) -> bool {
        let by_resource = matches!(self.scaling, ScalingSetting::DryRun | ScalingSetting::Manual);
        !self.enabled || self.hibernates || (by_resource && self.replicas == 0)
    }

    /// Readers to begin with where none are known.
    pub fn first_reader_count(&self) -> u32 {
        match self.scaling {
            ScalingSetting::Auto | ScalingSetting::Proposal => {
                self.replicas.clamp(self.min, self.max.max(self.min))
            }
            ScalingSetting::DryRun | ScalingSetting::Manual => self.replicas,
        }
    }
}
