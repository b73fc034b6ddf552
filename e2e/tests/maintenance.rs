//! Tests of `verify`, `rebuild`, `dlq` and `erase` on real stores, while the system serves under load.

use std::process::Output;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bson::doc;
use liverank_core::score::Weights;
use liverank_e2e::cluster::{Cluster, Stores};
use liverank_e2e::wait;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[path = "maintenance/erasure.rs"]
mod erasure;
#[path = "maintenance/half_lives.rs"]
mod half_lives;
#[allow(dead_code, reason = "the fault tests use the rest")]
#[path = "../faults/kafka.rs"]
mod kafka;
#[allow(dead_code, reason = "the fault tests use the rest")]
#[path = "../faults/mongo.rs"]
mod mongo;

/// The time limit of a command: it reads everything, on a machine that also runs the whole system.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(3);

/// Returns declarations of boards with an order, a half-life, weights of their own and windows. A rebuild also fills these
/// boards; `other_weights` does not change their own weights.
fn boards() -> &'static str {
    static BOARDS: LazyLock<String> = LazyLock::new(|| {
        let time_zone = wait::time_zone_far_from_midnight();
        format!(
            r#"[{{"name": "liked", "weights": {{"like": 1}}, "minimum": 1}}, {{"name": "hot", "order": "trending"}},
    {{"name": "soon", "order": "trending", "halfLifeMinutes": 5, "weights": {{"view": 1, "like": 3}}}},
    {{"name": "today", "window": "day", "timeZone": "{time_zone}", "keep": 1}}]"#
        )
    });
    &BOARDS
}

/// Returns flags that set every weight a thousandth above its default: with them every score has a fraction (except
/// multiples of 1,001), with the default ones none has.
fn other_weights() -> Vec<String> {
    let weights = serde_json::to_value(Weights::default()).expect("weights are JSON");
    let weights = weights.as_object().expect("weights have names").iter();
    let weights = weights.filter(|(name, _)| *name != "watch_threshold_ms");
    let flags = weights.map(|(name, value)| {
        let other = value.as_i64().expect("an integer") / 1000 * 1001;
        [format!("--weight-{}", name.replace('_', "-")), format!("{}.{:03}", other / 1000, other % 1000)]
    });
    flags.flatten().collect()
}

async fn run_command(cluster: &Cluster, args: &[&str]) -> (i32, String) {
    let output: Output =
        tokio::time::timeout(COMMAND_TIMEOUT, cluster.command(args)).await.expect("the command ends");
    let text =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("an exit code"), text)
}

async fn run_successfully(cluster: &Cluster, args: &[&str]) -> String {
    let (code, text) = run_command(cluster, args).await;
    assert_eq!(code, 0, "{args:?}: {text}");
    text
}

/// Runs `verify` and returns its report; panics if the exit code contradicts the report.
async fn run_verify(cluster: &Cluster, flags: &[&str]) -> Value {
    let args = [&["verify", "--json", "--log", "warn"], flags].concat();
    let output =
        tokio::time::timeout(COMMAND_TIMEOUT, cluster.command(&args)).await.expect("the command ends");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let code = i32::from(report["good"] != true);
    assert_eq!(output.status.code(), Some(code), "{report:#}");
    report
}

async fn expect_equal(cluster: &Cluster) -> Value {
    let report = run_verify(cluster, &["--boards", boards()]).await;
    assert_eq!(report["good"], true, "{report:#}");
    let compared = |board: &str| report["declared"][board]["videos"].as_u64().unwrap_or_default();
    assert!(compared("liked") >= 30 && compared("hot") >= 30 && compared("soon") >= 30, "{report:#}");
    let windows = report["declared"].as_object().expect("boards").keys();
    let windows: Vec<&String> = windows.filter(|name| name.starts_with("today ")).collect();
    assert_eq!(windows.len(), 2, "the one that runs and the one that is kept: {report:#}");
    assert!(windows.iter().any(|window| compared(window) >= 30), "{report:#}");
    assert_eq!((&report["differing"], &report["log"]["counted"]), (&json!(0), &json!(true)), "{report:#}");
    report
}

/// The number of lists that were seen, and the weights by which their scores were made.
#[derive(Debug, Default)]
struct SeenWeights {
    lists: usize,
    lists_by_default_weights: usize,
    by_other: usize,
    /// Times that the store of the lists was away for a moment (503).
    refused: usize,
}

