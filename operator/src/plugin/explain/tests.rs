use jiff::Timestamp;
use liverank_protocol::ClusterLoad;
use serde_json::{Value, json};

use super::{DeployedReader, explanation_value, render_explanation};
use crate::crd::RankingCluster;

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn cluster(status: Value) -> RankingCluster {
    let mut cluster: Value =
        serde_yaml::from_str(include_str!("../../../tests/fixtures/valid.yaml")).unwrap();
    cluster["metadata"]["namespace"] = json!("shop");
    cluster["metadata"]["generation"] = json!(4);
    cluster["status"] = status;
    serde_json::from_value(cluster).unwrap()
}

fn example_status() -> Value {
    json!({
        "observedGeneration": 4,
        "operator": { "identity": "liverank-6d_1f", "version": "0.1.0" },
        "conditions": [
            { "type": "Ready", "status": "True", "reason": "AllReady", "message": "", "lastTransitionTime": "2026-11-22T09:00:00Z" },
            {
                "type": "Degraded",
                "status": "True",
                "reason": "DrainOverdue",
                "message": "live-reader-10 has been emptied for longer than drain.timeoutSeconds, and 12 viewers are left: set onTimeout to Force or wait",
                "lastTransitionTime": "2026-11-22T09:59:00Z"
            }
        ],
        "readers": {
            "replicas": 2, "selector": "a=b", "desired": 2, "ready": 2, "draining": 1,
            "viewers": 41000, "imbalancePercent": 8, "loadAsOf": "2026-11-22T09:59:55Z"
        },
        "lastDecision": {
            "id": "ScaleDown-17", "time": "2026-11-22T09:40:00Z", "action": "ScaleDown",
            "reason": "2 readers have been enough for 300 s",
            "inputs": { "readers": 3, "fresh": 3, "draining": 0, "viewers": 41000, "expectedViewers": 40000, "raw": 2, "desired": 2 },
            "boundBy": ["one at a time"],
            "chosen": ["live-reader-10: 700 viewers, the cheapest to empty"],
            "rejected": ["live-reader-2: 21,000 viewers", "live-reader-1: 19,000 viewers"],
            "inputsHash": "0123456789abcdef"
        }
    })
}

fn load() -> ClusterLoad {
    let reader = |id: &str, viewers: u64| {
        json!({
            "id": id, "public_url": "", "internal_url": "", "state": "alive", "silent_ms": 400, "fresh": true,
            "grace_ms": 0, "viewers": viewers, "capacity": 20000, "assigned": 31, "highest_epoch": 9,
            "reconnects": 0, "reconnect_errors": 0, "videos": []
        })
    };
    let mut readers = vec![reader("live-reader-2", 21000), reader("live-reader-10", 12), reader("old", 1)];
    readers[1]["state"] = json!("draining");
    readers[1]["cordon"] = json!("draining");
    readers[1]["reconnects"] = json!(1000);
    readers[1]["reconnect_errors"] = json!(3);
    serde_json::from_value(json!({
        "readers": readers, "videos": 1234, "term": { "term": 7, "holder": "liverank-6d_1f" }, "fresh": true,
        "hold": "a third of the readers seem gone", "highest_epoch": 9, "viewers_per_minute": 20000, "in_flight": 12
    }))
    .unwrap()
}

fn deployed(name: &str, ready: bool, drain: Option<(&str, &str)>) -> DeployedReader {
    DeployedReader {
        name: name.to_owned(),
        ready,
        drain: drain.map(|(why, _)| why.to_owned()),
        since: drain.map(|(_, since)| since.parse().unwrap()),
    }
}

#[test]
fn the_explanation_fits_one_screen() {
    let readers = [
        deployed("live-reader-2", true, None),
        deployed("live-reader-9", false, None),
        deployed("live-reader-10", true, Some(("scale-down", "2026-11-22T09:40:00Z"))),
    ];
    let text = render_explanation(&cluster(example_status()), &readers, &Ok(load()), now());
    assert_eq!(text, include_str!("full.txt"), "\n{text}");
}

#[test]
fn zones_are_shown_where_readers_know_theirs() {
    let (mut status, mut load) = (example_status(), load());
    status["readers"]["zones"] =
        json!([{ "name": "eu-1a", "readers": 2, "viewers": 21000, "otherZoneViewers": 1200 }]);
    load.readers[0].zone = Some("eu-1a".parse().unwrap());
    load.readers[0].viewers_by_zone.other = 1_234;
    let text = render_explanation(&cluster(status), &[], &Ok(load), now());
    for line in [
        "  zone eu-1a: 2 readers; 21,000 viewers, 1,200 of them by gateways of other zones\n",
        "  READER          ZONE   POD            MANAGERS SAY  VIEWERS  BY OTHER ZONES      OF  VIDEOS  SILENT  NOTE\n",
        "  live-reader-2   eu-1a  no Deployment  alive          21,000           1,234  20,000      31      0s\n",
        "  old             -      no Deployment  alive               1               0  20,000      31      0s\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
}

#[test]
fn unknown_load_is_stated() {
    let text = render_explanation(&cluster(json!(null)), &[], &Err("connection refused".to_owned()), now());
    assert_eq!(text, include_str!("nothing.txt"), "\n{text}");
}

#[test]
fn an_outdated_load_and_a_pause_are_stated() {
    let mut cluster = cluster(example_status());
    cluster.metadata.generation = Some(5);
    cluster.spec.paused = true;
    cluster.spec.comment.enabled = false;
    let text = render_explanation(&cluster, &[], &Ok(ClusterLoad::default()), now());
    assert!(
        text.contains("all this is of generation 4: the operator has not seen generation 5 yet\n"),
        "{text}"
    );
    assert!(text.contains("  paused: the operator writes nothing but status\n"), "{text}");
    assert!(text.ends_with("Readers\n  none: comment.enabled is false\n"), "{text}");
}

#[test]
fn a_reader_is_read_from_its_deployment() {
    let deployment = serde_json::from_value(json!({
        "metadata": {
            "name": "live-reader-1",
            "annotations": { "liverank.dev/drain": "upgrade", "liverank.dev/drain-since": "2026-11-22T09:40:00Z" }
        },
        "status": { "readyReplicas": 1 }
    }))
    .unwrap();
    assert_eq!(
        DeployedReader::of(&deployment),
        deployed("live-reader-1", true, Some(("upgrade", "2026-11-22T09:40:00Z")))
    );
    assert_eq!(
        DeployedReader::of(&k8s_openapi::api::apps::v1::Deployment::default()),
        DeployedReader::default()
    );
}

#[test]
fn programs_are_told_what_people_are() {
    let readers = [DeployedReader {
        name: "live-reader-10".into(),
        ready: true,
        drain: Some("scale-in".into()),
        since: Some(now()),
    }];
    let value = explanation_value(&cluster(example_status()), &readers, &Ok(load()));
    assert_eq!((&value["namespace"], &value["generation"]), (&json!("shop"), &json!(4)));
    assert_eq!(value["status"]["lastDecision"]["id"], "ScaleDown-17");
    let reader = json!({
        "name": "live-reader-10", "ready": true, "drain": "scale-in", "since": "2026-11-22T10:00:00Z"
    });
    assert_eq!(value["readers"], json!([reader]));
    assert_eq!((&value["load"]["readers"][0]["viewers"], &value["loadError"]), (&json!(21000), &Value::Null));
    let alone = explanation_value(&cluster(example_status()), &[], &Err("nobody answers".into()));
    assert_eq!((&alone["load"], &alone["loadError"]), (&Value::Null, &json!("nobody answers")));
}
