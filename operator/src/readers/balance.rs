//! Moves for balance: a manager's report becomes the planner's input, and the plan becomes orders. Managers themselves
//! handle videos without a reader and readers that are to be emptied.

use std::collections::HashMap;

use liverank_core::handover::CordonLevel;
use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::placement::{
    ChangeKind, PlacementReader, PlacementVideo, Plan, PlannedOrder, ReaderAvailability, ReaderZones,
    Situation, VideoPart, plan_in_zones,
};
use liverank_core::{Millis, ReaderId, VideoId};
use liverank_protocol::{AssignedVideoState, ClusterLoad, MaybeUnknown, MoveRequest, ReaderState};

use super::decision::{DecisionAction, DecisionEvent, cut_to_bytes};
use super::memory::{GivenOrder, ReaderMemory};
use super::proposal::{self, DraftPlan, PlanBasis, PlanSubject};
use super::seen::{ManagerReport, RoundInput};
use super::settings::RebalanceSetting;
use super::step::ReaderStep;
use super::view::LoadView;

/// The time between two plans, in milliseconds: less than the time for which a changed assignment is left alone.
const PLAN_EVERY_MS: Millis = 5_000;
/// Maximal age in milliseconds of the assignments that a plan is made from.
const MAX_LOAD_AGE_MS: Millis = 5_000;
/// Maximal number of orders given at once: the rest is planned again from the result of these.
const MAX_ORDERS_A_ROUND: usize = 1_000;

/// The result of one round of balancing viewers between readers.
#[derive(Debug, Default)]
pub(super) struct BalanceOutcome {
    pub step: Option<ReaderStep>,
    pub event: Option<DecisionEvent>,
    /// Whether the managers have to be queried for all assignments before the next round.
    pub needs_assignments: bool,
}

/// Plans moves if a plan is due and viewers may be moved; if `halted` is true, they may not.
pub(super) fn plan_balance(
    seen: &RoundInput,
    view: &LoadView<'_>,
    memory: &mut ReaderMemory,
    halted: bool,
) -> BalanceOutcome {
    let mode = seen.settings.rebalance;
    let off = mode == RebalanceSetting::Paused || halted || view.trouble.is_some();
    let available = memory.move_budget.refill(seen.now, seen.settings.viewers_per_minute);
    let due = memory.last_plan_at.is_none_or(|at| seen.now - at >= PLAN_EVERY_MS);
    if off {
        // A plan that cannot be carried out now is not offered.
        memory.proposals.remove(&PlanSubject::Rebalance);
    }
    if off || !due {
        return BalanceOutcome {
            needs_assignments: !off
                && memory.last_plan_at.is_some_and(|at| seen.now - at >= PLAN_EVERY_MS / 2),
            ..BalanceOutcome::default()
        };
    }
    let detailed =
        |heard: &&ManagerReport| heard.load.assignments.is_some() && seen.now - heard.at <= MAX_LOAD_AGE_MS;
    let Some(heard) = view.latest_reports().find(detailed) else {
        return BalanceOutcome { needs_assignments: true, ..BalanceOutcome::default() };
    };
    memory.last_plan_at = Some(seen.now);
    let mut situation = situation(&heard.load, heard.at);
    apply_orders_under_way(&mut situation, memory, seen.now);
    // Viewers in transit have used up their part of the budget, whoever ordered their moves.
    let left = available.saturating_sub(heard.load.in_flight);
    // A plan that waits for approval is measured by the budget of a whole minute.
    let proposes = mode == RebalanceSetting::Proposal;
    let limits = seen.settings.plan_limits(if proposes { seen.settings.viewers_per_minute } else { left });
    let plan = plan_in_zones(&situation, &limits, &zones(seen));
    let is_ours = |order: &&PlannedOrder| !matches!(order.kind, ChangeKind::Place | ChangeKind::Drain);
    let orders: Vec<&PlannedOrder> = plan.orders.iter().filter(is_ours).take(MAX_ORDERS_A_ROUND).collect();
    if proposes {
        return propose_moves(seen, &situation, &plan, &orders, memory);
    }
    let told = report_dry_run(seen, &situation, &plan, &orders, memory);
    let mut balanced = BalanceOutcome { event: told, ..BalanceOutcome::default() };
    if mode == RebalanceSetting::DryRun || orders.is_empty() {
        return balanced;
    }
    let moves: Vec<MoveRequest> = orders.iter().map(|order| move_request(&situation, order)).collect();
    let viewers = orders.iter().map(|order| order.moved).sum();
    balanced.step = Some(issue_move_orders(seen, memory, moves, viewers));
    balanced
}

