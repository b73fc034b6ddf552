//! What people type to look at a running system and to give it orders.

use std::process::Output;
use std::time::Duration;

use liverank_e2e::identity;
use liverank_e2e::up::{Door, Up};
use liverank_e2e::wait;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// Runs `liverank args…` to its end, known to the system as its own.
async fn run(up: Option<&Up>, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(liverank_e2e::binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LIVERANK_")) {
        command.env_remove(name);
    }
    if let Some(up) = up {
        let (name, value) = identity::variable();
        command.env(name, value).env("LIVERANK_MANAGER_URL", up.url(Door::Manager));
    }
    command.args(args).kill_on_drop(true).stdin(std::process::Stdio::null());
    command.output().await.expect("running the binary")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn json_of(up: &Up, args: &[&str]) -> Value {
    let output = run(Some(up), &[args, &["-o", "json"]].concat()).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

#[tokio::test]
async fn a_reader_is_cordoned_drained_and_opened_again() {
    let up = Up::start_with(2, &[]).await;
    // Whoever asked before there was a reader is told of for ten seconds.
    let status = wait::until("nothing is wrong", SOON, || async {
        let status = run(Some(&up), &["status"]).await;
        status.status.success().then_some(status)
    })
    .await;
    assert!(said(&status).starts_with("READER") && said(&status).contains("reader-2"), "{}", said(&status));

    let cordon = async |reader: &str| {
        let load = json_of(&up, &["status"]).await;
        let readers = load["readers"].as_array().expect("readers").clone();
        readers.into_iter().find(|it| it["id"] == reader).expect("the reader")["cordon"].clone()
    };
    let done = run(Some(&up), &["cordon", "reader-2", "--why", "new disk"]).await;
    assert!(done.status.success() && said(&done).contains("new disk"), "{}", said(&done));
    assert_eq!(cordon("reader-2").await, "closed");
    let done = run(Some(&up), &["drain", "reader-2", "--wait", "20s"]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(cordon("reader-2").await, "draining");
    assert!(run(Some(&up), &["uncordon", "reader-2"]).await.status.success());
    assert_eq!(cordon("reader-2").await, Value::Null);

    let unknown = run(Some(&up), &["cordon", "reader-9"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        said(&unknown).contains("no reader reader-9 (there are: reader-1, reader-2)"),
        "{}",
        said(&unknown)
    );
}

#[tokio::test]
async fn top_is_text_where_there_is_no_terminal_and_says_what_is_wrong() {
    let up = Up::start_with(2, &[]).await;
    let url = up.url(Door::Gateway);
    let once = wait::until("the readers are seen", SOON, || async {
        let once = run(Some(&up), &["top", "--url", &url]).await;
        said(&once).contains("2 of 2 readers take viewers").then_some(once)
    })
    .await;
    assert!(
        once.status.success() && said(&once).contains("READER    STATE  VIEWERS  CAPACITY"),
        "{}",
        said(&once)
    );
    let answer = json_of(&up, &["top", "--once", "--url", &url]).await;
    assert_eq!(answer["placement"]["readers_total"], 2);
    let nobody = run(None, &["top", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(said(&nobody).contains("does not answer at http://127.0.0.1:1/; set --url"), "{}", said(&nobody));
}

#[tokio::test]
async fn a_video_is_moved_by_hand_and_the_move_is_shown() {
    let up = Up::start_with(2, &[]).await;
    let load = json_of(&up, &["status"]).await;
    let calm = load["assignments"].as_array().expect("assignments").iter().find(|it| it["videoid"] == "calm");
    let own = calm.expect("the video")["readers"][0]["reader"].as_str().expect("its reader").to_owned();
    let other = if own == "reader-1" { "reader-2" } else { "reader-1" };
    let done = run(Some(&up), &["move", "calm", other, "--why", "to see it"]).await;
    assert!(done.status.success(), "{}", said(&done));
    wait::until("the move", SOON, || async {
        let moves = json_of(&up, &["moves"]).await;
        let it = &moves["moves"][0];
        (it["state"] == "done" && it["why"] == "to see it" && it["to"][0]["reader"] == other).then_some(())
    })
    .await;
    assert!(said(&run(Some(&up), &["moves"]).await).contains("to see it"));
    let plan = run(Some(&up), &["plan", "-o", "yaml"]).await;
    assert!(said(&plan).contains("autopilot: true"), "{}", said(&plan));
    let nobody = run(Some(&up), &["move", "no-such-video", other]).await;
    assert!(said(&nobody).contains("no reader has the video no-such-video"), "{}", said(&nobody));
}

#[tokio::test]
async fn who_is_not_known_is_told_what_is_missing() {
    let up = Up::start().await;
    let manager = up.url(Door::Manager);
    let status = run(None, &["status", "--manager-url", &manager]).await;
    assert_eq!(status.status.code(), Some(1));
    assert!(said(&status).contains("--identity-key-file"), "{}", said(&status));
    let away = run(Some(&up), &["status", "--manager-url", "http://127.0.0.1:9"]).await;
    assert!(said(&away).contains("no manager answers at http://127.0.0.1:9/"), "{}", said(&away));
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_what_mends_it() {
    let up = Up::start().await;
    let nobody = "redis://127.0.0.1:9";
    let find = |checks: &Value, part: &str| {
        checks.as_array().expect("checks").iter().find(|it| it["part"] == part).cloned()
    };
    // Whoever asked before there was a reader is told of for ten seconds.
    let checks = wait::until("the managers are well", SOON, || async {
        let output = run(Some(&up), &["doctor", "--redis", nobody, "-o", "json"]).await;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let checks: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (find(&checks, "managers")?["state"] == "good").then_some(checks)
    })
    .await;
    let of = |part: &str| find(&checks, part);
    let redis = of("redis").expect("redis");
    assert_eq!(redis["state"], "wrong");
    assert!(redis["mend"].as_str().is_some_and(|mend| mend.contains("redis-cli")), "{redis}");
    assert_eq!(of("kafka").expect("kafka")["state"], "skipped");
    assert_eq!(
        of("managers").expect("managers"),
        json!({"part": "managers", "state": "good", "found": "readers: 1, videos: 1"})
    );
    let table = run(Some(&up), &["doctor", "--redis", nobody]).await;
    assert!(said(&table).contains("redis        WRONG"), "{}", said(&table));
}

#[tokio::test]
async fn settings_are_shown_with_where_they_come_from_and_files_are_judged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("liverank.yaml");
    std::fs::write(&file, "kafka: kafka:9092\nredis: redis://:secret@redis\n").expect("writing the file");
    let path = file.display().to_string();
    let shown = run(None, &["config", "show", "gateway", "--config", &path, "-o", "json"]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}", said(&shown)));
    assert_eq!(shown["kafka"], json!({"value": "kafka:9092", "from": "file"}));
    assert_eq!(shown["redis"], json!({"value": "(not shown)", "from": "file"}));
    assert_eq!(shown["listen"], json!({"value": "0.0.0.0:8080", "from": "default"}));
    assert!(run(None, &["config", "validate", &path]).await.status.success());
    std::fs::write(&file, "kafak: kafka:9092\n").expect("writing the file");
    let judged = run(None, &["config", "validate", &path]).await;
    assert_eq!(judged.status.code(), Some(1));
    assert!(said(&judged).contains("did you mean kafka?"), "{}", said(&judged));
}

#[tokio::test]
async fn a_reader_of_the_output_that_goes_is_no_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (file, key, data) = (at("liverank.yaml"), at("master/key"), at("data"));
    std::fs::write(&file, "log: info\n").expect("writing the file");
    assert!(run(None, &["identity", "init", &at("")]).await.status.success());
    // All that say something without a system. The others write by the same function.
    let commands: &[&[&str]] = &[
        &["config", "show", "gateway"],
        &["config", "validate", &file],
        &["version"],
        &["version", "-o", "yaml"],
        &["completion", "bash"],
        &["doctor"],
        &["simulate", "--duration", "1m", "--readers", "2"],
        &["identity", "token", "--identity-key-file", &key],
        &["identity", "derive", "--identity-key-file", &key, "--for", "gateway"],
        &["token", "user", "--user", "ann", "--data-dir", &data],
    ];
    for args in commands {
        let ended = to_nobody(args);
        assert_eq!(said(&ended), "", "{args:?}");
        // As a program that SIGPIPE ended.
        assert_eq!(ended.status.code(), Some(141), "{args:?}");
    }
    for args in
        [&["--help"][..], &["gateway", "--help-all"], &["probe", "--within", "1s", "http://127.0.0.1:9/"]]
    {
        assert_eq!(said(&to_nobody(args)), "", "{args:?}");
    }
}

/// Runs it with a standard output that nobody reads.
fn to_nobody(args: &[&str]) -> Output {
    let mut command = std::process::Command::new(liverank_e2e::binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LIVERANK_")) {
        command.env_remove(name);
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.args(args).stdin(std::process::Stdio::null()).stdout(writer);
    let child = command.stderr(std::process::Stdio::piped()).spawn().expect("starting the binary");
    child.wait_with_output().expect("its end")
}
