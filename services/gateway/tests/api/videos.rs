//! Ranked lists and single videos.

use axum::Json;
use axum::extract::Path;
use axum::routing::{get, post};
use liverank_adapters::RankingStore;
use liverank_adapters::ranking_store::{BatchProjection, BoardEntry};
use liverank_core::boards::DeclaredBoards;
use liverank_core::counting::{Batch, CountingRules, LogRecord, OffsetRange};
use liverank_core::{Interaction, UserId, VideoId};
use serde_json::{Value, json};

use crate::support::{System, problem, serve};

pub async fn rank(system: &System, videos: &[(&str, f64, f64)]) {
    rank_on(&*system.backends.ranking, videos).await;
}

async fn rank_on(ranking: &dyn RankingStore, videos: &[(&str, f64, f64)]) {
    let entries = videos.iter().map(|(id, score, trending)| BoardEntry {
        video_id: VideoId::parse(id).unwrap(),
        owner: UserId::parse("ana").unwrap(),
        score: *score,
        trending: Some(*trending),
        revision: 1,
        removed: false,
    });
    // The boards are empty, so they are filled by a repair of their first generation.
    let entries: Vec<BoardEntry> = entries.collect();
    ranking.write_snapshot(1, &entries).await.unwrap();
    ranking.commit_snapshot(1, &[(0, 1)]).await.unwrap();
    let nothing =
        BatchProjection { generation: 1, offset_ranges: vec![], entries: vec![], traces: Vec::new() };
    ranking.project_batch(&nothing).await.unwrap();
}

