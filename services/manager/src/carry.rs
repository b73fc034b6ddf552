//! Carries moves out: asks new readers to hold the video ready, swaps by compare-and-set, and begins what waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use liverank_adapters::assignment_store::Swapped;
use liverank_core::handover::coordinator::{Order, Step};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::{OrderedBy, Warm};
use liverank_runtime::peer::join;
use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

use crate::Manager;
use crate::cluster::drains::{Drain, HAND_OVER_SECONDS};
use crate::moves::{Outcome, Wanted};

/// How often it looks without being woken.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a reader may take to hold a video ready before it is asked again.
const WARM_TIMEOUT: Duration = Duration::from_secs(4);
/// Readers asked and compare-and-sets at once.
const MAX_WARM_UPS_AT_ONCE: usize = 64;
/// Compare-and-sets at once of videos that nobody watches.
const MAX_SWAPS_AT_ONCE: usize = 16;

/// Carries out. Never returns.
pub async fn run(manager: Arc<Manager>) {
    let slots = Arc::new(Semaphore::new(MAX_WARM_UPS_AT_ONCE));
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let unwatched = tokio::select! {
            _ = ticks.tick() => begin_drains(&manager),
            () = manager.carry_now.notified() => Vec::new(),
        };
        if !unwatched.is_empty() {
            reassign_unwatched(&manager, unwatched).await;
        }
        for step in due_steps(&manager) {
            let (manager, slots) = (Arc::clone(&manager), Arc::clone(&slots));
            tokio::spawn(async move {
                let Ok(_slot) = slots.acquire().await else { return };
                match step {
                    Step::Warm { reader, video } => ask_to_warm(&manager, &reader, &video).await,
                    Step::Swap(order) => compare_and_set(&manager, &order).await,
                    // Noted already.
                    Step::Dropped(_) => {}
                }
            });
        }
    }
}

/// Begins moves that there is room for, and returns the steps that are due now.
fn due_steps(manager: &Manager) -> Vec<Step> {
    let now = Instant::now();
    let time = manager.time(now);
    let cluster = manager.cluster();
    let seen = cluster.seen(now);
    let mut carrying = manager.carrying();
    carrying.look(now, &seen);
    if cluster.watch.is_fresh(now) {
        let window =
            manager.config.max_viewers_moved_per_minute.saturating_mul(HAND_OVER_SECONDS).div_ceil(60);
        let under_way = cluster.owed.viewers + carrying.uncounted(cluster.owed.at);
        carrying.admit(now, time, &seen, window.saturating_sub(under_way), under_way == 0);
    }
    carrying.steps(time, &seen)
}

/// Begins to empty readers that are leaving, or that a planner wants emptied. A reader is looked after by the manager
/// that it reports to: two do not warm two others for one video. Returns videos that nobody watches: nobody has to be
/// ready for these.
fn begin_drains(manager: &Manager) -> Vec<Order> {
    let now = Instant::now();
    let time = manager.time(now);
    let cluster = manager.cluster();
    if !cluster.watch.is_fresh(now) {
        return Vec::new();
    }
    let mut carrying = manager.carrying();
    let per_minute = manager.config.max_viewers_moved_per_minute;
    let uncounted = carrying.uncounted(cluster.owed.at);
    let drains = cluster.drains(now, per_minute, uncounted, |video| carrying.is_moving(video));
    let seen = cluster.seen(now);
    let (watched, unwatched): (Vec<Drain>, Vec<Drain>) =
        drains.into_iter().partition(|drain| cluster.viewers(&drain.order.video) > 0);
    for drain in watched {
        let why = format!("reader {} is to be emptied", drain.reader);
        let wanted =
            Wanted { order: drain.order, by: OrderedBy::Drain, term: None, why, viewers: drain.viewers };
        // Refused: somebody else moves it, or as many moves as may be are under way. Looked at again soon.
        if let Ok(id) = carrying.want(now, &seen, wanted) {
            carrying.begin(id, time, &seen);
        }
    }
    unwatched.into_iter().map(|drain| drain.order).collect()
}

/// Gives videos that nobody watches to other readers, at once.
async fn reassign_unwatched(manager: &Manager, orders: Vec<Order>) {
    let swap = |order: Order| async move {
        let (seen, expected) = (manager.cluster().highest_epoch(), Some(order.expected));
        let swapped = manager.store.assign(&order.video, expected, &order.readers, seen, None);
        match manager.ask(swapped).await {
            Ok(Swapped::Stored(assignment)) => manager.stored(&assignment, expected),
            Ok(Swapped::Conflict(current)) => manager.learn(&order.video, current),
            // Found again at the next look.
            Ok(Swapped::Fenced(_)) | Err(_) => {}
        }
    };
    stream::iter(orders).for_each_concurrent(MAX_SWAPS_AT_ONCE, swap).await;
}

/// Asks a reader to hold a video ready. What fails is asked again by the coordinator, for as long as it is worth it.
pub async fn ask_to_warm(manager: &Manager, reader: &ReaderId, video: &VideoId) {
    let asked = {
        let cluster = manager.cluster();
        let epoch = cluster.view.assigned(video).map_or(0, |assigned| assigned.epoch);
        let record = cluster.watch.get(reader).map(|sighting| &sighting.record);
        record.map(|record| (record.internal_url.parse::<Url>(), record.ticket.clone(), epoch))
    };
    let Some((Ok(base), ticket, epoch)) = asked else { return };
    let body = Warm { videoid: video.clone(), epoch };
    let mut request = manager.peers.client().post(join(&base, &["warm"])).timeout(WARM_TIMEOUT).json(&body);
    // The reader's own ticket, and nothing that is good elsewhere.
    if let Some(ticket) = ticket {
        request = request.bearer_auth(ticket.expose());
    }
    let status = match request.send().await {
        Ok(answer) if answer.status().is_success() => {
            manager.metrics.warmed.inc();
            manager.cluster().watch.ready(reader, video);
            manager.carrying().warmed(video, reader);
            manager.carry_now.notify_one();
            return;
        }
        Ok(answer) => {
            manager.peers.is_ours(&answer);
            answer.status().to_string()
        }
        Err(error) => liverank_runtime::peer::root_cause(&error),
    };
    manager.metrics.warm_failures.inc();
    tracing::debug!(%reader, ?video, status, "a reader does not hold a video ready yet");
}

async fn compare_and_set(manager: &Manager, order: &Order) {
    let (seen, term) = (manager.cluster().highest_epoch(), manager.carrying().term_of(order));
    let expected = Some(order.expected);
    let swapped = manager.ask(manager.store.assign(&order.video, expected, &order.readers, seen, term)).await;
    let outcome = match swapped {
        Ok(Swapped::Stored(assignment)) => {
            manager.stored(&assignment, expected);
            Outcome::InForce(assignment.epoch())
        }
        Ok(Swapped::Conflict(current)) => {
            let epoch = current.as_ref().map(liverank_adapters::assignment_store::Assignment::epoch);
            manager.learn(&order.video, current);
            Outcome::Failed(format!("the video's epoch is {epoch:?}: somebody else was first"))
        }
        Ok(Swapped::Fenced(term)) => {
            manager.carrying().heard_of_term(term);
            Outcome::Failed(format!("term {term} has begun"))
        }
        Err(error) => Outcome::Failed(error.to_string()),
    };
    manager.carrying().swapped(Instant::now(), order, outcome);
}
