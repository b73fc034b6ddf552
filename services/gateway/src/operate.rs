//! The view for people who look after the system: `GET /operate` returns its whole state in one bounded answer; `POST
//! /operate/what-if` returns what the planner would do in a different system.
//!
//! | module | does |
//! |---|---|
//! | this one | checks who may ask, and answers |
//! | [`demo`] | begins and ends the demo, if there is one |
//! | `gather` | asks the managers, the stores and the services |
//! | `rates` | computes rates from counts |
//!
//! The state is gathered at most once a second, however many people ask. The answer has the number of viewers of each
//! video, and never who they are. If viewers need tokens, the request needs one with the role `operator` or `service`.
//! If viewers need no tokens, anybody gets the answer, as anybody gets the counts of `GET /videos` and `GET
//! /statistics`.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use liverank_core::limits::{RateQuota, TokenBuckets};
use liverank_core::viewer_role::ViewerRole;
use liverank_protocol::{RefusalDetails, WhatIfAnswer};
use liverank_runtime::Problem;
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::QueryParams;
use liverank_runtime::peer::PeerError;
use liverank_runtime::server::RequestExchange;
use tokio::sync::Mutex;

use crate::Gateway;
use crate::auth::{Caller, not_allowed_problem};
use crate::interact::reserve_place;

pub mod demo;
mod gather;
mod rates;

use gather::GatherState;

/// Maximum age of an answer that is given to further requests.
const ANSWER_FRESH_FOR: Duration = Duration::from_secs(1);
/// Maximum number of what-if questions to the planner in a second, and at once: each question keeps a processor of a
/// manager busy for a while.
const PLANNER_QUOTA: RateQuota = RateQuota::new(4, 8);

/// The state of `GET /operate` that is kept between two answers.
pub(crate) struct OperateState {
    last_overview: Mutex<(Option<(Instant, Bytes)>, GatherState)>,
    question_buckets: std::sync::Mutex<TokenBuckets<()>>,
    begun_at: Instant,
}

impl Default for OperateState {
    fn default() -> Self {
        // All callers share one bucket, because it protects the managers' processors, whoever asks.
        Self {
            last_overview: Mutex::default(),
            question_buckets: TokenBuckets::new(PLANNER_QUOTA, 1).into(),
            begun_at: Instant::now(),
        }
    }
}

impl OperateState {
    /// Counts a what-if question to the planner. Returns 429 with the time to wait if there were too many.
    fn count_planner_question(&self) -> Result<(), Problem> {
        let mut questions = self.question_buckets.lock().unwrap_or_else(PoisonError::into_inner);
        questions.take_tokens((), 1, self.begun_at.elapsed()).map_err(|wait| {
            let detail = "the planner is asked a few times a second at most: try again";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
            problem.with_retry_after(wait + Duration::from_millis(999))
        })
    }
}

/// Proof that the request's sender may see the state of the system.
pub(crate) struct OperatorAccess;

impl FromRequestParts<Arc<Gateway>> for OperatorAccess {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, gateway).await? {
            Caller::Anyone => Ok(Self),
            Caller::User(viewer) => {
                let may = [ViewerRole::Operator, ViewerRole::Service];
                if may.into_iter().any(|role| viewer.roles.contains(role)) {
                    return Ok(Self);
                }
                let detail = "this takes a token whose roles have operator or service";
                Err(not_allowed_problem(detail.to_owned()).with_member("rule", "role"))
            }
        }
    }
}

/// Answers `GET /operate` with the state of the system.
pub(crate) async fn get_operate(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    _: OperatorAccess,
    params: QueryParams,
) -> Result<Response, Problem> {
    params.expect_only(&["access_token"])?;
    reserve_place(&gateway, &exchange)?;
    // Whoever comes while it is gathered waits for it.
    let mut last = gateway.operate_state.last_overview.lock().await;
    let fresh =
        last.0.as_ref().filter(|(at, _)| at.elapsed() < ANSWER_FRESH_FOR).map(|(_, body)| body.clone());
    let body = if let Some(body) = fresh {
        body
    } else {
        let state = gather::gather_overview(&gateway, &mut last.1).await;
        let body =
            serde_json::to_vec(&state).map_err(|error| Problem::part_unavailable(error.to_string()))?;
        let body = Bytes::from(body);
        last.0 = Some((Instant::now(), body.clone()));
        body
    };
    drop(last);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// Answers `POST /operate/what-if` with a manager's answer to `POST /what-if`.
pub(crate) async fn post_what_if(
    State(gateway): State<Arc<Gateway>>,
    _: OperatorAccess,
    params: QueryParams,
    JsonObject(body): JsonObject,
) -> Result<Json<WhatIfAnswer>, Problem> {
    params.expect_only(&[])?;
    let Some(managers) = gateway.manager.replicas.as_ref() else {
        return Err(gateway.manager.absent_problem());
    };
    gateway.operate_state.count_planner_question()?;
    match managers.post::<WhatIfAnswer>(&["what-if"], &body).await {
        Ok(answer) => {
            gateway.manager.dependency.note_answered();
            Ok(Json(answer))
        }
        Err(PeerError::Refused { status, detail }) => Err(manager_refusal(status, &detail)),
        Err(PeerError::Unavailable(reason)) => {
            Err(Problem::part_unavailable(format!("no manager answers the question now: {reason}")))
        }
    }
}

/// Returns a manager's refusal as the gateway's own: 400 with the wrong field if the question is wrong, 503 otherwise.
fn manager_refusal(status: StatusCode, problem: &str) -> Problem {
    let told = RefusalDetails::parse(problem);
    if status != StatusCode::BAD_REQUEST {
        let detail = told.detail.unwrap_or_default();
        return Problem::part_unavailable(format!("a manager refuses: {detail}"));
    }
    let detail = told.detail.unwrap_or_else(|| "the question cannot be read".to_owned());
    let refusal = Problem::new(status, detail);
    match told.field {
        Some(field) => refusal.with_member("field", field),
        None => refusal,
    }
}
