//! The statistics service over a real socket, with an embedded archive.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without ends it, in its helpers too")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::Archive;
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_protocol::access;
use liverank_runtime::identity::local::KeyRing;
use liverank_runtime::{Identity, ServiceContext};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

struct TestService {
    url: String,
    client: Client,
    shell: ServiceContext,
    _directory: TempDir,
}

impl TestService {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let archive: Arc<dyn Archive> = Arc::new(EmbeddedArchive::open(directory.path()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut shell = ServiceContext::new(Duration::from_secs(1));
        shell.identity = Identity::with_keys(keys());
        tokio::spawn(liverank_statistics::run(archive, listener, shell.clone()));
        Self { url, client: Client::new(), shell, _directory: directory }
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let answer = self.client.post(format!("{}/{path}", self.url)).json(body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Returns the answer that a person who looks after the system gets.
    async fn get_statistics(&self, query: &str) -> Value {
        let request = self.client.get(format!("{}/statistics{query}", self.url));
        let answer = request.bearer_auth(token_for("cli")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }
}

fn keys() -> KeyRing {
    KeyRing::from_secret(&[b't'; 32]).unwrap()
}

/// Returns a token of `caller` for the statistics service.
fn token_for(caller: &str) -> String {
    let seconds = liverank_runtime::now_micros() / 1_000_000;
    keys().token_source(&caller.parse().unwrap()).unwrap().sign_token(
        access::CalledService::Statistics,
        seconds,
        60,
    )
}

#[tokio::test]
async fn viewer_details_are_shown_to_operators_only() {
    let service = TestService::start().await;
    let report = json!({"clientId": "c", "userId": "ana", "videoId": "v", "commentsConsumed": 9,
        "subscribedTopics": ["video:v"], "connectedReader": "http://r:4001"});
    assert_eq!(service.post("client-statistics", &report).await.0, StatusCode::OK);
    let asked = async |shown: Option<String>, query: &str| {
        let mut request = service.client.get(format!("{}/statistics{query}", service.url));
        if let Some(shown) = shown {
            request = request.bearer_auth(shown);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    for caller in ["cli", "operator"] {
        let (status, all) = asked(Some(token_for(caller)), "").await;
        assert_eq!(
            (status, &all["clients"]["clients"][0]["userId"]),
            (StatusCode::OK, &json!("ana")),
            "{caller}"
        );
        assert_eq!(asked(Some(token_for(caller)), "?full=true").await.0, StatusCode::OK);
    }
    for shown in [None, Some(token_for("gateway")), Some(token_for("reader/r"))] {
        let (status, some) = asked(shown.clone(), "").await;
        assert_eq!(status, StatusCode::OK);
        let client = &some["clients"]["clients"][0];
        assert_eq!((&client["clientId"], &client["commentsConsumed"]), (&json!("c"), &json!(9)));
        assert_eq!((&client["userId"], &client["videoId"]), (&Value::Null, &Value::Null));
        assert_eq!(client["subscribedTopics"], json!([]));
        assert_eq!(some["clients"]["totalClients"], 1);
        assert_eq!(asked(shown, "?full=true").await.0, StatusCode::UNAUTHORIZED);
    }
    // A token that is not valid is refused; it does not count as no token.
    assert_eq!(asked(Some("x".into()), "").await.0, StatusCode::UNAUTHORIZED);
}

impl Drop for TestService {
    fn drop(&mut self) {
        self.shell.shutdown.cancel();
    }
}

#[tokio::test]
async fn everything_that_the_seed_s_parts_report_shows_in_one_answer() {
    let service = TestService::start().await;
    let reports = [
        (
            "comment-api-statistics",
            json!({"totalComments": 3, "commentsByVideo": {"v": 3}, "activeTopics": ["video:v"],
                   "topicSubscribers": {"video:v": 1}}),
        ),
        (
            "reader-api-statistics",
            json!({"instanceId": "reader-1", "activeConnections": 4, "subscribedTopics": ["video:v"],
                   "messagesSent": 12}),
        ),
        (
            "reader-api-manager-statistics",
            json!({"service": "ReaderApiManager", "registeredVideos": 1, "availableReaderApis": ["http://r:4001"],
                   "registrationCount": 5, "videoMappings": {"v": "http://r:4001"}}),
        ),
        (
            "client-statistics",
            json!({"clientId": "client-1", "userId": "u", "videoId": "v", "commentsGenerated": 2,
                   "commentsConsumed": 9, "subscribedTopics": ["v"], "connectedReader": "http://r:4001"}),
        ),
    ];
    for (path, report) in &reports {
        assert_eq!(service.post(path, report).await, (StatusCode::OK, json!({"success": true})), "{path}");
    }
    let mut statistics = service.get_statistics("").await;
    assert_eq!(statistics["commentApi"], reports[0].1);
    assert_eq!(
        statistics["readerApis"],
        json!({"totalReaders": 1, "totalActiveConnections": 4, "totalMessagesSent": 12,
               "allSubscribedTopics": ["video:v"], "readers": [reports[1].1]})
    );
    assert_eq!(statistics["readerApiManager"], reports[2].1);
    assert_eq!(
        statistics["clients"],
        json!({"totalClients": 1, "totalCommentsGenerated": 2, "totalCommentsConsumed": 9,
               "clients": [reports[3].1]})
    );
    let timestamp = statistics["timestamp"].take();
    assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
}

/// Posts a report of a reader, from 127.0.0.`host` and with these headers.
async fn report_reader(
    service: &TestService,
    host: u8,
    id: &str,
    headers: &[(&str, String)],
) -> reqwest::Response {
    let client = Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, host])).build().unwrap();
    let report = json!({"instanceId": id, "activeConnections": 1});
    let request = client.post(format!("{}/reader-api-statistics", service.url)).json(&report);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, value)).send().await.unwrap()
}

fn bearer(caller: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {}", token_for(caller)))
}

#[tokio::test]
async fn invented_readers_push_nobody_out_and_are_refused_once_they_have_their_share() {
    let service = TestService::start().await;
    assert_eq!(report_reader(&service, 2, "real", &[]).await.status(), StatusCode::OK);
    let url = format!("{}/reader-api-statistics", service.url);
    let mut accepted = 0;
    // More than there may be readers.
    for number in 0..1_200 {
        let report = json!({"instanceId": format!("invented-{number:04}")});
        let answer = service.client.post(&url).json(&report).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => accepted += 1,
            refused => {
                assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
                assert_eq!(answer.headers()["retry-after"], "60");
                break;
            }
        }
    }
    assert_eq!(accepted, 499, "half of a thousand, and one is taken");
    let shown = service.get_statistics("?full=true").await;
    let readers = shown["readerApis"]["readers"].as_array().unwrap();
    assert!(readers.iter().any(|reader| reader["instanceId"] == "real"));
    for (host, id) in [(2, "real"), (3, "newcomer")] {
        assert_eq!(report_reader(&service, host, id, &[]).await.status(), StatusCode::OK, "{id}");
    }
}

