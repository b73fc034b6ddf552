//! The time that a pod takes to end: the durations given to the process, its flags and the kubelet must fit each other.

use super::Component;
use crate::crd::RankingClusterSpec;

/// Seconds from the decision to end a pod until SIGTERM. Until SIGTERM, Services and proxies may still send the pod
/// requests, and the pod still answers; endpoints are usually removed everywhere within two seconds.
const PRE_STOP_SECONDS: i64 = 5;
/// Seconds after its drain within which a process exits in any case, even if something in it hangs.
const SECONDS_TO_FORCED_EXIT: i64 = 10;
/// Seconds of delay granted to the kubelet between its signal and its check that the process has ended.
const KUBELET_SLACK_SECONDS: i64 = 5;
/// Seconds that requests in flight may take at a manager or the statistics service when it ends; both answer at once.
const SHORT_DRAIN_SECONDS: i64 = 10;
/// Seconds that a consumer has to finish its current batch when it ends.
const BATCH_DRAIN_SECONDS: i64 = 20;

/// The durations of a pod's termination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PodTermination {
    /// Seconds from the decision to end the pod until SIGTERM; `None` if SIGTERM is sent at once.
    pub(super) pre_stop_seconds: Option<i64>,
    /// Seconds from SIGTERM in which the process drains (`--drain-seconds`).
    pub(super) drain: i64,
    /// Seconds from the decision to end the pod until SIGKILL (the grace period).
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
            // A reader needs no wait before SIGTERM: it answers until it is empty, and its Service lists it until it is
            // gone.
            Component::Reader => {
                let grace = i64::from(spec.readers.termination_grace_period_seconds);
                Self {
                    pre_stop_seconds: None,
                    drain: grace - SECONDS_TO_FORCED_EXIT - KUBELET_SLACK_SECONDS,
                    grace,
                }
            }
        }
    }

    /// Returns the termination of pods that get requests through a Service.
    const fn with_pre_stop(drain: i64) -> Self {
        Self {
            pre_stop_seconds: Some(PRE_STOP_SECONDS),
            drain,
            grace: PRE_STOP_SECONDS + drain + SECONDS_TO_FORCED_EXIT + KUBELET_SLACK_SECONDS,
        }
    }

    const fn without_pre_stop(drain: i64) -> Self {
        Self { pre_stop_seconds: None, drain, grace: drain + SECONDS_TO_FORCED_EXIT + KUBELET_SLACK_SECONDS }
    }
}
