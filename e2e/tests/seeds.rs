//! Tests of compatibility: clients that were written for the two seeds, against this system.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use liverank_e2e::cluster::{Cluster, Stores};
use liverank_e2e::patient::answer_of;
use liverank_e2e::wait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_mins(1);

async fn listed_video(gateway: &str, id: &str) -> Option<Value> {
    let response = reqwest::get(format!("{gateway}/videos/{id}")).await.ok()?;
    if response.status().is_success() { response.json().await.ok() } else { None }
}

/// The ranking seed's client: JSON without any header but those that HTTP requires.
#[tokio::test]
async fn the_ranking_seed_s_client_and_producers_count() {
    let cluster = Cluster::start(&Stores::from_environment()).await;
    let gateway = &cluster.gateways[0];
    let address = gateway.trim_start_matches("http://");
    // The seed's events have no ids: after a 503 the log may have the event, so the next try is for another video.
    let tries = std::cell::Cell::new(0);
    let video_id = wait::until("the event is acknowledged", TIMEOUT, || async {
        tries.set(tries.get() + 1);
        let video_id = format!("v{}", tries.get());
        let body = format!(
            r#"{{"video_id":"{video_id}","user_id":"u1","type":"watch_time","watch_time":3,"timestamp":1700000000}}"#
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("POST /interact HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        if &answer == b"HTTP/1.1 503" {
            return None;
        }
        assert_eq!(&answer, b"HTTP/1.1 202");
        Some(video_id)
    })
    .await;

    // The seed's own producers write to the topic without a key; one of them writes an unreadable record in between.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../testbed/testbed");
    let mut produce = Command::new(script)
        .args(["produce", &format!("{}video_interactions", cluster.prefix)])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = produce.stdin.take().unwrap();
    for event in 0..50 {
        let line = json!({"video_id": video_id, "user_id": "u1", "type": "view", "timestamp": 1_700_000_000 + event});
        writeln!(lines, "{line}").unwrap();
    }
    writeln!(lines, "not json").unwrap();
    writeln!(
        lines,
        "{}",
        json!({"video_id": video_id, "user_id": "u2", "type": "share", "timestamp": 1_700_000_000})
    )
    .unwrap();
    drop(lines);
    assert!(produce.wait().unwrap().success());
    let counted = wait::until("all events counted", TIMEOUT, || async {
        // The three types of events are in different partitions, which different consumers may count.
        listed_video(gateway, &video_id).await.filter(|video| {
            let numbers = [&video["views"], &video["shares"], &video["watch_time_total"]];
            numbers == [&json!(50), &json!(1), &json!(3.0)]
        })
    })
    .await;
    assert_eq!(counted["score"], json!(50.0 + 3.0 + 2.0), "{counted}");
    assert_eq!(counted["user_id"], json!("u1"));
}

/// The comments seed's client: it registers, posts to the reader's `/connect` without following redirects, reads lines
/// that begin with `data: `, counts all whose `type` is not `connected`, posts comments and sends reports.
#[tokio::test]
async fn the_comments_seed_s_client_sees_its_comments() {
    let cluster = Cluster::start(&Stores::from_environment()).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let register =
        client.post(format!("{}/register", cluster.managers[0])).json(&json!({"videoid": "video1"}));
    let registered: Value = answer_of(register).await.json().await.unwrap();
    // After a first answer 503 the video may be known.
    let action = registered["action"].as_str();
    assert!(matches!(action, Some("registered" | "existing")), "{registered}");
    let reader = registered["readerUrl"].as_str().unwrap();
    let connect = client.post(format!("{reader}/connect"));
    let response = answer_of(connect.json(&json!({"userid": "user1", "videoid": "video1"}))).await;
    assert_eq!(response.status(), 200);
    let mut lines = data_lines(response);
    let connected = tokio::time::timeout(TIMEOUT, lines.recv()).await.unwrap().unwrap();
    assert_eq!(
        (&connected["type"], &connected["videoid"]),
        (&json!("connected"), &json!("video1")),
        "{connected}"
    );

    for n in 0..20 {
        let answer = client
            .post(format!("{}/comment", cluster.comments[n % 2]))
            .json(&json!({"userid": "user1", "videoid": "video1", "comment": format!("comment {n}")}))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(
            (&answer["success"], &answer["comment"]["comment"]),
            (&json!(true), &json!(format!("comment {n}")))
        );
    }
    let mut consumed = Vec::new();
    while consumed.len() < 20 {
        let data = tokio::time::timeout(TIMEOUT, lines.recv()).await.expect("all comments arrive").unwrap();
        if data["type"] != json!("connected") {
            consumed.push(data["comment"].as_str().unwrap_or_default().to_owned());
        }
    }
    let expected: Vec<String> = (0..20).map(|n| format!("comment {n}")).collect();
    assert_eq!(consumed, expected);

    let report = json!({"clientId": "c1", "userId": "user1", "videoId": "video1", "commentsGenerated": 20,
        "commentsConsumed": 20, "subscribedTopics": ["video:video1"], "connectedReader": reader});
    wait::until("the statistics in the seed's shape", TIMEOUT, || async {
        // As the seed's clients do, it reports again and again: a report is forgotten after a minute.
        let sent = client.post(format!("{}/client-statistics", cluster.statistics)).json(&report);
        assert!(answer_of(sent).await.status().is_success());
        let all: Value =
            client.get(format!("{}/statistics", cluster.statistics)).send().await.ok()?.json().await.ok()?;
        for member in
            ["commentApi", "readerApis", "readerApiManager", "clients", "storedComments", "timestamp"]
        {
            assert!(all.get(member).is_some(), "{member} is missing: {all:#}");
        }
        let good = all["clients"]["totalClients"] == json!(1)
            && all["clients"]["totalCommentsConsumed"] == json!(20)
            && all["readerApis"]["totalReaders"] == json!(3)
            && all["readerApis"]["totalActiveConnections"] == json!(1);
        good.then_some(())
    })
    .await;
}

/// Returns a channel of the JSON in every `data: ` line of a stream.
fn data_lines(response: reqwest::Response) -> tokio::sync::mpsc::Receiver<Value> {
    let (sender, receiver) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        let (mut write, read) = tokio::io::duplex(64 * 1024);
        let copying = async move {
            let mut response = response;
            while let Ok(Some(chunk)) = response.chunk().await {
                if write.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        };
        let reading = async move {
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(data) = line.strip_prefix("data: ") {
                    let _ = sender.send(serde_json::from_str(data).expect("data is JSON")).await;
                }
            }
        };
        tokio::join!(copying, reading);
    });
    receiver
}
