//! Tests of access: every endpoint of the table is called by every kind of caller, and with a stolen reader's
//! credential.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::join_all;
use liverank_core::ReaderId;
use liverank_manager::Config;
use liverank_protocol::access::{Access, CalledService, CallerRole, KnownCaller, endpoints_of};
use liverank_runtime::identity::local::KeyRing;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Manager, Reader, StoreWithSwitch, token, until};

fn heartbeat_json(id: &str, url: &str) -> Value {
    json!({"id": id, "public_url": url, "internal_url": url, "beat": 1, "capacity": 10, "viewers": 0,
        "draining": false, "highest_epoch": 0, "videos": [], "messages_sent": 0})
}

/// Returns the status of a request with the credential `shown`, and the content type of its answer.
async fn status(manager: &Manager, method: &str, path: &str, shown: Option<&str>) -> (StatusCode, String) {
    let path = path.replace("{videoid}", "v");
    let method: Method = method.parse().unwrap();
    let mut request = manager.client.request(method.clone(), format!("{}{path}", manager.base));
    if method == Method::POST {
        request = request.json(&json!({}));
    }
    if let Some(shown) = shown {
        request = request.header("authorization", shown);
    }
    let answer = request.header("origin", "https://page.example").send().await.unwrap();
    let kind = answer.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let is_open = endpoints_of(CalledService::Manager)
        .any(|row| row.path.replace("{videoid}", "v") == path && row.access == Access::Public);
    let has_cors = answer.headers().contains_key("access-control-allow-origin");
    assert_eq!(has_cors, is_open, "only public endpoints may be used from a page: {path}");
    (answer.status(), kind)
}

#[tokio::test]
async fn the_table_of_endpoints_is_what_the_router_does() {
    let manager = Manager::start(&StoreWithSwitch::new()).await;
    let refused = |status: StatusCode| matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let callers = || {
        CallerRole::ALL.map(|role| {
            KnownCaller::of_role(role).unwrap_or_else(|| KnownCaller::reader(ReaderId::parse("r1").unwrap()))
        })
    };
    for row in endpoints_of(CalledService::Manager) {
        let what = format!("{} {}", row.method, row.path);
        let stranger = KeyRing::with_random_secret()
            .unwrap()
            .token_source(&KnownCaller::of_role(CallerRole::Operator).unwrap())
            .unwrap();
        let strange = format!(
            "Bearer {}",
            stranger.sign_token(CalledService::Manager, liverank_runtime::now_micros() / 1_000_000, 60)
        );
        for shown in
            [None, Some(""), Some("Bearer"), Some("Bearer x"), Some("Basic eDp5"), Some(strange.as_str())]
        {
            let (status, kind) = status(&manager, row.method, row.path, shown).await;
            if row.access == Access::Public {
                assert!(!refused(status), "{what} {shown:?}");
            } else {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{what} {shown:?}");
                assert_eq!(kind, "application/problem+json");
            }
        }
        let Access::Roles(roles) = row.access else { continue };
        for caller in callers() {
            let shown = format!("Bearer {}", token(&caller.to_string()));
            let (status, _) = status(&manager, row.method, row.path, Some(&shown)).await;
            if roles.contains(&caller.role()) {
                assert!(!refused(status), "{what} as {caller}: {status}");
            } else {
                assert_eq!(status, StatusCode::FORBIDDEN, "{what} as {caller}");
            }
        }
    }
}

