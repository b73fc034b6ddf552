//! The comment service over a real socket, with an embedded log and archive.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without ends it, in its helpers too")]

mod hook;
mod moderation;
mod rules;
mod support;

use std::sync::atomic::Ordering::Relaxed;

use liverank_core::{Interaction, Kind};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{Service, until};

fn post(text: &str) -> Value {
    json!({"userid": "ana", "videoid": "cat", "comment": text})
}

fn keyed(text: &str, key: &str) -> Value {
    json!({"userid": "ana", "videoid": "cat", "comment": text, "idempotency_key": key})
}

#[tokio::test]
async fn the_service_shows_its_stores_while_all_are_well() {
    let service = Service::start().await;
    until("both are shown", async || {
        let dependencies = service.shell.health.readiness().1.dependencies;
        ["archive", "log"].iter().all(|name| dependencies.get(name).is_some_and(|state| state == "ok"))
    })
    .await;
}

#[tokio::test]
async fn a_comment_is_answered_in_the_seed_s_shape_once_the_log_has_it() {
    let service = Service::start().await;
    let (status, body) = service.post(&post("Großartig 🎬\n\"!\"")).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(body["success"], true);
    let comment = body["comment"].as_object().unwrap();
    let mut members: Vec<&str> = comment.keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["comment", "id", "timestamp", "userid", "videoid"]);
    assert!(comment["timestamp"].as_str().unwrap().ends_with('Z'));

    let records = service.records(1).await;
    assert_eq!(records[0].key.as_deref(), Some(&b"cat"[..]));
    let event = Interaction::from_log(&records[0].value, 0).unwrap();
    assert_eq!((event.kind, event.user_id.as_str()), (Kind::Comment, "ana"));
    let carried = event.comment.unwrap();
    assert_eq!(
        (carried.comment_id.as_str(), carried.text.as_str()),
        (comment["id"].as_str().unwrap(), "Großartig 🎬\n\"!\"")
    );
}

#[tokio::test]
async fn without_a_key_the_same_words_are_two_comments() {
    let service = Service::start().await;
    let first = service.post(&post("hi")).await.1;
    let second = service.post(&post("hi")).await.1;
    assert_ne!(first["comment"]["id"], second["comment"]["id"]);
    assert_eq!(service.records(2).await.len(), 2);
}

#[tokio::test]
async fn with_a_key_the_first_body_wins_at_once() {
    let service = Service::start().await;
    let first = service.post(&keyed("first", "k1")).await;
    let second = service.post(&keyed("second", "k1")).await;
    assert_eq!(first, second);
    assert_ne!(service.post(&keyed("second", "k2")).await.1["comment"]["id"], first.1["comment"]["id"]);
    assert_eq!(service.records(2).await.len(), 2);
}

#[tokio::test]
async fn with_a_key_the_first_body_wins_also_after_a_restart() {
    let mut service = Service::start().await;
    let first = service.post(&keyed("first", "k1")).await;
    service.archive_all().await;
    service.restart().await;
    assert_eq!(service.post(&keyed("second", "k1")).await, first);
    assert_eq!(service.log_length().await, 1);
}

