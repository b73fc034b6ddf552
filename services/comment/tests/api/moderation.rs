//! Tests of moderators' bans, mutes and decisions, as a comment service applies them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use liverank_core::moderation::{ModerationAction, Restriction, RuleScope};
use liverank_core::{UserId, VideoId};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Service, until};

fn comment_by(user: &str, video: &str) -> Value {
    json!({"userid": user, "videoid": video, "comment": "hi"})
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn restrict_action(id: &str, kind: Restriction, scope: RuleScope, until: Option<i64>) -> ModerationAction {
    ModerationAction::Restrict { userid: user(id), kind, scope, until }
}

async fn status(service: &Service, user: &str, video: &str) -> StatusCode {
    service.post(&comment_by(user, video)).await.0
}

#[tokio::test]
async fn a_ban_is_in_force_within_a_second_and_a_lifted_one_is_not() {
    let service = Service::start().await;
    // Several users, because on a busy machine some bans take long; a service that looks too seldom is late each time.
    let mut took = Vec::new();
    for banned in ["ann", "ada", "amy", "ava"] {
        assert_eq!(status(&service, banned, "cat").await, StatusCode::CREATED);
        service.moderate(None, restrict_action(banned, Restriction::Ban, RuleScope::Everywhere, None)).await;
        service.archive_all().await;
        let begun = Instant::now();
        until("the ban is in force", async || status(&service, banned, "cat").await == StatusCode::FORBIDDEN)
            .await;
        took.push(begun.elapsed());
        if took.last().is_some_and(|last| *last < Duration::from_secs(1)) {
            break;
        }
    }
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
    let answer = service.send(&comment_by("ann", "cat")).await;
    assert!(!answer.headers().contains_key("retry-after"), "it is for good");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["rule"], &problem["until"]), (&json!("ban"), &Value::Null));
    assert_eq!(problem["scope"], "everywhere");
    assert_eq!(status(&service, "ben", "cat").await, StatusCode::CREATED, "nobody else is banned");
    let lift =
        ModerationAction::Lift { userid: user("ann"), kind: Restriction::Ban, scope: RuleScope::Everywhere };
    service.moderate(None, lift).await;
    service.archive_all().await;
    until("it is lifted", async || status(&service, "ann", "cat").await == StatusCode::CREATED).await;
}

