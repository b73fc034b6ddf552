//! How many readers there should be.
//!
//! One pure function from reports, trend and policy to a number of readers and the reasons for it. What is not known is
//! never taken for "nothing": one fresh report is enough to scale up, scaling in needs every reader fresh and everybody
//! of one mind.

use serde::{Deserialize, Serialize};

use crate::{Millis, ReaderId};

/// What a decision keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Never fewer than this.
    pub min: u32,
    /// Never more than this; where it is below `min`, `min` wins.
    pub max: u32,
    /// Viewers a reader can hold; 0 counts as 1.
    pub viewers_per_reader: u64,
    /// How full readers should be, in thousandths of `viewers_per_reader`.
    pub target: u32,
    /// How far the wanted number may be off before anything is done, in thousandths of the current one.
    pub tolerance: u32,
    /// Readers are taken away only where fewer sufficed all this time, in milliseconds.
    pub down_stabilisation_ms: Millis,
    /// The most readers added in one decision.
    pub max_up_step: u32,
    /// The most readers taken away in one decision.
    pub max_down_step: u32,
    /// Adding waits this long after the last adding, in milliseconds, so that those on their way are seen.
    pub up_cooldown_ms: Millis,
    /// A report older than this says nothing, in milliseconds.
    pub report_max_age_ms: Millis,
    /// How long a new reader takes to serve: a rising demand is met this far ahead, in milliseconds.
    pub lead_ms: Millis,
    /// Two fresh reports on one reader, or two counts of readers, further apart than this contradict each other, in thousandths of the greater.
    pub contradiction: u32,
    /// Whether readers may be taken away at all.
    pub scale_in: bool,
}

impl Default for Policy {
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
        }
    }
}

/// What a decision is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// When this is.
    pub now: Millis,
    /// Readers wanted at present (what the last decision set), those being drained not counted.
    pub current: u32,
    /// The readers that should be there, each once; those being drained too, since their viewers go to the others.
    pub readers: Vec<ReaderId>,
    /// What is known of them, from whomever: several reports on one reader are compared, ones on others ignored.
    pub reports: Vec<Report>,
    /// What was decided before, and from how many viewers: at least the stabilisation window's worth, in any order.
    pub history: Vec<Past>,
}

/// What somebody says about a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The reader.
    pub reader: ReaderId,
    /// Viewers connected to it.
    pub viewers: u64,
    /// When it was so. One from the future counts as stale: some clock is wrong.
    pub at: Millis,
}

/// An earlier decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// When.
    pub at: Millis,
    /// Readers it wanted by its reports alone ([`Decision::raw`]).
    pub raw: u32,
    /// Readers it set ([`Decision::desired`]).
    pub desired: u32,
    /// Viewers it counted, where every reader was fresh.
    pub viewers: Option<u64>,
}

/// How many readers there should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The number.
    pub desired: u32,
    /// What changes.
    pub action: Action,
    /// What the reports alone ask for, before windows, steps and bounds.
    pub raw: u32,
    /// Viewers counted: at least so many are there.
    pub viewers: u64,
    /// Viewers expected when a reader added now would serve.
    pub expected: u64,
    /// Viewers a minute by which demand rises; 0 where it falls or is not known.
    pub rise_per_minute: u64,
    /// Readers whose reports are fresh and agree.
    pub fresh: u32,
    /// Readers in all.
    pub readers: u32,
    /// What held the number, in the order in which it did.
    pub bound_by: Vec<Bound>,
    /// Numbers that were considered and dropped, with the reason.
    pub rejected: Vec<(u32, Bound)>,
}

/// What a decision does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// More readers.
    Up,
    /// Fewer readers.
    Down,
    /// As many as there are.
    Hold,
}

/// What held a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
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
    /// More were needed within the window.
    Stabilisation,
    /// The history does not reach back over the whole window.
    ShortHistory,
    /// The most that may be taken away at once.
    DownStep,
    /// Taking readers away is paused.
    ScaleInPaused,
    /// Some readers have no fresh report.
    Stale,
    /// Fresh reports contradict each other.
    Contradiction,
    /// Demand is rising.
    Rising,
}

/// How many readers there should be. Pure and deterministic.
pub fn decide(inputs: &Inputs, policy: &Policy) -> Decision {
    let _ = policy;
    Decision {
        desired: inputs.current,
        action: Action::Hold,
        raw: inputs.current,
        viewers: 0,
        expected: 0,
        rise_per_minute: 0,
        fresh: 0,
        readers: inputs.readers.len() as u32,
        bound_by: Vec::new(),
        rejected: Vec::new(),
    }
}

impl Decision {
    /// What to keep of it for the next ones' [`Inputs::history`].
    pub fn past(&self, now: Millis) -> Past {
        let all = self.fresh == self.readers;
        Past { at: now, raw: self.raw, desired: self.desired, viewers: all.then_some(self.viewers) }
    }
}
