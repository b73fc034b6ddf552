//! Tests of orders, which need the right lease, term and epoch, and of what planners can read.

use std::sync::atomic::Ordering::Relaxed;

use crate::support::{Manager, Reader, StoreWithSwitch, a_lease, until};
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn an_order_always_carries_its_lease() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let term = manager.term("planner").await;
    for (path, body) in [
        ("/moves", json!({"term": term, "moves": []})),
        ("/cordons", json!({"term": term, "cordons": []})),
        ("/term", json!({"holder": "p", "renew": term})),
        ("/term", json!({"holder": "p"})),
    ] {
        let refused = manager.send_as("operator", path, &body).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{path} {body}");
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("lease"), "{problem}");
        assert!(manager.order(path, &body).await.0.is_success(), "{path} {body}");
    }
    // A planner whose lease has changed hands may not give orders, whatever its term.
    let lease = |transitions: u64| json!({"uid": "a", "transitions": transitions});
    let begun = manager.order("/term", &json!({"holder": "new", "lease": lease(4)})).await.1;
    for (path, body) in [
        ("/moves", json!({"term": begun["term"], "moves": [], "lease": lease(3)})),
        ("/cordons", json!({"term": begun["term"], "cordons": [], "lease": lease(3)})),
        ("/term", json!({"holder": "old", "renew": begun["term"], "lease": lease(3)})),
    ] {
        let (status, problem) = manager.order(path, &body).await;
        assert_eq!((status, &problem["transitions"]), (StatusCode::CONFLICT, &json!(4)), "{path} {problem}");
    }
}

