//! Tests of `liverank up` as a user runs it: one command, its screen, plain error messages, and an orderly end.

use std::time::Duration;

use liverank_e2e::moderation::ModerationCheck;
use liverank_e2e::patient::answer_of;
use liverank_e2e::process::{Process, Signal};
use liverank_e2e::ruled::CommentRulesCheck;
use liverank_e2e::{free_port, wait};
use liverank_protocol::roles::Role;
use serde_json::json;

#[path = "up/first_process.rs"]
mod first_process;
#[path = "up/load.rs"]
mod load;
#[path = "up/tls.rs"]
mod tls;

const START_TIMEOUT: Duration = Duration::from_mins(1);

struct UpProcess {
    process: Process,
    front: String,
    args: Vec<String>,
    directory: tempfile::TempDir,
}

fn up_arguments(data: &std::path::Path) -> (Vec<String>, String) {
    let address = || format!("127.0.0.1:{}", free_port());
    let front = address();
    let mut args = vec!["up".to_owned(), "--data-dir".into(), data.display().to_string()];
    args.extend(["--gateway-listen".into(), front.clone()]);
    for service in ["websocket", "comment", "manager", "statistics", "admin"] {
        args.extend([format!("--{service}-listen"), address()]);
    }
    args.extend(["--reader-listen".into(), [address(), address(), address()].join(",")]);
    (args, format!("http://{front}"))
}

impl UpProcess {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (args, front) = up_arguments(&directory.path().join("data"));
        let process = Process::start("up", &args, directory.path());
        wait::json(&format!("{front}/videos"), START_TIMEOUT).await;
        Self { process, front, args, directory }
    }

    async fn post_json(&self, path: &str, body: serde_json::Value) -> reqwest::Response {
        answer_of(reqwest::Client::new().post(format!("{}{path}", self.front)).json(&body)).await
    }

    /// Returns the videos of the global board, with their metadata; `None` without an answer.
    async fn listed_videos(&self) -> Option<Vec<serde_json::Value>> {
        let response = reqwest::get(format!("{}/videos?fields=metadata", self.front)).await.ok()?;
        response.json::<serde_json::Value>().await.ok()?["videos"].as_array().cloned()
    }

    async fn wait_until_listed(&self, video: &str, score: &serde_json::Value) {
        wait::until("the score on the board", START_TIMEOUT, || async {
            let list = self.listed_videos().await?;
            (list.len() == 1 && list[0]["video_id"] == video && list[0]["score"] == *score).then_some(())
        })
        .await;
    }

    async fn views_of(&self, video: &str) -> Option<i64> {
        let response = reqwest::get(format!("{}/videos/{video}", self.front)).await.ok()?;
        response.json::<serde_json::Value>().await.ok()?["views"].as_i64()
    }
}

/// Starts a process that must fail with exit code 1, and returns its output.
fn refused_start(args: &[String], directory: &std::path::Path) -> String {
    let mut process = Process::start("refused", args, directory);
    let status = process.wait(START_TIMEOUT);
    assert_eq!(status.code(), Some(1), "{}", process.log());
    process.log()
}

#[tokio::test]
async fn an_event_is_ranked_and_control_c_exits_with_0() {
    let mut up = UpProcess::start().await;
    let answer =
        up.post_json("/interact", json!({"video_id": "cats", "user_id": "ann", "type": "like"})).await;
    assert_eq!(answer.status(), 202);
    wait::until("the like on the board", START_TIMEOUT, || async {
        let list: serde_json::Value =
            reqwest::get(format!("{}/videos", up.front)).await.ok()?.json().await.ok()?;
        (list["videos"][0]["score"] == json!(2.0)).then_some(())
    })
    .await;
    let port = up.front.rsplit(':').next().unwrap();
    for part in ["page", "gateway", "websocket", "comment", "readers", "manager", "statistics", "curl", port]
    {
        // What is on the screen is written beside the first requests.
        wait::until(&format!("{part} on the screen"), START_TIMEOUT, async || {
            up.process.log().contains(part).then_some(())
        })
        .await;
    }
    up.process.signal(Signal::INT);
    assert_eq!(up.process.wait(Duration::from_secs(30)).code(), Some(0), "{}", up.process.log());
}

