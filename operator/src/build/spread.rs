//! How the pods of a component spread over hosts and zones.
//!
//! The scheduler weighs no `ScheduleAnyway` constraint at a node that lacks the label of any one of them
//! (kubernetes/kubernetes#102136): a constraint over zones, on a cluster whose nodes name none, takes the one over hosts with
//! it, and all pods may run on one host. So hosts are a constraint, and zones are a preference against pods of the same kind,
//! which means nothing where there are no zones and takes nothing else with it.

use k8s_openapi::api::core::v1::{
    Affinity, PodAffinityTerm, PodAntiAffinity, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use super::component::Component;
use super::pod::TEMPLATE_LABEL;
use super::scope::Scope;

const HOST_KEY: &str = "kubernetes.io/hostname";
const ZONE_KEY: &str = "topology.kubernetes.io/zone";
/// The one revision that had a constraint over zones.
const REVISION_WITH_ZONE_CONSTRAINT: u32 = 2;
/// The first revision that prefers other zones.
const ZONES_PREFERRED_SINCE_REVISION: u32 = 3;
/// As much as may be: it is the only preference there is where the user states none.
const ZONE_WEIGHT: i32 = 100;

/// Over hosts as evenly as may be, where the user says nothing. All readers spread together, though each is a Deployment of
/// its own; of the others the pods of one template do, so that a roll-out ends as even as it began.
pub(super) fn constraints(scope: Scope<'_>, component: Component) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        match_label_keys: (component != Component::Reader).then(|| vec![TEMPLATE_LABEL.to_owned()]),
        ..TopologySpreadConstraint::default()
    };
    let default = || {
        let zones = (scope.input.revision == REVISION_WITH_ZONE_CONSTRAINT).then_some(ZONE_KEY);
        [HOST_KEY].into_iter().chain(zones).map(over).collect()
    };
    let mut spread: Vec<_> = scope.pod(component).topology_spread.clone().unwrap_or_else(default);
    for constraint in &mut spread {
        constraint.label_selector.get_or_insert_with(|| scope.selector(component));
    }
    spread
}

/// The user's affinity, with a preference for zones that have the fewest of these pods where the user says nothing of how
/// they spread. Pods of the template before count, too: Kubernetes 1.30 drops the field that would leave them out.
pub(super) fn affinity(scope: Scope<'_>, component: Component) -> Option<Affinity> {
    let pod = scope.pod(component);
    let says_nothing = pod.topology_spread.is_none()
        && pod.affinity.as_ref().is_none_or(|affinity| affinity.pod_anti_affinity.is_none());
    if scope.input.revision < ZONES_PREFERRED_SINCE_REVISION || !says_nothing {
        return pod.affinity.clone();
    }
    let other_zones = PodAffinityTerm {
        topology_key: ZONE_KEY.to_owned(),
        label_selector: Some(scope.selector(component)),
        ..PodAffinityTerm::default()
    };
    let preferred = WeightedPodAffinityTerm { weight: ZONE_WEIGHT, pod_affinity_term: other_zones };
    let pod_anti_affinity = PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![preferred]),
        ..PodAntiAffinity::default()
    };
    Some(Affinity { pod_anti_affinity: Some(pod_anti_affinity), ..pod.affinity.clone().unwrap_or_default() })
}
