//! Scaling: the number of readers that there should be.
//!
//! Scaling is one pure function from reports, trend and policy to a number of readers and the reasons for it. A
//! missing report never counts as "no viewers": one fresh report is enough to add readers; to remove readers, there
//! must be a fresh report of every reader, and no two may contradict each other.

mod demand;
mod trend;
mod words;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::{Millis, ReaderId};

/// The settings that a scaling decision keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    /// The least number of readers.
    pub min: u32,
    /// The greatest number of readers; if it is below `min`, `min` is used.
    pub max: u32,
    /// The number of viewers that a reader can hold; 0 counts as 1.
    pub viewers_per_reader: u64,
    /// The wanted load of a reader, in thousandths of `viewers_per_reader`.
    pub target: u32,
    /// The difference between the wanted and the current number of readers below which nothing is changed, in
    /// thousandths of the current one.
    pub tolerance: u32,
    /// The stabilisation window, in milliseconds: readers are removed only if fewer would have been enough during all
    /// of it.
    pub down_stabilisation_ms: Millis,
    /// The most readers that one decision adds.
    pub max_up_step: u32,
    /// The most readers that one decision removes.
    pub max_down_step: u32,
    /// The time after adding readers in which no more are added, in milliseconds: the new ones must report first.
    pub up_cooldown_ms: Millis,
    /// The greatest age of a report that is used, in milliseconds.
    pub report_max_age_ms: Millis,
    /// The time until a new reader serves, in milliseconds. Demand is forecast this far ahead.
    pub lead_ms: Millis,
    /// The difference above which two fresh reports on one reader, or two counts of readers, contradict each other, in
    /// thousandths of the greater one.
    pub contradiction: u32,
    /// Whether readers may be removed at all.
    pub scale_in: bool,
    /// Whether readers may be added beyond `min`.
    pub scale_out: bool,
}

impl Default for ScalingPolicy {
    fn default() -> Self {
        Self {
            min: 2,
            max: 10,
            viewers_per_reader: 20_000,
            target: 800,
            tolerance: 50,
            down_stabilisation_ms: 300_000,
            max_up_step: 4,
            max_down_step: 1,
            up_cooldown_ms: 15_000,
            report_max_age_ms: 10_000,
            lead_ms: 60_000,
            contradiction: 200,
            scale_in: true,
            scale_out: true,
        }
    }
}

/// The facts from which a scaling decision is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingInputs {
    /// The time of the decision, in milliseconds since the Unix epoch.
    pub now: Millis,
    /// The number of readers that the last decision set, without those being drained.
    pub current: u32,
    /// The readers that should exist, each once; also those being drained, since their viewers go to the others.
    pub readers: Vec<ReaderId>,
    /// The reports on the readers, from any number of managers. Reports on the same reader are compared; reports on
    /// readers that are not listed are ignored.
    pub reports: Vec<ReaderLoadReport>,
    /// The earlier decisions, with the viewers they were made from: at least those of the stabilisation window, in any
    /// order.
    pub history: Vec<PastDecision>,
}

/// A manager's report on the load of a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLoadReport {
    /// The reader that the report is about.
    pub reader: ReaderId,
    /// The number of viewers connected to the reader.
    pub viewers: u64,
    /// The time of the measurement. A report from the future counts as old, because some clock is wrong.
    pub at: Millis,
}

/// An earlier scaling decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastDecision {
    /// The time of the decision.
    pub at: Millis,
    /// The number of readers that its reports alone asked for ([`ScalingDecision::raw`]).
    pub raw: u32,
    /// The number of readers that it set ([`ScalingDecision::desired`]).
    pub desired: u32,
    /// The number of viewers it counted; `None` if not every reader had a fresh report.
    pub viewers: Option<u64>,
}

/// A scaling decision: the number of readers that there should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingDecision {
    /// The number of readers there should be.
    pub desired: u32,
    /// The action that leads to that number.
    pub action: ScalingAction,
    /// The number of readers that the reports alone ask for, before windows, steps and bounds.
    pub raw: u32,
    /// The number of viewers counted; for readers without a fresh report, the last known number.
    pub viewers: u64,
    /// The number of viewers expected at the time when a reader added now would serve.
    pub expected: u64,
    /// The number of viewers a minute by which demand rises; 0 if it falls or is not known.
    pub rise_per_minute: u64,
    /// The number of readers whose reports are fresh and agree.
    pub fresh: u32,
    /// The number of readers, with and without fresh reports.
    pub readers: u32,
    /// The limits that held the number of readers, in the order in which they did.
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

