//! `POST /interact`: one interaction into the log, acknowledged once the log has it durably.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use liverank_adapters::event_log::AppendError;
use liverank_core::comment::hex;
use liverank_core::{Interaction, Invalid};
use liverank_runtime::body::JsonObject;
use liverank_runtime::{Problem, now_ms};
use serde::Serialize;
use serde_json::Value;

use crate::Gateway;
use crate::auth::Caller;
use crate::metrics::AppendOutcome;

/// The answer to an acknowledged interaction.
#[derive(Serialize)]
pub(crate) struct Acknowledged {
    /// The one that the client gave, else one of ours, by which nothing can be sent again.
    event_id: String,
}

/// `POST /interact`.
pub(crate) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    body: Result<JsonObject, Problem>,
) -> Result<(StatusCode, Json<Acknowledged>), Problem> {
    let event = body.and_then(|JsonObject(object)| Ok(read(Value::Object(object))?));
    let event = event.inspect_err(|_| gateway.metrics.interaction(AppendOutcome::Invalid))?;
    caller.expect("user_id", event.user_id.as_str())?;
    let Ok(_permit) = gateway.in_flight.try_acquire() else {
        gateway.metrics.interaction(AppendOutcome::Shed);
        return Err(too_many());
    };
    let event_id = append(&gateway, &event).await?;
    Ok((StatusCode::ACCEPTED, Json(Acknowledged { event_id })))
}

/// 429 for what the bounds of this process turn away.
pub(crate) fn too_many() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests in flight: try again")
        .retry_after(liverank_runtime::problem::RETRY_AFTER)
}

/// Reads what a client sent. The text and identity of a comment come through the comment service only: here they would
/// let anyone write under a comment's identity.
pub(crate) fn read(mut value: Value) -> Result<Interaction, Invalid> {
    if let Value::Object(object) = &mut value {
        object.remove("comment_id");
    }
    Interaction::parse(&value, now_ms())
}

/// Appends an interaction to the log and answers its `event_id`.
pub(crate) async fn append(gateway: &Gateway, event: &Interaction) -> Result<String, Problem> {
    let key = event.video_id.as_str().as_bytes();
    if let Err(refused) = gateway.backends.log.append(key, event.to_json()).await {
        gateway.metrics.interaction(AppendOutcome::Unavailable);
        return Err(refusal(gateway, &refused));
    }
    gateway.log.answered();
    gateway.metrics.interaction(AppendOutcome::Acknowledged);
    let minted = || hex(&rand::random::<u128>().to_be_bytes());
    Ok(event.event_id.as_ref().map_or_else(minted, |id| id.as_str().to_owned()))
}

fn refusal(gateway: &Gateway, refused: &AppendError) -> Problem {
    match refused {
        AppendError::Unavailable(error) => {
            gateway.log.failed(error.part(), error.to_string());
            Problem::unavailable("the log is away: not acknowledged, try again")
        }
        AppendError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, refused.to_string()),
    }
}
