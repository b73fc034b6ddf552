//! What managers answer is bounded before it is parsed. The only test of its program, because it measures the memory of
//! the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

use liverank_operator::answers::{MAX_REPORT_BYTES, parsed_size};
use liverank_protocol::ClusterLoad;
use serde_json::{Value, json};

/// The longest answer that the operator reads.
const LONGEST: usize = 16 * 1024 * 1024;

/// Returns the process's largest resident memory so far, in bytes.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Returns an answer as long as one may be, with as many items as fit into the array that begins after `before`.
fn stuffed(before: &str, item: &str, after: &str) -> Vec<u8> {
    let count = (LONGEST - before.len() - after.len()) / (item.len() + 1);
    let items = vec![item; count].join(",");
    [before, &items, after].concat().into_bytes()
}

fn empty_load() -> Value {
    serde_json::to_value(ClusterLoad::default()).unwrap()
}

/// Returns the load of a cluster as large as one is meant to be: 500 readers with 30,000 videos.
fn largest_load() -> Vec<u8> {
    let readers: Vec<Value> = (0..500).map(|n| {
        let id = format!("live-reader-{n}");
        let videos: Vec<Value> = (0..60).map(|v| json!([format!("video-of-usual-length-{n}-{v}"), 100])).collect();
        json!({"id": id, "public_url": format!("https://{id}.live.example.org"), "internal_url": format!("http://{id}.video:4001"),
            "state": "alive", "silent_ms": 1, "fresh": true, "grace_ms": 0, "viewers": 1, "capacity": 9, "assigned": 60,
            "highest_epoch": 7, "reconnects": 0, "reconnect_errors": 0, "videos": videos})
    }).collect();
    let assignments: Vec<Value> = (0..30_000).map(|n| {
        json!({"videoid": format!("video-of-usual-length-{n}"), "epoch": 7, "viewers": 100, "changed_ms": 5, "moving": false,
            "readers": [{"reader": "live-reader-1", "weight": 1}]})
    }).collect();
    let mut load = empty_load();
    load["readers"] = readers.into();
    load["assignments"] = assignments.into();
    load["videos"] = json!(30_000);
    serde_json::to_vec(&load).unwrap()
}

#[test]
fn an_answer_takes_what_it_was_weighed_at_and_one_of_many_small_arrays_is_refused() {
    let reader = r#"{"videos":["#;
    let answers = [
        stuffed(r#"{"readers":["#, "{}", "]}"),
        stuffed(&format!(r#"{{"readers":[{reader}"#), r#"["",1]"#, "]}]}"),
        stuffed(r#"{"assignments":["#, r#"{"readers":[]}"#, "]}"),
        stuffed(r#"{"assignments":[{"readers":["#, "{}", "]}]}"),
        stuffed(r#"{"assignments":["#, r#"{"readers":[{},{},{},{},{}]}"#, "]}"),
        stuffed(r#"{"cordons":["#, "{}", "]}"),
        stuffed(r#"{"unlisted":{"videos":1,"viewers":["#, r#"["",1]"#, "]}}"),
    ];
    let before = peak_bytes();
    for answer in &answers {
        let refused = parsed_size::<ClusterLoad>(answer).unwrap_err().to_string();
        assert!(refused.len() < 300, "{refused}");
    }
    let grown = peak_bytes() - before;
    assert!(grown < 1024 * 1024, "{grown} bytes for answers that are refused");
    drop(answers);

    let largest = largest_load();
    let weight = parsed_size::<ClusterLoad>(&largest).unwrap();
    assert!(weight * 3 <= MAX_REPORT_BYTES * 2, "{weight} bytes");
    // The answers above left room that this one is put into: as many copies as exceed it.
    let before = peak_bytes();
    let copies: Vec<ClusterLoad> = (0..20).map(|_| serde_json::from_slice(&largest).unwrap()).collect();
    let each = peak_bytes().saturating_sub(before) / copies.len();
    assert!((weight / 10..=weight).contains(&each), "{each} bytes where {weight} were expected");
}
