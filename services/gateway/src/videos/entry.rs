//! `PUT /videos/{video_id}` says what a video is, `DELETE /videos/{video_id}` takes it off all boards: each one record of the
//! log, answered once the log has it durably.

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
use crate::auth::moderator::Actor;
use crate::moderation::{Accepted, Deed, reason};

/// `PUT /videos/{video_id}?owner_id=`, with the metadata as the body.
pub(crate) async fn put(
    State(gateway): State<Arc<Gateway>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<Accepted, Problem> {
    let video = parse_id(path)?;
    params.expect_only(&["owner_id"])?;
    let owner_id =
        params.optional_text("owner_id")?.map(|id| UserId::parse_field("owner_id", id)).transpose()?;
    let metadata = Metadata::read(&Value::Object(body))?;
    let known = gateway.archive.noted(gateway.backends.archive.video(&video).await)?;
    let role = role_of_actor(&actor, known.as_ref())?;
    if role == ActorRole::Owner {
        if owner_id.is_some() {
            return Err(Invalid::new("owner_id", "is for services to say").into());
        }
        if known.is_some_and(|state| state.removed_by.is_some_and(|by| by != ActorRole::Owner)) {
            return Err(forbidden_problem(
                "somebody else than its owner took this video off: only a service puts it back",
            ));
        }
    }
    let action = ModerationAction::PutVideo { metadata, owner_id };
    append_record(&gateway, actor.user, role, None, video, action).await
}

/// `DELETE /videos/{video_id}?reason=`.
pub(crate) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    params: QueryParams,
) -> Result<Accepted, Problem> {
    let video = parse_id(path)?;
    params.expect_only(&["reason"])?;
    let reason = reason(params.optional_text("reason")?)?;
    let known = gateway.archive.noted(gateway.backends.archive.video(&video).await)?;
    let role = role_of_actor(&actor, known.as_ref())?;
    if known.is_none() {
        return Err(Problem::not_found(format!("nothing has happened to the video {video} yet")));
    }
    append_record(&gateway, actor.user, role, reason, video, ModerationAction::RemoveVideo).await
}

fn parse_id(path: Result<Path<String>, PathRejection>) -> Result<VideoId, Invalid> {
    let Path(id) = path.map_err(|_| Invalid::new("video_id", "must be UTF-8"))?;
    canary::parse_outside_id("video_id", &id)
}

async fn append_record(
    gateway: &Gateway,
    user: UserId,
    role: ActorRole,
    reason: Option<String>,
    video: VideoId,
    action: ModerationAction,
) -> Result<Accepted, Problem> {
    let answer = json!({ "video_id": video });
    Deed { user, role, reason, video: Some(video), action }.record(gateway, answer).await
}

/// As what somebody may change a video. Its owner is who was given as such: whoever is merely the first to see it is none.
fn role_of_actor(actor: &Actor, video: Option<&VideoState>) -> Result<ActorRole, Problem> {
    let owns = |state: &&VideoState| state.owner_given && state.owner == actor.user;
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
