//! Waits, with a time limit, until something becomes true.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

/// The pause between two checks; a check costs one request.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What a wait found, with two bounds of the time after which it was there: the harness sees it only when it looks.
#[derive(Debug)]
pub struct FoundAfter<T> {
    /// The value that was waited for.
    pub found: T,
    /// The time at which the last check began that did not find the value; zero if the first one found it. What has to
    /// happen in a promised time is late only if this time is longer.
    pub at_least: Duration,
    /// The time at which the check that found the value ended.
    pub at_most: Duration,
}

/// The result of a check that may also see something that must never be.
#[derive(Debug)]
pub enum Look<T> {
    /// The value that is waited for.
    Found(T),
    /// The reason to go on waiting.
    NotYet(String),
    /// What must never be, in words: the wait ends with an error.
    Wrong(String),
}

/// Calls `look` until it returns a value, and returns the value with the bounds of its time. The error names the last
/// reason that `look` gave. An error of `look` is only such a reason, because servers are killed in these tests.
///
/// The wait is over only after a check that began later than `limit`: a check that the machine made slow proves nothing.
pub async fn wait_and_measure<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<FoundAfter<T>> {
    let start = Instant::now();
    let mut at_least = Duration::ZERO;
    loop {
        let began = start.elapsed();
        let why = match look().await {
            Ok(Ok(found)) => return Ok(FoundAfter { found, at_least, at_most: start.elapsed() }),
            Ok(Err(why)) => {
                at_least = began;
                why
            }
            Err(error) => format!("{error:#}"),
        };
        if began > limit {
            bail!("{what}: not within {} s: {why}", limit.as_secs());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Waits as [`wait_and_measure`] does; returns the value and the time that it took at most.
pub async fn wait_until_some<T>(
    what: &str,
    limit: Duration,
    look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<(T, Duration)> {
    wait_and_measure(what, limit, look).await.map(|it| (it.found, it.at_most))
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

/// Waits as [`wait_until_some`] does, and fails at once where `look` sees something that must never be.
pub async fn wait_and_watch<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Look<T>>,
) -> anyhow::Result<(T, Duration)> {
    let found = wait_until_some(what, limit, async || {
        Ok(match look().await? {
            Look::Found(found) => Ok(Ok(found)),
            Look::Wrong(why) => Ok(Err(why)),
            Look::NotYet(why) => Err(why),
        })
    });
    let (found, took) = found.await?;
    Ok((found.map_err(|why| anyhow!("{what}: {why}"))?, took))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_slow_check_that_began_in_time_does_not_end_a_wait() {
        let limit = Duration::from_millis(200);
        let wait = async |found_at: u32| {
            let mut checks = 0;
            let slow_first = async || {
                checks += 1;
                if checks == 1 {
                    tokio::time::sleep(2 * limit).await;
                }
                Ok(if checks == found_at { Ok(()) } else { Err("no".to_owned()) })
            };
            wait_until_some("it", limit, slow_first).await
        };
        assert!(wait(2).await.is_ok());
        assert_eq!(wait(3).await.unwrap_err().to_string(), "it: not within 0 s: no");
    }

    #[tokio::test]
    async fn what_is_found_at_once_took_no_time_at_least() {
        let found = wait_and_measure("it", LIMIT, async || Ok(Ok(7))).await.unwrap();
        assert_eq!((found.found, found.at_least), (7, Duration::ZERO));
        let mut checks = 0;
        let found = wait_and_measure("it", LIMIT, async || {
            checks += 1;
            match checks {
                1 | 2 => Ok(Err("no".to_owned())),
                3 => Err(anyhow!("it cannot be told")),
                _ => Ok(Ok(())),
            }
        });
        let found = found.await.unwrap();
        // The second check was the last one that said no, and another two followed.
        assert!(found.at_least >= LOOK_INTERVAL, "{found:?}");
        assert!(found.at_most >= found.at_least + 2 * LOOK_INTERVAL, "{found:?}");
    }

    #[tokio::test]
    async fn what_must_never_be_ends_a_wait() {
        let mut checks = 0;
        let seen = wait_and_watch("it", LIMIT, async || {
            checks += 1;
            Ok(if checks == 1 {
                Look::NotYet("no".to_owned())
            } else {
                Look::<()>::Wrong("a fire".to_owned())
            })
        });
        assert_eq!(seen.await.unwrap_err().to_string(), "it: a fire");
        let found = wait_and_watch("it", LIMIT, async || Ok(Look::Found(7))).await.unwrap();
        assert_eq!(found.0, 7);
    }
}
