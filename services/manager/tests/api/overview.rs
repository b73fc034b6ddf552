//! Tests of the overview for people, and of forecasts of what the planner would do with other readers or viewers.

use crate::support::{Manager, Reader, StoreWithSwitch, until};
use liverank_core::canary::CANARY_ID;
use liverank_manager::Config;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Starts a manager with two readers, the first of which has a video with 40 viewers.
async fn manager_with_two_readers() -> (Manager, Reader, Reader) {
    let store = StoreWithSwitch::new();
    let manager = Manager::with(&store, Config { autopilot: true, ..Config::default() }).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    let two = Reader::start("reader-2", &[&manager]).await;
    manager.knows(2).await;
    one.watch("v", 40);
    until("its viewers are known", async || manager.json("/overview").await["videos_watched"] == 1).await;
    (manager, one, two)
}

#[tokio::test]
async fn the_overview_has_readers_videos_history_and_who_plans() {
    let (manager, _one, _two) = manager_with_two_readers().await;
    let shown = manager.json("/overview").await;
    assert_eq!((&shown["readers_total"], &shown["videos_watched"]), (&json!(2), &json!(1)), "{shown}");
    assert_eq!(shown["readers"][0]["id"], "reader-1", "the fullest first");
    assert_eq!(
        shown["videos"],
        json!([{"videoid": "v", "viewers": 40, "readers": ["reader-1"], "moving": false}])
    );
    until("a sample is taken", async || {
        let shown = manager.json("/overview").await;
        let column = &shown["history"]["readers"][0];
        let viewers = column["viewers"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            shown["history"]["others"].as_array().unwrap().len(),
            shown["history"]["times"].as_array().unwrap().len()
        );
        column["id"] == "reader-1" && viewers.last() == Some(&json!(40))
    })
    .await;
    until("the planner shows what it decided", async || {
        let planner = manager.json("/overview").await["planner"].clone();
        planner["leading"] == true && planner["decisions"][0]["readers"] == 2
    })
    .await;
    assert_eq!(manager.get("/overview?verbose=1").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_canary_s_viewers_are_shown_and_planned_with_nowhere() {
    let (manager, one, two) = manager_with_two_readers().await;
    one.watch(CANARY_ID, 3);
    two.watch(CANARY_ID, 2);
    until("its viewers are known", async || {
        let (_, known) = manager.post("/viewers", &json!({"videos": [CANARY_ID]})).await;
        known["viewers"] == json!([5])
    })
    .await;
    let shown = manager.json("/overview").await;
    assert_eq!((&shown["viewers"], &shown["videos_watched"]), (&json!(40), &json!(1)), "{shown}");
    let load = manager.json("/load").await;
    let readers = load["readers"].as_array().unwrap();
    let told: Vec<_> = readers.iter().map(|it| (&it["viewers"], &it["videos"])).collect();
    assert_eq!(told, [(&json!(40), &json!([["v", 40]])), (&json!(0), &json!([]))], "{load}");
    let samples = async || manager.json("/overview").await["history"]["times"].as_array().unwrap().len();
    let before = samples().await;
    until("a sample is taken", async || samples().await > before).await;
    let history = manager.json("/overview").await["history"].clone();
    let columns = history["readers"].as_array().unwrap();
    assert_eq!(columns.len(), 1, "the other reader had nobody: {history}");
    assert_eq!(columns[0]["viewers"].as_array().unwrap().last(), Some(&json!(40)), "{history}");
    let (_, forecast) = manager.post("/what-if", &json!({})).await;
    let readers = forecast["readers"].as_array().unwrap();
    let before: Vec<_> = readers.iter().map(|it| (&it["id"], &it["before"])).collect();
    assert_eq!(before, [(&json!("reader-1"), &json!(40)), (&json!("reader-2"), &json!(0))], "{forecast}");
}

#[tokio::test]
async fn load_overview_and_forecast_name_the_zone_of_a_reader() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let heartbeat = json!({
        "id": "r", "public_url": "http://localhost:1", "internal_url": "http://localhost:1", "beat": 1, "capacity": 10,
        "viewers": 6, "draining": false, "highest_epoch": 0, "videos": [], "messages_sent": 0, "zone": "eu-1a",
        "viewers_by_zone": {"same": 3, "other": 2},
    });
    assert_eq!(manager.post("/heartbeat", &heartbeat).await.0, StatusCode::OK);
    for path in ["/load", "/overview"] {
        let reader = manager.json(path).await["readers"][0].clone();
        let shown = (&reader["zone"], &reader["viewers_by_zone"], &reader["viewers"]);
        assert_eq!(shown, (&json!("eu-1a"), &json!({"same": 3, "other": 2}), &json!(6)), "{path}");
    }
    let (_, answer) = manager.post("/what-if", &json!({"readers": 2})).await;
    let readers = answer["readers"].as_array().unwrap();
    let zone_of = |id: &str| readers.iter().find(|reader| reader["id"] == id).unwrap().get("zone");
    assert_eq!(zone_of("r"), Some(&json!("eu-1a")));
    let new = readers.iter().find(|reader| reader["id"] != "r").unwrap();
    assert_eq!(zone_of(new["id"].as_str().unwrap()), None, "nobody knows where a reader will be");
}

#[tokio::test]
async fn a_question_is_answered_by_the_planner_and_changes_nothing() {
    let (manager, _one, _two) = manager_with_two_readers().await;
    let epoch = manager.epoch("v").await;
    let (status, answer) =
        manager.post("/what-if", &json!({"videos": [{"videoid": "v", "viewers": 9_000}]})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    // A video that was registered a moment ago is not moved in the first minute.
    let minutes = answer["minutes"].as_array().unwrap();
    let orders: Vec<&Value> =
        minutes.iter().flat_map(|minute| minute["orders"].as_array().unwrap()).collect();
    assert!(orders.iter().any(|order| order["kind"] == "split" && order["videoid"] == "v"), "{answer}");
    assert_eq!(answer["settled"], true);
    let after: u64 =
        answer["readers"].as_array().unwrap().iter().map(|reader| reader["after"].as_u64().unwrap()).sum();
    assert_eq!(after, 9_040, "{answer}");
    let (_, fewer) = manager.post("/what-if", &json!({"readers": 1})).await;
    let emptied = fewer["readers"].as_array().unwrap().iter().find(|reader| reader["id"] == "reader-2");
    assert_eq!(emptied.unwrap()["standing"], "draining");
    assert_eq!(manager.epoch("v").await, epoch, "it was only a question");
    assert_eq!(manager.json("/moves").await["moves"], json!([]));
}

#[tokio::test]
async fn a_question_that_cannot_be_read_names_the_field() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let many: Vec<Value> = (0..11).map(|at| json!({"videoid": format!("v{at}"), "viewers": 1})).collect();
    for (question, field) in [
        (json!({"readers": 0}), "readers"),
        (json!({"readers": 1_001}), "readers"),
        (json!({"readers": "3"}), "readers"),
        (json!({"videos": "v"}), "videos"),
        (json!({"videos": many}), "videos"),
        (json!({"videos": [{"videoid": "", "viewers": 1}]}), "videos.videoid"),
        (json!({"videos": [{"videoid": "v", "viewers": 0}]}), "videos.viewers"),
        (json!({"videos": [{"videoid": "v", "viewers": 10_000_001}]}), "videos.viewers"),
        (json!({"reader": 3}), "body"),
    ] {
        let (status, problem) = manager.post("/what-if", &question).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{question}");
    }
    // Without readers and videos there is nothing to do, which is a valid answer.
    let (status, answer) = manager.post("/what-if", &json!({})).await;
    assert_eq!((status, &answer["moved"]), (StatusCode::OK, &json!(0)));
}
