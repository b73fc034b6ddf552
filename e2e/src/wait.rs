//! Waiting for what must become true, with an end.

use std::time::{Duration, Instant};

/// Asks until the answer is `Some`, for at most `within`; panics with `what` otherwise.
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

/// The JSON at `url`, once it answers 200.
pub async fn json(url: &str, within: Duration) -> serde_json::Value {
    until(url, within, || async {
        let response = reqwest::get(url).await.ok()?;
        if response.status().is_success() { response.json().await.ok() } else { None }
    })
    .await
}
