//! Messages of a peer of a later release, with values that this release does not know.

use liverank_core::handover::CordonLevel;
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_protocol::{ClusterLoad, CordonRequest, MovePhase, MoveState, OrderedBy};
use serde_json::{Value, json};

fn load_with(state: &str, cordon: &Value) -> Value {
    json!({
        "readers": [{
            "id": "reader-1", "public_url": "http://a", "internal_url": "http://b", "state": state, "cordon": cordon,
            "silent_ms": 1, "fresh": true, "unreachable": false, "grace_ms": 0, "viewers": 3, "capacity": 10,
            "assigned": 1, "highest_epoch": 7, "reconnects": 0, "reconnect_errors": 0, "videos": [["v", 3]],
        }],
        "videos": 1, "fresh": true, "highest_epoch": 7, "viewers_per_minute": 20, "in_flight": 0,
        "cordons": [{"reader": "reader-1", "cordon": cordon, "why": "a test"}],
    })
}

#[test]
fn known_values_are_read_and_written_as_before() {
    let states = [
        ("alive", ReaderStatus::Alive),
        ("draining", ReaderStatus::Draining),
        ("suspect", ReaderStatus::Suspect),
        ("gone", ReaderStatus::Gone),
    ];
    let cordons = [("closed", CordonLevel::Closed), ("draining", CordonLevel::Draining)];
    for (name, state) in states {
        for (cordon_name, cordon) in cordons {
            let json = load_with(name, &json!(cordon_name));
            let read: ClusterLoad = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(read.readers[0].state, state);
            assert!(read.readers[0].cordon.as_ref().is_some_and(|it| *it == cordon));
            assert_eq!(serde_json::to_value(&read).unwrap(), json);
        }
    }
}

#[test]
fn unknown_values_are_kept_as_text_and_are_none_of_the_known_ones() {
    let json = load_with("hibernating", &json!("half_closed"));
    let read: ClusterLoad = serde_json::from_value(json.clone()).unwrap();
    let reader = &read.readers[0];
    assert_eq!((reader.state.to_string(), reader.viewers), ("hibernating".to_owned(), 3));
    assert_eq!(reader.state.known_value(), None);
    assert_eq!(reader.cordon.as_ref().map(ToString::to_string).as_deref(), Some("half_closed"));
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
}

#[test]
fn a_cordon_may_be_absent_or_null() {
    for text in [r#"{"reader":"r"}"#, r#"{"reader":"r","cordon":null}"#] {
        let read: CordonRequest = serde_json::from_str(text).unwrap();
        assert_eq!(read.cordon, None);
    }
    assert!(serde_json::from_str::<CordonRequest>(r#"{"reader":"r","cordon":7}"#).is_err());
}

#[test]
fn a_move_says_who_ordered_it_and_how_far_it_is() {
    let json = |state: &str, by: &str| {
        json!({
            "id": 1, "videoid": "v", "state": state, "from": [], "to": [{"reader": "r", "weight": 1}], "epoch": 3,
            "viewers": 5, "left": 2, "by": by, "why": "balance", "age_ms": 40,
        })
    };
    let by = [("order", OrderedBy::Order), ("autopilot", OrderedBy::Autopilot), ("drain", OrderedBy::Drain)];
    for (name, value) in by {
        let read: MoveState = serde_json::from_value(json("handing_over", name)).unwrap();
        assert!(read.by == value && read.state == MovePhase::HandingOver);
        assert_eq!(serde_json::to_value(&read).unwrap(), json("handing_over", name));
    }
    let newer: MoveState = serde_json::from_value(json("paused", "operator")).unwrap();
    assert_eq!((newer.state.to_string(), newer.by.to_string()), ("paused".to_owned(), "operator".to_owned()));
}
