//! Tests of several processes for each role on a real Kafka, Redis and MongoDB, in which processes are killed under
//! load.

use std::time::Duration;

use liverank_e2e::cluster::{Cluster, Stores};
use liverank_e2e::collector::Collector;
use liverank_e2e::moderation::Moderated;
use liverank_e2e::wait;

/// The processes that are killed, one after the other: the first of each role.
const PROCESSES_KILLED: [&str; 7] =
    ["gateway-1", "consumer-1", "comment-1", "reader-1", "manager-1", "websocket-1", "statistics-1"];

async fn finish_load(mut load: tokio::process::Child, cluster: &Cluster) -> serde_json::Value {
    let status = tokio::time::timeout(Duration::from_mins(4), load.wait())
        .await
        .expect("the load ends")
        .expect("waiting for the load");
    let report = cluster.load_report();
    assert!(status.success(), "{report:#}");
    report
}

#[tokio::test]
async fn killing_one_process_of_each_role_under_load_loses_and_repeats_nothing() {
    let mut cluster = Cluster::start(&Stores::from_environment()).await;
    let load = cluster.load(&[
        "--videos",
        "20",
        "--viewers",
        "200",
        "--ws",
        "4",
        "--interactions",
        "200",
        "--comments",
        "30",
        "--duration",
        "60",
        "--seed",
        "7",
        "--rest-timeout",
        "60",
    ]);
    for victim in PROCESSES_KILLED {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster.process(victim).kill();
        // The time that the other processes need to take over.
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.process(victim).restart();
    }
    let report = finish_load(load, &cluster).await;
    assert_eq!(report["unacknowledged"], 0, "{report:#}");
    for process in &mut cluster.processes {
        assert!(process.runs(), "{} died by itself:\n{}", process.name(), process.log());
    }
}