#[tokio::test]
async fn acknowledged_events_survive_a_kill_and_count_once() {
    let mut up = UpProcess::start().await;
    for round in 0..3 {
        for event in 0..20 {
            let id = format!("{round}-{event}");
            let body = json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": id});
            assert_eq!(up.post_json("/interact", body.clone()).await.status(), 202);
        }
        up.process.kill();
        up.process.restart();
        wait::json(&format!("{}/videos", up.front), START_TIMEOUT).await;
        // A client that did not get the answer sends the event again.
        let again =
            json!({"video_id": "v", "user_id": "u", "type": "view", "event_id": format!("{round}-19")});
        assert_eq!(up.post_json("/interact", again).await.status(), 202);
        assert_eq!(
            up.post_json(
                "/interact",
                json!({"video_id": format!("end-{round}"), "user_id": "u", "type": "view"})
            )
            .await
            .status(),
            202
        );
        let expected = (round + 1) * 20;
        wait::until("every view counted once", START_TIMEOUT, || async {
            up.views_of(&format!("end-{round}")).await?;
            (up.views_of("v").await? == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_registered_video_is_resolved_as_before_after_a_kill() {
    let mut up = UpProcess::start().await;
    let at = up.args.iter().position(|arg| arg == "--manager-listen").expect("a manager");
    let manager = format!("http://{}", up.args[at + 1]);
    let register = || async {
        let request =
            reqwest::Client::new().post(format!("{manager}/register")).json(&json!({"videoid": "v"}));
        let answer = request.send().await.ok()?.error_for_status().ok()?;
        answer.json::<serde_json::Value>().await.ok()?["readerUrl"].as_str().map(str::to_owned)
    };
    // The video gets a reader only after the readers have reported.
    let reader = wait::until("the video has a reader", START_TIMEOUT, register).await;
    for _ in 0..3 {
        up.process.kill();
        up.process.restart();
        wait::json(&format!("{manager}/health"), START_TIMEOUT).await;
        let resolved = wait::json(&format!("{manager}/resolve/v"), START_TIMEOUT).await;
        assert_eq!(resolved["readerUrl"].as_str(), Some(reader.as_str()), "{resolved}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_in_the_error() {
    let up = UpProcess::start().await;
    let other = up.directory.path().join("other");
    let mut args = up.args.clone();
    args[2] = other.display().to_string();
    let said = refused_start(&args, up.directory.path());
    let port = up.front.rsplit(':').next().unwrap();
    assert!(said.contains("in use") && said.contains("liverank:"), "{said}");
    assert!(said.contains(port) || said.contains("reader"), "{said}");
    assert!(!other.exists(), "no store is touched before the ports are there");
}

/// No key was given: the system makes one, which whoever may read its data directory can show.
#[tokio::test]
async fn the_key_in_the_data_directory_opens_the_commands() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (args, front) = up_arguments(&directory.path().join("data"));
    let _up = Process::start_in("up", &args, directory.path(), &[]);
    wait::json(&format!("{front}/videos"), START_TIMEOUT).await;
    let key = directory.path().join("data/identity.key");
    assert_eq!(key.metadata().expect("a key").permissions().mode() & 0o777, 0o400);
    let manager = &args[args.iter().position(|it| it == "--manager-listen").unwrap() + 1];
    let status = |key: &std::path::Path| {
        let mut command = std::process::Command::new(liverank_e2e::binary());
        command
            .args(["status", "--manager-url", &format!("http://{manager}"), "--identity-key-file"])
            .arg(key);
        command.output().expect("running the binary")
    };
    wait::until("three readers in the status", START_TIMEOUT, || async {
        let said = status(&key);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        ["reader-1", "reader-2", "reader-3"].iter().all(|reader| text.contains(reader)).then_some(())
    })
    .await;
    let strange = directory.path().join("strange.key");
    std::fs::write(&strange, "0f".repeat(32)).expect("writing a key");
    assert!(!status(&strange).status.success(), "another key opens nothing");
}

#[tokio::test]
async fn a_locked_data_directory_is_named_in_the_error() {
    let up = UpProcess::start().await;
    let data = up.directory.path().join("data");
    let (args, _) = up_arguments(&data);
    let said = refused_start(&args, up.directory.path());
    assert!(said.contains(&data.display().to_string()) && said.contains("another process"), "{said}");
}

#[tokio::test]
async fn an_unusable_data_directory_is_named_in_the_error() {
    let directory = tempfile::tempdir().unwrap();
    // Root may write anywhere, but nobody can make a directory below a file.
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (args, _) = up_arguments(&file.join("data"));
    let said = refused_start(&args, directory.path());
    assert!(said.contains(&file.display().to_string()), "{said}");
}

#[tokio::test]
async fn wrong_settings_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("liverank.yaml");
    std::fs::write(&config, "kafak: localhost:9092\n").unwrap();
    let args = |list: &[&str]| list.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let said =
        refused_start(&args(&["gateway", "--config", &config.display().to_string()]), directory.path());
    assert!(said.contains("kafak") && said.contains("did you mean kafka?"), "{said}");
    let said = refused_start(&args(&["gateway"]), directory.path());
    assert!(said.contains("--kafka") && said.contains("--redis") && said.contains("--mongodb"), "{said}");
    let mut process = Process::start("usage", &args(&["reader", "--capacity", "many"]), directory.path());
    assert_eq!(process.wait(START_TIMEOUT).code(), Some(2));
    assert!(process.log().contains("--capacity") && process.log().contains("many"), "{}", process.log());
}

#[tokio::test]
async fn moderation_survives_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut args, front) = up_arguments(&directory.path().join("data"));
    args.push("--moderation-open".into());
    let comment = args.iter().position(|arg| arg == "--comment-listen").expect("a flag") + 1;
    let comment = format!("http://{}", args[comment]);
    let mut process = Process::start("up", &args, directory.path());
    wait::json(&format!("{front}/videos"), START_TIMEOUT).await;
    let moderated = ModerationCheck::new(&front, &[comment]).await;
    process.kill();
    process.restart();
    wait::json(&format!("{front}/videos"), START_TIMEOUT).await;
    moderated.check().await;
    let ruled = CommentRulesCheck::new(&front).await;
    process.kill();
    process.restart();
    wait::json(&format!("{front}/videos"), START_TIMEOUT).await;
    ruled.check().await;
}

#[tokio::test]
async fn a_like_counts_once_and_is_taken_back_and_a_video_leaves_the_boards_also_after_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut args, front) = up_arguments(&directory.path().join("data"));
    args.extend(["--moderation-open".into(), "--unique".into(), "like".into()]);
    let process = Process::start("up", &args, directory.path());
    let mut up = UpProcess { process, front, args, directory };
    wait::json(&format!("{}/videos", up.front), START_TIMEOUT).await;
    let does = async |user: &str, kind: &str| {
        let event = json!({"video_id": "cats", "user_id": user, "type": kind});
        assert_eq!(up.post_json("/interact", event).await.status(), 202);
    };
    for kind in ["like", "like", "view", "like"] {
        does("ann", kind).await;
    }
    does("ben", "like").await;
    up.wait_until_listed("cats", &json!(5.0)).await;
    up.process.kill();
    up.process.restart();
    wait::json(&format!("{}/videos", up.front), START_TIMEOUT).await;
    let does = async |user: &str, kind: &str| {
        let event = json!({"video_id": "cats", "user_id": user, "type": kind});
        assert_eq!(up.post_json("/interact", event).await.status(), 202);
    };
    does("ann", "like").await;
    does("ann", "unlike").await;
    does("ann", "unlike").await;
    up.wait_until_listed("cats", &json!(3.0)).await;
    let url = format!("{}/videos/cats", up.front);
    let client = reqwest::Client::new();
    let put = async |body: serde_json::Value| {
        assert_eq!(answer_of(client.put(&url).json(&body)).await.status(), 202);
    };
    put(json!({"title": "Cats"})).await;
    let is_put = async || {
        let list = up.listed_videos().await?;
        let cats = list.first()?;
        (cats["metadata"]["title"] == "Cats" && cats["score"] == json!(3.0)).then_some(())
    };
    wait::until("the title in the list", START_TIMEOUT, is_put).await;
    assert_eq!(answer_of(client.delete(&url)).await.status(), 202);
    let is_off = async || up.listed_videos().await?.is_empty().then_some(());
    wait::until("the video off the boards", START_TIMEOUT, is_off).await;
    does("cid", "like").await;
    let counted = async || {
        let video: serde_json::Value = reqwest::get(&url).await.ok()?.json().await.ok()?;
        (video["likes"] == 2 && video["removed"] == true).then_some(())
    };
    wait::until("the like of a video that is off", START_TIMEOUT, counted).await;
    let listed = wait::until("a list", START_TIMEOUT, || up.listed_videos()).await;
    assert_eq!(listed, Vec::<serde_json::Value>::new());
    put(json!({"title": "Cats again"})).await;
    up.wait_until_listed("cats", &json!(5.0)).await;
}

#[tokio::test]
async fn settings_are_judged_before_a_port_is_taken() {
    // This test listens on every port that the processes are told to use.
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = held.local_addr().expect("its address").to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let said = |flags: &[&str]| {
        let args: Vec<String> = flags.iter().map(|arg| (*arg).to_owned()).collect();
        let said = refused_start(&args, directory.path());
        std::fs::remove_file(directory.path().join("refused.log")).expect("its log");
        assert!(!said.contains("in use"), "{flags:?} names the port instead of what is wrong: {said}");
        said
    };
    for role in Role::ALL {
        let ports = ["--listen", &address, "--admin-listen", &address];
        let said = said(&[&[role.name()], &ports[..]].concat());
        for store in role.stores() {
            assert!(said.contains(&format!("--{}", store.name())), "{}: {said}", role.name());
        }
    }
    let stores = [
        "--kafka=127.0.0.1:1",
        "--redis=redis://127.0.0.1:1",
        "--mongodb=mongodb://127.0.0.1:1/?replicaSet=rs0",
    ];
    let gateway = [&["gateway", "--listen", &address, "--auth-issuer=nobody"], &stores[..]].concat();
    assert!(said(&gateway).contains("--auth-jwks-file"));
    let data = directory.path().join("data").display().to_string();
    let up = ["up", "--gateway-listen", &address, "--data-dir", &data];
    assert!(said(&[&up[..], &["--auth-issuer=nobody"]].concat()).contains("--auth-jwks-file"));
    assert!(said(&[&up[..], &stores[..1]].concat()).contains("--redis"));
    assert!(!std::path::Path::new(&data).exists(), "nothing is made on disk for a system that cannot run");
    // With valid settings the port in use is the error.
    let args: Vec<String> =
        ["consumer", "--admin-listen", &address].iter().chain(&stores).map(|arg| (*arg).to_owned()).collect();
    assert!(refused_start(&args, directory.path()).contains("in use"));
}
