//! `POST /warm`: a manager is about to send the viewers of a video here. It shows the ticket that this reader gave it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use liverank_core::Invalid;
use liverank_core::comment::Position;
use liverank_core::epoch::plausible;
use liverank_protocol::{Warm, Warmed};
use liverank_runtime::body::JsonObject;
use liverank_runtime::{Problem, now_micros};
use serde_json::Value;

use crate::Reader;
use crate::channel::Channel;
use crate::hub::Hub;

/// How long a manager may be kept waiting: it takes another target a second later.
const WARM_TIMEOUT: Duration = Duration::from_secs(3);
/// Rooms without viewers, at most: a move warms a few at a time, and a drain of this reader's neighbour some thousands.
pub const MAX_EMPTY: usize = 10_000;

/// Opens the video's room, fills its ring, and answers when it stands.
pub async fn warm_video(
    State(reader): State<Arc<Reader>>,
    JsonObject(body): JsonObject,
) -> Result<Json<Warmed>, Problem> {
    let Warm { videoid, epoch } = serde_json::from_value(Value::Object(body))
        .map_err(|error| Invalid::new("body", error.to_string()))?;
    plausible("epoch", epoch, now_micros())?;
    if reader.is_draining() {
        return Err(Problem::unavailable("this reader is leaving"));
    }
    if reader.hub.viewers() >= reader.hub.settings.capacity {
        return Err(Problem::unavailable("this reader is full"));
    }
    let Some(room) = reader.hub.room_to_be(&videoid, MAX_EMPTY) else {
        return Err(Problem::unavailable("this reader holds too many videos ready already"));
    };
    reader.placement.with(|holder, now| holder.warm(now, &videoid));
    match tokio::time::timeout(WARM_TIMEOUT, wait_until_ready(&reader.hub, &room)).await {
        Ok(true) => Ok(Json(Warmed { head: room.head().map(|head| head.to_string()), videoid })),
        _ => Err(Problem::unavailable("the comment bus or the archive does not answer")),
    }
}

/// Whether the room is subscribed, knows where its comments stand, and holds as many as a viewer may ask for.
async fn wait_until_ready(hub: &Arc<Hub>, room: &Arc<Channel>) -> bool {
    hub.open(room).await;
    hub.subscribe(room).await;
    if let Some(Position { numbering, seq }) = room.head() {
        let oldest = Position { numbering, seq: seq.saturating_sub(hub.settings.ring_length as u64) };
        hub.fill_back_to(room, &oldest).await;
    }
    hub.is_ready(room)
}
