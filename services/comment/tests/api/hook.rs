//! Tests of the hook: a real HTTP server on a port of its own, asked by a comment service.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use liverank_comment::hook::{HookArgs, HookFailureAction};
use liverank_core::moderation::{ModerationAction, Restriction, RuleScope};
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::support::{Service, until};

const KEY: [u8; 32] = [7; 32];
/// The number of requests that the hook answers at once while its gate is open.
const OPEN: u32 = 1_000;

/// The way in which the test's hook answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum HookBehaviour {
    /// As the text of each comment says (`refuse`, `hold`, `mask`, `nothing`); any other comment is accepted.
    Well,
    /// With status 500.
    Fails,
    /// With a redirect to an address that would accept the comments.
    Redirects,
    /// Never.
    Hangs,
    /// With a larger body than the comment service reads.
    Floods,
    /// With a body that names no comment.
    LeavesOut,
}

struct Hook {
    url: String,
    manner: Mutex<HookBehaviour>,
    requests: Mutex<Vec<(HeaderMap, Bytes)>>,
    elsewhere: AtomicUsize,
    /// Every request waits for a permit of this semaphore.
    gate: Semaphore,
}

fn judge(comment: &Value) -> Value {
    let mut answer = match comment["comment"].as_str().unwrap() {
        "refuse" => json!({"outcome": "refuse", "reason": "no ads here"}),
        "hold" => json!({"outcome": "hold"}),
        "mask" => json!({"outcome": "mask", "comment": "****"}),
        "nothing" => json!({"outcome": "mask", "comment": " \u{200b}"}),
        _ => json!({"outcome": "accept"}),
    };
    answer["id"] = comment["id"].clone();
    answer
}

async fn asked(State(hook): State<Arc<Hook>>, headers: HeaderMap, body: Bytes) -> Response {
    hook.requests.lock().unwrap().push((headers, body.clone()));
    drop(hook.gate.acquire().await.unwrap());
    let manner = *hook.manner.lock().unwrap();
    let question: Value = serde_json::from_slice(&body).unwrap();
    let answers =
        |of: &mut dyn Iterator<Item = &Value>| json!({"answers": of.map(judge).collect::<Vec<_>>()});
    let comments = question["comments"].as_array().unwrap();
    match manner {
        HookBehaviour::Well => axum::Json(answers(&mut comments.iter())).into_response(),
        HookBehaviour::Fails => (StatusCode::INTERNAL_SERVER_ERROR, "{}").into_response(),
        HookBehaviour::Redirects => Redirect::temporary("/elsewhere").into_response(),
        HookBehaviour::Hangs => std::future::pending().await,
        HookBehaviour::Floods => vec![b' '; 5 << 20].into_response(),
        HookBehaviour::LeavesOut => axum::Json(answers(&mut comments.iter().take(0))).into_response(),
    }
}

async fn elsewhere(State(hook): State<Arc<Hook>>, body: Bytes) -> Response {
    hook.elsewhere.fetch_add(1, SeqCst);
    let question: Value = serde_json::from_slice(&body).unwrap();
    let answers: Vec<Value> = question["comments"].as_array().unwrap().iter().map(judge).collect();
    axum::Json(json!({ "answers": answers })).into_response()
}

impl Hook {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = Arc::new(Self {
            url: format!("http://{}/judge?of=comments", listener.local_addr().unwrap()),
            manner: Mutex::new(HookBehaviour::Well),
            requests: Mutex::default(),
            elsewhere: AtomicUsize::new(0),
            gate: Semaphore::new(OPEN as usize),
        });
        let router = Router::new().route("/judge", post(asked)).route("/elsewhere", post(elsewhere));
        let router = router.with_state(Arc::clone(&hook));
        tokio::spawn(async move { axum::serve(listener, router).await });
        hook
    }

    fn is(&self, manner: HookBehaviour) {
        *self.manner.lock().unwrap() = manner;
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn key_text() -> String {
    format!("whsec_{}\n", STANDARD.encode(KEY))
}

/// The time limit in milliseconds for a hook that answers: longer than a busy machine stands still.
const PATIENT_MS: u16 = 20_000;

/// Starts a comment service that asks this hook.
async fn asking(
    hook: &Hook,
    timeout_ms: u16,
    when_away: HookFailureAction,
) -> (Service, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key_text()).unwrap();
    let mut service = Service::start().await;
    service.hook = HookArgs {
        comment_hook_url: Some(hook.url.parse().unwrap()),
        comment_hook_key_file: Some(file.path().to_owned()),
        comment_hook_timeout_ms: timeout_ms,
        comment_hook_when_away: when_away,
    };
    service.restart().await;
    (service, file)
}

fn says(text: &str) -> Value {
    says_as("ann", "cat", text)
}

fn says_as(user: &str, video: &str, text: &str) -> Value {
    json!({"userid": user, "videoid": video, "comment": text})
}

