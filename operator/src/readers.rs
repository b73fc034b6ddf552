//! Decisions about readers: how many there should be, which ones to add and to remove, and which readers serve which
//! video.
//!
//! [`decide_round`] is one pure function. It computes [`ReaderStep`]s, [`Decision`]s and [`ReaderFacts`] from the
//! observed state (readers as Kubernetes has them, load as the managers report it) and a leader's [`ReaderMemory`]. It
//! works by levels, not by edges: every step follows from the observed state, may be done twice, and is repeated until
//! it is observed to be done. So a leader may die at any point, and the next one continues:
//!
//! | fact | where it is stored |
//! |---|---|
//! | a reader is to be emptied, the reason and the time of its beginning | annotations of its Deployment |
//! | a reader accepts no viewers | a cordon at the managers, derived from the annotation |
//! | readers are being replaced | templates differ |
//! | the wanted number of readers | the existing number, without those being emptied; in an upgrade also the status |
//! | the time for which fewer readers would do | nowhere: a new leader watches for the whole window first |
//!
//! *Scale up*: readers are added. *Scale down*: the reader that is cheapest to empty is annotated, then cordoned; the
//! managers move its viewers within the budget; when the managers and the reader itself have reported for a while that
//! it has no viewers, it is deleted. *Upgrade*: new readers start, at most `maxSurge` beyond the wanted number; old
//! readers get no new videos and are emptied into new ones, so that each viewer moves at most once (nothing is moved
//! for balance meanwhile). On a *node drain* a reader empties itself; no other reader is removed while that lasts. If
//! the other readers have no room for its viewers, a stand-in is started, within `maxSurge`.
//!
//! In mode `Proposal`, a plan waits in [`proposal`] until somebody approves it by name.
//!
//! Missing or contradictory load is not taken for zero: no reader is removed, no viewer is moved, and the status
//! reports it. If the resource names a fallback, there are at least as many readers as it says.

mod balance;
mod change;
mod cordons;
mod decision;
mod explain;
mod facts;
mod fleet;
mod memory;
mod of_spec;
mod phase;
mod proposal;
mod remove;
mod scale;
mod seen;
mod settings;
mod step;
mod view;
mod what_if;

pub use decision::{Decision, DecisionAction, DecisionNumbers};
pub use explain::{Explanation, explain};
pub use facts::{ConditionFact, ReaderFacts, ZoneFacts, round_to_two_digits};
pub use memory::ReaderMemory;
pub use proposal::{PlanSubject, Proposal};
pub use seen::{
    DrainReason, ManagerReport, ObservedReader, ReaderDrain, ReaderPod, ReaderSelfReport, RoundInput,
};
pub use settings::{FallbackSetting, ReaderSettings, RebalanceSetting, ScalingSetting};
pub use step::ReaderStep;
pub use what_if::{ReaderForecast, WhatIfAnswer, answer_what_if};

use decision::DecisionEvent;
use facts::StatusFindings;
use fleet::ReaderFleet;
use phase::UpgradePhase;
use scale::WantedReaders;
use view::LoadView;

/// The result of one round of decisions about readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundOutcome {
    /// The steps to be done, in this order. The list is empty if nothing has to be changed.
    pub steps: Vec<ReaderStep>,
    /// The decisions of this round that differ from the last ones reported.
    pub decisions: Vec<Decision>,
    /// The plans that wait for approval, at most one of each subject.
    pub proposals: Vec<Proposal>,
    /// The facts about readers for the resource's status.
    pub facts: ReaderFacts,
    /// Readers that have to be queried for their own number of viewers.
    pub readers_to_ask: Vec<String>,
    /// Whether the managers have to be queried for all assignments next time.
    pub needs_assignments: bool,
}

