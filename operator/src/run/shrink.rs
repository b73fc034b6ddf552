//! Scaling down of components that hold clients: one pod in each drain time, as the operator's autoscalers do it. Left
//! to itself, a Deployment ends all surplus pods at once, and the clients of all of them reconnect in the same second.
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_core::Millis;

use super::cache::CachedPod;
use crate::build::Component;

/// The time in milliseconds, after a pod should have ended, at which it counts as lost with its node: its clients are
/// gone then.
const POD_LOST_AFTER_MS: Millis = 60_000;

/// The wanted and the current number of a component's pods.
#[derive(Debug, Clone, Copy)]
pub struct PodCounts {
    /// Number of pods wanted in the end.
    pub wanted_pods: i64,
    /// Number of pods in the Deployment's spec.
    pub deployment_pods: i64,
    /// Whether no pod of the component is ending.
    pub settled: bool,
}

/// The time at which each component last lost a pod. A new leader does not know these times, but sees the pod that is
/// ending.
#[derive(Debug, Default)]
pub struct ScaleDownPacer(HashMap<Component, Instant>);

impl ScaleDownPacer {
    /// Returns the number of pods to write into the Deployment's spec now, and the time at which the next pod may be
    /// removed. Pods are added at once.
    pub fn next_replicas(
        &mut self,
        component: Component,
        seen: PodCounts,
        drain: Duration,
        now: Instant,
    ) -> (i64, Option<Instant>) {
        if seen.wanted_pods >= seen.deployment_pods {
            return (seen.wanted_pods, None);
        }
        let due = self.0.get(&component).map_or(now, |last| *last + drain);
        if !seen.settled || now < due {
            // The end of a pod is an event; the end of a drain is none.
            return (seen.deployment_pods, Some(due.max(now + Duration::from_secs(1))));
        }
        self.0.insert(component, now);
        (seen.deployment_pods - 1, Some(now + drain))
    }
}

/// Returns whether a pod that was told to end may still have clients.
pub fn may_still_hold_clients(pod: &CachedPod, now: Millis) -> bool {
    pod.termination_due.is_some_and(|ends| now < ends + POD_LOST_AFTER_MS)
}

/// Returns the time at which the next pod that has not ended counts as lost; `None` if there is none. The time is
/// needed because no event tells of the loss.
pub fn next_pod_lost_at(pods: &[Arc<CachedPod>], now: Millis) -> Option<Millis> {
    pods.iter()
        .filter_map(|pod| pod.termination_due)
        .map(|ends| ends + POD_LOST_AFTER_MS)
        .filter(|at| *at > now)
        .min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRAIN: Duration = Duration::from_mins(1);

    /// A simulated Deployment: it ends the pods above the wanted number at once, and each takes `takes` to end.
    struct Simulated {
        asked_pods: i64,
        pod_ends: Vec<Instant>,
        takes: Duration,
    }

    impl Simulated {
        fn ask(&mut self, replicas: i64, now: Instant) {
            for _ in replicas..self.asked_pods {
                self.pod_ends.push(now + self.takes);
            }
            self.asked_pods = replicas;
        }

        fn ending(&self, now: Instant) -> usize {
            self.pod_ends.iter().filter(|end| now < **end).count()
        }
    }

    proptest! {
        /// Whatever is wanted, however long drains take, and whichever leader takes over in between: two pods never end
        /// at once.
        #[test]
        fn never_two_pods_end_at_once(
            here in 2_i64..30, wanted in 1_i64..30, takes in 1_u64..90, tick in 1_u64..20, leader in 5_u64..500,
        ) {
            let start = Instant::now();
            let mut pods = Simulated { asked_pods: here, pod_ends: Vec::new(), takes: Duration::from_secs(takes) };
            let mut shrinks = ScaleDownPacer::default();
            for at in (0..20_000).step_by(tick as usize) {
                let now = start + Duration::from_secs(at);
                if at % leader < tick {
                    shrinks = ScaleDownPacer::default();
                }
                let seen = PodCounts { wanted_pods: wanted, deployment_pods: pods.asked_pods, settled: pods.ending(now) == 0 };
                let (replicas, _) = shrinks.next_replicas(Component::Gateway, seen, DRAIN, now);
                pods.ask(replicas, now);
                prop_assert!(pods.ending(now) <= 1, "{} end at once", pods.ending(now));
            }
            prop_assert_eq!(pods.asked_pods, wanted);
        }
    }

    #[test]
    fn one_a_drain_even_where_pods_end_sooner() {
        let (mut shrinks, start) = (ScaleDownPacer::default(), Instant::now());
        let seen = |here| PodCounts { wanted_pods: 2, deployment_pods: here, settled: true };
        assert_eq!(
            shrinks.next_replicas(Component::Websocket, seen(6), DRAIN, start),
            (5, Some(start + DRAIN))
        );
        let soon = start + Duration::from_secs(10);
        assert_eq!(
            shrinks.next_replicas(Component::Websocket, seen(5), DRAIN, soon),
            (5, Some(start + DRAIN))
        );
        assert_eq!(
            shrinks.next_replicas(Component::Gateway, seen(5), DRAIN, soon).0,
            4,
            "each component for itself"
        );
        assert_eq!(shrinks.next_replicas(Component::Websocket, seen(5), DRAIN, start + DRAIN).0, 4);
        assert_eq!(
            shrinks.next_replicas(Component::Websocket, PodCounts { wanted_pods: 9, ..seen(4) }, DRAIN, soon),
            (9, None)
        );
    }
}
