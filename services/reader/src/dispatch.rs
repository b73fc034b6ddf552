//! From the bus into the rooms.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use liverank_adapters::comment_bus::Delivery;
use liverank_core::trace::TraceContext;
use liverank_protocol::roles::Role;
use liverank_runtime::Tracer;
use liverank_runtime::traces::Span;
use tokio::sync::mpsc;

use crate::channel::Channel;
use crate::hub::Hub;

/// How long to wait before the bus is dialled again: it is next door, and heads are compared meanwhile.
const REDIAL_PAUSE: Duration = Duration::from_millis(500);
/// Deliveries handled before what they brought is shown: under a backlog, this joins them.
const MAX_DELIVERIES_A_BATCH: usize = 256;

/// Keeps a connection to the bus and hands what it brings to the rooms, for ever.
pub async fn run(hub: Arc<Hub>, tracer: Tracer) {
    loop {
        match hub.bus.connect().await {
            Ok((subscription, deliveries)) => {
                hub.health.dependency("comment bus", Ok(()));
                hub.set_connection(Some(subscription.into()));
                hub.channels.notify_one();
                dispatch_deliveries(&hub, &tracer, deliveries).await;
                hub.set_connection(None);
                hub.health.dependency("comment bus", Err("the connection ended".into()));
            }
            Err(error) => hub.health.dependency("comment bus", Err(error.to_string())),
        }
        tokio::time::sleep(REDIAL_PAUSE).await;
    }
}

async fn dispatch_deliveries(hub: &Arc<Hub>, tracer: &Tracer, mut deliveries: mpsc::Receiver<Delivery>) {
    let mut batch = Vec::with_capacity(MAX_DELIVERIES_A_BATCH);
    let mut touched: Vec<(Arc<Channel>, u64)> = Vec::new();
    // Of what of the batch is recorded: they end when it is shown.
    let mut spans: Vec<Span> = Vec::new();
    while deliveries.recv_many(&mut batch, MAX_DELIVERIES_A_BATCH).await > 0 {
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Reset => {
                    hub.doubt.store(true, Ordering::Relaxed);
                    hub.compare.notify_one();
                }
                Delivery::Comment { numbering, comment, trace } => {
                    // Without a room it is a last word after unsubscribing.
                    let Some(room) = hub.room(&comment.video_id) else { continue };
                    spans.extend(trace.and_then(|trace| comment_span(tracer, &room, comment.seq, &trace)));
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
        spans.clear();
        // Viewers are served between batches, not after the backlog.
        tokio::task::yield_now().await;
    }
}

/// The span of one comment, from the bus until the threads that write to viewers are told of it.
fn comment_span(tracer: &Tracer, room: &Channel, seq: u64, trace: &TraceContext) -> Option<Span> {
    let mut span = tracer.goes_on(Role::Reader.name(), "reader show", trace)?;
    span.set("liverank.video_id", room.video.as_str());
    span.set("liverank.seq", seq as i64);
    span.set("liverank.viewers", room.viewers() as i64);
    Some(span)
}
