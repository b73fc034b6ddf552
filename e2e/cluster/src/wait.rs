//! Waits, with a time limit, until something becomes true.

use std::time::{Duration, Instant};

use anyhow::bail;

/// The pause between two checks; a check costs one request.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Calls `look` until it returns a value, and returns the value and the time that it took. After `limit` the error
/// names the last reason that `look` gave. An error of `look` is only such a reason, because servers are killed in
/// these tests.
pub async fn wait_until_some<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        let why = match look().await {
            Ok(Ok(found)) => return Ok((found, start.elapsed())),
            Ok(Err(why)) => why,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("{what}: not within {} s: {why}", limit.as_secs());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Waits as [`wait_until_some`] does, for a condition that is only true or false; returns the time that it took.
pub async fn wait_until_true(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let found = wait_until_some(what, limit, async || {
        Ok(if look().await? { Ok(()) } else { Err("it is not".to_owned()) })
    });
    Ok(found.await?.1)
}
