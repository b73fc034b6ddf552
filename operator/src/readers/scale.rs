//! The number of readers that there should be: as the scaler decides, or as the resource says.

use liverank_core::Millis;
use liverank_core::scaling::{self, PastDecision, ReaderLoadReport, ScalingInputs, ScalingLimit};

use super::decision::{DecisionAction, DecisionEvent};
use super::fleet::ReaderFleet;
use super::memory::ReaderMemory;
use super::proposal::{self, DraftPlan, PlanBasis, PlanSubject, PlannedAction};
use super::seen::RoundInput;
use super::settings::ScalingSetting;
use super::view::{LoadView, reader_id};

/// The number of readers that is wanted, and the decision that led to it.
#[derive(Debug, Clone)]
pub(super) struct WantedReaders {
    /// Number of readers wanted.
    pub reader_count: u32,
    /// The scaler's decision; `None` if the scaler is not used.
    pub decision: Option<scaling::ScalingDecision>,
    /// The event about a plan that waits for approval or was approved; `None` if there is no such plan.
    pub event: Option<DecisionEvent>,
    /// Whether the fallback for an unknown load requires more readers than the scaler decided.
    pub fallback_applies: bool,
}

/// Returns the number of readers wanted now. The number is remembered for the next round.
pub(super) fn decide_wanted_readers(
    seen: &RoundInput,
    view: &LoadView<'_>,
    fleet: &ReaderFleet,
    memory: &mut ReaderMemory,
) -> WantedReaders {
    let settings = &seen.settings;
    let set = match settings.scaling {
        ScalingSetting::Auto | ScalingSetting::Proposal => {
            memory.wanted_readers.unwrap_or_else(|| assumed_reader_count(seen, fleet, memory))
        }
        ScalingSetting::DryRun | ScalingSetting::Manual => settings.replicas,
    };
    let current = set.max(paused_minimum(seen, fleet, memory));
    memory.wanted_readers = Some(current);
    if settings.scaling == ScalingSetting::Manual {
        // After a switch to Auto, the scaler begins with the existing readers.
        memory.history.clear();
        return WantedReaders { reader_count: current, decision: None, event: None, fallback_applies: false };
    }
    memory.wanted_before_trouble =
        view.trouble.is_some().then(|| memory.wanted_before_trouble.unwrap_or(current));
    let inputs = scaling_inputs(seen, view, fleet, memory, current);
    let policy = settings.scaling_policy();
    let decision = scaling::decide_reader_count(&inputs, &policy);
    let lead: Millis = 2 * policy.lead_ms;
    let least = fallback_readers(seen, view, memory).filter(|least| *least > decision.desired);
    let (reader_count, event) = match settings.scaling {
        ScalingSetting::Auto => (least.unwrap_or(decision.desired), None),
        ScalingSetting::Proposal => approved_readers(seen, fleet, memory, &decision, current),
        ScalingSetting::DryRun | ScalingSetting::Manual => (current, None),
    };
    memory.remember_demand(
        PastDecision { desired: reader_count, ..decision.to_past(seen.now) },
        policy.down_stabilisation_ms.max(lead),
    );
    memory.wanted_readers = Some(reader_count);
    let fallback_applies = settings.scaling == ScalingSetting::Auto && least.is_some();
    WantedReaders { reader_count, decision: Some(decision), event, fallback_applies }
}

/// Returns the minimal number of readers while removing readers is paused: all that exist, including one that replaced
/// an evicted reader, or that was being emptied when removing was paused. While readers are replaced, or one ends by
/// itself, there may be more for a moment: then the number that was wanted before is returned.
fn paused_minimum(seen: &RoundInput, fleet: &ReaderFleet, memory: &ReaderMemory) -> u32 {
    match () {
        () if seen.settings.scale_in => 0,
        () if fleet.has_old_template() || fleet.reader_leaving_by_itself().is_some() => {
            memory.wanted_readers.unwrap_or(0)
        }
        () => fleet.active_readers().filter(|member| member.uid.is_some()).count() as u32,
    }
}

