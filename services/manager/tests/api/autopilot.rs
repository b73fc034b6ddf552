//! Tests of the planner in the managers: one of them plans, another takes over if it dies, and a planner outside has
//! priority.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Manager, Reader, StoreWithSwitch, until};
use liverank_adapters::AssignmentStore;
use liverank_adapters::assignment_store::{CordonLevel, ReaderCordon};
use liverank_core::ReaderId;
use liverank_manager::{Config, OnTimeout};
use reqwest::StatusCode;
use serde_json::{Value, json};

async fn start_autopilot(store: &Arc<StoreWithSwitch>) -> Manager {
    Manager::with(store, Config { autopilot: true, ..Config::default() }).await
}

async fn is_leading(manager: &Manager) -> bool {
    manager.json("/plan").await["leading"] == true
}

async fn get_term(manager: &Manager) -> Value {
    manager.json("/load").await["term"]["term"].clone()
}

#[tokio::test]
async fn one_of_them_plans_and_another_takes_over_when_it_dies() {
    let store = StoreWithSwitch::new();
    let (one, two) = (start_autopilot(&store).await, start_autopilot(&store).await);
    let _reader = Reader::start("reader-1", &[&two]).await;
    until("one is in office", async || is_leading(&one).await != is_leading(&two).await).await;
    let (leader, other) = if is_leading(&one).await { (one, two) } else { (two, one) };
    until("the other has heard", async || get_term(&other).await.is_u64()).await;
    let first = get_term(&other).await;
    leader.kill();
    drop(leader);
    let took = until("the other took over", async || is_leading(&other).await).await;
    assert!(took >= Duration::from_secs(5), "it was in office until a moment ago: {took:?}");
    until("its term is later", async || get_term(&other).await.as_u64() > first.as_u64()).await;
}

#[tokio::test]
async fn autopilot_decisions_are_shown() {
    let store = StoreWithSwitch::new();
    let manager = start_autopilot(&store).await;
    let reader = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    reader.watch("v", 5);
    until("it has decided on it", async || {
        let plan = manager.json("/plan").await;
        plan["decisions"][0]["videos"] == 1 && plan["decisions"][0]["readers"] == 1
    })
    .await;
    let plan = manager.json("/plan").await;
    assert_eq!((&plan["autopilot"], &plan["term"]["term"]), (&json!(true), &plan["decisions"][0]["term"]));
}

#[tokio::test]
async fn a_video_that_grows_hot_is_spread_and_the_plan_says_why() {
    let store = StoreWithSwitch::new();
    let config = Config { autopilot: true, hot_video_viewers: 300, ..Config::default() };
    let manager = Manager::with(&store, config).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    let two = Reader::start("reader-2", &[&manager]).await;
    manager.knows(2).await;
    one.watch("v", 600);
    one.told.lock().unwrap().heir = Some(two.told.clone());
    until("it is spread", async || (230..=350).contains(&two.viewers("v"))).await;
    let plan = manager.json("/plan").await;
    let decisions = plan["decisions"].as_array().unwrap();
    let decision = decisions.iter().find(|it| it["chosen"][0]["kind"] == "split").unwrap();
    let chosen = &decision["chosen"][0];
    assert_eq!((&chosen["videoid"], chosen["to"].as_array().unwrap().len()), (&json!("v"), 2));
    assert!(chosen["why"].as_str().unwrap().contains("600"), "{chosen}");
    let (before, after) = (&decision["before"]["max_over_mean"], &decision["after"]["max_over_mean"]);
    assert!(before.as_u64() > after.as_u64(), "{decision}");
    let moves = manager.json("/moves").await;
    assert_eq!(
        (&moves["moves"][0]["by"], &moves["moves"][0]["term"]),
        (&json!("autopilot"), &decision["term"])
    );
}

#[tokio::test]
async fn a_planner_outside_takes_over_and_is_left_alone() {
    let store = StoreWithSwitch::new();
    let manager = start_autopilot(&store).await;
    until("it is in office", async || is_leading(&manager).await).await;
    let term = manager.term("operator").await;
    until("it noticed", async || !is_leading(&manager).await).await;
    // The planner outside renews its term for longer than a manager would wait for a new beat.
    for _ in 0..4 {
        let (status, answer) = manager.order("/term", &json!({"holder": "operator", "renew": term})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert!(!is_leading(&manager).await);
        let beaten = tokio::time::Instant::now();
        until("a planning round has passed", async || beaten.elapsed() > Duration::from_secs(5)).await;
    }
    until("it takes over where nobody plans any more", async || is_leading(&manager).await).await;
}

/// Starts a manager with a drain timeout of one second, and drains its only reader while the reader has viewers.
async fn drain_the_only_reader(on_timeout: OnTimeout) -> (Manager, Reader) {
    let store = StoreWithSwitch::new();
    let (drain_timeout_seconds, drain_on_timeout) = (1, on_timeout);
    let config = Config { autopilot: true, drain_timeout_seconds, drain_on_timeout, ..Config::default() };
    let manager = Manager::with(&store, config).await;
    let reader = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    reader.watch("v", 5);
    until("its viewers are known", async || manager.json("/load").await["readers"][0]["viewers"] == 5).await;
    assert!(manager.json("/load").await["readers"][0]["drain_overdue"].is_null());
    until("it is in office", async || is_leading(&manager).await).await;
    let term = get_term(&manager).await.as_u64().unwrap();
    let id = ReaderId::parse("reader-1").unwrap();
    let cordon =
        ReaderCordon { reader: id.clone(), closing: CordonLevel::Draining, why: "new disk".to_owned() };
    assert_eq!(store.set_cordon(term, &id, Some(&cordon)).await.unwrap(), None);
    (manager, reader)
}

#[tokio::test]
async fn a_drain_that_finds_no_room_in_time_is_held_and_said() {
    let (manager, reader) = drain_the_only_reader(OnTimeout::Hold).await;
    let said = "reader-1 still has 5 viewers after 1 s: it waits for them (--drain-on-timeout hold)";
    until("it is said", async || {
        let plan = manager.json("/plan").await;
        plan["decisions"][0]["rejected"].as_array().is_some_and(|lines| lines.contains(&json!(said)))
    })
    .await;
    let load = manager.json("/load").await;
    assert_eq!(
        (&load["readers"][0]["drain_overdue"], &load["readers"][0]["cordon"]),
        (&json!(true), &json!("draining"))
    );
    assert_eq!(reader.viewers("v"), 5);
    until("it is measured", async || manager.metrics().contains("liverank_manager_drains_overdue 1\n")).await;
    // Lifting the cordon ends the drain.
    let term = manager.term("somebody").await;
    let open = json!({"term": term, "lease": crate::support::a_lease(), "cordons": [{"reader": "reader-1", "cordon": null, "why": ""}]});
    let (status, answer) = manager.order("/cordons", &open).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    until("it is over", async || manager.json("/load").await["readers"][0]["drain_overdue"].is_null()).await;
}

#[tokio::test]
async fn a_drain_that_finds_no_room_in_time_is_forced_where_that_is_wanted() {
    let (manager, _reader) = drain_the_only_reader(OnTimeout::Force).await;
    until("it is removed", async || manager.json("/load").await["readers"][0]["cordon"] == "removed").await;
    let cordons = manager.json("/cordons").await;
    let why = cordons["cordons"][0]["why"].as_str().unwrap();
    assert!(
        why.starts_with("reader-1 goes with 5 viewers: it is not empty after ")
            && why.ends_with(", 1 s are allowed"),
        "{why}"
    );
    assert!(manager.json("/load").await["readers"][0]["drain_overdue"].is_null());
}
