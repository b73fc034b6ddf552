//! The number of new videos that one caller may bring, by every request that names a video.

use serde_json::{Value, json};

use crate::support::{System, problem};
use crate::videos::rank;

fn like_json(video: &str) -> String {
    json!({"video_id": video, "user_id": "u", "type": "like"}).to_string()
}

#[tokio::test]
async fn a_caller_brings_so_many_new_videos_by_whichever_way_and_known_ones_without_end() {
    let system = System::start(&["--new-videos-per-caller", "3", "--reader-wait-seconds", "1"]).await;
    rank(&system, &[("on-the-board", 2.0, 1.0)]).await;
    for video in ["a", "b", "a", "c", "b"] {
        assert_eq!(system.post("/interact", like_json(video)).await.status(), 202, "{video}");
    }
    let answer = system.post("/interact", like_json("d")).await;
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1000..=1200).contains(&wait), "a third of an hour, and not {wait} s");
    assert_eq!(problem(answer, 429).await["limit"], "new-videos-per-caller");

    // In a batch each item has its own answer. Naming a refused new video twice does not make it known.
    let batch =
        format!("[{},{},{},{}]", like_json("a"), like_json("d"), like_json("d"), like_json("on-the-board"));
    let items: Value = system.post("/interactions", batch).await.json().await.unwrap();
    let statuses: Vec<u64> =
        items.as_array().unwrap().iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 429, 429, 202]);
    assert_eq!(items[1]["field"], "video_id");

    // If a member is there twice, services read the last one.
    for body in [r#"{"videoid":"d","userid":"u"}"#, r#"{"videoid":"a","videoid":"d","userid":"u"}"#] {
        problem(system.post("/register", body).await, 429).await;
        problem(system.post("/comment", body).await, 429).await;
    }
    // No service runs behind the gateway, so the answer is 503: the request was let through.
    for body in [r#"{"videoid":"a","userid":"u"}"#, r#"{"videoid":"on-the-board"}"#, r"{}"] {
        problem(system.post("/register", body).await, 503).await;
    }
    let stream = system.get("/connect?userid=u&videoid=d").await;
    assert!(stream.text().await.unwrap().starts_with("retry: "), "it may come back");
    assert_eq!(system.log.appended().len(), 7, "nothing of a refused video is in the log");
    assert!(system.shell.metrics.encode_text().contains("liverank_gateway_new_videos_refused_total 8"));
}
