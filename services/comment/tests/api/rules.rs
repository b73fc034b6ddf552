//! Tests of the rules of comments, as a comment service applies them.

use std::sync::atomic::Ordering::Relaxed;

use liverank_adapters::Archive;
use liverank_core::moderation::{CommentRules, ModerationAction, RuleScope};
use liverank_core::viewer_role::ViewerRoles;
use liverank_protocol::access::CalledService as Called;
use liverank_runtime::Identity;
use liverank_runtime::identity::local::KeyRing;
use liverank_runtime::identity::sent;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::{Service, until};

fn rules(json: &Value) -> CommentRules {
    CommentRules::from_json(json.to_string().as_bytes()).unwrap()
}

fn video_scope(video: &str) -> RuleScope {
    RuleScope::Video(video.parse().unwrap())
}

async fn set_rules(service: &Service, scope: RuleScope, json: &Value) {
    service.moderate(None, ModerationAction::SetRules { scope, rules: Some(rules(json)) }).await;
    service.archive_all().await;
}

fn comment_json(user: &str, video: &str, text: &str) -> Value {
    json!({"userid": user, "videoid": video, "comment": text})
}

/// Posts until a rule refuses the comment. Returns the problem of the refusal and its headers.
async fn post_until_refused(service: &Service, body: &Value) -> (Value, HeaderMap) {
    until("a rule refuses it", async || !service.send(body).await.status().is_success()).await;
    let answer = service.send(body).await;
    let headers = answer.headers().clone();
    assert_eq!(headers["content-type"], "application/problem+json");
    (answer.json().await.unwrap(), headers)
}

#[tokio::test]
async fn slow_mode_refuses_the_second_comment_and_says_when_to_try_again() {
    let service = Service::start().await;
    set_rules(&service, video_scope("cat"), &json!({"slow_seconds": 600})).await;
    let (problem, headers) = post_until_refused(&service, &comment_json("ann", "cat", "one")).await;
    assert_eq!((&problem["rule"], &problem["scope"]), (&json!("slow_mode"), &json!("video")), "{problem}");
    assert_eq!(problem["status"], 429);
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((590..=600).contains(&seconds), "{seconds}");
    assert!(problem["until"].as_str().unwrap().ends_with('Z'), "{problem}");
    assert_eq!(
        service.post(&comment_json("ben", "cat", "one")).await.0,
        StatusCode::CREATED,
        "each user by itself"
    );
    assert_eq!(
        service.post(&comment_json("ann", "dog", "one")).await.0,
        StatusCode::CREATED,
        "on that video only"
    );
    // A repeated post with the same key gets the same answer, whatever the rules say.
    let keyed = json!({"userid": "cy", "videoid": "cat", "comment": "c", "idempotency_key": "k"});
    let first = service.post(&keyed).await;
    assert_eq!((first.0, service.post(&keyed).await), (StatusCode::CREATED, first));
    service.moderate(None, ModerationAction::SetRules { scope: video_scope("cat"), rules: None }).await;
    service.archive_all().await;
    until("it is over", async || {
        service.post(&comment_json("ann", "cat", "x")).await.0 == StatusCode::CREATED
    })
    .await;
}