#[tokio::test]
async fn a_comment_becomes_what_the_hook_says() {
    let hook = Hook::start().await;
    let (service, _key) = asking(&hook, PATIENT_MS, HookFailureAction::Refuse).await;
    let (status, answer) = service.post(&says("fine")).await;
    assert_eq!((status, &answer["comment"]["comment"]), (StatusCode::CREATED, &json!("fine")));
    let (status, answer) = service.post(&says("mask")).await;
    assert_eq!((status, &answer["comment"]["comment"]), (StatusCode::CREATED, &json!("****")));
    let (status, answer) = service.post(&says("hold")).await;
    assert_eq!((status, &answer["held"]), (StatusCode::ACCEPTED, &json!(true)));
    let records = service.records(3).await;
    let last: Value = serde_json::from_slice(&records[2].value).unwrap();
    assert_eq!(
        (&last["moderation"]["action"], &last["moderation"]["rule"]),
        (&json!("hold"), &json!("hook"))
    );
    for (text, detail) in
        [("refuse", "no ads here"), ("nothing", "the comment is of a kind that is not allowed")]
    {
        let (status, problem) = service.post(&says(text)).await;
        assert_eq!((status, &problem["rule"]), (StatusCode::FORBIDDEN, &json!("hook")), "{problem}");
        assert_eq!((&problem["detail"], &problem["until"]), (&json!(detail), &Value::Null));
    }
    assert_eq!(service.log_length().await, 3, "what is refused is not in the log");
    // A repeated post with the same key gets the same answer, and the hook is not asked again.
    let keyed = json!({"userid": "ann", "videoid": "cat", "comment": "mask", "idempotency_key": "k"});
    let first = service.post(&keyed).await;
    let before = hook.requests();
    assert_eq!((service.post(&keyed).await, hook.requests()), (first, before));
    // The hook is not asked about a comment that only its author is shown.
    let (kind, scope) = (Restriction::Shadow, RuleScope::Everywhere);
    let shadow = ModerationAction::Restrict { userid: "ann".parse().unwrap(), kind, scope, until: None };
    service.moderate(None, shadow).await;
    service.archive_all().await;
    until("the shadow ban is in force", async || {
        let (status, _) = service.post(&says("refuse")).await;
        status == StatusCode::CREATED
    })
    .await;
}

#[tokio::test]
async fn a_request_is_signed_and_says_what_is_asked() {
    let hook = Hook::start().await;
    let (service, key) = asking(&hook, PATIENT_MS, HookFailureAction::Refuse).await;
    let earlier = service.post(&says("first")).await.1["comment"]["id"].clone();
    let mut reply = says("second");
    reply["reply_to"] = earlier.clone();
    service.archive_all().await;
    assert_eq!(service.post(&reply).await.0, StatusCode::CREATED);
    let (headers, body) = hook.requests.lock().unwrap()[1].clone();
    let header = |name: &str| headers[name].to_str().unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), &message, &signature).unwrap();
    let age = liverank_runtime::now_ms() / 1000 - timestamp.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
    assert_eq!(header("content-type"), "application/json");
    let question: Value = serde_json::from_slice(&body).unwrap();
    let comment = &question["comments"][0];
    assert_eq!(question["version"], 1);
    assert_eq!(
        (&comment["userid"], &comment["videoid"], &comment["comment"], &comment["reply_to"]),
        (&json!("ann"), &json!("cat"), &json!("second"), &earlier)
    );
    assert!(comment["id"].is_string() && comment["timestamp"].is_i64(), "{comment}");
    drop(key);
}

