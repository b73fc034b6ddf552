//! Bad input against `liverank up`, over real sockets at every public port: each request gets exactly the answer that it
//! is promised, and none makes the process stall, log a line a request, or grow.

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

/// A like in the ranking, on a machine that is busy with everything else: far more than it takes, far less than a stall.
const QUICK: Duration = Duration::from_secs(5);
/// Lines that a process may have to say for itself during a test.
const FEW_LINES: usize = 5;
/// Requests under way at once.
const AT_ONCE: usize = 16;

/// Every case.
fn cases() -> Vec<Case> {
    let mut cases = endpoints::cases();
    cases.extend(requests::cases());
    cases
}

/// Holds what the log and the ranking must be after bad input.
async fn unmoved(up: &mut Up, lines_before: usize) {
    assert!(up.process.runs(), "the process ended: {}", up.process.log());
    let took = up.round_trip().await;
    assert!(took < QUICK, "a like took {took:?} to show");
    let lines = up.log_lines() - lines_before;
    assert!(lines <= FEW_LINES, "the log grew by {lines} lines:\n{}", up.process.log());
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
        .buffer_unordered(AT_ONCE)
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
    unmoved(&mut up, lines).await;
}
