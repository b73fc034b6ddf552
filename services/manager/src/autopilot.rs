//! The planner in the managers (the autopilot): makes a plan every few seconds with [`liverank_core::placement::plan`]
//! and carries it out, if no planner outside does.
//!
//! One of all managers plans: the one whose term is in force in the store. This manager keeps the term by renewing the
//! term's beat. The other managers watch the beat on their own clocks, and one of them takes over with a later term
//! when the beat has not changed for [`PLANNER_SILENCE_TIMEOUT`]. The store refuses each move of a planner that was
//! replaced without noticing. A planner outside begins a term in the same way (`POST /term`), and as long as it renews
//! the term, the managers do not plan.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{CordonLevel, MAX_EPOCH, PlannerTerm, TermGrant};
use liverank_core::VideoId;
use liverank_core::comment::to_hex;
use liverank_core::handover::coordinator::{AssignmentOrder, ReaderStatus};
use liverank_core::placement::{
    self, ChangeKind, Plan, PlanLimits, Situation, VideoPart, ViewerMoveBudget, make_plan,
};
use liverank_protocol::{ChosenOrder, OrderedBy, PlannerDecision};
use liverank_runtime::now_ms;
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::load::watched_videos;
use crate::cluster::{ClusterAtTime, KnownCluster};
use crate::moves::{MoveExecutor, WantedMove};
use crate::{Config, Manager};

mod overdue;

/// The time between two plans: shorter than the time for which an assignment is not changed again.
pub const PLAN_INTERVAL: Duration = Duration::from_secs(5);
/// The time without a new beat after which a planner counts as gone: three beats missed.
pub const PLANNER_SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// The time for which an assignment is not changed again after a change, in ms: readers report every second, and
/// hand-overs in progress are known separately.
const MIN_ASSIGNMENT_CHANGE_INTERVAL_MS: i64 = 10_000;
/// The maximum number of decisions that are remembered.
const MAX_REMEMBERED_DECISIONS: usize = 20;
/// The maximum number of orders, and of rejections, that are kept of each decision.
const MAX_LINES_A_DECISION: usize = 100;

/// The planner's last decisions, the latest first.
pub type PlannerDecisions = VecDeque<PlannerDecision>;

/// The planner whose term is in force, as this manager last saw it, and the time since which its beat has not changed.
struct WatchedPlanner {
    /// The term in force, and the time since which its beat has not changed.
    term: Option<(PlannerTerm, Instant)>,
}

/// The budget of viewers that plans may move, refilled over time up to the number of one minute.
struct MoveBudget {
    viewers_left: i64,
    refilled_at: Instant,
}

impl MoveBudget {
    fn refill(&mut self, now: Instant, per_minute: u64) -> u64 {
        let passed = now.saturating_duration_since(self.refilled_at).as_millis().min(60_000) as u64;
        let more = per_minute.saturating_mul(passed) / 60_000;
        if more > 0 {
            self.refilled_at = now;
            let full = i64::try_from(per_minute).unwrap_or(i64::MAX);
            self.viewers_left = self.viewers_left.saturating_add_unsigned(more).min(full);
        }
        u64::try_from(self.viewers_left).unwrap_or(0)
    }
}

/// Makes plans while this manager has the planner's term, and tries to get the term otherwise. Never returns.
pub async fn run(manager: Arc<Manager>) {
    let holder = format!("manager-{}", to_hex(&rand::random::<[u8; 6]>()));
    let mut own: Option<u64> = None;
    let (mut watched, mut told) = (WatchedPlanner { term: None }, BTreeSet::new());
    let full = i64::try_from(manager.config.max_viewers_moved_per_minute).unwrap_or(i64::MAX);
    let mut bucket = MoveBudget { viewers_left: full, refilled_at: Instant::now() };
    let mut ticks = interval(PLAN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let before = own;
        own = renew_or_begin_term(&manager, &holder, own, &mut watched).await;
        match (before, own) {
            (None, Some(term)) => tracing::info!(term, %holder, "plans from now on"),
            (Some(term), None) => tracing::info!(term, %holder, "does not plan any more"),
            _ => {}
        }
        manager.metrics.is_leading.set(i64::from(own.is_some()));
        if let Some(term) = own {
            let overdue = overdue::handle_overdue_drains(&manager, term, &mut told).await;
            plan_once(&manager, term, &mut bucket, overdue);
            manager.moves_changed.notify_one();
        }
    }
}

