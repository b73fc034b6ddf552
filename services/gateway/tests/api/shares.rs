//! One client has a share of a gateway's places: while it holds them, other clients are answered.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use reqwest::{Client, Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{System, eventually, problem, serve};

/// A service that answers each request once the test lets it.
async fn waiting_service(asked: &Arc<Semaphore>, answers: &Arc<Semaphore>) -> String {
    let (asked, answers) = (Arc::clone(asked), Arc::clone(answers));
    let answer = move || {
        let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
        async move {
            asked.add_permits(1);
            answers.acquire().await.unwrap().forget();
            "{}"
        }
    };
    serve(Router::new().fallback(answer)).await
}

/// A client at 127.0.0.`host`.
fn client_at(host: u8) -> Client {
    let address = IpAddr::from([127, 0, 0, host]);
    Client::builder().no_proxy().local_address(address).build().unwrap()
}

struct WaitingRequest {
    method: Method,
    path: &'static str,
    body: &'static str,
    flags: &'static [&'static str],
    /// The maximum number of such requests that one client may have in flight.
    share: usize,
}

/// Returns one request for each kind of request that is passed on to a service and takes a place while the service
/// answers.
fn waiting_requests() -> [WaitingRequest; 4] {
    let places = &["--gateway-max-in-flight", "12"];
    let request = |method, path, body, flags, share| WaitingRequest { method, path, body, flags, share };
    [
        request(Method::POST, "/client-statistics", r#"{"clientId":"c"}"#, &[], 16),
        request(Method::GET, "/comments/cat", "", &[], 128),
        request(Method::GET, "/resolve/cat", "", places, 6),
        request(Method::GET, "/statistics", "", &[], 16),
    ]
}

#[tokio::test]
async fn a_client_that_holds_its_share_of_places_keeps_nobody_else_waiting() {
    for WaitingRequest { method, path, body, flags, share } in waiting_requests() {
        let (asked, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let service = waiting_service(&asked, &answers).await;
        let services = ["--statistics-url", &service, "--comment-url", &service, "--manager-url", &service];
        let system = System::start(&[&services, flags].concat()).await;
        let url = system.url(path);
        let send = |host| client_at(host).request(method.clone(), &url).body(body).send();

        let mut hog = JoinSet::new();
        for _ in 0..share {
            hog.spawn(send(1));
        }
        eventually("all of the share are under way", async || asked.available_permits() == share).await;
        problem(send(1).await.unwrap(), 429).await;

        hog.spawn(send(2));
        eventually("another client's is under way", async || asked.available_permits() == share + 1).await;
        answers.add_permits(share + 1);
        for answer in hog.join_all().await {
            assert_eq!(answer.unwrap().status(), StatusCode::OK, "{path}");
        }
        answers.add_permits(1);
        assert_eq!(send(1).await.unwrap().status(), StatusCode::OK, "{path}: its places are free again");
    }
}

#[tokio::test]
async fn a_client_that_holds_its_share_of_batches_keeps_nobody_else_waiting() {
    let system = System::start(&["--gateway-max-batches", "1"]).await;
    let url = system.url("/interactions");
    let batch = |host, bytes: usize| {
        let event = r#"{"video_id":"cat","user_id":"ana","type":"view"}"#;
        let padding = " ".repeat(bytes - event.len() - 2);
        client_at(host).post(&url).body(format!("[{event}{padding}]")).send()
    };
    let held = system.log.hold();
    let hog = tokio::spawn(batch(1, 700_000));
    eventually("the batch is under way", async || system.log.append_count() == 1).await;
    problem(batch(1, 5_000).await.unwrap(), 429).await;
    let guest = tokio::spawn(batch(2, 100_000));
    eventually("another client's is under way", async || system.log.append_count() == 2).await;
    drop(held);
    for answer in [hog, guest] {
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}
