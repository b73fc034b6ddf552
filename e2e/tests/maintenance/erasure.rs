//! A test of `erase user` while the system serves: it is killed in the middle, run again, and the archive is rebuilt
//! from the log.

use std::time::Duration;

use bson::{Document, doc};
use liverank_core::comment::NOBODY_ID;
use liverank_e2e::cluster::{Cluster, Stores};
use liverank_e2e::patient::{self, TextStream, answer_of};
use liverank_e2e::wait;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::{connect_primary, kafka, port_of_address, redis_command, run_successfully};

/// The id of the erased user, which occurs in no other text.
const ERASED_USER: &str = "erin.who-goes";
const EFFECT_TIMEOUT: Duration = Duration::from_mins(1);
const VIDEO_COUNT: usize = 8;
/// The number of comments by each of two users on each video.
const COMMENTS_A_USER: usize = 30;

async fn post_comment(cluster: &Cluster, video: &str, user: &str, text: &str) -> (StatusCode, Value) {
    patient::post_comment(&Client::new(), &cluster.gateways[0], user, video, text).await
}

async fn post_as_moderator(cluster: &Cluster, path: &str, body: Value) {
    let url = format!("{}/moderation/{path}", cluster.gateways[0]);
    assert_eq!(answer_of(Client::new().post(url).json(&body)).await.status(), StatusCode::ACCEPTED, "{path}");
}

async fn open_stream(cluster: &Cluster, query: &str) -> TextStream {
    let url = format!("{}/connect?userid=watcher&videoid=v0&events=deleted{query}", cluster.gateways[0]);
    TextStream::open(&Client::new(), &url).await
}

fn deletion_count(text: &str) -> usize {
    text.matches("event: deleted").count()
}

/// Returns all documents that contain the user id, with the name of their collection; there must be none.
async fn named_in_mongodb(cluster: &Cluster) -> Vec<String> {
    let database = format!("{}video_db", cluster.prefix);
    let mut member = connect_primary().await;
    let list = member
        .command(&database, doc! { "listCollections": 1, "nameOnly": true })
        .await
        .expect("collections");
    let batch = list
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"))
        .expect("a batch")
        .clone();
    let mut named = Vec::new();
    for collection in batch.iter().filter_map(|it| it.as_document()?.get_str("name").ok()) {
        let found = member
            .command(&database, doc! { "find": collection, "batchSize": 100_000 })
            .await
            .expect("documents");
        let cursor = found.get_document("cursor").expect("a cursor");
        let found: Vec<&Document> = cursor
            .get_array("firstBatch")
            .expect("a batch")
            .iter()
            .filter_map(|it| it.as_document())
            .collect();
        named.extend(
            found
                .iter()
                .filter(|it| it.to_string().contains(ERASED_USER))
                .map(|it| format!("{collection}: {it}")),
        );
    }
    named
}

/// Returns the number of keys in Redis whose values contain the user id, as Redis's answer `:N`.
async fn named_in_redis(cluster: &Cluster) -> String {
    let script = format!(
        "local n = 0 for _, key in ipairs(redis.call('KEYS', '{}*')) do local kind = redis.call('TYPE', key).ok \
         local all = {{}} if kind == 'stream' then all = redis.call('XRANGE', key, '-', '+') \
         elseif kind == 'hash' then all = redis.call('HGETALL', key) elseif kind == 'zset' then \
         all = redis.call('ZRANGE', key, 0, -1) elseif kind == 'string' then all = {{redis.call('GET', key)}} end \
         if string.find(cjson.encode(all), '{ERASED_USER}', 1, true) then n = n + 1 end end return n",
        cluster.prefix
    );
    redis_command(&format!("EVAL \"{script}\" 0")).await.trim().to_owned()
}

/// Returns the texts of a video's comments, as soon as there are so many: the last may be counted only now.
async fn history_texts(cluster: &Cluster, video: &str, count: usize) -> Vec<String> {
    let url = format!("{}/comments/{video}?limit=1000", cluster.gateways[1]);
    wait::until(&format!("{count} comments on {video}"), EFFECT_TIMEOUT, || async {
        let page = wait::json(&url, EFFECT_TIMEOUT).await;
        let lines = page["comments"].as_array()?.iter();
        let texts: Vec<String> =
            lines.filter_map(|line| line["comment"].as_str().map(str::to_owned)).collect();
        (texts.len() >= count).then_some(texts)
    })
    .await
}

async fn write_everything(cluster: &Cluster) {
    for at in 0..COMMENTS_A_USER {
        for video in (0..VIDEO_COUNT).map(|video| format!("v{video}")) {
            for user in [ERASED_USER, "ben"] {
                let (status, answer) =
                    post_comment(cluster, &video, user, &format!("{user} says {at}")).await;
                assert_eq!(status, StatusCode::CREATED, "{answer}");
            }
        }
    }
    report_by_user(cluster).await;
    post_as_moderator(cluster, "rules", json!({"videoid": "held", "rules": {"hold_all": true}})).await;
    wait::until("a comment that waits", EFFECT_TIMEOUT, || async {
        let (status, _) = post_comment(cluster, "held", ERASED_USER, "waits").await;
        (status == StatusCode::ACCEPTED).then_some(())
    })
    .await;
    let topic = format!("{}video_interactions", cluster.prefix);
    let log = kafka::Topic::open(port_of_address(&Stores::from_environment().kafka), &topic, 12)
        .await
        .expect("the log");
    for user in [ERASED_USER, "ben"] {
        log.append(3, json!({"video_id": "v", "user_id": user}).to_string().into_bytes())
            .await
            .expect("poison");
    }
}

