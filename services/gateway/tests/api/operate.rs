//! The system's state at the front door: its content, and who may see it.

use axum::Router;
use axum::routing::{get, post};
use liverank_protocol::{Overview, PlannerState};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::moderation::Issuer;
use crate::support::{System, problem};

/// Starts a fake manager that returns this overview, and refuses every what-if question with 400. Returns its URL.
async fn fake_manager(overview: Overview) -> String {
    let refusal = || async {
        let problem = json!({"status": 400, "detail": "readers: must be a whole number", "field": "readers"});
        let kind = [("content-type", "application/problem+json")];
        (axum::http::StatusCode::BAD_REQUEST, kind, problem.to_string())
    };
    let router = Router::new()
        .route("/overview", get(move || async move { axum::Json(overview) }))
        .route("/what-if", post(refusal));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn only_operators_see_the_overview() {
    let issuer = Issuer::start().await;
    let question = json!({"readers": 2});
    for (roles, status) in [
        (json!(null), 403),
        (json!(["viewer"]), 403),
        (json!(["moderator"]), 403),
        (json!(["operator"]), 200),
        (json!("service"), 200),
    ] {
        let shown = issuer.ask("ann", &roles, (Method::GET, "/operate"), None).await;
        if status == 403 {
            assert_eq!(problem(shown, 403).await["rule"], "role");
        } else {
            assert_eq!(shown.status(), status, "{roles}");
        }
        let asked = issuer.ask("ann", &roles, (Method::POST, "/operate/what-if"), Some(&question)).await;
        assert_eq!(asked.status() == 403, status == 403, "{roles}: {}", asked.status());
    }
    assert_eq!(issuer.system.get("/operate").await.status(), 401);
    assert_eq!(issuer.system.post("/operate/what-if", "{}").await.status(), 401);
}

#[tokio::test]
async fn the_overview_names_unavailable_parts_and_shows_the_rest() {
    let system = System::start(&[]).await;
    let like = r#"{"video_id":"cat","user_id":"ann","type":"like"}"#;
    assert_eq!(system.post("/interact", like).await.status(), 202);
    assert_eq!(system.post("/interact", "{}").await.status(), 400);
    let shown = system.json("/operate").await;
    assert_eq!(shown["placement"], Value::Null);
    let parts = shown["parts"].as_array().unwrap();
    let away = |name: &str| {
        parts.iter().find(|it| it["name"].as_str().unwrap().starts_with(name)).unwrap()["away"].clone()
    };
    assert_eq!((away("log"), away("archive"), away("manager")), (json!(false), json!(false), json!(true)));
    assert_eq!(shown["counts"]["logged"], 1);
    // No consumer counts in this test.
    assert_eq!((&shown["lag"]["records"], &shown["counts"]["counted"]), (&json!(1), &json!(0)), "{shown}");
    assert_eq!(
        (&shown["counts"]["acknowledged"], &shown["counts"]["refused_invalid"]),
        (&json!(1), &json!(1))
    );
    // One answer serves all of a second. The two requests are a second apart only where the machine stands still between
    // them.
    let mut tries = 0;
    while system.json("/operate").await["at"] != system.json("/operate").await["at"] {
        tries += 1;
        assert!(tries < 5, "each request has an answer of its own");
    }
    assert_eq!(problem(system.get("/operate?all=1").await, 400).await["field"], "all");
}

#[tokio::test]
async fn every_manager_is_asked_and_a_refused_question_names_the_field() {
    let of = |viewers, leading| Overview {
        fresh: true,
        viewers,
        planner: PlannerState { leading, term: Some(viewers), ..PlannerState::default() },
        ..Overview::default()
    };
    let urls = format!("{},{}", fake_manager(of(7, false)).await, fake_manager(of(3, true)).await);
    let system = System::start(&["--manager-url", &urls]).await;
    let placement = system.json("/operate").await["placement"].clone();
    assert_eq!(placement["viewers"], 7);
    assert_eq!(placement["planner"]["term"], 3, "of the one that plans");
    assert_eq!(problem(system.post("/operate/what-if", "{}").await, 400).await["field"], "readers");
    // Questions are limited, because each keeps a processor of a manager busy for a while. Each second brings room for
    // four more, and on a busy machine some seconds may pass.
    let mut refused = None;
    for _ in 0..200 {
        let answer = system.post("/operate/what-if", "{}").await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    problem(refused.expect("a limit"), 429).await;
}
