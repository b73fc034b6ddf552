//! Tests of v1beta1: nothing is lost between the versions, whatever a resource has, and what cannot be converted is
//! refused by its path.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::LazyLock;

use liverank_operator::crd::v1beta1::{
    Version, WebhookService, convert_object, definition_of_both, table, to_v1alpha1, to_v1beta1,
};
use liverank_operator::crd::{RankingCluster, definition};
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "versions/generated.rs"]
mod generated;
#[path = "versions/reference.rs"]
mod reference;
#[path = "versions/schema.rs"]
mod schema;

/// The whole resources that other tests have.
const RESOURCES: [&str; 7] = [
    include_str!("build/clusters/full.yaml"),
    include_str!("build/clusters/httproute.yaml"),
    include_str!("build/clusters/minimal.yaml"),
    include_str!("build/clusters/no-comment.yaml"),
    include_str!("build/clusters/per-reader.yaml"),
    include_str!("build/clusters/tls.yaml"),
    include_str!("fixtures/valid.yaml"),
];

fn both() -> Value {
    let service = WebhookService { namespace: "liverank".to_owned(), name: "operator".to_owned() };
    serde_json::to_value(definition_of_both(&service)).unwrap()
}

/// The schemas of a spec, by version; made once, because many tests ask for them often.
static SPEC_SCHEMAS: LazyLock<[Value; 2]> = LazyLock::new(|| {
    let alone = serde_json::to_value(definition()).unwrap();
    let of = |definition: &Value, nth: usize| {
        let version = &definition["spec"]["versions"][nth];
        assert_eq!(version["name"], Version::ALL[nth].name());
        version["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    };
    [of(&alone, 0), of(&both(), 1)]
});

fn spec_schema(version: Version) -> &'static Value {
    match version {
        Version::V1alpha1 => &SPEC_SCHEMAS[0],
        Version::V1beta1 => &SPEC_SCHEMAS[1],
    }
}

fn resource(text: &str) -> Value {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

#[test]
fn whole_resources_come_back_as_they_were() {
    for text in RESOURCES {
        let mut given = resource(text);
        given["status"] = json!({ "observedGeneration": 3, "later": [1] });
        given["spec"]["later"] = json!({ "field": true });
        let converted = convert_object(&given, Version::V1beta1).unwrap();
        assert_eq!(converted["apiVersion"], "liverank.dev/v1beta1");
        for part in ["metadata", "status", "kind"] {
            assert_eq!(converted[part], given[part]);
        }
        assert_ne!(converted["spec"], given["spec"]);
        assert_eq!(convert_object(&converted, Version::V1alpha1).unwrap(), given);
    }
}

#[test]
fn each_kind_of_change_is_seen_in_a_whole_resource() {
    let spec = to_v1beta1(&resource(RESOURCES[0])["spec"]).unwrap();
    for (pointer, value) in [
        ("/reconciliation", json!("Active")),
        ("/auth/mode", json!("JWT")),
        ("/auth/jwks/secretKeyRef/name", json!("users")),
        ("/monitoring/serviceMonitor/mode", json!("Managed")),
        ("/boards/2/halfLife", json!("2h")),
        ("/comment/hook/timeout", json!("800ms")),
        ("/gateway/drainTimeout", json!("1m30s")),
        ("/gateway/autoscaling/targetCPUUtilizationPercentage", json!(60)),
        ("/exposure/ingressClassName", json!("nginx")),
        ("/readers/podTemplate/metadata/labels/example.org~1team", json!("video")),
        ("/readers/podTemplate/spec/topologySpreadConstraints/0/maxSkew", json!(2)),
        ("/readers/podTemplate/spec/securityContext/supplementalGroups", json!([3000])),
        ("/readers/podTemplate/container/securityContext/seccompProfile/type", json!("RuntimeDefault")),
        ("/readers/podTemplate/container/resources/limits/memory", json!("2048Mi")),
        ("/readers/scaling/fallback/after", json!("30s")),
        ("/readers/podDisruptionBudget/maxUnavailable", json!(4)),
        ("/manager/podTemplate/container/livenessProbe/periodSeconds", json!(20)),
        ("/comment/rules/slowInterval", json!("10s")),
        ("/comment/rules/ownRepeatInterval", json!("1m")),
        ("/comment/rules/membersOnly", json!(true)),
        ("/readers/terminationGracePeriodSeconds", json!(240)),
    ] {
        assert_eq!(spec.pointer(pointer), Some(&value), "{pointer}");
    }
}

#[test]
fn the_same_duration_in_other_words_is_the_same_number() {
    let drained = |text: &str| to_v1alpha1(&json!({"readers": {"drain": {"timeout": text}}})).unwrap();
    for text in ["5m", "300s", "4m60s"] {
        assert_eq!(drained(text), json!({"readers": {"drain": {"timeoutSeconds": 300}}}));
    }
}

#[test]
fn parts_of_a_resource_are_converted_too() {
    // Server-side apply converts what one manager owns: parts, which may lack anything.
    for (part, converted) in [
        (json!({}), json!({})),
        (json!({"readers": {}}), json!({"readers": {}})),
        (json!({"gateway": {"podTemplate": {"metadata": {}}}}), json!({"gateway": {"pod": {}}})),
        (json!({"paused": null}), json!({"reconciliation": null})),
    ] {
        match part.get("paused") {
            None => assert_eq!(to_v1alpha1(&part).unwrap(), converted),
            Some(_) => assert_eq!(to_v1beta1(&part).unwrap(), converted),
        }
    }
    let bare =
        json!({"apiVersion": "liverank.dev/v1alpha1", "kind": "RankingCluster", "metadata": {"name": "a"}});
    let converted = convert_object(&bare, Version::V1beta1).unwrap();
    assert_eq!(converted.get("spec"), None);
    assert_eq!(convert_object(&converted, Version::V1alpha1).unwrap(), bare);
}

#[test]
fn what_cannot_be_converted_is_refused_by_its_path() {
    for (spec, refused) in [
        (
            json!({"readers": {"drain": {"timeout": "5x"}}}),
            "spec.readers.drain.timeout: \"5x\" is not a duration: write one such as 30s, 5m or 1h30m",
        ),
        (
            json!({"boards": [{"name": "a"}, {"halfLife": "90s"}]}),
            "spec.boards[1].halfLife: \"90s\" is not a whole number of minutes",
        ),
        (
            json!({"gateway": {"drainTimeout": 30}}),
            "spec.gateway.drainTimeout: a duration such as 30s, 5m or 1h30m is needed",
        ),
        (json!({"comment": {"mode": "enabled"}}), "spec.comment.mode: Enabled or Disabled is needed"),
        (json!({"paused": true}), "spec.paused: a field of v1alpha1; in v1beta1 it is reconciliation"),
        (
            json!({"gateway": {"podTemplate": {"labels": {}}}}),
            "spec.gateway.podTemplate.labels: a field of v1alpha1; in v1beta1 it is metadata.labels",
        ),
        (
            json!({"gateway": {"podTemplate": {"spec": {"nodeName": "a"}}}}),
            "spec.gateway.podTemplate.spec.nodeName: there is no such field",
        ),
        (
            json!({"monitoring": {"serviceMonitor": true}}),
            "spec.monitoring.serviceMonitor: an object is needed",
        ),
    ] {
        assert_eq!(to_v1alpha1(&spec).unwrap_err().to_string(), refused);
    }
    for (spec, refused) in [
        (json!({"paused": "yes"}), "spec.paused: true or false is needed"),
        (
            json!({"readers": {"drain": {"timeoutSeconds": -5}}}),
            "spec.readers.drain.timeoutSeconds: a whole number of seconds is needed",
        ),
        (
            json!({"gateway": {"podTemplate": {}}}),
            "spec.gateway.podTemplate: a field of v1beta1; in v1alpha1 it is pod",
        ),
    ] {
        assert_eq!(to_v1beta1(&spec).unwrap_err().to_string(), refused);
    }
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    let refused = convert_object(&other, Version::V1beta1).unwrap_err().to_string();
    assert_eq!(refused, "apiVersion: \"apps/v1\" is neither liverank.dev/v1alpha1 nor /v1beta1");
}

/// Removes groups without fields, which v1alpha1 has no place for.
fn without_empty_groups(value: &mut Value, at: &str) {
    match value {
        Value::Object(members) => {
            let changes: Vec<_> = table::CHANGES.iter().filter(|it| it.parents.contains(&at)).collect();
            members.retain(|name, member| {
                let is_group = changes.iter().any(|change| change.is_grouped() && change.group() == name);
                !(is_group && *member == json!({}))
            });
            for (name, member) in members {
                let old = changes.iter().find(|change| change.new == name).map_or(name.as_str(), |it| it.old);
                let at = if at.is_empty() { old.to_owned() } else { format!("{at}.{old}") };
                without_empty_groups(member, &at);
            }
        }
        Value::Array(items) => {
            for item in items {
                without_empty_groups(item, &format!("{at}[]"));
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_v1alpha1_comes_back_from_v1beta1(seed in any::<u64>()) {
        let given = generated::value(spec_schema(Version::V1alpha1), seed);
        let converted = to_v1beta1(&given).unwrap();
        prop_assert_eq!(to_v1alpha1(&converted).unwrap(), given);
    }

    #[test]
    fn any_v1beta1_comes_back_from_v1alpha1(seed in any::<u64>()) {
        let mut given = generated::value(spec_schema(Version::V1beta1), seed);
        let converted = to_v1alpha1(&given).unwrap();
        without_empty_groups(&mut given, "");
        prop_assert_eq!(to_v1beta1(&converted).unwrap(), given);
    }
}

#[test]
fn generated_resources_are_read_by_the_types() {
    // Shows that the generator makes what the two tests above are about: almost all fields, with values that are read.
    let mut read = 0;
    for seed in 0..200 {
        let spec = generated::value(spec_schema(Version::V1alpha1), seed);
        let object = json!({"apiVersion": "liverank.dev/v1alpha1", "kind": "RankingCluster", "metadata": {"name": "a"}, "spec": spec});
        read += usize::from(serde_json::from_value::<RankingCluster>(object).is_ok());
    }
    assert!(read > 20, "only {read} of 200 are read");
}
