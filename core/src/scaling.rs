//! Scaling: the number of readers that there should be.
//!
//! Scaling is one pure function from reports, trend and policy to a number of readers and the reasons for it. A
//! missing report never counts as "no viewers": one fresh report is enough to add readers; to remove readers, there
//! must be a fresh report of every reader, and no two may contradict each other.

mod demand;
mod inputs;
mod policy;
mod trend;
mod words;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::Millis;
pub use inputs::{PastDecision, ReaderLoadReport, ScalingInputs};
pub use policy::ScalingPolicy;

/// A scaling decision: the number of readers that there should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingDecision {
    /// The number of readers there should be.
    pub desired: u32,
    /// The action that leads to the desired number of readers.
    pub action: ScalingAction,
    /// The number of readers that the reports alone ask for, before windows, steps and bounds.
    pub raw: u32,
    /// The number of viewers of all readers; for a reader without a fresh report, the number in its latest report
    /// counts.
    pub viewers: u64,
    /// The number of viewers expected at the time when a reader added now would serve.
    pub expected: u64,
    /// The number of viewers a minute by which demand rises; 0 if it falls or is not known.
    pub rise_per_minute: u64,
    /// The number of readers whose reports are fresh and agree.
    pub fresh: u32,
    /// The number of readers, with and without fresh reports.
    pub readers: u32,
    /// The limits that changed the decided number of readers, in the order in which they applied.
    pub bound_by: Vec<ScalingLimit>,
    /// The numbers of readers that were considered and dropped, each with the limit that was the reason.
    pub rejected: Vec<(u32, ScalingLimit)>,
}

/// The action of a scaling decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ScalingAction {
    /// Readers are added.
    Up,
    /// Readers are removed.
    Down,
    /// The number of readers stays the same.
    Hold,
}

/// A limit that kept a scaling decision from another number of readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ScalingLimit {
    /// The least number of readers that the policy permits.
    Min,
    /// The greatest number of readers that the policy permits.
    Max,
    /// The current number is close enough to the wanted one.
    Tolerance,
    /// Readers were added a moment ago.
    UpCooldown,
    /// The most readers that may be added at once.
    UpStep,
    /// More readers were needed within the stabilisation window than are needed now.
    Stabilisation,
    /// The history does not cover the whole stabilisation window.
    ShortHistory,
    /// The most readers that may be removed at once.
    DownStep,
    /// Removing readers is paused.
    ScaleInPaused,
    /// Adding readers is paused.
    ScaleOutPaused,
    /// Some readers have no fresh report.
    Stale,
    /// Fresh reports contradict each other.
    Contradiction,
    /// Demand is rising.
    Rising,
    /// Readers that were removed before are still being emptied.
    Draining,
}

/// Decides how many readers there should be.
///
/// Pure and deterministic. Readers are added as soon as the demand, or the demand expected by the time that a new
/// reader serves, is more than the readers should carry. For a reader without a fresh report, its last known report
/// counts, and of contradicting reports the greatest; without any fresh report, the number of readers stays the same.
/// Readers are removed only with a fresh report on every reader and no contradiction, only down to a number that would
/// have been enough over the whole stabilisation window, only a limited number at once, and not while readers are still
/// being emptied.
pub fn decide_reader_count(inputs: &ScalingInputs, policy: &ScalingPolicy) -> ScalingDecision {
    let seen = demand::sum_reports(inputs, policy);
    let rise_per_minute = if seen.has_fresh_report_of_all() {
        trend::viewer_rise_per_minute(inputs, policy, seen.viewer_count)
    } else {
        0
    };
    let ahead = u128::from(rise_per_minute) * policy.lead_ms.max(0) as u128 / 60_000;
    // A trend says little about more than twice the present demand.
    let expected = seen.viewer_count.saturating_add(ahead.min(u128::from(seen.viewer_count)) as u64);
    let mut draft = DecisionDraft {
        inputs,
        policy,
        reported_demand: &seen,
        raw_reader_count: policy.readers_for(expected),
        raw_reader_count_now: policy.readers_for(seen.viewer_count),
        bound_by: Vec::new(),
        rejected: Vec::new(),
    };
    let desired = draft.desired_readers(expected);
    let action = match desired.cmp(&inputs.current) {
        Ordering::Greater => ScalingAction::Up,
        Ordering::Less => ScalingAction::Down,
        Ordering::Equal => ScalingAction::Hold,
    };
    ScalingDecision {
        desired,
        action,
        raw: draft.raw_reader_count,
        viewers: seen.viewer_count,
        expected,
        rise_per_minute,
        fresh: seen.agreeing_readers,
        readers: inputs.readers.len() as u32,
        bound_by: draft.bound_by,
        rejected: draft.rejected,
    }
}

