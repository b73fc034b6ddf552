//! The JSON form of moderation actions and of held comments as clients see it, defined in this one place for: `GET
//! /moderation/log`, `GET /moderation/held`, and the records of the exported topic of comments.

use liverank_core::moderation::{HeldComment, RECORDS_KEY};
use liverank_core::{EventId, Interaction, Millis, UserId, VideoId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::comment_json;

/// One entry of the audit log of moderation. The members keep this order in the JSON text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionJson {
    action_id: Option<EventId>,
    by: UserId,
    /// The time at which the log accepted the action, in RFC 3339.
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    videoid: Option<VideoId>,
    /// The action itself, the role of its actor, and the reason.
    #[serde(flatten)]
    moderation: Value,
}

impl ActionJson {
    /// Returns the JSON form of a moderation record that the log accepted at `time`, in milliseconds since 1970.
    pub fn of(time: Millis, record: Interaction) -> Self {
        let Interaction { video_id, user_id, event_id, moderation, .. } = record;
        let mut moderation = json!(moderation);
        if let Some(until) = moderation["until"].as_i64() {
            moderation["until"] = comment_json::format_time(until).into();
        }
        Self {
            action_id: event_id,
            by: user_id,
            timestamp: comment_json::format_time(time),
            videoid: (video_id.as_str() != RECORDS_KEY).then_some(video_id),
            moderation,
        }
    }
}

/// Returns the JSON form of a comment that waits for a moderator's decision.
pub fn held_comment_json(held: HeldComment) -> Value {
    let HeldComment { id, video, user, text, reply_to, timestamp, rule, .. } = held;
    let mut line = json!({
        "id": id, "videoid": video, "userid": user, "comment": text, "rule": rule,
        "timestamp": comment_json::format_time(timestamp),
    });
    if let Some(reply_to) = reply_to {
        line["reply_to"] = json!(reply_to);
    }
    line
}
