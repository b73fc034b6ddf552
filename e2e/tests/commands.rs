//! Tests of the commands by which people inspect and control a running system.

use std::process::Output;
use std::time::Duration;

use liverank_e2e::identity;
use liverank_e2e::up::{PublicPort, Up};
use liverank_e2e::wait;
use serde_json::{Value, json};

const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// Runs `liverank args…` to its end; with `up` it has the identity key and the manager's URL of that system.
async fn run_command(up: Option<&Up>, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(liverank_e2e::binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LIVERANK_")) {
        command.env_remove(name);
    }
    if let Some(up) = up {
        let (name, value) = identity::key_file_variable();
        command.env(name, value).env("LIVERANK_MANAGER_URL", up.url(PublicPort::Manager));
    }
    command.args(args).kill_on_drop(true).stdin(std::process::Stdio::null());
    command.output().await.expect("running the binary")
}

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Returns the JSON that a command prints; one whose manager did not answer in time is run again.
async fn json_output(up: &Up, args: &[&str]) -> Value {
    wait::until(&format!("JSON of {args:?}"), COMMAND_TIMEOUT, || async {
        let output = run_command(Some(up), &[args, &["-o", "json"]].concat()).await;
        serde_json::from_slice(&output.stdout).inspect_err(|_| eprintln!("{}", output_text(&output))).ok()
    })
    .await
}

/// Runs a command that changes something until it says that it has.
async fn order(up: &Up, args: &[&str]) -> Output {
    wait::until(&format!("{args:?}"), COMMAND_TIMEOUT, || async {
        let output = run_command(Some(up), args).await;
        if !output.status.success() {
            eprintln!("{}", output_text(&output));
        }
        output.status.success().then_some(output)
    })
    .await
}

