//! How many readers there should be.
//!
//! One pure function from reports, trend and policy to a number of readers and the reasons for it. A missing report never
//! counts as "no viewers": one fresh report is enough to add readers; to take readers away, there must be a fresh
//! report of every reader, and no two may contradict each other.

mod demand;
mod trend;
mod words;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::{Millis, ReaderId};

/// The settings that a decision keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    /// Never fewer than this.
    pub min: u32,
    /// Never more than this; where it is below `min`, `min` wins.
    pub max: u32,
    /// Viewers a reader can hold; 0 counts as 1.
    pub viewers_per_reader: u64,
    /// How full readers should be, in thousandths of `viewers_per_reader`.
    pub target: u32,
    /// Nothing is changed while the wanted number differs from the current one by less than this, in thousandths of the
    /// current one.
    pub tolerance: u32,
    /// Readers are taken away only if fewer were enough during all of this time, in milliseconds.
    pub down_stabilisation_ms: Millis,
    /// The most readers added in one decision.
    pub max_up_step: u32,
    /// The most readers taken away in one decision.
    pub max_down_step: u32,
    /// After readers were added, no more are added for this long, in milliseconds: the new ones must report first.
    pub up_cooldown_ms: Millis,
    /// A report older than this is not used, in milliseconds.
    pub report_max_age_ms: Millis,
    /// How long a new reader takes until it serves, in milliseconds. Demand is forecast this far ahead.
    pub lead_ms: Millis,
    /// Two fresh reports on one reader, or two counts of readers, further apart than this contradict each other, in thousandths of the greater.
    pub contradiction: u32,
    /// Whether readers may be taken away at all.
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

/// The facts that a decision is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingInputs {
    /// The time of the decision.
    pub now: Millis,
    /// Readers wanted at present (what the last decision set), those being drained not counted.
    pub current: u32,
    /// The readers that should be there, each once; those being drained too, since their viewers go to the others.
    pub readers: Vec<ReaderId>,
    /// Reports on them, from any number of managers. Reports on the same reader are compared; reports on readers that
    /// are not listed are ignored.
    pub reports: Vec<ReaderLoadReport>,
    /// What was decided before, and from how many viewers: at least the stabilisation window's worth, in any order.
    pub history: Vec<PastDecision>,
}

/// A report on a reader, by a manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLoadReport {
    /// The reader.
    pub reader: ReaderId,
    /// Viewers connected to it.
    pub viewers: u64,
    /// When it was measured. A report from the future counts as old: some clock is wrong.
    pub at: Millis,
}

/// An earlier decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastDecision {
    /// The time of the decision.
    pub at: Millis,
    /// Readers it wanted by its reports alone ([`ScalingDecision::raw`]).
    pub raw: u32,
    /// Readers it set ([`ScalingDecision::desired`]).
    pub desired: u32,
    /// Viewers it counted, where every reader was fresh.
    pub viewers: Option<u64>,
}

/// How many readers there should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingDecision {
    /// The number of readers there should be.
    pub desired: u32,
    /// The action that leads there.
    pub action: ScalingAction,
    /// What the reports alone ask for, before windows, steps and bounds.
    pub raw: u32,
    /// Viewers counted, or last known where nothing fresh is.
    pub viewers: u64,
    /// Viewers expected when a reader added now would serve.
    pub expected: u64,
    /// Viewers a minute by which demand rises; 0 where it falls or is not known.
    pub rise_per_minute: u64,
    /// Readers whose reports are fresh and agree.
    pub fresh: u32,
    /// The number of readers, with and without fresh reports.
    pub readers: u32,
    /// What held the number, in the order in which it did.
    pub bound_by: Vec<ScalingLimit>,
    /// Numbers that were considered and dropped, with the reason.
    pub rejected: Vec<(u32, ScalingLimit)>,
}

/// The action of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ScalingAction {
    /// More readers.
    Up,
    /// Fewer readers.
    Down,
    /// As many as there are.
    Hold,
}

