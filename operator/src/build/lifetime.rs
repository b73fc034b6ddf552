//! How long a pod takes to go: what the process, its flags and the kubelet are told must fit each other.

use super::Component;
use crate::crd::RankingClusterSpec;

/// Seconds between a pod's end being decided and SIGTERM: until then Services and proxies may still send it somebody,
/// and it still answers. Endpoints are usually gone everywhere within two.
const PRE_STOP_SECONDS: i64 = 5;
/// Seconds after its drain in which a process ends by itself, whatever it hangs in.
const SECONDS_TO_FORCED_EXIT: i64 = 10;
/// Seconds for the kubelet, between the signal and looking.
const KUBELET_SLACK_SECONDS: i64 = 5;
/// Seconds that requests under way may take at a manager or the statistics: both answer at once.
const SHORT_DRAIN_SECONDS: i64 = 10;
/// Seconds for a consumer's batch under way.
const BATCH_DRAIN_SECONDS: i64 = 20;

/// How a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PodTermination {
    /// Seconds before SIGTERM.
    pub(super) pre_stop: Option<i64>,
    /// Seconds from SIGTERM on (`--drain-seconds`).
    pub(super) drain: i64,
    /// Seconds until SIGKILL.
    pub(super) grace: i64,
}

impl PodTermination {
    pub(super) fn of(component: Component, spec: &RankingClusterSpec) -> Self {
        match component {
            Component::Gateway => Self::with_pre_stop(spec.gateway.drain_seconds.into()),
            Component::Websocket => Self::with_pre_stop(spec.websocket.drain_seconds.into()),
            Component::Comment => Self::with_pre_stop(spec.comment.front.drain_seconds.into()),
            Component::Manager => Self::with_pre_stop(SHORT_DRAIN_SECONDS),
            Component::Statistics => Self::without_pre_stop(SHORT_DRAIN_SECONDS),
            Component::Consumer => Self::without_pre_stop(BATCH_DRAIN_SECONDS),
            // A reader answers until it is empty, and its Service lists it until it is gone: nothing to wait for.
            Component::Reader => {
                let grace = i64::from(spec.readers.termination_grace_period_seconds);
                Self { pre_stop: None, drain: grace - SECONDS_TO_FORCED_EXIT - KUBELET_SLACK_SECONDS, grace }
            }
        }
    }

    /// Returns how pods end that a Service sends requests to.
    const fn with_pre_stop(drain: i64) -> Self {
        Self {
            pre_stop: Some(PRE_STOP_SECONDS),
            drain,
            grace: PRE_STOP_SECONDS + drain + SECONDS_TO_FORCED_EXIT + KUBELET_SLACK_SECONDS,
        }
    }

    const fn without_pre_stop(drain: i64) -> Self {
        Self { pre_stop: None, drain, grace: drain + SECONDS_TO_FORCED_EXIT + KUBELET_SLACK_SECONDS }
    }
}
