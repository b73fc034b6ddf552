//! `/moderation/bans`: bans and mutes of users, whose comments are refused for a time or without an end, on one video,
//! on an owner's videos or everywhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use liverank_core::event::{optional_text, required_text};
use liverank_core::moderation::{
    ChangedRule, ModerationAction, Restriction, RuleChange, RuleScope, UserRestriction,
};
use liverank_core::{Invalid, Millis, UserId, canary};
use liverank_runtime::body::{JsonObject, expect_members};
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json, now_ms};
use serde_json::{Map, Value, json};

use super::{AcceptedResponse, DEFAULT_LIMIT, MAX_LIMIT, PendingAction, parse_reason};
use crate::Gateway;
use crate::auth::moderator::ModerationSender;
use crate::interact::reserve_place;

/// Maximum duration of a ban with an end, in seconds: ten years. A ban that is to last longer is given without an end.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 3600;
/// The greatest revision that JSON clients can hold exactly in a 64-bit float.
pub(super) const MAX_REVISION: u64 = (1 << 53) - 1;
/// Maximum number of restrictions that are read for one page, including those that have ended.
const MAX_RESTRICTIONS_READ: usize = 10_000;

/// The user whom a restriction is about, its kind, and the videos to which it applies.
pub(super) struct RestrictionTarget {
    pub(super) userid: UserId,
    pub(super) kind: Restriction,
    pub(super) scope: RuleScope,
}

impl RestrictionTarget {
    fn parse_target(
        userid: &str,
        kind: Option<&str>,
        video: Option<&str>,
        owner: Option<&str>,
    ) -> Result<Self, Invalid> {
        let scope = parse_scope(video, owner)?;
        let kind = kind.map_or(Ok(Restriction::Ban), Restriction::parse)?;
        Ok(Self { userid: UserId::parse_field("userid", userid)?, kind, scope })
    }

    fn to_json(&self) -> Value {
        let mut body = json!({ "userid": self.userid, "kind": self.kind });
        add_scope_members(&mut body, &self.scope);
        body
    }
}

/// Returns the scope of a restriction: one video, the videos of one owner, or everywhere. Returns an error if both a
/// video and an owner are given, or if an id is not valid.
pub(super) fn parse_scope(video: Option<&str>, owner: Option<&str>) -> Result<RuleScope, Invalid> {
    match (video, owner) {
        (None, None) => Ok(RuleScope::Everywhere),
        (Some(video), None) => Ok(RuleScope::Video(canary::parse_outside_id("videoid", video)?)),
        (None, Some(owner)) => Ok(RuleScope::Owner(UserId::parse_field("owner_id", owner)?)),
        (Some(_), Some(_)) => Err(Invalid::new("owner_id", "cannot go together with videoid")),
    }
}

pub(super) fn add_scope_members(body: &mut Value, scope: &RuleScope) {
    match scope {
        RuleScope::Everywhere => {}
        RuleScope::Owner(owner) => body["owner_id"] = json!(owner),
        RuleScope::Video(video) => body["videoid"] = json!(video),
    }
}

/// Returns the time at which a restriction of `seconds` from now ends; `None` if the body gives no `seconds`.
pub(super) fn parse_end(body: &Map<String, Value>) -> Result<Option<Millis>, Invalid> {
    let wrong = || Invalid::new("seconds", format!("must be a whole number from 1 to {MAX_SECONDS}"));
    match body.get("seconds") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds = value.as_u64().filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
            seconds.map(|seconds| Some(now_ms() + 1000 * seconds as Millis)).ok_or_else(wrong)
        }
    }
}

