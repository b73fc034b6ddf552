//! `/moderation/rules` and `/moderation/pins`: who may set rules of comments and pin a comment, the records in the
//! log, and the lists.

use liverank_core::moderation::comment_rules::MAX_RULED_SCOPES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::moderation::Issuer;
use crate::support::problem;

const RULES_PATH: &str = "/moderation/rules";

fn moderator_roles() -> Value {
    json!(["moderator"])
}

#[tokio::test]
async fn rules_are_set_listed_and_taken_away_by_moderators_only() {
    let issuer = Issuer::start().await;
    let body = json!({"rules": {"slow_seconds": 5}});
    for (method, body) in [(Method::GET, None), (Method::POST, Some(&body)), (Method::DELETE, None)] {
        for roles in [Value::Null, json!(["poster", "member"])] {
            let answer = issuer.ask("ann", &roles, (method.clone(), RULES_PATH), body).await;
            assert_eq!(problem(answer, 403).await["rule"], "role", "{method}");
        }
        let nobody = issuer.system.http.request(method, issuer.system.url(RULES_PATH)).send().await.unwrap();
        problem(nobody, 401).await;
    }
    assert!(issuer.recorded().is_empty());

    let words = json!([{"action": "mask", "words": ["darn"]}]);
    for body in [
        json!({"rules": {"slow_seconds": 5}, "reason": "too fast"}),
        json!({"videoid": "cat", "rules": {"words": words}}),
        json!({"owner_id": "olga", "rules": {"members_only": true}}),
    ] {
        let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, RULES_PATH), Some(&body)).await;
        assert_eq!(answer.status(), 202);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((&answer["rules"], &answer["videoid"]), (&body["rules"], &body["videoid"]));
        assert!(answer["action_id"].is_string(), "{answer}");
    }
    let away = (Method::DELETE, "/moderation/rules?owner_id=olga&reason=sorry");
    let answer = issuer.ask("app", &json!("service"), away, None).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.json::<Value>().await.unwrap()["rules"], Value::Null);
    let recorded = issuer.recorded();
    assert!(recorded.iter().all(|(key, _)| key == "liverank:moderation"), "in one order with bans");
    assert_eq!(
        recorded[3].1["moderation"],
        json!({"action": "set_rules", "scope": {"owner": "olga"}, "role": "service",
        "reason": "sorry"})
    );
    issuer.count(&[], &recorded.into_iter().map(|(_, record)| record).collect::<Vec<_>>()).await;

    let get = async |path: &str| -> Value {
        issuer.ask("mo", &moderator_roles(), (Method::GET, path), None).await.json().await.unwrap()
    };
    let all = get(RULES_PATH).await;
    assert_eq!(all["next"], Value::Null);
    let lines = all["rules"].as_array().unwrap();
    assert_eq!(lines.len(), 2, "{all}");
    assert_eq!((&lines[0]["rules"], &lines[0]["reason"]), (&json!({"slow_seconds": 5}), &json!("too fast")));
    assert_eq!((&lines[1]["videoid"], &lines[1]["rules"]["words"]), (&json!("cat"), &words));
    let first = get("/moderation/rules?limit=1").await;
    let rest = get(&format!("/moderation/rules?after={}", first["next"])).await;
    assert_eq!(rest["rules"].as_array().unwrap(), &lines[1..]);
    assert_eq!(get("/moderation/bans").await["bans"], json!([]), "they are no bans");
    let log = get("/moderation/log?limit=2").await;
    assert_eq!(log["actions"][0]["action"], "set_rules");
    assert_eq!(log["actions"][1]["rules"], json!({"members_only": true}), "{log}");
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let issuer = Issuer::start().await;
    let reject = |words: &str| json!({"words": [{"action": "reject", "words": [words]}]});
    for (body, field) in [
        (json!({}), "rules"),
        (json!({"rules": 5}), "rules"),
        (json!({"rules": {"slow": 5}}), "rules"),
        (json!({"rules": {"slow_seconds": 0}}), "slow_seconds"),
        (json!({"rules": {"members_only": "yes"}}), "members_only"),
        (json!({"rules": reject("*")}), "words"),
        (json!({"rules": {"patterns": [{"action": "reject", "pattern": "("}]}}), "patterns"),
        (json!({"rules": {"links": {"action": "ban"}}}), "links"),
        (json!({"rules": {}, "videoid": "v", "owner_id": "o"}), "owner_id"),
        (json!({"rules": {}, "videoid": ""}), "videoid"),
        // Passed over, each of these would have the rules in force everywhere.
        (json!({"rules": {"hold_all": true}, "video_id": "v"}), "video_id"),
        (json!({"rules": {"hold_all": true}, "owner": "o"}), "owner"),
        (json!({"rules": {}, "reason": "r".repeat(501)}), "reason"),
    ] {
        let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, RULES_PATH), Some(&body)).await;
        assert_eq!(problem(answer, 400).await["field"], field, "{body}");
    }
    for (method, path, field) in [
        (Method::GET, "/moderation/rules?limit=201", "limit"),
        (Method::GET, "/moderation/rules?videoid=v", "videoid"),
        (Method::DELETE, "/moderation/rules?videoid=v&owner_id=o", "owner_id"),
        (Method::DELETE, "/moderation/rules?userid=u", "userid"),
    ] {
        let answer = issuer.ask("mo", &moderator_roles(), (method, path), None).await;
        assert_eq!(problem(answer, 400).await["field"], field, "{path}");
    }
    assert!(issuer.recorded().is_empty());
}

