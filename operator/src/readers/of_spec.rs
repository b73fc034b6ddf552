//! The resource's words in the units of [`Settings`].

use super::settings::{Fallback, Rebalance, Scaling, Settings};
use crate::crd::{OnTimeout, RankingClusterSpec, RebalanceMode, ScaleIn, ScaleOut, ScalingMode};

impl Settings {
    /// What a resource says of readers. The definition bounds every number from below at 0.
    pub fn of(spec: &RankingClusterSpec) -> Self {
        let readers = &spec.readers;
        let count = |number: i32| number.max(0) as u32;
        let ms = |seconds: i32| i64::from(seconds) * 1000;
        Self {
            enabled: spec.comment.enabled,
            // What runs says when.
            hibernates: false,
            paused: spec.paused,
            replicas: count(readers.replicas),
            min: count(readers.min_replicas),
            max: count(readers.max_replicas),
            viewers_per_reader: count(readers.viewers_per_reader).into(),
            hot_video_viewers: count(readers.hot_video_viewers).into(),
            scaling: match readers.scaling.mode {
                ScalingMode::Auto => Scaling::Auto,
                ScalingMode::Proposal => Scaling::Proposal,
                ScalingMode::DryRun => Scaling::DryRun,
                ScalingMode::Manual => Scaling::Manual,
            },
            scale_in: readers.scaling.scale_in == ScaleIn::Enabled,
            scale_out: readers.scaling.scale_out == ScaleOut::Enabled,
            fallback: readers.scaling.fallback.as_ref().map(|fallback| Fallback {
                readers: count(fallback.replicas),
                after_ms: ms(fallback.after_seconds),
            }),
            down_stabilisation_ms: ms(readers.scaling.scale_down_stabilization_seconds),
            max_up_step: count(readers.scaling.max_scale_up_step),
            load_max_age_ms: ms(readers.scaling.load_max_age_seconds),
            rebalance: match readers.rebalance.mode {
                RebalanceMode::Auto => Rebalance::Auto,
                RebalanceMode::Proposal => Rebalance::Proposal,
                RebalanceMode::DryRun => Rebalance::DryRun,
                RebalanceMode::Paused => Rebalance::Paused,
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
