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
