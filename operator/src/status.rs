//! Makes the status of a cluster. Pure: the same facts give the same words, so that the status is not written twice.
//!
//! Flux, Argo CD and `helm --wait` read a status by the rules of kstatus: `Reconciling` means in progress, `Stalled`
//! means failed, then `Ready` decides, and nothing counts before `observedGeneration` is the resource's generation. So
//! `Reconciling` is true until the last pod is as the spec says, and `Stalled` is true if only a person can solve a
//! problem.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use liverank_protocol::{MAX_DECISION_LINES, MAX_OUTSIDE_DECISIONS, OutsideDecision};

use crate::build::{Component, names};
use crate::crd::{
    self, DecisionInputs, DeferrableWork, LastDecision, OperatorStatus, PastDecision, RankingCluster,
    RankingClusterStatus, ReadersStatus, WaitingPlan, ZoneStatus,
};
use crate::maintenance;
use crate::readers::{Decision, Proposal, ReaderFacts, ZoneFacts, round_to_two_digits};
use crate::run::rollout::RolloutState;
use crate::validate::FieldProblem;

/// Longest message of a condition, in bytes: as much as a person reads.
const MAX_MESSAGE_BYTES: usize = 2_000;

/// Longest reason of a decision in the history, in bytes.
const MAX_PAST_REASON_BYTES: usize = 256;

/// A problem that a condition reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedProblem {
    /// The reason of the condition that reports the problem.
    pub reason: String,
    /// The message. The message must not change from one reconcile to the next while the problem stays the same.
    pub message: String,
    /// Whether the problem lasts until a person acts.
    pub needs_action: bool,
    /// Whether the problem is a write that failed, so that an object is not as the spec says.
    pub is_failed_write: bool,
}

/// The inputs of a cluster's status.
pub struct StatusInput<'a> {
    /// The `RankingCluster`, as it is in force.
    pub cluster: &'a RankingCluster,
    /// The present time.
    pub now: Timestamp,
    /// The name of the operator process that writes the status.
    pub identity: &'a str,
    /// The builder revision in force.
    pub revision: u32,
    /// The problems of the spec.
    pub spec_problems: &'a [FieldProblem],
    /// The roll-out states of the components.
    pub rollout_states: &'a [RolloutState],
    /// Number of readers that exist and are not being emptied.
    pub active_reader_count: u32,
    /// The value of `spec.readers.replicas` if it is ignored: see [`crate::run::in_force`]; `None` if it is followed.
    pub unheeded_replicas: Option<i32>,
    /// The facts about readers; `None` if there are to be no readers.
    pub reader_facts: Option<&'a ReaderFacts>,
    /// The last decision; `None` if none was made since the last status.
    pub last_decision: Option<&'a Decision>,
    /// The last decisions, including the very last one.
    pub history: &'a [PastDecision],
    /// The plans that wait for approval.
    pub proposals: &'a [Proposal],
    /// The problems that are not in the other fields.
    pub other_problems: &'a [ReportedProblem],
    /// The fields that another writer writes, too, each described with its other writers.
    pub contested_fields: &'a [String],
    /// The components whose pods the newest builder revision would restart.
    pub components_to_restart: &'a BTreeSet<Component>,
    /// Whether an object of the cluster could not be written yet, so that it is not as the spec says.
    pub has_unwritten_objects: bool,
    /// The components that have pods.
    pub components_with_pods: &'a BTreeSet<Component>,
}

/// Makes the status; `before` is the status that was written last.
pub fn make_status(report: &StatusInput<'_>, before: &RankingClusterStatus) -> RankingClusterStatus {
    let conditions = [
        ("Ready", ready_condition(report)),
        ("Reconciling", reconciling_condition(report)),
        ("Degraded", degraded_condition(report)),
        ("Contested", contested_condition(report)),
        ("Autoscaling", autoscaling_condition(report)),
        ("UpdatePending", update_pending_condition(report)),
        ("Stalled", stalled_condition(report)),
    ];
    let conditions =
        conditions.into_iter().chain(window_condition(report).map(|said| ("MaintenanceWindow", said)));
    let conditions = conditions.map(|(kind, said)| make_condition(report, before, kind, said)).collect();
    RankingClusterStatus {
        observed_generation: Some(report.cluster.generation()),
        conditions,
        builder_revision: Some(report.revision.to_string()),
        restarted_at: report.cluster.spec.restart_at.clone(),
        operator: Some(OperatorStatus {
            identity: report.identity.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }),
        components: report.rollout_states.iter().map(component_status).collect(),
        readers: report.reader_facts.map(|facts| readers_status(report, facts)),
        last_decision: report.last_decision.map(last_decision).or_else(|| before.last_decision.clone()),
        history: report.history.to_vec(),
        proposals: report.proposals.iter().map(waiting_plan).collect(),
    }
}

