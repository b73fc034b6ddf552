//! How long a pod takes to go: what the process, its flags and the kubelet are told must fit each other.

use super::Component;
use crate::crd::RankingClusterSpec;

/// Seconds between a pod's end being decided and SIGTERM: until then Services and proxies may still send it somebody,
/// and it still answers. Endpoints are usually gone everywhere within two.
const PRE_STOP: i64 = 5;
/// Seconds after its drain in which a process ends by itself, whatever it hangs in.
const LATE: i64 = 10;
/// Seconds for the kubelet, between the signal and looking.
const SLACK: i64 = 5;
/// Seconds that requests under way may take at a manager or the statistics: both answer at once.
const SHORT_DRAIN: i64 = 10;
/// Seconds for a consumer's batch under way.
const BATCH_DRAIN: i64 = 20;

/// How a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// Seconds before SIGTERM.
    pub(super) pre_stop: Option<i64>,
    /// Seconds from SIGTERM on (`--drain-seconds`).
    pub(super) drain: i64,
    /// Seconds until SIGKILL.
    pub(super) grace: i64,
}

impl Lifetime {
    pub(super) fn of(component: Component, spec: &RankingClusterSpec) -> Self {
        match component {
            Component::Gateway => Self::serving(spec.gateway.drain_seconds.into()),
            Component::Websocket => Self::serving(spec.websocket.drain_seconds.into()),
            Component::Comment => Self::serving(spec.comment.front.drain_seconds.into()),
            Component::Manager => Self::serving(SHORT_DRAIN),
            Component::Statistics => Self::quiet(SHORT_DRAIN),
            Component::Consumer => Self::quiet(BATCH_DRAIN),
            // A reader answers until it is empty, and its Service lists it until it is gone: nothing to wait for.
            Component::Reader => {
                let grace = i64::from(spec.readers.termination_grace_period_seconds);
                Self { pre_stop: None, drain: grace - LATE - SLACK, grace }
            }
        }
    }

    /// Of those that are sent requests by a Service.
    const fn serving(drain: i64) -> Self {
        Self { pre_stop: Some(PRE_STOP), drain, grace: PRE_STOP + drain + LATE + SLACK }
    }

    const fn quiet(drain: i64) -> Self {
        Self { pre_stop: None, drain, grace: drain + LATE + SLACK }
    }
}