/// Returns the minimal number of readers after the load has been unknown for long enough; `None` before. No reader is
/// removed because of the fallback, because nobody knows which reader is empty.
fn fallback_readers(seen: &RoundInput, view: &LoadView<'_>, memory: &ReaderMemory) -> Option<u32> {
    let settings = &seen.settings;
    let fallback = settings.fallback.filter(|_| settings.scale_out && view.trouble.is_some())?;
    let (_, since) = memory.load_trouble.filter(|(unknown, _)| *unknown)?;
    let periods = (seen.now - since.max(memory.created_at)).checked_div(fallback.after_ms).unwrap_or(0);
    let readers = if fallback.grows {
        let begun_with = fallback.readers.max(memory.wanted_before_trouble.unwrap_or(0));
        begun_with.saturating_add(u32::try_from(periods - 1).unwrap_or(0))
    } else {
        fallback.readers
    };
    let readers = readers.min(settings.max.max(settings.min));
    (periods >= 1).then_some(readers)
}

/// Returns the number of readers wanted if changes of it need approval, and the event about the plan.
fn approved_readers(
    seen: &RoundInput,
    fleet: &ReaderFleet,
    memory: &mut ReaderMemory,
    decision: &scaling::ScalingDecision,
    current: u32,
) -> (u32, Option<DecisionEvent>) {
    let to = decision.desired;
    let basis = |from: u32, to: u32| PlanBasis::new(&format!("{from} {to}"), decision.viewers);
    let draft = (to != current).then(|| DraftPlan {
        action: PlannedAction::Readers { from: current, to },
        basis: basis(current, to),
        summary: format!("{to} readers instead of {current}: {}", decision.explain()),
        viewers_moved: viewers_moved(&viewers_by_cost(fleet), current, to),
        effect: format!(
            "about {} viewers a reader, then {}",
            decision.viewers / u64::from(current.max(1)),
            decision.viewers / u64::from(to.max(1)),
        ),
        steps: vec![if to > current {
            format!("create {} readers", to - current)
        } else {
            format!("empty and remove {} readers", current - to)
        }],
    });
    let now = |_: &PlannedAction| Some(basis(current, to));
    let settled = proposal::settle_proposals(seen, memory, PlanSubject::Scaling, draft, now);
    match settled.approved {
        Some(PlannedAction::Readers { to, .. }) => (to, settled.event),
        _ => (current, settled.event),
    }
}

/// Returns the numbers of viewers of all active readers, the reader that is cheapest to empty first.
fn viewers_by_cost(fleet: &ReaderFleet) -> Vec<u64> {
    let mut active: Vec<_> = fleet.active_readers().collect();
    active.sort_by_key(|member| member.removal_cost());
    active.iter().map(|member| member.viewers).collect()
}

/// Returns how many viewers change readers if there are `to` readers instead of `from`: new readers are filled to the
/// mean, and the viewers of the cheapest readers move elsewhere.
fn viewers_moved(cheapest_first: &[u64], from: u32, to: u32) -> u64 {
    if to <= from {
        return cheapest_first.iter().take((from - to) as usize).sum();
    }
    let all: u64 = cheapest_first.iter().sum();
    (u128::from(all) * u128::from(to - from) / u128::from(to)) as u64
}

/// Returns the number of readers that a new leader assumes to be wanted: the existing ones. While readers are replaced,
/// more exist than are wanted, so that the number in the status is used, within what is possible.
fn assumed_reader_count(seen: &RoundInput, fleet: &ReaderFleet, memory: &ReaderMemory) -> u32 {
    let here = fleet.active_count();
    if here == 0 {
        // No readers were wanted while comments were disabled or the cluster hibernated.
        return memory
            .wanted_in_status
            .filter(|last| *last > 0)
            .unwrap_or(seen.settings.first_reader_count());
    }
    if !fleet.has_old_template() {
        return here;
    }
    let last = memory.wanted_in_status.unwrap_or(here);
    last.clamp(here.saturating_sub(seen.settings.max_surge).max(1), here)
}