#[tokio::test]
async fn moderators_pin_existing_comments_only() {
    const PINS_PATH: &str = "/moderation/pins";
    let issuer = Issuer::start().await;
    issuer.count(&["c1"], &[]).await;
    let pin = json!({"videoid": "cat", "id": "c1", "reason": "rules"});
    let refused = issuer.ask("ann", &Value::Null, (Method::POST, PINS_PATH), Some(&pin)).await;
    assert_eq!(problem(refused, 403).await["rule"], "role", "not even its author");
    let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, PINS_PATH), Some(&pin)).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.json::<Value>().await.unwrap()["id"], "c1");
    let unpin = (Method::DELETE, "/moderation/pins?videoid=cat");
    assert_eq!(issuer.ask("mo", &moderator_roles(), unpin, None).await.status(), 202);
    let recorded = issuer.recorded();
    assert_eq!(
        recorded[0].1["moderation"],
        json!({"action": "pin", "comment_id": "c1", "role": "moderator", "reason": "rules"})
    );
    assert_eq!(recorded[1].1["moderation"], json!({"action": "pin", "role": "moderator"}));
    assert!(recorded.iter().all(|(key, _)| key == "cat"), "with the key of the video");
    for ((_, record), pinned) in recorded.iter().zip([json!("c1"), Value::Null]) {
        issuer.count(&[], std::slice::from_ref(record)).await;
        let answer = issuer.ask("ann", &Value::Null, (Method::GET, "/videos/cat"), None).await;
        let video: Value = answer.json().await.unwrap();
        assert_eq!(video["pinned"]["id"], pinned, "{video:#}");
    }
    let unknown = json!({"videoid": "cat", "id": "c2"});
    let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, PINS_PATH), Some(&unknown)).await;
    assert_eq!(problem(answer, 404).await["field"], "id");
    for (body, field) in [
        (json!({"id": "c1"}), "videoid"),
        (json!({"videoid": "cat"}), "id"),
        (json!({"videoid": "cat", "id": "c1", "reason": 5}), "reason"),
    ] {
        let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, PINS_PATH), Some(&body)).await;
        assert_eq!(problem(answer, 400).await["field"], field, "{body}");
    }
    let answer = issuer.ask("mo", &moderator_roles(), (Method::DELETE, PINS_PATH), None).await;
    assert_eq!(problem(answer, 400).await["field"], "videoid");
    assert_eq!(issuer.recorded().len(), 2);
}

