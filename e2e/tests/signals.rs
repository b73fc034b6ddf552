//! Tests of metrics: every metric in docs/metrics.md exists and changes under load, a real Prometheus accepts all of
//! them, and requests of strangers do not create new series.

mod signals {
    pub mod scrape;
    pub mod work;
}

use std::time::{Duration, Instant};

use liverank_core::canary;
use liverank_e2e::collector::Collector;
use liverank_e2e::patient::answer_of;
use liverank_e2e::process::Signal;
use liverank_e2e::prometheus::Prometheus;
use liverank_e2e::up::{PublicPort, Up};
use liverank_e2e::wait;
use serde_json::json;
use signals::scrape::{Scrape, document};
use signals::work;

const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Metrics that change only after a failure or seldom, each with the reason why it does not change here. All others
/// must change.
const QUIET_METRICS: &[(&str, &str)] = &[
    ("liverank_comment_unavailable_total", "the log is never away"),
    ("liverank_comment_restricted_total", "nobody is banned"),
    ("liverank_comment_ruled_total", "there are no rules of comments"),
    ("liverank_comment_held_total", "there are no rules of comments"),
    ("liverank_comment_masked_total", "there are no rules of comments"),
    ("liverank_comment_shadowed_total", "nobody is shadow-banned"),
    ("liverank_comment_restrictions", "nobody is banned"),
    ("liverank_comment_hook_comments_total", "there is no hook"),
    ("liverank_comment_hook_seconds", "there is no hook"),
    ("liverank_comment_hook_away", "there is no hook"),
    ("liverank_comment_registrations_dropped_total", "a queue of thousands is never full"),
    ("liverank_consumer_events_poison_total", "the front door lets nothing in that cannot be read"),
    ("liverank_consumer_batches_fenced_total", "there is one consumer"),
    ("liverank_consumer_export_records_total", "nothing is exported"),
    ("liverank_consumer_export_failures_total", "nothing is exported"),
    ("liverank_consumer_repairs_total", "the boards begin empty, as the archive does"),
    ("liverank_gateway_turned_away_total", "there is room for everybody"),
    ("liverank_gateway_auth_failures_total", "nobody is asked for a token"),
    ("liverank_gateway_sessions_ended_total", "nobody is asked for a token"),
    ("liverank_gateway_canary_failures_total", "the system is well"),
    ("liverank_gateway_canary_interval_seconds", "a setting"),
    ("liverank_gateway_limited_total", "limits are far away"),
    ("liverank_gateway_new_videos_refused_total", "limits are far away"),
    (
        "liverank_manager_loads_total",
        "all assignments are loaded at the start, and again after a lost connection",
    ),
    ("liverank_websocket_snapshots_total", "one is taken at the start, and again after a lost change"),
    ("liverank_manager_videos_removed_total", "unwatched videos are let go after an hour"),
    ("liverank_manager_heartbeats_refused_total", "readers are who they say"),
    ("liverank_manager_warm_failures_total", "readers are well"),
    ("liverank_manager_unserved_total", "readers are well"),
    ("liverank_manager_registrations_refused_total", "limits are far away"),
    ("liverank_reader_drain_waits_for", "no reader leaves"),
    ("liverank_reader_gaps_total", "nobody falls behind"),
    ("liverank_reader_ended_for_others_total", "a reader has a place for everybody"),
    ("liverank_reader_repeats_total", "the bus brings each comment once"),
    ("liverank_reader_out_of_order_total", "the bus keeps the order"),
    ("liverank_reader_backfilled_total", "the bus loses nothing"),
    ("liverank_reader_lost_total", "the bus loses nothing"),
    ("liverank_reader_ring_crowded_out_total", "comments are short"),
    ("liverank_reader_messages_to_other_zones_total", "nothing is in a zone"),
    ("liverank_traces_over_limit_total", "few traces are asked for"),
    ("liverank_process_confined_panics_total", "there is no mistake to run into"),
    ("liverank_http_connections_ended_for_others_total", "a port has a place for everybody"),
];

#[tokio::test]
async fn every_documented_metric_is_there_and_moves_under_load() {
    let collector = Collector::start().await;
    let declared = ["--boards", r#"[{"name": "liked"}]"#];
    let flags = ["--canary-seconds=1", "--otlp-endpoint", &collector.url, declared[0], declared[1]];
    let up = Up::start_with(2, &flags).await;
    // The metrics of partitions appear when the consumer first reads its lag.
    let before = wait::until("the consumer tells its lag", TEST_TIMEOUT, || async {
        let scrape = Scrape::fetch(up.admin()).await;
        scrape.has_metric("liverank_consumer_lag_records").then_some(scrape)
    })
    .await;
    work::cause_all_metrics(&up).await;
    let quiet = |name: &str| QUIET_METRICS.iter().any(|(it, _)| *it == name);
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let after = Scrape::fetch(up.admin()).await;
        let still: Vec<String> =
            after.unchanged_since(&before).into_iter().filter(|name| !quiet(name)).collect();
        if still.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "these have not moved: {still:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Families without samples are not exported, so the reference is made from a system that has worked.
    let after = Scrape::fetch(up.admin()).await;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        after.write();
    }
    assert_eq!(after.document(), document().0, "docs/metrics.md is another: UPDATE_DOCS=1 writes it anew");
    for (name, _) in QUIET_METRICS {
        assert!(after.has_metric(name), "{name} is no metric, and stands among those that are quiet");
    }
}

