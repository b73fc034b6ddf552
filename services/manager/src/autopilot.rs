//! The planner in the managers: plans every few seconds with [`liverank_core::placement::plan`] and carries the plan out,
//! where no planner outside does.
//!
//! One of all replicas is in office: the one whose term is in force in the store. Its beat keeps it there; others watch
//! the beat on their own clocks and take over, with a later term, when it has stood still for [`PLANNER_SILENCE_TIMEOUT`]. Whoever was
//! overtaken without noticing is refused by the store, move by move. A planner outside takes office the same way
//! (`POST /term`), and as long as it shows itself the managers keep out of its way.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::assignment_store::{CordonLevel, MAX_EPOCH, PlannerTerm, TermGrant};
use liverank_core::VideoId;
use liverank_core::comment::to_hex;
use liverank_core::handover::ReaderShare;
use liverank_core::handover::coordinator::{AssignmentOrder, ReaderStatus};
use liverank_core::placement::{
    self, ChangeKind, Plan, PlanLimits, Situation, VideoPart, ViewerMoveBudget, make_plan,
};
use liverank_protocol::OrderedBy;
use liverank_runtime::now_ms;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{ClusterAtTime, KnownCluster};
use crate::moves::{MoveExecutor, WantedMove};
use crate::{Config, Manager};

mod overdue;

/// How often it plans: several times within the rest that an assignment is given after a change.
pub const PLAN_INTERVAL: Duration = Duration::from_secs(5);
/// A planner whose beat has stood still for this long is gone: three missed.
pub const PLANNER_SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an assignment is left alone after a change, in milliseconds: readers report every second, and a hand-over
/// under way is known by itself.
const ASSIGNMENT_REST_MS: i64 = 10_000;
/// Decisions that are remembered.
const MAX_REMEMBERED: usize = 20;
/// Orders and rejections shown of each decision.
const MAX_LINES_A_DECISION: usize = 100;

/// The last decisions, the latest first.
pub type PlannerDecisions = VecDeque<PlannerDecision>;

/// One look at the situation, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct PlannerDecision {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The planner's term.
    pub term: u64,
    /// Readers looked at.
    pub readers: usize,
    /// Videos looked at.
    pub videos: usize,
    /// Viewers that might be moved.
    pub budget: u64,
    /// How the viewers lay, and how they would lie.
    pub before: placement::ViewerBalance,
    /// See `before`.
    pub after: placement::ViewerBalance,
    /// Viewers that it moves.
    pub moved: u64,
    /// How many orders.
    pub chosen_total: usize,
    /// The orders, at first those that matter most; bounded.
    pub chosen: Vec<ChosenOrder>,
    /// What kept it from doing more.
    pub bound_by: Vec<placement::MetLimit>,
    /// What it would have done, and why it did not; bounded.
    pub rejected: Vec<String>,
}

/// One order of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct ChosenOrder {
    /// The video.
    pub videoid: String,
    /// `move`, `split`, `join`, …
    pub kind: &'static str,
    /// The readers that serve the video, each with its part of the viewers in millionths.
    pub from: Vec<ReaderShare>,
    /// The readers that are to serve the video.
    pub to: Vec<ReaderShare>,
    /// Viewers that move.
    pub viewers: u64,
    /// Why, in words and numbers.
    pub why: String,
    /// Its number in `GET /moves`, or why it is not there.
    pub outcome: String,
}

/// The planner that this manager last saw, and since when its beat has stood still.
struct WatchedPlanner {
    /// The term in force, and since when its beat stands still.
    term: Option<(PlannerTerm, Instant)>,
}

/// The bucket that plans draw from.
struct MoveBudget {
    viewers_left: i64,
    filled: Instant,
}

impl MoveBudget {
    fn refill(&mut self, now: Instant, per_minute: u64) -> u64 {
        let passed = now.saturating_duration_since(self.filled).as_millis().min(60_000) as u64;
        let more = per_minute.saturating_mul(passed) / 60_000;
        if more > 0 {
            self.filled = now;
            let full = i64::try_from(per_minute).unwrap_or(i64::MAX);
            self.viewers_left = self.viewers_left.saturating_add_unsigned(more).min(full);
        }
        u64::try_from(self.viewers_left).unwrap_or(0)
    }
}

/// Plans. Never returns.
pub async fn run(manager: Arc<Manager>) {
    let holder = format!("manager-{}", to_hex(&rand::random::<[u8; 6]>()));
    let mut own: Option<u64> = None;
    let (mut watched, mut told) = (WatchedPlanner { term: None }, BTreeSet::new());
    let full = i64::try_from(manager.config.max_viewers_moved_per_minute).unwrap_or(i64::MAX);
    let mut bucket = MoveBudget { viewers_left: full, filled: Instant::now() };
    let mut ticks = interval(PLAN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let before = own;
        own = keep_or_take_term(&manager, &holder, own, &mut watched).await;
        match (before, own) {
            (None, Some(term)) => tracing::info!(term, %holder, "plans from now on"),
            (Some(term), None) => tracing::info!(term, %holder, "does not plan any more"),
            _ => {}
        }
        manager.metrics.is_leading.set(i64::from(own.is_some()));
        if let Some(term) = own {
            let overdue = overdue::see_to_overdue_drains(&manager, term, &mut told).await;
            plan_once(&manager, term, &mut bucket, overdue);
            manager.moves_changed.notify_one();
        }
    }
}

