//! `/moderation/reports`: a viewer reports a comment, and a moderator decides on it.
//!
//! Reports are limited before they reach the log: how often one caller may report, and how many comments may wait for
//! a decision. How many reports of one comment count is decided when the log is read
//! (`liverank_core::moderation::reports`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures::future::try_join_all;
use liverank_adapters::archive::{ReportPosition, ReportQueue};
use liverank_core::event::{optional_text, required_text};
use liverank_core::limits::{RateQuota, TokenBuckets};
use liverank_core::moderation::reports::{
    CommentReport, MAX_OPEN_REPORTED_COMMENTS, MAX_OPEN_REPORTED_COMMENTS_OF_VIDEO, MAX_REPORTS,
    ReportDecision, check_report_text,
};
use liverank_core::moderation::{
    ActorRole, ModerationAction, ReportOutcome, ReportReason, ReportedComment, Restriction, RuleScope,
};
use liverank_core::{Comment, CommentId, Invalid, UserId, VideoId, canary};
use liverank_runtime::body::{JsonObject, expect_members};
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json};
use serde_json::{Map, Value, json};

use super::bans::{RestrictionTarget, parse_end};
use super::deletion::known_comment;
use super::{AcceptedResponse, PendingAction, accepted_response, parse_reason};
use crate::Gateway;
use crate::auth::Caller;
use crate::auth::moderator::ModerationSender;
use crate::interact::reserve_place;
use crate::limits::{MAX_CALLERS, Sender, limit_problem};

/// Maximum number of reports in an hour by one user, also at once; by one address if viewers need no tokens. One report
/// a minute is more than a person writes, and as much as a moderator can read.
const MAX_REPORTS_AN_HOUR: u64 = 60;
/// Tokens that one report takes out of its caller's bucket, into which [`MAX_REPORTS_AN_HOUR`] tokens come each
/// second.
const TOKENS_PER_REPORT: u64 = 3600;
/// The `Retry-After` if too many comments wait for a decision: moderators decide on some of them meanwhile.
const FULL_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Maximum number of lines on a page: each has a comment and its reports, about 60 KiB at most.
const MAX_LIMIT: u64 = 100;
const DEFAULT_LIMIT: u64 = 50;

/// The limit of reports that each caller may write.
pub(crate) struct ReportLimits {
    budgets: Mutex<TokenBuckets<Sender>>,
    start: Instant,
}

impl Default for ReportLimits {
    fn default() -> Self {
        let budgets = Mutex::new(TokenBuckets::new(
            RateQuota::new(MAX_REPORTS_AN_HOUR, MAX_REPORTS_AN_HOUR * TOKENS_PER_REPORT),
            MAX_CALLERS,
        ));
        Self { budgets, start: Instant::now() }
    }
}

impl ReportLimits {
    /// Takes one report out of a user's budget; returns 429 if the budget is empty. A service reports for its users,
    /// each of whom has a budget.
    fn charge_report(
        &self,
        caller: &Caller,
        exchange: &RequestExchange,
        user: &UserId,
    ) -> Result<(), Problem> {
        let sender = match caller {
            Caller::User(_) => Sender::User(user.to_string()),
            Caller::Anyone => Sender::of(caller, exchange),
        };
        let now = self.start.elapsed();
        let taken = self.budgets.lock().unwrap_or_else(PoisonError::into_inner).take_tokens(
            sender,
            TOKENS_PER_REPORT,
            now,
        );
        taken.map_err(|wait| {
            let detail = format!("one user may report {MAX_REPORTS_AN_HOUR} comments an hour");
            limit_problem("reports-per-user", &detail, wait).with_member("rule", "reports_of_user")
        })
    }
}

/// The body of a viewer's report.
struct ReportBody {
    user: UserId,
    reason: ReportReason,
    text: Option<String>,
}

impl ReportBody {
    fn parse(body: &Map<String, Value>) -> Result<Self, Invalid> {
        let user = UserId::parse_field("userid", required_text(body, "userid")?)?;
        let reason = ReportReason::parse(required_text(body, "reason")?)?;
        let text = optional_text(body, "text")?.filter(|text| !text.is_empty());
        text.map(|text| check_report_text("text", text)).transpose()?;
        Ok(Self { user, reason, text: text.map(str::to_owned) })
    }
}

/// Answers `POST /comments/{videoid}/{id}/reports {"userid","reason","text"?}`: reports a comment. Every viewer may
/// report.
pub(crate) async fn post_report(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    path: Result<Path<(String, String)>, PathRejection>,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    let Path((video, id)) = path.map_err(|_| Invalid::new("id", "must be UTF-8"))?;
    let video = canary::parse_outside_id("videoid", &video)?;
    let id = CommentId::parse_field("id", &id)?;
    params.expect_only(&[])?;
    let said = ReportBody::parse(&body)?;
    caller.expect_user("userid", said.user.as_str())?;
    gateway.limits.count_events(&caller, &exchange, 1)?;
    let limited = gateway.report_limits.charge_report(&caller, &exchange, &said.user);
    limited.inspect_err(|_| {
        gateway.metrics.requests_limited.inc();
    })?;
    let answer = json!({ "videoid": video, "id": id, "reason": said.reason });
    // Of the client's own share: every viewer may report, and moderators must not wait for viewers.
    reserve_place(&gateway, &exchange)?;
    if !check_new_report(&gateway, &said.user, &video, &id).await? {
        return Ok(accepted_response(answer));
    }
    let ReportBody { user, reason, text } = said;
    let action = ModerationAction::Report { comment_id: id, why: reason };
    PendingAction { user, role: ActorRole::Viewer, reason: text, video: Some(video), action }
        .append_to_log(&gateway, answer)
        .await
}

