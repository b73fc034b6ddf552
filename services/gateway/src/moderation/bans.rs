//! `/moderation/bans`: refuses comments of a user, for a time or without an end, on a video, on an owner's videos or everywhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use liverank_core::event::{optional_text, required_text};
use liverank_core::moderation::{Action, Changed, Restriction, Rule, RuleChange, Scope};
use liverank_core::{Invalid, Millis, UserId, canary};
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::Params;
use liverank_runtime::{Problem, comment_json, now_ms};
use serde_json::{Map, Value, json};

use super::{Accepted, DEFAULT_LIMIT, Deed, MAX_LIMIT, reason};
use crate::Gateway;
use crate::auth::moderator::Actor;
use crate::interact::too_many;

/// The longest time of a ban that ends: ten years. A ban that is to last longer is given no end.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 3600;
/// The greatest revision that clients hold exactly.
pub(super) const MAX_REVISION: u64 = (1 << 53) - 1;
/// Restrictions read for one page, ended ones included.
const MAX_READ: usize = 10_000;

/// Whom an action is about, and where.
pub(super) struct Target {
    pub(super) userid: UserId,
    pub(super) kind: Restriction,
    pub(super) scope: Scope,
}

impl Target {
    fn parse_target(
        userid: &str,
        kind: Option<&str>,
        video: Option<&str>,
        owner: Option<&str>,
    ) -> Result<Self, Invalid> {
        let scope = scope(video, owner)?;
        let kind = kind.map_or(Ok(Restriction::Ban), Restriction::parse)?;
        Ok(Self { userid: UserId::parse_field("userid", userid)?, kind, scope })
    }

    fn to_json(&self) -> Value {
        let mut body = json!({ "userid": self.userid, "kind": self.kind });
        scope_members(&mut body, &self.scope);
        body
    }
}

/// Where something is to be in force.
pub(super) fn scope(video: Option<&str>, owner: Option<&str>) -> Result<Scope, Invalid> {
    match (video, owner) {
        (None, None) => Ok(Scope::Everywhere),
        (Some(video), None) => Ok(Scope::Video(canary::named_outside("videoid", video)?)),
        (None, Some(owner)) => Ok(Scope::Owner(UserId::parse_field("owner_id", owner)?)),
        (Some(_), Some(_)) => Err(Invalid::new("owner_id", "cannot go together with videoid")),
    }
}

pub(super) fn scope_members(body: &mut Value, scope: &Scope) {
    match scope {
        Scope::Everywhere => {}
        Scope::Owner(owner) => body["owner_id"] = json!(owner),
        Scope::Video(video) => body["videoid"] = json!(video),
    }
}

/// When what lasts `seconds` from now on ends; `None` where it has no end.
pub(super) fn until(body: &Map<String, Value>) -> Result<Option<Millis>, Invalid> {
    let wrong = || Invalid::new("seconds", format!("must be a whole number from 1 to {MAX_SECONDS}"));
    match body.get("seconds") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds = value.as_u64().filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
            seconds.map(|seconds| Some(now_ms() + 1000 * seconds as Millis)).ok_or_else(wrong)
        }
    }
}

/// `POST /moderation/bans {"userid","kind"?,"videoid"?|"owner_id"?,"seconds"?,"reason"?}`.
pub(crate) async fn begin(
    State(gateway): State<Arc<Gateway>>,
    actor: Actor,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Accepted, Problem> {
    let role = actor.moderator()?;
    params.only(&[])?;
    let text = |field| optional_text(&body, field);
    let target = Target::parse_target(
        required_text(&body, "userid")?,
        text("kind")?,
        text("videoid")?,
        text("owner_id")?,
    )?;
    let reason = reason(text("reason")?)?;
    let until = until(&body)?;
    gateway.restrictions.expect_room(&gateway, &target).await?;
    let mut answer = target.to_json();
    answer["until"] = json!(until.map(comment_json::time));
    let Target { userid, kind, scope } = target;
    let action = Action::Restrict { userid, kind, scope, until };
    Deed { user: actor.user, role, reason, video: None, action }.record(&gateway, answer).await
}

/// `DELETE /moderation/bans?userid=&kind=&videoid=&owner_id=&reason=`.
pub(crate) async fn end(
    State(gateway): State<Arc<Gateway>>,
    actor: Actor,
    params: Params,
) -> Result<Accepted, Problem> {
    let role = actor.moderator()?;
    params.only(&["userid", "kind", "videoid", "owner_id", "reason"])?;
    let target = Target::parse_target(
        params.required("userid")?,
        params.text("kind")?,
        params.text("videoid")?,
        params.text("owner_id")?,
    )?;
    let reason = reason(params.text("reason")?)?;
    let answer = target.to_json();
    let Target { userid, kind, scope } = target;
    let action = Action::Lift { userid, kind, scope };
    Deed { user: actor.user, role, reason, video: None, action }.record(&gateway, answer).await
}

/// `GET /moderation/bans?after=&limit=`: those in force, in the order in which they were last changed.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    actor: Actor,
    params: Params,
) -> Result<Json<Value>, Problem> {
    actor.moderator()?;
    let (bans, next) = page(&gateway, &params, Restriction::is_of_comments).await?;
    let lines: Vec<Value> = bans.into_iter().map(ban_line).collect();
    Ok(Json(json!({ "bans": lines, "next": next })))
}

/// One page of the restrictions in force of these kinds, and where the next one begins.
pub(super) async fn page(
    gateway: &Gateway,
    params: &Params,
    is_asked: impl Fn(Restriction) -> bool,
) -> Result<(Vec<Rule>, Option<u64>), Problem> {
    params.only(&["after", "limit"])?;
    let limit = params.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let mut after = params.number("after", 0..=MAX_REVISION)?.unwrap_or(0);
    let Ok(_permit) = gateway.in_flight.try_acquire() else { return Err(too_many()) };
    let (now, mut found, mut read) = (now_ms(), Vec::new(), 0);
    // A page may be short where many have ended; `next` says that there is more.
    while found.len() < limit && read < MAX_READ {
        let step = limit - found.len();
        let changes = gateway.backends.archive.moderation().rules_since(after, step).await;
        let changes = gateway.archive.noted(changes)?;
        let last = changes.len() < step;
        read += changes.len();
        for RuleChange { revision, what, .. } in changes {
            after = revision;
            let Changed::Restriction { rule, .. } = what else { continue };
            let in_force = |rule: &Rule| rule.until.is_none_or(|until| until > now) && is_asked(rule.kind);
            found.extend(rule.filter(in_force));
        }
        if last {
            return Ok((found, None));
        }
    }
    Ok((found, Some(after)))
}

fn ban_line(rule: Rule) -> Value {
    let Rule { userid, kind, scope, until, reason, by, at } = rule;
    let mut line = json!({
        "userid": userid, "kind": kind, "until": until.map(comment_json::time), "by": by, "reason": reason,
        "since": comment_json::time(at),
    });
    scope_members(&mut line, &scope);
    line
}
