//! Which channels of the bus a reader listens to: those of its rooms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::hub::Hub;

/// How often rooms are looked through: lingering is in seconds.
const EVERY: Duration = Duration::from_secs(1);
/// Subscriptions made or ended at once.
const AT_ONCE: usize = 32;
/// Empty rooms kept warm for viewers who come right back, at most; past it they are closed at once.
const MAX_LINGERING: usize = 10_000;

/// Subscribes rooms that are not (the bus was away, or its connection has been replaced) and closes those that stayed
/// empty, for ever.
pub async fn run(hub: Arc<Hub>) {
    loop {
        subscribe(&hub).await;
        close_empty(&hub).await;
        let _ = tokio::time::timeout(EVERY, hub.channels.notified()).await;
    }
}

async fn subscribe(hub: &Arc<Hub>) {
    let mut waiting = hub.rooms();
    waiting.retain(|room| !hub.is_subscribed(room));
    if waiting.is_empty() {
        return;
    }
    futures::stream::iter(&waiting)
        .for_each_concurrent(AT_ONCE, |room| async move { hub.subscribe(room).await })
        .await;
    // What was published before the subscription shows in the heads.
    hub.compare.notify_one();
}

async fn close_empty(hub: &Arc<Hub>) {
    let now = Instant::now();
    let rooms = hub.rooms();
    let empty: Vec<_> = rooms.iter().filter_map(|room| Some((room, room.empty_for(now)?))).collect();
    let linger = if empty.len() > MAX_LINGERING { Duration::ZERO } else { hub.settings.linger };
    let due = empty.into_iter().filter(|(_, empty)| *empty >= linger).map(|(room, _)| room);
    futures::stream::iter(due)
        .for_each_concurrent(AT_ONCE, |room| async move { hub.close(room).await })
        .await;
}
