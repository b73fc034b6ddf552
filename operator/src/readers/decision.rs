//! The decisions about readers that are reported: each once, when something changes.

use std::collections::BTreeMap;

use liverank_core::Millis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strum::{EnumCount, VariantArray};

use super::seen::RoundInput;

/// A decision about readers, with the numbers that it is based on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The decision's name: the same decision at the same time has the same name.
    pub id: String,
    /// The time of the decision in milliseconds since 1970.
    pub time: Millis,
    /// The action that was decided on.
    pub action: DecisionAction,
    /// The reason in words and numbers; at most [`Decision::MAX_REASON_BYTES`] bytes.
    pub reason: String,
    /// The numbers that the decision is based on.
    pub inputs: DecisionNumbers,
    /// The limits that restricted the decision; at most [`Decision::MAX_ENTRIES_LISTED`].
    pub bound_by: Vec<String>,
    /// The readers or moves that were chosen; at most [`Decision::MAX_ENTRIES_LISTED`].
    pub chosen: Vec<String>,
    /// The choices that were rejected, each with the reason; at most [`Decision::MAX_ENTRIES_LISTED`].
    pub rejected: Vec<String>,
    /// A hash of all inputs as 16 hexadecimal digits: the same inputs give the same hash.
    pub inputs_hash: String,
}

/// The numbers that a decision is based on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionNumbers {
    /// Number of readers that are not being emptied.
    pub readers: u32,
    /// Number of readers whose reports were recent and consistent.
    pub fresh: u32,
    /// Number of readers that are being emptied.
    pub draining: u32,
    /// Number of all viewers.
    pub viewers: u64,
    /// Viewers expected at the time at which a reader added now would serve.
    pub expected: u64,
    /// Number of readers needed for the viewers alone, before any limit.
    pub raw: u32,
    /// Number of readers that was decided.
    pub desired: u32,
}

impl Decision {
    /// The longest entry of a list in the status, in bytes.
    pub const MAX_ENTRY_BYTES: usize = 256;
    /// The longest reason, in bytes: an event's note is limited to 1,024 bytes.
    pub const MAX_REASON_BYTES: usize = 1_000;
    /// Maximal number of entries of a list in the status.
    pub const MAX_ENTRIES_LISTED: usize = 10;
}

/// The action of a decision, which is also the reason of the Kubernetes event about the decision.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, EnumCount, VariantArray,
)]
pub enum DecisionAction {
    /// Readers are added.
    ScaleUp,
    /// Readers begin to be emptied, because fewer are wanted.
    ScaleDown,
    /// A reader that was being emptied stays.
    Keep,
    /// An empty reader is removed.
    Remove,
    /// A reader is removed although it may have viewers.
    Force,
    /// Readers are being replaced.
    Upgrade,
    /// The replacement of readers is halted.
    Halt,
    /// Something that was halted continues.
    Resume,
    /// The replacement of readers is complete.
    Upgraded,
    /// Videos change readers.
    Rebalance,
    /// A plan waits to be approved.
    Propose,
    /// Another number of readers was approved.
    Approved,
    /// Nothing is done although something should be.
    Hold,
}

impl DecisionAction {
    /// All actions.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Returns the action's name, as in events and in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScaleUp => "ScaleUp",
            Self::ScaleDown => "ScaleDown",
            Self::Keep => "Keep",
            Self::Remove => "Remove",
            Self::Force => "Force",
            Self::Upgrade => "Upgrade",
            Self::Halt => "Halt",
            Self::Resume => "Resume",
            Self::Upgraded => "Upgraded",
            Self::Rebalance => "Rebalance",
            Self::Propose => "Propose",
            Self::Approved => "Approved",
            Self::Hold => "Hold",
        }
    }

    /// Parses an action from its name; `None` if there is no such action.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Returns whether the action needs somebody's attention.
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::Force | Self::Halt | Self::Hold)
    }
}

/// A decision before its name, time and numbers are added.
#[derive(Debug, Clone)]
pub(super) struct DecisionEvent {
    pub action: DecisionAction,
    pub reason: String,
    pub bound_by: Vec<String>,
    pub chosen: Vec<String>,
    pub rejected: Vec<String>,
}

impl DecisionEvent {
    pub fn new(action: DecisionAction, reason: impl Into<String>) -> Self {
        Self { action, reason: reason.into(), bound_by: Vec::new(), chosen: Vec::new(), rejected: Vec::new() }
    }