#[tokio::test]
async fn a_reader_is_cordoned_drained_and_opened_again() {
    let up = Up::start_with(2, &[]).await;
    // A part that answers late on a busy machine is reported, too.
    let status = wait::until("nothing is wrong", COMMAND_TIMEOUT, || async {
        let status = run_command(Some(&up), &["status"]).await;
        status.status.success().then_some(status)
    })
    .await;
    assert!(
        output_text(&status).starts_with("READER") && output_text(&status).contains("reader-2"),
        "{}",
        output_text(&status)
    );

    let cordon = async |reader: &str| {
        let load = json_output(&up, &["status"]).await;
        let readers = load["readers"].as_array().expect("readers").clone();
        readers.into_iter().find(|it| it["id"] == reader).expect("the reader")["cordon"].clone()
    };
    let done = order(&up, &["cordon", "reader-2", "--reason", "new disk"]).await;
    assert!(output_text(&done).contains("new disk"), "{}", output_text(&done));
    assert_eq!(cordon("reader-2").await, "closed");
    order(&up, &["drain", "reader-2", "--wait", "60s"]).await;
    assert_eq!(cordon("reader-2").await, "draining");
    order(&up, &["uncordon", "reader-2"]).await;
    assert_eq!(cordon("reader-2").await, Value::Null);

    let unknown = run_command(Some(&up), &["cordon", "reader-9"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        output_text(&unknown).contains("no reader reader-9 (there are: reader-1, reader-2)"),
        "{}",
        output_text(&unknown)
    );
}

#[tokio::test]
async fn top_is_text_where_there_is_no_terminal_and_says_what_is_wrong() {
    let up = Up::start_with(2, &[]).await;
    let url = up.url(PublicPort::Gateway);
    let once = wait::until("the readers are seen", COMMAND_TIMEOUT, || async {
        let once = run_command(Some(&up), &["top", "--url", &url]).await;
        output_text(&once).contains("2 of 2 readers take viewers").then_some(once)
    })
    .await;
    assert!(
        once.status.success() && output_text(&once).contains("READER    STATE  VIEWERS  CAPACITY"),
        "{}",
        output_text(&once)
    );
    // The managers' part is missing where none answers in time.
    wait::until("both readers in JSON", COMMAND_TIMEOUT, || async {
        let answer = json_output(&up, &["top", "--once", "--url", &url]).await;
        (answer["placement"]["readers_total"] == 2).then_some(())
    })
    .await;
    let nobody = run_command(None, &["top", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        output_text(&nobody).contains("does not answer at http://127.0.0.1:1/; set --url"),
        "{}",
        output_text(&nobody)
    );
}

#[tokio::test]
async fn a_video_is_moved_by_hand_and_the_move_is_shown() {
    let up = Up::start_with(2, &[]).await;
    let load = json_output(&up, &["status"]).await;
    let calm = load["assignments"].as_array().expect("assignments").iter().find(|it| it["videoid"] == "calm");
    let own = calm.expect("the video")["readers"][0]["reader"].as_str().expect("its reader").to_owned();
    let other = if own == "reader-1" { "reader-2" } else { "reader-1" };
    order(&up, &["move", "calm", other, "--why", "to see it"]).await;
    wait::until("the move", COMMAND_TIMEOUT, || async {
        let moves = json_output(&up, &["moves"]).await;
        let it = &moves["moves"][0];
        // A move whose new reader was not warm in time is given up on a busy machine, and ordered again.
        if it["state"] == "failed" {
            order(&up, &["move", "calm", other, "--why", "to see it"]).await;
        }
        (it["state"] == "done" && it["why"] == "to see it" && it["to"][0]["reader"] == other).then_some(())
    })
    .await;
    assert!(output_text(&run_command(Some(&up), &["moves"]).await).contains("to see it"));
    let plan = run_command(Some(&up), &["plan", "-o", "yaml"]).await;
    assert!(output_text(&plan).contains("autopilot: true"), "{}", output_text(&plan));
    wait::until("a decision", COMMAND_TIMEOUT, || async {
        let plan = output_text(&run_command(Some(&up), &["plan"]).await);
        (plan.contains(" plans\n") && plan.contains("AGE") && plan.contains("FULLEST")).then_some(())
    })
    .await;
    let nobody = run_command(Some(&up), &["move", "no-such-video", other]).await;
    assert!(
        output_text(&nobody).contains("no reader has the video no-such-video"),
        "{}",
        output_text(&nobody)
    );
}

#[tokio::test]
async fn a_command_without_identity_says_what_is_missing() {
    let up = Up::start().await;
    let manager = up.url(PublicPort::Manager);
    let status = run_command(None, &["status", "--manager-url", &manager]).await;
    assert_eq!(status.status.code(), Some(1));
    assert!(output_text(&status).contains("--identity-key-file"), "{}", output_text(&status));
    let away = run_command(Some(&up), &["status", "--manager-url", "http://127.0.0.1:9"]).await;
    assert!(
        output_text(&away).contains("no manager answers at http://127.0.0.1:9/"),
        "{}",
        output_text(&away)
    );
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_what_mends_it() {
    let up = Up::start().await;
    let nobody = "redis://127.0.0.1:9";
    let find = |checks: &Value, part: &str| {
        checks.as_array().expect("checks").iter().find(|it| it["part"] == part).cloned()
    };
    // A part that answers late on a busy machine is reported, too.
    let checks = wait::until("the managers are well", COMMAND_TIMEOUT, || async {
        let output = run_command(Some(&up), &["doctor", "--redis", nobody, "-o", "json"]).await;
        assert_eq!(output.status.code(), Some(1), "{}", output_text(&output));
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
    let table = run_command(Some(&up), &["doctor", "--redis", nobody]).await;
    assert!(output_text(&table).contains("redis        WRONG"), "{}", output_text(&table));
}

#[tokio::test]
async fn settings_are_shown_with_where_they_come_from_and_files_are_judged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("liverank.yaml");
    std::fs::write(&file, "kafka: kafka:9092\nredis: redis://:secret@redis\n").expect("writing the file");
    let path = file.display().to_string();
    let shown = run_command(None, &["config", "show", "gateway", "--config", &path, "-o", "json"]).await;
    let shown: Value =
        serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}", output_text(&shown)));
    assert_eq!(shown["kafka"], json!({"value": "kafka:9092", "from": "file"}));
    assert_eq!(shown["redis"], json!({"value": "(not shown)", "from": "file"}));
    assert_eq!(shown["listen"], json!({"value": "0.0.0.0:8080", "from": "default"}));
    assert!(run_command(None, &["config", "validate", &path]).await.status.success());
    std::fs::write(&file, "kafak: kafka:9092\n").expect("writing the file");
    let judged = run_command(None, &["config", "validate", &path]).await;
    assert_eq!(judged.status.code(), Some(1));
    assert!(output_text(&judged).contains("did you mean kafka?"), "{}", output_text(&judged));
}

#[tokio::test]
async fn a_closed_output_pipe_is_no_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (file, key, data, keys) = (at("liverank.yaml"), at("master/key"), at("data"), at("keys"));
    std::fs::write(&file, "log: info\n").expect("writing the file");
    let made = run_command(None, &["identity", "init", &at(""), "--reader", "reader-1", "-o", "json"]).await;
    let made: Value =
        serde_json::from_slice(&made.stdout).unwrap_or_else(|_| panic!("{}", output_text(&made)));
    let owners: Vec<&Value> = made["files"].as_array().expect("files").iter().map(|it| &it["for"]).collect();
    assert_eq!(owners, ["manager", "gateway", "statistics", "cli", "reader/reader-1"]);
    assert_eq!(made["files"][0]["file"], key);
    // All commands that print something without a system; the others print by the same function.
    let commands: &[&[&str]] = &[
        &["config", "show", "gateway"],
        &["config", "validate", &file],
        &["version"],
        &["version", "-o", "yaml"],
        &["completion", "bash"],
        &["doctor"],
        &["identity", "init", &keys],
        &["simulate", "--duration", "1m", "--readers", "2"],
        &["identity", "token", "--identity-key-file", &key],
        &["identity", "derive", "--identity-key-file", &key, "--for", "gateway"],
        &["token", "user", "--user", "ann", "--data-dir", &data],
    ];
    for args in commands {
        let ended = run_with_closed_output(args);
        assert_eq!(output_text(&ended), "", "{args:?}");
        // The exit code of a program that SIGPIPE ended: 128 + 13.
        assert_eq!(ended.status.code(), Some(141), "{args:?}");
    }
    for args in
        [&["--help"][..], &["gateway", "--help-all"], &["probe", "--within", "1s", "http://127.0.0.1:9/"]]
    {
        assert_eq!(output_text(&run_with_closed_output(args)), "", "{args:?}");
    }
}

/// Runs `liverank args…` with a standard output whose reading end is closed.
fn run_with_closed_output(args: &[&str]) -> Output {
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
