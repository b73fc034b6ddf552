//! Plans that wait for somebody's approval: `scaling.mode: Proposal`, `rebalance.mode: Proposal`. Pure.
//!
//! A new plan is reported with its cost and effect, under a name that no other plan ever has. It is carried out exactly
//! as reported, once, after it is approved by that name. It is withdrawn as soon as its basis has changed: its inputs
//! have another hash, the number of viewers concerned has changed by more than a quarter, there is nothing to do any
//! more, or it is [`PLAN_EXPIRES_AFTER_MS`] old. A new leader makes its own plans.

use liverank_core::Millis;
use liverank_protocol::MoveRequest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::decision::{DecisionAction, DecisionEvent, cut_to_bytes};
use super::memory::ReaderMemory;
use super::seen::RoundInput;

/// The time in milliseconds for which a plan waits for approval: within an hour the behaviour of viewers changes.
pub const PLAN_EXPIRES_AFTER_MS: Millis = 3_600_000;

/// The subject of a plan; at most one plan of each subject waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlanSubject {
    /// A plan to change the number of readers.
    Scaling,
    /// A plan to move viewers between readers.
    Rebalance,
}

impl PlanSubject {
    /// Returns the subject's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scaling => "Scaling",
            Self::Rebalance => "Rebalance",
        }
    }
}

/// A plan as the status reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The subject of the plan.
    pub subject: PlanSubject,
    /// The plan's name, by which it is approved.
    pub id: String,
    /// The time at which the plan was made, in milliseconds since 1970.
    pub made: Millis,
    /// The time at which the plan expires, in milliseconds since 1970.
    pub expires: Millis,
    /// The plan's actions and their reason, in words.
    pub summary: String,
    /// The number of viewers who change readers by the plan.
    pub viewers_moved: u64,
    /// The effect of the plan, in words.
    pub effect: String,
    /// The plan's steps, at most ten.
    pub steps: Vec<String>,
    /// A hash of the facts that the plan is based on.
    pub inputs_hash: String,
}

/// The action that a plan takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedAction {
    /// The number of readers is changed.
    Readers {
        /// The current number of readers.
        from: u32,
        /// The planned number of readers.
        to: u32,
    },
    /// Orders for the managers are given.
    Moves(Vec<MoveRequest>),
}

/// The basis of a plan: a hash of facts, and the number of viewers concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanBasis {
    /// The hash of the facts that must still hold when the plan is approved.
    pub hash: String,
    /// The number of viewers concerned; it may vary by a quarter.
    pub viewers: u64,
}

impl PlanBasis {
    /// Makes the basis of a plan from the facts that must still hold when the plan is approved.
    pub fn new(facts: &str, viewers: u64) -> Self {
        Self { hash: short_hash(facts), viewers }
    }

    /// Returns whether a plan with this basis is still valid with the basis `now`.
    fn still_holds(&self, now: &Self) -> bool {
        let (less, more) = (self.viewers.min(now.viewers), self.viewers.max(now.viewers));
        self.hash == now.hash && (more - less) <= more / 4
    }
}

fn short_hash(text: &str) -> String {
    liverank_core::comment::to_hex(&Sha256::digest(text.as_bytes())[..8])
}

/// A plan that is not reported yet.
#[derive(Debug, Clone)]
pub struct DraftPlan {
    /// The changes that the plan makes.
    pub action: PlannedAction,
    /// The basis of the plan: it has to hold until the plan is carried out.
    pub basis: PlanBasis,
    /// The plan's actions and their reason.
    pub summary: String,
    /// The number of viewers who would change readers.
    pub viewers_moved: u64,
    /// The effect of the plan, in words.
    pub effect: String,
    /// The plan's steps.
    pub steps: Vec<String>,
}

/// A plan that waits for approval.
#[derive(Debug, Clone)]
pub struct WaitingProposal {
    /// The plan as the status shows it.
    pub shown_proposal: Proposal,
    /// The changes that the plan makes.
    pub action: PlannedAction,
    basis: PlanBasis,
}

/// What a round decides about the waiting plan of one subject.
#[derive(Debug, Default)]
pub struct SettledProposals {
    /// The plan that was approved, to be carried out now.
    pub approved: Option<PlannedAction>,
    /// The event to publish about the plan, if there is one.
    pub event: Option<DecisionEvent>,
}

/// Decides whether the waiting plan of a subject is kept, carried out because it was approved, or replaced by `draft`.
/// `basis` returns the basis that a plan would have now; `None` if the plan cannot be carried out any more.
pub fn settle_proposals(
    seen: &RoundInput,
    memory: &mut ReaderMemory,
    subject: PlanSubject,
    draft: Option<DraftPlan>,
    basis: impl Fn(&PlannedAction) -> Option<PlanBasis>,
) -> SettledProposals {
    let Some(draft) = draft else {
        memory.proposals.remove(&subject);
        return SettledProposals::default();
    };
    let waiting = memory.proposals.get(&subject);
    let holds = waiting.is_some_and(|waiting| {
        let now = basis(&waiting.action);
        seen.now < waiting.shown_proposal.expires && now.is_some_and(|now| waiting.basis.still_holds(&now))
    });
    if holds {
        let is_approved = waiting.is_some_and(|waiting| seen.approved.contains(&waiting.shown_proposal.id));
        let approved = if is_approved { memory.proposals.remove(&subject) } else { None };
        return SettledProposals {
            event: approved.as_ref().map(|waiting| {
                let words =
                    format!("{} is approved: {}", waiting.shown_proposal.id, waiting.shown_proposal.summary);
                let action = if subject == PlanSubject::Rebalance {
                    DecisionAction::Rebalance
                } else {
                    DecisionAction::Approved
                };
                DecisionEvent::new(action, words).with_chosen(waiting.shown_proposal.steps.iter().cloned())
            }),
            approved: approved.map(|waiting| waiting.action),
        };
    }
    let waiting = make_waiting(seen, subject, draft);
    let told = &waiting.shown_proposal;
    let words = format!(
        "proposal {}: {}; {} viewers change readers; {}",
        told.id, told.summary, told.viewers_moved, told.effect
    );
    let tale = DecisionEvent::new(DecisionAction::Propose, words).with_chosen(told.steps.iter().cloned());
    memory.proposals.insert(subject, waiting);
    SettledProposals { approved: None, event: Some(tale) }
}

fn make_waiting(seen: &RoundInput, subject: PlanSubject, draft: DraftPlan) -> WaitingProposal {
    let named = format!("{} {} {} {}", seen.cluster, subject.as_str(), seen.now, draft.basis.hash);
    let told = Proposal {
        subject,
        id: short_hash(&named)[..10].to_owned(),
        made: seen.now,
        expires: seen.now + PLAN_EXPIRES_AFTER_MS,
        summary: cut_to_bytes(draft.summary, 512),
        viewers_moved: draft.viewers_moved,
        effect: cut_to_bytes(draft.effect, 256),
        steps: draft.steps.into_iter().take(10).map(|step| cut_to_bytes(step, 256)).collect(),
        inputs_hash: draft.basis.hash.clone(),
    };
    WaitingProposal { shown_proposal: told, action: draft.action, basis: draft.basis }
}
