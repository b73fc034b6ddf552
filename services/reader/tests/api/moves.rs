//! Who serves what: redirects, heartbeats, moves, leaving.

use std::time::Duration;

use liverank_shell::wire::Moved;
use serde_json::json;

use crate::world::{Manager, Running, Viewer, World, config, config_with, until, video};

#[tokio::test]
async fn a_reader_that_does_not_serve_the_video_names_the_one_that_does() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let reader = Running::start(&world, config_with("r1", &url)).await;
    manager.assign("mine", 1, &[("r1", &reader.url)]);
    manager.assign("theirs", 2, &[("r2", "http://127.0.0.1:4002")]);
    assert_eq!(Viewer::get(&reader.address, "mine", None).await.status(), 200);
    let request = "GET /connect?userid=u%20x&videoid=theirs&last_event_id=n-4 HTTP/1.1\r\nHost: t\r\nOrigin: null\r\n\r\n";
    let answer = Viewer::ask(&reader.address, request).await;
    assert_eq!(answer.status(), 307);
    assert_eq!(
        answer.header("location"),
        Some("http://127.0.0.1:4002/connect?userid=u%20x&videoid=theirs&last_event_id=n-4")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let answer = Viewer::post(&reader.address, "theirs").await;
    assert_eq!((answer.status(), answer.header("location")), (307, Some("http://127.0.0.1:4002/connect")));
}

#[tokio::test]
async fn while_no_manager_answers_a_reader_serves_what_it_is_asked_for() {
    let world = World::new().await;
    let reader = Running::start(&world, config_with("r1", "http://127.0.0.1:9")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    world.post("v", 1).await;
    assert_eq!(viewer.comments(1).await, [1]);
}

#[tokio::test]
async fn heartbeats_tell_the_manager_how_many_watch_what() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let reader = Running::start(&world, config_with("r1", &url)).await;
    manager.assign("v", 7, &[("r1", &reader.url)]);
    let _viewers =
        [Viewer::get(&reader.address, "v", None).await, Viewer::get(&reader.address, "v", None).await];
    until("a heartbeat that tells of two viewers", async || {
        manager.last_heartbeat().is_some_and(|record| record.videos == [(video("v"), 2)])
    })
    .await;
    let record = manager.last_heartbeat().unwrap();
    assert_eq!((record.id.as_str(), record.viewers, record.capacity), ("r1", 2, 20_000));
    assert_eq!((record.highest_epoch, record.draining), (7, false));
    until("the next beat", async || manager.last_heartbeat().is_some_and(|next| next.beat > record.beat))
        .await;
}

#[tokio::test]
async fn viewers_of_a_moved_video_are_let_go_after_what_they_were_due() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let reader = Running::start(&world, config_with("r1", &url)).await;
    manager.assign("v", 1, &[("r1", &reader.url)]);
    manager.assign("stays", 2, &[("r1", &reader.url)]);
    let mut viewers = Vec::new();
    for _ in 0..10 {
        let mut viewer = Viewer::get(&reader.address, "v", None).await;
        viewer.greeted().await;
        viewers.push(viewer);
    }
    let mut stays = Viewer::get(&reader.address, "stays", None).await;
    stays.greeted().await;
    world.post("v", 3).await;
    manager.moved.lock().unwrap().push(Moved {
        videoid: video("v"),
        epoch: 3,
        reader_url: "http://127.0.0.1:4002".into(),
    });
    for viewer in &mut viewers {
        assert_eq!(viewer.comments(3).await, [1, 2, 3]);
        assert_eq!(viewer.rest().await, []);
    }
    assert_eq!(Viewer::get(&reader.address, "v", None).await.status(), 307);
    world.post("stays", 1).await;
    assert_eq!(stays.comments(1).await, [1]);
    // Back again, under a later epoch: viewers who come now stay, whatever a manager that has not heard of it says.
    manager.assign("v", 4, &[("r1", &reader.url)]);
    until("the move back to be known", async || {
        Viewer::get(&reader.address, "v", None).await.status() == 200
    })
    .await;
    let mut back = Viewer::get(&reader.address, "v", Some(&viewers[0].last_id)).await;
    back.greeted().await;
    let record = manager.last_heartbeat().unwrap();
    until("two more heartbeats", async || manager.last_heartbeat().unwrap().beat >= record.beat + 2).await;
    world.post("v", 1).await;
    assert_eq!(back.comments(1).await, [4]);
}

#[tokio::test]
async fn a_leaving_reader_lets_everybody_go_and_sends_newcomers_elsewhere() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let reader = Running::with_drain(&world, config_with("r1", &url), Duration::from_secs(8)).await;
    manager.assign("v", 1, &[("r1", &reader.url), ("r2", "http://127.0.0.1:4002")]);
    manager.assign("only", 2, &[("r1", &reader.url)]);
    let mut viewers = Vec::new();
    for _ in 0..5 {
        let mut viewer = Viewer::get(&reader.address, "v", None).await;
        viewer.greeted().await;
        viewers.push(viewer);
    }
    world.post("v", 2).await;
    reader.shell.shutdown.cancel();
    until("the manager to hear of it", async || {
        manager.last_heartbeat().is_some_and(|record| record.draining)
    })
    .await;
    assert_eq!(Viewer::get(&reader.address, "v", None).await.status(), 307);
    let refused = Viewer::get(&reader.address, "only", None).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(reader.health().await["status"], json!("draining"));
    for viewer in &mut viewers {
        assert_eq!(viewer.comments(2).await, [1, 2]);
        assert_eq!(viewer.rest().await, []);
    }
    reader.drained().await;
    assert_eq!(manager.last_heartbeat().unwrap().viewers, 0);
}

#[tokio::test]
async fn without_managers_leaving_is_quick() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    let ((), rest) = tokio::join!(reader.drained(), viewer.rest());
    assert_eq!(rest, []);
}