/// Renews this manager's term, or begins a new one if no other planner is active. Returns the term under which this
/// manager plans; `None` if it does not plan.
async fn renew_or_begin_term(
    manager: &Manager,
    holder: &str,
    own: Option<u64>,
    watched: &mut WatchedPlanner,
) -> Option<u64> {
    if let Some(term) = own {
        // The beat only has to differ from the previous one.
        let beat = rand::random::<u64>() % MAX_EPOCH;
        let mine = PlannerTerm { term, holder: holder.to_owned(), lease: None, beat };
        return match manager.ask_store(manager.assignment_store.renew_term(&mine)).await {
            Ok(TermGrant::Lost(in_force)) => {
                watched.term = in_force.map(|term| (term, Instant::now()));
                None
            }
            // While the store is unavailable it cannot change assignments either; a planner that takes over meanwhile
            // is noticed at the next beat.
            Ok(TermGrant::Held(_)) | Err(_) => Some(term),
        };
    }
    let asked = Instant::now();
    let in_force = manager.ask_store(manager.assignment_store.planner_orders()).await.ok()?.planner_term;
    let same = |known: &(PlannerTerm, Instant)| Some(&known.0) == in_force.as_ref();
    let since = watched.term.take().filter(same).map_or(asked, |(_, since)| since);
    let expected = in_force.as_ref().map_or(0, |term| term.term);
    watched.term = in_force.map(|term| (term, since));
    let is_free = expected == 0 || asked.saturating_duration_since(since) >= PLANNER_SILENCE_TIMEOUT;
    if !is_free {
        return None;
    }
    let seen = manager.move_executor().highest_term();
    match manager.ask_store(manager.assignment_store.mint_term(holder, None, expected, seen)).await {
        Ok(TermGrant::Held(term)) => {
            manager.take_over_term(term.clone());
            Some(term.term)
        }
        _ => None,
    }
}

/// Makes one plan and gives its orders. `held`: lines to be shown with the decision, about readers that could not be
/// emptied in time.
fn plan_once(manager: &Manager, term: u64, bucket: &mut MoveBudget, held: Vec<String>) {
    let now = Instant::now();
    let cluster = manager.cluster();
    // No viewers are moved on the ground of a view that is stale or cut off from the store.
    if !cluster.assignment_view.is_loaded()
        || !cluster.reader_watch.is_settled(now)
        || cluster.hold_reason(now).is_some()
    {
        return;
    }
    let mut carrying = manager.move_executor();
    let available = bucket.refill(now, manager.config.max_viewers_moved_per_minute);
    let limits = planner_limits(&manager.config, available);
    let situation = planner_situation(&cluster, &carrying, now);
    let plan = make_plan(&situation, &limits);
    manager.metrics.plans_made.inc();
    let chosen = give_orders(&cluster.view_at(now), &mut carrying, term, &situation, &plan);
    let taken: u64 = chosen.iter().map(|(_, moved)| moved).sum();
    bucket.viewers_left = bucket.viewers_left.saturating_sub_unsigned(taken);
    drop(carrying);
    drop(cluster);
    let rejected = plan.rejected.iter().map(|it| it.explain(&situation));
    let decision = PlannerDecision {
        at: situation.now,
        term,
        readers: situation.readers.len() as u64,
        videos: situation.videos.len() as u64,
        budget: available,
        before: plan.before,
        after: plan.after,
        moved: taken,
        chosen_total: chosen.len() as u64,
        chosen: chosen.into_iter().take(MAX_LINES_A_DECISION).map(|(chosen, _)| chosen).collect(),
        bound_by: plan.bound_by.iter().copied().map(Into::into).collect(),
        rejected: held.into_iter().chain(rejected).take(MAX_LINES_A_DECISION).collect(),
    };
    note_decision(manager, decision);
}

fn note_decision(manager: &Manager, decision: PlannerDecision) {
    if decision.chosen_total > 0 {
        let (before, after) = (decision.before.max_over_mean, decision.after.max_over_mean);
        tracing::info!(
            term = decision.term,
            orders = decision.chosen_total,
            viewers = decision.moved,
            before,
            after,
            bound_by = ?decision.bound_by,
            "planned"
        );
    }
    let mut decisions = manager.planner_decisions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Rounds in which nothing changed would otherwise push out those in which something did.
    let same = |known: &PlannerDecision| known.chosen_total == 0 && decision.chosen_total == 0;
    if decisions.front().is_some_and(same) {
        decisions.pop_front();
    }
    decisions.push_front(decision);
    decisions.truncate(MAX_REMEMBERED_DECISIONS);
}

/// Returns the situation that the planner sees now, and its limits with a full budget, for forecasts of what it would
/// do.
pub fn situation_and_limits(manager: &Manager) -> (Situation, PlanLimits) {
    let cluster = manager.cluster();
    let limits = planner_limits(&manager.config, manager.config.max_viewers_moved_per_minute);
    (planner_situation(&cluster, &manager.move_executor(), Instant::now()), limits)
}

