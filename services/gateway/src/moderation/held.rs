//! `/moderation/held`: the comments that wait for a moderator, and their review.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use liverank_adapters::archive::AuditPosition;
use liverank_core::event::{optional_text, required_text};
use liverank_core::moderation::{ModerationAction, ReviewOutcome};
use liverank_core::{CommentId, Invalid, canary};
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, moderation_json, now_ms};
use serde_json::{Value, json};

use super::{AcceptedResponse, DEFAULT_LIMIT, PendingAction, parse_reason};
use crate::Gateway;
use crate::auth::moderator::ModerationSender;
use crate::interact::{append_interaction, reserve_moderation_place, reserve_place};

/// Maximum number of lines on a page: each has a comment of at most 16 KiB.
const MAX_LIMIT: u64 = 200;

/// Answers `GET /moderation/held?after=&limit=` with the comments that wait for a moderator, oldest first.
pub(crate) async fn list_held_comments(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<Json<Value>, Problem> {
    actor.moderator_role()?;
    params.expect_only(&["after", "limit"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let after =
        params.optional_text("after")?.map(|text| AuditPosition::parse_field("after", text)).transpose()?;
    reserve_place(&gateway, &exchange)?;
    let held = gateway.backends.archive.moderation_archive().held_comments(after, limit).await;
    let held = gateway.archive_dependency.note_result(held)?;
    let next = held
        .last()
        .filter(|_| held.len() == limit)
        .map(|last| AuditPosition::of_held_comment(last).to_string());
    let comments: Vec<Value> = held.into_iter().map(moderation_json::held_comment_json).collect();
    Ok(Json(json!({ "comments": comments, "next": next })))
}

fn parse_outcome(text: &str) -> Result<ReviewOutcome, Invalid> {
    match text {
        "release" => Ok(ReviewOutcome::Release),
        "reject" => Ok(ReviewOutcome::Reject),
        _ => Err(Invalid::new("outcome", "must be release or reject")),
    }
}

/// Answers `POST /moderation/held {"videoid","id","outcome","reason"?}`: releases or rejects a comment that waits.
///
/// A released comment is appended to the log as any comment, before the action that ends its waiting. If only the
/// comment reaches the log, the comment still waits for a moderator; releasing it again appends the same comment.
pub(crate) async fn review_held_comment(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    params.expect_only(&[])?;
    let video = canary::parse_outside_id("videoid", required_text(&body, "videoid")?)?;
    let id = CommentId::parse_field("id", required_text(&body, "id")?)?;
    let outcome = parse_outcome(required_text(&body, "outcome")?)?;
    let reason = parse_reason(optional_text(&body, "reason")?)?;
    let held = gateway.backends.archive.moderation_archive().held_comment(&video, &id).await;
    let held = gateway.archive_dependency.note_result(held)?;
    let held = held.ok_or_else(|| Problem::not_found("no such comment waits").with_member("field", "id"))?;
    if outcome == ReviewOutcome::Release {
        let _place = reserve_moderation_place(&gateway)?;
        append_interaction(&gateway, &held.release_record(now_ms())).await?;
    }
    let answer = json!({ "videoid": video, "id": id, "outcome": outcome });
    let action = ModerationAction::Review { comment_id: id, outcome };
    PendingAction { user: actor.user, role, reason, video: Some(video), action }
        .submit(&gateway, answer)
        .await
}
