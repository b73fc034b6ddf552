//! How a component's pods are spread over hosts and zones.
//!
//! If a node lacks the label of any one of a pod's `ScheduleAnyway` constraints, the scheduler ignores all of them at
//! that node (kubernetes/kubernetes#102136). On a cluster whose nodes have no zones, a constraint over zones would
//! therefore disable the constraint over hosts, and all pods might run on one host. So the spread over hosts is a
//! constraint, and the spread over zones is a preference against pods of the same component, which has no effect if
//! there are no zones.

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, EnvVarSource, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use liverank_protocol::roles::{self, ReleaseVersion};

use super::component::Component;
use super::pod::TEMPLATE_LABEL;
use super::scope::Scope;

const HOST_KEY: &str = "kubernetes.io/hostname";
const ZONE_KEY: &str = "topology.kubernetes.io/zone";
/// The only builder revision that had a constraint over zones.
const REVISION_WITH_ZONE_CONSTRAINT: u32 = 2;
/// The first builder revision that prefers zones without pods of the same component.
const ZONES_PREFERRED_SINCE_REVISION: u32 = 3;
/// The first builder revision that sets the variable with their zone in gateways and readers.
const ZONES_TOLD_SINCE_REVISION: u32 = 4;
/// The environment variable that contains the zone of a process.
const ZONE_VARIABLE: &str = "LIVERANK_ZONE";
/// The weight of the preference for other zones: the maximum, because it is the only preference if the user states
/// none.
const ZONE_WEIGHT: i32 = 100;

/// Returns the user's spread constraints; if there are none, pods are spread over hosts as evenly as possible. All
/// readers are spread together, although each is a Deployment of its own. The pods of other components are spread for
/// each template separately, so that a roll-out ends as evenly as it began.
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
    let mut spread: Vec<_> = scope.pod_settings(component).topology_spread.clone().unwrap_or_else(default);
    for constraint in &mut spread {
        constraint.label_selector.get_or_insert_with(|| scope.selector(component));
    }
    spread
}

/// Returns the variable that tells a gateway or reader its zone, from its pod's label. Kubernetes gives pods the label
/// with their zone from version 1.35 on, before the pod's containers start. On an older Kubernetes the variable is
/// empty, which means that the zone is unknown.
pub(super) fn zone_variable(scope: Scope<'_>, component: Component) -> Option<EnvVar> {
    let is_told = matches!(component, Component::Gateway | Component::Reader);
    // A process ends at a variable that it does not know.
    let is_known =
        roles::knows_setting(component.role(), "zone", ReleaseVersion::of_image(&scope.spec.image));
    (is_told && is_known && scope.input.revision >= ZONES_TOLD_SINCE_REVISION).then(|| EnvVar {
        name: ZONE_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: format!("metadata.labels['{ZONE_KEY}']"),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    })
}

/// Returns the user's affinity. If the user says nothing about the spread, a preference for the zones with the fewest
/// pods of the component is added. Pods of the previous template count in this preference, too: Kubernetes 1.30 drops
/// the field that would exclude them.
pub(super) fn affinity(scope: Scope<'_>, component: Component) -> Option<Affinity> {
    let pod = scope.pod_settings(component);
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