#[tokio::test]
async fn a_planner_whose_lease_has_changed_hands_never_takes_office_again() {
    let store = StoreWithSwitch::new();
    let (one, two) = (Manager::start(&store).await, Manager::start(&store).await);
    let lease = |uid: &str, transitions: u64| json!({"uid": uid, "transitions": transitions});
    let office = async |manager: &Manager, holder: &str, lease: &Value| {
        manager.order("/term", &json!({"holder": holder, "lease": lease})).await
    };
    let (status, old) = office(&one, "old", &lease("a", 3)).await;
    assert_eq!((status, &old["lease"]), (StatusCode::OK, &lease("a", 3)), "{old}");
    let (status, new) = office(&two, "new", &lease("a", 4)).await;
    assert_eq!(status, StatusCode::OK);
    until("the other manager hears of it", async || one.json("/load").await["term"] == new).await;
    for manager in [&one, &two] {
        let (status, problem) = office(manager, "old", &lease("a", 3)).await;
        assert_eq!((status, &problem["transitions"]), (StatusCode::CONFLICT, &json!(4)), "{problem}");
        assert_eq!(problem["term"], new["term"]);
        // Naming the expected term does not help the planner with the old lease.
        let expecting = json!({"holder": "old", "lease": lease("a", 3), "expected": new["term"]});
        assert_eq!(manager.order("/term", &expecting).await.0, StatusCode::CONFLICT);
    }
    // Renewals, another planner with the same lease, and a store that lost everything do not change that.
    let renewed = one.order("/term", &json!({"holder": "new", "renew": new["term"]})).await.1;
    assert_eq!(renewed["lease"], lease("a", 4));
    assert_eq!(office(&two, "by hand", &lease("a", 4)).await.0, StatusCode::OK);
    assert_eq!(office(&one, "old", &lease("a", 3)).await.0, StatusCode::CONFLICT);
    store.lose_everything();
    assert_eq!(office(&two, "old", &lease("a", 3)).await.0, StatusCode::CONFLICT);
    let fresh = Manager::start(&store).await;
    until("a manager that knew nothing hears of it", async || {
        fresh.json("/load").await["term"]["lease"] == lease("a", 4)
    })
    .await;
    assert_eq!(office(&fresh, "old", &lease("a", 3)).await.0, StatusCode::CONFLICT);
    // The lease's holder may begin as many terms as it likes, and so may the holder of another lease.
    assert_eq!(office(&fresh, "new", &lease("a", 4)).await.0, StatusCode::OK);
    assert_eq!(office(&fresh, "other", &lease("b", 0)).await.0, StatusCode::OK);
    let (status, problem) = office(&fresh, "p", &lease("\u{1}", 9)).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("lease.uid")));
    assert_eq!(office(&fresh, "p", &json!({"uid": "b"})).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_planner_whose_term_is_over_is_refused_by_every_manager() {
    let store = StoreWithSwitch::new();
    let (one, two) = (Manager::start(&store).await, Manager::start(&store).await);
    let _reader = Reader::start("reader-1", &[&one]).await;
    one.knows(1).await;
    let old = one.term("old").await;
    let new = two.term("new").await;
    assert!(new > old);
    for manager in [&one, &two] {
        let cordons = json!([{"reader": "reader-1", "cordon": "closed"}]);
        let (status, problem) = manager.order("/cordons", &json!({"term": old, "cordons": cordons})).await;
        assert_eq!((status, &problem["term"]), (StatusCode::CONFLICT, &json!(new)), "{problem}");
        let (status, problem) = manager.order("/moves", &json!({"term": old, "moves": []})).await;
        assert_eq!((status, &problem["term"]), (StatusCode::CONFLICT, &json!(new)), "{problem}");
        let (status, _) = manager.order("/term", &json!({"holder": "old", "renew": old})).await;
        assert_eq!(status, StatusCode::CONFLICT);
        // An order under a term that was never begun is refused as well.
        let (status, _) = manager.order("/cordons", &json!({"term": new + 5, "cordons": []})).await;
        assert_eq!(status, StatusCode::CONFLICT);
    }
    let (status, term) = one.order("/term", &json!({"holder": "new", "renew": new})).await;
    assert_eq!((status, &term["holder"]), (StatusCode::OK, &json!("new")));
    let (status, problem) = one.order("/term", &json!({"holder": "third", "expected": old})).await;
    assert_eq!((status, &problem["term"]), (StatusCode::CONFLICT, &json!(new)));
    let (status, _) = one.order("/term", &json!({"holder": "third", "expected": new})).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn an_order_says_what_it_expects_and_each_is_answered_by_itself() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let _one = Reader::start("reader-1", &[&manager]).await;
    let _two = Reader::start("reader-2", &[&manager]).await;
    manager.knows(2).await;
    for name in ["a", "b"] {
        manager.register(name).await;
    }
    let (a, b) = (manager.epoch("a").await, manager.epoch("b").await);
    let term = manager.term("planner").await;
    let move_of = |video: &str, expected: u64, readers: &[(&str, u32)]| {
        let share = |(reader, weight): &(&str, u32)| json!({"reader": reader, "weight": weight});
        let readers: Value = readers.iter().map(share).collect();
        json!({"videoid": video, "expected": expected, "readers": readers})
    };
    let order = async |moves: Value| manager.order("/moves", &json!({"term": term, "moves": moves})).await;
    let both = &[("reader-1", 1), ("reader-2", 2)];
    let (status, answer) = order(json!([move_of("a", a, both), move_of("b", b + 1, both)])).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    assert_eq!(answer["moves"][0]["status"], 202);
    let refused = &answer["moves"][1];
    assert_eq!((&refused["status"], &refused["epoch"]), (&json!(409), &json!(b)), "{refused}");
    for wrong in [
        move_of("b", b + 1, both),
        move_of("nobody's", 1, both),
        move_of("b", b, &[]),
        move_of("b", b, &[("reader-1", 1), ("reader-1", 1)]),
        move_of("b", b, &[("reader-1", 0), ("reader-2", 0)]),
        move_of("b", b, &[("reader-1", 1), ("reader-2", 1), ("unknown", 1)]),
    ] {
        let (status, problem) = order(json!([wrong])).await;
        assert_eq!(status, StatusCode::CONFLICT, "{wrong} {problem}");
    }
    let (status, problem) = manager.order("/moves", &json!({"term": 0, "moves": []})).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("term")));
}

