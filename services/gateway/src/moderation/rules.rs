//! `/moderation/rules`: the rules that comments must follow, on one video, on an owner's videos or everywhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use liverank_core::Invalid;
use liverank_core::event::optional_text;
use liverank_core::moderation::comment_rules::MAX_RULED_SCOPES;
use liverank_core::moderation::{
    ChangedRule, CommentRules, ModerationAction, RuleChange, RuleScope, ScopeRules,
};
use liverank_runtime::body::{JsonObject, expect_members};
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json};
use serde_json::{Map, Value, json};

use super::bans::{MAX_REVISION, add_scope_members, parse_scope};
use super::{AcceptedResponse, DEFAULT_LIMIT, PendingAction, parse_reason};
use crate::Gateway;
use crate::auth::moderator::ModerationSender;
use crate::interact::{reserve_moderation_place, reserve_place};

/// Maximum number of lines on a page: the rules on a line are at most 8 KiB.
const MAX_LIMIT: u64 = 200;

/// Answers `POST /moderation/rules {"videoid"?|"owner_id"?,"reason"?,"rules"}`: sets the rules of a scope, instead of
/// those that it had.
pub(crate) async fn post_rules(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    actor.moderator_role()?;
    params.expect_only(&[])?;
    expect_members(&body, &["videoid", "owner_id", "rules", "reason"])?;
    let text = |field| optional_text(&body, field);
    let scope = parse_scope(text("videoid")?, text("owner_id")?)?;
    let why = parse_reason(text("reason")?)?;
    let rules = Some(parse_rules(&body)?).filter(|rules| !rules.is_empty());
    if rules.is_some() {
        check_scope_limit(&gateway).await?;
    }
    append_rules_record(&gateway, actor, scope, why, rules).await
}

fn parse_rules(body: &Map<String, Value>) -> Result<CommentRules, Invalid> {
    match body.get("rules") {
        Some(Value::Object(rules)) => CommentRules::parse(rules),
        None | Some(Value::Null) => Err(Invalid::missing("rules")),
        Some(_) => Err(Invalid::new("rules", "must be a JSON object")),
    }
}

/// Checks that one more scope may have rules; returns 409 if as many scopes as allowed have some. The number of scopes
/// is bounded because comment services keep all rules in memory. Several requests at the same time may exceed the bound
/// of scopes by their number.
async fn check_scope_limit(gateway: &Gateway) -> Result<(), Problem> {
    let _place = reserve_moderation_place(gateway)?;
    let count = gateway.backends.archive.moderation_archive().count_comment_rules().await;
    if gateway.archive_dependency.note_result(count)? < MAX_RULED_SCOPES {
        return Ok(());
    }
    let detail = format!("{MAX_RULED_SCOPES} places have rules already: take some away first");
    Err(Problem::new(StatusCode::CONFLICT, detail).with_member("rule", "places"))
}

/// Answers `DELETE /moderation/rules?videoid=&owner_id=&reason=`: removes the rules of a scope.
pub(crate) async fn delete_rules(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<AcceptedResponse, Problem> {
    actor.moderator_role()?;
    params.expect_only(&["videoid", "owner_id", "reason"])?;
    let scope = parse_scope(params.optional_text("videoid")?, params.optional_text("owner_id")?)?;
    let why = parse_reason(params.optional_text("reason")?)?;
    append_rules_record(&gateway, actor, scope, why, None).await
}

async fn append_rules_record(
    gateway: &Gateway,
    actor: ModerationSender,
    scope: RuleScope,
    reason: Option<String>,
    rules: Option<CommentRules>,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    let mut answer = json!({ "rules": rules });
    add_scope_members(&mut answer, &scope);
    let action = ModerationAction::SetRules { scope, rules };
    PendingAction { user: actor.user, role, reason, video: None, action }.submit(gateway, answer).await
}

/// Answers `GET /moderation/rules?after=&limit=` with the rules in force, in the order of their last change.
pub(crate) async fn list_rules(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<Json<Value>, Problem> {
    actor.moderator_role()?;
    params.expect_only(&["after", "limit"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let after = params.optional_number("after", 0..=MAX_REVISION)?.unwrap_or(0);
    reserve_place(&gateway, &exchange)?;
    let found = gateway.backends.archive.moderation_archive().comment_rules_since(after, limit).await;
    let found = gateway.archive_dependency.note_result(found)?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.revision);
    let rules: Vec<Value> = found.into_iter().filter_map(rule_line).collect();
    Ok(Json(json!({ "rules": rules, "next": next })))
}

fn rule_line(change: RuleChange) -> Option<Value> {
    let ChangedRule::CommentRules { scope, rules: Some(rules) } = change.changed_rule else { return None };
    let ScopeRules { rules, reason, by, at } = &*rules;
    let mut line =
        json!({ "rules": rules, "by": by, "reason": reason, "since": comment_json::format_time(*at) });
    add_scope_members(&mut line, &scope);
    Some(line)
}
