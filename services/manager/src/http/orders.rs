//! The endpoints for planners' orders: terms, moves, cordons. Each order carries its planner's lease, and its term once
//! the term has begun.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use liverank_adapters::assignment_store::{CordonLevel, MAX_EPOCH, PlannerTerm, ReaderCordon, TermGrant};
use liverank_core::epoch::check_epoch;
use liverank_core::handover::PlannerLease;
use liverank_core::handover::coordinator::{AssignmentOrder, OrderRefusal};
use liverank_core::{Invalid, ReaderId};
use liverank_protocol::{
    CordonRequest, CordonsAnswer, CordonsRequest, MAX_DECISION_LINES, MAX_OUTSIDE_DECISIONS, MaybeUnknown,
    MoveAnswer, MoveAnswers, MoveRequest, MovesAnswer, MovesRequest, OrderedBy, OutsideDecision, PlanAnswer,
    TermRequest, TermState,
};
use liverank_runtime::{Problem, body, now_micros};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Manager;
use crate::cluster::report::term_state;
use crate::moves::WantedMove;

/// The maximum size of a request, in bytes: 10,000 moves of videos with ids of usual length.
const MAX_ORDER_BYTES: usize = 8 * 1024 * 1024;
/// The maximum number of moves shown.
const MAX_MOVES_SHOWN: usize = 1_000;
/// The maximum length of a planner's name and of a reason, in bytes: both are stored and shown.
const MAX_TEXT_BYTES: usize = 1_024;
/// The maximum number of readers that are cordoned at the same time, and of cordons in one order: more than there are
/// readers. Managers and the store keep cordons until they are lifted, whether or not there is a reader of that name.
const MAX_CORDONS: usize = 10_000;
/// The maximum number of tries to begin a planner's term that follows the term in force: a try fails only if another
/// planner has just begun a term.
const MAX_TERM_TRIES: usize = 8;

type SharedManager = State<Arc<Manager>>;

/// Reads and parses the body of an order.
async fn read_order<T: DeserializeOwned>(headers: &HeaderMap, sent: Body) -> Result<T, Problem> {
    body::expect_json(headers)?;
    let json = body::read_body(headers, sent, MAX_ORDER_BYTES).await?;
    serde_json::from_slice(&json).map_err(|error| Invalid::new("body", error.to_string()).into())
}

fn check_text(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("must be at most {MAX_TEXT_BYTES} bytes without control characters")))
}

fn overtaken_problem(in_force: u64) -> Problem {
    Problem::new(StatusCode::CONFLICT, format!("term {in_force} has begun")).with_member("term", in_force)
}

/// Refuses with 409 a planner that has lost its lease: the term in force was begun by the lease's new holder.
fn expect_lease(wanted: &PlannerLease, in_force: Option<&PlannerTerm>) -> Result<(), Problem> {
    let Some(term) = in_force else { return Ok(()) };
    let Some(lease) = term.lease.as_ref().filter(|lease| lease.is_later_than(wanted)) else { return Ok(()) };
    let detail = format!(
        "lease {} has changed hands: term {} was begun with its transition {}, which is after {}",
        lease.uid, term.term, lease.transitions, wanted.transitions
    );
    let problem = Problem::new(StatusCode::CONFLICT, detail).with_member("term", term.term);
    Err(problem.with_member("transitions", lease.transitions))
}

/// Returns the later of two planner terms: the one that the manager knows and the one that the store has.
fn later_term<'a>(one: Option<&'a PlannerTerm>, other: Option<&'a PlannerTerm>) -> Option<&'a PlannerTerm> {
    one.into_iter().chain(other).max_by_key(|term| term.term)
}

fn store_away_problem(error: &impl std::fmt::Display) -> Problem {
    Problem::part_unavailable(format!("{error}: try again"))
}

