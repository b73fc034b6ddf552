//! Subscribes the reader's channels on the comment bus and closes the empty ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::RunningReader;
use crate::channel::VideoChannel;
use crate::hub::ChannelHub;
use crate::warm::MAX_EMPTY_CHANNELS;

/// The time between two looks at all channels: one second, because the time for which an empty channel is kept is in
/// seconds.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The maximum number of subscriptions made or ended at the same time.
const MAX_SUBSCRIPTIONS_AT_ONCE: usize = 32;

/// Subscribes channels that are not subscribed (the bus was away, or its connection was replaced) and closes those that
/// have been empty for long enough, for ever.
pub async fn run(reader: Arc<RunningReader>) {
    loop {
        subscribe_missing(&reader.hub).await;
        close_empty(&reader).await;
        let _ = tokio::time::timeout(SWEEP_EVERY, reader.hub.subscribe_requested.notified()).await;
    }
}

async fn subscribe_missing(hub: &Arc<ChannelHub>) {
    let mut waiting = hub.channels();
    waiting.retain(|room| !hub.is_channel_subscribed(room));
    if waiting.is_empty() {
        return;
    }
    futures::stream::iter(&waiting)
        .for_each_concurrent(
            MAX_SUBSCRIPTIONS_AT_ONCE,
            |room| async move { hub.subscribe_channel(room).await },
        )
        .await;
    // Comments that were published before the subscription are found by comparing heads.
    hub.head_comparison_requested.notify_one();
}

/// Closes channels that have had no viewers for long enough and that no manager asked to keep ready; if too many
/// channels have no viewers, closes all of those that no manager asked to keep ready.
async fn close_empty(reader: &RunningReader) {
    let now = Instant::now();
    let rooms = reader.hub.channels();
    let empty: Vec<_> = rooms.iter().filter_map(|room| Some((room, room.empty_for(now)?))).collect();
    let crowded = empty.len() > MAX_EMPTY_CHANNELS;
    let due: Vec<_> = reader.placement.with_agent(|holder, now| {
        let may = |room: &VideoChannel, empty| {
            holder.may_drop_video(now, &room.video, if crowded { Duration::MAX } else { empty })
        };
        empty.into_iter().filter(|(room, empty)| may(room, *empty)).map(|(room, _)| room).collect()
    });
    futures::stream::iter(due)
        .for_each_concurrent(
            MAX_SUBSCRIPTIONS_AT_ONCE,
            |room| async move { reader.hub.close_channel(room).await },
        )
        .await;
}