#[tokio::test]
async fn what_does_not_come_into_the_log_costs_nobody_a_turn() {
    let service = Service::start().await;
    set_rules(&service, RuleScope::Everywhere, &json!({"slow_seconds": 600})).await;
    post_until_refused(&service, &comment_json("ann", "cat", "one")).await;
    service.log.is_unavailable.store(true, Relaxed);
    assert_eq!(service.post(&comment_json("ben", "cat", "one")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    service.log.is_unavailable.store(false, Relaxed);
    assert_eq!(service.post(&comment_json("ben", "cat", "one")).await.0, StatusCode::CREATED);
    assert_eq!(service.post(&comment_json("ben", "cat", "two")).await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn words_are_masked_and_links_refused_and_the_log_has_what_was_answered() {
    let service = Service::start().await;
    let words = json!([{"action": "mask", "words": ["darn"]}]);
    set_rules(&service, RuleScope::Everywhere, &json!({"words": words, "max_chars": 20})).await;
    set_rules(&service, video_scope("cat"), &json!({"links": {"action": "reject"}})).await;
    let (problem, headers) = post_until_refused(&service, &comment_json("ann", "cat", "see evil.com")).await;
    assert_eq!((&problem["rule"], &problem["scope"]), (&json!("links"), &json!("video")));
    assert_eq!((&problem["until"], headers.get("retry-after")), (&Value::Null, None));
    let (problem, _) = post_until_refused(&service, &comment_json("ann", "dog", &"x".repeat(21))).await;
    assert_eq!((&problem["rule"], &problem["scope"]), (&json!("length"), &json!("everywhere")));
    let (status, answer) = service.post(&comment_json("ann", "dog", "DÄRN evil.com")).await;
    assert_eq!((status, &answer["comment"]["comment"]), (StatusCode::CREATED, &json!("**** evil.com")));
    service.archive_all().await;
    let page: Value = service.get("/comments/dog").await.json().await.unwrap();
    assert_eq!(page["comments"][0]["comment"], "**** evil.com");
}

#[tokio::test]
async fn an_owner_s_rules_are_in_force_on_its_videos() {
    let service = Service::start().await;
    assert_eq!(service.post(&comment_json("olga", "hers", "first")).await.0, StatusCode::CREATED);
    assert_eq!(service.post(&comment_json("paul", "his", "first")).await.0, StatusCode::CREATED);
    set_rules(&service, RuleScope::Owner("olga".parse().unwrap()), &json!({"any_repeat_seconds": 600})).await;
    let (problem, _) = post_until_refused(&service, &comment_json("ann", "hers", "hello")).await;
    assert_eq!((&problem["rule"], &problem["scope"]), (&json!("repeat"), &json!("owner")));
    assert_eq!(service.post(&comment_json("ben", "hers", "HELLO!")).await.0, StatusCode::TOO_MANY_REQUESTS);
    for _ in 0..2 {
        assert_eq!(service.post(&comment_json("ann", "his", "hello")).await.0, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn the_system_has_rules_by_a_file_and_a_wrong_file_is_no_start() {
    let mut service = Service::start().await;
    let file = service.directory.path().join("rules.json");
    std::fs::write(&file, r#"{"words": [{"action": "reject", "words": ["darn"]}]}"#).unwrap();
    service.rules_file = Some(file.clone());
    service.restart().await;
    let (status, problem) = service.post(&comment_json("ann", "cat", "darn")).await;
    assert_eq!((status, &problem["rule"]), (StatusCode::FORBIDDEN, &json!("words")));
    assert_eq!(service.post(&comment_json("ann", "cat", "fine")).await.0, StatusCode::CREATED);
    std::fs::write(&file, r#"{"slow_seconds": 0}"#).unwrap();
    let error = format!("{:#}", service.refused_start().await);
    assert!(error.contains("rules.json") && error.contains("slow_seconds"), "{error}");
}

#[tokio::test]
async fn members_comment_where_only_members_may_and_moderators_keep_no_rule() {
    let mut service = Service::start().await;
    let keys = KeyRing::from_secret(&[b't'; 32]).unwrap();
    let gateway = keys.token_source(&"gateway".parse().unwrap()).unwrap();
    service.identity = Identity::with_keys(keys).with_gateway_for_viewers(true);
    service.restart().await;
    set_rules(&service, video_scope("cat"), &json!({"members_only": true, "slow_seconds": 600})).await;
    let post = async |user: &str, roles: &str| {
        let mut headers = HeaderMap::new();
        sent::set_user_headers(&mut headers, user, ViewerRoles::of_names(roles));
        let now = liverank_runtime::identity::now_seconds();
        let request = service.client.post(service.url("/comment")).headers(headers);
        let request = request
            .bearer_auth(gateway.sign_token(Called::Comment, now, 60))
            .json(&comment_json(user, "cat", "hi"));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["rule"].clone())
    };
    until("it is in force", async || post("ann", "poster").await == (403, json!("members_only"))).await;
    assert_eq!(post("ben", "member").await, (201, Value::Null));
    assert_eq!(post("ben", "member").await, (429, json!("slow_mode")));
    assert_eq!(post("cy", "service").await, (201, Value::Null), "an app vouches for its users");
    for _ in 0..2 {
        assert_eq!(post("mo", "moderator").await, (201, Value::Null));
    }
}

#[tokio::test]
async fn a_held_comment_is_in_no_history_and_a_repeat_is_answered_as_the_first() {
    let service = Service::start().await;
    set_rules(
        &service,
        video_scope("cat"),
        &json!({"words": [{"action": "hold", "words": ["odd"]}], "own_repeat_seconds": 600}),
    )
    .await;
    let body = json!({"userid": "ann", "videoid": "cat", "comment": "odd", "idempotency_key": "k"});
    until("it is held", async || {
        let other = comment_json("ben", "cat", &format!("odd {}", rand::random::<u64>()));
        service.post(&other).await.0 == StatusCode::ACCEPTED
    })
    .await;
    let (status, answer) = service.post(&body).await;
    assert_eq!(
        (status, &answer["held"], &answer["comment"]["comment"]),
        (StatusCode::ACCEPTED, &json!(true), &json!("odd"))
    );
    service.archive_all().await;
    assert_eq!(service.post(&body).await, (status, answer));
    assert_eq!(service.post(&comment_json("ann", "cat", "fine")).await.0, StatusCode::CREATED);
    service.archive_all().await;
    let page: Value = service.get("/comments/cat").await.json().await.unwrap();
    assert!(page["comments"].as_array().unwrap().iter().any(|comment| comment["comment"] == "fine"));
    assert!(
        !page["comments"]
            .as_array()
            .unwrap()
            .iter()
            .any(|comment| comment["userid"] == "ann" && comment["comment"] == "odd")
    );
    let held = service.archive.moderation_archive().held_comments(None, 10).await.unwrap();
    assert_eq!(held.last().unwrap().user.as_str(), "ann");
}