/// Returns true if a report by this user would be new. Returns 404 if the video has no such comment, 409 if the comment
/// accepts no more reports, and 429 if too many comments wait for a decision. Reports of several requests at the same
/// time may exceed the bound of open reports by their number.
async fn check_new_report(
    gateway: &Gateway,
    user: &UserId,
    video: &VideoId,
    id: &CommentId,
) -> Result<bool, Problem> {
    let comment = known_comment(gateway, video, id).await?;
    if !comment.entry.is_comment() {
        // The answer does not tell that a comment exists that is shown to its author only.
        return Err(Problem::not_found("the video has no such comment any more").with_member("field", "id"));
    }
    let moderation = gateway.backends.archive.moderation_archive();
    if let Some(reported) =
        gateway.archive_dependency.note_result(moderation.reports_of_comment(video, id).await)?
    {
        return is_new_report(&reported, user);
    }
    let of_video = moderation.count_open_reports(Some(video), MAX_OPEN_REPORTED_COMMENTS_OF_VIDEO).await;
    if gateway.archive_dependency.note_result(of_video)? >= MAX_OPEN_REPORTED_COMMENTS_OF_VIDEO {
        return Err(report_limit_problem(
            "reports_of_video",
            &format!("{MAX_OPEN_REPORTED_COMMENTS_OF_VIDEO} comments of this video are"),
        ));
    }
    let of_all = moderation.count_open_reports(None, MAX_OPEN_REPORTED_COMMENTS).await;
    if gateway.archive_dependency.note_result(of_all)? >= MAX_OPEN_REPORTED_COMMENTS {
        return Err(report_limit_problem("reports", &format!("{MAX_OPEN_REPORTED_COMMENTS} comments are")));
    }
    Ok(true)
}

fn is_new_report(reported: &ReportedComment, user: &UserId) -> Result<bool, Problem> {
    if reported.is_reported_by(user) {
        return Ok(false);
    }
    let refused = |rule: &'static str, detail: String| {
        Err(Problem::new(StatusCode::CONFLICT, detail).with_member("rule", rule))
    };
    if !reported.is_open() {
        let detail = "a moderator has decided on this comment already, and it was not changed since";
        return refused("reports_decided", detail.to_owned());
    }
    if reported.is_full() {
        let detail =
            format!("{MAX_REPORTS} users have reported this comment already: a moderator is to decide");
        return refused("reports_of_comment", detail);
    }
    Ok(true)
}

fn report_limit_problem(rule: &'static str, which: &str) -> Problem {
    let detail = format!("{which} reported already, and wait for a moderator: try again later");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        .with_member("rule", rule)
        .with_retry_after(FULL_RETRY_AFTER)
}

fn parse_queue(params: &QueryParams) -> Result<ReportQueue, Invalid> {
    match (params.optional_text("state")?, params.optional_text("order")?) {
        (None | Some("open"), None | Some("newest")) => Ok(ReportQueue::OpenNewest),
        (None | Some("open"), Some("most")) => Ok(ReportQueue::OpenMost),
        (Some("closed"), None | Some("newest")) => Ok(ReportQueue::Closed),
        (Some("closed"), Some("most")) => Err(Invalid::new("order", "must be newest with the state closed")),
        (None | Some("open" | "closed"), Some(_)) => Err(Invalid::new("order", "must be newest or most")),
        (Some(_), _) => Err(Invalid::new("state", "must be open or closed")),
    }
}

