//! A reader's heartbeats to the managers, and their answers: the videos whose viewers are to be handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use liverank_core::epoch::is_plausible_epoch;
use liverank_core::handover::HeldVideo;
use liverank_protocol::{HeartbeatAnswer, ReaderRecord, ZonedViewers};
use liverank_runtime::now_micros;
use liverank_runtime::peer::{PeerError, ServiceReplicas};
use reqwest::Url;

use crate::RunningReader;
use crate::channel::VideoChannel;
use crate::heartbeat_sizes::HeartbeatSizes;
use crate::viewer_zone::ViewerZone;

/// The time between two heartbeats. A reader that is silent for three of these is suspect.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// The time that a manager may take to answer a heartbeat; after it, the heartbeat is sent to the next manager.
/// Managers share what they are told, and a stopped manager must not make a healthy reader suspect.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);
/// The name of a start condition in the health report: the reader is not ready before the managers know it by its id,
/// instead of the previous process with the same id.
const NAME_ACCEPTED_CONDITION: &str = "its name";

/// Sends heartbeats for ever. A process that replaces one with the same id that still has viewers is not ready before
/// these have left: Kubernetes, when it drains nodes, does not stop the next reader before the new process is ready.
pub async fn run(reader: Arc<RunningReader>, managers: ServiceReplicas) {
    // A random start, so that the heartbeats of a restarted reader do not look like those of the previous process.
    let start = rand::random::<u64>() >> 2;
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let incarnation = began.as_micros() as u64;
    let mut sizes = HeartbeatSizes::default();
    for beat in start.. {
        let record = ReaderRecord { incarnation, ..build_record(&reader, beat) };
        reader.full_was_reported.store(record.viewers >= record.capacity, Ordering::Relaxed);
        let (asked, told) = send_heartbeat(&managers, &record, &mut sizes).await;
        let waits =
            matches!(&told, Err(PeerError::Refused { status, .. }) if *status == StatusCode::CONFLICT);
        if !waits {
            reader.hub.health.note_started(NAME_ACCEPTED_CONDITION);
        }
        let state = told.as_ref().map(drop).map_err(ToString::to_string);
        reader.hub.health.note_dependency("manager", state);
        if let Ok(HeartbeatAnswer { mut hand_over, viewers_elsewhere, room_elsewhere }) = told {
            reader.hub.viewers_elsewhere.set_all(viewers_elsewhere);
            let now = now_micros();
            hand_over.retain(|order| is_plausible_epoch(order.epoch, now));
            reader.placement.with_agent(|holder, now| {
                let asked = now.saturating_sub(asked.elapsed());
                holder.set_hand_overs(now, asked, hand_over);
                if let Some(room) = room_elsewhere {
                    holder.note_room_elsewhere(asked, room);
                }
            });
        }
        reader.heartbeats_sent.send_modify(|beats| *beats += 1);
        let _ = tokio::time::timeout(HEARTBEAT_EVERY, reader.heartbeat_requested.notified()).await;
    }
}

fn build_record(reader: &RunningReader, beat: u64) -> ReaderRecord {
    let hub = &reader.hub;
    let [reconnects, reconnect_errors] = reader.reconnects.counts_of_window(Instant::now());
    let videos = held_videos(reader);
    ReaderRecord {
        id: hub.settings.id.clone(),
        public_url: reader.public_url.clone(),
        internal_url: reader.internal_url.clone(),
        beat,
        incarnation: 0,
        capacity: hub.settings.capacity,
        // The sum of what the same record says of each video: managers leave the canary's viewers out of it, and with a number
        // that was read a moment earlier or later, one of these could remain.
        viewers: videos.iter().map(|held| held.viewers).sum(),
        draining: reader.is_draining(),
        grace_ms: reader.remaining_grace().as_millis() as u64,
        highest_epoch: reader.placement.with_agent(|holder, _| holder.highest_epoch()),
        videos,
        messages_sent: hub.metrics.messages_written.get(),
        reconnects,
        reconnect_errors,
        zone: reader.zone.clone(),
        viewers_by_zone: ZonedViewers {
            same: hub.metrics.viewers_of_zone(ViewerZone::Same),
            other: hub.metrics.viewers_of_zone(ViewerZone::Other),
        },
        ticket: Some(reader.ticket.clone()),
    }
}

/// Returns every channel: those with viewers, those kept ready for viewers to come, and those that are kept for a while
/// after the last viewer left.
fn held_videos(reader: &RunningReader) -> Vec<HeldVideo> {
    let rooms = reader.hub.channels();
    reader.placement.with_agent(|holder, now| {
        let held = |room: &Arc<VideoChannel>| HeldVideo {
            video: room.video.clone(),
            viewers: room.viewer_total(),
            epoch: holder.video_epoch(&room.video),
            ready: reader.hub.is_channel_ready(room),
            shedding: holder.is_shedding(now, &room.video),
        };
        rooms.iter().map(held).collect()
    })
}

/// Notes in the health report that the reader waits for the managers to know it by its id; called before readiness is
/// asked for.
pub fn note_waiting_for_name(reader: &RunningReader) {
    reader.hub.health.note_starting(NAME_ACCEPTED_CONDITION);
}

/// Sends a heartbeat to one manager, and to the next ones if it does not answer in time. Returns the time at which the
/// heartbeat was last sent, and the manager's answer to it.
async fn send_heartbeat(
    managers: &ServiceReplicas,
    record: &ReaderRecord,
    sizes: &mut HeartbeatSizes,
) -> (Instant, Result<HeartbeatAnswer, PeerError>) {
    let mut last = Err(PeerError::Unavailable("no manager is configured".into()));
    let mut asked = Instant::now();
    let mut sent = sizes.fit_record(record);
    for _ in managers.urls() {
        asked = Instant::now();
        let url = managers.preferred_url().clone();
        last = post_heartbeat(managers, &url, &sent).await;
        if matches!(&last, Err(PeerError::Refused { status, .. }) if *status == StatusCode::PAYLOAD_TOO_LARGE)
        {
            sizes.note_too_long();
            sent = sizes.fit_record(record);
            asked = Instant::now();
            last = post_heartbeat(managers, &url, &sent).await;
        }
        if !matches!(last, Err(PeerError::Unavailable(_))) {
            break;
        }
        managers.prefer_another_than(&url);
    }
    match &last {
        Ok(_) => sizes.note_answer(asked.elapsed()),
        Err(PeerError::Unavailable(_)) => sizes.note_late(&sent),
        Err(_) => {}
    }
    if sent.videos.len() < record.videos.len() {
        tracing::warn!(
            videos = record.videos.len(),
            told = sent.videos.len(),
            "managers take no heartbeat with all videos"
        );
    }
    (asked, last)
}

async fn post_heartbeat(
    managers: &ServiceReplicas,
    url: &Url,
    record: &ReaderRecord,
) -> Result<HeartbeatAnswer, PeerError> {
    let answer = managers.peers().post(url, &["heartbeat"], record);
    tokio::time::timeout(ANSWER_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(PeerError::Unavailable(format!("{url} does not answer in time"))))
}
