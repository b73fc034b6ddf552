//! `/moderation/pins`: pins one comment of a video, or removes the pin.

use std::sync::Arc;

use axum::extract::State;
use liverank_core::event::{optional_text, required_text};
use liverank_core::moderation::ModerationAction;
use liverank_core::{CommentId, VideoId, canary};
use liverank_runtime::Problem;
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::QueryParams;
use serde_json::json;

use super::deletion::known_comment;
use super::{AcceptedResponse, PendingAction, parse_reason};
use crate::Gateway;
use crate::auth::moderator::ModerationSender;

/// Answers `POST /moderation/pins {"videoid","id","reason"?}`: pins a comment, instead of the one that was pinned
/// before.
pub(crate) async fn pin_comment(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    actor.moderator_role()?;
    params.expect_only(&[])?;
    let video = canary::parse_outside_id("videoid", required_text(&body, "videoid")?)?;
    let id = CommentId::parse_field("id", required_text(&body, "id")?)?;
    let why = parse_reason(optional_text(&body, "reason")?)?;
    let comment = known_comment(&gateway, &video, &id).await?;
    if !comment.entry.is_comment() {
        return Err(Problem::not_found("this comment was removed").with_member("field", "id"));
    }
    append_pin_record(&gateway, actor, video, Some(id), why).await
}

/// Answers `DELETE /moderation/pins?videoid=&reason=`: removes the pin of a video.
pub(crate) async fn unpin_comment(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<AcceptedResponse, Problem> {
    actor.moderator_role()?;
    params.expect_only(&["videoid", "reason"])?;
    let video = canary::parse_outside_id("videoid", params.required_text("videoid")?)?;
    let why = parse_reason(params.optional_text("reason")?)?;
    append_pin_record(&gateway, actor, video, None, why).await
}

async fn append_pin_record(
    gateway: &Gateway,
    actor: ModerationSender,
    video: VideoId,
    comment_id: Option<CommentId>,
    reason: Option<String>,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    let answer = json!({ "videoid": video, "id": comment_id });
    let action = ModerationAction::Pin { comment_id };
    PendingAction { user: actor.user, role, reason, video: Some(video), action }.submit(gateway, answer).await
}
