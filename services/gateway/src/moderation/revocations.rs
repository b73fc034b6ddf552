//! `/moderation/revocations`: revokes tokens before they expire, by token (`jti`) or by user (`sub`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use liverank_core::event::optional_text;
use liverank_core::moderation::{ModerationAction, Restriction, RuleScope, UserRestriction};
use liverank_core::{Invalid, UserId};
use liverank_runtime::body::{JsonObject, expect_members};
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json};
use serde_json::{Value, json};

use super::bans::{self, parse_end, restrictions_page};
use super::{AcceptedResponse, PendingAction, parse_reason};
use crate::Gateway;
use crate::auth::moderator::ModerationSender;

/// The target of a revocation: one token, or all tokens of a user that were issued until now.
struct RevocationTarget {
    /// The id of the token or of the user, as `kind` says.
    token_or_user_id: UserId,
    kind: Restriction,
}

impl RevocationTarget {
    fn parse_target(jti: Option<&str>, sub: Option<&str>) -> Result<Self, Invalid> {
        match (jti, sub) {
            (Some(jti), None) => {
                Ok(Self { token_or_user_id: UserId::parse_field("jti", jti)?, kind: Restriction::Token })
            }
            (None, Some(sub)) => {
                Ok(Self { token_or_user_id: UserId::parse_field("sub", sub)?, kind: Restriction::Tokens })
            }
            (None, None) => Err(Invalid::new("jti", "is missing: write a jti or a sub")),
            (Some(_), Some(_)) => Err(Invalid::new("sub", "cannot go together with jti")),
        }
    }

    fn to_json(&self) -> Value {
        json!({ member_name(self.kind): self.token_or_user_id })
    }
}

const fn member_name(kind: Restriction) -> &'static str {
    if matches!(kind, Restriction::Token) { "jti" } else { "sub" }
}

/// Answers `POST /moderation/revocations {"jti"|"sub","seconds"?,"reason"?}`: revokes a token, or a user's tokens.
pub(crate) async fn post_revocation(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    params.expect_only(&[])?;
    expect_members(&body, &["jti", "sub", "seconds", "reason"])?;
    let text = |field| optional_text(&body, field);
    let target = RevocationTarget::parse_target(text("jti")?, text("sub")?)?;
    let reason = parse_reason(text("reason")?)?;
    let until = parse_end(&body)?;
    let mut answer = target.to_json();
    answer["until"] = json!(until.map(comment_json::format_time));
    let RevocationTarget { token_or_user_id: userid, kind } = target;
    let target = bans::RestrictionTarget { userid, kind, scope: RuleScope::Everywhere };
    gateway.restrictions.expect_room(&gateway, &target).await?;
    let bans::RestrictionTarget { userid, kind, scope } = target;
    let action = ModerationAction::Restrict { userid, kind, scope, until };
    PendingAction { user: actor.user, role, reason, video: None, action }.submit(&gateway, answer).await
}

/// Answers `DELETE /moderation/revocations?jti=|sub=&reason=`: ends a revocation.
pub(crate) async fn delete_revocation(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    params.expect_only(&["jti", "sub", "reason"])?;
    let target = RevocationTarget::parse_target(params.optional_text("jti")?, params.optional_text("sub")?)?;
    let reason = parse_reason(params.optional_text("reason")?)?;
    let answer = target.to_json();
    let action = ModerationAction::Lift {
        userid: target.token_or_user_id,
        kind: target.kind,
        scope: RuleScope::Everywhere,
    };
    PendingAction { user: actor.user, role, reason, video: None, action }.submit(&gateway, answer).await
}

/// Answers `GET /moderation/revocations?after=&limit=` with the revocations in force, in the order of their last
/// change.
pub(crate) async fn list_revocations(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<Json<Value>, Problem> {
    actor.moderator_role()?;
    let (revocations, next) =
        restrictions_page(&gateway, &exchange, &params, |kind| !kind.is_of_comments()).await?;
    let lines: Vec<Value> = revocations.into_iter().map(revocation_line).collect();
    Ok(Json(json!({ "revocations": lines, "next": next })))
}

fn revocation_line(rule: UserRestriction) -> Value {
    let UserRestriction { userid, kind, until, reason, by, at, .. } = rule;
    json!({
        member_name(kind): userid, "until": until.map(comment_json::format_time), "by": by, "reason": reason,
        "since": comment_json::format_time(at),
    })
}
