//! Tests of the streams that viewers get without failures, and of the answers to invalid requests.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::world::{Manager, Running, Viewer, World, config, config_with, until, video};

#[tokio::test]
async fn a_viewer_is_greeted_and_then_gets_each_comment_once() {
    let world = World::new().await;
    world.post("v", 3).await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    assert_eq!(viewer.status(), 200);
    assert_eq!(viewer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(viewer.header("cache-control"), Some("no-store"));
    assert_eq!(viewer.header("x-accel-buffering"), Some("no"));
    assert_eq!(viewer.header("access-control-allow-origin"), Some("*"));
    let greeting = viewer.greeted().await;
    assert_eq!(
        greeting.json(),
        json!({ "type": "connected", "userid": "u", "videoid": "v", "instance": "r1" })
    );
    assert_eq!(greeting.id, Some(format!("{}-3", world.numbering)));
    assert!((1000..=3000).contains(&greeting.retry.unwrap()));

    let posted = world.post("v", 1).await;
    let event = viewer.next().await.unwrap();
    assert_eq!(event.id, Some(format!("{}-4", world.numbering)));
    assert_eq!(event.kind, None);
    let comment = event.json();
    assert_eq!(comment["id"], posted[0].id.as_str());
    assert_eq!(comment["comment"], "comment 3");
    assert_eq!(comment["seq"], 4);
    assert_eq!(comment["timestamp"], "2023-11-14T22:13:20.000Z");
    world.post("other", 1).await;
    world.post("v", 2).await;
    assert_eq!(viewer.comments(2).await, [5, 6]);
}

#[tokio::test]
async fn the_seeds_client_gets_data_lines_for_the_greeting_and_for_comments_only() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::post(&reader.address, "v").await;
    assert_eq!(viewer.status(), 200);
    viewer.greeted().await;
    world.post("v", 2).await;
    assert_eq!(viewer.comments(2).await, [1, 2]);
}

/// Returns the numbers of viewers that a viewer is told, up to `viewers`; no other events may come.
async fn counts_until(viewer: &mut Viewer, viewers: u64) -> Vec<u64> {
    let mut told = Vec::new();
    while told.last() != Some(&viewers) {
        let event = tokio::time::timeout(Duration::from_secs(20), viewer.next()).await;
        let event = event.expect("a number in time").expect("an event, not the end");
        assert_eq!((event.kind.as_deref(), &event.id), (Some("viewers"), &None));
        told.push(event.json()["viewers"].as_u64().unwrap());
    }
    told
}

