//! Half-lives that boards have of their own: decayed scores that an archive counts beside the score of `trending`.
//!
//! A board may ask for a half-life of its own, and for weights with it. Such a pair is a [`Decay`]; boards that ask
//! for the same pair share it. For each decay that an archive counts, every video has a decayed score
//! ([`DecayedScore`], by [`crate::trending`]), which changes in the transaction that counts events. If an archive
//! begins to count a decay later, the scores hold what happens from then on.
//!
//! A score is stored with the number of its events: when the last event is taken back, the score is removed without
//! any rounding error left behind.
//!
//! Taking back an event subtracts what the event added, if that is in the score. The event's part is not in the score
//! if the event was counted without the decay: before the decay was declared, or by a release that does not know
//! decays. So each time an archive begins to count a decay, or goes on after such a gap, it begins a new *run* of the
//! decay; a mark says in which runs its event is counted.

use std::fmt;
use std::sync::Arc;

use crate::boards::weights::BoardWeights;
use crate::counting::record::LogRecord;
use crate::counting::rules::CountingRules;
use crate::score::thousandths_added;
use crate::trending::{Log2Worths, log2_difference, log2_sum};
use crate::{Invalid, Millis, canary};

/// The most decays that boards may have: each takes some 50 bytes in the document of each video, and one more sum for
/// each event.
pub const MAX_DECAYS: usize = 4;
/// The longest half-life, in minutes: one year, the same bound as for `trending`.
pub const MAX_HALF_LIFE_MINUTES: u64 = 525_600;
const MINUTE_MS: u64 = 60_000;

/// A decay: the half-life of a score, and the weights of the events in that score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decay {
    /// The half-life in minutes, from 1 to [`MAX_HALF_LIFE_MINUTES`].
    half_life_minutes: u64,
    /// The weights of events in the score; `None` for the weights of all boards.
    weights: Option<BoardWeights>,
}

impl Decay {
    /// Makes the decay with this half-life and these weights; `None` means the weights of all boards.
    ///
    /// # Errors
    /// The error names `halfLifeMinutes` if the half-life is out of bounds.
    pub fn new(half_life_minutes: u64, weights: Option<BoardWeights>) -> Result<Self, Invalid> {
        if !(1..=MAX_HALF_LIFE_MINUTES).contains(&half_life_minutes) {
            let wrong = format!("must be a whole number from 1 to {MAX_HALF_LIFE_MINUTES}");
            return Err(Invalid::new("halfLifeMinutes", wrong));
        }
        Ok(Self { half_life_minutes, weights })
    }

    /// Reads the text that [`fmt::Display`] writes.
    ///
    /// # Errors
    /// The error names the wrong field.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (minutes, weights) = text.split_once(' ').map_or((text, None), |(it, rest)| (it, Some(rest)));
        let minutes = minutes.parse().map_err(|_| Invalid::new("halfLifeMinutes", "must be a number"))?;
        Self::new(minutes, weights.map(str::parse).transpose()?)
    }

    /// Returns the half-life in minutes.
    pub const fn half_life_minutes(&self) -> u64 {
        self.half_life_minutes
    }

    /// Returns the half-life in milliseconds.
    pub const fn half_life_ms(&self) -> u64 {
        self.half_life_minutes * MINUTE_MS
    }
}

/// Writes the decay as archives name it: the minutes, and the weights in thousandths of a point if it has its own.
impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.half_life_minutes)?;
        self.weights.map_or(Ok(()), |weights| write!(f, " {weights}"))
    }
}

/// A decay that an archive counts, with the run that it counts now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedDecay {
    /// The decay that is counted.
    pub decay: Decay,
    /// The number of the current run of the decay; no other run of any decay has it.
    pub run: u32,
    /// The log's time after which every event is in the scores; of earlier events some may be missing. `None` if all
    /// counted events are in them.
    pub complete_after: Option<Millis>,
}

/// The decays that an archive counts. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountedDecays(Arc<[CountedDecay]>);

