//! Tests of lists with the metadata of their videos: `fields=metadata`.

use std::collections::BTreeMap;
use std::sync::Arc;

use liverank_adapters::RankingStore;
use liverank_adapters::ranking_store::DescribedVideo;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_core::{Metadata, VideoId};
use liverank_runtime::boards::BoardsArgs;
use liverank_websocket::Config;
use serde_json::{Value, json};

use crate::{
    BoardChange, BuiltInBoard, Client, DeclaredBoards, Lossy, PageStart, RankedVideo, TestService, entry,
    list_line,
};

async fn describe(ranking: &dyn RankingStore, id: &str, revision: u64, metadata: &Value) {
    let metadata = Some(Metadata::from_value(metadata).unwrap());
    let video_id = VideoId::parse(id).unwrap();
    ranking.put_metadata(1, &[DescribedVideo { video_id, revision, metadata }]).await.unwrap();
}

async fn title(service: &TestService, id: &str, revision: u64, title: &str) {
    describe(&*service.ranking, id, revision, &json!({ "title": title })).await;
}

fn titled(id: &str, score: f64, title: Option<&str>) -> Value {
    let mut line = list_line(id, score, "o");
    line["metadata"] = title.map_or(Value::Null, |title| json!({ "title": title }));
    line
}

/// Reads lists until one equals `expected`; earlier lists are states in between.
async fn list_becomes(client: &mut Client, expected: &Value) {
    while client.next().await != *expected {}
}

/// Waits until the service's boards have `count` videos, and until no list is watched any more.
async fn boards_have(service: &TestService, count: usize) {
    service.connect("/ws/videos").await.ids_until(count).await;
    service.wait_until("nobody watches", |service| service.metric_value("lists") == 0).await;
}

#[tokio::test]
async fn a_list_that_asks_for_metadata_has_them_and_follows_them() {
    let service = TestService::start().await;
    service.change_boards(&[entry("a", 2.0, "o"), entry("b", 1.0, "o")]).await;
    title(&service, "a", 1, "Cats").await;
    boards_have(&service, 2).await;
    let mut plain = service.connect("/ws/videos").await;
    assert_eq!(plain.next().await, json!([list_line("a", 2.0, "o"), list_line("b", 1.0, "o")]));
    let mut client = service.connect("/ws/videos?fields=metadata").await;
    assert_eq!(client.next().await, json!([titled("a", 2.0, Some("Cats")), titled("b", 1.0, None)]));
    // No score changes; clients who asked for metadata are sent the new list.
    title(&service, "b", 1, "Dogs").await;
    let both = json!([titled("a", 2.0, Some("Cats")), titled("b", 1.0, Some("Dogs"))]);
    list_becomes(&mut client, &both).await;
    let mut late = service.connect("/ws/videos?fields=metadata&limit=1").await;
    assert_eq!(late.next().await, json!([titled("a", 2.0, Some("Cats"))]));
    // Clients who did not ask for metadata are sent nothing: their next list has the next score.
    service.change_boards(&[entry("b", 1.5, "o")]).await;
    assert_eq!(plain.next().await, json!([list_line("a", 2.0, "o"), list_line("b", 1.5, "o")]));
}

#[tokio::test]
async fn a_change_of_metadata_is_encoded_once_for_all_who_asked() {
    let service = TestService::start().await;
    service.change_boards(&[entry("a", 1.0, "o")]).await;
    boards_have(&service, 1).await;
    let (encodes, messages) = (service.metric_value("encodes_total"), service.metric_value("messages_total"));
    let since = || {
        (service.metric_value("encodes_total") - encodes, service.metric_value("messages_total") - messages)
    };
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = service.connect("/ws/videos?fields=metadata&mode=delta&limit=10").await;
        client.next().await;
        clients.push(client);
    }
    assert_eq!((since(), service.metric_value("lists")), ((1, 20), 1));
    title(&service, "a", 1, "Cats").await;
    for client in &mut clients {
        let expected = json!({"type": "delta", "base": 1, "version": 2, "total": 1, "remove": [],
            "set": [titled("a", 1.0, Some("Cats"))]});
        assert_eq!(client.next().await, expected);
    }
    assert_eq!(since(), (2, 40));
    assert_eq!(service.metric_value("described_videos"), 1);
}