#[tokio::test]
async fn what_the_log_does_not_have_is_not_acknowledged() {
    let service = Service::start().await;
    service.log.is_unavailable.store(true, Relaxed);
    let answer = service.send(&post("lost?")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    let problem: Value = answer.json().await.unwrap();
    assert!(problem["error"].as_str().unwrap().contains("not acknowledged"));
    service.log.is_unavailable.store(false, Relaxed);
    assert_eq!(service.post(&post("now")).await.0, StatusCode::CREATED);
    assert_eq!(service.log_length().await, 1);
}

#[tokio::test]
async fn an_archive_that_is_away_stops_history_and_not_posts() {
    let service = Service::start().await;
    service.archive.is_unavailable.store(true, Relaxed);
    let answer = service.get("/comments/cat").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    let (status, first) = service.post(&keyed("first", "k1")).await;
    assert_eq!(status, StatusCode::CREATED);
    // The archive is not asked for a moment, and then asked again, also if no request comes.
    service.archive.is_unavailable.store(false, Relaxed);
    until("history is back", async || service.get("/comments/cat").await.status() == StatusCode::OK).await;
    assert_eq!(service.post(&keyed("second", "k1")).await.1, first);
}

#[tokio::test]
async fn history_is_newest_first_and_page_by_page() {
    let service = Service::start().await;
    for number in 1..=5 {
        service.post(&post(&format!("c{number}"))).await;
    }
    service.archive_all().await;
    let texts = |page: &Value| -> Vec<String> {
        let comments = page["comments"].as_array().unwrap().iter();
        comments.map(|comment| comment["comment"].as_str().unwrap().to_owned()).collect()
    };
    let first: Value = service.get("/comments/cat?limit=2").await.json().await.unwrap();
    assert_eq!((texts(&first), &first["next"]), (vec!["c5".into(), "c4".into()], &json!(4)));
    assert_eq!(first["comments"][0]["seq"], 5);
    let second: Value = service.get("/comments/cat?limit=2&before=4").await.json().await.unwrap();
    assert_eq!((texts(&second), &second["next"]), (vec!["c3".into(), "c2".into()], &json!(2)));
    let last: Value = service.get("/comments/cat?limit=2&before=2").await.json().await.unwrap();
    assert_eq!((texts(&last), &last["next"]), (vec!["c1".into()], &Value::Null));
    let all: Value = service.get("/comments/cat?limit=5").await.json().await.unwrap();
    assert_eq!((texts(&all).len(), &all["next"]), (5, &Value::Null));
    let nobody_s: Value = service.get("/comments/nobody%2Fs").await.json().await.unwrap();
    assert_eq!(nobody_s, json!({"comments": [], "next": null}));
}

#[tokio::test]
async fn history_leads_both_ways_and_to_both_sides_of_a_comment() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for number in 1..=9 {
        let posted = service.post(&post(&format!("c{number}"))).await.1;
        ids.push(posted["comment"]["id"].as_str().unwrap().to_owned());
    }
    service.archive_all().await;
    let page = async |query: &str| -> (Vec<u64>, Value, Value) {
        let page: Value = service.get(&format!("/comments/cat?{query}")).await.json().await.unwrap();
        let seqs = page["comments"].as_array().unwrap().iter();
        (seqs.map(|it| it["seq"].as_u64().unwrap()).collect(), page["next"].clone(), page["newer"].clone())
    };
    let all = |seqs: &[u64], next: Value, newer: Value| (seqs.to_vec(), next, newer);
    // Backwards from the newest page, which has no newer one, and forwards again.
    assert_eq!(page("limit=3").await, all(&[9, 8, 7], json!(7), Value::Null));
    assert_eq!(page("limit=3&before=7").await, all(&[6, 5, 4], json!(4), json!(6)));
    assert_eq!(page("limit=3&after=6").await, all(&[9, 8, 7], json!(7), json!(9)));
    assert_eq!(page("limit=3&after=9").await, all(&[], json!(10), Value::Null));
    assert_eq!(page("limit=3&after=0").await, all(&[3, 2, 1], Value::Null, json!(3)));
    assert_eq!(page("limit=4&after=7").await, all(&[9, 8], json!(8), Value::Null));
    assert_eq!(page("limit=3&before=1").await, all(&[], Value::Null, json!(0)));
    let around =
        async |number: usize, limit: u32| page(&format!("limit={limit}&around={}", ids[number - 1])).await;
    assert_eq!(around(5, 3).await, all(&[6, 5, 4], json!(4), json!(6)));
    assert_eq!(around(5, 4).await, all(&[7, 6, 5, 4], json!(4), json!(7)));
    assert_eq!(around(5, 1).await, all(&[5], json!(5), json!(5)));
    assert_eq!(around(9, 4).await, all(&[9, 8, 7, 6], json!(6), Value::Null));
    assert_eq!(around(1, 4).await, all(&[3, 2, 1], Value::Null, json!(3)));
    let unknown = service.get("/comments/cat?around=nobody-s").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(unknown.json::<Value>().await.unwrap()["field"], "around");
    assert_eq!(service.get("/comments/dog?around=").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_page_of_long_comments_is_cut_in_either_direction_and_leads_on() {
    let service = Service::start().await;
    // Together these comments are larger than a page may be (one megabyte).
    for _ in 0..90 {
        service.post(&post(&"🎬".repeat(4096))).await;
    }
    service.archive_all().await;
    let mut seqs: Vec<u64> = Vec::new();
    let mut after = Some(0);
    while let Some(from) = after {
        let page: Value =
            service.get(&format!("/comments/cat?limit=1000&after={from}")).await.json().await.unwrap();
        let comments = page["comments"].as_array().unwrap();
        assert!(comments.len() < 90, "one page has them all: {}", comments.len());
        seqs.extend(comments.iter().rev().map(|it| it["seq"].as_u64().unwrap()));
        after = page["newer"].as_u64();
    }
    assert_eq!(seqs, (1..=90).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reply_is_to_a_comment_under_the_same_video() {
    let mut service = Service::start().await;
    let first = service.post(&post("first")).await.1["comment"]["id"].clone();
    service.archive_all().await;
    let reply = |to: &Value, video: &str| json!({"userid": "bob", "videoid": video, "comment": "yes", "reply_to": to});
    let (status, answer) = service.post(&reply(&first, "cat")).await;
    assert_eq!((status, &answer["comment"]["reply_to"]), (StatusCode::CREATED, &first));
    service.archive_all().await;
    let history: Value = service.get("/comments/cat").await.json().await.unwrap();
    assert_eq!(history["comments"][0]["reply_to"], first);
    assert!(history["comments"][1].get("reply_to").is_none());
    // A reply to the user's own comment is accepted, too, although the archive may not have that comment yet.
    let own = service.post(&keyed("own", "k")).await.1["comment"]["id"].clone();
    assert_eq!(service.post(&reply(&own, "cat")).await.0, StatusCode::CREATED);
    for (to, video) in [(&json!("nobody-s"), "cat"), (&first, "dog"), (&own, "dog"), (&json!(7), "cat")] {
        let (status, problem) = service.post(&reply(to, video)).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!("reply_to")),
            "{to} {video}"
        );
    }
    assert_eq!(service.log_length().await, 4);
    service.restart().await;
    service.archive.is_unavailable.store(true, Relaxed);
    assert_eq!(service.send(&reply(&first, "cat")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(service.post(&post("no reply")).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_video_is_registered_once_and_a_manager_that_is_away_holds_nobody_up() {
    let service = Service::start().await;
    for _ in 0..3 {
        assert_eq!(service.post(&post("hi")).await.0, StatusCode::CREATED);
    }
    let other = json!({"userid": "ana", "videoid": "dog", "comment": "hi"});
    service.post(&other).await;
    until("both are registered", async || service.registered().len() == 2).await;
    assert_eq!(service.registered(), ["cat", "dog"]);
    service.manager_away.store(true, Relaxed);
    let late = json!({"userid": "ana", "videoid": "late", "comment": "hi"});
    assert_eq!(service.post(&late).await.0, StatusCode::CREATED);
    until("the manager was asked in vain", async || service.registered().len() == 3).await;
    service.manager_away.store(false, Relaxed);
    until("the next comment registers it", async || {
        service.post(&late).await;
        service.registered().len() >= 4
    })
    .await;
    assert_eq!(service.registered()[2..4], ["late", "late"]);
}

#[tokio::test]
async fn statistics_are_passed_on_and_its_own_are_reported() {
    let service = Service::start().await;
    service.post(&post("hi")).await;
    let answer = service.get("/statistics?full=true").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"query": "full=true"}));
    until("the comment is reported", async || {
        service.reports().iter().any(|report| {
            report["totalComments"] == 1
                && report["commentsByVideo"] == json!({"cat": 1})
                && report["instanceId"].as_str().unwrap().starts_with("comment-")
        })
    })
    .await;
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let service = Service::start().await;
    let cases = [
        (json!({"videoid": "v", "comment": "c"}), "userid"),
        (json!({"userid": 1, "videoid": "v", "comment": "c"}), "userid"),
        (json!({"userid": "u", "videoid": "v".repeat(257), "comment": "c"}), "videoid"),
        (json!({"userid": "u", "videoid": "a\u{0}b", "comment": "c"}), "videoid"),
        (json!({"userid": "u", "videoid": "v", "comment": null}), "comment"),
        (json!({"userid": "u", "videoid": "v", "comment": "é".repeat(4097)}), "comment"),
        (json!({"userid": "u", "videoid": "v", "comment": "c", "idempotency_key": 5}), "idempotency_key"),
        (json!("text"), "body"),
    ];
    for (body, field) in cases {
        let (status, problem) = service.post(&body).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{body}");
        assert!(problem["error"].is_string());
    }
    for (path, field) in [
        ("/comments/cat?limit=0", "limit"),
        ("/comments/cat?limit=1001", "limit"),
        ("/comments/cat?before=x", "before"),
        ("/comments/cat?before=0", "before"),
        ("/comments/%FF", "videoid"),
        ("/comments/a%0Ab", "videoid"),
    ] {
        let answer = service.get(path).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["field"], field, "{path}");
    }
    assert_eq!(service.log_length().await, 0);
}

#[tokio::test]
async fn the_longest_comment_is_taken() {
    let service = Service::start().await;
    let body = json!({"userid": "u".repeat(256), "videoid": "v".repeat(256), "comment": "🎬".repeat(4096),
                      "idempotency_key": "k".repeat(256)});
    let (status, answer) = service.post(&body).await;
    assert_eq!((status, &answer["comment"]["comment"]), (StatusCode::CREATED, &body["comment"]));
}

#[tokio::test]
async fn what_is_no_comment_is_refused_as_it_is_everywhere() {
    let service = Service::start().await;
    let send = |content_type: &'static str, body: Vec<u8>| {
        service.client.post(service.url("/comment")).header("content-type", content_type).body(body).send()
    };
    let status = async |content_type, body: &[u8]| send(content_type, body.to_vec()).await.unwrap().status();
    assert_eq!(status("application/json", b"{").await, StatusCode::BAD_REQUEST);
    assert_eq!(status("application/json", b"").await, StatusCode::BAD_REQUEST);
    assert_eq!(status("application/json", b"\xff\xfe").await, StatusCode::BAD_REQUEST);
    assert_eq!(status("application/json", &vec![b' '; 64 * 1024 + 1]).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status("text/html", b"{}").await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(service.get("/comment").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(service.get("/nothing").await.status(), StatusCode::NOT_FOUND);
    let health: Value = service.get("/health").await.json().await.unwrap();
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("comment")));
}
