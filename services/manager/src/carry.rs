//! Carries moves out: asks the new readers to keep the video ready, changes the assignment by compare-and-set, and
//! begins the moves that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use liverank_adapters::assignment_store::SwapOutcome;
use liverank_core::handover::coordinator::{AssignmentOrder, OrderStep};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::{OrderedBy, WarmRequest};
use liverank_runtime::peer::join_path;
use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

use crate::Manager;
use crate::cluster::drains::{DRAIN_HAND_OVER_SECONDS, DrainMove};
use crate::moves::{MoveSwapOutcome, WantedMove};

/// The longest time between two checks for steps of moves that are due; a notification causes a check at once.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The time that a reader may take to make a video ready before it is asked again.
const WARM_TIMEOUT: Duration = Duration::from_secs(4);
/// The maximum number of requests to readers and of compare-and-sets at the same time.
const MAX_WARM_UPS_AT_ONCE: usize = 64;
/// The maximum number of compare-and-sets at the same time for videos without viewers.
const MAX_SWAPS_AT_ONCE: usize = 16;

/// Carries out the moves of videos that were ordered. Never returns.
pub async fn run(manager: Arc<Manager>) {
    let slots = Arc::new(Semaphore::new(MAX_WARM_UPS_AT_ONCE));
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let unwatched = tokio::select! {
            _ = ticks.tick() => begin_drains(&manager),
            () = manager.moves_changed.notified() => Vec::new(),
        };
        if !unwatched.is_empty() {
            reassign_unwatched(&manager, unwatched).await;
        }
        for step in begin_moves_and_get_steps(&manager) {
            let (manager, slots) = (Arc::clone(&manager), Arc::clone(&slots));
            tokio::spawn(async move {
                let Ok(_slot) = slots.acquire().await else { return };
                match step {
                    OrderStep::WarmUpReader { reader, video } => ask_to_warm(&manager, &reader, &video).await,
                    OrderStep::SwapAssignment(order) => compare_and_set(&manager, &order).await,
                    // Already noted by the executor.
                    OrderStep::Dropped(_) => {}
                }
            });
        }
    }
}

/// Begins moves for which there is budget, and returns the steps that are due now.
fn begin_moves_and_get_steps(manager: &Manager) -> Vec<OrderStep> {
    let now = Instant::now();
    let time = manager.coordinator_time(now);
    let cluster = manager.cluster();
    let seen = cluster.view_at(now);
    let mut carrying = manager.move_executor();
    carrying.update_pending_viewers(now, &seen);
    if cluster.reader_watch.is_view_recent(now) {
        let window =
            manager.config.max_viewers_moved_per_minute.saturating_mul(DRAIN_HAND_OVER_SECONDS).div_ceil(60);
        let under_way = cluster.pending_hand_overs.viewers
            + carrying.uncounted_viewers(cluster.pending_hand_overs.counted_at);
        carrying.begin_waiting_moves(now, time, &seen, window.saturating_sub(under_way), under_way == 0);
    }
    carrying.next_steps(time, &seen)
}

/// Begins to empty readers that are leaving, or that a planner wants emptied. The manager to which a reader reports
/// empties it, so that two managers do not warm two different readers for one video. Returns the orders for videos
/// without viewers, for which no reader has to be made ready.
fn begin_drains(manager: &Manager) -> Vec<AssignmentOrder> {
    let now = Instant::now();
    let time = manager.coordinator_time(now);
    let cluster = manager.cluster();
    if !cluster.reader_watch.is_view_recent(now) {
        return Vec::new();
    }
    let mut carrying = manager.move_executor();
    let per_minute = manager.config.max_viewers_moved_per_minute;
    let uncounted = carrying.uncounted_viewers(cluster.pending_hand_overs.counted_at);
    let drains = cluster.drain_moves(now, per_minute, uncounted, |video| carrying.is_moving(video));
    let seen = cluster.view_at(now);
    let (watched, unwatched): (Vec<DrainMove>, Vec<DrainMove>) =
        drains.into_iter().partition(|drain| cluster.viewer_count_of(&drain.order.video) > 0);
    for drain in watched {
        let why = format!("{} is to be emptied", drain.reader);
        let wanted = WantedMove {
            order: drain.order,
            ordered_by: OrderedBy::Drain,
            ordered_under_term: None,
            reason: why,
            viewers: drain.viewers,
        };
        // An order is refused if the video is being moved already or too many moves wait. It is tried again soon.
        if let Ok(id) = carrying.accept_move(now, &seen, wanted) {
            carrying.begin_move(id, time, &seen);
        }
    }
    unwatched.into_iter().map(|drain| drain.order).collect()
}