#[tokio::test]
async fn gateways_started_first_take_events_that_are_counted_later() {
    let mut cluster = Cluster::new(&Stores::from_environment());
    cluster.start_gateways();
    let client = reqwest::Client::new();
    let like = serde_json::json!({"video_id": "first", "user_id": "ann", "type": "like"});
    wait::until("a gateway acknowledges before there is a consumer", Duration::from_secs(30), || async {
        let sent = client.post(format!("{}/interact", cluster.gateways[0])).json(&like).send().await.ok()?;
        (sent.status() == 202).then_some(())
    })
    .await;
    cluster.start_others();
    cluster.ready().await;
    wait::until("the event is counted, once", Duration::from_secs(30), || async {
        let list = wait::json(&format!("{}/videos", cluster.gateways[1]), Duration::from_secs(10)).await;
        (list["videos"][0]["video_id"] == "first" && list["videos"][0]["score"] == 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_process_drains_on_sigterm() {
    use liverank_e2e::process::Signal;
    let mut cluster = Cluster::start(&Stores::from_environment()).await;
    for process in &cluster.processes {
        process.signal(Signal::TERM);
    }
    for process in &mut cluster.processes {
        let status = process.wait(Duration::from_secs(40));
        assert_eq!(status.code(), Some(0), "{}:\n{}", process.name(), process.log());
    }
}

#[tokio::test]
async fn a_dead_reader_s_video_is_served_by_another_within_seconds() {
    let mut cluster = Cluster::start(&Stores::from_environment()).await;
    let client = reqwest::Client::new();
    let manager = cluster.managers[0].clone();
    let registered: serde_json::Value = client
        .post(format!("{manager}/register"))
        .json(&serde_json::json!({"videoid": "v"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let first = registered["readerUrl"].as_str().unwrap().to_owned();
    let at = cluster.readers.iter().position(|url| *url == first).unwrap();
    cluster.process(&format!("reader-{}", at + 1)).kill();
    wait::until("the video at another reader, at both managers", Duration::from_secs(10), || async {
        for manager in &cluster.managers {
            let resolved: serde_json::Value =
                client.get(format!("{manager}/resolve/v")).send().await.ok()?.json().await.ok()?;
            if resolved["readerUrl"].as_str()? == first {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn deletions_and_bans_survive_killed_processes() {
    let mut cluster = Cluster::start(&Stores::from_environment()).await;
    let moderated = Moderated::new(&cluster.gateways[0], &cluster.comments.clone()).await;
    let victims = ["consumer-1", "consumer-2", "comment-1", "comment-2", "reader-1", "reader-2", "reader-3"];
    for victim in victims {
        cluster.process(victim).kill();
        cluster.process(victim).restart();
    }
    for url in cluster.comments.iter().chain(&cluster.readers) {
        wait::json(&format!("{url}/health"), Duration::from_secs(30)).await;
    }
    moderated.check().await;
}

/// There are two processes of each role, so a trace has the expected chain of spans and may have others beside it.
#[tokio::test]
async fn one_post_is_one_trace_through_the_log_to_the_board_and_to_the_stream() {
    use liverank_e2e::process::Signal;
    let collector = Collector::start().await;
    // No trace is sampled by itself: every recorded trace was requested by the test, and must be recorded by every
    // process on its way.
    let flags = ["--otlp-endpoint", &collector.url, "--trace-ratio", "0"];
    let mut cluster = Cluster::start_with(&Stores::from_environment(), &flags).await;
    let (client, front) = (reqwest::Client::new(), cluster.gateways[0].clone());
    let mut stream = client.get(format!("{front}/connect?userid=ann&videoid=v")).send().await.unwrap();
    stream.chunk().await.unwrap().expect("the stream has begun");
    let like = serde_json::json!({"video_id": "v", "user_id": "ann", "type": "like"});
    let comment = serde_json::json!({"userid": "ben", "videoid": "v", "comment": "Hello!"});
    // The very first event gets onto the boards by a whole projection of the archive, not by its own span.
    assert!(client.post(format!("{front}/interact")).json(&like).send().await.unwrap().status().is_success());
    wait::until("the boards are made", Duration::from_secs(30), || async {
        let list = wait::json(&format!("{front}/videos"), Duration::from_secs(10)).await;
        (list["videos"][0]["video_id"] == "v").then_some(())
    })
    .await;
    let counted = ["consumer count", "consumer project"];
    let liked = [&["gateway POST /interact"][..], &counted, &["websocket show"]].concat();
    let commented = [&["gateway POST /comment", "comment POST /comment"][..], &counted].concat();
    let shown = [&commented[..], &["reader show"]].concat();
    let on_board = [&commented[..], &["websocket show"]].concat();
    for (path, body, ways) in
        [("/interact", &like, vec![liked]), ("/comment", &comment, vec![shown, on_board])]
    {
        let (trace, parent) = (format!("{:032x}", rand::random::<u128>()), "00f067aa0ba902b7");
        let sent = client.post(format!("{front}{path}")).json(body);
        let answer = sent.header("traceparent", format!("00-{trace}-{parent}-01")).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        let own = answer.headers()["traceparent"].to_str().unwrap().to_owned();
        assert!(
            own.starts_with(&format!("00-{trace}-")) && !own.contains(parent) && own.ends_with("-01"),
            "{own}"
        );
        for way in ways {
            collector.until_way(&trace, parent, &way).await;
        }
        let gateways = collector.of_trace(&trace).into_iter().filter(|span| span.parent == parent);
        let spans: Vec<_> = gateways.map(|span| span.span).collect();
        assert_eq!(spans, [own.split('-').nth(2).unwrap()], "the answer names the gateway's span");
    }
    // Spans that wait to be sent when a process ends are sent before it ends.
    let trace = format!("{:032x}", rand::random::<u128>());
    let sent = client
        .get(format!("{front}/videos"))
        .header("traceparent", format!("00-{trace}-{}-01", "1".repeat(16)));
    assert!(sent.send().await.unwrap().status().is_success());
    drop(stream);
    let gateway = cluster.process("gateway-1");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(Duration::from_secs(40)).code(), Some(0), "{}", gateway.log());
    collector.until_way(&trace, &"1".repeat(16), &["gateway GET /videos"]).await;
}