fn planner_limits(config: &Config, available: u64) -> PlanLimits {
    PlanLimits {
        hot_video_viewers: config.hot_video_viewers,
        tolerance: config.tolerance_percent * 10,
        rest_ms: MIN_ASSIGNMENT_CHANGE_INTERVAL_MS,
        budget: ViewerMoveBudget { available, full: config.max_viewers_moved_per_minute },
        ..PlanLimits::default()
    }
}

/// Returns the planner's view: the readers that are alive, and the videos that have viewers, without the canary.
fn planner_situation(cluster: &KnownCluster, carrying: &MoveExecutor, now: Instant) -> Situation {
    let mut readers = Vec::new();
    let mut at = HashMap::new();
    for sighting in cluster.reader_watch.all_readers() {
        let id = &sighting.last_record.id;
        let standing = match (cluster.reader_status(now, id), cluster.cordon_level(id)) {
            (Some(ReaderStatus::Draining | ReaderStatus::Leaving), _) | (_, Some(CordonLevel::Draining)) => {
                placement::ReaderAvailability::Draining
            }
            (Some(ReaderStatus::Alive), None) => placement::ReaderAvailability::Open,
            (Some(ReaderStatus::Alive | ReaderStatus::Suspect), _) => placement::ReaderAvailability::Closed,
            (Some(ReaderStatus::Gone) | None, _) => continue,
        };
        at.insert(id.clone(), readers.len());
        readers.push(placement::PlacementReader {
            id: id.clone(),
            capacity: sighting.last_record.capacity,
            standing,
        });
    }
    let mut watched: HashMap<&VideoId, Vec<VideoPart>> = HashMap::new();
    for sighting in cluster.reader_watch.all_readers().filter(|sighting| sighting.has_recent_record(now)) {
        let Some(&reader) = at.get(&sighting.last_record.id) else { continue };
        for held in watched_videos(sighting) {
            let part = VideoPart { reader, viewers: held.viewers, share: 0 };
            watched.entry(&held.video).or_default().push(part);
        }
    }
    let now_ms = now_ms();
    let videos = watched.into_iter().map(|(id, parts)| {
        let assigned = cluster.assignment_view.assigned_readers(id);
        let changed = cluster.assignment_view.changed_at(id).map(|at| now.saturating_duration_since(at));
        let mut video = placement::PlacementVideo {
            id: id.clone(),
            epoch: assigned.map_or(0, |assigned| assigned.epoch),
            changed: now_ms - changed.unwrap_or_default().as_millis() as i64,
            waiting: 0,
            moving: carrying.is_moving(id) || cluster.pending_hand_overs.viewers_by_video.contains_key(id),
            parts,
        };
        // Orders that are not in force yet count as if they were; otherwise further orders would be given for the same
        // purpose.
        let shares = carrying.planned_readers(id).or(assigned.map(|assigned| assigned.readers.as_slice()));
        video.set_shares(shares.unwrap_or_default(), |reader| at.get(reader).copied());
        video
    });
    let videos = videos.collect();
    Situation { now: now_ms, readers, videos }.sorted_by_name()
}

/// Gives a plan's orders. Returns each order with the number of viewers that it moves, 0 if it was refused. Videos
/// without a reader, and readers to be emptied, are handled by the managers without the planner, so their orders are
/// left out.
fn give_orders(
    seen: &ClusterAtTime<'_>,
    carrying: &mut MoveExecutor,
    term: u64,
    situation: &Situation,
    plan: &Plan,
) -> Vec<(ChosenOrder, u64)> {
    let orders =
        plan.orders.iter().filter(|order| !matches!(order.kind, ChangeKind::Place | ChangeKind::Drain));
    orders
        .map(|order| {
            let video = &situation.videos[order.video].id;
            let why = order.explain(situation);
            let wanted = WantedMove {
                order: AssignmentOrder {
                    video: video.clone(),
                    expected_epoch: order.epoch,
                    readers: situation.shares_of_parts(&order.to),
                },
                ordered_by: OrderedBy::Autopilot,
                ordered_under_term: Some(term),
                reason: format!("{}: {why}", order.kind.as_str()),
                viewers: order.moved,
            };
            let taken = carrying.accept_move(seen.now, seen, wanted);
            let moved = if taken.is_ok() { order.moved } else { 0 };
            let chosen = ChosenOrder {
                videoid: video.to_string(),
                kind: order.kind.into(),
                from: situation.shares_of_parts(&order.from),
                to: situation.shares_of_parts(&order.to),
                viewers: order.moved,
                why,
                outcome: taken.map_or_else(|refused| refused.to_string(), |id| format!("move {id}")),
            };
            (chosen, moved)
        })
        .collect()
}
