use liverank_protocol::ClusterLoad;
use serde_json::{Value, json};

use super::{ask_planner, render_answer};
use crate::crd::RankingCluster;

fn cluster() -> RankingCluster {
    let mut cluster: Value =
        serde_yaml::from_str(include_str!("../../../tests/fixtures/valid.yaml")).unwrap();
    cluster["metadata"]["namespace"] = json!("shop");
    serde_json::from_value(cluster).unwrap()
}

/// Returns the load of two readers with nine videos of 2,000 viewers each.
fn load() -> ClusterLoad {
    let name = |at: usize| format!("live-reader-{}", at % 2);
    let video = |at: usize| json!([format!("video-{at}"), 2000]);
    let readers: Vec<Value> = (0..2)
        .map(|reader| {
            let videos: Vec<Value> = (0..9).filter(|at| at % 2 == reader).map(video).collect();
            json!({
                "id": name(reader), "public_url": "", "internal_url": "", "state": "alive", "silent_ms": 0,
                "fresh": true, "grace_ms": 0, "viewers": videos.len() * 2000, "capacity": 20000,
                "assigned": videos.len(), "highest_epoch": 9, "reconnects": 0, "reconnect_errors": 0, "videos": videos
            })
        })
        .collect();
    let assignments: Vec<Value> = (0..9)
        .map(|at| {
            json!({
                "videoid": format!("video-{at}"), "epoch": 1, "readers": [{ "reader": name(at), "weight": 1 }],
                "viewers": 2000, "changed_ms": 3_600_000, "moving": false
            })
        })
        .collect();
    serde_json::from_value(json!({
        "readers": readers, "videos": 9, "assignments": assignments, "fresh": true, "highest_epoch": 9,
        "viewers_per_minute": 20000, "in_flight": 0
    }))
    .unwrap()
}

#[test]
fn what_if_with_more_readers_moves_viewers_to_them() {
    let answer = ask_planner(&cluster(), &load(), 3).unwrap();
    let text = render_answer(&cluster(), &load(), 3, &answer);
    assert_eq!(text, include_str!("three.txt"), "\n{text}");
}

#[test]
fn what_if_below_the_minimum_says_so() {
    let answer = ask_planner(&cluster(), &load(), 1).unwrap();
    let text = render_answer(&cluster(), &load(), 1, &answer);
    assert_eq!(text, include_str!("one.txt"), "\n{text}");
}

#[test]
fn what_if_names_zones_where_readers_know_theirs() {
    let mut load = load();
    load.readers[0].zone = Some("eu-1a".parse().unwrap());
    let answer = ask_planner(&cluster(), &load, 3).unwrap();
    let text = render_answer(&cluster(), &load, 3, &answer);
    for line in
        ["  live-reader-0  eu-1a  open ", "  live-reader-1  -      open ", "  new-1          -      new "]
    {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
}

#[test]
fn without_comments_or_assignments_there_is_no_answer() {
    let mut cluster = cluster();
    let mut load = load();
    load.assignments = None;
    let refused = ask_planner(&cluster, &load, 3).unwrap_err();
    assert_eq!(refused, "the load has no assignments: ask for it with them");
    cluster.spec.comment.enabled = false;
    let refused = ask_planner(&cluster, &load, 3).unwrap_err();
    assert_eq!(refused, "comment.enabled is false: there are no readers");
}