#[tokio::test]
async fn a_process_that_shows_who_it_is_speaks_for_itself_and_nobody_else_for_it() {
    let service = TestService::start().await;
    let own = [bearer("reader/r1")];
    assert_eq!(report_reader(&service, 1, "r1", &own).await.status(), StatusCode::OK);
    let other = report_reader(&service, 1, "r2", &own).await;
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    assert_eq!(other.json::<Value>().await.unwrap()["field"], "instanceId");
    for headers in
        [&[][..], &[bearer("reader/r2")], &[bearer("manager")], &[("authorization", "Bearer x".into())]]
    {
        let answer = report_reader(&service, 1, "r1", headers).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    let shown = service.get_statistics("").await;
    assert_eq!(shown["readerApis"]["totalReaders"], 1);
    // A token that is of no use here is as none: everybody may report.
    assert_eq!(report_reader(&service, 1, "r3", &[bearer("cli")]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_report_counts_for_the_client_that_a_gateway_names() {
    let service = TestService::start().await;
    let through = |client: &str| [bearer("gateway"), ("x-forwarded-for", client.to_owned())];
    let mut number = 0;
    let refused = loop {
        number += 1;
        let answer = report_reader(&service, 1, &format!("r{number}"), &through("192.0.2.1")).await;
        if answer.status() != StatusCode::OK {
            break answer.status();
        }
    };
    assert_eq!((refused, number), (StatusCode::TOO_MANY_REQUESTS, 501));
    assert_eq!(report_reader(&service, 1, "other", &through("192.0.2.2")).await.status(), StatusCode::OK);
    // Nobody else is believed.
    let forged = [("x-forwarded-for", "192.0.2.3".to_owned())];
    for number in 0..2 {
        report_reader(&service, 1, &format!("forged-{number}"), &forged).await;
    }
    assert_eq!(report_reader(&service, 1, "r1", &through("192.0.2.1")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn stored_comments_are_the_archive_s_count() {
    let service = TestService::start().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while service.get_statistics("").await["storedComments"] != json!({"totalComments": 0}) {
        assert!(Instant::now() < deadline, "the archive's count did not show");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn lists_are_bounded_unless_all_is_asked_for() {
    let service = TestService::start().await;
    for number in 0..120 {
        let report = json!({"clientId": format!("client-{number}")});
        assert_eq!(service.post("client-statistics", &report).await.0, StatusCode::OK);
    }
    let clients = |statistics: Value| statistics["clients"]["clients"].as_array().unwrap().len();
    assert_eq!(clients(service.get_statistics("").await), 100);
    assert_eq!(clients(service.get_statistics("?full=false").await), 100);
    assert_eq!(clients(service.get_statistics("?full=true").await), 120);
}

#[tokio::test]
async fn wrong_members_are_refused_by_name() {
    let service = TestService::start().await;
    let cases = [
        ("comment-api-statistics", json!({"totalComments": "three"}), "totalComments"),
        ("comment-api-statistics", json!({"commentsByVideo": ["v"]}), "commentsByVideo"),
        ("reader-api-statistics", json!({}), "instanceId"),
        ("reader-api-statistics", json!({"instanceId": "r", "messagesSent": -1}), "messagesSent"),
        ("reader-api-manager-statistics", json!({"videoMappings": {"v": 1.5e300, "w": []}}), "videoMappings"),
        ("client-statistics", json!({"clientId": ["c"]}), "clientId"),
        ("client-statistics", json!([]), "body"),
    ];
    for (path, body, field) in cases {
        let (status, problem) = service.post(path, &body).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{path} {body}");
        assert!(problem["error"].as_str().unwrap().contains(field), "{problem}");
    }
    let answer = service.client.get(format!("{}/statistics?full=maybe", service.url)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.json::<Value>().await.unwrap()["field"], "full");
}

#[tokio::test]
async fn what_is_no_report_is_refused_as_it_is_everywhere() {
    let service = TestService::start().await;
    let url = format!("{}/client-statistics", service.url);
    let send = |content_type: &'static str, body: Vec<u8>| {
        service.client.post(&url).header("content-type", content_type).body(body).send()
    };
    let wrong_json = send("application/json", b"{\"clientId\":".to_vec()).await.unwrap();
    assert_eq!(wrong_json.status(), StatusCode::BAD_REQUEST);
    let wrong_type = send("text/plain", b"{}".to_vec()).await.unwrap();
    assert_eq!(wrong_type.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(wrong_type.headers()["content-type"], "application/problem+json");
    let too_large = send("application/json", vec![b' '; 2 * 1024 * 1024 + 1]).await.unwrap();
    assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let without_type = service.client.post(&url).body("{\"clientId\":\"c\"}").send().await.unwrap();
    assert_eq!(without_type.status(), StatusCode::OK);
}

#[tokio::test]
async fn unknown_paths_methods_and_health() {
    let service = TestService::start().await;
    let get = |path: &str| service.client.get(format!("{}{path}", service.url)).send();
    let health: Value = get("/health").await.unwrap().json().await.unwrap();
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("statistics")));
    assert_eq!(get("/nothing").await.unwrap().status(), StatusCode::NOT_FOUND);
    let wrong_method = get("/client-statistics").await.unwrap();
    assert_eq!(wrong_method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong_method.headers()["access-control-allow-origin"], "*");
}