/// Refuses with 409 a term that is over, a term that was never begun, and a lease that has changed hands.
async fn expect_term(manager: &Manager, term: u64, lease: &PlannerLease) -> Result<(), Problem> {
    check_text("lease.uid", &lease.uid)?;
    if check_epoch("term", term, now_micros())? == 0 {
        return Err(Invalid::new("term", "is none that can have been minted").into());
    }
    let known = manager.move_executor().highest_term();
    if term != known {
        let told = manager
            .ask_store(manager.assignment_store.planner_orders())
            .await
            .map_err(|error| store_away_problem(&error))?;
        manager.take_over_orders(told);
    }
    let in_force = manager.cluster().planner_orders.planner_term.clone();
    expect_lease(lease, in_force.as_ref()).inspect_err(|_| {
        manager.metrics.orders_refused.inc();
    })?;
    // If both the store and this manager know no term, both have lost it, and the planner is trusted.
    let known = manager.move_executor().highest_term();
    if known == term || known == 0 {
        return Ok(());
    }
    manager.metrics.orders_refused.inc();
    if term < known {
        return Err(overtaken_problem(known));
    }
    let detail = format!("term {term} was never begun here: begin one");
    Err(Problem::new(StatusCode::CONFLICT, detail).with_member("term", known))
}

/// Renews the planner's term, which shows that the planner is still active.
async fn renew_term(manager: &Manager, term: u64) -> Result<TermState, Problem> {
    let known = manager.cluster().planner_orders.planner_term.clone();
    let (holder, lease) = known.map(|known| (known.holder, known.lease)).unwrap_or_default();
    let mine = PlannerTerm { term, holder, lease, beat: rand::random::<u64>() % MAX_EPOCH };
    match manager.ask_store(manager.assignment_store.renew_term(&mine)).await {
        Ok(TermGrant::Held(term)) => Ok(term_state(&term)),
        Ok(TermGrant::Lost(in_force)) => Err(overtaken_problem(in_force.map_or(0, |term| term.term))),
        Err(error) => Err(store_away_problem(&error)),
    }
}