/// Returns the step that gives these orders, and charges their viewers to the budget.
fn issue_move_orders(
    seen: &RoundInput,
    memory: &mut ReaderMemory,
    moves: Vec<MoveRequest>,
    viewers: u64,
) -> ReaderStep {
    memory.move_budget.spend(viewers);
    for it in &moves {
        let order = GivenOrder { epoch: it.expected, given_at: seen.now, readers: it.readers.clone() };
        memory.orders_given.insert(it.videoid.clone(), order);
    }
    ReaderStep::Moves { moves }
}

/// Proposes a plan, which waits for approval; an approved plan is carried out as it was proposed.
fn propose_moves(
    seen: &RoundInput,
    situation: &Situation,
    plan: &Plan,
    orders: &[&PlannedOrder],
    memory: &mut ReaderMemory,
) -> BalanceOutcome {
    let waiting = memory
        .proposals
        .get(&PlanSubject::Rebalance)
        .map_or(0, |waiting| waiting.shown_proposal.viewers_moved);
    let moves: Vec<MoveRequest> = orders.iter().map(|order| move_request(situation, order)).collect();
    let told = describe_moves(situation, plan, orders);
    let draft = (!orders.is_empty()).then(|| DraftPlan {
        basis: moves_basis(situation, &moves),
        action: proposal::PlannedAction::Moves(moves),
        summary: told.summary,
        viewers_moved: told.viewers_moved,
        effect: told.effect,
        steps: told.steps,
    });
    let now = |plan: &proposal::PlannedAction| match plan {
        proposal::PlannedAction::Moves(moves) => Some(moves_basis(situation, moves)),
        proposal::PlannedAction::Readers { .. } => None,
    };
    let settled = proposal::settle_proposals(seen, memory, PlanSubject::Rebalance, draft, now);
    let step = match settled.approved {
        Some(proposal::PlannedAction::Moves(moves)) => Some(issue_move_orders(seen, memory, moves, waiting)),
        _ => None,
    };
    BalanceOutcome { step, event: settled.event, needs_assignments: false }
}

/// Returns the facts that moves are based on: the readers with their capacity and availability, and the videos that
/// move.
fn moves_basis(situation: &Situation, moves: &[MoveRequest]) -> PlanBasis {
    let readers = situation.readers.iter().map(|it| format!("{} {} {:?}", it.id, it.capacity, it.standing));
    let mut facts: Vec<String> = readers.collect();
    let mut viewers = 0;
    for it in moves {
        let video = situation.videos.iter().find(|video| video.id == it.videoid);
        facts.push(format!("{} {:?}", it.videoid, video.map(|video| (video.epoch, video.moving))));
        viewers += video.map_or(0, |video| video.parts.iter().map(|part| part.viewers).sum());
    }
    PlanBasis::new(&facts.join("\n"), viewers)
}

/// The description of planned moves, in words for people.
struct MoveDescription {
    summary: String,
    effect: String,
    steps: Vec<String>,
    viewers_moved: u64,
}

fn describe_moves(situation: &Situation, plan: &Plan, orders: &[&PlannedOrder]) -> MoveDescription {
    let viewers_moved = orders.iter().map(|order| order.moved).sum();
    let percent = |millionths: u64| millionths / 10_000;
    let step = |order: &&PlannedOrder| {
        let video = &situation.videos[order.video].id;
        format!("{video}: {}; {} viewers", order_reason(situation, order), order.moved)
    };
    MoveDescription {
        summary: format!(
            "{} videos change readers, {viewers_moved} viewers of {} move",
            orders.len(),
            plan.before.viewers
        ),
        effect: format!(
            "the fullest reader has {} % of its fair share, then {} %",
            percent(plan.before.max_over_mean),
            percent(plan.after.max_over_mean),
        ),
        steps: orders.iter().take(10).map(step).collect(),
        viewers_moved,
    }
}

/// Changes the planner's input as if the orders given before were already in force; otherwise the same moves would be
/// ordered again.
fn apply_orders_under_way(situation: &mut Situation, memory: &ReaderMemory, now: Millis) {
    let index: HashMap<ReaderId, usize> =
        situation.readers.iter().enumerate().map(|(at, reader)| (reader.id.clone(), at)).collect();
    for video in &mut situation.videos {
        let Some(order) = memory.order_under_way(&video.id, video.epoch, now) else { continue };
        video.moving = true;
        video.set_shares(&order.readers, |reader| index.get(reader).copied());
    }
}

fn move_request(situation: &Situation, order: &PlannedOrder) -> MoveRequest {
    MoveRequest {
        videoid: situation.videos[order.video].id.clone(),
        expected: order.epoch,
        readers: situation.shares_of_parts(&order.to),
        why: order_reason(situation, order),
    }
}

/// Maximal length of an order's reason, in bytes. Reasons contain names of videos, which may be too long for a manager.
const MAX_REASON_BYTES: usize = 1_000;

