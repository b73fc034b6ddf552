//! Sending viewers elsewhere: those of videos that the managers order to be handed over, and in the end everybody.
//!
//! How many and when is [`ReaderAgent`](liverank_core::handover::reader_agent::Holder)'s to say; here its word is carried to the
//! rooms, a few times a second, in steps of random length, so that those who are sent away together do not come back
//! together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_core::VideoId;

use crate::RunningReader;
use crate::channel::VideoChannel;

/// The least time between two groups; the most is twice that.
const MIN_STEP: Duration = Duration::from_millis(40);
/// Who has not gone by then (its socket is full, or the writing threads have more to do than they can) is counted again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Rooms some of whose viewers were asked to go, and when last.
type AskedChannels = HashMap<VideoId, (Arc<VideoChannel>, Instant)>;

/// Hands viewers over for ever.
pub async fn run(reader: Arc<RunningReader>) {
    let mut asked = AskedChannels::new();
    loop {
        tokio::time::sleep(MIN_STEP + MIN_STEP.mul_f64(rand::random())).await;
        for order in reader.placement.active_hand_overs() {
            if let Some(room) = reader.hub.channel_of(&order.video) {
                let viewers = room.viewers();
                let due = reader
                    .placement
                    .with_agent(|holder, now| holder.viewers_to_close(now, &order.video, viewers));
                ask_to_leave(&reader, &room, due, &mut asked);
            }
        }
        if reader.is_draining() {
            hand_over_all(&reader, &mut asked);
        }
        // What an order did not come to must not hit others later.
        asked.retain(|_, (room, at)| {
            let recent = at.elapsed() < ASK_AGAIN_AFTER;
            if !recent {
                room.end_streams(0);
            }
            recent
        });
    }
}

fn ask_to_leave(reader: &RunningReader, room: &Arc<VideoChannel>, viewers: u64, asked: &mut AskedChannels) {
    if viewers > 0 {
        reader.hub.metrics.handed_over.inc_by(viewers);
        room.end_streams(viewers);
        asked.insert(room.video.clone(), (Arc::clone(room), Instant::now()));
        reader.hub.fanout.notify_threads(room);
    }
}

/// The reader's own part in leaving: whom the managers have not moved.
fn hand_over_all(reader: &RunningReader, asked: &mut AskedChannels) {
    let viewers = reader.hub.viewers();
    let mut due = reader.placement.with_agent(|holder, now| holder.viewers_to_close_on_exit(now, viewers));
    for room in reader.hub.rooms() {
        let here = room.viewers().min(due);
        ask_to_leave(reader, &room, here, asked);
        due -= here;
    }
}