/// Managers and the store keep cordons until they are lifted, also those of readers that do not exist.
#[tokio::test]
async fn there_is_a_bound_of_cordons() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let term = manager.term("planner").await;
    let closed = |numbers: std::ops::Range<u32>| {
        let cordons = numbers.map(|number| json!({"reader": format!("r{number}"), "cordon": "closed"}));
        json!({"term": term, "cordons": cordons.collect::<Vec<_>>()})
    };
    let (status, problem) = manager.order("/cordons", &closed(0..10_001)).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("cordons")));
    assert_eq!(manager.order("/cordons", &closed(0..1000)).await.0, StatusCode::OK);
    let (status, problem) = manager.order("/cordons", &closed(1000..10_001)).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("cordons")));
    assert_eq!(
        manager.order("/cordons", &closed(999..1001)).await.0,
        StatusCode::OK,
        "two, of which one is new"
    );
    assert_eq!(manager.json("/cordons").await["cordons"].as_array().map(Vec::len), Some(1001));
}

#[tokio::test]
async fn a_closed_reader_gets_nothing_new_and_a_draining_one_is_emptied() {
    let store = StoreWithSwitch::new();
    let (one, two) = (Manager::start(&store).await, Manager::start(&store).await);
    let reader = Reader::start("reader-1", &[&one]).await;
    one.knows(1).await;
    one.register("v").await;
    reader.watch("v", 30);
    let other = Reader::start("reader-2", &[&one]).await;
    one.knows(2).await;
    let term = one.term("planner").await;
    let cordon = async |cordon: Value| {
        let cordons = json!([{"reader": "reader-1", "cordon": cordon, "why": "a test"}]);
        let (status, answer) = one.order("/cordons", &json!({"term": term, "cordons": cordons})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["cordons"].clone()
    };
    let expected = json!([{"reader": "reader-1", "cordon": "closed", "why": "a test"}]);
    assert_eq!(cordon(json!("closed")).await, expected);
    until("the other manager knows", async || two.json("/cordons").await["cordons"] == expected).await;
    for number in 0..10 {
        assert_eq!(one.register(&format!("v{number}")).await.0, other.url);
        assert_eq!(two.register(&format!("w{number}")).await.0, other.url);
    }
    assert_eq!((reader.viewers("v"), one.resolve("v").await), (30, Some(reader.url.clone())));
    cordon(json!("draining")).await;
    until("it is empty", async || {
        let load = one.json("/load").await;
        reader.viewers("v") == 0 && load["readers"][0]["assigned"] == 0
    })
    .await;
    assert_eq!(one.json("/load").await["readers"][0]["cordon"], "draining");
    assert_eq!(one.state_of("reader-1").await.as_deref(), Some("alive"));
    assert_eq!(cordon(Value::Null).await, json!([]));
    until("it takes videos again", async || {
        let name = format!("x{}", rand::random::<u32>());
        two.register(&name).await.0 == reader.url
    })
    .await;
}

#[tokio::test]
async fn orders_lost_by_the_store_are_written_again() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let _one = Reader::start("reader-1", &[&manager]).await;
    let two = Reader::start("reader-2", &[&manager]).await;
    manager.knows(2).await;
    let old = manager.term("old").await;
    let term = manager.term("planner").await;
    let cordons = json!([{"reader": "reader-1", "cordon": "closed"}]);
    manager.order("/cordons", &json!({"term": term, "cordons": cordons})).await;
    store.lose_everything();
    let fresh = Manager::start(&store).await;
    until("a manager that knew nothing hears of it", async || {
        fresh.json("/cordons").await["cordons"][0]["reader"] == "reader-1"
            && fresh.json("/load").await["term"]["term"] == term
    })
    .await;
    fresh.knows(1).await;
    assert_eq!(fresh.register("v").await.0, two.url);
    let (status, _) = fresh.order("/cordons", &json!({"term": old, "cordons": []})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(fresh.term("next").await > term);
}

#[tokio::test]
async fn while_the_store_is_away_orders_are_503_and_routes_are_answered() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let reader = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    let term = manager.term("planner").await;
    store.is_unavailable.store(true, Relaxed);
    for (path, body) in [
        ("/moves", json!({"term": term, "moves": []})),
        ("/cordons", json!({"term": term, "cordons": []})),
        ("/term", json!({"holder": "p"})),
    ] {
        assert_eq!(manager.order(path, &body).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    let (status, route) = manager.post("/route", &json!({"videoid": "v"})).await;
    assert_eq!((status, &route["readers"][0]["id"]), (StatusCode::OK, &json!(reader.id)));
    // A caller that knows a later epoch is not answered with an older one.
    let later = route["epoch"].as_u64().unwrap() + 1;
    let (status, _) = manager.post("/route", &json!({"videoid": "v", "epoch": later})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    store.is_unavailable.store(false, Relaxed);
    until("it is answered above", async || {
        let (status, route) = manager.post("/route", &json!({"videoid": "v", "epoch": later})).await;
        status == StatusCode::OK && route["epoch"].as_u64().unwrap() > later
    })
    .await;
}

#[tokio::test]
async fn the_load_answer_has_what_a_planner_needs() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    one.watch("v", 7);
    until("they are known", async || manager.json("/viewers/v").await["viewers"] == 7).await;
    let epoch = manager.epoch("v").await;
    let term = manager.term("planner").await;
    let load = manager.json("/load").await;
    let video = &load["assignments"][0];
    assert_eq!(
        (&video["videoid"], &video["epoch"], &video["viewers"]),
        (&json!("v"), &json!(epoch), &json!(7))
    );
    assert_eq!(
        (&video["readers"], &video["moving"]),
        (&json!([{"reader": "reader-1", "weight": 1}]), &json!(false))
    );
    assert_eq!(load["term"], json!({"term": term, "holder": "planner", "lease": a_lease()}));
    assert_eq!((&load["fresh"], &load["highest_epoch"]), (&json!(true), &json!(epoch)));
    let reader = &load["readers"][0];
    assert_eq!(
        (&reader["fresh"], &reader["assigned"], &reader["videos"]),
        (&json!(true), &json!(1), &json!([["v", 7]]))
    );
    let short = manager.json("/load?assignments=false").await;
    assert_eq!((short.get("assignments"), &short["readers"][0]["videos"]), (None, &json!([])));
    assert_eq!(manager.get("/load?assignments=maybe").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_a_planner_outside_decided_is_shown() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let term = manager.term("operator").await;
    let overview = manager.json("/overview").await;
    assert_eq!(overview["planner"]["outside"], json!([]));
    let up = json!({"id": "ScaleUp-1", "at": 1_760_000_000_000_i64, "action": "ScaleUp", "reason": "5 are wanted",
        "bound_by": ["maxReaders"], "chosen": ["reader-4"], "rejected": ["reader-1: it is being emptied"]});
    let renewal = |decisions: Value| json!({"holder": "operator", "renew": term, "decisions": decisions});
    let (status, answer) = manager.order("/term", &renewal(json!([up]))).await;
    assert_eq!((status, &answer["term"]), (StatusCode::OK, &json!(term)), "{answer}");
    assert_eq!(manager.json("/overview").await["planner"]["outside"], json!([up]));
    assert_eq!(manager.json("/plan").await["outside"], json!([up]));
    // A planner of an earlier release tells nothing: what is known stays.
    let (status, _) = manager.order("/term", &json!({"holder": "operator", "renew": term})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(manager.json("/overview").await["planner"]["outside"], json!([up]));
    for wrong in [
        json!(vec![up.clone(); 11]),
        json!([{"id": "a", "at": 1, "action": "Hold", "reason": "x".repeat(1_025)}]),
        json!([{"id": "a", "at": 1, "action": "Hold", "reason": "", "chosen": vec!["reader-1"; 11]}]),
        json!([{"id": "a", "at": 1, "action": "Hold", "reason": "", "rejected": ["two\nlines"]}]),
    ] {
        let (status, problem) = manager.order("/term", &renewal(wrong)).await;
        let field = problem["field"].as_str().unwrap_or_default();
        assert!(status == StatusCode::BAD_REQUEST && field.starts_with("decisions"), "{problem}");
    }
    assert_eq!(
        manager.json("/overview").await["planner"]["outside"],
        json!([up]),
        "a refused list changes nothing"
    );
    // One whose term is over is not heard.
    manager.term("another").await;
    let (status, _) = manager.order("/term", &renewal(json!([]))).await;
    assert_eq!(status, StatusCode::CONFLICT);
}
