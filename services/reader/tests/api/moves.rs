//! Tests of the placement of viewers: redirects, heartbeats, moves, and readers that leave.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use liverank_core::{ReaderId, canary};
use liverank_protocol::ReaderRecord;
use liverank_protocol::access::{CalledService, CallerRole, KnownCaller};
use liverank_protocol::{GATEWAY_ZONE_HEADER, ZonedViewers};
use liverank_reader::Config;
use liverank_runtime::identity::{now_seconds, sent};
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
        manager.last_heartbeat().is_some_and(|record| {
            record.videos.iter().any(|held| held.video == video("v") && held.viewers == 2)
        })
    })
    .await;
    let record = manager.last_heartbeat().unwrap();
    assert_eq!((record.id.as_str(), record.viewers, record.capacity), ("r1", 2, 20_000));
    assert_eq!((record.highest_epoch, record.draining), (7, false));
    until("the next beat", async || manager.last_heartbeat().is_some_and(|next| next.beat > record.beat))
        .await;
}

/// Connects a viewer of the canary as gateways do: with a pass that they sign with the key of the reader's ticket.
async fn canary_viewer(reader: &Running, manager: &Manager) -> Viewer {
    until("a heartbeat", async || manager.last_heartbeat().is_some()).await;
    let ticket = manager.last_heartbeat().unwrap().ticket.unwrap();
    let pass = sent::make_pass(&sent::pass_key(&ticket), &canary::user(), &canary::video(), now_seconds());
    let (id, pass) = (canary::CANARY_ID.replace(':', "%3A"), pass.to_str().unwrap());
    let line =
        format!("GET /connect?userid={id}&videoid={id} HTTP/1.1\r\nHost: t\r\nLiverank-Pass: {pass}\r\n\r\n");
    let mut viewer = Viewer::ask(&reader.address, &line).await;
    viewer.greeted().await;
    viewer
}

#[tokio::test]
async fn the_canary_s_viewer_is_reported_and_its_stream_goes_on_until_it_is_handed_over() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    *manager.room.lock().unwrap() = Some(0);
    // So long that the reader has not begun to send viewers away by itself when the order comes.
    let reader = Running::with_drain(&world, config_with("r1", &url), Duration::from_mins(1)).await;
    manager.assign(canary::CANARY_ID, 1, &[("r1", &reader.url)]);
    let mut viewer = canary_viewer(&reader, &manager).await;
    let reported = |record: ReaderRecord| {
        let held = record.videos.iter().find(|held| canary::is_canary(&held.video)).map(|held| held.viewers);
        (record.viewers, held)
    };
    // Managers leave it out of the load by these two numbers.
    until("a heartbeat that tells of it", async || {
        manager.last_heartbeat().is_some_and(|record| reported(record) == (1, Some(1)))
    })
    .await;
    assert_eq!(reader.health().await["activeConnections"], 0, "an operator may remove the reader");
    reader.shell.shutdown.cancel();
    until("heartbeats of a reader that leaves", async || {
        let beats = manager.heartbeats.lock().unwrap();
        beats.iter().filter(|record| record.draining).count() >= 3
    })
    .await;
    let mut comments = world.archived("v", 1).await;
    comments[0].video_id = canary::video();
    world.publish(&comments).await;
    assert_eq!(viewer.comments(1).await, [1], "the reader waits for it as for any viewer");
    manager.hand_over(canary::CANARY_ID, 2, "http://127.0.0.1:4002", false, 0);
    assert_eq!(viewer.rest().await, []);
    reader.drained().await;
    assert_eq!(manager.last_heartbeat().map(|record| record.viewers), Some(0));
}

