use serde_json::{Value, json};

use super::{GatheredState, assemble_report, scrub_secrets};

fn assembled_report(gathered: GatheredState) -> (Value, String) {
    let report = assemble_report(gathered);
    (serde_json::to_value(&report).unwrap(), serde_yaml::to_string(&report).unwrap())
}

#[test]
fn secrets_are_removed_from_addresses_and_tokens() {
    for (text, clean) in [
        ("nothing here", "nothing here"),
        ("http://a.b:6000/load", "http://a.b:6000/load"),
        ("redis://:hunter2@redis:6379/0, next", "redis://(removed)@redis:6379/0, next"),
        ("mongodb://u:p%40@a,b/x?y=z", "mongodb://(removed)@a,b/x?y=z"),
        ("mongodb://u:p/w@a/x", "mongodb://(removed)@a/x"),
        ("a://b c@d", "a://b c@d"),
        (
            "Authorization: Bearer abc.def\" and bearer x",
            "Authorization: Bearer (removed)\" and bearer (removed)",
        ),
        ("two redis://a:b@c and kafka://d:e@f", "two redis://(removed)@c and kafka://(removed)@f"),
        ("ends with Bearer ", "ends with Bearer (removed)"),
        ("://", "://"),
    ] {
        assert_eq!(scrub_secrets(text), clean);
    }
}

#[test]
fn a_report_has_no_secret_and_no_noise() {
    let deployment = json!({
        "metadata": {
            "name": "x-gateway",
            "managedFields": [{ "manager": "somebody" }],
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{hunter2}", "kept": "yes" }
        },
        "spec": { "template": { "spec": { "containers": [{ "env": [
            { "name": "LIVERANK_REDIS", "valueFrom": { "secretKeyRef": { "name": "redis", "key": "url" } } },
            { "name": "SIDECAR_TOKEN", "value": "hunter2" },
            { "name": "TARGET", "value": "https://me:hunter2@example.org" },
            { "name": "LEVEL", "value": "info" }
        ] }] } } }
    });
    let pod = json!({
        "metadata": { "name": "x-gateway-1", "namespace": "shop" },
        "spec": { "nodeName": "node1", "volumes": [{ "name": "hunter2" }] },
        "status": { "phase": "Running", "containerStatuses": [
            { "name": "gateway", "restartCount": 2, "ready": true, "lastState": { "terminated": { "exitCode": 137 } }, "hunter2": 1 }
        ] }
    });
    let gathered = GatheredState {
        missing: vec!["events: forbidden".to_owned()],
        cluster: json!({ "metadata": { "name": "x" }, "spec": { "image": "i" } }),
        objects: vec![("Deployment".to_owned(), vec![deployment])],
        pods: vec![pod.clone()],
        operators: vec![(pod, "ERROR redis://:hunter2@r is away\n".to_owned())],
        ..GatheredState::default()
    };
    let (value, text) = assembled_report(gathered);
    assert!(!text.contains("hunter2") && !text.contains("managedFields") && !text.contains("null"), "{text}");
    assert_eq!(value["missing"][0], "events: forbidden");
    let kept = &value["objects"]["Deployment"][0];
    assert_eq!(kept["metadata"]["annotations"], json!({ "kept": "yes" }));
    let env = &kept["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(env[0]["valueFrom"]["secretKeyRef"]["name"], "redis", "which Secret it is, is no secret");
    assert_eq!(env[1]["value"], "(removed)");
    assert_eq!(env[3]["value"], "info");
    let container = &value["pods"][0]["containers"][0];
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(container["restartCount"], 2);
    assert_eq!(value["pods"][0]["node"], "node1");
    assert_eq!(value["operators"][0]["log"], "ERROR redis://(removed)@r is away\n");
}

#[test]
fn events_of_both_kinds_are_in_order() {
    let gathered = GatheredState {
        events: vec![
            json!({
                "type": "Normal", "reason": "ScaleUp", "note": "2 to 3", "regarding": { "kind": "RankingCluster", "name": "x" },
                "eventTime": "2026-11-22T10:00:02.000000Z", "reportingController": "liverank-operator",
                "series": { "count": 3, "lastObservedTime": "2026-11-22T10:00:09.000000Z" }
            }),
            json!({
                "type": "Warning", "reason": "BackOff", "message": "again", "involvedObject": { "kind": "Pod", "name": "x-1" },
                "lastTimestamp": "2026-11-22T10:00:05Z", "count": 7, "source": { "component": "kubelet" }
            }),
        ],
        ..GatheredState::default()
    };
    let (value, _) = assembled_report(gathered);
    assert_eq!(
        value["events"],
        json!([
            { "time": "2026-11-22T10:00:05Z", "type": "Warning", "reason": "BackOff", "about": "Pod/x-1", "message": "again", "count": 7, "by": "kubelet" },
            { "time": "2026-11-22T10:00:09.000000Z", "type": "Normal", "reason": "ScaleUp", "about": "RankingCluster/x", "message": "2 to 3", "count": 3, "by": "liverank-operator" }
        ])
    );
}