impl FromIterator<CountedDecay> for CountedDecays {
    fn from_iter<T: IntoIterator<Item = CountedDecay>>(decays: T) -> Self {
        Self(decays.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a CountedDecays {
    type Item = &'a CountedDecay;
    type IntoIter = std::slice::Iter<'a, CountedDecay>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl CountedDecays {
    /// Returns the counted decays.
    pub fn iter(&self) -> std::slice::Iter<'_, CountedDecay> {
        self.0.iter()
    }

    /// Whether no decay is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entry of this decay; `None` if the decay is not counted.
    pub fn find(&self, decay: &Decay) -> Option<&CountedDecay> {
        self.iter().find(|counted| counted.decay == *decay)
    }

    /// Returns the entries for the `wanted` decays: known ones unchanged, new ones as counted from here on. `counted`
    /// is the log's time of the last record that has been counted. `new_run` returns numbers that no run ever had.
    #[must_use]
    pub fn with_wanted_decays(
        &self,
        wanted: &[Decay],
        counted: Option<Millis>,
        mut new_run: impl FnMut() -> u32,
    ) -> Self {
        let of = |decay: &Decay| {
            let known = self.find(decay).copied();
            known.unwrap_or_else(|| CountedDecay { decay: *decay, run: new_run(), complete_after: counted })
        };
        wanted.iter().map(of).collect()
    }

    /// Returns the entries after a part of the log was counted without decays: every decay begins a new run. `until`
    /// is the log's time of the last record of that part.
    #[must_use]
    pub fn with_counting_gap(&self, until: Option<Millis>, mut new_run: impl FnMut() -> u32) -> Self {
        let later = |counted: &CountedDecay| CountedDecay {
            run: new_run(),
            complete_after: counted.complete_after.max(until),
            ..*counted
        };
        self.iter().map(later).collect()
    }

    /// Counts an event in a video's scores, and returns what it added to each score.
    pub(crate) fn count_event(
        &self,
        scores: &mut DecayedScores,
        record: &LogRecord,
        rules: &CountingRules,
        worths: &mut Log2Worths,
    ) -> Vec<DecayContribution> {
        let event = &record.event;
        if self.is_empty() || canary::is_canary(&event.video_id) {
            return Vec::new();
        }
        let added = |CountedDecay { decay, run, .. }: &CountedDecay| {
            let weights = decay.weights.map_or(rules.weights, |own| own.to_weights(&rules.weights));
            let worth = thousandths_added(event, &weights);
            let log2 = worths.log2_worth(worth, event.timestamp, record.broker_time, decay.half_life_ms())?;
            scores.add(*decay, log2);
            Some(DecayContribution { run: *run, log2 })
        };
        self.iter().filter_map(added).collect()
    }

    /// Subtracts what an event added in runs that still go on.
    pub(crate) fn subtract_contributions(&self, scores: &mut DecayedScores, parts: &[DecayContribution]) {
        for DecayContribution { run, log2 } in parts {
            if let Some(counted) = self.iter().find(|counted| counted.run == *run) {
                scores.subtract(&counted.decay, *log2);
            }
        }
    }
}

/// The amount that one event added to a decayed score in one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecayContribution {
    /// The run of the score's decay in which the event was counted.
    pub run: u32,
    /// The amount that the event added, as a logarithm.
    pub log2: f64,
}

/// The score of a video by one decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecayedScore {
    /// The decay of the score.
    pub decay: Decay,
    /// The score, as a logarithm.
    pub log2: f64,
    /// The number of events in the score.
    pub event_count: u64,
}

/// The scores of a video by decays, sorted by decay. A decay without an event has no score here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecayedScores(Vec<DecayedScore>);

impl FromIterator<DecayedScore> for DecayedScores {
    fn from_iter<T: IntoIterator<Item = DecayedScore>>(scores: T) -> Self {
        let mut scores: Vec<DecayedScore> = scores.into_iter().collect();
        scores.sort_unstable_by_key(|score| score.decay);
        Self(scores)
    }
}

impl DecayedScores {
    /// Returns the scores, sorted by decay.
    pub fn iter(&self) -> std::slice::Iter<'_, DecayedScore> {
        self.0.iter()
    }

    /// Returns the scores as a slice, sorted by decay.
    pub fn as_slice(&self) -> &[DecayedScore] {
        &self.0
    }

    /// Whether there are no scores.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the score by this decay, as a logarithm; negative infinity if there is none.
    pub fn log2_of(&self, decay: &Decay) -> f64 {
        self.find_index(decay).map_or(f64::NEG_INFINITY, |place| self.0[place].log2)
    }

    fn find_index(&self, decay: &Decay) -> Result<usize, usize> {
        self.0.binary_search_by_key(decay, |score| score.decay)
    }

    fn add(&mut self, decay: Decay, log2: f64) {
        match self.find_index(&decay) {
            Ok(place) => {
                let score = &mut self.0[place];
                (score.log2, score.event_count) = (log2_sum(score.log2, log2), score.event_count + 1);
            }
            Err(place) => self.0.insert(place, DecayedScore { decay, log2, event_count: 1 }),
        }
    }

    fn subtract(&mut self, decay: &Decay, log2: f64) {
        let Ok(place) = self.find_index(decay) else { return };
        let score = &mut self.0[place];
        if score.event_count <= 1 {
            self.0.remove(place);
            return;
        }
        (score.log2, score.event_count) = (log2_difference(score.log2, log2), score.event_count - 1);
    }

    /// Removes the scores of decays that are no longer counted.
    pub(crate) fn retain_counted(&mut self, counted: &CountedDecays) {
        self.0.retain(|score| counted.find(&score.decay).is_some());
    }
}

impl<'a> IntoIterator for &'a DecayedScores {
    type Item = &'a DecayedScore;
    type IntoIter = std::slice::Iter<'a, DecayedScore>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