fn scaling_inputs(
    seen: &RoundInput,
    view: &LoadView<'_>,
    fleet: &ReaderFleet,
    memory: &ReaderMemory,
    current: u32,
) -> ScalingInputs {
    let there = || fleet.members.iter().filter(|member| !member.deleting);
    let mut reports = LoadView::reader_load_reports(seen);
    // A dead reader has no viewers: its load is known, not missing.
    let nobody = |name: &str| ReaderLoadReport { reader: reader_id(name), viewers: 0, at: seen.now };
    let dead = there().filter(|member| member.is_dead);
    reports.extend(dead.map(|member| nobody(&member.name)));
    if view.trouble.is_some() {
        // Reports that cannot be acted on are marked as old.
        let stale = seen.now - seen.settings.load_max_age_ms - 1;
        for report in &mut reports {
            report.at = report.at.min(stale);
        }
    }
    ScalingInputs {
        now: seen.now,
        current,
        readers: there().map(|member| reader_id(&member.name)).collect(),
        reports,
        history: memory.history.iter().copied().collect(),
    }
}

/// Returns the event about a change that the scaler would make and does not make, or about a limit that holds the
/// scaler for long; `None` if there is nothing new to report.
pub(super) fn scaler_state_event(
    seen: &RoundInput,
    wanted: &WantedReaders,
    memory: &mut ReaderMemory,
) -> Option<DecisionEvent> {
    if seen.settings.scaling == ScalingSetting::Proposal {
        return wanted.event.clone();
    }
    if wanted.fallback_applies {
        let words = format!(
            "what load there is has been unknown for too long: at least {} readers (scaling.fallback)",
            wanted.reader_count
        );
        let tale = DecisionEvent::new(DecisionAction::Hold, words).with_bound_by(["Fallback".to_owned()]);
        return memory
            .announced_states
            .is_news(seen.now, "scaling", Some(("fallback", &tale)))
            .then_some(tale);
    }
    let decision = wanted.decision.as_ref()?;
    let action = match decision.action {
        scaling::ScalingAction::Up => DecisionAction::ScaleUp,
        scaling::ScalingAction::Down => DecisionAction::ScaleDown,
        scaling::ScalingAction::Hold => DecisionAction::Hold,
    };
    let tale = DecisionEvent::new(action, decision.explain())
        .with_bound_by(bound_names(decision))
        .with_rejected(rejected_texts(decision));
    let state = if seen.settings.scaling == ScalingSetting::DryRun {
        (action != DecisionAction::Hold).then(|| format!("would {}", action.as_str()))
    } else {
        lasting_bound(decision).map(|bound| format!("{bound:?}"))
    };
    let tale = match seen.settings.scaling {
        ScalingSetting::DryRun => DecisionEvent { reason: format!("dry run: {}", tale.reason), ..tale },
        _ => DecisionEvent { action: DecisionAction::Hold, ..tale },
    };
    let state = state.as_deref().map(|state| (state, &tale));
    memory.announced_states.is_news(seen.now, "scaling", state).then_some(tale)
}

/// Returns the limit that keeps the scaler from the needed number until somebody changes the resource; `None` if there
/// is none. Other limits end by themselves.
pub(super) fn lasting_bound(decision: &scaling::ScalingDecision) -> Option<ScalingLimit> {
    let binds = |bound: ScalingLimit| decision.bound_by.contains(&bound);
    match () {
        () if decision.raw > decision.desired && binds(ScalingLimit::Max) => Some(ScalingLimit::Max),
        () if binds(ScalingLimit::ScaleInPaused) => Some(ScalingLimit::ScaleInPaused),
        () if binds(ScalingLimit::ScaleOutPaused) => Some(ScalingLimit::ScaleOutPaused),
        () => None,
    }
}

/// Returns the names of the limits that bound a decision, without repetitions.
pub(super) fn bound_names(decision: &scaling::ScalingDecision) -> Vec<String> {
    let mut names: Vec<String> = decision.bound_by.iter().map(|bound| format!("{bound:?}")).collect();
    names.dedup();
    names
}

/// Returns the alternatives that a decision rejected, in words.
pub(super) fn rejected_texts(decision: &scaling::ScalingDecision) -> Vec<String> {
    let words = |(number, bound): &(u32, ScalingLimit)| format!("{number} readers: {}", bound.describe());
    decision.rejected.iter().map(words).collect()
}
