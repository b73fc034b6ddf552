//! Tests of a manager's answers, over a real socket.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use crate::support::{Manager, Reader, StoreWithSwitch, token, until};
use liverank_core::handover::coordinator::MAX_WANTED_VIEWERS;
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn register_and_resolve_speak_the_seed_s_language() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let reader = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    let (status, first) = manager.post("/register", &json!({"videoid": "a/b ü"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(first, json!({"videoid": "a/b ü", "readerUrl": reader.url, "action": "registered"}));
    let again = manager.post("/register", &json!({"videoid": "a/b ü"})).await.1;
    assert_eq!(again, json!({"videoid": "a/b ü", "readerUrl": reader.url, "action": "existing"}));
    let resolved: Value = manager.get("/resolve/a%2Fb%20%C3%BC").await.json().await.unwrap();
    assert_eq!(resolved, json!({"videoid": "a/b ü", "readerUrl": reader.url}));
}

#[tokio::test]
async fn an_unknown_video_is_404_with_its_name() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    until("the assignments are loaded", async || {
        manager.get("/resolve/nobody").await.status() == StatusCode::NOT_FOUND
    })
    .await;
    let problem: Value = manager.get("/resolve/nobody").await.json().await.unwrap();
    assert_eq!((&problem["videoid"], &problem["status"]), (&json!("nobody"), &json!(404)));
    assert!(problem["error"].is_string() && problem["title"].is_string());
}

#[tokio::test]
async fn without_a_reader_registering_is_503_and_soon_works() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    for path in ["/register", "/route"] {
        let answer = manager.send(path, &json!({"videoid": "v"})).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "1");
    }
    let reader = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    assert_eq!(manager.register("v").await.0, reader.url);
}

#[tokio::test]
async fn a_route_names_the_readers_and_the_epoch() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let reader = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    let (status, route) = manager.post("/route", &json!({"videoid": "v"})).await;
    assert_eq!(status, StatusCode::OK);
    assert!(route["epoch"].as_u64().unwrap() >= 1);
    // JSON knows one kind of number: 1.0 is as whole as 1.
    assert_eq!(manager.post("/route", &json!({"videoid": "v", "epoch": 1.0})).await.0, 200);
    assert_eq!(manager.post("/route", &json!({"videoid": "v", "epoch": 1.5})).await.0, 400);
    let mut readers = json!([{"id": "reader-1", "public_url": reader.url, "internal_url": reader.url,
        "load": route["readers"][0]["load"], "takes": true, "wanted": MAX_WANTED_VIEWERS, "spare": 0,
        "pass_key": route["readers"][0]["pass_key"]}]);
    assert_eq!(route["readers"], readers);
    assert_eq!(route["readers"][0]["pass_key"].as_str().unwrap().len(), 64);
    // A reader is not told the pass key of another reader.
    let asked = manager.send_as("reader/reader-2", "/route", &json!({"videoid": "v"})).await;
    let route: Value = asked.json().await.unwrap();
    readers[0]["load"] = route["readers"][0]["load"].clone();
    readers[0].as_object_mut().unwrap().remove("pass_key");
    assert_eq!(route["readers"], readers);
}

#[tokio::test]
async fn a_peak_of_viewers_stays_when_they_leave() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    one.watch("v", 7);
    until("seven is the peak", async || {
        let viewers: Value = manager.get("/viewers/v").await.json().await.unwrap();
        viewers == json!({"videoid": "v", "viewers": 7, "peak": 7})
    })
    .await;
    one.watch("v", 5);
    until("two leave", async || manager.json("/viewers/v").await["viewers"] == 5).await;
    let many = manager.post("/viewers", &json!({"videos": ["nobody", "v"], "peaks": true})).await;
    assert_eq!(many, (StatusCode::OK, json!({"viewers": [0, 5], "peaks": [0, 7]})));
}

#[tokio::test]
async fn viewers_and_load_are_what_the_readers_report() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let one = Reader::start("reader-1", &[&manager]).await;
    let two = Reader::start("reader-2", &[&manager]).await;
    one.watch("v", 3);
    two.watch("v", 4);
    until("both are counted", async || {
        let viewers: Value = manager.get("/viewers/v").await.json().await.unwrap();
        (&viewers["videoid"], &viewers["viewers"]) == (&json!("v"), &json!(7))
    })
    .await;
    let many = manager.post("/viewers", &json!({"videos": ["nobody", "v", "v"]})).await;
    assert_eq!(many, (StatusCode::OK, json!({"viewers": [0, 7, 7]})));
    for wrong in
        [json!({}), json!({"videos": "v"}), json!({"videos": [""]}), json!({"videos": vec!["v"; 1001]})]
    {
        let (status, problem) = manager.post("/viewers", &wrong).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("videos")));
    }
    let load: Value = manager.get("/load").await.json().await.unwrap();
    let readers = load["readers"].as_array().unwrap();
    assert_eq!(readers[1]["videos"], json!([["v", 4]]));
    assert_eq!((&readers[0]["state"], &readers[0]["viewers"]), (&json!("alive"), &json!(3)));
}

#[tokio::test]
async fn a_burst_of_registrations_spreads_by_the_viewers_to_come() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let busy = Reader::start("reader-1", &[&manager]).await;
    let _two = Reader::start("reader-2", &[&manager]).await;
    let _three = Reader::start("reader-3", &[&manager]).await;
    manager.knows(3).await;
    busy.watch("elsewhere", 20);
    until("its viewers are known", async || {
        manager.get("/viewers/elsewhere").await.json::<Value>().await.unwrap()["viewers"] == 20
    })
    .await;
    let mut viewers = BTreeMap::from([(busy.url.clone(), 20)]);
    for number in 0..91 {
        *viewers.entry(manager.register(&format!("v{number}")).await.0).or_default() += 1;
    }
    // Not exact to one viewer: the video "elsewhere" may also have been given to a reader meanwhile, which reserves one
    // more place there.
    assert!(viewers.values().all(|viewers| (36..=38).contains(viewers)), "{viewers:?}");
}