fn ids_of(page: &Value) -> Vec<&str> {
    page["videos"].as_array().unwrap().iter().map(|line| line["video_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_comes_in_pages_best_first() {
    let system = System::start(&[]).await;
    rank(&system, &[("a", 1.0, 9.0), ("b", 3.0, 7.0), ("ü/?&", 1.0, 8.0), ("d", 2.5, -1.5)]).await;
    let first = system.json("/videos?limit=2").await;
    assert_eq!(first["videos"][0], json!({ "video_id": "b", "score": 3.0, "user_id": "ana" }));
    assert_eq!(ids_of(&first), ["b", "d"]);
    let cursor = first["next"].as_str().unwrap();
    assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{cursor} fits into a URL as it is");
    let second = system.json(&format!("/videos?limit=2&cursor={cursor}")).await;
    assert_eq!(ids_of(&second), ["ü/?&", "a"]);
    let cursor = second["next"].as_str().unwrap();
    let third = system.json(&format!("/videos?limit=2&cursor={cursor}")).await;
    assert_eq!((ids_of(&third), &third["next"]), (vec![], &Value::Null));
    assert_eq!(system.json("/videos").await["next"], Value::Null);
}

#[tokio::test]
async fn a_list_says_where_it_begins_and_how_many_are_ranked() {
    let system = System::start(&[]).await;
    let empty = system.json("/videos").await;
    assert_eq!(empty, json!({ "videos": [], "next": null, "first_rank": 1, "total": 0 }));
    let videos: Vec<(String, f64)> = (0..20).map(|at| (format!("v{at:02}"), f64::from(at / 2))).collect();
    let videos: Vec<_> = videos.iter().map(|(id, score)| (id.as_str(), *score, -*score)).collect();
    rank(&system, &videos).await;
    let whole = system.json("/videos").await;
    let whole = ids_of(&whole);
    for (at, id) in whole.iter().enumerate() {
        let page = system.json(&format!("/videos?around={id}&limit=5")).await;
        let first = at.saturating_sub(2).min(15);
        assert_eq!(ids_of(&page), whole[first..first + 5], "around {id}");
        assert_eq!((&page["first_rank"], &page["total"]), (&json!(first + 1), &json!(20)));
        let next = system.json(&format!("/videos?limit=3&cursor={}", page["next"].as_str().unwrap())).await;
        assert_eq!(ids_of(&next), whole[first + 5..(first + 8).min(20)], "after the page around {id}");
        assert_eq!(next["first_rank"], json!(first + 6));
    }
    let least = system.json("/videos?board=trending&around=v00&limit=3").await;
    assert_eq!((ids_of(&least), &least["first_rank"]), (vec!["v01", "v00", "v03"], &json!(1)));
    let absent = problem(system.get("/videos?around=other").await, 404).await;
    assert_eq!(absent["field"], "around");
    let both = problem(system.get("/videos?around=v00&cursor=00000000000000006161").await, 400).await;
    assert_eq!(both["field"], "around");
    problem(system.get("/videos?around=").await, 400).await;
}

#[tokio::test]
async fn a_video_has_its_rank_on_each_board() {
    let system = System::start(&[]).await;
    let event = |id: &str| json!({ "video_id": id, "user_id": "ana", "type": "view" });
    count_events(&system, &[event("a"), event("c"), event("late")]).await;
    rank(&system, &[("a", 1.0, 9.0), ("b", 1.0, 8.0), ("c", 0.0, 8.0)]).await;
    let ranks = async |id: &str| system.json(&format!("/videos/{id}")).await["ranks"].clone();
    let places = |global, trending| {
        let place = |rank: Option<u64>| json!({ "rank": rank, "total": 3 });
        json!({ "global": place(global), "trending": place(trending) })
    };
    assert_eq!(ranks("a").await, places(Some(2), Some(1)), "ties stand in descending order of ids");
    assert_eq!(ranks("c").await, places(Some(3), Some(2)));
    assert_eq!(ranks("late").await, places(None, None), "counted, and not on the boards yet");
}

#[tokio::test]
async fn the_trending_board_has_its_own_order() {
    let system = System::start(&[]).await;
    rank(&system, &[("a", 1.0, 9.0), ("b", 3.0, 7.25)]).await;
    let page = system.json("/videos?board=trending").await;
    assert_eq!(ids_of(&page), ["a", "b"]);
    assert_eq!(page["videos"][1]["score"], 7.25);
}

#[tokio::test]
async fn the_trending_board_shows_points_in_pages() {
    let system = System::start(&[]).await;
    let (hour, now) = (3_600_000, liverank_runtime::now_ms());
    let log2 = |points: f64| points.log2() + now as f64 / f64::from(hour);
    rank(&system, &[("a", 1.0, log2(32.0)), ("b", 3.0, log2(8.0)), ("c", 3.0, log2(1.0))]).await;
    system.backends.ranking.note_half_life(1, hour as u64).await.unwrap();
    let first = system.json("/videos?board=trending&limit=2").await;
    let second =
        system.json(&format!("/videos?board=trending&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!((ids_of(&first), ids_of(&second)), (vec!["a", "b"], vec!["c"]));
    for (line, points) in
        [(&first["videos"][0], 32.0), (&first["videos"][1], 8.0), (&second["videos"][0], 1.0)]
    {
        let shown = line["score"].as_f64().unwrap();
        assert!((shown / points - 1.0).abs() < 0.012, "{line}");
    }
}

/// Commits events to the archive, as the consumer does.
async fn count_events(system: &System, events: &[Value]) {
    system.backends.archive.open(&CountingRules::default()).await.unwrap();
    let record = |(offset, event): (usize, &Value)| LogRecord {
        partition: 0,
        offset: offset as u64,
        broker_time: 1_760_000_000_000,
        event: Interaction::from_log(event.to_string().as_bytes(), 1_760_000_000_000).unwrap(),
    };
    let batch = Batch {
        offset_ranges: vec![OffsetRange {
            partition: 0,
            first: 0,
            next: events.len() as u64,
            last_record: None,
        }],
        records: events.iter().enumerate().map(record).collect(),
    };
    system.backends.archive.commit_batch(&batch).await.unwrap();
}

#[tokio::test]
async fn a_video_has_its_counts_and_its_viewers() {
    let manager = axum::Router::new().route(
        "/viewers/{id}",
        get(
            |Path(id): Path<String>| async move { Json(json!({ "videoid": id, "viewers": 12, "peak": 34 })) },
        ),
    );
    let system = System::start(&["--manager-url", &serve(manager).await]).await;
    let event = |kind: &str, seconds: f64| json!({ "video_id": "a b/c", "user_id": "ana", "type": kind, "watch_time": seconds, "owner_id": "ben" });
    let events = [
        event("view", 0.0),
        event("like", 0.0),
        event("comment", 0.0),
        event("share", 0.0),
        event("watch_time", 1.25),
        event("watch_time", 10.0),
    ];
    count_events(&system, &events).await;
    assert_eq!(
        system.json("/videos/a%20b%2Fc").await,
        json!({ "video_id": "a b/c", "user_id": "ben", "score": 11.0, "views": 1, "likes": 1, "comments": 1, "shares": 1,
            "watch_time_total": 11.25, "watch_time_score": 3.0, "watch_short": 1, "watch_long": 1, "viewers": 12, "peak_viewers": 34,
            "ranks": { "global": { "rank": null, "total": 0 }, "trending": { "rank": null, "total": 0 } },
            "metadata": null, "removed": false })
    );
}

#[tokio::test]
async fn a_list_has_viewer_counts_when_asked() {
    let manager = axum::Router::new().route(
        "/viewers",
        post(|Json(asked): Json<Value>| async move {
            let viewers = asked["videos"].as_array().unwrap().iter().map(|id| if id == "b" { 7 } else { 0 });
            Json(json!({ "viewers": viewers.collect::<Vec<_>>() }))
        }),
    );
    let system = System::start(&["--manager-url", &serve(manager).await]).await;
    rank(&system, &[("a", 1.0, 9.0), ("b", 3.0, 7.0)]).await;
    let page = system.json("/videos?fields=viewers").await;
    let line = |id: &str, score: f64, viewers: u32| json!({ "video_id": id, "score": score, "user_id": "ana", "viewers": viewers });
    assert_eq!(page["videos"], json!([line("b", 3.0, 7), line("a", 1.0, 0)]));
    assert!(system.json("/videos").await["videos"][0].get("viewers").is_none());
    assert_eq!(problem(system.get("/videos?fields=views").await, 400).await["field"], "fields");
    let alone = System::start(&[]).await;
    rank(&alone, &[("a", 1.0, 9.0)]).await;
    assert_eq!(alone.json("/videos?fields=viewers").await["videos"][0]["viewers"], Value::Null);
}

#[tokio::test]
async fn a_list_has_peaks_and_watch_times_when_asked() {
    let manager = axum::Router::new().route(
        "/viewers",
        post(|Json(asked): Json<Value>| async move {
            let peaks = asked["peaks"].as_bool().unwrap_or_default().then_some(json!([70, 0]));
            Json(json!({ "viewers": [7, 0], "peaks": peaks }))
        }),
    );
    let system = System::start(&["--manager-url", &serve(manager).await]).await;
    rank(&system, &[("a", 1.0, 9.0), ("b", 3.0, 7.0)]).await;
    let watch = |seconds: f64| json!({ "video_id": "a", "user_id": "ana", "type": "watch_time", "watch_time": seconds });
    count_events(&system, &[watch(1.25), watch(10.0)]).await;
    let page = system.json("/videos?fields=peak_viewers,watch_time").await;
    let line = |at: usize| (&page["videos"][at]["peak_viewers"], &page["videos"][at]["watch_time_total"]);
    assert_eq!(line(0), (&json!(70), &Value::Null), "b is on the board, and the archive does not know it");
    assert_eq!(line(1), (&json!(0), &json!(11.25)));
    assert!(page["videos"][0].get("viewers").is_none());
    let viewers = system.json("/videos?fields=viewers").await;
    assert!(viewers["videos"][0].get("peak_viewers").is_none(), "{viewers}");
    let alone = System::start(&[]).await;
    rank(&alone, &[("a", 1.0, 9.0)]).await;
    let unknown = alone.json("/videos?fields=peak_viewers,watch_time").await;
    assert_eq!(unknown["videos"][0]["peak_viewers"], Value::Null);
}

#[tokio::test]
async fn a_list_has_metadata_when_asked() {
    let system = System::start(&[]).await;
    rank(&system, &[("a", 1.0, 9.0), ("b", 3.0, 7.0)]).await;
    let unknown = system.json("/videos?fields=metadata").await;
    assert_eq!(unknown["videos"][0]["metadata"], Value::Null);
    let cats = json!({ "title": "Cats", "category": "pets" });
    let put = json!({ "type": "moderation", "version": 1, "video_id": "a", "user_id": "app", "timestamp": 5, "event_id": "m",
        "moderation": { "action": "put_video", "metadata": cats, "role": "service" } });
    count_events(&system, &[put]).await;
    let page = system.json("/videos?fields=metadata,viewers").await;
    assert_eq!((&page["videos"][1]["metadata"], &page["videos"][0]["metadata"]), (&cats, &Value::Null));
    assert_eq!(page["videos"][1].get("viewers"), Some(&Value::Null));
    assert!(system.json("/videos").await["videos"][0].get("metadata").is_none());
}

#[tokio::test]
async fn without_a_manager_the_viewers_are_unknown_and_the_rest_is_not() {
    let system = System::start(&[]).await;
    count_events(&system, &[json!({ "video_id": "cat", "user_id": "ana", "type": "view" })]).await;
    let video = system.json("/videos/cat").await;
    assert_eq!((&video["views"], &video["viewers"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn a_video_that_nothing_happened_to_is_not_found() {
    let system = System::start(&[]).await;
    problem(system.get("/videos/cat").await, 404).await;
    count_events(&system, &[json!({ "video_id": "cat", "user_id": "ana", "type": "view" })]).await;
    problem(system.get("/videos/dog").await, 404).await;
}

#[tokio::test]
async fn boards_are_named_exactly() {
    let system = System::start(&[]).await;
    for name in ["Global", "", "best"] {
        let told = problem(system.get(&format!("/videos?board={name}")).await, 400).await;
        assert_eq!(
            (&told["field"], told["detail"].as_str().unwrap()),
            (&json!("board"), "board: must be global or trending")
        );
    }
}

#[tokio::test]
async fn the_boards_are_listed_with_what_is_on_them() {
    let declared = r#"[{"name": "liked", "weights": {"like": 1}, "minimum": 2.5}, {"name": "hot", "order": "trending", "category": "cats"},
        {"name": "weekly", "window": "week", "timeZone": "Europe/Berlin", "keep": 2}]"#;
    let system = System::start(&["--boards", declared]).await;
    let boards = DeclaredBoards::from_json(&serde_json::from_str(declared).unwrap()).unwrap();
    let hot = system.backends.ranking.declared_board(&boards.iter().nth(1).unwrap().store_key());
    hot.commit_snapshot(1, &[]).await.unwrap();
    hot.note_half_life(1, 90_000).await.unwrap();
    let listed = system.json("/boards").await;
    let board = |name: &str, order: &str| {
        json!({ "name": name, "order": order, "declared": true, "half_life_seconds": null, "weights": null,
            "category": null, "minimum": 0.0, "windows": null })
    };
    let mut expected = ["global", "trending", "liked", "hot"]
        .map(|name| board(name, if ["trending", "hot"].contains(&name) { "trending" } else { "points" }));
    (expected[0]["declared"], expected[1]["declared"]) = (json!(false), json!(false));
    expected[2]["minimum"] = json!(2.5);
    expected[2]["weights"] = json!({ "view": 0.0, "like": 1.0, "comment": 0.0, "share": 0.0, "watch_short": 0.0, "watch_long": 0.0 });
    (expected[3]["category"], expected[3]["half_life_seconds"]) = (json!("cats"), json!(90.0));
    assert_eq!(listed["boards"].as_array().unwrap()[..4], expected);
    let windows = &listed["boards"][4]["windows"];
    assert_eq!((&windows["unit"], &windows["time_zone"]), (&json!("week"), &json!("Europe/Berlin")));
    assert_eq!(windows["running"]["state"], "running");
    let ended = windows["ended"].as_array().unwrap();
    assert_eq!((ended.len(), &ended[0]["end"]), (2, &windows["running"]["start"]));
    assert_eq!(ended[1]["end"], ended[0]["start"], "the last one first, {windows}");
    problem(system.get("/boards?board=liked").await, 400).await;
}

#[tokio::test]
async fn a_declared_board_is_read_by_its_name() {
    let declared = r#"[{"name": "liked", "weights": {"like": 1}}, {"name": "hot", "order": "trending", "category": "cats"}]"#;
    let system = System::start(&["--boards", declared]).await;
    let boards = DeclaredBoards::from_json(&serde_json::from_str(declared).unwrap()).unwrap();
    let stores: Vec<_> =
        boards.iter().map(|board| system.backends.ranking.declared_board(&board.store_key())).collect();
    let event = |id: &str| json!({ "video_id": id, "user_id": "ana", "type": "view" });
    count_events(&system, &[event("a"), event("b"), event("c")]).await;
    rank(&system, &[("a", 1.0, 9.0), ("b", 2.0, 8.0), ("c", 3.0, 7.0)]).await;
    rank_on(&*stores[0], &[("a", 5.0, 9.0), ("b", 4.0, 8.0)]).await;
    rank_on(&*stores[1], &[("a", 1.0, 8.0), ("c", 3.0, 7.0)]).await;
    let liked = system.json("/videos?board=liked&limit=1").await;
    assert_eq!((ids_of(&liked), &liked["total"]), (vec!["a"], &json!(2)));
    let next = system.json(&format!("/videos?board=liked&cursor={}", liked["next"].as_str().unwrap())).await;
    assert_eq!(
        (ids_of(&next), &next["first_rank"], &next["videos"][0]["score"]),
        (vec!["b"], &json!(2), &json!(4.0))
    );
    assert_eq!(ids_of(&system.json("/videos?board=hot").await), ["a", "c"]);
    let around = system.json("/videos?board=hot&around=c&limit=1").await;
    assert_eq!((ids_of(&around), &around["first_rank"]), (vec!["c"], &json!(2)));
    assert_eq!(ids_of(&system.json("/videos").await), ["c", "b", "a"]);
    problem(system.get("/videos?board=liked&around=c").await, 404).await;
    let told = problem(system.get("/videos?board=best").await, 400).await;
    assert_eq!(told["detail"], "board: must be global, trending, liked or hot");
    let ranks = system.json("/videos/c").await["ranks"].clone();
    let place = |rank: Option<u64>, total: u64| json!({ "rank": rank, "total": total });
    let expected = json!({ "global": place(Some(1), 3), "trending": place(Some(3), 3), "liked": place(None, 2), "hot": place(Some(2), 2) });
    assert_eq!(ranks, expected);
}
