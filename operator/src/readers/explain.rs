//! What would be done now, and why: a round as a leader would have it that has just begun.

use liverank_core::scaling;
use serde::{Deserialize, Serialize};

use super::facts::ReaderFacts;
use super::fleet::ReaderFleet;
use super::memory::ReaderMemory;
use super::scale;
use super::seen::RoundInput;
use super::view::LoadView;
use super::what_if::ReaderForecast;

/// What the operator would do now, with its reasons: for `kubectl liverank explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What the scaler says, in words and numbers.
    pub scaling: String,
    /// What would be done, in words. One who has just begun takes no reader away: it has not looked for long enough.
    pub would: Vec<String>,
    /// The names of the limits that bind the scaler.
    pub bound_by: Vec<String>,
    /// The changes that were considered and not made, with the reasons.
    pub rejected: Vec<String>,
    /// The readers: `serving`, `draining`, `unready`, `going`; and `old` beside it.
    pub readers: Vec<ReaderForecast>,
    /// The facts that the resource's status shows.
    pub facts: ReaderFacts,
}

/// What would be done now, and why.
pub fn explain(seen: &RoundInput) -> Explanation {
    let fresh = || ReaderMemory::new(seen.now, None, None);
    let outcome = super::decide_round(seen, &mut fresh());
    let view = LoadView::of(seen);
    let mut memory = fresh();
    let fleet = ReaderFleet::of(seen, &view, &mut memory);
    let decision: Option<scaling::ScalingDecision> = scale::wanted(seen, &view, &fleet, &mut memory).decision;
    let readers = fleet.members.iter().map(|member| {
        let known = view.known_reader(&member.name);
        let state = match () {
            () if member.deleting => "going",
            () if member.drain.is_some() => "draining",
            () if member.serving => "serving",
            () => "unready",
        };
        let template = if member.has_wanted_template { "" } else { ", old" };
        ReaderForecast {
            reader: member.name.clone(),
            viewers: member.viewers,
            capacity: known.map_or(0, |known| known.capacity),
            videos: known.map_or(0, |known| known.assigned),
            state: format!("{state}{template}"),
        }
    });
    Explanation {
        scaling: decision.as_ref().map_or_else(
            || format!("{} readers, as spec.readers.replicas says", outcome.facts.desired),
            scaling::ScalingDecision::explain,
        ),
        would: outcome.steps.iter().map(super::ReaderStep::describe).collect(),
        bound_by: decision.as_ref().map(scale::bound_names).unwrap_or_default(),
        rejected: decision.as_ref().map(scale::rejected_texts).unwrap_or_default(),
        readers: readers.collect(),
        facts: outcome.facts,
    }
}
