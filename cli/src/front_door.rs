//! Asks a gateway for the state of the whole system: `GET /operate`.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use liverank_runtime::client::Client;
use liverank_runtime::peer::root_cause;
use reqwest::{StatusCode, Url};
use serde_json::Value;

/// The time within which the gateway must answer: it waits up to 3 s for the stores itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
/// The longest time in milliseconds for which a record may wait to be counted; the alert `LiverankCountingBehind` has
/// the same bound.
const MAX_COUNTING_WAIT_MS: u64 = 30_000;

/// The flags of every command that asks a gateway: its address, and the caller's token.
#[derive(Debug, Clone, Args)]
pub struct GatewayAccessArgs {
    /// The address of a gateway.
    #[arg(long, env = "LIVERANK_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: Url,
    /// A viewer's token with the role operator or service, if the system asks viewers for tokens.
    #[arg(long, env = "LIVERANK_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

impl GatewayAccessArgs {
    /// Returns the gateway's answer to `GET /operate`.
    ///
    /// # Errors
    /// No gateway answers at the address, or it refuses the token; the error says what to do about it.
    pub async fn fetch_overview(&self, client: &Client) -> anyhow::Result<Value> {
        let url = self.url.join("/operate").context("--url")?;
        let mut request = client.get(url).timeout(REQUEST_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| {
            let why = root_cause(&error);
            anyhow::anyhow!("the front door does not answer at {}; set --url: {why}", self.url)
        })?;
        match answer.status() {
            StatusCode::OK => answer.json().await.context("what answers there is not liverank"),
            StatusCode::UNAUTHORIZED => bail!(
                "this system asks viewers for tokens, and {}: --token (LIVERANK_TOKEN), with the role operator",
                if self.token.is_some() { "this one is not good" } else { "none is given" }
            ),
            StatusCode::FORBIDDEN => bail!("the token lacks the role operator or service"),
            StatusCode::NOT_FOUND => bail!("{} is of a release without this, or no front door", self.url),
            status => bail!("the front door answers {status}"),
        }
    }
}

/// Returns what is wrong with counting, in words, if the oldest of `records` uncounted records has waited too long:
/// the sign that no consumer runs, or that none keeps up. `None` if nothing is wrong.
pub fn counting_trouble(records: u64, waited_ms: u64) -> Option<String> {
    (records > 0 && waited_ms > MAX_COUNTING_WAIT_MS).then(|| {
        let seconds = waited_ms / 1000;
        let waiting = match records {
            1 => "1 record is not counted,".to_owned(),
            many => format!("{many} records are not counted, the oldest"),
        };
        format!("{waiting} for {seconds} s: does a consumer run?")
    })
}

/// Returns what an answer of `GET /operate` says about counting: the trouble, or `None`.
///
/// # Errors
/// The gateway does not know the lag, because a store does not answer.
pub fn counting_trouble_in_overview(overview: &Value) -> anyhow::Result<Option<String>> {
    let lag = &overview["lag"];
    let records = lag["records"].as_u64().context("the gateway does not know how far counting is behind")?;
    Ok(counting_trouble(records, lag["waited_ms"].as_u64().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_that_wait_too_long_are_a_trouble_and_an_unknown_lag_is_an_error() {
        let said = |lag: Value| counting_trouble_in_overview(&json!({ "lag": lag })).ok();
        let lag = |records: u64, waited: u64| said(json!({"records": records, "waited_ms": waited}));
        assert_eq!(
            lag(312, 67_900).unwrap().unwrap(),
            "312 records are not counted, the oldest for 67 s: does a consumer run?"
        );
        assert_eq!((lag(312, 30_000), lag(0, 99_000)), (Some(None), Some(None)));
        assert_eq!(said(json!({"records": 3, "waited_ms": null})), Some(None), "the first look at it");
        assert_eq!(said(Value::Null), None);
    }
}