/// Returns whether `after` has to be written at once, because a condition, the generation, the builder revision, the
/// last decision or a plan has changed. Changes of numbers can wait.
pub fn is_worth_writing_now(before: &RankingClusterStatus, after: &RankingClusterStatus) -> bool {
    let short = |status: &RankingClusterStatus| -> Vec<(String, String, String)> {
        let all = status.conditions.iter();
        all.map(|it| (it.type_.clone(), it.status.clone(), it.reason.clone())).collect()
    };
    let decision = |status: &RankingClusterStatus| status.last_decision.as_ref().map(|it| it.id.clone());
    before.observed_generation != after.observed_generation
        || before.builder_revision != after.builder_revision
        || short(before) != short(after)
        || decision(before) != decision(after)
        || before.proposals != after.proposals
}

/// Returns whether `after` differs from `before` in anything but the time at which viewers were counted.
pub fn is_different(before: &RankingClusterStatus, after: &RankingClusterStatus) -> bool {
    let timeless = |status: &RankingClusterStatus| {
        let mut status = status.clone();
        if let Some(readers) = &mut status.readers {
            readers.load_as_of = None;
        }
        status
    };
    timeless(before) != timeless(after)
}

/// The status, reason and message of a condition.
struct ConditionValue {
    is_true: bool,
    reason: String,
    message: String,
}

impl ConditionValue {
    fn new(so: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { is_true: so, reason: reason.to_owned(), message: shorten_message(message.into()) }
    }
}

