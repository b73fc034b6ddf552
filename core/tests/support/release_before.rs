//! The reader of log records in the release before: the part that decides whether a record is counted, waits for an
//! upgrade, or becomes a dead letter. The module is a copy of that reader, and is changed only when a release is made.

use serde::Deserialize;
use serde_json::Value;

/// The treatment of a record by a consumer of the release before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// The consumer counts the record.
    Counts,
    /// The consumer stops before the record, until a consumer of a later release continues.
    Waits,
    /// The consumer makes the record a dead letter: what the record says is lost.
    DeadLetters,
}

const KNOWN_FORMAT: u64 = 1;
const KNOWN_VERSION: u64 = 1;
const KNOWN_KINDS: [&str; 5] = ["view", "like", "comment", "share", "watch_time"];

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActorRole {
    Author,
    Moderator,
    Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Restriction {
    Ban,
    Mute,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "whether it is read is all that is asked")]
enum Scope {
    Everywhere,
    Owner(String),
    Video(String),
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[expect(dead_code, reason = "whether it is read is all that is asked")]
enum Action {
    Delete { comment_id: String },
    Restrict { userid: String, kind: Restriction, scope: Scope, until: Option<i64> },
    Lift { userid: String, kind: Restriction, scope: Scope },
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "whether it is read is all that is asked")]
struct Moderation {
    #[serde(flatten)]
    action: Action,
    role: ActorRole,
    reason: Option<String>,
}

/// Returns the treatment of this record, whose other members are assumed to be valid.
pub fn treatment(record: &Value) -> Treatment {
    let later = |member: &str, latest: u64| record[member].as_u64().is_some_and(|number| number > latest);
    if later("format", KNOWN_FORMAT) {
        return Treatment::Waits;
    }
    let is_known = if record["type"] == "moderation" {
        if later("version", KNOWN_VERSION) {
            return Treatment::Waits;
        }
        record["version"] == KNOWN_VERSION
            && serde_json::from_value::<Moderation>(record["moderation"].clone()).is_ok()
    } else {
        record["type"].as_str().is_some_and(|kind| KNOWN_KINDS.contains(&kind))
    };
    if is_known { Treatment::Counts } else { Treatment::DeadLetters }
}
