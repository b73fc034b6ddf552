//! Interactions on their way from the gateway into the log.

use liverank_core::counting::CountingRules;
use serde_json::{Value, json};

use crate::support::{System, eventually, problem};

#[tokio::test]
async fn an_interaction_is_acknowledged_once_the_log_has_it() {
    let system = System::start(&[]).await;
    let sent = json!({ "video_id": "cat", "user_id": "ana", "type": "watch_time", "watch_time": 2.5,
        "timestamp": 1_760_000_000, "event_id": "e-1", "owner_id": "ben" });
    let response = system.post("/interact", sent.to_string()).await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "event_id": "e-1" }));
    let appended = system.log.appended();
    assert_eq!(appended.len(), 1);
    assert_eq!(appended[0].0, "cat");
    assert_eq!(appended[0].1["watch_time"], 2.5);
    assert_eq!(appended[0].1["event_id"], "e-1");
    system.end().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_log_has_it() {
    let system = System::start(&[]).await;
    let held = system.log.hold();
    let posted = system.post("/interact", r#"{"video_id":"cat","user_id":"ana","type":"view"}"#);
    tokio::pin!(posted);
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), posted.as_mut()).await;
    assert!(early.is_err(), "answered before the log did");
    drop(held);
    assert_eq!(posted.await.status(), 202);
}

