//! Reports of comments: what viewers may report, what moderators see and decide, and the records in the log.

use liverank_core::moderation::reports::{MAX_OPEN_REPORTED_COMMENTS_OF_VIDEO, MAX_REPORTS};
use reqwest::Method;
use serde_json::{Value, json};

use crate::moderation::Issuer;
use crate::support::{System, problem};

const REPORTS_PATH: &str = "/moderation/reports";

fn moderator_roles() -> Value {
    json!(["moderator"])
}

async fn post_report(issuer: &Issuer, user: &str, id: &str, body: &Value) -> reqwest::Response {
    let path = format!("/comments/cat/{id}/reports");
    issuer.ask(user, &json!(["viewer"]), (Method::POST, &path), Some(body)).await
}

async fn get_as_moderator(issuer: &Issuer, path: &str) -> Value {
    let answer = issuer.ask("mo", &moderator_roles(), (Method::GET, path), None).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

/// Appends the log's moderation records from the number `from` on to the archive. Returns the number of all such
/// records.
async fn count_since(issuer: &Issuer, from: usize) -> usize {
    let recorded = issuer.recorded();
    let records: Vec<Value> = recorded[from..].iter().map(|(_, record)| record.clone()).collect();
    issuer.count(&[], &records).await;
    recorded.len()
}

/// Returns the record of a report, as the log has it.
fn report_record(at: usize, video: &str, id: &str, user: &str) -> Value {
    json!({"type": "moderation", "version": 2, "video_id": video, "user_id": user, "event_id": format!("r{at}"),
        "timestamp": 5, "moderation": {"action": "report", "comment_id": id, "why": "spam", "role": "viewer"}})
}

fn ids_of(page: &Value) -> Vec<&str> {
    page["comments"].as_array().unwrap().iter().map(|comment| comment["id"].as_str().unwrap()).collect()
}

/// Posts four comments and counts reports of them: three of the first, two of the second, one of each other. Returns
/// the number of records in the log.
async fn write_and_count_reports(issuer: &Issuer) -> usize {
    issuer.count(&["c1", "c2", "c3", "c4"], &[]).await;
    let reports = [
        ("ben", "c1"),
        ("cy", "c2"),
        ("ben", "c2"),
        ("dan", "c1"),
        ("cy", "c3"),
        ("cy", "c4"),
        ("eve", "c1"),
    ];
    for (user, id) in reports {
        let said = json!({"userid": user, "reason": "hate", "text": format!("{user} says")});
        let answer = post_report(issuer, user, id, &said).await;
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        assert_eq!(answer.json::<Value>().await.unwrap()["reason"], "hate");
    }
    count_since(issuer, 0).await
}

#[tokio::test]
async fn a_report_counts_once_and_queues_are_in_order() {
    let issuer = Issuer::start().await;
    let counted = write_and_count_reports(&issuer).await;
    let (key, written) = issuer.recorded().remove(0);
    let expected = json!({"action": "report", "comment_id": "c1", "why": "hate", "role": "viewer", "reason": "ben says"});
    assert_eq!((key.as_str(), &written["moderation"]), ("cat", &expected), "behind its comment");
    let again =
        post_report(&issuer, "ben", "c1", &json!({"userid": "ben", "reason": "spam", "text": null})).await;
    assert_eq!((again.status().as_u16(), issuer.recorded().len()), (202, counted), "it counts once");
    let newest = get_as_moderator(&issuer, REPORTS_PATH).await;
    assert_eq!((ids_of(&newest), &newest["next"]), (vec!["c1", "c4", "c3", "c2"], &Value::Null));
    let line = &newest["comments"][0];
    assert_eq!(
        (&line["userid"], &line["comment"], &line["count"]),
        (&json!("ann"), &json!("words"), &json!(3))
    );
    let first = &line["reports"][0];
    assert_eq!((&first["userid"], &first["text"]), (&json!("ben"), &json!("ben says")));
    assert_eq!((&first["reason"], &line["decision"]), (&json!("hate"), &Value::Null));
    let most = get_as_moderator(&issuer, "/moderation/reports?order=most&limit=2").await;
    assert_eq!(ids_of(&most), ["c1", "c2"]);
    let next = most["next"].as_str().unwrap();
    assert_eq!(
        ids_of(&get_as_moderator(&issuer, &format!("{REPORTS_PATH}?order=most&after={next}")).await),
        ["c4", "c3"]
    );
    let log = get_as_moderator(&issuer, "/moderation/log").await;
    let named: Vec<_> = log["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["action"].as_str().unwrap(), line["by"].as_str().unwrap(), line.get("reason")))
        .collect();
    assert_eq!(named, [("report", "liverank:nobody", None); 7], "the audit log names no viewer");
}

#[tokio::test]
async fn what_a_moderator_decides_ends_the_reports() {
    let issuer = Issuer::start().await;
    let counted = write_and_count_reports(&issuer).await;
    let decide = async |id: &str, mut body: Value| {
        (body["videoid"], body["id"]) = (json!("cat"), json!(id));
        issuer.ask("mo", &moderator_roles(), (Method::POST, REPORTS_PATH), Some(&body)).await
    };
    for (id, body) in [
        ("c1", json!({"outcome": "dismiss", "reason": "harmless"})),
        ("c2", json!({"outcome": "delete"})),
        ("c3", json!({"outcome": "ban", "kind": "mute", "seconds": 60})),
        ("c4", json!({"outcome": "ban", "scope": "everywhere"})),
    ] {
        let answer = decide(id, body).await;
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
    }
    let written: Vec<_> = issuer.recorded()[counted..]
        .iter()
        .map(|(key, record)| (key.clone(), record["moderation"].clone()))
        .collect();
    let close = |id: &str, outcome: &str| json!({"action": "close_reports", "comment_id": id, "outcome": outcome, "role": "moderator"});
    let mut dismissal = close("c1", "dismissed");
    dismissal["reason"] = json!("harmless");
    assert_eq!(written.len(), 6, "{written:?}");
    assert_eq!(written[0], ("cat".to_owned(), dismissal));
    assert_eq!(written[1].1, json!({"action": "delete", "comment_id": "c2", "role": "moderator"}));
    assert_eq!((&written[2].1["kind"], &written[2].1["scope"]), (&json!("mute"), &json!({"video": "cat"})));
    assert_eq!((&written[2].1["userid"], written[2].1["until"].is_i64()), (&json!("ann"), true));
    assert_eq!(written[3], ("cat".to_owned(), close("c3", "banned")), "behind the ban");
    assert_eq!((&written[4].1["kind"], &written[4].1["scope"]), (&json!("ban"), &json!("everywhere")));
    count_since(&issuer, counted).await;
    assert_eq!(get_as_moderator(&issuer, REPORTS_PATH).await["comments"], json!([]));
    let closed = get_as_moderator(&issuer, "/moderation/reports?state=closed").await;
    assert_eq!(ids_of(&closed), ["c4", "c3", "c2", "c1"]);
    let (deleted, dismissed) = (&closed["comments"][2], &closed["comments"][3]["decision"]);
    assert_eq!((&dismissed["by"], &dismissed["reason"]), (&json!("mo"), &json!("harmless")));
    assert_eq!((&deleted["comment"], &deleted["decision"]["outcome"]), (&Value::Null, &json!("deleted")));
    let late = post_report(&issuer, "gil", "c1", &json!({"userid": "gil", "reason": "spam"})).await;
    assert_eq!(problem(late, 409).await["rule"], "reports_decided");
    let twice = decide("c1", json!({"outcome": "delete"})).await;
    assert_eq!(problem(twice, 404).await["field"], "id");
}

#[tokio::test]
async fn who_may_report_and_who_may_decide() {
    let issuer = Issuer::start().await;
    issuer.count(&["c1"], &[]).await;
    let body = json!({"userid": "ben", "reason": "spam"});
    assert_eq!(problem(post_report(&issuer, "eve", "c1", &body).await, 403).await["field"], "userid");
    let path = "/comments/cat/c1/reports";
    let by_service = issuer.ask("app", &json!("service"), (Method::POST, path), Some(&body)).await;
    assert_eq!(by_service.status(), 202, "a service reports for its users");
    problem(issuer.system.http.post(issuer.system.url(path)).json(&body).send().await.unwrap(), 401).await;
    let decision = json!({"videoid": "cat", "id": "c1", "outcome": "dismiss"});
    for (method, body) in [(Method::GET, None), (Method::POST, Some(&decision))] {
        let answer = issuer.ask("ben", &json!(["viewer", "poster"]), (method, REPORTS_PATH), body).await;
        assert_eq!(problem(answer, 403).await["rule"], "role");
    }
    assert_eq!(issuer.recorded().len(), 1);
    let open = System::start(&[]).await;
    open.count([
        json!({"video_id": "cat", "user_id": "ann", "type": "comment", "comment_id": "c1", "comment": "x"}),
    ])
    .await;
    assert_eq!(
        open.post(path, body.to_string()).await.status(),
        202,
        "without tokens, whoever says to be a user"
    );
    assert_eq!(problem(open.get(REPORTS_PATH).await, 403).await["rule"], "role");
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let issuer = Issuer::start().await;
    issuer.count(&["c1"], &[]).await;
    let good = json!({"userid": "ben", "reason": "spam"});
    for (body, field) in [
        (json!({"reason": "spam"}), "userid"),
        (json!({"userid": "ben"}), "reason"),
        (json!({"userid": "ben", "reason": "dull"}), "reason"),
        (json!({"userid": "ben", "reason": "spam", "text": 7}), "text"),
        (json!({"userid": "ben", "reason": "spam", "text": "x".repeat(201)}), "text"),
        (json!([]), "body"),
    ] {
        assert_eq!(
            problem(post_report(&issuer, "ben", "c1", &body).await, 400).await["field"],
            field,
            "{body}"
        );
    }
    let path = "/comments/cat/c1/reports?why=x";
    let answer = issuer.ask("ben", &json!("viewer"), (Method::POST, path), Some(&good)).await;
    assert_eq!(problem(answer, 400).await["field"], "why");
    assert_eq!(problem(post_report(&issuer, "ben", "c9", &good).await, 404).await["field"], "id");
    let decision = |more: Value| {
        let mut body = json!({"videoid": "cat", "id": "c1", "outcome": "dismiss"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, field) in [
        (json!({"videoid": ""}), "videoid"),
        (json!({"id": null}), "id"),
        (json!({"outcome": "praise"}), "outcome"),
        (json!({"outcome": "ban", "kind": "token"}), "kind"),
        (json!({"outcome": "ban", "scope": "owner"}), "scope"),
        (json!({"outcome": "ban", "seconds": 0}), "seconds"),
        (json!({"outcome": "ban", "second": 60}), "second"),
        (json!({"seconds": 5}), "seconds"),
        (json!({"outcome": "delete", "scope": "video"}), "scope"),
        (json!({"reason": "r".repeat(501)}), "reason"),
    ] {
        let answer = issuer
            .ask("mo", &moderator_roles(), (Method::POST, REPORTS_PATH), Some(&decision(more.clone())))
            .await;
        assert_eq!(problem(answer, 400).await["field"], field, "{more}");
    }
    for (query, field) in [
        ("state=old", "state"),
        ("order=best", "order"),
        ("state=closed&order=most", "order"),
        ("after=x", "after"),
        ("limit=101", "limit"),
        ("video=v", "video"),
    ] {
        let answer = issuer
            .ask("mo", &moderator_roles(), (Method::GET, &format!("{REPORTS_PATH}?{query}")), None)
            .await;
        assert_eq!(problem(answer, 400).await["field"], field, "{query}");
    }
    assert!(issuer.recorded().is_empty());
}

#[tokio::test]
async fn open_reports_are_bounded() {
    let issuer = Issuer::start().await;
    let ids: Vec<String> = (0..=MAX_OPEN_REPORTED_COMMENTS_OF_VIDEO).map(|at| format!("c{at}")).collect();
    issuer.count(&ids.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
    let reports = ids[1..].iter().zip(0..).map(|(id, at)| report_record(at, "cat", id, "u"));
    issuer.count(&[], &reports.collect::<Vec<_>>()).await;
    let body = |user: &str| json!({"userid": user, "reason": "spam"});
    let full = post_report(&issuer, "ben", "c0", &body("ben")).await;
    assert_eq!(full.headers()["retry-after"], "60");
    assert_eq!(problem(full, 429).await["rule"], "reports_of_video");
    assert_eq!(post_report(&issuer, "ben", "c1", &body("ben")).await.status(), 202, "it waits already");
    let more = (1..MAX_REPORTS).map(|at| report_record(1000 + at, "cat", "c2", &format!("u{at}")));
    issuer.count(&[], &more.collect::<Vec<_>>()).await;
    let many = post_report(&issuer, "ben", "c2", &body("ben")).await;
    assert_eq!(problem(many, 409).await["rule"], "reports_of_comment");
    // Reports that change nothing count against the limit, too, because the archive is asked for each. Each second brings
    // room for one more, and on a busy machine some seconds may pass.
    let mut taken = 0;
    let limited = loop {
        let answer = post_report(&issuer, "ben", "c1", &body("ben")).await;
        if answer.status() == 429 {
            break answer;
        }
        assert_eq!(answer.status(), 202, "{taken}");
        taken += 1;
        assert!(taken < 300, "there is no limit");
    };
    assert!(taken >= 57, "refused after {taken}");
    let wait: u64 = limited.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let limited = problem(limited, 429).await;
    assert_eq!(
        (&limited["rule"], &limited["limit"]),
        (&json!("reports_of_user"), &json!("reports-per-user"))
    );
    assert_eq!(post_report(&issuer, "cy", "c1", &body("cy")).await.status(), 202, "others have their own");
    issuer.system.log.break_down(true);
    problem(post_report(&issuer, "dan", "c1", &body("dan")).await, 503).await;
}