#[tokio::test]
async fn a_stolen_reader_credential_is_one_reader() {
    let store = StoreWithSwitch::new();
    let manager = Manager::start(&store).await;
    let victim = Reader::start("victim", &[&manager]).await;
    manager.knows(1).await;
    manager.register("v").await;
    victim.watch("v", 5);
    until("its viewers are known", async || manager.json("/viewers/v").await["viewers"] == 5).await;
    let before = manager.json("/load").await;
    let as_thief =
        async |path: &str, body: &Value| manager.send_as("reader/thief", path, body).await.status();
    // A stolen reader's credential does not permit to speak for another reader,
    assert_eq!(
        as_thief("/heartbeat", &heartbeat_json("victim", "http://127.0.0.1:1")).await,
        StatusCode::FORBIDDEN
    );
    // to give orders,
    for (path, body) in [
        ("/term", json!({"holder": "thief", "lease": {"uid": "a", "transitions": 1}})),
        ("/moves", json!({"term": 1, "lease": {"uid": "a", "transitions": 1}, "moves": []})),
        ("/cordons", json!({"term": 1, "lease": {"uid": "a", "transitions": 1}, "cordons": []})),
    ] {
        assert_eq!(as_thief(path, &body).await, StatusCode::FORBIDDEN, "{path}");
    }
    // to read which videos others watch,
    let shown = format!("Bearer {}", token("reader/thief"));
    for path in ["/viewers/v", "/load", "/moves", "/cordons", "/plan"] {
        assert_eq!(status(&manager, "GET", path, Some(&shown)).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    // to forge epochs,
    for (field, value) in [
        ("highest_epoch", json!((1u64 << 53) - 2)),
        ("highest_epoch", json!(1u64 << 52)),
        ("videos", json!([{"video": "v", "viewers": 1, "epoch": 1u64 << 52, "ready": true}])),
        ("videos", json!([{"video": "v", "viewers": u64::MAX, "epoch": 0, "ready": true}])),
        ("viewers", json!(u64::MAX)),
        ("capacity", json!(u64::MAX)),
        ("ticket", json!("x".repeat(10_000))),
    ] {
        let mut body = heartbeat_json("thief", "http://127.0.0.1:1");
        body[field] = value.clone();
        assert_eq!(as_thief("/heartbeat", &body).await, StatusCode::BAD_REQUEST, "{field} {value}");
    }
    let far = json!({"videoid": "v", "epoch": 1u64 << 52});
    assert_eq!(as_thief("/route", &far).await, StatusCode::BAD_REQUEST);
    // or to report an address that the configuration does not permit.
    for url in ["http://10.0.0.1:4001", "http://evil.example:4001", "https://10.0.0.1:4001"] {
        for field in ["public_url", "internal_url"] {
            let mut body = heartbeat_json("thief", "http://127.0.0.1:1");
            body[field] = json!(url);
            let refused = manager.send_as("reader/thief", "/heartbeat", &body).await;
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{field} {url}");
            assert_eq!(refused.json::<Value>().await.unwrap()["field"], *field);
        }
    }
    let after = manager.json("/load").await;
    assert_eq!(before["assignments"][0]["readers"], after["assignments"][0]["readers"]);
    assert_eq!(before["highest_epoch"], after["highest_epoch"]);
    assert_eq!(after["readers"].as_array().unwrap().len(), 1, "nothing of it was believed");
    assert_eq!(manager.resolve("v").await, Some(victim.url.clone()));
    // What it says of itself is believed, and tells it nothing of a video that it does not serve.
    let mut body = heartbeat_json("thief", "http://127.0.0.1:1");
    body["videos"] = json!([{"video": "v", "viewers": 1, "epoch": 0, "ready": true}]);
    let answer = manager.send_as("reader/thief", "/heartbeat", &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer.get("viewers_elsewhere"), None, "{answer}");
}

/// Returns the number of new videos that were refused because the share of an address was used up, and that of a reader.
fn refused_registrations(manager: &Manager) -> (u64, u64) {
    let metrics = manager.metrics();
    let of_share = |share: &str| {
        let series = format!("liverank_manager_registrations_refused_total{{share=\"{share}\"}} ");
        let count =
            metrics.lines().find_map(|line| line.strip_prefix(&series)).expect("is told from the start");
        count.parse().unwrap()
    };
    (of_share("address"), of_share("reader"))
}

#[tokio::test]
async fn an_address_registers_its_share_of_new_videos() {
    let config = Config { max_new_videos_per_hour: 10, ..Config::default() };
    let manager = Manager::with(&StoreWithSwitch::new(), config).await;
    let _reader = Reader::start("r", &[&manager]).await;
    manager.knows(1).await;
    let register = async |host: u8, id: &str, shown: Option<String>| {
        let from = IpAddr::from([127, 0, 0, host]);
        let client = reqwest::Client::builder().no_proxy().local_address(from).build().unwrap();
        let mut request = client.post(format!("{}/register", manager.base)).json(&json!({"videoid": id}));
        if let Some(shown) = shown {
            request = request.header("authorization", shown).header("x-forwarded-for", "192.0.2.1");
        }
        request.send().await.unwrap()
    };
    for number in 0..5 {
        assert_eq!(register(1, &format!("v{number}"), None).await.status(), StatusCode::OK);
    }
    let other_role = format!("Bearer {}", token("reader/r"));
    for shown in [None, Some("Bearer x".to_owned()), Some(other_role)] {
        let refused = register(1, "one-more", shown).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3_500..=3_600).contains(&seconds), "{seconds}");
    }
    assert_eq!(refused_registrations(&manager), (3, 0));
    assert_eq!(register(1, "v0", None).await.status(), StatusCode::OK, "a known video is no new one");
    assert_eq!(register(2, "another-host", None).await.status(), StatusCode::OK);
    let gateway = format!("Bearer {}", token("gateway"));
    for number in 0..9 {
        let answer = register(1, &format!("by-gateway-{number}"), Some(gateway.clone())).await;
        assert_eq!(answer.status(), StatusCode::OK, "a gateway has a budget for each of its own callers");
    }
}

