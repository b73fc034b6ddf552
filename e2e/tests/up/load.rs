//! A test of `liverank load` on a system that asks viewers for tokens: it moderates, sends what counts once per user and
//! takes it back, and compares boards.

use liverank_e2e::process::Process;
use liverank_e2e::wait;
use serde_json::Value;

use super::{START_TIMEOUT, up_arguments};

#[tokio::test]
async fn a_load_with_a_token_moderates_takes_back_and_finds_every_board_right() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let (mut args, front) = up_arguments(&data);
    let boards = format!(
        r#"[{{"name": "liked", "weights": {{"like": 1, "share": 2.5}}, "minimum": 3}},
        {{"name": "today", "window": "day", "timeZone": "{}"}}]"#,
        wait::time_zone_far_from_midnight()
    );
    args.extend(["--auth-dev", "--unique", "like,share", "--boards", &boards].map(str::to_owned));
    let _up = Process::start("up", &args, directory.path());
    wait::json(&format!("{front}/videos"), START_TIMEOUT).await;

    let token = directory.path().join("token");
    let said = std::process::Command::new(liverank_e2e::binary())
        .args(["token", "user", "--user", "load", "--role", "service", "--data-dir"])
        .arg(&data)
        .output()
        .expect("running the binary");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    std::fs::write(&token, said.stdout).expect("writing the token");

    let load = [
        "load",
        "--target",
        &front,
        "--moderation",
        "10",
        "--unique",
        "like,share",
        "--boards",
        "global,trending,liked,today",
        "--videos",
        "6",
        "--viewers",
        "20",
        "--ws",
        "4",
        "--interactions",
        "60",
        "--comments",
        "10",
        "--duration",
        "10s",
        "--output",
        "json",
        "--token-file",
    ];
    let mut command = tokio::process::Command::new(liverank_e2e::binary());
    let done = command.args(load).arg(&token).kill_on_drop(true).output().await.expect("running the load");
    let report = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{report}");
    let value: Value = serde_json::from_slice(&done.stdout).expect("a report in JSON");
    let moderation = &value["moderation"];
    for kind in ["pin", "delete", "ban", "mute", "shadow", "release", "reject", "dismiss"] {
        assert!(moderation["by_kind"][kind].as_u64() >= Some(4), "{kind}: {report}");
    }
    assert_eq!(moderation["refused"], 0, "{report}");
    assert_eq!(moderation["told"]["count"], moderation["by_kind"]["delete"], "{report}");
    let unique = &value["unique"];
    assert!(unique["sent_twice"].as_u64() > Some(20) && unique["taken_back"].as_u64() > Some(5), "{report}");
    assert!(value["boards"]["liked"]["reads"].as_u64() > Some(5), "{report}");
    assert!(value.get("scores_not_compared").is_none(), "{report}");
}

/// A load without the token is refused, and says so.
#[tokio::test]
async fn a_load_without_a_token_says_what_it_was_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut args, front) = up_arguments(&directory.path().join("data"));
    args.push("--auth-dev".into());
    let _up = Process::start("up", &args, directory.path());
    wait::json(&format!("{front}/videos"), START_TIMEOUT).await;
    let mut command = tokio::process::Command::new(liverank_e2e::binary());
    command.args([
        "load",
        "--target",
        &front,
        "--videos",
        "2",
        "--viewers",
        "0",
        "--ws",
        "0",
        "--duration",
        "1s",
    ]);
    let done = command.kill_on_drop(true).output().await.expect("running the load");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("401") && said.contains("--token-file"), "{said}");
}