fn note_weights_of(list: &Value, seen: &mut SeenWeights) {
    let videos = list["videos"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    assert!(!videos.is_empty(), "an empty list after {seen:?}");
    let thousandths = |video: &Value| (video["score"].as_f64().expect("a score") * 1000.0).round() as i64;
    let other = videos.iter().any(|video| thousandths(video) % 1000 != 0);
    let default =
        videos.iter().any(|video| thousandths(video) % 1000 == 0 && thousandths(video) % 1_001_000 != 0);
    assert!(!(other && default), "two sets of weights in one list: {list}");
    seen.lists += 1;
    seen.by_other += usize::from(other);
    seen.lists_by_default_weights += usize::from(default);
}

/// Requests the whole list again and again until `over`; returns the weights that were seen. A store that does not answer
/// in time on a busy machine is answered 503, seldom.
async fn watch_list(url: String, over: &AtomicBool) -> SeenWeights {
    let mut seen = SeenWeights::default();
    while !over.load(Relaxed) {
        let response = reqwest::get(&url).await.expect("an answer");
        if response.status() == 503 {
            seen.refused += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        assert_eq!(response.status(), 200);
        note_weights_of(&response.json().await.expect("a list"), &mut seen);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    seen
}

async fn rebuild_everything(cluster: &Cluster) {
    expect_equal(cluster).await;
    let other = other_weights();
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    for (what, flags) in
        [("redis", &[][..]), ("scores", &other[..]), ("scores", &[]), ("mongodb", &[]), ("redis", &[])]
    {
        let started = Instant::now();
        let told = run_successfully(cluster, &[&["rebuild", what], flags].concat()).await;
        println!("rebuild {what} {:?}: {:?}; {}", flags.get(1), started.elapsed(), told.trim());
        assert!(told.contains("filling the boards"), "no progress: {told}");
        let started = Instant::now();
        let report = expect_equal(cluster).await;
        println!(
            "verify: {:?}, {} events, cut {}",
            started.elapsed(),
            report["log"]["events"],
            report["cut"]
        );
    }
}

#[tokio::test]
async fn rebuilds_under_load_leave_everything_equal_and_lists_are_served_throughout() {
    let cluster = Cluster::start_with_boards(&Stores::from_environment(), boards()).await;
    let mut load = cluster.load(&[
        "--videos",
        "30",
        "--viewers",
        "60",
        "--ws",
        "2",
        "--interactions",
        "200",
        "--comments",
        "20",
        "--duration",
        "75",
        "--seed",
        "11",
        "--rest-timeout",
        "60",
    ]);
    let url = format!("{}/videos?limit=1000", cluster.gateways[0]);
    wait::until("thirty videos in the list", Duration::from_mins(1), || async {
        let list: Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
        (list["videos"].as_array()?.len() >= 30).then_some(())
    })
    .await;
    let over = AtomicBool::new(false);
    let rebuilding = async {
        rebuild_everything(&cluster).await;
        over.store(true, Relaxed);
    };
    let (seen, ()) = tokio::join!(watch_list(url.clone(), &over), rebuilding);
    println!("{seen:?}");
    assert!(seen.lists_by_default_weights > 0 && seen.by_other > 0 && seen.lists > 20, "{seen:?}");
    assert!(seen.refused <= seen.lists / 20, "lists are served throughout: {seen:?}");
    let status = tokio::time::timeout(Duration::from_mins(4), load.wait()).await.expect("the load ends");
    let report = cluster.load_report();
    assert!(status.expect("waiting for the load").success(), "{report:#}");
    expect_equal(&cluster).await;
    declared_boards_are_read(&cluster).await;
    differences_are_named_and_mended(&cluster).await;
}

/// Checks that the boards agree with the counters of a video.
async fn declared_boards_are_read(cluster: &Cluster) {
    let get = async |path: &str| wait::json(&format!("{}{path}", cluster.gateways[0]), COMMAND_TIMEOUT).await;
    let best = get("/videos?board=liked&limit=1").await["videos"][0].clone();
    let id = best["video_id"].as_str().expect("a video");
    // The boards' part of the answer is missing where they do not answer in time.
    let video = wait::until("the ranks of a video", COMMAND_TIMEOUT, || async {
        let video = get(&format!("/videos/{id}")).await;
        video["ranks"]["liked"].is_object().then_some(video)
    })
    .await;
    assert_eq!(best["score"].as_f64(), video["likes"].as_f64(), "{video}");
    assert_eq!(video["ranks"]["liked"]["rank"], 1, "{video}");
    let window = get("/videos?board=today").await["window"].clone();
    assert_eq!((&window["state"], &window["whole"]), (&json!("running"), &json!(true)), "{window}");
    let hottest = get("/videos?board=hot&limit=1").await["videos"][0]["video_id"].clone();
    assert_eq!(hottest, get("/videos?board=trending&limit=1").await["videos"][0]["video_id"]);
}

fn port_of_address(address: &str) -> u16 {
    let host = address.trim_start_matches("mongodb://").trim_start_matches("redis://");
    let host = host.split(['/', ',']).next().unwrap_or_default();
    host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port")
}

/// Sends one command to Redis, whose words contain no spaces, and returns the first line of the answer.
async fn redis_command(command: &str) -> String {
    let port = port_of_address(&Stores::from_environment().redis);
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connecting to Redis");
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{command}\r\n").as_bytes()).await.expect("writing to Redis");
    let mut answer = String::new();
    stream.read_line(&mut answer).await.expect("reading from Redis");
    assert!(!answer.starts_with('-'), "{command}: {answer}");
    answer
}

async fn connect_primary() -> mongo::Member {
    let set = mongo::ReplicaSet::new(vec![port_of_address(&Stores::from_environment().mongodb)]);
    set.wait_for_primary(Duration::from_secs(20)).await.expect("a primary").1
}

async fn spoil_video(cluster: &Cluster, collection: &str, video: &str, change: bson::Document) {
    let database = format!("{}video_db", cluster.prefix);
    let update = doc! { "update": collection, "updates": [{ "q": { "video_id": video }, "u": change }] };
    let answer = connect_primary().await.command(&database, update).await.expect("changing a video");
    assert_eq!(answer.get_i32("n"), Ok(1));
}

/// Returns the differences in a report as pairs of video id and field, sorted.
fn differing_fields(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let differences = report["differences"].as_array().expect("differences");
    let mut named: Vec<_> = differences
        .iter()
        .map(|difference| {
            (
                text(&difference["video_id"]),
                format!("{} {}", text(&difference["at"]), text(&difference["field"])),
            )
        })
        .collect();
    named.sort();
    named
}

async fn differences_are_named_and_mended(cluster: &Cluster) {
    let url = format!("{}/videos?limit=1000", cluster.gateways[0]);
    let list = wait::json(&url, COMMAND_TIMEOUT).await;
    let ids: Vec<&str> = (0..3).map(|at| list["videos"][at]["video_id"].as_str().expect("an id")).collect();
    let of = |video: usize, what: &str| (ids[video].to_owned(), what.to_owned());

    redis_command(&format!("ZINCRBY {}global_ranking 5 {}", cluster.prefix, ids[0])).await;
    redis_command(&format!("ZREM {}global_ranking {}", cluster.prefix, ids[1])).await;
    let report = run_verify(cluster, &[]).await;
    let mut expected = vec![of(0, "boards score"), of(1, "boards there")];
    expected.sort();
    assert_eq!(differing_fields(&report), expected, "{report:#}");
    for board in ["liked", "hot", "soon", "today"] {
        let problem = report["declared"][board]["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("declared to the consumers, and not here"), "{board}: {report:#}");
    }
    run_successfully(cluster, &["rebuild", "redis"]).await;
    expect_equal(cluster).await;
    let report =
        run_verify(cluster, &["--boards", r#"[{"name": "liked", "weights": {"like": 2}}]"#, "--without-log"])
            .await;
    let problem = report["declared"]["liked"]["problem"].as_str().unwrap_or_default();
    assert!(report["good"] == false && problem.contains("another declaration"), "{report:#}");

    for collection in ["videos", "windows"] {
        spoil_video(cluster, collection, ids[2], doc! { "$inc": { "views": 1_i64 } }).await;
    }
    let report = run_verify(cluster, &[]).await;
    // The score beside the counters and the score on the boards are still right.
    let views = [of(2, "archive views"), of(2, "archive views")];
    let mut expected = [vec![of(2, "archive score"), of(2, "boards score")], views.to_vec()].concat();
    expected.sort();
    assert_eq!(differing_fields(&report), expected, "{report:#}");
    run_successfully(cluster, &["rebuild", "mongodb"]).await;
    expect_equal(cluster).await;
}

#[tokio::test]
async fn dead_letters_are_listed_and_replayed_once() {
    let stores = Stores::from_environment();
    let cluster = Cluster::start(&stores).await;
    let name = format!("{}video_interactions", cluster.prefix);
    let port = port_of_address(&stores.kafka);
    let log = kafka::Topic::open(port, &name, 12).await.expect("the log");
    log.append(3, br#"{"video_id":"v","user_id":"u"}"#.to_vec()).await.expect("appending poison");
    let list = wait::until("the dead letter", Duration::from_mins(1), || async {
        let (code, text) = run_command(&cluster, &["dlq", "list", "--json", "--log", "warn"]).await;
        assert_eq!(code, 0, "{text}");
        let line: Value = serde_json::from_str(text.lines().next()?).ok()?;
        Some(line)
    })
    .await;
    assert_eq!(list["reason"], "type: is required", "{list:#}");
    assert_eq!(list["origin"][0], "3/0", "{list:#}");
    let (code, text) = run_command(&cluster, &["dlq", "replay", "--all"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("0 replayed, 1 stay") && text.contains("type: is required"), "{text}");

    // A letter that an earlier release could not read and this one can.
    let dead = kafka::Topic::open(port, &format!("{name}.dlq"), 1).await.expect("the dead letters");
    let offset = dead.end_offsets().await.expect("their end")[0].to_string();
    let like = br#"{"video_id":"late","user_id":"u","type":"like"}"#;
    dead.append(0, like.to_vec()).await.expect("appending a letter");
    for _ in 0..2 {
        let text =
            run_successfully(&cluster, &["dlq", "replay", "--partition", "0", "--offset", &offset]).await;
        assert!(text.contains("1 replayed, 0 stay"), "{text}");
    }
    // Both replays are in the log, and one of them counts.
    let report = wait::until("both counted", COMMAND_TIMEOUT, || async {
        let report = run_verify(&cluster, &[]).await;
        (report["log"]["events"] == 1 && report["log"]["repeats"] == 1).then_some(report)
    })
    .await;
    assert_eq!((&report["good"], &report["log"]["unreadable"]), (&json!(true), &json!(1)), "{report:#}");
    let video = wait::json(&format!("{}/videos/late", cluster.gateways[0]), COMMAND_TIMEOUT).await;
    assert_eq!(video["likes"], 1, "{video:#}");
    let (code, text) = run_command(&cluster, &["dlq", "replay", "--partition", "0", "--offset", "99"]).await;
    assert_eq!(code, 1, "{text}");
    assert_eq!(run_command(&cluster, &["dlq", "replay"]).await.0, 2, "a usage error");
    a_log_that_begins_late_is_told(&cluster).await;
}

/// Deletes all records of the log, as its retention would.
async fn delete_log_records(prefix: &str) {
    let brokers = vec![Stores::from_environment().kafka];
    let client = ClientBuilder::new(brokers).build().await.expect("connecting to Kafka");
    for partition in 0..12 {
        let topic = format!("{prefix}video_interactions");
        let opened = client.partition_client(topic, partition, UnknownTopicHandling::Error).await;
        let partition = opened.expect("a partition");
        let end = partition.get_offset(OffsetAt::Latest).await.expect("its end");
        if end > 0 {
            partition.delete_records(end, 10_000).await.expect("deleting records");
        }
    }
}

/// Checks a log whose records have expired: `verify` and `rebuild` report that they cannot be counted again, and
/// nothing is deleted.
async fn a_log_that_begins_late_is_told(cluster: &Cluster) {
    delete_log_records(&cluster.prefix).await;
    let report = run_verify(cluster, &[]).await;
    let problem = report["log"]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("no longer reaches back to offset 0"), "{report:#}");
    assert_eq!((&report["good"], &report["differing"]), (&json!(false), &json!(0)), "{report:#}");
    assert_eq!(run_verify(cluster, &["--without-log"]).await["good"], true);
    let (code, text) = run_command(cluster, &["rebuild", "mongodb"]).await;
    assert!(code == 1 && text.contains("refused: the log no longer reaches back"), "{text}");
    run_successfully(cluster, &["rebuild", "redis"]).await;
    assert_eq!(run_verify(cluster, &["--without-log"]).await["good"], true);
}
