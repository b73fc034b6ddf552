//! From the bus into the rooms.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use liverank_adapters::comment_bus::Delivery;
use tokio::sync::mpsc;

use crate::channel::Channel;
use crate::hub::Hub;

/// How long to wait before the bus is dialled again: it is next door, and heads are compared meanwhile.
const REDIAL: Duration = Duration::from_millis(500);
/// Deliveries handled before what they brought is shown: under a backlog, this joins them.
const BATCH: usize = 256;

/// Keeps a connection to the bus and hands what it brings to the rooms, for ever.
pub async fn run(hub: Arc<Hub>) {
    loop {
        match hub.bus.connect().await {
            Ok((subscription, deliveries)) => {
                hub.health.dependency("comment bus", Ok(()));
                hub.set_connection(Some(subscription.into()));
                hub.channels.notify_one();
                hand_out(&hub, deliveries).await;
                hub.set_connection(None);
                hub.health.dependency("comment bus", Err("the connection ended".into()));
            }
            Err(error) => hub.health.dependency("comment bus", Err(error.to_string())),
        }
        tokio::time::sleep(REDIAL).await;
    }
}

async fn hand_out(hub: &Arc<Hub>, mut deliveries: mpsc::Receiver<Delivery>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut touched: Vec<(Arc<Channel>, u64)> = Vec::new();
    while deliveries.recv_many(&mut batch, BATCH).await > 0 {
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Reset => {
                    hub.doubt.store(true, Ordering::Relaxed);
                    hub.compare.notify_one();
                }
                Delivery::Comment { numbering, comment } => {
                    // Without a room it is a last word after unsubscribing.
                    let Some(room) = hub.room(&comment.video_id) else { continue };
                    let count = hub.push(&room, &numbering, &comment);
                    match touched.iter_mut().find(|(touched, _)| Arc::ptr_eq(touched, &room)) {
                        Some((_, so_far)) => *so_far += count,
                        None if count > 0 => touched.push((room, count)),
                        None => {}
                    }
                }
            }
        }
        for (room, count) in touched.drain(..) {
            hub.show(&room, count);
        }
        // Viewers are served between batches, not after the backlog.
        tokio::task::yield_now().await;
    }
}
