//! Waiting for something to become true, in bounds.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Between looks, where looking costs one request.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Looks until `look` answers something; where it answers why not, the last of that becomes the error. Errors in looking
/// are such answers, too: servers go away in these tests. Answers how long it took, too.
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

/// As [`wait_until_some`], for what is just true or not.
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
