//! Pushes what the comment bus delivers into the channels.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use liverank_adapters::comment_bus::Delivery;
use liverank_core::trace::TraceContext;
use liverank_protocol::roles::Role;
use liverank_runtime::Tracer;
use liverank_runtime::traces::RecordedSpan;
use tokio::sync::mpsc;

use crate::channel::VideoChannel;
use crate::hub::ChannelHub;

/// The pause before the bus is connected to again: short, because the bus is near; meanwhile the heads are compared
/// with the archive's.
const REDIAL_PAUSE: Duration = Duration::from_millis(500);
/// The maximum number of the bus's deliveries that are handled before their comments become visible: under a backlog,
/// the comments of many deliveries become visible together.
const MAX_DELIVERIES_A_BATCH: usize = 256;

/// Keeps a connection to the bus and pushes its deliveries into the channels, for ever.
pub async fn run(hub: Arc<ChannelHub>, tracer: Tracer) {
    loop {
        match hub.bus.new_subscription().await {
            Ok((subscription, deliveries)) => {
                hub.health.note_dependency("comment bus", Ok(()));
                hub.set_connection(Some(subscription.into()));
                hub.subscribe_requested.notify_one();
                dispatch_deliveries(&hub, &tracer, deliveries).await;
                hub.set_connection(None);
                hub.health.note_dependency("comment bus", Err("the connection ended".into()));
            }
            Err(error) => hub.health.note_dependency("comment bus", Err(error.to_string())),
        }
        tokio::time::sleep(REDIAL_PAUSE).await;
    }
}

async fn dispatch_deliveries(
    hub: &Arc<ChannelHub>,
    tracer: &Tracer,
    mut deliveries: mpsc::Receiver<Delivery>,
) {
    let mut batch = Vec::with_capacity(MAX_DELIVERIES_A_BATCH);
    let mut touched: Vec<(Arc<VideoChannel>, u64)> = Vec::new();
    // The spans of the batch's sampled comments: they end when the comments become visible.
    let mut spans: Vec<RecordedSpan> = Vec::new();
    while deliveries.recv_many(&mut batch, MAX_DELIVERIES_A_BATCH).await > 0 {
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Reset => {
                    hub.must_reread_comment_epoch.store(true, Ordering::Relaxed);
                    hub.head_comparison_requested.notify_one();
                }
                Delivery::Comment { numbering, comment, trace } => {
                    // Without a channel, it is a late delivery after unsubscribing.
                    let Some(room) = hub.channel_of(&comment.video_id) else { continue };
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
            hub.show_new_comments(&room, count);
        }
        spans.clear();
        // Yields so that viewers are served between batches, not only after the backlog.
        tokio::task::yield_now().await;
    }
}

/// Begins the trace span of one comment: from the bus until the threads that write to viewers are notified; `None` if
/// the comment's trace is not recorded.
fn comment_span(
    tracer: &Tracer,
    room: &VideoChannel,
    seq: u64,
    trace: &TraceContext,
) -> Option<RecordedSpan> {
    let mut span = tracer.continue_trace(Role::Reader.name(), "reader show", trace)?;
    span.set_attribute("liverank.video_id", room.video.as_str());
    span.set_attribute("liverank.seq", seq as i64);
    span.set_attribute("liverank.viewers", room.viewer_total() as i64);
    Some(span)
}
