//! `POST /warm`: a manager announces that the viewers of a video will be sent to this reader. The manager authenticates
//! with the ticket that this reader gave it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use liverank_core::Invalid;
use liverank_core::comment::StreamPosition;
use liverank_core::epoch::check_epoch;
use liverank_protocol::{WarmAnswer, WarmRequest};
use liverank_runtime::body::JsonObject;
use liverank_runtime::{Problem, now_micros};
use serde_json::Value;

use crate::RunningReader;
use crate::channel::VideoChannel;
use crate::hub::ChannelHub;

/// The time that a manager may be kept waiting for an answer: a second later it chooses another reader.
const WARM_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of channels without viewers: a move warms a few at a time, the drain of a neighbouring reader
/// some thousands.
pub const MAX_EMPTY_CHANNELS: usize = 10_000;

/// Opens the video's channel, fills its ring, and answers when the channel is ready. Answers with an error if the
/// reader is leaving or full, has too many empty channels, or the stores do not answer in time.
pub async fn warm_video(
    State(reader): State<Arc<RunningReader>>,
    JsonObject(body): JsonObject,
) -> Result<Json<WarmAnswer>, Problem> {
    let WarmRequest { videoid, epoch } = serde_json::from_value(Value::Object(body))
        .map_err(|error| Invalid::new("body", error.to_string()))?;
    check_epoch("epoch", epoch, now_micros())?;
    if reader.is_draining() {
        return Err(Problem::part_unavailable("this reader is leaving"));
    }
    if reader.hub.viewer_total() >= reader.hub.settings.capacity {
        return Err(Problem::part_unavailable("this reader is full"));
    }
    let Some(room) = reader.hub.channel_to_warm(&videoid, MAX_EMPTY_CHANNELS) else {
        return Err(Problem::part_unavailable("this reader holds too many videos ready already"));
    };
    reader.placement.with_agent(|holder, now| holder.keep_warm(now, &videoid));
    match tokio::time::timeout(WARM_TIMEOUT, wait_until_ready(&reader.hub, &room)).await {
        Ok(true) => {
            Ok(Json(WarmAnswer { head: room.newest_in_ring().map(|head| head.to_string()), videoid }))
        }
        _ => Err(Problem::part_unavailable("the comment bus or the archive does not answer")),
    }
}

/// Opens a channel and fills its ring. Returns true if the channel is subscribed and has a position.
async fn wait_until_ready(hub: &Arc<ChannelHub>, room: &Arc<VideoChannel>) -> bool {
    hub.open_channel(room).await;
    hub.subscribe_channel(room).await;
    if let Some(StreamPosition { comment_epoch: numbering, seq }) = room.newest_in_ring() {
        let oldest = StreamPosition {
            comment_epoch: numbering,
            seq: seq.saturating_sub(hub.settings.ring_length as u64),
        };
        hub.fill_back_to(room, &oldest).await;
    }
    hub.is_channel_ready(room)
}
