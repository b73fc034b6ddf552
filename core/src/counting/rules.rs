//! The rules by which events count, and which of them can be changed without counting anew.

use super::unique::UniqueKinds;
use crate::score::Weights;

/// The rules by which events count: fixed for one generation of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountingRules {
    /// The points that each kind of event is worth.
    pub weights: Weights,
    /// The half-life of the trending board, in milliseconds.
    pub half_life_ms: u64,
    /// The types of events that count once per user and video.
    pub unique: UniqueKinds,
}

impl CountingRules {
    /// Checks that the scores by the rules `others` can be computed from the counts of an archive that was counted by
    /// these rules.
    ///
    /// # Errors
    /// The error says what differs, and that the log has to be counted anew.
    pub fn check_rescore(&self, others: &Self) -> Result<(), String> {
        const COUNT_ANEW_HINT: &str = "`rebuild mongodb` counts anew from the log";
        let (threshold, wanted) = (self.weights.watch_threshold_ms, others.weights.watch_threshold_ms);
        if threshold != wanted {
            return Err(format!(
                "the watch threshold is {threshold} ms in the archive and {wanted} ms now: how many watches are of \
                 either kind cannot be had from counts; {COUNT_ANEW_HINT}"
            ));
        }
        if !others.unique.includes_all(self.unique) {
            return Err(format!(
                "these types count once per user in the archive: {}; and these now: {}. Counts do not tell how often \
                 each user did it; {COUNT_ANEW_HINT}",
                self.unique, others.unique
            ));
        }
        if !self.unique.is_empty() && self.half_life_ms != others.half_life_ms {
            return Err(format!(
                "another half-life starts trending anew, and then what is taken back later cannot be told from what \
                 was never in it (once per user: {}); {COUNT_ANEW_HINT}",
                self.unique
            ));
        }
        Ok(())
    }
}

impl Default for CountingRules {
    fn default() -> Self {
        Self { weights: Weights::default(), half_life_ms: 360 * 60 * 1000, unique: UniqueKinds::default() }
    }
}
