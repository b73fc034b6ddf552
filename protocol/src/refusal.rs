//! What a refused request is told, as far as our own processes read it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The members of problem details (RFC 9457) that a process reads in another one's refusal. The refusal itself has more:
/// `liverank_runtime::Problem` writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalDetails {
    /// The reason for the refusal, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The member or parameter of the request that is wrong; absent if the refusal is not about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl RefusalDetails {
    /// Reads the members from the body of a refusal, each one independently of the other; all members are absent if the
    /// body holds no problem details.
    pub fn parse(body: &str) -> Self {
        let members: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        Self { detail: text("detail"), field: text("field") }
    }
}
