//! Tests of moves, splits, joins and drains: the new reader is made ready, then the compare-and-set is done, then
//! viewers go.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::support::{Manager, Reader, StoreWithSwitch, ticket, until, video};
use liverank_manager::Config;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Starts two readers, and registers video `v`, which has 40 viewers at the first.
async fn two_readers_one_video(manager: &Manager) -> [Reader; 2] {
    let one = Reader::start("reader-1", &[manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    one.watch("v", 40);
    let two = Reader::start("reader-2", &[manager]).await;
    manager.knows(2).await;
    until("its viewers are known", async || manager.json("/viewers/v").await["viewers"] == 40).await;
    [one, two]
}

fn shares_json(readers: &[(&str, u32)]) -> Value {
    readers.iter().map(|(reader, weight)| json!({"reader": reader, "weight": weight})).collect()
}

async fn order_move(
    manager: &Manager,
    term: u64,
    expected: u64,
    readers: &[(&str, u32)],
) -> (StatusCode, Value) {
    let order =
        json!({"videoid": "v", "expected": expected, "readers": shares_json(readers), "why": "a test"});
    manager.order("/moves", &json!({"term": term, "moves": [order]})).await
}

/// Returns the state of the move with this number.
async fn move_state(manager: &Manager, id: &Value) -> Value {
    let moves = manager.json("/moves").await;
    moves["moves"].as_array().unwrap().iter().find(|it| it["id"] == *id).unwrap().clone()
}

#[tokio::test]
async fn a_move_warms_swaps_and_hands_over_and_shows_it() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let [one, two] = two_readers_one_video(&manager).await;
    let (term, epoch) = (manager.term("planner").await, manager.epoch("v").await);
    let (status, answer) = order_move(&manager, term, epoch, &[("reader-2", 1)]).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let id = &answer["moves"][0]["id"];
    until("it is done", async || move_state(&manager, id).await["state"] == "done").await;
    assert_eq!(one.viewers("v"), 0);
    let done = move_state(&manager, id).await;
    assert_eq!((&done["viewers"], &done["left"], &done["by"]), (&json!(40), &json!(0), &json!("order")));
    assert!(done["epoch"].as_u64().unwrap() > epoch);
    assert_eq!(
        (&done["from"], &done["to"]),
        (&shares_json(&[("reader-1", 1)]), &shares_json(&[("reader-2", 1)]))
    );
    assert_eq!(manager.resolve("v").await, Some(two.url.clone()));
    let told = one.told.lock().unwrap();
    assert!(told.handed.iter().all(|(order, _)| order.to == two.url && order.epoch == done["epoch"]));
    assert_eq!(two.told.lock().unwrap().asked_with[0], format!("Bearer {}", ticket(&two.id)));
}

#[tokio::test]
async fn while_the_new_reader_is_not_ready_nothing_changes() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let [one, two] = two_readers_one_video(&manager).await;
    two.told.lock().unwrap().is_cold = true;
    let (term, epoch) = (manager.term("planner").await, manager.epoch("v").await);
    let (_, answer) = order_move(&manager, term, epoch, &[("reader-2", 1)]).await;
    let id = &answer["moves"][0]["id"];
    let (status, again) = order_move(&manager, term, epoch, &[("reader-2", 1)]).await;
    assert_eq!(status, StatusCode::CONFLICT, "it is being moved already: {again}");
    until("it is given up", async || move_state(&manager, id).await["state"] == "failed").await;
    assert_eq!(move_state(&manager, id).await["detail"], "not ready in time");
    assert_eq!((manager.epoch("v").await, one.viewers("v")), (epoch, 40));
    assert_eq!(store.assigned.load(Relaxed), 1);
    two.told.lock().unwrap().is_cold = false;
    let (status, _) = order_move(&manager, term, epoch, &[("reader-2", 1)]).await;
    assert_eq!(status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_new_reader_that_dies_before_the_swap_has_changed_nothing_and_after_it_is_replaced() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let [one, mut two] = two_readers_one_video(&manager).await;
    let three = Reader::start("reader-3", &[&manager]).await;
    manager.knows(3).await;
    // The new reader keeps the video ready, as asked, and dies before any viewer has gone there.
    let (term, epoch) = (manager.term("planner").await, manager.epoch("v").await);
    order_move(&manager, term, epoch, &[("reader-2", 1)]).await;
    until("it is in force", async || manager.epoch("v").await > epoch).await;
    two.kill().await;
    until("others have it", async || manager.resolve("v").await.is_some_and(|url| url != two.url)).await;
    let url = manager.resolve("v").await.unwrap();
    assert!(url == one.url || url == three.url);
    until("nobody waits for the dead one", async || {
        let handed = one.hand_over();
        handed.is_empty() || handed.iter().all(|order| order.to != two.url)
    })
    .await;
}

#[tokio::test]
async fn a_split_leaves_each_reader_its_share_and_a_join_brings_all_back() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let [one, two] = two_readers_one_video(&manager).await;
    one.watch("v", 400);
    one.told.lock().unwrap().heir = Some(two.told.clone());
    until("they are known", async || manager.json("/viewers/v").await["viewers"] == 400).await;
    let (term, epoch) = (manager.term("planner").await, manager.epoch("v").await);
    let (_, answer) = order_move(&manager, term, epoch, &[("reader-1", 1), ("reader-2", 3)]).await;
    until("each has its share", async || {
        move_state(&manager, &answer["moves"][0]["id"]).await["state"] == "done"
    })
    .await;
    // A quarter of the viewers, and a few more whose move is not worth it. Viewers who were in the reports of both
    // readers meanwhile count twice, as long as shares are computed from the highest recent number of viewers: then
    // more are to be moved.
    until("it has a quarter", async || (75..=120).contains(&one.viewers("v"))).await;
    let load = manager.json("/load").await;
    assert_eq!(load["assignments"][0]["readers"], shares_json(&[("reader-1", 1), ("reader-2", 3)]));
    let (_, route) = manager.post("/route", &json!({"videoid": "v"})).await;
    assert_eq!(route["readers"].as_array().unwrap().len(), 2);
    let epoch = manager.epoch("v").await;
    let (_, answer) = order_move(&manager, term, epoch, &[("reader-2", 1)]).await;
    until("they are together", async || {
        move_state(&manager, &answer["moves"][0]["id"]).await["state"] == "done"
    })
    .await;
    assert_eq!(one.viewers("v"), 0);
    assert_eq!(manager.resolve("v").await, Some(two.url.clone()));
}

