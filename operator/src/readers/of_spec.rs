//! Conversion of the resource's spec to [`ReaderSettings`].

use super::settings::{FallbackSetting, ReaderSettings, RebalanceSetting, ScalingSetting};
use crate::crd::{
    FallbackBehavior, OnTimeout, RankingClusterSpec, RebalanceMode, ScaleIn, ScaleOut, ScalingMode,
};

impl ReaderSettings {
    /// Returns the settings of readers in a resource. The definition bounds every number from below at 0.
    pub fn of(spec: &RankingClusterSpec) -> Self {
        let readers = &spec.readers;
        let count = |number: i32| number.max(0) as u32;
        let ms = |seconds: i32| i64::from(seconds) * 1000;
        Self {
            enabled: spec.comment.enabled,
            // The caller in `run` sets this when it is the readers' turn.
            hibernates: false,
            paused: spec.paused,
            replicas: count(readers.replicas),
            min: count(readers.min_replicas),
            max: count(readers.max_replicas),
            viewers_per_reader: count(readers.viewers_per_reader).into(),
            hot_video_viewers: count(readers.hot_video_viewers).into(),
            scaling: match readers.scaling.mode {
                ScalingMode::Auto => ScalingSetting::Auto,
                ScalingMode::Proposal => ScalingSetting::Proposal,
                ScalingMode::DryRun => ScalingSetting::DryRun,
                ScalingMode::Manual => ScalingSetting::Manual,
            },
            scale_in: readers.scaling.scale_in == ScaleIn::Enabled,
            scale_out: readers.scaling.scale_out == ScaleOut::Enabled,
            fallback: readers.scaling.fallback.as_ref().map(|fallback| FallbackSetting {
                readers: count(fallback.replicas),
                after_ms: ms(fallback.after_seconds),
                grows: fallback.behavior == FallbackBehavior::Grow,
            }),
            down_stabilisation_ms: ms(readers.scaling.scale_down_stabilization_seconds),
            max_up_step: count(readers.scaling.max_scale_up_step),
            load_max_age_ms: ms(readers.scaling.load_max_age_seconds),
            rebalance: match readers.rebalance.mode {
                RebalanceMode::Auto => RebalanceSetting::Auto,
                RebalanceMode::Proposal => RebalanceSetting::Proposal,
                RebalanceMode::DryRun => RebalanceSetting::DryRun,
                RebalanceMode::Paused => RebalanceSetting::Paused,
            },
            tolerance_percent: count(readers.rebalance.tolerance_percent),
            viewers_per_minute: count(readers.rebalance.max_viewers_moved_per_minute).into(),
            drain_timeout_ms: ms(readers.drain.timeout_seconds),
            force: readers.drain.on_timeout == OnTimeout::Force,
            max_surge: count(readers.rollout.max_surge),
            ready_timeout_ms: ms(readers.rollout.ready_timeout_seconds),
            max_reconnect_error_percent: count(readers.rollout.max_reconnect_error_percent),
        }
    }
}