#[tokio::test]
async fn what_is_known_is_answered_while_the_store_is_away() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let reader = Reader::start("reader-1", &[&manager]).await;
    manager.knows(1).await;
    manager.register("known").await;
    store.is_unavailable.store(true, Relaxed);
    let polls = store.vain_polls.load(Relaxed);
    until("the manager noticed", async || store.vain_polls.load(Relaxed) >= polls + 5).await;
    assert_eq!(manager.resolve("known").await, Some(reader.url.clone()));
    assert_eq!(manager.register("known").await, (reader.url.clone(), "existing".to_owned()));
    let answer = manager.send("/register", &json!({"videoid": "new"})).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    store.is_unavailable.store(false, Relaxed);
    until("new videos are taken again", async || {
        manager.post("/register", &json!({"videoid": "new"})).await.0 == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn a_manager_without_data_answers_503_instead_of_404() {
    let store = StoreWithSwitch::new();
    store.is_unavailable.store(true, Relaxed);
    let manager = Manager::start(&store).await;
    assert_eq!(manager.get("/resolve/v").await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    for path in ["/register", "/route"] {
        for (body, field) in [
            (json!({}), "videoid"),
            (json!({"videoid": null}), "videoid"),
            (json!({"videoid": 7}), "videoid"),
            (json!({"videoid": ""}), "videoid"),
            (json!({"videoid": "v".repeat(257)}), "videoid"),
            (json!(["v"]), "body"),
        ] {
            let (status, problem) = manager.post(path, &body).await;
            assert_eq!(
                (status, &problem["field"]),
                (StatusCode::BAD_REQUEST, &json!(field)),
                "{path} {body}"
            );
            assert!(problem["error"].is_string());
        }
    }
    let too_long = format!("/resolve/{}", "v".repeat(257));
    for path in [too_long.as_str(), "/resolve/%FF", "/viewers/a%00b"] {
        let answer = manager.get(path).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["field"], "videoid", "{path}");
    }
}

#[tokio::test]
async fn a_malformed_heartbeat_is_refused() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let good = json!({
        "id": "r", "public_url": "http://localhost:1", "internal_url": "http://localhost:1", "beat": 1,
        "capacity": 10, "viewers": 0, "draining": false, "highest_epoch": 0, "videos": [{"video": "v", "viewers": 1, "epoch": 0, "ready": true}],
        "messages_sent": 0,
    });
    assert_eq!(manager.post("/heartbeat", &good).await, (StatusCode::OK, json!({"hand_over": []})));
    for (member, wrong, named) in [
        ("id", json!(""), "1 to 256 bytes"),
        ("beat", json!("one"), "body"),
        ("videos", json!([["v", 1]]), "body"),
        ("videos", json!([{"video": "v", "viewers": 1, "epoch": u64::MAX, "ready": true}]), "videos.epoch"),
        ("public_url", json!("nowhere"), "public_url"),
        ("internal_url", json!("file:///etc/passwd"), "internal_url"),
        ("highest_epoch", json!(u64::MAX), "highest_epoch"),
        ("viewers_by_zone", json!({"same": 1, "other": u64::MAX}), "viewers_by_zone.other"),
    ] {
        let mut bad = good.clone();
        bad[member] = wrong;
        let (status, problem) = manager.post("/heartbeat", &bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{member}");
        assert!(problem["error"].as_str().unwrap().contains(named), "{problem}");
    }
}

/// The heartbeat has as many videos as a reader of the usual capacity can hold, with ids of the greatest length.
#[tokio::test]
async fn the_longest_heartbeat_of_a_reader_is_taken() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let held = |number: usize| {
        json!({
            "video": format!("{number:06}{}", "é".repeat(125)), "viewers": 1, "epoch": 0, "ready": true, "shedding": false,
        })
    };
    let long = json!({
        "id": "r", "public_url": "http://localhost:1", "internal_url": "http://localhost:1", "beat": 1,
        "capacity": 20_000, "viewers": 30_000, "draining": false, "highest_epoch": 0,
        "videos": (0..30_000).map(held).collect::<Vec<_>>(), "messages_sent": 0,
    });
    assert!(long.to_string().len() > 9_000_000, "more than the release before took");
    assert_eq!(manager.post("/heartbeat", &long).await.0, StatusCode::OK);
    until("its videos are known", async || manager.json("/overview").await["videos_watched"] == 30_000).await;
}

#[tokio::test]
async fn what_is_no_request_is_refused_as_it_is_everywhere() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let status = async |path: &str, content_type: &str, body: Vec<u8>| {
        let request = manager.client.post(format!("{}{path}", manager.base)).bearer_auth(token("reader/r"));
        request.header("content-type", content_type).body(body).send().await.unwrap().status()
    };
    let json = "application/json";
    assert_eq!(status("/register", json, b"{\"videoid\"".to_vec()).await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/register", "text/plain", b"{}".to_vec()).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(status("/heartbeat", "text/plain", b"{}".to_vec()).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(status("/register", json, vec![b' '; 64 * 1024 + 1]).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status("/nothing", json, b"{}".to_vec()).await, StatusCode::NOT_FOUND);
    assert_eq!(status("/resolve/v", json, b"{}".to_vec()).await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(manager.get("/register").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let health: Value = manager.get("/health").await.json().await.unwrap();
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("manager")));
}
