//! What moderators did, and comments that wait for them, as clients see it, in the one place that decides it: the lists of
//! `GET /moderation/log` and `GET /moderation/held`, and the records of the exported topic of comments.

use liverank_core::moderation::{HeldComment, RECORDS_KEY};
use liverank_core::{EventId, Interaction, Millis, UserId, VideoId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::comment_json;

/// One line of the audit log. Members keep this order on the wire.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionJson {
    action_id: Option<EventId>,
    by: UserId,
    /// When, as the log took it.
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    videoid: Option<VideoId>,
    /// What, by whom in which role, and why.
    #[serde(flatten)]
    moderation: Value,
}

impl ActionJson {
    /// A moderation record that the log took at `time`.
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

/// A comment that waits for a moderator.
pub fn held(held: HeldComment) -> Value {
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