/// Decides the next steps about a cluster's readers from what was observed in this round. If the resource is paused,
/// the result has no steps, decisions or proposals.
pub fn decide_round(seen: &RoundInput, memory: &mut ReaderMemory) -> RoundOutcome {
    if !seen.settings.paused {
        return decide_unpaused(seen, memory);
    }
    // Steps are computed and dropped; the memory is reset, because it would be out of date when the resource is
    // resumed.
    let mut outcome = decide_unpaused(seen, &mut memory.clone());
    *memory = ReaderMemory::new(seen.now, None, Some(outcome.facts.desired));
    outcome.steps.clear();
    outcome.decisions.clear();
    outcome.proposals.clear();
    outcome.needs_assignments = false;
    outcome
}

fn decide_unpaused(seen: &RoundInput, memory: &mut ReaderMemory) -> RoundOutcome {
    memory.forget_expired(seen.now);
    let view = LoadView::of(seen);
    let mut tales = Vec::new();
    let reports_missing_load = report_load_trouble(seen, &view, memory, &mut tales);
    let mut fleet = ReaderFleet::of(seen, &view, memory);
    memory.note_viewers_of_leaving(seen.now, fleet.leaving_with_viewers());
    if seen.settings.are_comments_off() {
        return remove_all_readers(seen, &view, &fleet, memory);
    }
    let wanted = scale::decide_wanted_readers(seen, &view, &fleet, memory);
    tales.extend(scale::scaler_state_event(seen, &wanted, memory));
    let phase = UpgradePhase::of(seen, &view, &fleet, memory);
    tales.extend(phase.upgrade_state_event(seen, &fleet, memory));
    let (wanted, upgrade_phase) = (&wanted, &phase);
    change::ReaderChanges {
        round_input: seen,
        view: &view,
        wanted_readers: wanted,
        upgrade_phase,
        fleet: &mut fleet,
        memory,
        events: &mut tales,
    }
    .make_all();
    let (deletes, overdue) = remove::remove_drained_readers(seen, &view, &fleet, memory, &mut tales);
    remove::report_overdue(seen, &overdue, memory, &mut tales);
    let mut steps = repeat_unseen_writes(memory, view.trouble.is_none());
    steps.extend(cordons::cordon_changes(seen, &view, &fleet, upgrade_phase));
    steps.extend(deletes);
    let halted = upgrade_phase.is_running()
        || view.excess_reconnect_errors(seen.settings.max_reconnect_error_percent).is_some();
    let balanced = balance::plan_balance(seen, &view, memory, halted);
    let proposals = memory.proposals.values().map(|waiting| waiting.shown_proposal.clone()).collect();
    steps.extend(balanced.step);
    tales.extend(balanced.event);
    let found = StatusFindings {
        round_input: seen,
        view: &view,
        fleet: &fleet,
        wanted_readers: wanted,
        upgrade_phase,
        overdue_readers: &overdue,
        reports_missing_load,
    };
    let asked = seen.readers.iter().filter(|reader| reader.drain.is_some() && !reader.deleting);
    RoundOutcome {
        steps,
        decisions: decision::into_decisions(tales, seen, found.decision_numbers()),
        proposals,
        facts: found.facts(),
        readers_to_ask: asked.map(|reader| reader.name.clone()).collect(),
        needs_assignments: balanced.needs_assignments,
    }
}