fn shorten_message(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn make_condition(
    report: &StatusInput<'_>,
    before: &RankingClusterStatus,
    kind: &str,
    said: ConditionValue,
) -> Condition {
    let status = if said.is_true { "True" } else { "False" };
    let old = before.conditions.iter().find(|it| it.type_ == kind && it.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        observed_generation: Some(report.cluster.generation()),
        last_transition_time: old
            .map_or(Time(to_whole_seconds(report.now)), |old| old.last_transition_time.clone()),
        reason: said.reason,
        message: said.message,
    }
}

/// Returns the time in whole seconds, as it is written into the status: the value that is read back must be equal.
fn to_whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Returns the condition Ready of a hibernating cluster: the condition is true once no pod is left.
fn hibernated_condition(report: &StatusInput<'_>) -> ConditionValue {
    if report.components_with_pods.is_empty() {
        return ConditionValue::new(
            true,
            "Hibernated",
            "spec.hibernate is set: nothing runs, nobody is served",
        );
    }
    ConditionValue::new(
        false,
        "Hibernating",
        format!("spec.hibernate is set; still there: {}", component_names(report.components_with_pods)),
    )
}

fn component_names(components: &BTreeSet<Component>) -> String {
    components.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ")
}

/// Returns the condition `MaintenanceWindow`, which is true while a maintenance window is open; `None` if the resource
/// has no windows.
fn window_condition(report: &StatusInput<'_>) -> Option<ConditionValue> {
    let maintenance = &report.cluster.spec.maintenance;
    let state = maintenance::state(maintenance, report.now)?;
    let until = state.until.map(|at| format!(" until {}", to_whole_seconds(at))).unwrap_or_default();
    let held = maintenance.holds.iter().map(|held| format!("{held:?}")).collect::<Vec<_>>().join(", ");
    Some(if state.open {
        ConditionValue::new(true, "Open", format!("nothing waits{until}"))
    } else {
        ConditionValue::new(false, "Closed", format!("these wait{until}: {held}"))
    })
}

fn ready_condition(report: &StatusInput<'_>) -> ConditionValue {
    let spec = &report.cluster.spec;
    if spec.hibernate {
        return hibernated_condition(report);
    }
    let is_away = |state: &&RolloutState| state.component != Component::Reader && !state.available;
    let mut away: Vec<&str> =
        report.rollout_states.iter().filter(is_away).map(|it| it.component.name()).collect();
    if report
        .reader_facts
        .is_some_and(|facts| facts.ready < facts.desired.min(spec.readers.min_replicas.max(1) as u32))
    {
        away.push("readers");
    }
    let has_all = Component::enabled_components(spec)
        .filter(|it| *it != Component::Reader)
        .all(|it| report.rollout_states.iter().any(|state| state.component == it));
    if !has_all {
        return ConditionValue::new(false, "Starting", "not everything has been made yet");
    }
    if away.is_empty() {
        return ConditionValue::new(true, "Serving", "every component answers");
    }
    ConditionValue::new(false, "Unavailable", format!("too few pods answer: {}", away.join(", ")))
}

/// Returns the condition Reconciling: it is true if something is not yet as the spec says, and the operator can change
/// that without help. The condition Reconciling is never true together with `Stalled`: kstatus reads only the first of
/// the two, and work that needs a person is not in progress.
fn reconciling_condition(report: &StatusInput<'_>) -> ConditionValue {
    if let Some(trouble) = all_troubles(report).into_iter().find(|trouble| trouble.needs_action) {
        return ConditionValue::new(false, &trouble.reason, "it does not get on by itself: see Stalled");
    }
    let (reason, words) = work_under_way(report);
    match (report.cluster.spec.paused, words.is_empty()) {
        (true, true) => {
            ConditionValue::new(false, "Paused", "spec.paused is set: nothing but status is written")
        }
        (true, false) => {
            let words = words.join("; ");
            ConditionValue::new(
                true,
                "Paused",
                format!("spec.paused is set, and not everything is as the spec says: {words}"),
            )
        }
        (false, true) => ConditionValue::new(false, "Done", "everything is as the spec says"),
        (false, false) => ConditionValue::new(true, &reason, words.join("; ")),
    }
}

/// Returns a reason and descriptions of everything that is not as the spec says yet; no descriptions if nothing is left
/// to do.
fn work_under_way(report: &StatusInput<'_>) -> (String, Vec<String>) {
    let facts = report.reader_facts.map(|facts| facts.progressing.as_slice()).unwrap_or_default();
    let mut words: Vec<String> = facts.iter().map(|fact| fact.message.clone()).collect();
    let mut reason = facts.first().map(|fact| fact.reason.clone());
    let hibernates = report.cluster.spec.hibernate && !report.components_with_pods.is_empty();
    if hibernates {
        reason = Some("Hibernating".to_owned());
        words = vec![format!(
            "to end, those who ask others first: {}",
            component_names(report.components_with_pods)
        )];
    }
    let rolling = report.rollout_states.iter().filter(|it| !it.is_rolled_out && !hibernates);
    let names: Vec<&str> = rolling.map(|state| state.component.name()).collect();
    if let Some((first, rest)) = names.split_first() {
        let waiting =
            if rest.is_empty() { String::new() } else { format!("; after it: {}", rest.join(", ")) };
        words.insert(0, format!("{first} is being rolled out{waiting}"));
        reason.get_or_insert_with(|| "RollingOut".to_owned());
    }
    let has = |component: &Component| report.rollout_states.iter().any(|state| state.component == *component);
    let missing: Vec<&str> = Component::enabled_components(&report.cluster.spec)
        .filter(|it| *it != Component::Reader && !has(it))
        .map(Component::name)
        .collect();
    if !missing.is_empty() {
        words.push(format!("to be made: {}", missing.join(", ")));
    }
    if let Some(facts) =
        report.reader_facts.filter(|facts| words.is_empty() && facts.desired != report.active_reader_count)
    {
        words.push(format!("{} readers are wanted, {} are there", facts.desired, report.active_reader_count));
    }
    let passing =
        report.other_problems.iter().filter(|trouble| !trouble.needs_action && trouble.is_failed_write);
    words.extend(passing.map(|trouble| trouble.message.clone()));
    if report.has_unwritten_objects && words.is_empty() {
        words.push("not everything could be written yet".to_owned());
    }
    (reason.unwrap_or_else(|| "Writing".to_owned()), words)
}

/// Returns all problems: those of the spec first, then those of writes and pods, failed roll-outs, and readers.
fn all_troubles(report: &StatusInput<'_>) -> Vec<ReportedProblem> {
    let problems = report.spec_problems.iter().map(|problem| ReportedProblem {
        reason: "Invalid".into(),
        message: problem.to_string(),
        needs_action: true,
        is_failed_write: false,
    });
    let failed = report.rollout_states.iter().filter_map(|state| {
        let (reason, said) = state.failure.as_ref()?;
        Some(ReportedProblem {
            reason: (*reason).into(),
            message: format!("{}: {said}", state.component.name()),
            needs_action: true,
            is_failed_write: false,
        })
    });
    let facts = report.reader_facts.map(|facts| facts.degraded.as_slice()).unwrap_or_default();
    let readers = facts.iter().map(|fact| ReportedProblem {
        reason: fact.reason.clone(),
        message: fact.message.clone(),
        needs_action: fact.reason == "UpgradeHalted",
        is_failed_write: false,
    });
    problems.chain(report.other_problems.iter().cloned()).chain(failed).chain(readers).collect()
}

fn degraded_condition(report: &StatusInput<'_>) -> ConditionValue {
    let all = all_troubles(report);
    let Some(first) = all.first() else {
        return ConditionValue::new(false, "AsExpected", "nothing is wrong");
    };
    let words: Vec<&str> = all.iter().map(|trouble| trouble.message.as_str()).collect();
    ConditionValue::new(true, &first.reason, words.join("; "))
}

fn contested_condition(report: &StatusInput<'_>) -> ConditionValue {
    if report.contested_fields.is_empty() {
        return ConditionValue::new(false, "Alone", "nobody else writes what the operator writes");
    }
    ConditionValue::new(true, "AnotherWriter", report.contested_fields.join("; "))
}

fn stalled_condition(report: &StatusInput<'_>) -> ConditionValue {
    match all_troubles(report).into_iter().find(|trouble| trouble.needs_action) {
        Some(trouble) => ConditionValue::new(true, &trouble.reason, trouble.message),
        None => ConditionValue::new(false, "NotStalled", "nothing waits for somebody"),
    }
}

fn autoscaling_condition(report: &StatusInput<'_>) -> ConditionValue {
    match report.reader_facts {
        Some(facts) => ConditionValue::new(
            facts.autoscaling.ok,
            &facts.autoscaling.reason,
            facts.autoscaling.message.clone(),
        ),
        None if report.cluster.spec.hibernate => {
            ConditionValue::new(false, "Hibernated", "spec.hibernate is set: there are no readers")
        }
        None => {
            ConditionValue::new(false, "CommentsDisabled", "comment.enabled is false: there are no readers")
        }
    }
}

fn update_pending_condition(report: &StatusInput<'_>) -> ConditionValue {
    if report.components_to_restart.is_empty() {
        return ConditionValue::new(false, "UpToDate", "the pods are as this operator builds them");
    }
    let names: Vec<&str> = report.components_to_restart.iter().map(|it| it.name()).collect();
    let maintenance = &report.cluster.spec.maintenance;
    let waits = maintenance::must_wait(maintenance, DeferrableWork::OperatorUpdates, report.now);
    let when = if waits { "in the next maintenance window" } else { "with the next change of the spec" };
    let message = format!(
        "this operator builds these pods differently, and restarts them {when}: {}",
        names.join(", ")
    );
    ConditionValue::new(true, "NewerBuilder", message)
}

fn component_status(state: &RolloutState) -> crd::ComponentStatus {
    crd::ComponentStatus {
        name: state.component.name().to_owned(),
        desired: state.desired,
        ready: state.ready,
        updated: state.updated,
    }
}

fn readers_status(report: &StatusInput<'_>, facts: &ReaderFacts) -> ReadersStatus {
    let labels = names::pod_selector(report.cluster.name(), Some(Component::Reader));
    let selector: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let time = facts.load_as_of.and_then(|at| Timestamp::from_millisecond(at).ok());
    ReadersStatus {
        replicas: report.active_reader_count as i32,
        selector: selector.join(","),
        desired: facts.desired as i32,
        unheeded_replicas: report.unheeded_replicas,
        ready: facts.ready as i32,
        draining: facts.draining as i32,
        viewers: facts.viewers.map(|viewers| round_to_two_digits(viewers) as i64),
        imbalance_percent: facts
            .imbalance_percent
            .map(|percent| round_to_two_digits(u64::from(percent)) as i32),
        zones: facts.zones.iter().map(zone_status).collect(),
        load_as_of: time.map(|time| Time(to_whole_seconds(time))),
    }
}

fn zone_status(facts: &ZoneFacts) -> ZoneStatus {
    ZoneStatus {
        name: facts.name.to_string(),
        readers: facts.readers as i32,
        viewers: round_to_two_digits(facts.viewers) as i64,
        other_zone_viewers: round_to_two_digits(facts.other_zone_viewers) as i64,
    }
}

/// Returns a decision in the short form of the history.
pub fn past_decision(decision: &Decision) -> PastDecision {
    let mut reason = decision.reason.clone();
    let end = (0..=reason.len().min(MAX_PAST_REASON_BYTES)).rev().find(|at| reason.is_char_boundary(*at));
    reason.truncate(end.unwrap_or(0));
    PastDecision {
        id: decision.id.clone(),
        time: api_time_of_millis(decision.time),
        action: decision.action.as_str().to_owned(),
        reason,
    }
}

fn waiting_plan(proposal: &Proposal) -> WaitingPlan {
    WaitingPlan {
        subject: proposal.subject.as_str().to_owned(),
        id: proposal.id.clone(),
        time: api_time_of_millis(proposal.made),
        expires: api_time_of_millis(proposal.expires),
        summary: proposal.summary.clone(),
        viewers_moved: i64::try_from(proposal.viewers_moved).unwrap_or(i64::MAX),
        effect: proposal.effect.clone(),
        steps: proposal.steps.clone(),
        inputs_hash: proposal.inputs_hash.clone(),
    }
}

fn api_time_of_millis(at: i64) -> Option<Time> {
    Timestamp::from_millisecond(at).ok().map(|time| Time(to_whole_seconds(time)))
}

fn last_decision(decision: &Decision) -> LastDecision {
    let inputs = &decision.inputs;
    LastDecision {
        id: decision.id.clone(),
        time: Timestamp::from_millisecond(decision.time).ok().map(|time| Time(to_whole_seconds(time))),
        action: decision.action.as_str().to_owned(),
        reason: decision.reason.clone(),
        inputs: Some(DecisionInputs {
            readers: inputs.readers as i32,
            fresh: inputs.fresh as i32,
            draining: inputs.draining as i32,
            viewers: round_to_two_digits(inputs.viewers) as i64,
            expected_viewers: round_to_two_digits(inputs.expected) as i64,
            raw: inputs.raw as i32,
            desired: inputs.desired as i32,
        }),
        bound_by: decision.bound_by.clone(),
        chosen: decision.chosen.clone(),
        rejected: decision.rejected.clone(),
        inputs_hash: decision.inputs_hash.clone(),
    }
}

/// Returns the last decisions in the form that is sent to managers, the latest first: the last one with its reasons,
/// and those before it in the short form of the history.
pub fn outside_decisions(last: Option<&Decision>, history: &[PastDecision]) -> Vec<OutsideDecision> {
    let latest = last.map(|decision| OutsideDecision {
        id: decision.id.clone(),
        at: decision.time,
        action: decision.action.as_str().to_owned(),
        reason: one_line(&decision.reason),
        bound_by: decision_lines(&decision.bound_by),
        chosen: decision_lines(&decision.chosen),
        rejected: decision_lines(&decision.rejected),
    });
    let before = history.iter().rev().filter(|past| last.is_none_or(|last| last.id != past.id));
    let before = before.map(|past| OutsideDecision {
        id: past.id.clone(),
        at: past.time.as_ref().map_or(0, |time| time.0.as_millisecond()),
        action: past.action.clone(),
        reason: one_line(&past.reason),
        ..OutsideDecision::default()
    });
    latest.into_iter().chain(before).take(MAX_OUTSIDE_DECISIONS).collect()
}

fn decision_lines(texts: &[String]) -> Vec<String> {
    texts.iter().take(MAX_DECISION_LINES).map(|text| one_line(text)).collect()
}

/// Returns the text without control characters, cut to the length that managers accept: a manager must not refuse the
/// renewal of a term because of a text for people.
fn one_line(text: &str) -> String {
    let end = (0..=text.len().min(Decision::MAX_REASON_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    let text = &text[..end.unwrap_or(0)];
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod kstatus;
#[cfg(test)]
mod tests;
