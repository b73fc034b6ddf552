//! The settings of scaling, and what follows from them alone.

use serde::{Deserialize, Serialize};

use crate::Millis;

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
    pub(super) fn readers_for(&self, viewers: u64) -> u32 {
        let each = u128::from(self.viewers_per_reader.max(1)) * u128::from(self.target.max(1));
        (u128::from(viewers) * 1000).div_ceil(each).min(u128::from(u32::MAX)) as u32
    }

    pub(super) fn max_readers(&self) -> u32 {
        self.max.max(self.min)
    }

    /// Whether `readers` can carry this many viewers, with the tolerance.
    pub(super) fn can_carry(&self, viewers: u64, readers: u32) -> bool {
        let each = u128::from(self.viewers_per_reader.max(1)) * u128::from(self.target.max(1));
        u128::from(viewers) * 1_000_000 <= each * u128::from(readers) * (1000 + u128::from(self.tolerance))
    }
}
