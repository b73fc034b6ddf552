//! Tests of resuming: a viewer gets each missed comment once and in order, or a gap that names those that are not
//! available.

use std::sync::atomic::Ordering;

use liverank_reader::Config;
use serde_json::json;

use crate::world::{Event, Running, Viewer, World, config};

fn gap_of_event(event: &Event) -> (u64, u64) {
    assert_eq!(event.kind.as_deref(), Some("gap"), "{event:?}");
    (event.json()["from"].as_u64().unwrap(), event.json()["to"].as_u64().unwrap())
}

#[tokio::test]
async fn a_resuming_viewer_gets_missed_comments_from_the_ring() {
    let world = World::new().await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", None).await;
    viewer.greeted().await;
    world.post("v", 5).await;
    viewer.comments(5).await;
    let last = viewer.last_id.clone();
    drop(viewer);
    world.post("v", 4).await;
    let mut back = Viewer::get(&reader.address, "v", Some(&last)).await;
    assert_eq!(back.greeted().await.id, Some(last));
    world.post("v", 1).await;
    assert_eq!(back.comments(5).await, [6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn another_reader_gives_missed_comments_from_the_bus_or_the_archive() {
    let world = World::new().await;
    // Comments of `v` were published and are on the bus; comments of `w` were not and are in the archive only.
    world.post("v", 40).await;
    world.archived("w", 30).await;
    let reader = Running::start(&world, config("r2")).await;
    for (id, last, missed) in [("v", 40, 33), ("w", 30, 17)] {
        let from = format!("{}-{}", world.numbering, last - missed);
        let mut back = Viewer::get(&reader.address, id, Some(&from)).await;
        assert_eq!(back.greeted().await.id, Some(from));
        assert_eq!(back.comments(missed).await, (last - missed + 1..=last).collect::<Vec<_>>());
    }
    let text = reader.shell.metrics.encode_text();
    assert!(text.contains("liverank_reader_resumes_total{source=\"bus\"} 1"), "{text}");
    assert!(text.contains("liverank_reader_resumes_total{source=\"archive\"} 1"), "{text}");
}

#[tokio::test]
async fn a_resume_gives_a_thousand_comments_and_a_gap_beyond() {
    let world = World::new().await;
    world.post("v", 1500).await;
    let reader = Running::start(&world, config("r1")).await;
    let exact = format!("{}-500", world.numbering);
    let mut back = Viewer::get(&reader.address, "v", Some(&exact)).await;
    back.greeted().await;
    assert_eq!(back.comments(1000).await, (501..=1500).collect::<Vec<_>>());

    let older = format!("{}-20", world.numbering);
    // The ring has 1,003 comments by now, which does not change what a resuming viewer gets.
    world.post("v", 3).await;
    assert_eq!(back.comments(3).await, [1501, 1502, 1503]);
    let mut back = Viewer::get(&reader.address, "v", Some(&older)).await;
    assert_eq!(back.greeted().await.id, Some(older));
    let event = back.next().await.unwrap();
    assert_eq!(gap_of_event(&event), (21, 503));
    assert_eq!(event.id, Some(format!("{}-503", world.numbering)));
    assert_eq!(back.comments(1000).await, (504..=1503).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_last_event_id_header_wins_over_the_query() {
    let world = World::new().await;
    world.post("v", 5).await;
    let reader = Running::start(&world, config("r1")).await;
    let numbering = &world.numbering;
    let ask = |header: &str| {
        format!(
            "GET /connect?userid=u&videoid=v&last_event_id={numbering}-2 HTTP/1.1\r\nHost: t\r\n{header}\r\n"
        )
    };
    let mut by_query = Viewer::ask(&reader.address, &ask("")).await;
    by_query.greeted().await;
    assert_eq!(by_query.comments(3).await, [3, 4, 5]);
    let header = format!("Last-Event-ID: {numbering}-4\r\n");
    let mut by_header = Viewer::ask(&reader.address, &ask(&header)).await;
    by_header.greeted().await;
    assert_eq!(by_header.comments(1).await, [5]);
}

#[tokio::test]
async fn an_invalid_last_event_id_gets_a_gap_to_the_head() {
    let world = World::new().await;
    world.post("v", 5).await;
    let reader = Running::start(&world, config("r1")).await;
    let ahead = format!("{}-900", world.numbering);
    for bad in ["nonsense", "abc-", "zzz-3", "%%%", "-1", &ahead] {
        let mut viewer = Viewer::get(&reader.address, "v", Some(bad)).await;
        assert_eq!(viewer.status(), 200, "{bad}");
        viewer.greeted().await;
        let event = viewer.next().await.unwrap();
        assert_eq!(gap_of_event(&event), (0, 5), "{bad}");
        assert_eq!(event.id, Some(format!("{}-5", world.numbering)));
    }
    let mut viewer = Viewer::get(&reader.address, "v", Some("nonsense")).await;
    viewer.greeted().await;
    viewer.next().await.unwrap();
    world.post("v", 1).await;
    assert_eq!(viewer.comments(1).await, [6]);
}

#[tokio::test]
async fn a_viewer_that_saw_more_than_this_reader_has_heard_of_is_given_nothing_twice() {
    let world = World::new().await;
    world.post("v", 5).await;
    world.archived("v", 2).await;
    let reader = Running::start(&world, config("r1")).await;
    let mut viewer = Viewer::get(&reader.address, "v", Some(&format!("{}-7", world.numbering))).await;
    viewer.greeted().await;
    world.post("v", 1).await;
    assert_eq!(viewer.comments(1).await, [8]);
}

#[tokio::test]
async fn while_the_archive_alone_answers_coming_back_still_works() {
    let world = World::new().await;
    world.post("v", 10).await;
    let reader = Running::start(&world, config("r1")).await;
    world.bus.is_unavailable.store(true, Ordering::Relaxed);
    let mut back = Viewer::get(&reader.address, "v", Some(&format!("{}-4", world.numbering))).await;
    back.greeted().await;
    assert_eq!(back.comments(6).await, [5, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn a_thousand_who_come_back_at_once_ask_the_stores_once_or_twice() {
    let world = World::new().await;
    world.post("v", 300).await;
    let reader = Running::start(&world, config("r1")).await;
    let from = format!("{}-100", world.numbering);
    let one = || async {
        let mut back = Viewer::get(&reader.address, "v", Some(&from)).await;
        back.greeted().await;
        back.comments(200).await
    };
    for seqs in futures::future::join_all((0..200).map(|_| one())).await {
        assert_eq!(seqs, (101..=300).collect::<Vec<_>>());
    }
    let text = reader.shell.metrics.encode_text();
    assert!(text.contains("liverank_reader_resumes_total{source=\"bus\"} 1"), "{text}");
}

#[tokio::test]
async fn to_a_post_client_a_gap_is_a_remark() {
    let world = World::new().await;
    world.post("v", 5).await;
    let config = Config { ring_length: 2, ..config("r1") };
    let reader = Running::start(&world, config).await;
    let body = json!({ "userid": "u", "videoid": "v" }).to_string();
    let mut viewer = Viewer::ask(
        &reader.address,
        &format!(
            "POST /connect HTTP/1.1\r\nHost: t\r\nLast-Event-ID: {}-1\r\nContent-Length: {}\r\n\r\n{body}",
            world.numbering,
            body.len()
        ),
    )
    .await;
    viewer.greeted().await;
    assert_eq!(viewer.comments(2).await, [4, 5]);
    assert_eq!(viewer.remarks, [": gap from=2 to=3"]);
}