#[tokio::test]
async fn a_mute_on_a_video_says_when_to_try_again() {
    let service = Service::start().await;
    let now = liverank_runtime::now_ms();
    let on = RuleScope::Video(VideoId::parse("cat").unwrap());
    service.moderate(None, restrict_action("ann", Restriction::Mute, on, Some(now + 600_000))).await;
    service.archive_all().await;
    until("the mute is in force", async || status(&service, "ann", "cat").await == StatusCode::FORBIDDEN)
        .await;
    let answer = service.send(&comment_by("ann", "cat")).await;
    let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((570..=600).contains(&seconds), "{seconds}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["rule"], &problem["scope"]), (&json!("mute"), &json!("video")));
    assert!(problem["until"].as_str().unwrap().ends_with('Z'), "{problem}");
    assert!(problem["error"].as_str().unwrap().contains("(mute)"), "{problem}");
    assert_eq!(status(&service, "ann", "dog").await, StatusCode::CREATED, "on that video only");
}

#[tokio::test]
async fn a_ban_on_an_owner_s_videos_follows_the_owner() {
    let service = Service::start().await;
    // The first user who comments on a video is its owner, if no other is set.
    assert_eq!(status(&service, "olga", "hers").await, StatusCode::CREATED);
    assert_eq!(status(&service, "paul", "his").await, StatusCode::CREATED);
    let scope = RuleScope::Owner(user("olga"));
    service.moderate(None, restrict_action("ann", Restriction::Ban, scope, None)).await;
    service.archive_all().await;
    until("it is in force on hers", async || status(&service, "ann", "hers").await == StatusCode::FORBIDDEN)
        .await;
    assert_eq!(status(&service, "ann", "his").await, StatusCode::CREATED);
    assert_eq!(status(&service, "ann", "nobody-s").await, StatusCode::CREATED);
    // The archive cannot name the owner: comments on a video that may be hers are refused.
    service.archive.is_unavailable.store(true, Relaxed);
    assert_eq!(status(&service, "ann", "his").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_shadow_banned_author_alone_sees_its_comments() {
    let service = Service::start().await;
    assert_eq!(status(&service, "ann", "cat").await, StatusCode::CREATED);
    let on = RuleScope::Video(VideoId::parse("cat").unwrap());
    service.moderate(None, restrict_action("troll", Restriction::Shadow, on, None)).await;
    service.archive_all().await;
    until("the shadow ban is in force", async || {
        let (status, posted) = service.post(&comment_by("troll", "cat")).await;
        assert_eq!(status, StatusCode::CREATED, "who is shadow-banned does not notice");
        service.archive_all().await;
        let page: Value = service.get("/comments/cat?limit=1").await.json().await.unwrap();
        page["comments"][0]["id"] != posted["comment"]["id"]
    })
    .await;
    let hidden = json!({"userid": "troll", "videoid": "cat", "comment": "hidden", "idempotency_key": "k"});
    let first = service.post(&hidden).await;
    assert_eq!(first.0, StatusCode::CREATED);
    service.archive_all().await;
    assert_eq!(service.post(&hidden).await, first, "as any comment");
    assert_eq!(status(&service, "troll", "dog").await, StatusCode::CREATED);
    assert_eq!(status(&service, "ann", "cat").await, StatusCode::CREATED);
    service.archive_all().await;
    let texts = async |query: &str| -> Vec<String> {
        let page: Value = service.get(&format!("/comments/cat{query}")).await.json().await.unwrap();
        let comments = page["comments"].as_array().unwrap().iter();
        comments.map(|comment| comment["comment"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts("?userid=troll&limit=2").await, ["hi", "hidden"]);
    for other in ["?userid=ann&limit=1000", "?limit=1000"] {
        assert!(!texts(other).await.contains(&"hidden".to_owned()), "{other}");
    }
    let id = first.1["comment"]["id"].as_str().unwrap();
    let around = service.get(&format!("/comments/cat?around={id}")).await;
    assert_eq!(around.status(), StatusCode::NOT_FOUND, "nor is it found by its id");
    // The author may reply to the shadowed comment; for all others it does not exist.
    let reply = |user: &str| json!({"userid": user, "videoid": "cat", "comment": "r", "reply_to": id});
    assert_eq!(service.post(&reply("ann")).await.1["field"], "reply_to");
    assert_eq!(service.post(&reply("troll")).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn the_newest_page_has_the_pinned_comment() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        let body = json!({"userid": "ann", "videoid": "cat", "comment": text});
        ids.push(service.post(&body).await.1["comment"]["id"].as_str().unwrap().to_owned());
    }
    let page = async |query: &str| -> Value {
        service.get(&format!("/comments/cat{query}")).await.json().await.unwrap()
    };
    service.archive_all().await;
    assert_eq!(page("").await.get("pinned"), None);
    service.moderate(Some("cat"), ModerationAction::Pin { comment_id: Some(ids[0].parse().unwrap()) }).await;
    service.archive_all().await;
    assert_eq!(page("?limit=1").await["pinned"]["comment"], "one");
    assert_eq!(page("?limit=1").await["pinned"]["seq"], 1);
    assert_eq!(page("?before=2").await.get("pinned"), None);
    service.moderate(Some("cat"), ModerationAction::Delete { comment_id: ids[0].parse().unwrap() }).await;
    service.archive_all().await;
    assert_eq!(page("").await.get("pinned"), None);
}

#[tokio::test]
async fn a_ban_outlives_the_service() {
    let mut service = Service::start().await;
    service.moderate(None, restrict_action("ann", Restriction::Ban, RuleScope::Everywhere, None)).await;
    service.archive_all().await;
    service.restart().await;
    until("it is in force", async || status(&service, "ann", "cat").await == StatusCode::FORBIDDEN).await;
    // The restrictions read last stay in force while the archive is unavailable.
    service.archive.is_unavailable.store(true, Relaxed);
    assert_eq!(status(&service, "ann", "cat").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn history_is_without_what_was_deleted_and_without_the_deletion() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for number in 1..=5 {
        let body = json!({"userid": "ann", "videoid": "cat", "comment": format!("c{number}"),
            "idempotency_key": format!("k{number}")});
        ids.push(service.post(&body).await.1["comment"]["id"].as_str().unwrap().to_owned());
    }
    for id in &ids[1..3] {
        service.moderate(Some("cat"), ModerationAction::Delete { comment_id: id.parse().unwrap() }).await;
    }
    service.archive_all().await;
    let texts = |page: &Value| -> Vec<String> {
        let comments = page["comments"].as_array().unwrap().iter();
        comments.map(|comment| comment["comment"].as_str().unwrap().to_owned()).collect()
    };
    let all: Value = service.get("/comments/cat").await.json().await.unwrap();
    assert_eq!((texts(&all), &all["next"]), (vec!["c5".into(), "c4".into(), "c1".into()], &Value::Null));
    let first: Value = service.get("/comments/cat?limit=2").await.json().await.unwrap();
    assert_eq!(texts(&first), ["c5", "c4"]);
    let path = format!("/comments/cat?limit=2&before={}", first["next"]);
    let second: Value = service.get(&path).await.json().await.unwrap();
    assert_eq!(texts(&second), ["c1"]);
    // A repeated post is answered as before, also by a service that has just restarted.
    let mut service = service;
    service.restart().await;
    let again = json!({"userid": "ann", "videoid": "cat", "comment": "c2", "idempotency_key": "k2"});
    let (status, problem) = service.post(&again).await;
    assert_eq!((status, &problem["rule"]), (StatusCode::GONE, &json!("deleted")), "{problem}");
}
