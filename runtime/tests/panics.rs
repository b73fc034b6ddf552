//! Tests the effect of a panic on a process. Each case runs in a child process, which is this test's executable again.

use std::cell::Cell;
use std::process::{Command, Output};
use std::time::Duration;

use liverank_protocol::access::CalledService;
use liverank_runtime::process::{ProcessRuntime, confine_panics};
use liverank_runtime::server;

/// The environment variable that names the case which a child process runs.
const CASE_VARIABLE: &str = "LIVERANK_TEST_PANIC_CASE";

thread_local! {
    static CATCHES_PANICS: Cell<bool> = const { Cell::new(false) };
}

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn run_child(case: &str) -> Output {
    let test = std::env::current_exe().unwrap();
    let mut child = Command::new(test);
    child.args(["--exact", "run_case_in_child", "--nocapture", "--test-threads=1"]).env(CASE_VARIABLE, case);
    child.output().unwrap()
}

/// Runs the case of a child process; does nothing in an ordinary run of the tests.
#[test]
fn run_case_in_child() {
    let Ok(case) = std::env::var(CASE_VARIABLE) else { return };
    let drain = Duration::from_secs(5);
    let process = ProcessRuntime {
        drain_time: drain,
        forced_end_delay: drain,
        thread_count: Some(2),
        catches_panics: || CATCHES_PANICS.get(),
    };
    let ended = process.run(|context| async move {
        match case.as_str() {
            "task" => drop(tokio::spawn(async { panic!("a bug in a task") })),
            "thread" => drop(std::thread::spawn(|| panic!("a bug in a thread"))),
            "blocking" => drop(tokio::task::spawn_blocking(|| panic!("a bug in blocking work"))),
            "request" => {
                let listener =
                    server::bind_listener(([127, 0, 0, 1], 0).into(), "the test", "--listen").await?;
                let address = listener.local_addr()?;
                let fail = || async {
                    assert!(!std::hint::black_box(true), "a bug in a handler");
                };
                let router = axum::Router::new()
                    .route("/fail", axum::routing::get(fail))
                    .route("/well", axum::routing::get(|| async { "well" }));
                let serving = context.clone();
                let served = tokio::spawn(async move {
                    server::serve_until_shutdown(CalledService::Reader, listener, router, &serving).await
                });
                let get = |path| reqwest::get(format!("http://{address}{path}"));
                assert!(get("/fail").await.is_err(), "the connection ends without an answer");
                assert_eq!(get("/well").await?.text().await?, "well");
                let metrics = context.metrics.encode_text();
                assert!(metrics.contains("liverank_process_confined_panics_total 1"), "{metrics}");
                context.shutdown.cancel();
                return served.await?;
            }
            "confined" => {
                let failed = tokio::spawn(confine_panics(async { panic!("a bug in a connection") })).await;
                assert!(failed.is_err());
                return Ok(());
            }
            "caught" => {
                CATCHES_PANICS.set(true);
                let caught = std::panic::catch_unwind(|| panic!("a bug that is caught"));
                CATCHES_PANICS.set(false);
                assert!(caught.is_err());
                tokio::time::sleep(Duration::from_millis(1)).await;
                return Ok(());
            }
            other => panic!("no such case: {other}"),
        }
        // The process goes on, as one does that does not know that a part of it is gone.
        std::future::pending().await
    });
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            println!("ended: {error:#}");
            std::process::exit(1);
        }
    }
}

#[test]
fn a_panic_in_a_task_a_thread_or_blocking_work_ends_the_process_with_an_error() {
    for (case, message) in
        [("task", "a bug in a task"), ("thread", "a bug in a thread"), ("blocking", "a bug in blocking work")]
    {
        let output = run_child(case);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{case}: {said}");
        assert!(
            said.contains(&format!("ended: a part of the process panicked: {message}")),
            "{case}: {said}"
        );
    }
}

#[test]
fn a_panic_that_is_confined_or_caught_ends_nothing_else() {
    for case in ["request", "confined", "caught"] {
        let output = run_child(case);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{case}: {said} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
