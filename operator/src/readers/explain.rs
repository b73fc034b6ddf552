//! The explanation of what the operator would do now: a round of a leader that has just begun.

use liverank_core::scaling;
use serde::{Deserialize, Serialize};

use super::facts::ReaderFacts;
use super::fleet::ReaderFleet;
use super::memory::ReaderMemory;
use super::scale;
use super::seen::RoundInput;
use super::view::LoadView;
use super::what_if::ReaderForecast;

/// The steps that the operator would take now, with its reasons; for `kubectl liverank explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The scaler's decision, in words and numbers.
    pub scaling: String,
    /// The steps that would be taken, in words. A leader that has just begun removes no reader, because it has not
    /// watched for long enough.
    pub would: Vec<String>,
    /// The names of the limits that bind the scaler.
    pub bound_by: Vec<String>,
    /// The changes that were considered and not made, with the reasons.
    pub rejected: Vec<String>,
    /// The readers; their state is `serving`, `draining`, `unready` or `going`, with `old` added if the template is
    /// old.
    pub readers: Vec<ReaderForecast>,
    /// The facts about readers that the resource's status shows.
    pub facts: ReaderFacts,
}

/// Returns the steps that the operator would take now, and the reasons for them.
pub fn explain(seen: &RoundInput) -> Explanation {
    let fresh = || ReaderMemory::new(seen.now, None, None);
    let outcome = super::decide_round(seen, &mut fresh());
    let view = LoadView::of(seen);
    let mut memory = fresh();
    let fleet = ReaderFleet::of(seen, &view, &mut memory);
    let decision: Option<scaling::ScalingDecision> =
        scale::decide_wanted_readers(seen, &view, &fleet, &mut memory).decision;
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
            videos: known.map_or(0, |known| known.assigned_videos),
            state: format!("{state}{template}"),
            zone: known.and_then(|known| known.zone.as_ref()).map(ToString::to_string),
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