#[tokio::test]
async fn heartbeats_tell_how_many_viewers_came_by_gateways_of_other_zones() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let zone = Some("eu-1a".parse().unwrap());
    let reader = Running::start(&world, Config { zone, ..config_with("r1", &url) }).await;
    manager.assign("v", 7, &[("r1", &reader.url)]);
    until("a heartbeat", async || manager.last_heartbeat().is_some()).await;
    let key = sent::pass_key(manager.last_heartbeat().unwrap().ticket.as_ref().unwrap());
    let user = "u".parse().unwrap();
    let pass = sent::make_pass(&key, &user, &video("v"), now_seconds());
    let by_gateway = format!("{}: {}\r\n", sent::PASS_HEADER, pass.to_str().unwrap());
    let connect = async |headers: &str| {
        let request = format!("GET /connect?userid=u&videoid=v HTTP/1.1\r\nHost: t\r\n{headers}\r\n");
        let viewer = Viewer::ask(&reader.address, &request).await;
        assert_eq!(viewer.status(), 200, "{}", viewer.head);
        viewer
    };
    let header = GATEWAY_ZONE_HEADER;
    let _viewers = [
        connect(&format!("{by_gateway}{header}: eu-1a\r\n")).await,
        connect(&format!("{by_gateway}{header}: eu-1b\r\n")).await,
        connect(&format!("{by_gateway}{header}: eu-1c\r\n")).await,
        connect(&by_gateway).await,
        // Without a gateway's pass nobody says where a gateway is.
        connect(&format!("{header}: eu-1b\r\n")).await,
    ];
    until("a heartbeat that tells of five viewers", async || {
        manager.last_heartbeat().is_some_and(|record| record.viewers == 5)
    })
    .await;
    let record = manager.last_heartbeat().unwrap();
    assert_eq!(record.viewers_by_zone, ZonedViewers { same: 1, other: 2 });
    assert_eq!(record.zone.unwrap().as_str(), "eu-1a");
    let text = reader.shell.metrics.encode_text();
    for (zone, viewers) in [("same", 1), ("other", 2), ("unknown", 2)] {
        let sample = format!("liverank_reader_viewers_by_zone{{zone=\"{zone}\"}} {viewers}\n");
        assert!(text.contains(&sample), "no {sample} in {text}");
    }
    world.post("v", 3).await;
    until("three comments for each of two viewers", async || {
        reader.metric("messages_to_other_zones_total") == 6
    })
    .await;
}

#[tokio::test]
async fn viewers_of_a_moved_video_are_closed_after_their_last_comment() {
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
    manager.hand_over("v", 3, "http://127.0.0.1:4002", false, 0);
    for viewer in &mut viewers {
        assert_eq!(viewer.comments(3).await, [1, 2, 3]);
        assert_eq!(viewer.rest().await, []);
    }
    assert_eq!(Viewer::get(&reader.address, "v", None).await.status(), 307);
    world.post("stays", 1).await;
    assert_eq!(stays.comments(1).await, [1]);
    // The video is moved back under a later epoch: viewers who come now stay, whatever a manager says that does not
    // know of the move.
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
    assert!(manager.last_heartbeat().unwrap().grace_ms > 0);
    assert_eq!(Viewer::get(&reader.address, "v", None).await.status(), 307);
    // The managers have found no other reader yet, so viewers have nowhere else to go and are accepted.
    assert_eq!(Viewer::get(&reader.address, "only", None).await.status(), 200);
    until("the only one to be refused", async || {
        let refused = Viewer::get(&reader.address, "only", None).await;
        refused.status() == 503 && refused.header("retry-after").is_some()
    })
    .await;
    assert!(Viewer::browser(&reader.address, "only", None).await.asked_back_after().await >= 2_000);
    assert_eq!(reader.health().await["status"], json!("draining"));
    for viewer in &mut viewers {
        assert_eq!(viewer.comments(2).await, [1, 2]);
        assert_eq!(viewer.rest().await, []);
    }
    reader.drained().await;
    assert_eq!(manager.last_heartbeat().unwrap().viewers, 0);
}

/// The time from the shutdown signal until a reader that leaves sends away all viewers, with or without room for them: of
/// the drain time of eight seconds, two are reserved for the steps after the last viewer, and the last second before
/// these is for all viewers. A tenth of a second is for the difference between clocks.
const LAST_PHASE: Duration = Duration::from_millis(4_900);

