//! A test of boards with half-lives of their own, on real stores: likes that are given and taken back count once,
//! although consumers are killed meanwhile.

use std::time::Duration;

use liverank_e2e::cluster::{Cluster, Stores};
use liverank_e2e::patient::answer_of;
use liverank_e2e::wait;
use serde_json::{Value, json};

use super::{COMMAND_TIMEOUT, run_verify};

/// The half-life of the first board is so long that nothing decays during the test, so its points equal the number of
/// likes.
const BOARDS: &str = r#"[{"name": "liked", "order": "trending", "halfLifeMinutes": 525600, "weights": {"like": 1}},
    {"name": "soon", "order": "trending", "halfLifeMinutes": 1}]"#;
const VIDEOS: usize = 5;
const USERS: usize = 24;
/// The greatest ratio of shown points to likes: points are shown for a time up to 1/64 of a half-life in the past.
const SHOWN_WITHIN: f64 = 1.02;

async fn post(cluster: &Cluster, at: usize, video: usize, user: usize, kind: &str) {
    let event = json!({
        "video_id": format!("v{video}"), "user_id": format!("u{user}"), "type": kind, "event_id": format!("e{at}"),
    });
    let url = format!("{}/interact", cluster.gateways[at % cluster.gateways.len()]);
    let posted = answer_of(reqwest::Client::new().post(url).body(event.to_string())).await;
    assert_eq!(posted.status(), 202, "{event}");
}

async fn list(cluster: &Cluster, board: &str) -> Option<Value> {
    let url = format!("{}/videos?board={board}", cluster.gateways[0]);
    reqwest::get(url).await.ok()?.json().await.ok()
}

/// Whether the list has one line with the expected points for each liked video, and no other lines.
fn shows(list: &Value, expected: &[usize]) -> bool {
    let lines = list["videos"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |video: usize| lines.iter().find(|line| line["video_id"] == json!(format!("v{video}")));
    let right = |(video, likes): (usize, &usize)| {
        let points = line(video).and_then(|line| line["score"].as_f64()).unwrap_or(0.0);
        points >= *likes as f64 * 0.999 && points <= *likes as f64 * SHOWN_WITHIN
    };
    lines.len() == expected.iter().filter(|likes| **likes > 0).count()
        && expected.iter().enumerate().all(right)
}

#[tokio::test]
async fn what_decays_by_half_lives_of_boards_own_counts_once_through_kills() {
    let consumers = ["--unique", "like"];
    let mut cluster = Cluster::start_with_boards_and(&Stores::from_environment(), BOARDS, &consumers).await;
    let mut liked = [[false; USERS]; VIDEOS];
    let mut sent = 0;
    for round in 0..6 {
        for at in 0..60 {
            // Users like some videos, take some likes back, and repeat both.
            let (video, user) = ((at * 7 + round) % VIDEOS, (at * 5 + round * 3) % USERS);
            let takes_back = (at + round) % 3 == 0;
            liked[video][user] = !takes_back;
            post(&cluster, sent, video, user, if takes_back { "unlike" } else { "like" }).await;
            sent += 1;
        }
        let consumer = format!("consumer-{}", 1 + round % 2);
        cluster.process(&consumer).kill();
        cluster.process(&consumer).restart();
    }
    // A video whose likes are all taken back leaves the board.
    liked[0] = [false; USERS];
    for user in 0..USERS {
        post(&cluster, sent, 0, user, "unlike").await;
        sent += 1;
    }
    let counts = liked.map(|of| of.iter().filter(|does| **does).count());
    let found = wait::until("the points of what is liked", Duration::from_mins(1), || async {
        let found = list(&cluster, "liked").await?;
        // What is said of the half-life is missing where the boards do not answer in time.
        (shows(&found, &counts) && found["decay"].is_object()).then_some(found)
    });
    let found = tokio::time::timeout(COMMAND_TIMEOUT, found).await.expect("it ends");
    let decay = json!({"half_life_minutes": 525_600, "whole": true});
    assert_eq!((&found["decay"], &found["window"]), (&decay, &Value::Null), "{found:#}");
    let soon = wait::until("what is said of the half-life", Duration::from_mins(1), || async {
        list(&cluster, "soon").await.filter(|found| found["decay"].is_object())
    })
    .await;
    assert_eq!(soon["decay"]["half_life_minutes"], 1, "{soon:#}");
    let report = run_verify(&cluster, &["--boards", BOARDS]).await;
    assert_eq!((&report["good"], &report["log"]["trending"]), (&json!(true), &json!(true)), "{report:#}");
    // `verify` also compares videos that are not on the board.
    assert_eq!(report["declared"]["liked"]["videos"].as_u64(), Some(VIDEOS as u64), "{report:#}");
}