#[tokio::test]
async fn a_viewer_directly_at_a_reader_has_the_share_of_its_address_in_new_videos() {
    let config = Config { max_new_videos_per_hour: 10, ..Config::default() };
    let manager = Manager::with(&StoreWithSwitch::new(), config).await;
    let _reader = Reader::start("r", &[&manager]).await;
    manager.knows(1).await;
    let ask = async |who: &str, viewer: Option<&str>, id: &str| {
        let body = json!({"videoid": id, "viewer_address": viewer});
        manager.send_as(who, "/route", &body).await.status()
    };
    let (first, second) = (Some("192.0.2.1"), Some("192.0.2.2"));
    for number in 0..5 {
        assert_eq!(ask("reader/r", first, &format!("v{number}")).await, StatusCode::OK);
    }
    assert_eq!(ask("reader/r", first, "one-more").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(manager.resolve("one-more").await, None, "nothing is kept of it");
    assert_eq!(ask("reader/r", first, "v0").await, StatusCode::OK, "a known video is no new one");
    assert_eq!(ask("reader/s", second, "another-host").await, StatusCode::OK);
    // A reader that does not say for whom it asks has the share of its own address.
    let mut unsaid = Vec::new();
    for number in 0..4 {
        unsaid.push(ask("reader/t", None, &format!("unsaid-{number}")).await);
    }
    let (ok, refused) = (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(unsaid, [ok, ok, refused, refused]);
    for number in 0..9 {
        let asked = ask("gateway", None, &format!("by-gateway-{number}")).await;
        assert_eq!(asked, StatusCode::OK, "a gateway has a budget for each of its own callers");
    }
    assert_eq!(refused_registrations(&manager), (3, 0));
    let wrong = json!({"videoid": "v0", "viewer_address": "somewhere"});
    let wrong = manager.send_as("reader/r", "/route", &wrong).await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert_eq!(wrong.json::<Value>().await.unwrap()["field"], "viewer_address");
}

#[tokio::test]
async fn a_stolen_reader_credential_uses_up_no_more_than_its_share_of_new_videos() {
    let config = Config { max_new_videos_per_hour: 20, ..Config::default() };
    let store = StoreWithSwitch::new();
    // A manager does not hear of what another one registers, and has to look it up.
    store.lose_news.store(true, Relaxed);
    let manager = Manager::with(&store, config.clone()).await;
    let other_manager = Manager::with(&store, config).await;
    let _reader = Reader::start("r", &[&manager, &other_manager]).await;
    manager.knows(1).await;
    other_manager.knows(1).await;
    let ask = async |who: &str, host: u8, id: &str| {
        let body = json!({"videoid": id, "viewer_address": format!("192.0.2.{host}")});
        manager.send_as(who, "/route", &body).await
    };
    let invented = async |host: u8| ask("reader/stolen", host, &format!("invented-{host}")).await;
    for host in 0..10 {
        assert_eq!(invented(host).await.status(), StatusCode::OK, "half of all: {host}");
    }
    for host in 10..30 {
        let refused = invented(host).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{host}");
        let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3_500..=3_600).contains(&seconds), "{seconds}");
    }
    assert_eq!(refused_registrations(&manager), (0, 20));
    assert_eq!(invented(0).await.status(), StatusCode::OK, "a known video is no new one");
    let elsewhere = json!({"videoid": "elsewhere"});
    let registered = other_manager.send_as("gateway", "/route", &elsewhere).await;
    assert_eq!(registered.status(), StatusCode::OK);
    assert_eq!(
        ask("reader/stolen", 31, "elsewhere").await.status(),
        StatusCode::OK,
        "another manager knows it"
    );
    // Others have what is left.
    for host in 40..44 {
        assert_eq!(ask("reader/r", host, &format!("honest-{host}")).await.status(), StatusCode::OK, "{host}");
    }
    assert_eq!(manager.register("of-nobody-s-reader").await.1, "registered");
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_exceed_a_share() {
    let config = Config { max_new_videos_per_hour: 20, ..Config::default() };
    let store = StoreWithSwitch::new();
    let manager = Manager::with(&store, config).await;
    let _reader = Reader::start("r", &[&manager]).await;
    manager.knows(1).await;
    store.slow_assignments.store(true, Relaxed);
    let ask = async |video: usize| {
        let body = json!({"videoid": format!("v{video}"), "viewer_address": "192.0.2.1"});
        manager.send_as("reader/r", "/route", &body).await.status()
    };
    let answers = join_all((0..40).map(ask)).await;
    let taken = answers.iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!(taken, 10, "half of all: {answers:?}");
    // What registers nothing takes nothing: the same new video, asked for by many at once, is one.
    let body = json!({"videoid": "same"});
    let answers = join_all((0..4).map(|_| manager.send_as("reader/s", "/route", &body))).await;
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK), "{answers:?}");
    let body = |video: usize| json!({"videoid": format!("w{video}")});
    let mut taken = 0;
    for video in 0..10 {
        let answer = manager.send_as("reader/s", "/route", &body(video)).await;
        taken += usize::from(answer.status() == StatusCode::OK);
    }
    assert_eq!(taken, 4, "half of the ten that are left, with the one before");
}

#[tokio::test]
async fn an_address_follows_from_the_reader_s_name() {
    let store = StoreWithSwitch::new();
    let reader_urls = vec!["http://{reader}.tv.svc:4001".parse().unwrap()];
    let manager = Manager::with(&store, Config { reader_urls, ..Config::default() }).await;
    let beat = async |id: &str, url: &str| {
        manager.send_as(&format!("reader/{id}"), "/heartbeat", &heartbeat_json(id, url)).await.status()
    };
    assert_eq!(beat("live-reader-0", "http://live-reader-0.tv.svc:4001").await, StatusCode::OK);
    assert_eq!(beat("live-reader-1", "http://live-reader-0.tv.svc:4001").await, StatusCode::FORBIDDEN);
    assert_eq!(beat("live-reader-0", "http://127.0.0.1:4001").await, StatusCode::FORBIDDEN);
}