fn order_reason(situation: &Situation, order: &PlannedOrder) -> String {
    cut_to_bytes(format!("{}: {}", order.kind.as_str(), order.explain(situation)), MAX_REASON_BYTES)
}

fn report_dry_run(
    seen: &RoundInput,
    situation: &Situation,
    plan: &Plan,
    orders: &[&PlannedOrder],
    memory: &mut ReaderMemory,
) -> Option<DecisionEvent> {
    let dry = seen.settings.rebalance == RebalanceSetting::DryRun;
    let told = describe_moves(situation, plan, orders);
    let words = format!("{}{}; {}", if dry { "dry run: " } else { "" }, told.summary, told.effect);
    let tale = DecisionEvent::new(DecisionAction::Rebalance, words)
        .with_chosen(told.steps)
        .with_bound_by(plan.bound_by.iter().map(|bound| format!("{bound:?}")))
        .with_rejected(plan.rejected.iter().take(10).map(|rejected| rejected.explain(situation)));
    if dry {
        let state = (!orders.is_empty()).then_some(("would", &tale));
        return memory.announced_states.is_news(seen.now, "balance", state).then_some(tale);
    }
    // An order that a manager gave up is given again, and is not reported again.
    let known = |order: &&&PlannedOrder| {
        let video = &situation.videos[order.video];
        memory.orders_given.get(&video.id).is_some_and(|it| it.epoch == video.epoch)
    };
    (orders.iter().filter(known).count() < orders.len()).then_some(tale)
}

/// Returns the zone of each reader whose zone Kubernetes names.
fn zones(seen: &RoundInput) -> ReaderZones {
    let of = |reader: &super::ObservedReader| {
        let zone = reader.pod.as_ref()?.zone.clone()?;
        Some((ReaderId::parse(&reader.name).ok()?, zone))
    };
    seen.readers.iter().filter_map(of).collect()
}

/// Returns the planner's input: readers that are alive, and videos that are watched. Videos that the load leaves out take
/// room at their readers. `at` is the time at which the
/// manager was queried.
pub(super) fn situation(load: &ClusterLoad, at: Millis) -> Situation {
    let unlisted = load.unlisted.iter().flat_map(|unlisted| &unlisted.viewers);
    let unlisted: HashMap<&ReaderId, u64> = unlisted.map(|(reader, viewers)| (reader, *viewers)).collect();
    let readers = load.readers.iter().filter_map(|state| {
        let taken = unlisted.get(&state.id).copied().unwrap_or(0);
        placement_reader(state)
            .map(|it| PlacementReader { capacity: it.capacity.saturating_sub(taken), ..it })
    });
    let readers: Vec<PlacementReader> = readers.collect();
    let index: HashMap<&ReaderId, usize> =
        readers.iter().enumerate().map(|(at, reader)| (&reader.id, at)).collect();
    let mut watched: HashMap<&VideoId, Vec<VideoPart>> = HashMap::new();
    for state in &load.readers {
        let Some(&reader) = index.get(&state.id) else { continue };
        for (video, viewers) in state.videos.iter().filter(|(_, viewers)| *viewers > 0) {
            watched.entry(video).or_default().push(VideoPart { reader, viewers: *viewers, share: 0 });
        }
    }
    let assigned = load.assignments.iter().flatten();
    let assigned: HashMap<&VideoId, &AssignedVideoState> =
        assigned.map(|state| (&state.videoid, state)).collect();
    let videos = watched.into_iter().map(|(id, parts)| {
        let state = assigned.get(id);
        let mut video = PlacementVideo {
            id: id.clone(),
            epoch: state.map_or(0, |state| state.epoch),
            changed: at - state.map_or(0, |state| state.changed_ms.min(i64::MAX as u64 / 2) as Millis),
            waiting: 0,
            moving: state.is_some_and(|state| state.moving),
            parts,
        };
        let shares = state.map_or(&[][..], |state| &state.readers);
        video.set_shares(shares, |reader| index.get(reader).copied());
        video
    });
    let videos = videos.collect();
    Situation { now: at, readers, videos }.sorted_by_name()
}

fn placement_reader(state: &ReaderState) -> Option<PlacementReader> {
    // A reader in a state unknown to this release gets no new viewers, and keeps those that it has.
    let cordon = state.cordon.as_ref().map(MaybeUnknown::known_value);
    let standing = match (state.state.known_value(), cordon) {
        (Some(ReaderStatus::Gone), _) => return None,
        (Some(ReaderStatus::Draining), _) | (_, Some(Some(CordonLevel::Draining))) => {
            ReaderAvailability::Draining
        }
        (Some(ReaderStatus::Alive), None) if state.fresh => ReaderAvailability::Open,
        _ => ReaderAvailability::Closed,
    };
    Some(PlacementReader { id: state.id.clone(), capacity: state.capacity, standing })
}