/// Returns, for a leaving reader whose viewers no manager moves, the time from the shutdown signal until each viewer
/// was sent away. `room` is what the manager says of space at other readers.
async fn ends_of_streams(room: Option<u64>) -> Vec<Duration> {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    *manager.room.lock().unwrap() = room;
    let reader = Running::with_drain(&world, config_with("r1", &url), Duration::from_secs(8)).await;
    manager.assign("v", 1, &[("r1", &reader.url)]);
    let mut viewers = Vec::new();
    for _ in 0..5 {
        let mut viewer = Viewer::get(&reader.address, "v", None).await;
        viewer.greeted().await;
        viewers.push(viewer);
    }
    // Viewers who may go soon would be gone before a comment that a busy machine posts late.
    let go_soon = room.is_some_and(|room| room > 0);
    if go_soon {
        world.post("v", 2).await;
    }
    let began = Instant::now();
    reader.shell.shutdown.cancel();
    until("the manager to hear of it", async || {
        manager.last_heartbeat().is_some_and(|record| record.draining)
    })
    .await;
    if !go_soon {
        world.post("v", 2).await;
    }
    let watching = viewers.iter_mut().map(async |viewer| {
        assert_eq!(viewer.comments(2).await, [1, 2]);
        assert_eq!(viewer.rest().await, []);
        began.elapsed()
    });
    let ends = futures::future::join_all(watching).await;
    reader.drained().await;
    // Eight seconds, and the rest for a busy machine; viewers who stay would keep it for a minute.
    assert!(began.elapsed() < Duration::from_secs(16), "it ends in time");
    assert_eq!(manager.last_heartbeat().unwrap().viewers, 0);
    ends
}

#[tokio::test]
async fn a_leaving_reader_keeps_its_viewers_while_nobody_has_room_and_ends_in_time() {
    for ends in futures::future::join_all([ends_of_streams(Some(0)), ends_of_streams(None)]).await {
        let first = ends.iter().min().unwrap();
        assert!(*first >= LAST_PHASE, "{ends:?}");
    }
}

#[tokio::test]
async fn a_leaving_reader_sends_viewers_into_room_that_has_been_there_for_a_while() {
    // Several tries, because on a busy machine some viewers go late; a reader that waits for its last phase is late each
    // time.
    let mut tries = Vec::new();
    while tries.last().is_none_or(|ends: &Vec<Duration>| ends.iter().any(|end| *end >= LAST_PHASE)) {
        assert!(tries.len() < 3, "and go before the time is nearly over: {tries:?}");
        let ends = ends_of_streams(Some(100)).await;
        let first = ends.iter().min().unwrap();
        assert!(*first >= Duration::from_millis(1_400), "managers have a quarter of the time: {ends:?}");
        tries.push(ends);
    }
}

#[tokio::test]
async fn an_empty_reader_ends_at_once_however_much_time_it_has() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let reader = Running::with_drain(&world, config_with("r1", &url), Duration::from_mins(3)).await;
    manager.assign("v", 1, &[("r1", &reader.url)]);
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    assert_eq!(reader.metric("drain_waits_for"), 0);
    // A client that has begun a request and does not finish it.
    let mut half = tokio::net::TcpStream::connect(&reader.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut half, b"GET /health HTTP/1.1\r\nHost:").await.unwrap();
    reader.shell.shutdown.cancel();
    until("it to wait for its viewer", async || reader.metric("drain_waits_for") == 1).await;
    drop(viewer);
    let left = std::time::Instant::now();
    reader.drained().await;
    // Four seconds for a last heartbeat and for the requests that are being answered; the rest is for a busy machine.
    assert!(left.elapsed() < Duration::from_secs(12), "{:?}", left.elapsed());
    assert!(manager.last_heartbeat().unwrap().draining);
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