pub(super) async fn post_term(
    State(manager): SharedManager,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<TermState>, Problem> {
    let wanted: TermRequest = read_order(&headers, sent).await?;
    check_text("holder", &wanted.holder)?;
    check_text("lease.uid", &wanted.lease.uid)?;
    expect_decisions(&wanted.decisions)?;
    if let Some(term) = wanted.renew {
        expect_term(&manager, term, &wanted.lease).await?;
        let renewed = renew_term(&manager, term).await?;
        if !wanted.decisions.is_empty() {
            *manager.outside_decisions.lock().unwrap_or_else(PoisonError::into_inner) = wanted.decisions;
        }
        return Ok(Json(renewed));
    }
    for _ in 0..MAX_TERM_TRIES {
        let told = manager
            .ask_store(manager.assignment_store.planner_orders())
            .await
            .map_err(|error| store_away_problem(&error))?;
        let in_force = told.planner_term.as_ref().map_or(0, |term| term.term);
        let expected = wanted.expected.unwrap_or(in_force);
        // This manager may know a lease that the store has lost. A planner that begins a term between this query and
        // the swap below changes the term, and the swap fails.
        let known = manager.cluster().planner_orders.planner_term.clone();
        expect_lease(&wanted.lease, later_term(known.as_ref(), told.planner_term.as_ref()))?;
        let seen = manager.move_executor().highest_term().max(in_force);
        let minted = manager.assignment_store.mint_term(&wanted.holder, Some(&wanted.lease), expected, seen);
        match manager.ask_store(minted).await {
            Ok(TermGrant::Held(term)) => {
                tracing::info!(term = term.term, holder = term.holder, "a planner took office");
                manager.take_over_term(term.clone());
                return Ok(Json(term_state(&term)));
            }
            Ok(TermGrant::Lost(_)) if wanted.expected.is_none() => {}
            Ok(TermGrant::Lost(in_force)) => {
                return Err(overtaken_problem(in_force.map_or(0, |term: PlannerTerm| term.term)));
            }
            Err(error) => return Err(store_away_problem(&error)),
        }
    }
    Err(Problem::part_unavailable("planners keep taking over from each other: try again"))
}

/// Refuses more decisions than are kept, decisions with longer lists than are kept, and texts that are too long.
fn expect_decisions(decisions: &[OutsideDecision]) -> Result<(), Invalid> {
    if decisions.len() > MAX_OUTSIDE_DECISIONS {
        return Err(Invalid::new("decisions", format!("must be at most {MAX_OUTSIDE_DECISIONS}")));
    }
    for decision in decisions {
        let lists = [&decision.bound_by, &decision.chosen, &decision.rejected];
        if lists.into_iter().any(|lines| lines.len() > MAX_DECISION_LINES) {
            let wrong = format!("must have lists of at most {MAX_DECISION_LINES} entries");
            return Err(Invalid::new("decisions", wrong));
        }
        decision.named_texts().try_for_each(|(field, text)| check_text(field, text))?;
    }
    Ok(())
}

pub(super) async fn post_moves(
    State(manager): SharedManager,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response, Problem> {
    let wanted: MovesRequest = read_order(&headers, sent).await?;
    for it in &wanted.moves {
        check_text("why", &it.why)?;
    }
    expect_term(&manager, wanted.term, &wanted.lease).await?;
    renew_term(&manager, wanted.term).await?;
    let answers: Vec<MoveAnswer> =
        wanted.moves.into_iter().map(|it| order_move(&manager, wanted.term, it)).collect();
    manager.moves_changed.notify_one();
    let taken = answers.iter().filter(|answer| answer.status == 202).count();
    manager.metrics.orders_refused.inc_by((answers.len() - taken) as u64);
    if taken == 0 && !answers.is_empty() {
        let first = answers[0].detail.clone().unwrap_or_default();
        let mut problem = Problem::new(StatusCode::CONFLICT, format!("no move was taken: {first}"));
        problem = problem.with_member("moves", serde_json::to_value(answers).unwrap_or(Value::Null));
        return Err(problem);
    }
    Ok((StatusCode::ACCEPTED, Json(MoveAnswers { moves: answers })).into_response())
}

fn order_move(manager: &Manager, term: u64, it: MoveRequest) -> MoveAnswer {
    let now = Instant::now();
    let cluster = manager.cluster();
    let seen = cluster.view_at(now);
    let viewers = viewers_leaving(&cluster, &it);
    let order =
        AssignmentOrder { video: it.videoid.clone(), expected_epoch: it.expected, readers: it.readers };
    let wanted = WantedMove {
        order,
        ordered_by: OrderedBy::Order,
        ordered_under_term: Some(term),
        reason: it.why,
        viewers,
    };
    let refused = match manager.move_executor().accept_move(now, &seen, wanted) {
        Ok(id) => {
            let (videoid, id) = (it.videoid, Some(id));
            return MoveAnswer { videoid, status: 202, id, epoch: None, detail: None };
        }
        Err(refused) => refused,
    };
    let epoch = if let OrderRefusal::OldEpoch { current } = refused { current } else { None };
    let status = if refused == OrderRefusal::TooManyOrders { 503 } else { 409 };
    MoveAnswer { videoid: it.videoid, status, id: None, epoch, detail: Some(refused.to_string()) }
}

/// Returns the number of viewers that a move takes from their readers: at each reader, those above its new share of the
/// video.
fn viewers_leaving(cluster: &crate::cluster::KnownCluster, it: &MoveRequest) -> u64 {
    let total = cluster.viewer_count_of(&it.videoid);
    let weights: u64 = it.readers.iter().map(|share| u64::from(share.weight)).sum();
    let held = |sighting: &crate::liveness::ReaderLiveness| {
        let viewers = sighting.held_video(&it.videoid).map_or(0, |held| held.viewers);
        let share = it.readers.iter().find(|share| share.reader == sighting.last_record.id);
        let part = share.map_or(0, |share| total * u64::from(share.weight) / weights.max(1));
        viewers.saturating_sub(part)
    };
    cluster.reader_watch.all_readers().map(held).sum()
}

pub(super) async fn get_moves(State(manager): SharedManager) -> Json<MovesAnswer> {
    let moves = manager.move_executor().move_states(Instant::now(), MAX_MOVES_SHOWN);
    let in_flight = manager.cluster().pending_hand_overs.viewers;
    Json(MovesAnswer { moves, in_flight, viewers_per_minute: manager.config.max_viewers_moved_per_minute })
}

pub(super) async fn post_cordons(
    State(manager): SharedManager,
    headers: HeaderMap,
    sent: Body,
) -> Result<Json<CordonsAnswer>, Problem> {
    let wanted: CordonsRequest = read_order(&headers, sent).await?;
    let closings: Vec<Option<CordonLevel>> =
        wanted.cordons.iter().map(parse_cordon_level).collect::<Result<_, _>>()?;
    expect_term(&manager, wanted.term, &wanted.lease).await?;
    expect_room(&manager, &wanted.cordons)?;
    renew_term(&manager, wanted.term).await?;
    for (it, closing) in wanted.cordons.into_iter().zip(closings) {
        let cordon =
            closing.map(|closing| ReaderCordon { reader: it.reader.clone(), closing, why: it.why.clone() });
        let done = manager
            .ask_store(manager.assignment_store.set_cordon(wanted.term, &it.reader, cordon.as_ref()))
            .await;
        if let Some(in_force) = done.map_err(|error| store_away_problem(&error))? {
            return Err(overtaken_problem(in_force));
        }
        tracing::info!(reader = %it.reader, cordon = closing.map(tracing::field::display), why = it.why, term = wanted.term, "cordon");
        manager.cluster().note_cordon(&it.reader, cordon);
    }
    Ok(Json(manager.cluster().cordons_answer()))
}

/// Refuses cordons of more readers than `MAX_CORDONS`.
fn expect_room(manager: &Manager, wanted: &[CordonRequest]) -> Result<(), Invalid> {
    let known = manager.cluster().cordons_answer().cordons;
    let lifted = wanted.iter().filter(|it| it.cordon.is_none()).map(|it| &it.reader);
    let given = wanted.iter().filter(|it| it.cordon.is_some()).map(|it| &it.reader);
    let mut all: BTreeSet<&ReaderId> = known.iter().map(|it| &it.reader).collect();
    for reader in lifted {
        all.remove(reader);
    }
    all.extend(given);
    if all.len() > MAX_CORDONS || wanted.len() > MAX_CORDONS {
        return Err(Invalid::new(
            "cordons",
            format!("must be at most {MAX_CORDONS}, those in force included"),
        ));
    }
    Ok(())
}

fn parse_cordon_level(it: &CordonRequest) -> Result<Option<CordonLevel>, Invalid> {
    check_text("why", &it.why)?;
    match &it.cordon {
        None => Ok(None),
        Some(MaybeUnknown::Known(closing)) => Ok(Some(*closing)),
        Some(MaybeUnknown::Unknown(_)) => {
            Err(Invalid::new("cordon", "must be closed, draining, removed or null"))
        }
    }
}

pub(super) async fn get_cordons(State(manager): SharedManager) -> Json<CordonsAnswer> {
    Json(manager.cluster().cordons_answer())
}

pub(super) async fn get_plan(State(manager): SharedManager) -> Json<PlanAnswer> {
    let term = manager.cluster().planner_orders.planner_term.clone();
    let decisions = manager.planner_decisions.lock().unwrap_or_else(PoisonError::into_inner);
    let decisions = decisions.iter().cloned().collect();
    let outside = manager.outside_decisions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Json(PlanAnswer {
        autopilot: manager.config.autopilot,
        leading: manager.metrics.is_leading.get() == 1,
        term: term.as_ref().map(term_state),
        decisions,
        outside,
    })
}
