//! Moderation records of the log: how they are written and read.

use serde_json::{Value, json};

use super::action::{Moderation, ModerationAction};
use super::version::NEWEST_MODERATION_VERSION;
use super::{erasure, reports};
use crate::comment::check_text;
use crate::event::members::required_text;
use crate::{EventId, Interaction, Invalid, Kind, Millis, UserId, VideoId, canary};

/// The key and `video_id` of records that belong to no video. No video has this id: the reader of the log accepts it
/// in moderation records only.
pub const RECORDS_KEY: &str = "liverank:moderation";

/// The longest reason of a moderator's action, in characters: a sentence or two.
pub const MAX_REASON_CHARS: usize = 500;

/// Checks a reason: at most [`MAX_REASON_CHARS`] characters.
///
/// # Errors
/// Returns an error of the field `reason` for a longer reason.
pub fn check_reason(reason: &str) -> Result<(), Invalid> {
    let chars = reason.chars().count();
    if chars > MAX_REASON_CHARS {
        let wrong = format!("must be at most {MAX_REASON_CHARS} characters, is {chars}");
        return Err(Invalid::new("reason", wrong));
    }
    Ok(())
}

impl Moderation {
    /// Makes the log record of this action, done by `user` at `now`. `video` is the video that the action is about;
    /// `None` for an action on a user. Repeats of `id` count once.
    pub fn into_record(self, user: UserId, video: Option<VideoId>, id: EventId, now: Millis) -> Interaction {
        let key = || VideoId::parse(RECORDS_KEY).expect("the key is an identifier");
        Interaction {
            video_id: video.unwrap_or_else(key),
            user_id: user,
            kind: Kind::Moderation,
            watch_ms: 0,
            timestamp: now,
            event_id: Some(id),
            owner_id: None,
            comment: None,
            moderation: Some(Box::new(self)),
        }
    }
}

/// Writes a moderation record as JSON.
pub(crate) fn to_json(record: &Interaction, moderation: &Moderation) -> Vec<u8> {
    let wire = json!({
        "type": Kind::Moderation.name(),
        "version": moderation.version(),
        "video_id": record.video_id,
        "user_id": record.user_id,
        "timestamp": record.timestamp,
        "event_id": record.event_id,
        "moderation": moderation,
    });
    serde_json::to_vec(&wire).expect("text and numbers always serialise")
}

/// Whether this JSON is a moderation record, by its `type`.
pub(crate) fn is_moderation_record(value: &Value) -> bool {
    value["type"] == Kind::Moderation.name()
}

/// Reads a moderation record; refuses one of an unknown version or with a wrong member.
pub(crate) fn parse(value: &Value) -> Result<Interaction, Invalid> {
    let Value::Object(object) = value else { return Err(Invalid::new("body", "must be a JSON object")) };
    if !value["version"].as_u64().is_some_and(|version| (1..=NEWEST_MODERATION_VERSION).contains(&version)) {
        return Err(Invalid::new(
            "version",
            format!("must be a whole number from 1 to {NEWEST_MODERATION_VERSION}"),
        ));
    }
    let wrong = |field| move |error: serde_json::Error| Invalid::new(field, error.to_string());
    let moderation: Moderation =
        serde_json::from_value(value["moderation"].clone()).map_err(wrong("moderation"))?;
    if let Some(reason) = &moderation.reason {
        check_reason(reason)?;
        if matches!(moderation.action, ModerationAction::Report { .. }) {
            reports::check_report_text("reason", reason)?;
        }
    }
    if let ModerationAction::SetRules { rules: Some(rules), .. } = &moderation.action {
        rules.check()?;
    }
    if let ModerationAction::Forget { marks, .. } = &moderation.action {
        erasure::check_marks(marks)?;
    }
    let video = canary::parse_outside_id("video_id", required_text(object, "video_id")?)?;
    if let ModerationAction::Shadow { text, .. } | ModerationAction::Hold { text, .. } = &moderation.action {
        check_text("text", text)?;
    }
    if moderation.action.is_on_a_video() == (video.as_str() == RECORDS_KEY) {
        return Err(Invalid::new("video_id", "does not go with this action"));
    }
    let timestamp = value["timestamp"].as_i64();
    let timestamp = timestamp.ok_or_else(|| Invalid::new("timestamp", "must be in milliseconds"))?;
    let user = UserId::parse(required_text(object, "user_id")?)?;
    let id = EventId::parse(required_text(object, "event_id")?)?;
    Ok(moderation.into_record(user, Some(video), id, timestamp))
}
