//! `POST /interact`: appends one interaction to the log, and acknowledges it once the log has stored it durably.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use liverank_adapters::event_log::AppendError;
use liverank_core::{Interaction, Invalid, Kind, canary, event};
use liverank_runtime::body::{JsonObject, content_type, expect_json};
use liverank_runtime::free_shares::{CallerShare, CallerUnitPool};
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, now_ms, traces};
use serde::Serialize;
use serde_json::Value;

use crate::Gateway;
use crate::auth::Caller;
use crate::metrics::AppendOutcome;
use crate::videos;

/// The answer to an acknowledged interaction.
#[derive(Serialize)]
pub(crate) struct InteractionAnswer {
    /// The event id: the client's, or else a random one that the log does not have, so it cannot be used to send the
    /// event again.
    event_id: String,
}

/// Answers `POST /interact`.
pub(crate) async fn post_interaction(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    exchange: RequestExchange,
    request: Request,
) -> Result<(StatusCode, Json<InteractionAnswer>), Problem> {
    let event = read_json_object(&gateway, request)
        .await
        .and_then(|JsonObject(object)| Ok(parse_interaction(Value::Object(object))?));
    let mut event = event.inspect_err(|_| gateway.metrics.count_interaction(AppendOutcome::Invalid))?;
    caller.check_event(&mut event)?;
    check_can_be_taken_back(&gateway, &event).await?;
    gateway.limits.count_events(&caller, &exchange, 1)?;
    gateway.new_video_limits.admit(&gateway, &caller, &exchange, &event.video_id).await?;
    reserve_place(&gateway, &exchange)
        .inspect_err(|_| gateway.metrics.count_interaction(AppendOutcome::Shed))?;
    let event_id = append_interaction(&gateway, &event).await?;
    Ok((StatusCode::ACCEPTED, Json(InteractionAnswer { event_id })))
}

async fn read_json_object(gateway: &Gateway, request: Request) -> Result<JsonObject, Problem> {
    let (parts, body) = request.into_parts();
    if !is_beacon(gateway, &parts.headers) {
        expect_json(&parts.headers)?;
    }
    JsonObject::read(&parts.headers, body).await
}

/// Returns true if the request is a beacon, which a page sends when it closes (`navigator.sendBeacon`): JSON that is
/// declared as plain text, because a browser sends plain text without asking the server first (CORS preflight). The
/// page's origin still has to be an allowed one.
pub(crate) fn is_beacon(gateway: &Gateway, headers: &HeaderMap) -> bool {
    content_type(headers).as_deref() == Some("text/plain") && gateway.origins.is_allowed_page(headers)
}

/// Returns the 429 for requests beyond the number that this process, or one client of it, may have in flight.
pub(crate) fn too_many_requests_problem() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests in flight: try again")
        .with_retry_after(liverank_runtime::problem::STORE_RETRY_AFTER)
}

/// Takes a place among the requests in flight, as [`reserve_place_in`] does.
///
/// # Errors
/// 429 if no place is free, or the client has as many as it may have.
pub(crate) fn reserve_place(gateway: &Gateway, exchange: &RequestExchange) -> Result<(), Problem> {
    reserve_place_in(&gateway.request_room, exchange)
}

/// Takes a place in `places` for the client of a request, and keeps the place until the last byte of the answer is on
/// its way: an answer may be long, and its client may read it slowly.
///
/// # Errors
/// 429 if no place is free, or the client has as many as it may have.
pub(crate) fn reserve_place_in(places: &CallerUnitPool, exchange: &RequestExchange) -> Result<(), Problem> {
    reserve_places_in(places, exchange, 1)
}

/// Takes several places of one kind, as [`reserve_place_in`] takes one.
///
/// # Errors
/// 429 if they are not free, or the client would have more than it may have.
pub(crate) fn reserve_places_in(
    places: &CallerUnitPool,
    exchange: &RequestExchange,
    count: usize,
) -> Result<(), Problem> {
    exchange.keep_until_answered(
        places.try_take_units(exchange.client(), count).ok_or_else(too_many_requests_problem)?,
    );
    Ok(())
}