/// Holds on to the term, or takes office where nobody is in it. Returns the term under which this manager plans.
async fn keep_or_take_term(
    manager: &Manager,
    holder: &str,
    own: Option<u64>,
    watched: &mut WatchedPlanner,
) -> Option<u64> {
    if let Some(term) = own {
        // The beat only has to differ from the one before.
        let beat = rand::random::<u64>() % MAX_EPOCH;
        let mine = PlannerTerm { term, holder: holder.to_owned(), lease: None, beat };
        return match manager.ask_store(manager.assignment_store.renew_term(&mine)).await {
            Ok(TermGrant::Lost(in_force)) => {
                watched.term = in_force.map(|term| (term, Instant::now()));
                None
            }
            // While the store is away it cannot swap anything, either; whoever takes over meanwhile is found out at the
            // next beat.
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
    let seen = manager.carrying().highest_term();
    match manager.ask_store(manager.assignment_store.mint_term(holder, None, expected, seen)).await {
        Ok(TermGrant::Held(term)) => {
            manager.take_over_term(term.clone());
            Some(term.term)
        }
        _ => None,
    }
}

/// `held`: what is to be said beside the plan of readers that could not be emptied in time.
fn plan_once(manager: &Manager, term: u64, bucket: &mut MoveBudget, held: Vec<String>) {
    let now = Instant::now();
    let cluster = manager.cluster();
    // A stale or cut-off view is no ground to move anybody on.
    if !cluster.assignment_view.is_loaded()
        || !cluster.reader_watch.is_settled(now)
        || cluster.hold_reason(now).is_some()
    {
        return;
    }
    let mut carrying = manager.carrying();
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
        readers: situation.readers.len(),
        videos: situation.videos.len(),
        budget: available,
        before: plan.before,
        after: plan.after,
        moved: taken,
        chosen_total: chosen.len(),
        chosen: chosen.into_iter().take(MAX_LINES_A_DECISION).map(|(chosen, _)| chosen).collect(),
        bound_by: plan.bound_by.clone(),
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
    // Rounds in which nothing changed would push out those in which something did.
    let same = |known: &PlannerDecision| known.chosen_total == 0 && decision.chosen_total == 0;
    if decisions.front().is_some_and(same) {
        decisions.pop_front();
    }
    decisions.push_front(decision);
    decisions.truncate(MAX_REMEMBERED);
}

/// What the planner looks at now, and what it keeps to with a full budget: for questions about what it would do.
pub fn situation_and_limits(manager: &Manager) -> (Situation, PlanLimits) {
    let cluster = manager.cluster();
    let limits = planner_limits(&manager.config, manager.config.max_viewers_moved_per_minute);
    (planner_situation(&cluster, &manager.carrying(), Instant::now()), limits)
}

fn planner_limits(config: &Config, available: u64) -> PlanLimits {
    PlanLimits {
        hot_video_viewers: config.hot_video_viewers,
        tolerance: config.tolerance_percent * 10,
        rest_ms: ASSIGNMENT_REST_MS,
        budget: ViewerMoveBudget { available, full: config.max_viewers_moved_per_minute },
        ..PlanLimits::default()
    }
}

/// What the planner looks at: readers that live, videos that are watched.
fn planner_situation(cluster: &KnownCluster, carrying: &MoveExecutor, now: Instant) -> Situation {
    let mut readers = Vec::new();
    let mut at = HashMap::new();
    for sighting in cluster.reader_watch.all_sightings() {
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
    for sighting in cluster.reader_watch.all_sightings().filter(|sighting| sighting.is_recent(now)) {
        let Some(&reader) = at.get(&sighting.last_record.id) else { continue };
        for held in sighting.last_record.videos.iter().filter(|held| held.viewers > 0) {
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
            moving: carrying.is_moving(id) || cluster.pending_hand_overs.videos.contains_key(id),
            parts,
        };
        // Orders that are not in force yet count as if they were: others would be given to the same end meanwhile.
        let shares = carrying.readers_to_be(id).or(assigned.map(|assigned| assigned.readers.as_slice()));
        video.set_shares(shares.unwrap_or_default(), |reader| at.get(reader).copied());
        video
    });
    let videos = videos.collect();
    Situation { now: now_ms, readers, videos }.in_name_order()
}

/// Gives a plan's orders; answers each with the viewers that it moves, 0 where it was not taken. What is without a
/// reader and what is to be emptied, the managers see to by themselves.
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
            let taken = carrying.want_move(seen.now, seen, wanted);
            let moved = if taken.is_ok() { order.moved } else { 0 };
            let chosen = ChosenOrder {
                videoid: video.to_string(),
                kind: order.kind.as_str(),
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