/// A limit that held the number of readers.
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
/// Pure and deterministic. Up: as soon as the demand, or the demand expected by the time that a new reader serves, is
/// more than the readers should carry. Missing reports count as the last known ones, contradicting ones as the
/// greatest; without any fresh report, nothing is concluded. Down: only with a fresh report of every reader and no
/// contradiction, only to a number that would have been enough over the whole window, a step at a time, and not while
/// readers are still being emptied.
pub fn decide_reader_count(inputs: &ScalingInputs, policy: &ScalingPolicy) -> ScalingDecision {
    let seen = demand::sum_reports(inputs, policy);
    let rise_per_minute =
        if seen.all_fresh() { trend::viewers_a_minute(inputs, policy, seen.viewers) } else { 0 };
    let ahead = u128::from(rise_per_minute) * policy.lead_ms.max(0) as u128 / 60_000;
    // A trend says little about more than twice the present demand.
    let expected = seen.viewers.saturating_add(ahead.min(u128::from(seen.viewers)) as u64);
    let mut draft = DecisionDraft {
        inputs,
        policy,
        reported_demand: &seen,
        raw: policy.readers_for(expected),
        raw_now: policy.readers_for(seen.viewers),
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
        raw: draft.raw,
        viewers: seen.viewers,
        expected,
        rise_per_minute,
        fresh: seen.agreeing_readers,
        readers: inputs.readers.len() as u32,
        bound_by: draft.bound_by,
        rejected: draft.rejected,
    }
}

impl ScalingPolicy {
    /// Whether two fresh counts of one reader's viewers contradict each other: they differ by more than the set part
    /// of the greater one and by more than a hundredth of a reader, which viewers who come and go while reports travel
    /// do not explain.
    pub fn contradicts(&self, least: u64, most: u64) -> bool {
        let apart = most.saturating_sub(least);
        u128::from(apart) * 1000 > u128::from(most) * u128::from(self.contradiction)
            && apart > self.viewers_per_reader / 100
    }

    /// Returns the number of readers for this many viewers, each with the target load.
    fn readers_for(&self, viewers: u64) -> u32 {
        let each = u128::from(self.viewers_per_reader.max(1)) * u128::from(self.target.max(1));
        (u128::from(viewers) * 1000).div_ceil(each).min(u128::from(u32::MAX)) as u32
    }

    fn max_readers(&self) -> u32 {
        self.max.max(self.min)
    }

    /// Whether `readers` can carry this many viewers, with the tolerance.
    fn is_carried_by(&self, viewers: u64, readers: u32) -> bool {
        let each = u128::from(self.viewers_per_reader.max(1)) * u128::from(self.target.max(1));
        u128::from(viewers) * 1_000_000 <= each * u128::from(readers) * (1000 + u128::from(self.tolerance))
    }
}

/// A decision while it is being made.
struct DecisionDraft<'a> {
    inputs: &'a ScalingInputs,
    policy: &'a ScalingPolicy,
    reported_demand: &'a demand::Seen,
    raw: u32,
    /// The number of readers for the viewers counted now, without the expected rise.
    raw_now: u32,
    bound_by: Vec<ScalingLimit>,
    rejected: Vec<(u32, ScalingLimit)>,
}

impl DecisionDraft<'_> {
    fn drop(&mut self, number: u32, because: ScalingLimit) {
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
        if self.raw > current {
            return self.scale_up(expected);
        }
        if self.raw_now < current && self.raw == current {
            self.drop(self.raw_now, ScalingLimit::Rising);
        }
        if self.raw < current || current > policy.max_readers() { self.scale_down() } else { current }
    }

    fn scale_up(&mut self, expected: u64) -> u32 {
        let (current, policy) = (self.inputs.current, self.policy);
        let mut number = self.raw;
        if policy.is_carried_by(expected, current) {
            self.drop(number, ScalingLimit::Tolerance);
            return current;
        }
        if !policy.scale_out {
            self.drop(number, ScalingLimit::ScaleOutPaused);
            return current;
        }
        if number > policy.max_readers() {
            self.drop(number, ScalingLimit::Max);
            number = policy.max_readers();
        }
        if number <= current {
            return current;
        }
        if self.was_reader_added_lately() {
            self.drop(number, ScalingLimit::UpCooldown);
            return current;
        }
        let step = current.saturating_add(policy.max_up_step.max(1));
        if number > step {
            self.drop(number, ScalingLimit::UpStep);
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
        let mut number = self.raw;
        if number < policy.min {
            self.drop(number, ScalingLimit::Min);
            number = policy.min;
        }
        let since = self.inputs.now.saturating_sub(policy.down_stabilisation_ms);
        let within = self.inputs.history.iter().filter(|past| past.at >= since);
        let needed = within.map(|past| past.raw).max().unwrap_or(0);
        if needed > number {
            self.drop(number, ScalingLimit::Stabilisation);
            number = needed;
        }
        // A number above the bound is too large even if it was needed within the window.
        if number > policy.max_readers() {
            self.drop(number, ScalingLimit::Max);
            number = policy.max_readers();
        }
        if number >= current {
            return current;
        }
        if let Some(because) = self.limit_on_scale_down(since) {
            self.drop(number, because);
            return current;
        }
        let step = current.saturating_sub(policy.max_down_step.max(1));
        if number < step {
            self.drop(number, ScalingLimit::DownStep);
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
            () if !self.reported_demand.all_fresh() || readers < current => Some(ScalingLimit::Stale),
            () if readers > current => Some(ScalingLimit::Draining),
            () if short => Some(ScalingLimit::ShortHistory),
            () => None,
        }
    }
}

impl ScalingDecision {
    /// Returns what is kept of the decision in [`ScalingInputs::history`] of later ones.
    pub fn to_past(&self, now: Millis) -> PastDecision {
        let all = self.fresh == self.readers;
        PastDecision { at: now, raw: self.raw, desired: self.desired, viewers: all.then_some(self.viewers) }
    }
}

#[cfg(test)]
mod tests;
