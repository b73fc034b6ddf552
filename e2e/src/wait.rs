//! Waits, with a time limit, for something that must become true.

use std::time::{Duration, Instant};

/// Calls `ask` until it returns `Some`, and returns the value; panics with `what` if `within` passes first.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the JSON at `url` as soon as a request succeeds; panics if `within` passes first.
pub async fn json(url: &str, within: Duration) -> serde_json::Value {
    until(url, within, || async {
        let response = reqwest::get(url).await.ok()?;
        if response.status().is_success() { response.json().await.ok() } else { None }
    })
    .await
}

/// Returns the name of a time zone in which midnight is an hour away at least: a test whose board has windows of days
/// must not see one end. A test takes less than half an hour.
pub fn time_zone_far_from_midnight() -> &'static str {
    let hours = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs() / 3_600;
    // Midnight of Berlin is at 22:00 or 23:00 UTC, that of Tokyo at 15:00.
    if (20..24).contains(&(hours % 24)) { "Asia/Tokyo" } else { "Europe/Berlin" }
}