#[tokio::test]
async fn of_two_moves_of_one_video_at_two_managers_one_wins() {
    let store = StoreWithSwitch::new();
    let (one, two) = (Manager::start(&store).await, Manager::start(&store).await);
    let names = ["reader-1", "reader-2", "reader-3"];
    let mut readers = Vec::new();
    for name in names {
        readers.push(Reader::start(name, &[&one]).await);
    }
    one.knows(3).await;
    two.knows(3).await;
    let home = one.register("v").await.0;
    until("the other has heard", async || two.resolve("v").await.as_ref() == Some(&home)).await;
    let (term, epoch) = (one.term("planner").await, one.epoch("v").await);
    let others: Vec<&Reader> = readers.iter().filter(|reader| reader.url != home).collect();
    let (first, second) = ([(others[0].id.as_str(), 1)], [(others[1].id.as_str(), 1)]);
    let ((_, a), (_, b)) =
        tokio::join!(order_move(&one, term, epoch, &first), order_move(&two, term, epoch, &second));
    let ended = async |manager: &Manager, answer: &Value| {
        // A move that was refused at once counts as failed, too.
        let id = &answer["moves"][0]["id"];
        if answer["status"] == 409 { json!("failed") } else { move_state(manager, id).await["state"].clone() }
    };
    until("both have ended", async || {
        let ends = [ended(&one, &a).await, ended(&two, &b).await];
        ends.iter().all(|state| *state == "done" || *state == "failed")
    })
    .await;
    let mut ends = [ended(&one, &a).await, ended(&two, &b).await].map(|state| state.to_string());
    ends.sort();
    assert_eq!(ends, ["\"done\"", "\"failed\""]);
    assert_eq!(store.assigned.load(Relaxed), 2, "one registration and one move");
}

