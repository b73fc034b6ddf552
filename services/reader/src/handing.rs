//! Sending viewers to other readers: the viewers of videos that the managers order to be handed over, and, when the
//! reader leaves, all viewers.
//!
//! [`ReaderAgent`](liverank_core::handover::reader_agent::ReaderAgent) decides how many viewers leave and when. This
//! module ends the streams of as many viewers of each channel a few times a second, in steps of random length, so that
//! viewers who are sent away together do not come back together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_core::VideoId;

use crate::RunningReader;
use crate::channel::VideoChannel;

/// The shortest time between two groups of viewers that are sent away; the longest is twice this.
const MIN_GROUP_INTERVAL: Duration = Duration::from_millis(40);
/// The time after which a viewer who was to leave and has not (its socket is full, or the writing threads are
/// overloaded) is counted as present again.
const LEAVE_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Channels some of whose viewers were asked to leave, each with the time of the last such request.
type AskedChannels = HashMap<VideoId, (Arc<VideoChannel>, Instant)>;

/// Sends viewers to other readers as the managers order, for ever.
pub async fn run(reader: Arc<RunningReader>) {
    let mut asked = AskedChannels::new();
    loop {
        tokio::time::sleep(MIN_GROUP_INTERVAL + MIN_GROUP_INTERVAL.mul_f64(rand::random())).await;
        for order in reader.placement.active_hand_overs() {
            if let Some(room) = reader.hub.channel_of(&order.video) {
                let viewers = room.viewer_total();
                let due = reader
                    .placement
                    .with_agent(|holder, now| holder.viewers_to_close(now, &order.video, viewers));
                ask_to_leave(&reader, &room, due, &mut asked);
            }
        }
        if reader.is_draining() {
            send_away_unmoved(&reader, &mut asked);
        }
        // The unfulfilled rest of an old request must not end the streams of viewers who come later.
        asked.retain(|_, (room, at)| {
            let recent = at.elapsed() < LEAVE_REQUEST_TIMEOUT;
            if !recent {
                room.end_streams(0);
            }
            recent
        });
    }
}

fn ask_to_leave(reader: &RunningReader, room: &Arc<VideoChannel>, viewers: u64, asked: &mut AskedChannels) {
    if viewers > 0 {
        reader.hub.metrics.viewers_handed_over.inc_by(viewers);
        room.end_streams(viewers);
        asked.insert(room.video.clone(), (Arc::clone(room), Instant::now()));
        reader.hub.fanout.notify_threads(room);
    }
}

/// Sends away those viewers of a leaving reader whom the managers have not moved.
fn send_away_unmoved(reader: &RunningReader, asked: &mut AskedChannels) {
    let viewers = reader.hub.viewer_total();
    let mut due = reader.placement.with_agent(|holder, now| holder.viewers_to_close_on_exit(now, viewers));
    for room in reader.hub.channels() {
        let here = room.viewer_total().min(due);
        ask_to_leave(reader, &room, here, asked);
        due -= here;
    }
}