#[tokio::test]
async fn while_it_is_away_comments_become_what_the_setting_says() {
    for (when_away, status, records) in [
        (HookFailureAction::Accept, StatusCode::CREATED, 1),
        (HookFailureAction::Hold, StatusCode::ACCEPTED, 1),
        (HookFailureAction::Refuse, StatusCode::SERVICE_UNAVAILABLE, 0),
    ] {
        let hook = Hook::start().await;
        hook.is(HookBehaviour::Fails);
        let (service, _key) = asking(&hook, 2_000, when_away).await;
        let answer = service.send(&says("refuse")).await;
        let retry = answer.headers().get("retry-after").cloned();
        assert_eq!(answer.status(), status, "{when_away:?}");
        let body: Value = answer.json().await.unwrap();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!((&body["rule"], retry.is_some()), (&json!("hook"), true));
        }
        assert_eq!(service.log_length().await, records, "{when_away:?}");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_an_answer_it_is_none() {
    for manner in
        [HookBehaviour::Redirects, HookBehaviour::Floods, HookBehaviour::LeavesOut, HookBehaviour::Hangs]
    {
        let hook = Hook::start().await;
        hook.is(manner);
        let (service, _key) = asking(&hook, 300, HookFailureAction::Refuse).await;
        let started = Instant::now();
        let (status, problem) = service.post(&says("fine")).await;
        assert_eq!(
            (status, &problem["rule"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("hook")),
            "{manner:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(5), "{manner:?}: {:?}", started.elapsed());
        assert_eq!(hook.elsewhere.load(SeqCst), 0, "nobody is led elsewhere");
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_left_alone_for_a_while_and_tried_again() {
    let hook = Hook::start().await;
    hook.is(HookBehaviour::Fails);
    let (service, _key) = asking(&hook, 2_000, HookFailureAction::Accept).await;
    for _ in 0..3 {
        assert_eq!(service.post(&says("refuse")).await.0, StatusCode::CREATED);
    }
    assert_eq!(hook.requests(), 3);
    let metrics = || service.shell.metrics.encode_text();
    assert!(metrics().contains("liverank_comment_hook_away 1"), "{}", metrics());
    hook.is(HookBehaviour::Well);
    for _ in 0..3 {
        assert_eq!(service.post(&says("refuse")).await.0, StatusCode::CREATED);
    }
    assert_eq!(hook.requests(), 3, "it was left alone");
    until("it is tried again", async || service.post(&says("refuse")).await.0 == StatusCode::FORBIDDEN).await;
    assert!(metrics().contains("liverank_comment_hook_away 0"), "{}", metrics());
    assert!(
        metrics().contains("liverank_comment_hook_comments_total{outcome=\"refuse\"} 1"),
        "{}",
        metrics()
    );
}

/// Returns the line of `/metrics` by which this many posts wait for their answer.
fn in_flight(posts: u32) -> String {
    format!("liverank_http_in_flight{{service=\"comment\",method=\"POST\",route=\"/comment\"}} {posts}\n")
}

#[tokio::test]
async fn what_comes_while_requests_are_out_goes_together() {
    let hook = Hook::start().await;
    let (service, _key) = asking(&hook, 30_000, HookFailureAction::Refuse).await;
    let gate = hook.gate.try_acquire_many(OPEN).unwrap();
    let posts: Vec<_> = (0..100).map(|at| says_as(&format!("user {at}"), "cat", "words")).collect();
    let all = futures::future::join_all(posts.iter().map(|body| service.post(body)));
    let open = async {
        // The hook does not answer yet, so all comments wait for the few requests that may run at the same time.
        until("all are being answered", async || {
            service.shell.metrics.encode_text().contains(&in_flight(100))
        })
        .await;
        drop(gate);
    };
    let (answers, ()) = tokio::join!(all, open);
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::CREATED), "{answers:?}");
    let sizes: Vec<usize> = hook
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()["comments"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 100, "each is asked about once");
    assert!(sizes.iter().all(|size| *size <= 64), "{sizes:?}");
    assert!(sizes.len() < 50, "{sizes:?}");
}

#[tokio::test]
async fn a_flood_of_one_user_is_refused_and_nobody_else() {
    let hook = Hook::start().await;
    let (service, _key) = asking(&hook, 30_000, HookFailureAction::Accept).await;
    let gate = hook.gate.try_acquire_many(OPEN).unwrap();
    let body = says("words");
    let mut flood: FuturesUnordered<_> = (0..20).map(|_| service.send(&body)).collect();
    for _ in 0..4 {
        let answer = flood.next().await.unwrap();
        assert_eq!(
            (answer.status(), answer.headers().contains_key("retry-after")),
            (StatusCode::TOO_MANY_REQUESTS, true),
            "16 may wait, and more are not taken unseen"
        );
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["rule"], "hook");
    }
    let other = says_as("ben", "cat", "words");
    let open = async {
        until("the other one waits, too", async || {
            service.shell.metrics.encode_text().contains(&in_flight(17))
        })
        .await;
        drop(gate);
    };
    let ((status, _), ()) = tokio::join!(service.post(&other), open);
    assert_eq!(status, StatusCode::CREATED);
    let rest: Vec<StatusCode> = flood.map(|answer| answer.status()).collect().await;
    assert_eq!(rest, [StatusCode::CREATED; 16]);
    assert_eq!(service.post(&body).await.0, StatusCode::CREATED, "the places are free again");
}

#[tokio::test]
async fn settings_that_do_not_fit_are_no_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut service = Service::start().await;
    let wrong = async |service: &mut Service, url: Option<&str>, key: Option<&str>, word: &str| {
        if let Some(key) = key {
            std::fs::write(file.path(), key).unwrap();
        }
        service.hook = HookArgs {
            comment_hook_url: url.map(|url| url.parse().unwrap()),
            comment_hook_key_file: key.map(|_| file.path().to_owned()),
            ..HookArgs::default()
        };
        let error = format!("{:#}", service.refused_start().await);
        assert!(error.contains(word), "{error}");
    };
    let (good, key) = ("http://127.0.0.1:9/", key_text());
    wrong(&mut service, Some(good), None, "go together").await;
    wrong(&mut service, None, Some(&key), "go together").await;
    wrong(&mut service, Some("ftp://127.0.0.1/"), Some(&key), "--comment-hook-url").await;
    wrong(&mut service, Some("http://ann:secret@127.0.0.1/"), Some(&key), "--comment-hook-url").await;
    wrong(&mut service, Some(good), Some("secret"), "--comment-hook-key-file").await;
}