    pub fn with_chosen(mut self, chosen: impl IntoIterator<Item = String>) -> Self {
        self.chosen.extend(chosen);
        self
    }

    pub fn with_bound_by(mut self, bound_by: impl IntoIterator<Item = String>) -> Self {
        self.bound_by.extend(bound_by);
        self
    }

    pub fn with_rejected(mut self, rejected: impl IntoIterator<Item = String>) -> Self {
        self.rejected.extend(rejected);
        self
    }

    fn into_decision(self, seen: &RoundInput, inputs: DecisionNumbers, inputs_hash: &str) -> Decision {
        let list = |entries: Vec<String>| {
            let entries = entries.into_iter().take(Decision::MAX_ENTRIES_LISTED);
            entries.map(|entry| cut_to_bytes(entry, Decision::MAX_ENTRY_BYTES)).collect::<Vec<_>>()
        };
        let reason = cut_to_bytes(self.reason, Decision::MAX_REASON_BYTES);
        let named = format!("{} {} {reason} {inputs_hash}", seen.now, self.action.as_str());
        Decision {
            id: short_hash(named.as_bytes())[..12].to_owned(),
            time: seen.now,
            action: self.action,
            reason,
            inputs,
            bound_by: list(self.bound_by),
            chosen: list(self.chosen),
            rejected: list(self.rejected),
            inputs_hash: inputs_hash.to_owned(),
        }
    }
}

/// Returns the text, cut to at most `bytes` bytes at the boundary of a character.
pub(super) fn cut_to_bytes(mut text: String, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// Makes decisions from the round's events, with the numbers and the hash of the round's input.
pub(super) fn into_decisions(
    tales: Vec<DecisionEvent>,
    seen: &RoundInput,
    numbers: DecisionNumbers,
) -> Vec<Decision> {
    if tales.is_empty() {
        return Vec::new();
    }
    let inputs = serde_json::to_vec(seen).expect("plain data has a JSON form");
    let inputs_hash = &short_hash(&inputs)[..16];
    tales.into_iter().map(|tale| tale.into_decision(seen, numbers, inputs_hash)).collect()
}

fn short_hash(bytes: &[u8]) -> String {
    liverank_core::comment::to_hex(&Sha256::digest(bytes))
}

/// The time in milliseconds for which a reported state must have ended before it is reported again: a state that comes
/// and goes is reported once.
const REPORT_AGAIN_AFTER_MS: Millis = 60_000;

/// The lasting states (a hold, an upgrade) that were reported last, by topic. Events that happen once need no entry.
#[derive(Debug, Clone, Default)]
pub(super) struct ReportedStates {
    topics: BTreeMap<String, (String, Millis)>,
    /// The action and limits of the last decision in the status, from the previous leader.
    last_announced: Option<(DecisionAction, Vec<String>)>,
}

impl ReportedStates {
    pub fn new(last: Option<&Decision>) -> Self {
        let last = last.map(|it| (it.action, it.bound_by.clone()));
        Self { topics: BTreeMap::new(), last_announced: last }
    }

    /// Returns whether the state of a topic has to be reported, and notes the state. `None` stands for a topic without
    /// a state to report.
    pub fn is_news(&mut self, now: Millis, topic: &str, state: Option<(&str, &DecisionEvent)>) -> bool {
        let Some((state, tale)) = state else {
            if self.topics.get(topic).is_some_and(|(_, at)| now - at >= REPORT_AGAIN_AFTER_MS) {
                self.topics.remove(topic);
            }
            return false;
        };
        let before = self.topics.insert(topic.to_owned(), (state.to_owned(), now));
        // A new leader need not repeat the last report of the previous one.
        let repeats = before.is_none()
            && self.last_announced.take_if(|it| it.0 == tale.action && it.1 == tale.bound_by).is_some();
        before.is_none_or(|(before, _)| before != state) && !repeats
    }

    /// Returns the state of a topic that was noted last.
    pub fn last_state(&self, topic: &str) -> Option<&str> {
        self.topics.get(topic).map(|(state, _)| state.as_str())
    }

    /// Notes a topic's state without reporting it.
    pub fn note_state(&mut self, now: Millis, topic: &str, state: Option<&str>) {
        match state {
            Some(state) => drop(self.topics.insert(topic.to_owned(), (state.to_owned(), now))),
            None => drop(self.topics.remove(topic)),
        }
    }
}
