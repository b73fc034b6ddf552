//! The permission to moderate, which the roles of a token give.
//!
//! If viewers need tokens, a moderator's token has the role `moderator` or `service` among its `roles`, and every
//! user may delete comments of their own. If viewers need no tokens, anybody could claim to be anybody. So without
//! tokens nobody may delete or ban, unless `--moderation-open` lets everybody who reaches this gateway do so. The flag
//! `--moderation-open` is accepted on a loopback address only.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use liverank_core::moderation::ActorRole;
use liverank_core::viewer_role::ViewerRole;
use liverank_core::{Invalid, UserId};
use liverank_runtime::Problem;
use liverank_runtime::server::RequestExchange;

use super::{CHALLENGE, CHALLENGE_INSUFFICIENT_SCOPE, Caller, Viewer, shown_token};
use crate::Gateway;

/// The user that is noted as the actor if viewers need no tokens.
const UNKNOWN_ACTOR_NAME: &str = "open";

/// The sender of a moderation request.
pub(crate) struct ModerationSender {
    /// The user who acts.
    pub(crate) user: UserId,
    /// The role by which the user moderates; `None` if the user may only delete comments of their own.
    pub(crate) role: Option<ActorRole>,
    /// True if the caller may say who owns a video: a service may, and anybody may where tokens are not asked for.
    pub(crate) may_name_owners: bool,
}

impl ModerationSender {
    fn of(viewer: &Viewer) -> Result<Self, Problem> {
        let role = if viewer.roles.contains(ViewerRole::Moderator) {
            Some(ActorRole::Moderator)
        } else if viewer.roles.contains(ViewerRole::Service) {
            Some(ActorRole::Service)
        } else {
            None
        };
        let user = UserId::parse_field("sub", &viewer.user_id);
        let user =
            user.map_err(|Invalid { reason, .. }| forbidden_problem(format!("the token's sub {reason}")))?;
        Ok(Self { user, role, may_name_owners: viewer.roles.contains(ViewerRole::Service) })
    }

    /// Returns the role by which the caller moderates.
    ///
    /// # Errors
    /// Returns 403 if the caller is not a moderator.
    pub(crate) fn moderator_role(&self) -> Result<ActorRole, Problem> {
        self.role.ok_or_else(|| {
            forbidden_problem("this takes a token whose roles have moderator or service".to_owned())
                .with_member("rule", "role")
        })
    }
}

fn forbidden_problem(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail).with_challenge(CHALLENGE_INSUFFICIENT_SCOPE)
}

impl FromRequestParts<Arc<Gateway>> for ModerationSender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let Some(auth) = &gateway.auth else {
            if gateway.moderation_open {
                return Ok(Self {
                    user: UserId::parse(UNKNOWN_ACTOR_NAME)?,
                    role: Some(ActorRole::Moderator),
                    may_name_owners: true,
                });
            }
            let detail = "nobody can moderate where tokens are not asked for: for a trial, `liverank up --auth-dev` has \
                          tokens of its own (`liverank token user --user NAME --role moderator`); else give the gateway viewers' keys \
                          (--auth-jwks-file), or on a loopback address --moderation-open";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail).with_member("rule", "role"));
        };
        let known = if let Some(token) = shown_token(parts) {
            auth.viewer_of_token(&token).await.and_then(|viewer| Ok((Self::of(&viewer)?, viewer)))
        } else {
            let detail = "this takes a token: Authorization: Bearer <token>";
            Err(Problem::new(StatusCode::UNAUTHORIZED, detail).with_challenge(CHALLENGE))
        };
        let (actor, viewer) = known.inspect_err(|_| {
            gateway.metrics.auth_failures.inc();
        })?;
        // A moderation action stays in the audit log, so it counts against the user's limit of events as any other
        // event.
        if !parts.method.is_safe() {
            gateway.limits.count_events(&Caller::User(viewer), &RequestExchange::default(), 1)?;
        }
        Ok(actor)
    }
}