#[tokio::test]
async fn a_warm_reader_has_all_that_viewers_who_come_may_have_missed() {
    let world = World::new().await;
    world.post("v", 60).await;
    let (manager, url) = Manager::start().await;
    let config = Config { linger: 0, ..config_with("r2", &url) };
    let reader = Running::start(&world, config).await;
    until("the reader to give its manager a ticket", async || manager.last_heartbeat().is_some()).await;
    let ticket = manager.last_heartbeat().unwrap().ticket.unwrap();
    let warm_under = |token: &str, epoch: u64| {
        let request = reqwest::Client::new().post(format!("{}/warm", reader.url)).bearer_auth(token);
        request.json(&json!({ "videoid": "v", "epoch": epoch })).send()
    };
    let warm = |token: &str| warm_under(token, 4);
    // Only the reader's own ticket opens the endpoint: not even a manager's token, which would be valid at other
    // services, too.
    let keys = liverank_runtime::identity::local::KeyRing::from_secret(&[b't'; 32]).unwrap();
    for role in CallerRole::ALL {
        let caller =
            KnownCaller::of_role(role).unwrap_or_else(|| KnownCaller::reader(ReaderId::parse("r2").unwrap()));
        let token = keys.token_source(&caller).unwrap().sign_token(CalledService::Reader, 1_000_000_000, 60);
        assert_eq!(warm(&token).await.unwrap().status(), 401, "{role}");
    }
    for wrong in ["", "wrong", &ticket.expose()[1..]] {
        assert_eq!(warm(wrong).await.unwrap().status(), 401);
    }
    for never in [1 << 52, u64::MAX] {
        assert_eq!(warm_under(ticket.expose(), never).await.unwrap().status(), 400);
    }
    for _ in 0..2 {
        let answer = warm(ticket.expose()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(answer, json!({ "videoid": "v", "head": format!("{}-60", world.numbering) }));
    }
    until("the manager to hear of it", async || {
        let record = manager.last_heartbeat();
        record.is_some_and(|it| it.videos.iter().any(|held| held.ready && held.viewers == 0))
    })
    .await;
    // Comments that are posted before the viewers come are in the ring for them, without a query to a store.
    world.post("v", 2).await;
    world.bus.is_unavailable.store(true, Ordering::Relaxed);
    manager.assign("v", 5, &[("r2", &reader.url)]);
    let mut viewer = Viewer::get(&reader.address, "v", Some(&format!("{}-10", world.numbering))).await;
    viewer.greeted().await;
    assert_eq!(viewer.comments(52).await, (11..=62).collect::<Vec<_>>());
    assert!(reader.shell.metrics.encode_text().contains("resumes_total{source=\"ring\"} 1"));
}

#[tokio::test]
async fn a_split_sends_away_only_what_is_too_much_and_at_the_pace_that_was_said() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let reader = Running::start(&world, config_with("r1", &url)).await;
    manager.assign("v", 1, &[("r1", &reader.url)]);
    let mut viewers = Vec::new();
    for _ in 0..150 {
        let mut viewer = Viewer::get(&reader.address, "v", None).await;
        viewer.greeted().await;
        viewers.push(viewer);
    }
    manager.assign("v", 2, &[("r1", &reader.url), ("r2", "http://127.0.0.1:4002")]);
    manager.hand_over("v", 2, "http://127.0.0.1:4002", true, 50);
    let count = async || reader.health().await["activeConnections"].as_u64().unwrap();
    until("the first to go", async || count().await < 150).await;
    // Viewers are redirected while there are too many, although this reader still serves the video. On a busy machine
    // they may have gone before the newcomer asks.
    let newcomer = Viewer::get(&reader.address, "v", None).await.status();
    if count().await > 60 {
        assert_eq!(newcomer, 307);
    }
    let before = count().await;
    until("more to go", async || count().await < before || before <= 51).await;
    let (began, left) = (Instant::now(), count().await);
    until("the last to go", async || count().await == 50).await;
    // At a pace of a hundred a second, in steps of less than a tenth of a second.
    let least =
        Duration::from_millis(10 * left.saturating_sub(50)).saturating_sub(Duration::from_millis(250));
    assert!(began.elapsed() >= least, "{left} had shrunk to 50 after {:?}", began.elapsed());
    manager.hand_over.lock().unwrap().clear();
    let beat = manager.last_heartbeat().unwrap().beat;
    until("more heartbeats", async || manager.last_heartbeat().unwrap().beat > beat + 2).await;
    assert_eq!(count().await, 50);
    assert_eq!(Viewer::get(&reader.address, "v", None).await.status(), 200);
    let record = manager.last_heartbeat().unwrap();
    assert_eq!((record.reconnects, record.highest_epoch), (0, 2));
}