#[tokio::test]
async fn viewer_counts_go_only_to_viewers_who_asked() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let reader = Running::start(&world, config_with("r1", &url)).await;
    manager.assign("v", 1, &[("r1", &reader.url)]);
    let mut quiet = Viewer::get(&reader.address, "v", None).await;
    quiet.greeted().await;
    let mut first = Viewer::asking(&reader.address, "v", "viewers", false).await;
    first.greeted().await;
    counts_until(&mut first, 2).await;
    let mut second = Viewer::asking(&reader.address, "v", "viewers,of-a-later-release", true).await;
    second.greeted().await;
    counts_until(&mut first, 3).await;
    counts_until(&mut second, 3).await;
    // The viewers that managers report of other readers are added; once they are not reported any more, they are not.
    *manager.elsewhere.lock().unwrap() = vec![(video("v"), 40), (video("w"), 9)];
    assert_eq!(counts_until(&mut first, 43).await, [43]);
    drop(second);
    assert_eq!(counts_until(&mut first, 42).await, [42]);
    manager.elsewhere.lock().unwrap().clear();
    counts_until(&mut first, 2).await;
    // The events with numbers of viewers change no viewer's position, and a viewer who did not ask has had comments
    // only.
    world.post("v", 2).await;
    assert_eq!(first.comments(2).await, [1, 2]);
    assert_eq!(quiet.comments(2).await, [1, 2]);
    let wrong = Viewer::asking(&reader.address, "v", "views", false).await;
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn wrong_requests_name_the_wrong_field() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let client = reqwest::Client::new();
    let long = "x".repeat(257);
    for (query, field) in [
        ("videoid=v", "userid"),
        ("userid=u", "videoid"),
        ("userid=&videoid=v", "userid"),
        ("userid=u&videoid=a%00b", "videoid"),
        (&format!("userid={long}&videoid=v"), "userid"),
    ] {
        let answer = client.get(format!("{}/connect?{query}", reader.url)).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["field"], field, "{query}");
    }
    for (body, status) in [
        (r#"{"userid":"u"}"#, 400),
        (r#"{"userid":7,"videoid":"v"}"#, 400),
        ("[]", 400),
        ("{", 400),
        (&format!("\"{}\"", "x".repeat(70_000)), 413),
    ] {
        let answer =
            client.post(format!("{}/connect", reader.url)).body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{body:.40}");
    }
    assert_eq!(client.put(format!("{}/connect", reader.url)).send().await.unwrap().status(), 405);
    assert_eq!(client.get(format!("{}/nowhere", reader.url)).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_channel_is_listened_to_only_while_somebody_watches() {
    let world = World::new().await;
    let config = liverank_reader::Config { linger: 0, ..config("r1") };
    let reader = Running::start(&world, config).await;
    let subscribed = || world.bus.subscribed.load(Ordering::Relaxed);
    let mut first = Viewer::get(&reader.address, "v", None).await;
    let mut second = Viewer::get(&reader.address, "v", None).await;
    first.greeted().await;
    second.greeted().await;
    assert_eq!(subscribed(), 1);
    let health = reader.health().await;
    assert_eq!(health["activeConnections"], 2);
    assert_eq!(health["subscribedTopics"], json!(["video:v"]));
    assert_eq!((&health["status"], &health["instanceId"]), (&json!("healthy"), &json!("r1")));
    drop(first);
    drop(second);
    until("unsubscribing", async || subscribed() == 0).await;
    assert_eq!(reader.health().await["activeConnections"], 0);
    let mut again = Viewer::get(&reader.address, "v", None).await;
    again.greeted().await;
    assert_eq!(subscribed(), 1);
    world.post("v", 1).await;
    assert_eq!(again.comments(1).await, [1]);
}

#[tokio::test]
async fn a_full_reader_asks_to_come_back_later() {
    let world = World::new().await;
    let config = liverank_reader::Config { capacity: 1, ..config("r1") };
    let reader = Running::start(&world, config).await;
    let mut first = Viewer::get(&reader.address, "v", None).await;
    first.greeted().await;
    let second = Viewer::get(&reader.address, "v", None).await;
    assert_eq!(second.status(), 503);
    assert!(second.header("retry-after").is_some());
    assert_eq!(
        Viewer::post(&reader.address, "v").await.status(),
        503,
        "a client that posts is no browser's stream"
    );
    let mut waits = Vec::new();
    for _ in 0..20 {
        waits.push(Viewer::browser(&reader.address, "v", None).await.asked_back_after().await);
    }
    assert!(waits.iter().all(|wait| (2_000..=6_000).contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 10, "each after a time of its own: {waits:?}");
    drop(first);
    until("room", async || Viewer::get(&reader.address, "v", None).await.status() == 200).await;
    until("room for a browser", async || {
        let mut browser = Viewer::browser(&reader.address, "v", None).await;
        browser.next().await.is_some_and(|event| event.data.contains("connected"))
    })
    .await;
}

#[tokio::test]
async fn an_idle_viewer_hears_a_heartbeat() {
    let world = World::new().await;
    let config = liverank_reader::Config { viewer_heartbeat: 1, ..config("r1") };
    let reader = Running::start(&world, config).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    // The greeting is counted after it is written, so the viewer may have it before it is counted.
    until("the greeting is counted", async || reader.metric("sent_bytes_total") > 0).await;
    let bytes = reader.metric("sent_bytes_total");
    until("a heartbeat", async || reader.metric("sent_bytes_total") > bytes).await;
    world.post("v", 1).await;
    assert_eq!(viewer.comments(1).await, [1]);
    assert!(viewer.remarks.contains(&":".to_owned()));
}
