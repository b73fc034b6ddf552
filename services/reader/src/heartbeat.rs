//! A reader's heartbeats to the managers, and what they answer: which videos others serve now.

use std::sync::Arc;
use std::time::Duration;

use liverank_adapters::assignment_store::ReaderRecord;
use liverank_shell::peer::{PeerError, Replicas};
use liverank_shell::wire::{HeartbeatAnswer, Moved};

use crate::Reader;

/// A reader silent for three of these is suspect.
const EVERY: Duration = Duration::from_secs(1);
/// How long a manager may take to answer a heartbeat before the next one is told: all of them share what they hear, and
/// a stopped one must not make a healthy reader suspect.
const WITHIN: Duration = Duration::from_millis(800);
/// Over how long the viewers of a moved video are sent away, so that they do not all come back at once.
pub const SPREAD: Duration = Duration::from_secs(2);

/// Beats for ever.
pub async fn run(reader: Arc<Reader>, managers: Replicas) {
    // A restarted reader must not look like the one before it.
    let start = rand::random::<u64>() >> 2;
    for beat in start.. {
        let record = record(&reader, beat);
        let told = tell(&managers, &record).await;
        let state = told.as_ref().map(drop).map_err(ToString::to_string);
        reader.hub.health.dependency("manager", state);
        for moved in told.into_iter().flat_map(|answer| answer.moved) {
            follow(&reader, &moved);
        }
        reader.beaten.send_modify(|beats| *beats += 1);
        let _ = tokio::time::timeout(EVERY, reader.beat_now.notified()).await;
    }
}

fn record(reader: &Reader, beat: u64) -> ReaderRecord {
    ReaderRecord {
        id: reader.hub.settings.id.clone(),
        public_url: reader.public_url.clone(),
        internal_url: reader.internal_url.clone(),
        beat,
        capacity: reader.hub.settings.capacity,
        viewers: reader.hub.viewers(),
        draining: reader.is_draining(),
        highest_epoch: reader.placement.highest_epoch(),
        videos: reader.hub.audience(),
        messages_sent: reader.hub.metrics.messages.get(),
    }
}

/// Tells one manager, the others where it does not answer in time.
async fn tell(managers: &Replicas, record: &ReaderRecord) -> Result<HeartbeatAnswer, PeerError> {
    let mut last = Err(PeerError::Unavailable("no manager is configured".into()));
    for _ in managers.urls() {
        let url = managers.preferred().clone();
        let answer = managers.peers().post(&url, &["heartbeat"], record);
        last = tokio::time::timeout(WITHIN, answer)
            .await
            .unwrap_or_else(|_| Err(PeerError::Unavailable(format!("{url} does not answer in time"))));
        if !matches!(last, Err(PeerError::Unavailable(_))) {
            break;
        }
        managers.avoid(&url);
    }
    last
}

/// Sends the viewers of a moved video away, unless they are on their way already.
fn follow(reader: &Arc<Reader>, moved: &Moved) {
    if !reader.placement.moved(moved) {
        return;
    }
    let Some(room) = reader.hub.room(&moved.videoid).filter(|room| room.viewers() > 0) else { return };
    let (reader, epoch) = (Arc::clone(reader), moved.epoch);
    tokio::spawn(async move {
        let (video, viewers) = (room.video.clone(), room.viewers());
        if reader.hub.send_away(&room, SPREAD).await {
            tracing::info!(%video, epoch, viewers, "sent the viewers of a moved video to its reader");
        }
    });
}