/// A scaling decision while it is being made.
struct DecisionDraft<'a> {
    inputs: &'a ScalingInputs,
    policy: &'a ScalingPolicy,
    reported_demand: &'a demand::ReportedDemand,
    raw_reader_count: u32,
    /// The number of readers for the viewers counted now, without the expected rise.
    raw_reader_count_now: u32,
    bound_by: Vec<ScalingLimit>,
    rejected: Vec<(u32, ScalingLimit)>,
}

impl DecisionDraft<'_> {
    fn reject_reader_count(&mut self, number: u32, because: ScalingLimit) {
        self.bound_by.push(because);
        self.rejected.push((number, because));
    }

    fn desired_readers(&mut self, expected: u64) -> u32 {
        let (current, policy) = (self.inputs.current, self.policy);
        if current < policy.min {
            // The least number needs no report and no waiting.
            self.bound_by.push(ScalingLimit::Min);
            return policy.min;
        }
        if self.reported_demand.readers_with_report == 0 && !self.inputs.readers.is_empty() {
            self.bound_by.push(ScalingLimit::Stale);
            return current;
        }
        if self.raw_reader_count > current {
            return self.scale_up(expected);
        }
        if self.raw_reader_count_now < current && self.raw_reader_count == current {
            self.reject_reader_count(self.raw_reader_count_now, ScalingLimit::Rising);
        }
        if self.raw_reader_count < current || current > policy.max_readers() {
            self.scale_down()
        } else {
            current
        }
    }

    fn scale_up(&mut self, expected: u64) -> u32 {
        let (current, policy) = (self.inputs.current, self.policy);
        let mut number = self.raw_reader_count;
        if policy.can_carry(expected, current) {
            self.reject_reader_count(number, ScalingLimit::Tolerance);
            return current;
        }
        if !policy.scale_out {
            self.reject_reader_count(number, ScalingLimit::ScaleOutPaused);
            return current;
        }
        if number > policy.max_readers() {
            self.reject_reader_count(number, ScalingLimit::Max);
            number = policy.max_readers();
        }
        if number <= current {
            return current;
        }
        if self.was_reader_added_lately() {
            self.reject_reader_count(number, ScalingLimit::UpCooldown);
            return current;
        }
        let step = current.saturating_add(policy.max_up_step.max(1));
        if number > step {
            self.reject_reader_count(number, ScalingLimit::UpStep);
            number = step;
        }
        number
    }

    /// Whether a reader was added within the cooldown.
    fn was_reader_added_lately(&self) -> bool {
        let mut history: Vec<&PastDecision> = self.inputs.history.iter().collect();
        history.sort_by_key(|past| past.at);
        let since = self.inputs.now.saturating_sub(self.policy.up_cooldown_ms);
        history.windows(2).any(|pair| pair[1].desired > pair[0].desired && pair[1].at > since)
    }

    fn scale_down(&mut self) -> u32 {
        let (current, policy) = (self.inputs.current, self.policy);
        let mut number = self.raw_reader_count;
        if number < policy.min {
            self.reject_reader_count(number, ScalingLimit::Min);
            number = policy.min;
        }
        let since = self.inputs.now.saturating_sub(policy.down_stabilisation_ms);
        let within = self.inputs.history.iter().filter(|past| past.at >= since);
        let needed = within.map(|past| past.raw).max().unwrap_or(0);
        if needed > number {
            self.reject_reader_count(number, ScalingLimit::Stabilisation);
            number = needed;
        }
        // A number above the bound is too large even if it was needed within the window.
        if number > policy.max_readers() {
            self.reject_reader_count(number, ScalingLimit::Max);
            number = policy.max_readers();
        }
        if number >= current {
            return current;
        }
        if let Some(because) = self.limit_on_scale_down(since) {
            self.reject_reader_count(number, because);
            return current;
        }
        let step = current.saturating_sub(policy.max_down_step.max(1));
        if number < step {
            self.reject_reader_count(number, ScalingLimit::DownStep);
            number = step;
        }
        number
    }

    fn limit_on_scale_down(&self, since: Millis) -> Option<ScalingLimit> {
        let (readers, current) = (self.inputs.readers.len(), self.inputs.current as usize);
        let short = !self.inputs.history.iter().any(|past| past.at <= since);
        match () {
            () if !self.policy.scale_in => Some(ScalingLimit::ScaleInPaused),
            () if self.reported_demand.contradicting_readers > 0 => Some(ScalingLimit::Contradiction),
            // A reader that is wanted and does not exist yet has no report either.
            () if !self.reported_demand.has_fresh_report_of_all() || readers < current => {
                Some(ScalingLimit::Stale)
            }
            () if readers > current => Some(ScalingLimit::Draining),
            () if short => Some(ScalingLimit::ShortHistory),
            () => None,
        }
    }
}

impl ScalingDecision {
    /// Returns the part of the decision that is kept in [`ScalingInputs::history`] for later decisions.
    pub fn to_past(&self, now: Millis) -> PastDecision {
        let all = self.fresh == self.readers;
        PastDecision { at: now, raw: self.raw, desired: self.desired, viewers: all.then_some(self.viewers) }
    }
}

#[cfg(test)]
mod tests;