#[tokio::test]
async fn viewers_who_are_handed_over_go_on_at_the_other_reader_without_loss_or_repeat() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let from = Running::start(&world, config_with("r1", &url)).await;
    let to = Running::start(&world, config_with("r2", &url)).await;
    manager.assign("v", 1, &[("r1", &from.url)]);
    let mut viewers = Vec::new();
    for _ in 0..40 {
        let mut viewer = Viewer::get(&from.address, "v", None).await;
        viewer.greeted().await;
        viewers.push(viewer);
    }
    manager.assign("v", 2, &[("r2", &to.url)]);
    manager.hand_over("v", 2, &to.url, false, 0);
    let post = async |count| {
        for _ in 0..count {
            world.post("v", 1).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let posting = async {
        post(50).await;
        // No viewer has all comments yet, so all are still connected to be handed over, however slow this machine is.
        until("the first reader to be empty", async || from.health().await["activeConnections"] == 0).await;
        post(50).await;
    };
    let watching = viewers.iter_mut().map(async |viewer| {
        let mut seqs = Vec::new();
        // A viewer that has seen no comment yet knows its position, too.
        let mut last_id = viewer.last_id.clone();
        while seqs.len() < 100 {
            match viewer.next().await {
                Some(event) if event.json()["type"] == "connected" => {}
                Some(event) => seqs.push(event.json()["seq"].as_u64().unwrap()),
                None => *viewer = Viewer::get(&to.address, "v", Some(&last_id)).await,
            }
            // A refused attempt has no id and changes nothing.
            if !viewer.last_id.is_empty() {
                last_id.clone_from(&viewer.last_id);
            }
        }
        seqs
    });
    let ((), seen) = tokio::join!(posting, futures::future::join_all(watching));
    assert!(seen.iter().all(|seqs| seqs.iter().copied().eq(1..=100)));
    assert_eq!(to.health().await["activeConnections"], 40);
    until("the counts of those who came back", async || {
        let records = manager.heartbeats.lock().unwrap();
        records.iter().any(|it| it.id.as_str() == "r2" && it.reconnects == 40 && it.reconnect_errors == 0)
    })
    .await;
}

/// Starts a reader for one viewer, with that viewer, and refuses another one just after a heartbeat. Returns what runs,
/// and the time until a heartbeat tells that the reader is full.
async fn full_reader() -> (World, Arc<Manager>, Running, Viewer, Duration) {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let config = liverank_reader::Config { capacity: 1, ..config_with("r1", &url) };
    let reader = Running::start(&world, config).await;
    manager.assign("v", 1, &[("r1", &reader.url)]);
    until("the first heartbeat", async || manager.last_heartbeat().is_some()).await;
    let last_id = format!("{}-0", world.numbering);
    let mut first = Viewer::get(&reader.address, "v", Some(&last_id)).await;
    first.greeted().await;
    assert_eq!(Viewer::get(&reader.address, "v", Some(&last_id)).await.status(), 503);
    let refused = Instant::now();
    until("a heartbeat that knows of it", async || {
        manager.last_heartbeat().is_some_and(|it| it.viewers == 1)
    })
    .await;
    (world, manager, reader, first, refused.elapsed())
}

#[tokio::test]
async fn a_viewer_refused_by_a_full_reader_is_not_a_failed_move() {
    // Several tries, because some take long on a busy machine. The heartbeat that would come anyhow comes a second after
    // the one before.
    let mut late = Vec::new();
    let (_world, manager, reader, _first) = loop {
        let (world, manager, reader, first, took) = full_reader().await;
        if took < Duration::from_millis(500) {
            break (world, manager, reader, first);
        }
        late.push(took);
        assert!(late.len() < 5, "at once, so that the next is sent elsewhere, not after {late:?}");
    };
    let beat = async || manager.last_heartbeat().map_or(0, |it| it.beat);
    let before = beat().await;
    until("another heartbeat", async || beat().await > before).await;
    // The managers know that the reader is full: a further viewer causes no further heartbeat.
    let (began, before) = (Instant::now(), beat().await);
    for _ in 0..20 {
        assert_eq!(Viewer::get(&reader.address, "v", None).await.status(), 503);
    }
    let after = beat().await;
    assert!(after <= before + 1 + began.elapsed().as_secs(), "one a second, not {} more", after - before);
    let record = manager.last_heartbeat().unwrap();
    assert_eq!((record.viewers, record.reconnects, record.reconnect_errors), (1, 1, 0));
}

#[tokio::test]
async fn a_full_reader_sends_a_browser_to_another_one_that_takes_viewers_and_only_there() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    let config = liverank_reader::Config { capacity: 1, ..config_with("r1", &url) };
    let reader = Running::start(&world, config).await;
    let both = [("r1", reader.url.as_str()), ("r2", "http://127.0.0.1:4002")];
    manager.assign_full("v", 1, &both, &["r1", "r2"]);
    let mut first = Viewer::get(&reader.address, "v", None).await;
    first.greeted().await;
    assert!(
        Viewer::browser(&reader.address, "v", None).await.asked_back_after().await >= 2_000,
        "both are full"
    );
    // A manager's answer is trusted for two seconds.
    manager.assign_full("v", 2, &both, &["r1"]);
    let last_id = format!("{}-0", world.numbering);
    until("the word of another reader with room", async || {
        let browser = Viewer::browser(&reader.address, "v", Some(&last_id)).await;
        let to = browser.header("location").map(str::to_owned);
        to.as_deref() == Some("http://127.0.0.1:4002/connect?userid=u&videoid=v") && browser.status() == 307
    })
    .await;
    assert_eq!(
        Viewer::get(&reader.address, "v", None).await.status(),
        503,
        "a gateway asks the managers by itself"
    );
    // A viewer whom two full readers redirect to each other goes back and forth no more often than this.
    let begun = Instant::now();
    let asked = futures::stream::iter(0..2_000).map(|_| Viewer::browser(&reader.address, "v", None));
    let answers: Vec<u16> = asked.buffer_unordered(50).map(|viewer| viewer.status()).collect().await;
    let redirected = answers.iter().filter(|status| **status == 307).count() as u64;
    let most = 500 + 500 * (begun.elapsed().as_secs() + 1);
    assert!((100..=most).contains(&redirected), "{redirected} of {most}");
    assert!(answers.iter().all(|status| [200, 307].contains(status)), "{answers:?}");
}

