//! Plans that wait for somebody's word: `scaling.mode: Proposal`, `rebalance.mode: Proposal`. Pure.
//!
//! A plan that is made is told with what it costs and what it leads to, under a name that no other plan ever has. It is
//! carried out as it was told, once, when it is approved by that name. It is withdrawn as soon as what it was made from is
//! not so any more: its inputs have another hash, as many viewers more or less are concerned as a quarter, nothing is to be
//! done any more, or it is [`PLAN_EXPIRES_AFTER_MS`] old. Whoever leads next makes plans of its own.

use liverank_core::Millis;
use liverank_protocol::MoveRequest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::decision::{Action, DecisionEvent, cut_to_bytes};
use super::memory::ReaderMemory;
use super::seen::RoundInput;

/// How long a plan waits: what viewers do changes within an hour.
pub const PLAN_EXPIRES_AFTER_MS: Millis = 3_600_000;

/// What a plan is about; one of each waits at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlanSubject {
    /// How many readers there are.
    Scaling,
    /// A plan to move viewers between readers.
    Rebalance,
}

impl PlanSubject {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scaling => "Scaling",
            Self::Rebalance => "Rebalance",
        }
    }
}

/// A plan as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The subject of the plan.
    pub subject: PlanSubject,
    /// Its name, by which it is approved.
    pub id: String,
    /// When it was made.
    pub made: Millis,
    /// When it is withdrawn at the latest.
    pub expires: Millis,
    /// What would be done and why, in words.
    pub summary: String,
    /// The number of viewers who change readers by the plan.
    pub viewers_moved: u64,
    /// The effect of the plan, in words.
    pub effect: String,
    /// Its steps, at most ten.
    pub steps: Vec<String>,
    /// A hash of what it was made from.
    pub inputs_hash: String,
}

/// What a plan does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedAction {
    /// Another number of readers.
    Readers {
        /// How many readers there are.
        from: u32,
        /// How many readers there are to be.
        to: u32,
    },
    /// Orders for the managers.
    Moves(Vec<MoveRequest>),
}

/// What a plan was made from: a hash, and how many viewers were concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanBasis {
    /// The hash of the facts that must still hold when the plan is approved.
    pub hash: String,
    /// Viewers, who come and go.
    pub viewers: u64,
}

impl PlanBasis {
    /// Makes the basis of a plan from the facts that must still hold when the plan is approved.
    pub fn new(facts: &str, viewers: u64) -> Self {
        Self { hash: short_hash(facts), viewers }
    }

    /// Whether a plan made from this is still one for `now`.
    fn still_holds(&self, now: &Self) -> bool {
        let (less, more) = (self.viewers.min(now.viewers), self.viewers.max(now.viewers));
        self.hash == now.hash && (more - less) <= more / 4
    }
}

fn short_hash(text: &str) -> String {
    liverank_core::comment::to_hex(&Sha256::digest(text.as_bytes())[..8])
}

/// A plan that could be told.
#[derive(Debug, Clone)]
pub struct DraftPlan {
    /// The changes that the plan makes.
    pub plan: PlannedAction,
    /// The facts that the plan rests on.
    pub basis: PlanBasis,
    /// What would be done and why.
    pub summary: String,
    /// Viewers who would change readers.
    pub viewers_moved: u64,
    /// The effect of the plan, in words.
    pub effect: String,
    /// Its steps.
    pub steps: Vec<String>,
}

/// A plan that waits.
#[derive(Debug, Clone)]
pub struct WaitingProposal {
    /// The plan as the status shows it.
    pub shown_proposal: Proposal,
    /// The changes that the plan makes.
    pub plan: PlannedAction,
    basis: PlanBasis,
}

/// The result of a round.
#[derive(Debug, Default)]
pub struct SettledProposals {
    /// The plan that was approved, to be carried out now.
    pub approved: Option<PlannedAction>,
    /// The event to publish about the plan, if there is one.
    pub tale: Option<DecisionEvent>,
}

/// Looks at the plan that waits and at the one that would be made now. `basis`: what a plan would be made from now;
/// `None` where it cannot be carried out any more.
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
        let now = basis(&waiting.plan);
        seen.now < waiting.shown_proposal.expires && now.is_some_and(|now| waiting.basis.still_holds(&now))
    });
    if holds {
        let is_approved = waiting.is_some_and(|waiting| seen.approved.contains(&waiting.shown_proposal.id));
        let approved = if is_approved { memory.proposals.remove(&subject) } else { None };
        return SettledProposals {
            tale: approved.as_ref().map(|waiting| {
                let words =
                    format!("{} is approved: {}", waiting.shown_proposal.id, waiting.shown_proposal.summary);
                let action =
                    if subject == PlanSubject::Rebalance { Action::Rebalance } else { Action::Approved };
                DecisionEvent::new(action, words).with_chosen(waiting.shown_proposal.steps.iter().cloned())
            }),
            approved: approved.map(|waiting| waiting.plan),
        };
    }
    let waiting = make_waiting(seen, subject, draft);
    let told = &waiting.shown_proposal;
    let words = format!(
        "proposal {}: {}; {} viewers change readers; {}",
        told.id, told.summary, told.viewers_moved, told.effect
    );
    let tale = DecisionEvent::new(Action::Propose, words).with_chosen(told.steps.iter().cloned());
    memory.proposals.insert(subject, waiting);
    SettledProposals { approved: None, tale: Some(tale) }
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
    WaitingProposal { shown_proposal: told, plan: draft.plan, basis: draft.basis }
}
