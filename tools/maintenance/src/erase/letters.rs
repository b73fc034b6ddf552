//! Finds the dead letters that name a user. They could not be parsed as events, so a name may be anywhere in them.

use liverank_adapters::event_log::StoredDeadLetter;
use liverank_core::UserId;
use serde_json::Value;

/// The members of an event that do not name a user. Without this list, every like would name a user who is called
/// `like`.
const MEMBERS_WITHOUT_USERS: [&str; 14] = [
    "action",
    "comment",
    "comment_id",
    "event_id",
    "idempotency_key",
    "kind",
    "reason",
    "reply_to",
    "role",
    "rule",
    "text",
    "type",
    "video_id",
    "videoid",
];

/// Returns true if a letter names this user: as a whole text anywhere in its JSON, except in
/// [`MEMBERS_WITHOUT_USERS`]. In a letter that is not JSON, or was cut, the name must appear in quotes.
pub(super) fn letter_names_user(letter: &StoredDeadLetter, user: &UserId) -> bool {
    if let Ok(value) = serde_json::from_slice::<Value>(&letter.value) {
        return names_user(&value, user.as_str());
    }
    let quoted = Value::from(user.as_str()).to_string().into_bytes();
    letter.value.windows(quoted.len()).any(|part| part == quoted)
}

fn names_user(value: &Value, user: &str) -> bool {
    match value {
        Value::String(text) => text == user,
        Value::Array(items) => items.iter().any(|item| names_user(item, user)),
        Value::Object(members) => members
            .iter()
            .any(|(name, item)| !MEMBERS_WITHOUT_USERS.contains(&name.as_str()) && names_user(item, user)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use liverank_adapters::event_log::RecordPosition;

    use super::*;

    fn letter(value: &str) -> StoredDeadLetter {
        StoredDeadLetter {
            letter_position: RecordPosition { partition: 0, offset: 0 },
            dead_lettered_at: 0,
            origin: None,
            reason: String::new(),
            key: None,
            value: value.as_bytes().to_vec().into(),
            truncated_from: None,
        }
    }

    #[test]
    fn a_letter_names_a_user_wherever_the_name_stands() {
        for named in [
            r#"{"user_id":"ann","type":"praise"}"#,
            r#"{"usr":"ann"}"#,
            r#"{"moderation":{"userid":"ann"}}"#,
            r#"["x","ann"]"#,
            r#"{"user_id":"ann","comment":"this one was cut he"#,
        ] {
            assert!(letter_names_user(&letter(named), &"ann".parse().unwrap()), "{named}");
        }
        for other in [
            r#"{"user_id":"anna"}"#,
            r#"{"user_id":"ben","comment":"ann","type":"ann","video_id":"ann"}"#,
            r#"{"user_id":"anna","comment":"cut"#,
            "ann",
            "",
        ] {
            assert!(!letter_names_user(&letter(other), &"ann".parse().unwrap()), "{other}");
        }
        assert!(
            letter_names_user(&letter(r#"{"u":"a\"b", cut"#), &"a\"b".parse().unwrap()),
            "as JSON writes it"
        );
    }
}