/// The paths that a canary measures.
const CANARY_WAYS: [&str; 3] = ["interaction_to_board", "interaction_to_socket", "comment_to_stream"];
/// The reasons why a measurement cannot begin.
const CANARY_FAILURES: [&str; 3] = ["no_stream", "no_socket", "log_unavailable"];
/// The number of times that three measurements each way are awaited, of which one must be without failures: a part that
/// starts late on a busy machine is one.
const MAX_CANARY_TRIES: usize = 4;

fn canary_count(scrape: &Scrape, metric: &str, label: &str) -> Option<u64> {
    scrape.value(&format!("liverank_gateway_canary_{metric}{{{label}}}")).map(|value| value as u64)
}

/// Waits until there are three more measurements each way than `before`; returns the metrics then.
async fn three_more_measurements(up: &Up, before: &Scrape) -> Scrape {
    let count = |scrape: &Scrape, way| {
        canary_count(scrape, "seconds_count", &format!("way=\"{way}\"")).unwrap_or_default()
    };
    wait::until("three measurements each way", TEST_TIMEOUT, || async {
        let scrape = Scrape::fetch(up.admin()).await;
        CANARY_WAYS.into_iter().all(|way| count(&scrape, way) >= count(before, way) + 3).then_some(scrape)
    })
    .await
}

/// Waits for three measurements each way between which none failed to begin; returns the metrics then.
async fn measured_without_failures(up: &Up) -> Scrape {
    let failures = |scrape: &Scrape| {
        CANARY_FAILURES.map(|reason| canary_count(scrape, "failures_total", &format!("reason=\"{reason}\"")))
    };
    let mut before = wait::until("the canary's series", TEST_TIMEOUT, || async {
        let scrape = Scrape::fetch(up.admin()).await;
        failures(&scrape).into_iter().all(|count| count.is_some()).then_some(scrape)
    })
    .await;
    for _ in 0..MAX_CANARY_TRIES {
        let after = three_more_measurements(up, &before).await;
        if failures(&after) == failures(&before) {
            return after;
        }
        before = after;
    }
    panic!("measurements fail to begin: {:?} of {CANARY_FAILURES:?}", failures(&before));
}

#[tokio::test]
async fn the_canary_measures_three_paths_and_is_hidden() {
    let mut up = Up::start_with(2, &["--canary-seconds=1"]).await;
    let scrape = measured_without_failures(&up).await;
    // The lists of the canary are requested only by name and by its owner.
    for way in ["interaction_to_socket", "comment_to_stream"] {
        let in_time = canary_count(&scrape, "seconds_bucket", &format!("le=\"40.96\",way=\"{way}\""));
        assert!(in_time >= Some(3), "{way}: {in_time:?}");
    }
    for board in ["global", "trending"] {
        let list = wait::until("a list", TEST_TIMEOUT, || async {
            let list = up.get(PublicPort::Gateway, &format!("/videos?board={board}")).await;
            list["videos"].is_array().then_some(list)
        })
        .await;
        assert_eq!((&list["videos"], &list["total"]), (&json!([]), &json!(0)), "{board}");
    }
    let statistics = wait::until("the reports", TEST_TIMEOUT, || async {
        let statistics = up.get(PublicPort::Gateway, "/statistics").await;
        let reported =
            statistics["readerApis"]["totalReaders"] == 2 && !statistics["readerApiManager"].is_null();
        reported.then_some(statistics)
    })
    .await;
    assert_eq!(statistics["readerApis"]["totalActiveConnections"], 0);
    assert_eq!(statistics["readerApis"]["totalMessagesSent"], 0);
    assert_eq!(statistics["storedComments"]["totalComments"], 0);
    // `calm` is the video with which `Up` checks that the system works.
    assert_eq!(up.get(PublicPort::Manager, "/health").await["registeredVideos"], 1);
    let operate = up.get(PublicPort::Gateway, "/operate").await;
    let placement = &operate["placement"];
    assert_eq!((&placement["viewers"], &placement["videos_watched"]), (&json!(0), &json!(0)), "{operate}");
    for shown in [&statistics, &operate] {
        assert!(shown.is_object() && !shown.to_string().contains(canary::CANARY_ID), "{shown}");
    }
    let like = json!({"video_id": canary::CANARY_ID, "user_id": "mallory", "type": "like"});
    let comment = json!({"userid": "mallory", "videoid": canary::CANARY_ID, "comment": "Buy!"});
    for (path, body, field) in [("/interact", like, "video_id"), ("/comment", comment, "videoid")] {
        let (status, refusal) = up.post(path, &body).await;
        assert_eq!((status, &refusal["field"]), (400, &json!(field)), "{path}: {refusal}");
    }
    work::canary_is_refused(&up).await;
    up.process.signal(Signal::TERM);
    up.process.wait(TEST_TIMEOUT);
    let verify = ["verify", "--json", "--data-dir", up.data(), "--log", "warn"];
    let verify =
        std::process::Command::new(liverank_e2e::binary()).args(verify).output().expect("running it");
    let report: serde_json::Value = serde_json::from_slice(&verify.stdout).expect("a report");
    assert!(verify.status.success() && report["videos"] == 0 && report["log"]["counted"] == true, "{report}");
}

