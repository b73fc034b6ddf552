//! Moderation: each action of a moderator or author is one record of the log, acknowledged once the log has stored it
//! durably.
//!
//! | module | does |
//! |---|---|
//! | this one | appends an action to the log; the audit log |
//! | `deletion` | deletes a comment |
//! | `bans` | bans and mutes users, and lists bans and mutes |
//! | `held` | lists comments that wait for a moderator, and reviews them |
//! | `pins` | pins a comment of a video |
//! | `rules` | sets the rules that comments must follow |
//! | `reports` | accepts viewers' reports of comments, lists them, and closes them |
//! | `restrictions` | limits the number of restrictions in force |
//! | `revocations` | revokes tokens, and lists the revoked ones |

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use liverank_adapters::archive::{AuditPosition, StoredAuditEntry, UnknownRecord};
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, check_reason};
use liverank_core::{Invalid, UserId, VideoId, event};
use liverank_runtime::moderation_json::ActionJson;
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json, now_ms};
use serde_json::{Value, json};

use crate::Gateway;
use crate::auth::moderator::ModerationSender;
use crate::interact::{reserve_moderation_place, reserve_place};

pub(crate) mod bans;
pub(crate) mod deletion;
pub(crate) mod held;
pub(crate) mod pins;
pub(crate) mod reports;
pub(crate) mod restrictions;
pub(crate) mod revocations;
pub(crate) mod rules;

/// Maximum number of lines on a page of a list.
const MAX_LIMIT: u64 = 1000;
const DEFAULT_LIMIT: u64 = 100;

/// The answer 202 to an action that is in the log and takes effect a moment later.
pub(crate) type AcceptedResponse = (StatusCode, Json<Value>);

pub(crate) fn accepted_response(answer: Value) -> AcceptedResponse {
    (StatusCode::ACCEPTED, Json(answer))
}

/// A moderation action that is to be appended to the log.
pub(crate) struct PendingAction {
    pub(crate) user: UserId,
    pub(crate) role: ActorRole,
    pub(crate) reason: Option<String>,
    /// The video of the action; `None` for an action on a user.
    pub(crate) video: Option<VideoId>,
    pub(crate) action: ModerationAction,
}

impl PendingAction {
    /// Appends the action to the log. Returns 202 with the body `answer` and one more member, the action's id; returns
    /// 429 if too many requests are in flight.
    pub(crate) async fn submit(self, gateway: &Gateway, answer: Value) -> Result<AcceptedResponse, Problem> {
        let _place = reserve_moderation_place(gateway)?;
        self.append_to_log(gateway, answer).await
    }

    /// Appends the action to the log, as [`Self::submit`] does, for a request that has a place among the requests in
    /// flight already.
    pub(crate) async fn append_to_log(
        self,
        gateway: &Gateway,
        mut answer: Value,
    ) -> Result<AcceptedResponse, Problem> {
        let id = event::random_event_id(rand::random());
        let moderation = Moderation { action: self.action, role: self.role, reason: self.reason };
        let record = moderation.into_record(self.user, self.video, id, now_ms());
        answer["action_id"] = crate::interact::append_interaction(gateway, &record).await?.into();
        Ok(accepted_response(answer))
    }
}

pub(crate) fn parse_reason(text: Option<&str>) -> Result<Option<String>, Invalid> {
    let text = text.filter(|text| !text.is_empty());
    text.map(check_reason).transpose()?;
    Ok(text.map(str::to_owned))
}

/// Answers `GET /moderation/log?before=&limit=` with a page of the audit log, newest first.
pub(crate) async fn get_audit_log(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<Json<Value>, Problem> {
    actor.moderator_role()?;
    params.expect_only(&["before", "limit"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let before = params.optional_text("before")?.map(AuditPosition::parse).transpose()?;
    reserve_place(&gateway, &exchange)?;
    let entries = gateway.backends.archive.moderation_archive().audit_log(before, limit).await;
    let entries = gateway.archive_dependency.note_result(entries)?;
    let full = entries.len() == limit;
    let next = entries.last().filter(|_| full).map(|last| last.position.to_string());
    Ok(Json(audit_page(entries, next.as_deref())))
}

/// Returns a page of the audit log. An action of another release that this one cannot read is listed by its version,
/// and does not hide the others.
fn audit_page(lines: Vec<StoredAuditEntry>, next: Option<&str>) -> Value {
    let (mut actions, mut unknown) = (Vec::new(), Vec::new());
    for StoredAuditEntry { position, record } in lines {
        match record {
            Ok(record) => actions.push(ActionJson::of(position.time, record)),
            Err(UnknownRecord { version }) => {
                unknown.push(
                    json!({ "timestamp": comment_json::format_time(position.time), "version": version }),
                );
            }
        }
    }
    let mut page = json!({ "actions": actions, "next": next });
    if !unknown.is_empty() {
        page["unknown"] = unknown.into();
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_action_is_listed_by_its_version_beside_the_others() {
        let action = ModerationAction::RemoveVideo;
        let known = Moderation { action, role: ActorRole::Service, reason: None };
        let (user, video) = ("ops".parse().unwrap(), "cats".parse().unwrap());
        let known = known.into_record(user, Some(video), "m".parse().unwrap(), 0);
        let lines = [Ok(known), Err(UnknownRecord { version: Some(9) })].map(|record| StoredAuditEntry {
            position: AuditPosition { time: 0, partition: 0, offset: 0 },
            record,
        });
        let page = audit_page(lines.into(), None);
        assert_eq!(page["actions"][0]["action"], "remove_video");
        assert_eq!(page["actions"].as_array().map(Vec::len), Some(1));
        assert_eq!(page["unknown"], json!([{ "timestamp": comment_json::format_time(0), "version": 9 }]));
        assert!(super::audit_page(Vec::new(), None).get("unknown").is_none());
    }
}
