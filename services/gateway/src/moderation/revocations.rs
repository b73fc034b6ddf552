//! `/moderation/revocations`: tokens that are good no more before they expire, by name (`jti`) or by user (`sub`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use liverank_core::event::optional_text;
use liverank_core::moderation::{Action, Restriction, Rule, Scope};
use liverank_core::{Invalid, UserId};
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::Params;
use liverank_runtime::{Problem, comment_json};
use serde_json::{Value, json};

use super::bans::{self, parse_end, restrictions_page};
use super::{AcceptedAnswer, ModeratorAction, parse_reason};
use crate::Gateway;
use crate::auth::moderator::ModerationActor;

/// What is revoked: one token, or all of a user's that were issued until then.
struct RevocationTarget {
    name: UserId,
    kind: Restriction,
}

impl RevocationTarget {
    fn parse_target(jti: Option<&str>, sub: Option<&str>) -> Result<Self, Invalid> {
        match (jti, sub) {
            (Some(jti), None) => {
                Ok(Self { name: UserId::parse_field("jti", jti)?, kind: Restriction::Token })
            }
            (None, Some(sub)) => {
                Ok(Self { name: UserId::parse_field("sub", sub)?, kind: Restriction::Tokens })
            }
            (None, None) => Err(Invalid::new("jti", "is missing: write a jti or a sub")),
            (Some(_), Some(_)) => Err(Invalid::new("sub", "cannot go together with jti")),
        }
    }

    fn to_json(&self) -> Value {
        json!({ member_name(self.kind): self.name })
    }
}

const fn member_name(kind: Restriction) -> &'static str {
    if matches!(kind, Restriction::Token) { "jti" } else { "sub" }
}

/// `POST /moderation/revocations {"jti"|"sub","seconds"?,"reason"?}`.
pub(crate) async fn post_revocation(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationActor,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<AcceptedAnswer, Problem> {
    let role = actor.expect_moderator()?;
    params.only(&[])?;
    let text = |field| optional_text(&body, field);
    let target = RevocationTarget::read(text("jti")?, text("sub")?)?;
    let reason = parse_reason(text("reason")?)?;
    let until = parse_end(&body)?;
    let mut answer = target.json();
    answer["until"] = json!(until.map(comment_json::time));
    let RevocationTarget { name: userid, kind } = target;
    let target = bans::BanTarget { userid, kind, scope: Scope::Everywhere };
    gateway.restrictions.expect_room(&gateway, &target).await?;
    let bans::BanTarget { userid, kind, scope } = target;
    let action = Action::Restrict { userid, kind, scope, until };
    ModeratorAction { user: actor.user, role, reason, video: None, action }
        .append_to_log(&gateway, answer)
        .await
}

/// `DELETE /moderation/revocations?jti=|sub=&reason=`.
pub(crate) async fn delete_revocation(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationActor,
    params: Params,
) -> Result<AcceptedAnswer, Problem> {
    let role = actor.expect_moderator()?;
    params.only(&["jti", "sub", "reason"])?;
    let target = RevocationTarget::read(params.text("jti")?, params.text("sub")?)?;
    let reason = parse_reason(params.text("reason")?)?;
    let answer = target.json();
    let action = Action::Lift { userid: target.name, kind: target.kind, scope: Scope::Everywhere };
    ModeratorAction { user: actor.user, role, reason, video: None, action }
        .append_to_log(&gateway, answer)
        .await
}

/// `GET /moderation/revocations?after=&limit=`: those in force, in the order in which they were last changed.
pub(crate) async fn list_revocations(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationActor,
    params: Params,
) -> Result<Json<Value>, Problem> {
    actor.expect_moderator()?;
    let (revocations, next) = restrictions_page(&gateway, &params, |kind| !kind.is_of_comments()).await?;
    let lines: Vec<Value> = revocations.into_iter().map(line).collect();
    Ok(Json(json!({ "revocations": lines, "next": next })))
}

fn revocation_line(rule: Rule) -> Value {
    let Rule { userid, kind, until, reason, by, at, .. } = rule;
    json!({
        member_name(kind): userid, "until": until.map(comment_json::time), "by": by, "reason": reason,
        "since": comment_json::time(at),
    })
}