#[tokio::test]
async fn a_reader_that_leaves_is_emptied_by_the_manager_it_tells() {
    let store = StoreWithSwitch::new();
    let (manager, other) = (Manager::start(&store).await, Manager::start(&store).await);
    let [one, two] = two_readers_one_video(&manager).await;
    other.knows(2).await;
    one.drain();
    until("its viewers are gone", async || one.viewers("v") == 0).await;
    assert_eq!(manager.resolve("v").await, Some(two.url.clone()));
    let moves = manager.json("/moves").await;
    let drains: Vec<&Value> = moves["moves"].as_array().unwrap().iter().collect();
    assert_eq!((drains.len(), &drains[0]["by"]), (1, &json!("drain")));
    assert_eq!(other.json("/moves").await["moves"], json!([]), "the other has nothing to do with it");
    assert_eq!(manager.state_of("reader-1").await.as_deref(), Some("draining"));
    let told = one.told.lock().unwrap();
    assert!(told.handed.iter().all(|(order, _)| order.to == two.url && !order.here));
    assert!(two.told.lock().unwrap().videos[&video("v")].ready);
}

#[tokio::test]
async fn an_unwatched_video_is_reassigned_without_warm_up() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    for number in 0..300 {
        manager.register(&format!("v{number}")).await;
    }
    let two = Reader::start("reader-2", &[&manager]).await;
    two.told.lock().unwrap().is_cold = true;
    manager.knows(2).await;
    one.drain();
    until("all are elsewhere", async || manager.json("/load").await["readers"][1]["assigned"] == 300).await;
    assert!(two.told.lock().unwrap().asked_with.is_empty());
}

#[tokio::test]
async fn a_reader_that_leaves_without_anybody_to_take_over_keeps_its_viewers() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    one.watch("v", 5);
    one.drain();
    until("the manager knows", async || manager.state_of("reader-1").await.as_deref() == Some("draining"))
        .await;
    // A new reader starts: now the viewers can go somewhere.
    let two = Reader::start("reader-2", &[&manager]).await;
    until("its viewers are gone", async || one.viewers("v") == 0).await;
    assert_eq!(manager.resolve("v").await, Some(two.url.clone()));
}

#[tokio::test]
async fn moves_keep_to_the_budget_and_a_leaving_reader_s_grace_comes_first() {
    let config = Config { max_viewers_moved_per_minute: 600, ..Config::default() };
    let manager = Manager::with(&StoreWithSwitch::new(), config).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    for number in 0..20 {
        let name = format!("v{number}");
        manager.register(&name).await;
        one.watch(&name, 10);
    }
    let _two = Reader::start("reader-2", &[&manager]).await;
    manager.knows(2).await;
    let viewers = || one.told.lock().unwrap().videos.values().map(|held| held.viewers).sum::<u64>();
    one.drain();
    let start = Instant::now();
    until("the first have gone", async || viewers() < 200).await;
    until("half of them have gone", async || viewers() <= 100).await;
    let paces = one.told.lock().unwrap().handed.iter().map(|(order, _)| order.pace).max().unwrap();
    assert!(paces <= 10, "600 a minute are 10 a second, not {paces}");
    assert!(start.elapsed() > Duration::from_secs(5), "a hundred at ten a second: {:?}", start.elapsed());
    one.told.lock().unwrap().grace_ms = 2_000;
    until("all have gone", async || viewers() == 0).await;
}