/// The limit that held the number of readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ScalingLimit {
    /// The least there may be.
    Min,
    /// The most there may be.
    Max,
    /// Close enough to what is there.
    Tolerance,
    /// Added a moment ago.
    UpCooldown,
    /// The most that may be added at once.
    UpStep,
    /// More readers were needed within the stabilisation window than are needed now.
    Stabilisation,
    /// The history does not reach back over the whole window.
    ShortHistory,
    /// The most that may be taken away at once.
    DownStep,
    /// Taking readers away is paused.
    ScaleInPaused,
    /// Adding readers is paused.
    ScaleOutPaused,
    /// Some readers have no fresh report.
    Stale,
    /// Fresh reports contradict each other.
    Contradiction,
    /// Demand is rising.
    Rising,
    /// Readers taken away before are still being emptied.
    Draining,
}

/// How many readers there should be.
///
/// Pure and deterministic. Up: as soon as demand, or the demand expected by the time that a new reader serves, is more
/// than the readers should carry; reports that are missing count as what was last known, contradicting ones as the
/// greatest, and without any fresh report nothing is concluded. Down: only with every reader fresh and no contradiction,
/// only to what sufficed over the whole window, a step at a time, and not while readers are still being emptied.
pub fn decide_reader_count(inputs: &ScalingInputs, policy: &ScalingPolicy) -> ScalingDecision {
    let seen = demand::sum_reports(inputs, policy);
    let rise_per_minute =
        if seen.all_fresh() { trend::viewers_a_minute(inputs, policy, seen.viewers) } else { 0 };
    let ahead = u128::from(rise_per_minute) * policy.lead_ms.max(0) as u128 / 60_000;
    // A trend says little about more than twice of what is there.
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
    /// Whether two fresh counts of one reader's viewers are further apart than viewers come and go while reports travel:
    /// the set part of the greater, and a hundredth of a reader.
    pub fn contradicts(&self, least: u64, most: u64) -> bool {
        let apart = most.saturating_sub(least);
        u128::from(apart) * 1000 > u128::from(most) * u128::from(self.contradiction)
            && apart > self.viewers_per_reader / 100
    }

    /// Readers for this many viewers, as full as they should be.
    fn readers_for(&self, viewers: u64) -> u32 {
        let each = u128::from(self.viewers_per_reader.max(1)) * u128::from(self.target.max(1));
        (u128::from(viewers) * 1000).div_ceil(each).min(u128::from(u32::MAX)) as u32
    }

    fn max_readers(&self) -> u32 {
        self.max.max(self.min)
    }

    /// Do `readers` carry this many viewers, with the tolerance?
    fn is_carried_by(&self, viewers: u64, readers: u32) -> bool {
        let each = u128::from(self.viewers_per_reader.max(1)) * u128::from(self.target.max(1));
        u128::from(viewers) * 1_000_000 <= each * u128::from(readers) * (1000 + u128::from(self.tolerance))
    }
}

/// A decision in the making.
struct DecisionDraft<'a> {
    inputs: &'a ScalingInputs,
    policy: &'a ScalingPolicy,
    reported_demand: &'a demand::Seen,
    raw: u32,
    /// Without what is expected.
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
            // What there has to be at least needs no report, and no patience.
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

    /// Was a reader added within the cooldown?
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
        // More than there may be is no less too many for having been needed.
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
            // One that is wanted and not there yet has no report either.
            () if !self.reported_demand.all_fresh() || readers < current => Some(ScalingLimit::Stale),
            () if readers > current => Some(ScalingLimit::Draining),
            () if short => Some(ScalingLimit::ShortHistory),
            () => None,
        }
    }
}

impl ScalingDecision {
    /// What to keep of it for the next ones' [`ScalingInputs::history`].
    pub fn to_past(&self, now: Millis) -> PastDecision {
        let all = self.fresh == self.readers;
        PastDecision { at: now, raw: self.raw, desired: self.desired, viewers: all.then_some(self.viewers) }
    }
}

#[cfg(test)]
mod tests;