/// Removes all readers with their viewers, because there are to be no readers that could take them.
fn remove_all_readers(
    seen: &RoundInput,
    view: &LoadView<'_>,
    fleet: &ReaderFleet,
    memory: &mut ReaderMemory,
) -> RoundOutcome {
    let mut steps = Vec::new();
    let mut chosen = Vec::new();
    for reader in seen.readers.iter().filter(|reader| !reader.deleting) {
        let (name, uid) = (reader.name.clone(), reader.uid.clone());
        if memory.pending_writes.deployments_to_delete.insert(uid.clone()) {
            chosen.push(format!("remove {name}"));
        }
        steps.push(ReaderStep::DeleteReader { name, uid, forced: true });
    }
    let delete = std::mem::take(&mut memory.pending_writes.deployments_to_delete);
    *memory = ReaderMemory::new(seen.now, None, None);
    memory.pending_writes.deployments_to_delete = delete;
    if view.trouble.is_none() {
        let gone = ReaderFleet::default();
        let here = |step: &ReaderStep| !matches!(step, ReaderStep::Cordon { reader, .. } if fleet.members.iter().any(|member| member.name == reader.as_str()));
        steps
            .extend(cordons::cordon_changes(seen, view, &gone, &UpgradePhase::Done).into_iter().filter(here));
    }
    let why = match () {
        () if seen.settings.hibernates => "spec.hibernate is set",
        () if seen.settings.enabled => "spec.readers.replicas is 0",
        () => "comments are switched off",
    };
    let tale = DecisionEvent::new(
        DecisionAction::Remove,
        format!("{why}: all readers go, with the viewers they have"),
    );
    let tales = if chosen.is_empty() { Vec::new() } else { vec![tale.with_chosen(chosen)] };
    let wanted = WantedReaders { reader_count: 0, decision: None, event: None, fallback_applies: false };
    let (upgrade_phase, overdue_readers) = (&UpgradePhase::Done, &Vec::new());
    let found = StatusFindings {
        round_input: seen,
        view,
        fleet,
        wanted_readers: &wanted,
        upgrade_phase,
        overdue_readers,
        reports_missing_load: false,
    };
    let decisions = decision::into_decisions(tales, seen, found.decision_numbers());
    RoundOutcome {
        steps,
        decisions,
        proposals: Vec::new(),
        facts: found.facts(),
        readers_to_ask: Vec::new(),
        needs_assignments: false,
    }
}

/// Returns the writes that are not observed to be done yet, so that they are repeated. Drains are only begun if `empty`
/// is true.
fn repeat_unseen_writes(memory: &ReaderMemory, empty: bool) -> Vec<ReaderStep> {
    let create = memory
        .pending_writes
        .readers_to_create
        .iter()
        .map(|name| ReaderStep::CreateReader { name: name.clone() });
    let annotate =
        memory.pending_writes.drains_to_annotate.iter().filter(|(_, (_, drain))| empty || drain.is_none());
    let annotate = annotate.map(|(name, (uid, drain))| ReaderStep::Annotate {
        name: name.clone(),
        uid: uid.clone(),
        drain: *drain,
    });
    create.chain(annotate).collect()
}

/// Reports that the load has become unusable, or usable again, after that state has lasted for the maximal age of a
/// report: a leader that has just begun knows nothing, and managers learn of a change a moment apart. Returns whether
/// the present state of the load has lasted for that age.
fn report_load_trouble(
    seen: &RoundInput,
    view: &LoadView<'_>,
    memory: &mut ReaderMemory,
    tales: &mut Vec<DecisionEvent>,
) -> bool {
    const LOAD_STATE_TOPIC: &str = "load";
    let is = view.trouble.is_some();
    let since = match memory.load_trouble {
        Some((was, since)) if was == is => since,
        _ => seen.now,
    };
    memory.load_trouble = Some((is, since));
    let patient = seen.now - since.max(memory.created_at) > seen.settings.load_max_age_ms;
    match &view.trouble {
        Some(trouble) if patient => {
            let words = format!("{}: no reader is taken away and nobody is moved", trouble.describe());
            let tale =
                DecisionEvent::new(DecisionAction::Hold, words).with_bound_by([trouble.reason().to_owned()]);
            if memory.announced_states.is_news(seen.now, LOAD_STATE_TOPIC, Some((trouble.reason(), &tale))) {
                tales.push(tale);
            }
        }
        None if patient && memory.announced_states.last_state(LOAD_STATE_TOPIC).is_some() => {
            memory.announced_states.note_state(seen.now, LOAD_STATE_TOPIC, None);
            tales.push(DecisionEvent::new(
                DecisionAction::Resume,
                "the managers say what load there is again",
            ));
        }
        _ => {}
    }
    patient
}

#[cfg(test)]
mod tests;