/// Assigns videos without viewers to other readers, at once.
async fn reassign_unwatched(manager: &Manager, orders: Vec<AssignmentOrder>) {
    let swap = |order: AssignmentOrder| async move {
        let (seen, expected) = (manager.cluster().highest_epoch(), Some(order.expected_epoch));
        let swapped =
            manager.assignment_store.assign_video(&order.video, expected, &order.readers, seen, None);
        match manager.ask_store(swapped).await {
            Ok(SwapOutcome::Stored(assignment)) => {
                manager.take_over_swapped_assignment(&assignment, expected);
            }
            Ok(SwapOutcome::Conflict(current)) => manager.take_over_current(&order.video, current),
            // The next look finds the video again.
            Ok(SwapOutcome::Fenced(_)) | Err(_) => {}
        }
    };
    stream::iter(orders).for_each_concurrent(MAX_SWAPS_AT_ONCE, swap).await;
}

/// Asks a reader to keep a video ready. If the reader does not get ready, the coordinator asks again, for as long as
/// the move is wanted.
pub async fn ask_to_warm(manager: &Manager, reader: &ReaderId, video: &VideoId) {
    let asked = {
        let cluster = manager.cluster();
        let epoch = cluster.assignment_view.assigned_readers(video).map_or(0, |assigned| assigned.epoch);
        let record = cluster.reader_watch.get(reader).map(|sighting| &sighting.last_record);
        record.map(|record| (record.internal_url.parse::<Url>(), record.ticket.clone(), epoch))
    };
    let Some((Ok(base), ticket, epoch)) = asked else { return };
    let body = WarmRequest { videoid: video.clone(), epoch };
    let mut request =
        manager.reader_client.client().post(join_path(&base, &["warm"])).timeout(WARM_TIMEOUT).json(&body);
    // The request carries the reader's own ticket, which is valid nowhere else.
    if let Some(ticket) = ticket {
        request = request.bearer_auth(ticket.expose());
    }
    let status = match request.send().await {
        Ok(answer) if answer.status().is_success() => {
            manager.metrics.readers_warmed.inc();
            manager.cluster().reader_watch.note_video_ready(reader, video);
            manager.move_executor().note_warmed(video, reader);
            manager.moves_changed.notify_one();
            return;
        }
        Ok(answer) => {
            manager.reader_client.is_liverank_answer(&answer);
            answer.status().to_string()
        }
        Err(error) => liverank_runtime::peer::root_cause(&error),
    };
    manager.metrics.warm_failures.inc();
    tracing::debug!(%reader, ?video, status, "a reader does not hold a video ready yet");
}

async fn compare_and_set(manager: &Manager, order: &AssignmentOrder) {
    let (seen, term) = (manager.cluster().highest_epoch(), manager.move_executor().term_of_order(order));
    let expected = Some(order.expected_epoch);
    let swapped = manager
        .ask_store(manager.assignment_store.assign_video(&order.video, expected, &order.readers, seen, term))
        .await;
    let outcome = match swapped {
        Ok(SwapOutcome::Stored(assignment)) => {
            manager.take_over_swapped_assignment(&assignment, expected);
            MoveSwapOutcome::InForce(assignment.epoch())
        }
        Ok(SwapOutcome::Conflict(current)) => {
            let epoch = current.as_ref().map(liverank_adapters::assignment_store::VideoAssignment::epoch);
            manager.take_over_current(&order.video, current);
            MoveSwapOutcome::Failed(format!("the video's epoch is {epoch:?}: somebody else was first"))
        }
        Ok(SwapOutcome::Fenced(term)) => {
            manager.move_executor().note_term(term);
            MoveSwapOutcome::Failed(format!("term {term} has begun"))
        }
        Err(error) => MoveSwapOutcome::Failed(error.to_string()),
    };
    manager.move_executor().note_swap_done(Instant::now(), order, outcome);
}