/// Answers `GET /moderation/reports?state=&order=&after=&limit=` with reported comments: open ones by their last
/// report or (`order=most`) by their number of reports, closed ones by the time of the decision.
pub(crate) async fn list_reports(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    actor: ModerationSender,
    params: QueryParams,
) -> Result<Json<Value>, Problem> {
    actor.moderator_role()?;
    params.expect_only(&["state", "order", "after", "limit"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let after = params.optional_text("after")?.map(ReportPosition::parse).transpose()?;
    let queue = parse_queue(&params)?;
    reserve_place(&gateway, &exchange)?;
    let archive = &gateway.backends.archive;
    let found = gateway
        .archive_dependency
        .note_result(archive.moderation_archive().report_queue(queue, after, limit).await)?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| ReportPosition::of(last).to_string());
    let comments = try_join_all(found.iter().map(|it| archive.newest_comment(&it.video, &it.id))).await;
    let comments = gateway.archive_dependency.note_result(comments)?;
    let lines: Vec<Value> =
        found.into_iter().zip(comments).map(|(it, comment)| report_line(it, comment)).collect();
    Ok(Json(json!({ "comments": lines, "next": next })))
}

fn report_line(reported: ReportedComment, comment: Option<Comment>) -> Value {
    let ReportedComment { video, id, reports, decision, .. } = reported;
    let comment = comment.filter(|comment| comment.entry.has_text());
    let said = |report: CommentReport| {
        let CommentReport { user, why, text, at } = report;
        json!({ "userid": user, "reason": why, "text": text, "timestamp": comment_json::format_time(at) })
    };
    json!({
        "videoid": video,
        "id": id,
        "userid": comment.as_ref().map(|comment| &comment.user_id),
        "comment": comment.as_ref().map(|comment| &comment.text),
        "count": reports.len(),
        "reports": reports.into_iter().map(said).collect::<Vec<_>>(),
        "decision": decision.map(decision_json),
    })
}

fn decision_json(decision: ReportDecision) -> Value {
    let ReportDecision { outcome, by, reason, at } = decision;
    json!({ "outcome": outcome, "by": by, "reason": reason, "timestamp": comment_json::format_time(at) })
}

/// A moderator's decision on a reported comment.
enum DecisionBody {
    Dismiss,
    Delete,
    Ban { kind: Restriction, everywhere: bool },
}

impl DecisionBody {
    fn parse(body: &Map<String, Value>) -> Result<Self, Invalid> {
        let (kind, scope) = (optional_text(body, "kind")?, optional_text(body, "scope")?);
        let decision = match required_text(body, "outcome")? {
            "dismiss" => Self::Dismiss,
            "delete" => Self::Delete,
            "ban" => {
                let everywhere = match scope {
                    None | Some("video") => false,
                    Some("everywhere") => true,
                    Some(_) => return Err(Invalid::new("scope", "must be video or everywhere")),
                };
                return Ok(Self::Ban {
                    kind: kind.map_or(Ok(Restriction::Ban), Restriction::parse)?,
                    everywhere,
                });
            }
            _ => return Err(Invalid::new("outcome", "must be dismiss, delete or ban")),
        };
        let given = [
            ("kind", kind.is_some()),
            ("scope", scope.is_some()),
            ("seconds", body.get("seconds").is_some_and(|it| !it.is_null())),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((field, _)) => Err(Invalid::new(field, "goes with the outcome ban")),
            None => Ok(decision),
        }
    }
}

/// Answers `POST /moderation/reports {"videoid","id","outcome","kind"?,"scope"?,"seconds"?,"reason"?}`: the decision
/// closes the comment's reports.
///
/// A ban is appended to the log before the action that closes the reports. If only the ban reaches the log, the
/// reports are still open, and deciding again sets the same ban.
pub(crate) async fn post_decision(
    State(gateway): State<Arc<Gateway>>,
    actor: ModerationSender,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<AcceptedResponse, Problem> {
    let role = actor.moderator_role()?;
    params.expect_only(&[])?;
    expect_members(&body, &["videoid", "id", "outcome", "kind", "scope", "seconds", "reason"])?;
    let video = canary::parse_outside_id("videoid", required_text(&body, "videoid")?)?;
    let id = CommentId::parse_field("id", required_text(&body, "id")?)?;
    let decision = DecisionBody::parse(&body)?;
    let until = parse_end(&body)?;
    let why = parse_reason(optional_text(&body, "reason")?)?;
    let reported = gateway.backends.archive.moderation_archive().reports_of_comment(&video, &id).await;
    if !gateway.archive_dependency.note_result(reported)?.is_some_and(|reported| reported.is_open()) {
        let detail = "this comment has no reports that wait for a decision";
        return Err(Problem::not_found(detail).with_member("field", "id"));
    }
    let comment = known_comment(&gateway, &video, &id).await?;
    let deed = |video: Option<VideoId>, action: ModerationAction| PendingAction {
        user: actor.user.clone(),
        role,
        reason: why.clone(),
        video,
        action,
    };
    let close = |outcome| ModerationAction::CloseReports { comment_id: id.clone(), outcome };
    let (outcome, action) = match decision {
        DecisionBody::Dismiss => (ReportOutcome::Dismissed, close(ReportOutcome::Dismissed)),
        // The deletion of the comment closes its reports.
        DecisionBody::Delete => (ReportOutcome::Deleted, ModerationAction::Delete { comment_id: id.clone() }),
        DecisionBody::Ban { kind, everywhere } => {
            let scope = if everywhere { RuleScope::Everywhere } else { RuleScope::Video(video.clone()) };
            let target = RestrictionTarget { userid: comment.user_id, kind, scope };
            gateway.restrictions.expect_room(&gateway, &target).await?;
            let RestrictionTarget { userid, kind, scope } = target;
            let ban = ModerationAction::Restrict { userid, kind, scope, until };
            let _ = deed(None, ban).submit(&gateway, json!({})).await?;
            (ReportOutcome::Banned, close(ReportOutcome::Banned))
        }
    };
    let answer = json!({ "videoid": video, "id": id, "outcome": outcome });
    deed(Some(video), action).submit(&gateway, answer).await
}
