//! A reader's heartbeats to the managers, and what they answer: whose viewers are to be handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use liverank_core::epoch::is_plausible_epoch;
use liverank_core::handover::HeldVideo;
use liverank_protocol::{HeartbeatAnswer, ReaderRecord};
use liverank_runtime::now_micros;
use liverank_runtime::peer::{PeerError, ServiceReplicas};

use crate::RunningReader;
use crate::channel::VideoChannel;

/// A reader silent for three of these is suspect.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// How long a manager may take to answer a heartbeat before the next one is told: all of them share what they hear, and
/// a stopped one must not make a healthy reader suspect.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);
/// What the reader waits for before it is ready: that managers know it, and not the process before it, by its name.
const READY_WHEN_NAMED: &str = "its name";

/// Beats for ever. A process that takes the place of one that still has viewers is not ready before these have left: a
/// Kubernetes that drains nodes then leaves the next reader alone for as long.
pub async fn run(reader: Arc<RunningReader>, managers: ServiceReplicas) {
    // A restarted reader must not look like the one before it.
    let start = rand::random::<u64>() >> 2;
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let incarnation = began.as_micros() as u64;
    for beat in start.. {
        let record = ReaderRecord { incarnation, ..build_record(&reader, beat) };
        reader.told_full.store(record.viewers >= record.capacity, Ordering::Relaxed);
        let (asked, told) = send_heartbeat(&managers, &record).await;
        let waits =
            matches!(&told, Err(PeerError::Refused { status, .. }) if *status == StatusCode::CONFLICT);
        if !waits {
            reader.hub.health.note_started(READY_WHEN_NAMED);
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
                    holder.hear_room(asked, room);
                }
            });
        }
        reader.beaten.send_modify(|beats| *beats += 1);
        let _ = tokio::time::timeout(HEARTBEAT_EVERY, reader.beat_now.notified()).await;
    }
}

fn build_record(reader: &RunningReader, beat: u64) -> ReaderRecord {
    let hub = &reader.hub;
    let [reconnects, reconnect_errors] = reader.reconnects.counts_of_window(Instant::now());
    ReaderRecord {
        id: hub.settings.id.clone(),
        public_url: reader.public_url.clone(),
        internal_url: reader.internal_url.clone(),
        beat,
        incarnation: 0,
        capacity: hub.settings.capacity,
        viewers: hub.viewers(),
        draining: reader.is_draining(),
        grace_ms: reader.grace_left().as_millis() as u64,
        highest_epoch: reader.placement.with_agent(|holder, _| holder.highest_epoch()),
        videos: held_videos(reader),
        messages_sent: hub.metrics.messages_written.get(),
        reconnects,
        reconnect_errors,
        ticket: Some(reader.ticket.clone()),
    }
}

/// Every room: those with viewers, those held ready for viewers who are to come, and those that linger.
fn held_videos(reader: &RunningReader) -> Vec<HeldVideo> {
    let rooms = reader.hub.rooms();
    reader.placement.with_agent(|holder, now| {
        let held = |room: &Arc<VideoChannel>| HeldVideo {
            video: room.video.clone(),
            viewers: room.viewers(),
            epoch: holder.video_epoch(&room.video),
            ready: reader.hub.is_ready(room),
            shedding: holder.is_shedding(now, &room.video),
        };
        rooms.iter().map(held).collect()
    })
}

/// Notes that the reader waits for its name, before it is asked whether it is ready.
pub fn note_waiting_for_name(reader: &RunningReader) {
    reader.hub.health.note_starting(READY_WHEN_NAMED);
}

/// Tells one manager, the others where it does not answer in time. Returns when the one that answered was told.
async fn send_heartbeat(
    managers: &ServiceReplicas,
    record: &ReaderRecord,
) -> (Instant, Result<HeartbeatAnswer, PeerError>) {
    let mut last = Err(PeerError::Unavailable("no manager is configured".into()));
    let mut asked = Instant::now();
    for _ in managers.urls() {
        asked = Instant::now();
        let url = managers.preferred().clone();
        let answer = managers.peers().post(&url, &["heartbeat"], record);
        last = tokio::time::timeout(ANSWER_TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| Err(PeerError::Unavailable(format!("{url} does not answer in time"))));
        if !matches!(last, Err(PeerError::Unavailable(_))) {
            break;
        }
        managers.prefer_another_than(&url);
    }
    (asked, last)
}
