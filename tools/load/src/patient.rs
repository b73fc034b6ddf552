//! Requests that are sent again until there is an answer that another try would not change.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::targets::TargetAddresses;

/// The time within which a server must answer: longer than the server's own wait for the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// The pause between two tries.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The time within which a request must be answered, and within which what was acknowledged must have an effect.
pub(crate) const EFFECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The rule of the refusal of further reports by the same user or address, which passes within an hour only.
pub(crate) const REPORTS_RULE: &str = "reports_of_user";

/// An answer that another try would not change.
#[derive(Debug)]
pub(crate) struct FinalAnswer {
    pub(crate) status: StatusCode,
    /// The body; null if it is no JSON.
    pub(crate) body: Value,
    /// Whether an earlier try may have been carried out, though its answer was lost.
    pub(crate) is_unsure: bool,
}

/// Sends requests to gateways in turn, again and again while they fail.
#[derive(Debug, Clone)]
pub(crate) struct PatientClient {
    client: Client,
    targets: TargetAddresses,
}

impl PatientClient {
    pub(crate) const fn new(client: Client, targets: TargetAddresses) -> Self {
        Self { client, targets }
    }

    /// Sends a request until an answer is there that another try would not change; `Err` says what was asked in vain. A
    /// null `body` is none.
    pub(crate) async fn until_answered(
        &self,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> Result<FinalAnswer, String> {
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        let mut is_unsure = false;
        loop {
            let target = self.targets.next_target();
            let mut request = self.client.request(method.clone(), target.url(path)).timeout(ANSWER_TIMEOUT);
            if !body.is_null() {
                request = request.json(body);
            }
            let mut has_failed = true;
            if let Ok(answer) = request.send().await {
                let status = answer.status();
                let body = answer.json().await.unwrap_or_default();
                if !is_temporary(status, &body) {
                    return Ok(FinalAnswer { status, body, is_unsure });
                }
                has_failed = status.is_server_error();
            }
            if has_failed {
                is_unsure = true;
                self.targets.note_failed(&target);
            }
            if Instant::now() > deadline {
                return Err(format!("{method} {path} got no answer within {EFFECT_TIMEOUT:?}"));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Reads a path; `Err` says why that failed.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        let FinalAnswer { status, body, .. } = self.until_answered(&Method::GET, path, &Value::Null).await?;
        if status.is_success() { Ok(body) } else { Err(format!("GET {path} got {status} {body}")) }
    }

    /// Sends a request until it is acknowledged. The comment that the request names may not be in the archive yet, so
    /// the request is sent again after a 404, too. If the answers stay 404, and an earlier answer was lost, the request
    /// was carried out when that answer was lost.
    pub(crate) async fn until_acknowledged(
        &self,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> Result<(), String> {
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        let mut is_unsure = false;
        loop {
            let answer = self.until_answered(method, path, body).await?;
            is_unsure |= answer.is_unsure;
            let is_missing = answer.status == StatusCode::NOT_FOUND;
            let is_late = Instant::now() > deadline;
            if answer.status.is_success() || (is_missing && is_late && is_unsure) {
                return Ok(());
            }
            if !is_missing || is_late {
                return Err(format!("{method} {path} got {} {}", answer.status, answer.body));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

fn is_temporary(status: StatusCode, body: &Value) -> bool {
    let is_refused_for_an_hour = body["rule"] == REPORTS_RULE;
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || (status == StatusCode::TOO_MANY_REQUESTS && !is_refused_for_an_hour)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_passes_soon_is_asked_again() {
        for (status, body, passes) in [
            (503, Value::Null, true),
            (408, Value::Null, true),
            (429, json!({"rule": "slow_mode"}), true),
            (429, json!({"rule": REPORTS_RULE}), false),
            (404, Value::Null, false),
            (403, json!({"rule": "ban"}), false),
            (202, Value::Null, false),
        ] {
            assert_eq!(is_temporary(StatusCode::from_u16(status).unwrap(), &body), passes, "{status} {body}");
        }
    }
}
