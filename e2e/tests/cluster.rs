//! Tests of several processes for each role on a real Kafka, Redis and MongoDB, in which processes are killed under
//! load.

use std::time::Duration;

use liverank_e2e::cluster::{Cluster, Stores};
use liverank_e2e::collector::Collector;
use liverank_e2e::moderation::ModerationCheck;
use liverank_e2e::patient::{TextStream, answer_of};
use liverank_e2e::prometheus::Prometheus;
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
    let boards = format!(
        r#"[{{"name": "liked", "weights": {{"like": 1}}}}, {{"name": "today", "window": "day", "timeZone": "{}"}}]"#,
        wait::time_zone_far_from_midnight()
    );
    let mut cluster = Cluster::start_with_boards(&Stores::from_environment(), &boards).await;
    let load = cluster.load(&[
        "--moderation",
        "6",
        "--boards",
        "trending,liked,today",
        "--board-reads",
        "30",
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
    expect_moderation_and_reads(&report);
    for process in &mut cluster.processes {
        assert!(process.is_running(), "{} died by itself:\n{}", process.name(), process.log());
    }
}

/// Checks that the load moderated and read boards: nothing was refused but what a killed process could not answer. A
/// busy machine did ten of the rarest kind.
fn expect_moderation_and_reads(report: &serde_json::Value) {
    let moderation = &report["moderation"];
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    assert!(number(&moderation["actions"]) > 100 && moderation["refused"] == 0, "{report:#}");
    assert!(number(&moderation["in_force"]["count"]) > 30, "{report:#}");
    assert_eq!(moderation["told"]["count"], moderation["by_kind"]["delete"], "{report:#}");
    for kind in ["pin", "delete", "ban", "mute", "shadow", "release", "reject", "dismiss"] {
        assert!(number(&moderation["by_kind"][kind]) >= 5, "{kind}: {report:#}");
    }
    for board in ["trending", "liked", "today"] {
        let reads = &report["boards"][board];
        assert!(number(&reads["latency"]["count"]) > 200, "{report:#}");
        let refused = reads["refused"].as_object().cloned().unwrap_or_default();
        assert!(refused.keys().all(|status| status == "0" || status.starts_with('5')), "{report:#}");
    }
}

#[tokio::test]
async fn gateways_started_first_take_events_that_are_counted_later() {
    let mut cluster = Cluster::new(&Stores::from_environment());
    cluster.start_gateways();
    let client = reqwest::Client::new();
    // A like that is answered late may be in the log all the same: it has an id, so that it counts once.
    let like =
        serde_json::json!({"video_id": "first", "user_id": "ann", "type": "like", "event_id": "the-first"});
    wait::until("a gateway acknowledges before there is a consumer", Duration::from_secs(30), || async {
        let sent = client.post(format!("{}/interact", cluster.gateways[0])).json(&like).send().await.ok()?;
        (sent.status() == 202).then_some(())
    })
    .await;
    cluster.start_others();
    cluster.wait_until_ready().await;
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
    let register = client.post(format!("{manager}/register")).json(&serde_json::json!({"videoid": "v"}));
    let registered: serde_json::Value = answer_of(register).await.json().await.unwrap();
    let first = registered["readerUrl"].as_str().unwrap().to_owned();
    let at = cluster.readers.iter().position(|url| *url == first).unwrap();
    cluster.process(&format!("reader-{}", at + 1)).kill();
    // Five seconds, as the managers' own tests have it; the rest is for a busy machine.
    wait::until("the video at another reader, at both managers", Duration::from_secs(20), || async {
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
    let moderated = ModerationCheck::new(&cluster.gateways[0], &cluster.comments.clone()).await;
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

/// The number of posts of which one must be a whole trace: a post whose video gets onto the boards by a repair from the
/// archive, as after a slow answer of a store, has no span of its own there.
const MAX_TRACED_POSTS: usize = 4;
/// The id of the span of the client that posts.
const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// Posts with a trace of its own each time, until a trace has all these chains of spans below [`CALLER_SPAN`]. Returns the
/// id of that trace, and the `traceparent` of the answer.
async fn post_until_traced(
    collector: &Collector,
    url: &str,
    body: &serde_json::Value,
    ways: &[Vec<&str>],
) -> (String, String) {
    for _ in 0..MAX_TRACED_POSTS {
        let trace = format!("{:032x}", rand::random::<u128>());
        let sent = reqwest::Client::new().post(url).json(body);
        let sent = sent.header("traceparent", format!("00-{trace}-{CALLER_SPAN}-01")).send();
        let answer = sent.await.expect("an answer");
        if answer.status() == 503 {
            continue;
        }
        assert!(answer.status().is_success(), "{}", answer.status());
        let own = answer.headers()["traceparent"].to_str().expect("a text").to_owned();
        assert!(
            own.starts_with(&format!("00-{trace}-")) && !own.contains(CALLER_SPAN) && own.ends_with("-01"),
            "{own}"
        );
        let missing = collector.missing_spans(&trace, CALLER_SPAN, ways).await;
        if missing.is_empty() {
            return (trace, own);
        }
        println!("{url}: {missing:?} are not in their places in {:#?}", collector.of_trace(&trace));
    }
    panic!("no trace with all of its spans at {url}");
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
    let mut stream = TextStream::open(&client, &format!("{front}/connect?userid=ann&videoid=v")).await;
    // It is read all the time: a stream that ended would be shown nothing more.
    let reading = tokio::spawn(async move {
        loop {
            stream.read_on().await;
        }
    });
    let like = serde_json::json!({"video_id": "v", "user_id": "ann", "type": "like"});
    let comment = serde_json::json!({"userid": "ben", "videoid": "v", "comment": "Hello!"});
    // The very first event gets onto the boards by a whole projection of the archive, not by its own span.
    assert!(answer_of(client.post(format!("{front}/interact")).json(&like)).await.status().is_success());
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
        let (trace, own) = post_until_traced(&collector, &format!("{front}{path}"), body, &ways).await;
        let gateways = collector.of_trace(&trace).into_iter().filter(|span| span.parent == CALLER_SPAN);
        let spans: Vec<_> = gateways.map(|span| span.span_id).collect();
        assert_eq!(spans, [own.split('-').nth(2).unwrap()], "the answer names the gateway's span");
    }
    // Spans that wait to be sent when a process ends are sent before it ends.
    let trace = format!("{:032x}", rand::random::<u128>());
    let sent = client
        .get(format!("{front}/videos"))
        .header("traceparent", format!("00-{trace}-{}-01", "1".repeat(16)));
    assert!(answer_of(sent).await.status().is_success());
    reading.abort();
    let gateway = cluster.process("gateway-1");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(Duration::from_secs(40)).code(), Some(0), "{}", gateway.log());
    collector.wait_for_span_chain(&trace, &"1".repeat(16), &["gateway GET /videos"]).await;
}

/// Documented metrics of which a system that is well, and does only what this test has it do, has no series yet.
const UNSEEN_METRICS: &[(&str, &str)] = &[
    ("liverank_gateway_canary_seconds", "the canaries are off here"),
    ("liverank_gateway_canary_failures_total", "the canaries are off here"),
    ("liverank_gateway_reroutes_total", "no viewer is moved"),
    ("liverank_http_refusals_total", "nothing is refused"),
    ("liverank_reader_resumes_total", "nobody comes back"),
];

/// The parts of docs/metrics.md that belong to no service alone, and what has them: a part with the name of a role belongs
/// to processes of that role.
const PARTS_OF_OTHERS: [&str; 2] = ["operator", "tls"];

#[tokio::test]
async fn prometheus_has_every_documented_metric_of_every_process() {
    let collector = Collector::start().await;
    let mut cluster = Cluster::new(&Stores::from_environment());
    cluster.start_with_signals(&collector.url).await;
    let admins = cluster.admins.clone();
    let targets: Vec<(&str, &str)> =
        admins.iter().map(|(role, admin)| (role.as_str(), admin.as_str())).collect();
    let prometheus = Prometheus::start(&targets);
    let flags = [
        "--videos",
        "5",
        "--viewers",
        "20",
        "--ws",
        "4",
        "--interactions",
        "50",
        "--comments",
        "10",
        "--duration",
        "5s",
    ];
    finish_load(cluster.load(&flags), &cluster).await;
    wait::until("a scrape of each process", Duration::from_mins(1), || async {
        prometheus.value("sum(max_over_time(up[1m]))").await.filter(|up| *up > targets.len() as f64 - 0.5)
    })
    .await;
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"))
        .expect("the reference");
    let documented: Vec<(&str, &str)> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `liverank_")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap_or_default()))
        .filter(|(name, _)| !PARTS_OF_OTHERS.iter().any(|part| name.starts_with(&format!("{part}_"))))
        .collect();
    assert!(documented.len() > 100, "{} metrics in docs/metrics.md", documented.len());
    let query = |name: &str, kind: &str| {
        let part = name.split('_').next().unwrap_or_default();
        let of_role = admins.iter().any(|(role, _)| role == part);
        let sample = if kind == "histogram" { "_count" } else { "" };
        let role = if of_role { format!("{{role=\"{part}\"}}") } else { String::new() };
        // A scrape that takes longer than a second makes all series of a process absent until the next one.
        format!("count(last_over_time(liverank_{name}{sample}{role}[1m]))")
    };
    let missing = wait::until("every metric", Duration::from_mins(1), || async {
        let mut missing = Vec::new();
        for (name, kind) in &documented {
            if prometheus.value(&query(name, kind)).await.is_none() {
                missing.push(format!("liverank_{name}"));
            }
        }
        let expected = missing.iter().all(|name| UNSEEN_METRICS.iter().any(|(it, _)| it == name));
        if expected {
            Some(missing)
        } else {
            eprintln!("missing: {missing:?}");
            None
        }
    })
    .await;
    assert!(missing.len() <= UNSEEN_METRICS.len(), "{missing:?}");
    // Every process tells of itself what all of them have.
    for common in ["liverank_process_confined_panics_total", "liverank_process_ignored_settings"] {
        wait::until(common, Duration::from_mins(1), || async {
            let count = prometheus.value(&format!("count(last_over_time({common}[1m]))")).await?;
            ((count - targets.len() as f64).abs() < 0.5).then_some(())
        })
        .await;
    }
}