/// Answers `POST /moderation/bans {"userid","kind"?,"videoid"?|"owner_id"?,"seconds"?,"reason"?}`: begins a ban or
/// mute.
pub(crate) async fn post_ban(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    params.expect_only(&[])?;
    expect_members(&body, &["userid", "kind", "videoid", "owner_id", "seconds", "reason"])?;
    let text = |field| optional_text(&body, field);
    let target = RestrictionTarget::parse_target(
        required_text(&body, "userid")?,
        text("kind")?,
        text("videoid")?,
        text("owner_id")?,
    )?;
    let reason = parse_reason(text("reason")?)?;
    let until = parse_end(&body)?;
    gateway.restrictions.expect_room(&gateway, &target).await?;
    let mut answer = target.to_json();
    answer["until"] = json!(until.map(comment_json::format_time));
    let RestrictionTarget { userid, kind, scope } = target;
    let action = ModerationAction::Restrict { userid, kind, scope, until };
    PendingAction { user: actor.user, role, reason, video: None, action }.submit(&gateway, answer).await
}

/// Answers `DELETE /moderation/bans?userid=&kind=&videoid=&owner_id=&reason=`: ends a ban or mute.
pub(crate) async fn delete_ban(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    params.expect_only(&["userid", "kind", "videoid", "owner_id", "reason"])?;
    let target = RestrictionTarget::parse_target(
        params.required_text("userid")?,
        params.optional_text("kind")?,
        params.optional_text("videoid")?,
        params.optional_text("owner_id")?,
    )?;
    let reason = parse_reason(params.optional_text("reason")?)?;
    let answer = target.to_json();
    let RestrictionTarget { userid, kind, scope } = target;
    let action = ModerationAction::Lift { userid, kind, scope };
    PendingAction { user: actor.user, role, reason, video: None, action }.submit(&gateway, answer).await
}

/// Answers `GET /moderation/bans?after=&limit=` with the bans and mutes in force, in the order of their last change.
pub(crate) async fn list_bans(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<Json<Value>, Problem> {
    actor.moderator_role()?;
    let (bans, next) = restrictions_page(&gateway, &exchange, &params, Restriction::is_of_comments).await?;
    let lines: Vec<Value> = bans.into_iter().map(ban_line).collect();
    Ok(Json(json!({ "bans": lines, "next": next })))
}

/// Returns one page of the restrictions in force whose kind `is_asked` accepts, and the revision after which the next
/// page begins; `None` if there is no next page.
pub(super) async fn restrictions_page(
    gateway: &Gateway,
    exchange: &RequestExchange,
    params: &QueryParams,
    is_asked: impl Fn(Restriction) -> bool,
) -> Result<(Vec<UserRestriction>, Option<u64>), Problem> {
    params.expect_only(&["after", "limit"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let mut after = params.optional_number("after", 0..=MAX_REVISION)?.unwrap_or(0);
    reserve_place(gateway, exchange)?;
    let (now, mut found, mut read) = (now_ms(), Vec::new(), 0);
    // A page may be short if many restrictions have ended; `next` tells that there are more.
    while found.len() < limit && read < MAX_RESTRICTIONS_READ {
        let step = limit - found.len();
        let changes = gateway.backends.archive.moderation_archive().rules_since(after, step).await;
        let changes = gateway.archive_dependency.note_result(changes)?;
        let last = changes.len() < step;
        read += changes.len();
        for RuleChange { revision, changed_rule: what, .. } in changes {
            after = revision;
            let ChangedRule::Restriction { rule, .. } = what else { continue };
            let in_force =
                |rule: &UserRestriction| rule.until.is_none_or(|until| until > now) && is_asked(rule.kind);
            found.extend(rule.filter(in_force));
        }
        if last {
            return Ok((found, None));
        }
    }
    Ok((found, Some(after)))
}

fn ban_line(rule: UserRestriction) -> Value {
    let UserRestriction { userid, kind, scope, until, reason, by, at } = rule;
    let mut line = json!({
        "userid": userid, "kind": kind, "until": until.map(comment_json::format_time), "by": by, "reason": reason,
        "since": comment_json::format_time(at),
    });
    add_scope_members(&mut line, &scope);
    line
}