/// Takes a place among the requests in flight for a step of moderation, by moderators, owners or authors. Such steps are
/// short, wait for no client, and together have the share of one client.
///
/// # Errors
/// 429 if no place is free.
pub(crate) fn reserve_moderation_place(gateway: &Gateway) -> Result<CallerShare, Problem> {
    gateway.request_room.try_take_units(Ipv4Addr::UNSPECIFIED.into(), 1).ok_or_else(too_many_requests_problem)
}

/// Parses the interaction that a client sent. A `comment_id` is removed, because comments come through the comment
/// service only: here anybody could write under a comment's identity.
pub(crate) fn parse_interaction(mut value: Value) -> Result<Interaction, Invalid> {
    if let Value::Object(object) = &mut value {
        object.remove("comment_id");
        // A record in the log without `watch_time` counts as none, because its writers have always been free to leave
        // it out.
        if object.get("type").is_some_and(|kind| kind == Kind::WatchTime.name())
            && object.get("watch_time").is_none_or(Value::is_null)
        {
            return Err(Invalid::new("watch_time", "is required with the type watch_time: how many seconds"));
        }
    }
    let event = Interaction::parse(&value, now_ms())?;
    canary::refuse_canary_video("video_id", &event.video_id)?;
    Ok(event)
}

/// Maximum time for the archive to return its counting rules: a client that takes back an event does not wait longer.
const RULES_TIMEOUT: Duration = Duration::from_millis(500);

/// Refuses an event that takes another one back (such as `unlike`) if every event of the other's type counts, instead
/// of one for each user: nothing would be taken back, and the client has to know. If the archive does not return its
/// counting rules, the event goes into the log; at worst it counts for nothing.
pub(crate) async fn check_can_be_taken_back(gateway: &Gateway, event: &Interaction) -> Result<(), Invalid> {
    let Some(kind) = event.kind.kind_taken_back() else { return Ok(()) };
    match tokio::time::timeout(RULES_TIMEOUT, videos::counting_rules(gateway)).await {
        Ok(Ok(Some(rules))) if !rules.unique.contains(kind) => {
            let (this, other) = (event.kind.name(), kind.name());
            let why = format!(
                "cannot be {this}: here every {other} counts, and only what counts once per user can be taken back (the \
                 setting `unique`)"
            );
            Err(Invalid::new("type", why))
        }
        _ => Ok(()),
    }
}

/// Appends an interaction to the log, and returns its `event_id`.
pub(crate) async fn append_interaction(gateway: &Gateway, event: &Interaction) -> Result<String, Problem> {
    let claimed = gateway.claimed_event_ids.claim_event_id(event);
    claimed.inspect_err(|_| gateway.metrics.count_interaction(AppendOutcome::Invalid))?;
    let (key, asked) = (event.video_id.as_str().as_bytes(), Instant::now());
    let appended = gateway.backends.log.append_traced(key, event.to_json(), traces::current_context()).await;
    if matches!(appended, Err(AppendError::TooLarge { .. })) {
        gateway.claimed_event_ids.release_event_id(event);
    }
    match appended {
        Ok(position) => gateway.metrics.freshness.offer_sample(position, asked),
        Err(refused) => {
            gateway.metrics.count_interaction(AppendOutcome::Unavailable);
            return Err(append_problem(gateway, &refused));
        }
    }
    gateway.log_dependency.note_answered();
    gateway.metrics.count_interaction(AppendOutcome::Acknowledged);
    let id = event.event_id.clone().unwrap_or_else(|| event::random_event_id(rand::random()));
    Ok(id.as_str().to_owned())
}

fn append_problem(gateway: &Gateway, refused: &AppendError) -> Problem {
    match refused {
        AppendError::Unavailable(error) => {
            gateway.log_dependency.note_failed(error.to_string());
            Problem::part_unavailable("the log is away: not acknowledged, try again")
        }
        AppendError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, refused.to_string()),
    }
}