#[tokio::test]
async fn strangers_cannot_add_metric_series() {
    let up = Up::start().await;
    work::send_hostile_requests(&up, 0..200).await;
    let before = Scrape::fetch(up.admin()).await;
    work::send_hostile_requests(&up, 200..1_000).await;
    let after = Scrape::fetch(up.admin()).await;
    // The system's own processes send reports and heartbeats meanwhile, and may use a route for the first time.
    let new = after.series_beside(&before);
    // A part that is away for a moment on a busy machine is answered 503 at a route for the first time, too.
    let is_of_strangers =
        |series: &str| series.contains(r#"service="gateway""#) && !series.contains(r#"status="5xx""#);
    let of_strangers: Vec<&String> = new.iter().filter(|series| is_of_strangers(series)).collect();
    assert!(of_strangers.is_empty(), "800 more hostile requests made new series: {of_strangers:?}");
    assert!(new.len() < 200, "{} new series: {new:?}", new.len());
    assert!(after.count() < 3_000, "{} series", after.count());
}

#[tokio::test]
async fn a_real_prometheus_scrapes_every_metric() {
    let up = Up::start_with(2, &[]).await;
    let prometheus = Prometheus::start(&[("up", up.admin())]);
    // Prometheus rejects a whole scrape if one of its lines is wrong.
    wait::until("a scrape", TEST_TIMEOUT, || async {
        prometheus.value(r#"up{job="liverank"}"#).await.filter(|up| *up > 0.5)
    })
    .await;
    // Two readers share a family. A scrape that takes longer than a second makes all series absent until the next one.
    wait::until("both readers", TEST_TIMEOUT, || async {
        prometheus.value("count(liverank_reader_capacity)").await.filter(|count| (*count - 2.0).abs() < 0.5)
    })
    .await;
    assert!(up.get(PublicPort::Gateway, "/videos").await.is_object());
    wait::until("the request", TEST_TIMEOUT, || async {
        let request = r#"liverank_http_requests_total{service="gateway",route="/videos",status="2xx"}"#;
        prometheus.value(request).await
    })
    .await;
}

#[tokio::test]
async fn latencies_name_recorded_traces_which_a_real_prometheus_keeps() {
    let collector = Collector::start().await;
    let up = Up::start_with(1, &["--otlp-endpoint", &collector.url, "--trace-ratio=0"]).await;
    let prometheus = Prometheus::start(&[("up", up.admin())]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let post = async |flags: &str, path: &str, body: serde_json::Value| {
        let url = format!("{}{path}", up.url(PublicPort::Gateway));
        let request = reqwest::Client::new().post(url).json(&body);
        let request = request.header("traceparent", format!("00-{trace}-b7ad6b7169203331-{flags}"));
        assert!(answer_of(request).await.status().is_success(), "{path}");
    };
    let like = json!({"video_id": "cats", "user_id": "ann", "type": "like"});
    // A request whose trace is not recorded names none.
    post("00", "/interact", like.clone()).await;
    let before = reqwest::get(format!("http://{}/metrics", up.admin())).await.expect("the metrics");
    assert!(!before.text().await.expect("a text").contains("trace_id"));
    post("01", "/comment", json!({"userid": "ann", "videoid": "cats", "comment": "Hello!"})).await;
    for (metric, labels) in [
        ("liverank_http_request_seconds_bucket", r#"{service="gateway",route="/interact"}"#),
        ("liverank_comment_append_seconds_bucket", ""),
        ("liverank_consumer_board_freshness_seconds_bucket", ""),
    ] {
        // Each time with another like: one that gets onto the boards by a repair from the archive is in no exemplar.
        wait::until(metric, TEST_TIMEOUT, || async {
            post("01", "/interact", like.clone()).await;
            let exemplars = prometheus.exemplars(&format!("{metric}{labels}")).await?;
            let of_trace = |exemplar: &serde_json::Value| exemplar["labels"]["trace_id"] == trace;
            exemplars.iter().any(of_trace).then_some(())
        })
        .await;
    }
}