#[tokio::test]
async fn deltas_with_metadata_rebuild_the_list_and_repeat_none() {
    let service = TestService::start().await;
    let mut client = service.connect("/ws/videos?fields=metadata&mode=delta&limit=3").await;
    let mut held: BTreeMap<String, Value> = BTreeMap::new();
    let mut titles: BTreeMap<String, String> = BTreeMap::new();
    let mut told = 0;
    assert_eq!(client.next().await["type"], "snapshot");
    for round in 1..=12_u32 {
        let id = |n: u32| format!("v{}", (round * 7 + n * 3) % 5);
        let entries = [0, 1].map(|n| entry(&id(n), f64::from(round * 2 + n), "o"));
        service.change_boards(&entries).await;
        titles.insert(id(0), format!("t{}", round / 3));
        title(&service, &id(0), u64::from(round), &titles[&id(0)]).await;
        let page =
            service.ranking.board_page(BuiltInBoard::Global, &PageStart::Best, 3).await.unwrap().unwrap();
        let line = |line: &RankedVideo| {
            let id = line.video_id.as_str();
            (id.to_owned(), titled(id, line.score, titles.get(id).map(String::as_str)))
        };
        let expected: BTreeMap<String, Value> = page.videos.iter().map(line).collect();
        while held != expected {
            let delta = client.next().await;
            assert_eq!(delta["type"], "delta");
            for id in delta["remove"].as_array().unwrap() {
                held.remove(id.as_str().unwrap());
            }
            for line in delta["set"].as_array().unwrap() {
                told += usize::from(line.get("metadata").is_some());
                let id = line["video_id"].as_str().unwrap().to_owned();
                let old = held.entry(id).or_insert_with(|| json!({}));
                old.as_object_mut().unwrap().extend(line.as_object().unwrap().clone());
            }
        }
    }
    assert!(told > 0);
}

#[tokio::test]
async fn lists_around_a_video_and_of_declared_boards_have_metadata_too() {
    let declared = json!([{"name": "liked"}]);
    let boards = BoardsArgs { boards: Some(declared.to_string()), ..BoardsArgs::default() };
    let embedded = Arc::new(EmbeddedRanking::new());
    embedded.write_snapshot(1, &[]).await.unwrap();
    let key = DeclaredBoards::from_json(&declared).unwrap().iter().next().unwrap().store_key();
    embedded.declared_board(&key).write_snapshot(1, &[entry("a", 7.0, "o")]).await.unwrap();
    describe(&*embedded, "a", 1, &json!({"title": "Cats"})).await;
    let service = TestService::start_with(embedded, Config { boards, ..Config::default() }).await;
    service.change_boards(&[entry("a", 1.0, "o"), entry("b", 2.0, "o")]).await;
    let mut around = service.connect("/ws/videos?around=a&limit=1&fields=metadata").await;
    let part = |title| json!({"first_rank": 2, "total": 2, "videos": [titled("a", 1.0, Some(title))]});
    list_becomes(&mut around, &part("Cats")).await;
    let mut liked = service.connect("/ws/videos?board=liked&fields=metadata").await;
    list_becomes(&mut liked, &json!([titled("a", 7.0, Some("Cats"))])).await;
    title(&service, "a", 2, "Dogs").await;
    list_becomes(&mut liked, &json!([titled("a", 7.0, Some("Dogs"))])).await;
    list_becomes(&mut around, &part("Dogs")).await;
}

/// A lost notification of new metadata leaves a gap in the versions: the next change reveals it, and the metadata are
/// read again.
#[tokio::test]
async fn metadata_of_which_the_telling_is_lost_are_found_with_the_next_change() {
    let embedded: Arc<dyn RankingStore> = Arc::new(EmbeddedRanking::new());
    embedded.write_snapshot(1, &[entry("a", 1.0, "o")]).await.unwrap();
    let loses: fn(&BoardChange) -> bool =
        |change| matches!(change, BoardChange::Changed { described, .. } if !described.is_empty());
    let lossy = Arc::new(Lossy::new(Arc::clone(&embedded), loses));
    let service = TestService::start_with(lossy, Config::default()).await;
    let mut client = service.connect("/ws/videos?fields=metadata").await;
    assert_eq!(client.next().await, json!([titled("a", 1.0, None)]));
    title(&service, "a", 2, "Cats").await;
    service.change_boards(&[entry("a", 2.0, "o")]).await;
    list_becomes(&mut client, &json!([titled("a", 2.0, Some("Cats"))])).await;
}

#[tokio::test]
async fn long_metadata_of_a_long_list_arrive_whole() {
    let service = TestService::start().await;
    let entries: Vec<_> = (0..1001).map(|n| entry(&format!("v{n}"), f64::from(n), "o")).collect();
    service.change_boards(&entries).await;
    boards_have(&service, 1000).await;
    let text = "x".repeat(4000);
    for n in 0..1001 {
        describe(&*service.ranking, &format!("v{n}"), 1, &json!({"n": n, "text": text})).await;
    }
    let mut client = service.connect("/ws/videos?fields=metadata").await;
    let list = client.next().await;
    let lines = list.as_array().unwrap();
    assert_eq!(lines.len(), 1000);
    for (at, line) in lines.iter().enumerate() {
        assert_eq!((&line["metadata"]["n"], &line["metadata"]["text"]), (&json!(1000 - at), &json!(text)));
    }
}

#[tokio::test]
async fn other_fields_and_longer_lists_are_refused_by_name() {
    let service = TestService::start().await;
    for (query, field) in [
        ("fields=viewers", "fields"),
        ("fields=title", "fields"),
        ("fields=metadata&limit=1001", "limit"),
        ("fields=metadata&limit=all", "limit"),
        ("fields=metadata&around=a&mode=delta", "around"),
    ] {
        let (status, problem) = Client::refused(service.address, &format!("/ws/videos?{query}")).await;
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{query}: {problem}");
    }
    let (status, problem) = Client::refused(service.address, "/ws/user/o?fields=metadata").await;
    assert_eq!((status, &problem["field"]), (400, &json!("fields")));
}
