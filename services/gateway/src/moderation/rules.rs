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
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json};
use serde_json::{Map, Value, json};

use super::bans::{MAX_REVISION, scope, scope_members};
use super::{Accepted, DEFAULT_LIMIT, Deed, reason};
use crate::Gateway;
use crate::auth::moderator::Actor;
use crate::interact::{take_place, too_many};

/// Maximum number of lines on a page: the rules on a line are at most 8 KiB.
const MAX_LIMIT: u64 = 200;

/// Answers `POST /moderation/rules {"videoid"?|"owner_id"?,"reason"?,"rules"}`: sets the rules of a scope, instead of
/// those that it had.
pub(crate) async fn set(
    State(gateway): State<Arc<Gateway>>,
    actor: Actor,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<Accepted, Problem> {
    actor.moderator()?;
    params.expect_only(&[])?;
    let text = |field| optional_text(&body, field);
    let scope = scope(text("videoid")?, text("owner_id")?)?;
    let why = reason(text("reason")?)?;
    let rules = Some(parse_rules(&body)?).filter(|rules| !rules.is_empty());
    if rules.is_some() {
        expect_room(&gateway).await?;
    }
    append_record(&gateway, actor, scope, why, rules).await
}

fn parse_rules(body: &Map<String, Value>) -> Result<CommentRules, Invalid> {
    match body.get("rules") {
        Some(Value::Object(rules)) => CommentRules::parse(rules),
        None | Some(Value::Null) => Err(Invalid::missing("rules")),
        Some(_) => Err(Invalid::new("rules", "must be a JSON object")),
    }
}

/// Checks that one more scope may have rules; returns 409 if as many scopes as allowed have some. There is a bound
/// because comment services keep all rules in memory. Several requests at the same time may exceed the bound of scopes
/// by their number.
async fn expect_room(gateway: &Gateway) -> Result<(), Problem> {
    let Ok(_permit) = gateway.in_flight.try_acquire() else { return Err(too_many()) };
    let count = gateway.backends.archive.moderation_archive().count_comment_rules().await;
    if gateway.archive.noted(count)? < MAX_RULED_SCOPES {
        return Ok(());
    }
    let detail = format!("{MAX_RULED_SCOPES} places have rules already: take some away first");
    Err(Problem::new(StatusCode::CONFLICT, detail).with_member("rule", "places"))
}

/// Answers `DELETE /moderation/rules?videoid=&owner_id=&reason=`: removes the rules of a scope.
pub(crate) async fn take_away(
    State(gateway): State<Arc<Gateway>>,
    actor: Actor,
    params: QueryParams,
) -> Result<Accepted, Problem> {
    actor.moderator()?;
    params.expect_only(&["videoid", "owner_id", "reason"])?;
    let scope = scope(params.optional_text("videoid")?, params.optional_text("owner_id")?)?;
    let why = reason(params.optional_text("reason")?)?;
    append_record(&gateway, actor, scope, why, None).await
}

async fn append_record(
    gateway: &Gateway,
    actor: Actor,
    scope: RuleScope,
    reason: Option<String>,
    rules: Option<CommentRules>,
) -> Result<Accepted, Problem> {
    let role = actor.moderator()?;
    let mut answer = json!({ "rules": rules });
    scope_members(&mut answer, &scope);
    let action = ModerationAction::SetRules { scope, rules };
    Deed { user: actor.user, role, reason, video: None, action }.record(gateway, answer).await
}

/// Answers `GET /moderation/rules?after=&limit=` with the rules in force, in the order of their last change.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    actor: Actor,
    params: QueryParams,
) -> Result<Json<Value>, Problem> {
    actor.moderator()?;
    params.expect_only(&["after", "limit"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let after = params.optional_number("after", 0..=MAX_REVISION)?.unwrap_or(0);
    take_place(&gateway, &exchange)?;
    let found = gateway.backends.archive.moderation_archive().comment_rules_since(after, limit).await;
    let found = gateway.archive.noted(found)?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.revision);
    let rules: Vec<Value> = found.into_iter().filter_map(rule_line).collect();
    Ok(Json(json!({ "rules": rules, "next": next })))
}

fn rule_line(change: RuleChange) -> Option<Value> {
    let ChangedRule::CommentRules { scope, rules: Some(rules) } = change.changed_rule else { return None };
    let ScopeRules { rules, reason, by, at } = &*rules;
    let mut line =
        json!({ "rules": rules, "by": by, "reason": reason, "since": comment_json::format_time(*at) });
    scope_members(&mut line, &scope);
    Some(line)
}
