//! `DELETE /comments/{videoid}/{id}`: deletes a comment, for its author or for a moderator.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use liverank_core::moderation::{ActorRole, ModerationAction};
use liverank_core::{Comment, CommentId, Invalid, VideoId, canary};
use liverank_runtime::Problem;
use liverank_runtime::params::QueryParams;
use serde_json::json;

use super::{AcceptedResponse, PendingAction, accepted_response, parse_reason};
use crate::Gateway;
use crate::auth::moderator::ModerationSender;

/// The `Retry-After` for a comment that the archive does not have yet: an acknowledged comment is archived long
/// before.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answers `DELETE /comments/{videoid}/{id}?reason=` once the log has the deletion; viewers are told of it a moment
/// later.
pub(crate) async fn delete_comment(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    path: Result<Path<(String, String)>, PathRejection>,
    params: QueryParams,
) -> Result<AcceptedResponse, Problem> {
    let Path((video, id)) = path.map_err(|_| Invalid::new("id", "must be UTF-8"))?;
    let video = canary::parse_outside_id("videoid", &video)?;
    let id = CommentId::parse_field("id", &id)?;
    params.expect_only(&["reason"])?;
    let reason = parse_reason(params.optional_text("reason")?)?;
    let comment = known_comment(&gateway, &video, &id).await?;
    let role = role_of_actor(&actor, &comment)?;
    let answer = json!({ "videoid": video, "id": id });
    if !comment.entry.has_text() {
        return Ok(accepted_response(answer));
    }
    let action = ModerationAction::Delete { comment_id: id };
    PendingAction { user: actor.user, role, reason, video: Some(video), action }
        .submit(&gateway, answer)
        .await
}

/// Returns the comment of a video by its id.
///
/// # Errors
/// Returns 404 if the archive has no comment of the video with this id.
pub(super) async fn known_comment(
    gateway: &Gateway,
    video: &VideoId,
    id: &CommentId,
) -> Result<Comment, Problem> {
    let comment =
        gateway.archive_dependency.note_result(gateway.backends.archive.newest_comment(video, id).await)?;
    comment.ok_or_else(|| {
        let detail = "the video has no such comment; one that was just posted is found a moment later";
        Problem::not_found(detail).with_member("field", "id").with_retry_after(RETRY_AFTER)
    })
}

/// Returns the role in which a user may delete a comment; 403 if the user is neither its author nor a moderator.
fn role_of_actor(actor: &ModerationSender, comment: &Comment) -> Result<ActorRole, Problem> {
    if comment.user_id == actor.user {
        return Ok(ActorRole::Author);
    }
    actor.role.ok_or_else(|| {
        let detail = "only the author of a comment, or a moderator, may delete it";
        Problem::new(StatusCode::FORBIDDEN, detail).with_member("rule", "author")
    })
}