#[tokio::test]
async fn a_manager_that_refuses_a_heartbeat_as_too_long_is_sent_a_shorter_one() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    manager.takes_short_ones_only.store(true, Ordering::Relaxed);
    let reader = Running::start(&world, config_with("r1", &url)).await;
    until("the manager knows the reader", async || manager.last_heartbeat().is_some()).await;
    assert_eq!(manager.last_heartbeat().unwrap().id.as_str(), "r1");
    reader.drained().await;
}

#[tokio::test]
async fn a_direct_viewer_whose_address_has_used_its_share_of_new_videos_is_refused() {
    let world = World::new().await;
    let (manager, url) = Manager::start().await;
    manager.is_share_used.store(true, Ordering::Relaxed);
    let reader = Running::start(&world, config_with("r", &url)).await;
    manager.assign("known", 1, &[("r", &reader.url)]);
    let refused = Viewer::post(&reader.address, "new").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (429, Some("60")));
    let asked_back = Viewer::browser(&reader.address, "new", None).await.asked_back_after().await;
    assert!((45_000..=75_000).contains(&asked_back), "{asked_back}");
    let mut viewer = Viewer::get(&reader.address, "known", None).await;
    viewer.greeted().await;
    assert_eq!(world.bus.subscribed.load(Ordering::Relaxed), 1, "nothing is kept of a refused video");
    let asked_for = manager.asked_for.lock().unwrap().clone();
    assert_eq!(
        asked_for,
        vec![Some("127.0.0.1".to_owned()); 3],
        "the manager counts by the viewer's address"
    );
}
