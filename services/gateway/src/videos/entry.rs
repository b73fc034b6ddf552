//! `PUT /videos/{video_id}` sets a video's metadata, `DELETE /videos/{video_id}` removes a video from all boards. Each
//! is one record of the log, acknowledged once the log has stored it durably.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use liverank_core::counting::VideoState;
use liverank_core::moderation::{ActorRole, ModerationAction};
use liverank_core::{Invalid, Metadata, UserId, VideoId, canary};
use liverank_runtime::Problem;
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::QueryParams;
use serde_json::{Value, json};

use crate::Gateway;
use crate::auth::moderator::ModerationSender;
use crate::moderation::{AcceptedResponse, PendingAction, parse_reason};

/// Answers `PUT /videos/{video_id}?owner_id=`, whose body is the metadata.
pub(crate) async fn put_metadata(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    path: Result<Path<String>, PathRejection>,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    let video = parse_id(path)?;
    params.expect_only(&["owner_id"])?;
    let owner_id =
        params.optional_text("owner_id")?.map(|id| UserId::parse_field("owner_id", id)).transpose()?;
    let metadata = Metadata::from_value(&Value::Object(body))?;
    let known = gateway.archive_dependency.note_result(gateway.backends.archive.video(&video).await)?;
    let role = role_of_actor(&actor, known.as_ref())?;
    if owner_id.is_some() && !actor.may_name_owners {
        return Err(Invalid::new("owner_id", "is for services to say").into());
    }
    if role == ActorRole::Owner
        && known.is_some_and(|state| state.removed_by.is_some_and(|by| by != ActorRole::Owner))
    {
        return Err(forbidden_problem(
            "somebody else than its owner took this video off: only a service puts it back",
        ));
    }
    let action = ModerationAction::PutVideo { metadata, owner_id };
    append_video_record(&gateway, actor.user, role, None, video, action).await
}

/// Answers `DELETE /videos/{video_id}?reason=`: removes the video from all boards.
pub(crate) async fn delete_video(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    path: Result<Path<String>, PathRejection>,
    params: QueryParams,
) -> Result<AcceptedResponse, Problem> {
    let video = parse_id(path)?;
    params.expect_only(&["reason"])?;
    let reason = parse_reason(params.optional_text("reason")?)?;
    let known = gateway.archive_dependency.note_result(gateway.backends.archive.video(&video).await)?;
    let role = role_of_actor(&actor, known.as_ref())?;
    if known.is_none() {
        return Err(Problem::not_found(format!("nothing has happened to the video {video} yet")));
    }
    append_video_record(&gateway, actor.user, role, reason, video, ModerationAction::RemoveVideo).await
}

fn parse_id(path: Result<Path<String>, PathRejection>) -> Result<VideoId, Invalid> {
    let Path(id) = path.map_err(|_| Invalid::new("video_id", "must be UTF-8"))?;
    canary::parse_outside_id("video_id", &id)
}

async fn append_video_record(
    gateway: &Gateway,
    user: UserId,
    role: ActorRole,
    reason: Option<String>,
    video: VideoId,
    action: ModerationAction,
) -> Result<AcceptedResponse, Problem> {
    let answer = json!({ "video_id": video });
    PendingAction { user, role, reason, video: Some(video), action }.submit(gateway, answer).await
}

/// Returns the role in which the user may change a video; 403 if it may not. Only a user who was given as the owner
/// counts as the owner here; the video's first user, whom boards show as its owner until one is given, does not.
fn role_of_actor(actor: &ModerationSender, video: Option<&VideoState>) -> Result<ActorRole, Problem> {
    let owns = |state: &&VideoState| state.is_owner_given && state.owner == actor.user;
    match (actor.role, video.filter(owns)) {
        (Some(role), _) => Ok(role),
        (None, Some(_)) => Ok(ActorRole::Owner),
        (None, None) => Err(forbidden_problem(
            "only its owner, or a token whose roles have service or moderator, may change a video",
        )),
    }
}

fn forbidden_problem(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail).with_member("rule", "owner")
}