#[tokio::test]
async fn held_comments_are_listed_and_released_or_rejected() {
    const HELD_PATH: &str = "/moderation/held";
    let issuer = Issuer::start().await;
    let hold = |id: &str, text: &str| {
        json!({"type": "moderation", "version": 1, "video_id": "cat", "user_id": "ann", "timestamp": 5, "event_id": id,
            "moderation": {"action": "hold", "comment_id": id, "text": text, "rule": "words", "role": "author"}})
    };
    issuer.count(&[], &[hold("h1", "one"), hold("h2", "two")]).await;
    let refused = issuer.ask("ann", &Value::Null, (Method::GET, HELD_PATH), None).await;
    assert_eq!(problem(refused, 403).await["rule"], "role");
    let get = async |path: &str| -> Value {
        issuer.ask("mo", &moderator_roles(), (Method::GET, path), None).await.json().await.unwrap()
    };
    let first = get("/moderation/held?limit=1").await;
    let line = &first["comments"][0];
    assert_eq!(
        (&line["id"], &line["videoid"], &line["userid"], &line["comment"], &line["rule"]),
        (&json!("h1"), &json!("cat"), &json!("ann"), &json!("one"), &json!("words"))
    );
    let second = get(&format!("/moderation/held?after={}", first["next"].as_str().unwrap())).await;
    assert_eq!((&second["comments"][0]["id"], &second["next"]), (&json!("h2"), &Value::Null));

    let review = |id: &str, outcome: &str| json!({"videoid": "cat", "id": id, "outcome": outcome});
    for (body, status) in
        [(review("h1", "release"), 202), (review("h2", "reject"), 202), (review("h3", "reject"), 404)]
    {
        let refused = issuer.ask("ann", &Value::Null, (Method::POST, HELD_PATH), Some(&body)).await;
        assert_eq!(refused.status(), 403);
        let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, HELD_PATH), Some(&body)).await;
        assert_eq!(answer.status(), status, "{body}");
    }
    for (body, field) in
        [(review("h1", "praise"), "outcome"), (json!({"videoid": "cat", "outcome": "reject"}), "id")]
    {
        let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, HELD_PATH), Some(&body)).await;
        assert_eq!(problem(answer, 400).await["field"], field, "{body}");
    }
    let log: Vec<Value> = issuer.system.log.appended().into_iter().map(|(_, record)| record).collect();
    let kinds: Vec<&Value> = log.iter().map(|record| &record["type"]).collect();
    assert_eq!(
        kinds,
        ["comment", "moderation", "moderation"],
        "first the comment, then that it waits no more"
    );
    assert_eq!(
        (&log[0]["comment_id"], &log[0]["user_id"], &log[0]["comment"]),
        (&json!("h1"), &json!("ann"), &json!("one"))
    );
    issuer.count(&[], &log).await;
    assert_eq!(get(HELD_PATH).await["comments"], json!([]));
    let actions = get("/moderation/log").await;
    assert_eq!(
        (&actions["actions"][0]["action"], &actions["actions"][0]["outcome"]),
        (&json!("review"), &json!("reject"))
    );
}

/// The number of scopes with rules is bounded, because comment services keep all rules in memory.
#[tokio::test]
async fn there_is_a_bound_of_places_that_have_rules() {
    let issuer = Issuer::start().await;
    let record = |at: u64, rules: Value| {
        json!({"type": "moderation", "version": 1, "video_id": "liverank:moderation", "user_id": "mo", "timestamp": 5,
            "event_id": format!("m{at}"), "moderation": {"action": "set_rules", "role": "moderator",
            "scope": {"video": format!("v{}", at % MAX_RULED_SCOPES)}, "rules": rules}})
    };
    let all: Vec<Value> = (0..MAX_RULED_SCOPES).map(|at| record(at, json!({"slow_seconds": 5}))).collect();
    issuer.count(&[], &all).await;
    let body = json!({"videoid": "one-more", "rules": {"slow_seconds": 5}});
    let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, RULES_PATH), Some(&body)).await;
    assert_eq!(problem(answer, 409).await["rule"], "places");
    issuer.count(&[], &[record(MAX_RULED_SCOPES, Value::Null)]).await;
    let answer = issuer.ask("mo", &moderator_roles(), (Method::POST, RULES_PATH), Some(&body)).await;
    assert_eq!(answer.status(), 202);
}
