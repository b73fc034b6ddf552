//! Checks the supervision of tasks: whichever task of whichever service panics, the service ends with an error.
//!
//! Each service is started on embedded stores and reports the names of its tasks. Then the service is started again
//! once for each task, and that task is made to panic.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, Command};
use liverank_adapters::archive::embedded::EmbeddedArchive;
use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
use liverank_adapters::comment_bus::embedded::EmbeddedBus;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::export_topics::memory::MemoryTopics;
use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
use liverank_adapters::{Backends, clock};
use liverank_runtime::{ServiceContext, server};
use tokio::net::TcpListener;

/// The time within which a service must start its tasks, and end.
const TASK_TIMEOUT: Duration = Duration::from_secs(20);
/// An address at which nothing listens.
const NOBODY: &str = "http://127.0.0.1:9";

/// The names of the tasks that the gateway must start.
const GATEWAY_TASKS: &[&str] =
    &["keep_keys", "keep_revoked", "measure_freshness", "open_log", "run_canary", "watch_dependencies"];
const CONSUMER_TASKS: &[&str] =
    &["clocks", "counter", "export_boards", "export_comments", "forget", "keep_boards", "lag", "projector"];
const READER_TASKS: &[&str] = &[
    "channels",
    "compare_heads",
    "dispatch",
    "drain",
    "hand_over",
    "heartbeat",
    "keep_alive",
    "report",
    "viewer_counts",
];
const MANAGER_TASKS: &[&str] = &[
    "autopilot",
    "carry_out_moves",
    "follow_assignments",
    "follow_readers",
    "note_peaks",
    "report",
    "sweep",
];

type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;
type Start = fn(Backends, TcpListener, ServiceContext) -> Running;

fn settings<C: Args>(flags: &[&str]) -> C {
    let command = C::augment_args(Command::new("test").no_binary_name(true));
    C::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
}

/// Returns the path of a file with a key for the comment hook; the file lasts as long as the tests.
fn hook_key() -> &'static str {
    static FILE: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw").unwrap();
        file
    });
    file.path().to_str().unwrap()
}

/// Returns every service with the settings that start all its tasks, and with the names of the tasks that it must have.
fn services() -> [(&'static str, Start, &'static [&'static str]); 7] {
    [
        (
            "gateway",
            |b, at, context| {
                let keys =
                    ["--auth-jwks-url", NOBODY, "--auth-issuer", NOBODY, "--auth-audience", "liverank"];
                Box::pin(liverank_gateway::run(settings(&keys), b, at, context))
            },
            GATEWAY_TASKS,
        ),
        (
            "consumer",
            |b, _, context| {
                let flags = ["--export-comments", "comments", "--export-boards", "boards"];
                Box::pin(liverank_consumer::run(settings(&flags), b, context))
            },
            CONSUMER_TASKS,
        ),
        (
            "websocket",
            |b, at, shell| Box::pin(liverank_websocket::run(settings(&[]), b.ranking, b.clock, at, shell)),
            &["follow_ranking"],
        ),
        (
            "comment",
            |b, at, context| {
                let flags = ["--comment-hook-url", NOBODY, "--comment-hook-key-file", hook_key()];
                Box::pin(liverank_comment::run(settings(&flags), b.log, b.archive, at, context))
            },
            &["ask_hook", "follow_restrictions", "register", "report", "watch_stores"],
        ),
        (
            "reader",
            |b, at, context| {
                let flags = ["--manager-url", NOBODY, "--statistics-url", NOBODY];
                Box::pin(liverank_reader::run(settings(&flags), b.archive, b.comments, at, context))
            },
            READER_TASKS,
        ),
        (
            "manager",
            |b, at, context| {
                Box::pin(liverank_manager::run(settings(&["--autopilot"]), b.assignments, vec![at], context))
            },
            MANAGER_TASKS,
        ),
        (
            "statistics",
            |b, at, context| Box::pin(liverank_statistics::run(b.archive, at, context)),
            &["housekeeping"],
        ),
    ]
}

fn backends(directory: &std::path::Path) -> Backends {
    let log = EmbeddedLog::open(directory, clock::system_clock()).unwrap();
    Backends {
        log: Arc::new(log.with_export_topics(Arc::new(MemoryTopics::default()))),
        archive: Arc::new(EmbeddedArchive::open(directory).unwrap()),
        ranking: Arc::new(EmbeddedRanking::new()),
        comments: Arc::new(EmbeddedBus::new()),
        assignments: Arc::new(EmbeddedAssignments::new()),
        clock: clock::system_clock(),
    }
}

/// Runs a service in which the task `task` panics. Returns `Ok` if the service ended with that panic; else a
/// description of how it ended.
async fn run_until_panic(start: Start, task: &'static str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let listener = server::bind_listener(([127, 0, 0, 1], 0).into(), "the test", "--listen").await.unwrap();
    let context = ServiceContext::new(Duration::from_millis(200));
    context.failpoints.panic_in(task);
    let service = tokio::spawn(start(backends(directory.path()), listener, context));
    let ended = tokio::time::timeout(TASK_TIMEOUT, service).await.map_err(|_| "it lives on".to_owned())?;
    match ended {
        Ok(Err(error)) if format!("{error:#}").contains(&format!("the failpoint of {task}")) => Ok(()),
        // The task is a part of the service's own future: whoever runs the service gets the panic.
        Err(error) if error.is_panic() && error.to_string().contains(&format!("the failpoint of {task}")) => {
            Ok(())
        }
        other => Err(format!("it ended with {other:?}")),
    }
}

/// Starts a service and returns the names of its tasks, after waiting for all those in `expected`.
async fn tasks_of(start: Start, expected: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    let directory = tempfile::tempdir().unwrap();
    let listener = server::bind_listener(([127, 0, 0, 1], 0).into(), "the test", "--listen").await.unwrap();
    let context = ServiceContext::new(Duration::from_millis(200));
    let service = tokio::spawn(start(backends(directory.path()), listener, context.clone()));
    // If the wait runs out, the missing tasks are missing from the names.
    let _ = tokio::time::timeout(TASK_TIMEOUT, context.failpoints.wait_until_started(expected)).await;
    context.shutdown.cancel();
    service.await.unwrap().unwrap();
    context.failpoints.started_task_names()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_any_task_of_any_service_ends_that_service_with_an_error() {
    let mut wrong = Vec::new();
    for (name, start, expected) in services() {
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        let tasks = tasks_of(start, &expected).await;
        if tasks != expected {
            wrong.push(format!("{name} has the tasks {tasks:?}, and this test expects {expected:?}"));
        }
        for task in tasks {
            if let Err(ended) = run_until_panic(start, task).await {
                wrong.push(format!("{name}: when {task} panics, {ended}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
