//! Tests of bad input against `liverank up`, over real sockets at every public port: each request gets exactly the
//! promised answer, and none makes the process stall, log a line for each request, or grow.

use std::time::Duration;

use futures::{StreamExt, stream};
use liverank_e2e::up::Up;

mod case;
mod endpoints;
mod requests;
mod slow;
mod soak;
mod streams;

use case::Case;

/// The time limit until a like is in the ranking, on a busy machine: far more than it needs, and less than the shortest
/// time for which a bad client may keep its connection, 10 s. A like that has to wait for a bad client takes longer.
const MAX_LIKE_TIME: Duration = Duration::from_secs(9);
/// The time limit of a wait for something that normally takes a moment, on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_mins(1);
/// The most lines that a process may log during a test.
const MAX_LOG_LINES: usize = 5;
/// The most requests that are in flight at the same time.
const MAX_REQUESTS_AT_ONCE: usize = 16;

/// Returns all cases of all endpoints.
fn cases() -> Vec<Case> {
    let mut cases = endpoints::cases();
    cases.extend(requests::cases());
    cases
}

/// Checks after bad input that the process runs, a like is ranked in time, and the log has grown by a few lines at
/// most.
async fn check_unmoved(up: &mut Up, lines_before: usize) {
    assert!(up.process.is_running(), "the process ended: {}", up.process.log());
    let took = up.round_trip().await;
    assert!(took < MAX_LIKE_TIME, "a like took {took:?} to show");
    let lines = up.log_lines() - lines_before;
    assert!(lines <= MAX_LOG_LINES, "the log grew by {lines} lines:\n{}", up.process.log());
}

#[tokio::test]
async fn every_bad_request_gets_its_answer() {
    let mut up = Up::start().await;
    up.round_trip().await;
    let lines = up.log_lines();
    let cases = cases();
    assert!(cases.len() > 1000, "{} cases", cases.len());
    let wrong: Vec<String> = stream::iter(&cases)
        .map(|case| case.wrong(&up))
        .buffer_unordered(MAX_REQUESTS_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} of {} are answered otherwise:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    eprintln!("{} bad requests, each with its answer", cases.len());
    check_unmoved(&mut up, lines).await;
}