#[tokio::test]
async fn an_event_id_of_ours_is_answered_and_not_stored() {
    let system = System::start(&[]).await;
    let before = liverank_runtime::now_ms();
    let mut minted = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let response = system.post("/interact", r#"{"video_id":"cat","user_id":"ana","type":"view"}"#).await;
        let answer: Value = response.json().await.unwrap();
        minted.insert(answer["event_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(minted.len(), 2);
    for (_, event) in system.log.appended() {
        assert_eq!(event.get("event_id"), None);
        assert!(event["timestamp"].as_f64().unwrap() * 1000.0 >= before as f64 - 1.0);
    }
}

#[tokio::test]
async fn nobody_writes_a_comment_past_the_comment_service() {
    let system = System::start(&[]).await;
    let forged =
        json!({ "video_id": "cat", "user_id": "ana", "type": "comment", "comment_id": "c", "comment": "x" });
    assert_eq!(system.post("/interact", forged.to_string()).await.status(), 202);
    let (_, event) = system.log.appended().remove(0);
    assert_eq!((event.get("comment_id"), event.get("comment")), (None, None));
}

#[tokio::test]
async fn while_the_log_is_away_nothing_is_acknowledged_and_readiness_shows_it() {
    let system = System::start(&[]).await;
    eventually("the stores are listed before a request needs them", async || {
        let dependencies = system.shell.health.readiness().1.dependencies;
        ["log", "archive", "ranking"].iter().all(|name| dependencies.get(name).is_some_and(|it| it == "ok"))
    })
    .await;
    system.log.break_down(true);
    let event = r#"{"video_id":"cat","user_id":"ana","type":"view"}"#;
    problem(system.post("/interact", event).await, 503).await;
    let batch = system.post("/interactions", format!("[{event},{{}}]")).await;
    assert_eq!(batch.status(), 200);
    let statuses: Value = batch.json().await.unwrap();
    assert_eq!((&statuses[0]["status"], &statuses[1]["status"]), (&json!(503), &json!(400)));
    assert!(system.log.appended().is_empty());
    let (ready, report) = system.shell.health.readiness();
    assert!(ready, "somebody must be left to answer 503");
    assert!(report.dependencies["log"].contains("refused"));
    system.log.break_down(false);
    eventually("the log's return shows without a request", async || {
        system.shell.health.readiness().1.dependencies["log"] == "ok"
    })
    .await;
    assert_eq!(system.post("/interact", event).await.status(), 202);
}

#[tokio::test]
async fn a_request_over_the_in_flight_limit_is_refused_at_once() {
    let system = System::start(&["--gateway-max-in-flight", "1", "--gateway-max-batches", "1"]).await;
    let held = system.log.hold();
    let event = r#"{"video_id":"cat","user_id":"ana","type":"view"}"#;
    let waiting = async {
        let large = format!("[{event}{}]", " ".repeat(1024 * 1024 - event.len() - 2));
        tokio::join!(system.post("/interact", event), system.post("/interactions", large))
    };
    let turned_away = async {
        eventually("both wait for the log", async || system.log.append_count() == 2).await;
        for path in ["/interact", "/interactions"] {
            let body = if path == "/interact" { event.to_owned() } else { format!("[{event}]") };
            problem(system.post(path, body).await, 429).await;
        }
        drop(held);
    };
    let ((one, many), ()) = tokio::join!(waiting, turned_away);
    assert_eq!((one.status().as_u16(), many.status().as_u16()), (202, 200));
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item_in_order() {
    let system = System::start(&[]).await;
    let items = json!([
        { "video_id": "cat", "user_id": "ana", "type": "view", "event_id": "e-1" },
        { "video_id": "cat", "user_id": "ana", "type": "blink" },
        "nonsense",
        { "video_id": "dog", "user_id": "ana", "type": "like", "event_id": "e-2" },
    ]);
    let response = system.post("/interactions", items.to_string()).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer[0], json!({ "status": 202, "event_id": "e-1" }));
    assert_eq!((&answer[1]["status"], &answer[1]["field"]), (&json!(400), &json!("type")));
    assert!(answer[1]["error"].is_string());
    assert_eq!(answer[2]["field"], "body");
    assert_eq!(answer[3], json!({ "status": 202, "event_id": "e-2" }));
    assert_eq!(system.log.appended().len(), 2);
}

#[tokio::test]
async fn an_event_id_with_other_content_is_a_conflict() {
    let system = System::start(&[]).await;
    let event = |video: &str, user: &str, kind: &str| json!({ "video_id": video, "user_id": user, "type": kind, "event_id": "e" });
    for (event, expected) in [
        (event("cat", "ana", "view"), 202),
        (event("cat", "ana", "view"), 202),
        (event("cat", "ben", "like"), 202),
        (event("dog", "ana", "like"), 202),
    ] {
        assert_eq!(system.post("/interact", event.to_string()).await.status(), expected, "{event}");
    }
    let other = event("cat", "ana", "like");
    let refused = problem(system.post("/interact", other.to_string()).await, 409).await;
    assert_eq!(refused["field"], "event_id");
    let batch = system.post("/interactions", json!([event("cat", "ana", "view"), other]).to_string()).await;
    let answer: Value = batch.json().await.unwrap();
    assert_eq!((&answer[0]["status"], &answer[1]["status"]), (&json!(202), &json!(409)));
    assert_eq!(answer[1]["field"], "event_id");
    assert_eq!(system.log.appended().len(), 5, "what is refused is not in the log");
}

#[tokio::test]
async fn lines_are_answered_in_lines() {
    let system = System::start(&[]).await;
    let lines = "{\"video_id\":\"cat\",\"user_id\":\"ana\",\"type\":\"view\",\"event_id\":\"e\"}\n\nnope\n";
    let request =
        system.http.post(system.url("/interactions")).header("content-type", "application/x-ndjson");
    let response = request.body(lines).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    let answer: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answer.len(), 2);
    assert_eq!(answer[0], json!({ "status": 202, "event_id": "e" }));
    assert_eq!(answer[1]["status"], 400);
}

#[tokio::test]
async fn a_thousand_are_in_flight_at_once() {
    let system = System::start(&[]).await;
    let items: Vec<Value> = (0..1000)
        .map(|n| json!({ "video_id": format!("v{}", n % 7), "user_id": "u", "type": "view" }))
        .collect();
    let answer: Value = system.post("/interactions", json!(items).to_string()).await.json().await.unwrap();
    assert!(answer.as_array().unwrap().iter().all(|item| item["status"] == 202));
    assert_eq!(system.log.appended().len(), 1000);
}

#[tokio::test]
async fn only_what_counts_once_per_user_is_taken_back() {
    let system = System::start(&[]).await;
    let unlike = r#"{"video_id":"cat","user_id":"ana","type":"unlike"}"#;
    let unshare = r#"{"video_id":"cat","user_id":"ana","type":"unshare"}"#;
    let rules = CountingRules { unique: "like".parse().unwrap(), ..CountingRules::default() };
    system.backends.archive.open(&rules).await.unwrap();
    assert_eq!(system.post("/interact", unlike).await.status(), 202);
    let refused = problem(system.post("/interact", unshare).await, 400).await;
    assert_eq!(refused["field"], "type");
    assert!(refused["detail"].as_str().unwrap().contains("every share counts"), "{refused}");
    let answer = system.post("/interactions", format!("[{unlike},{unshare}]")).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer[0]["status"], &answer[1]["status"]), (&json!(202), &json!(400)));
    assert_eq!(answer[1]["field"], "type");
    assert_eq!(system.log.appended().len(), 2);
    system.end().await;
}