/// Reports a comment of another user as the erased user, with a text that contains the user id.
async fn report_by_user(cluster: &Cluster) {
    let (_, answer) = post_comment(cluster, "v1", "ben", "ben says what is reported").await;
    let id = answer["comment"]["id"].as_str().expect("an id");
    let url = format!("{}/comments/v1/{id}/reports", cluster.gateways[0]);
    wait::until("the comment is reported", EFFECT_TIMEOUT, || async {
        let body =
            json!({"userid": ERASED_USER, "reason": "other", "text": format!("{ERASED_USER} says so")});
        let answer = Client::new().post(&url).json(&body).send().await.ok()?;
        (answer.status() == StatusCode::ACCEPTED).then_some(())
    })
    .await;
    wait::until("the report is in the queue", EFFECT_TIMEOUT, || async {
        only_report(cluster).await.is_object().then_some(())
    })
    .await;
}

/// Returns the only report in the queue; null if there is none.
async fn only_report(cluster: &Cluster) -> Value {
    let url = format!("{}/moderation/reports", cluster.gateways[0]);
    wait::json(&url, EFFECT_TIMEOUT).await["comments"][0]["reports"][0].clone()
}

async fn dead_letters(cluster: &Cluster) -> Vec<Value> {
    let text = run_successfully(cluster, &["dlq", "list", "--json", "--log", "warn"]).await;
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn a_user_is_erased_and_does_not_come_back() {
    let cluster = Cluster::start(&Stores::from_environment()).await;
    let mut viewer = open_stream(&cluster, "").await;
    write_everything(&cluster).await;
    let last = format!("ben says {}", COMMENTS_A_USER - 1);
    viewer.read_until(&last).await;
    wait::until("both dead letters", EFFECT_TIMEOUT, || async {
        (dead_letters(&cluster).await.len() == 2).then_some(())
    })
    .await;
    let first = viewer.text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    let start = format!("{}-0", first.rsplit_once('-').expect("a numbering").0);

    // The command is killed once a viewer has been told of the first deletion, and is run again.
    let mut killed = cluster.spawn_command(&["erase", "user", ERASED_USER]);
    viewer.read_until("event: deleted").await;
    killed.start_kill().expect("killing it");
    killed.wait().await.expect("its end");
    let told = run_successfully(&cluster, &["erase", "user", ERASED_USER, "--reason", "asked for it"]).await;
    println!("{told}");
    assert!(
        told.contains("what stays:") && told.contains("for good, for the log has no retention"),
        "{told}"
    );

    viewer.read_until_there("every deletion", |text| deletion_count(text) >= COMMENTS_A_USER).await;
    assert_eq!(deletion_count(&viewer.text), COMMENTS_A_USER, "each is told once");
    check_erased(&cluster, &start).await;
    let left = dead_letters(&cluster).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0]["begins"].as_str().expect("its beginning").contains("ben"), "{left:?}");
    let log = wait::until("the erasure in the log", EFFECT_TIMEOUT, || async {
        let log = wait::json(&format!("{}/moderation/log", cluster.gateways[0]), EFFECT_TIMEOUT).await;
        let last = &log["actions"][0];
        (last["action"] == "erase_user" && last["reason"] == "asked for it").then_some(log)
    })
    .await;
    assert!(!log.to_string().contains(ERASED_USER), "{log:#}");

    run_successfully(&cluster, &["rebuild", "mongodb"]).await;
    check_erased(&cluster, &start).await;
}

/// Checks that neither archive, Redis, history nor a stream from the beginning has the user id or the user's comments.
async fn check_erased(cluster: &Cluster, start: &str) {
    let named = named_in_mongodb(cluster).await;
    assert!(named.is_empty(), "{named:#?}");
    wait::until("no key with the name in Redis", EFFECT_TIMEOUT, || async {
        (named_in_redis(cluster).await == ":0").then_some(())
    })
    .await;
    for video in (0..VIDEO_COUNT).map(|video| format!("v{video}")) {
        let count = if video == "v1" { COMMENTS_A_USER + 1 } else { COMMENTS_A_USER };
        let texts = history_texts(cluster, &video, count).await;
        assert_eq!(texts.len(), count, "{video}: {texts:?}");
        assert!(texts.iter().all(|text| text.starts_with("ben")), "{texts:?}");
    }
    let held = wait::json(&format!("{}/moderation/held", cluster.gateways[0]), EFFECT_TIMEOUT).await;
    assert_eq!(held["comments"], json!([]), "{held:#}");
    let report = only_report(cluster).await;
    assert_eq!((&report["userid"], &report["text"]), (&json!(NOBODY_ID), &Value::Null), "{report}");
    let mut back = open_stream(cluster, &format!("&last_event_id={start}")).await;
    back.read_until_there("every deletion", |text| deletion_count(text) == COMMENTS_A_USER).await;
    assert!(!back.text.contains(ERASED_USER), "it came back:\n{}", back.text);
}
