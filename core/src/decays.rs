//! Half-lives of boards' own: decayed scores that an archive counts beside that of `trending`.
//!
//! A board may ask for a half-life, and for weights of its own with it. Such a pair is a [`Decay`]; boards that ask for the same one
//! share it. Of each that an archive counts, every video has a decayed score ([`DecayedScore`], by [`crate::trending`]), which
//! changes in the transaction that counts. An archive that begins to count one later has what happens from then on.
//!
//! A score is kept with the number of its events: one of which nothing is left is gone, and not a trace of what it was.
//!
//! What takes an event back takes off what the event added, where that is in the score. It is not where the event was counted without the
//! decay: before that was declared, or by a release that knows none. So each time that an archive begins to count a decay, or goes on
//! after such a gap, that is a new *run* of it; a mark says which runs its event is in.

use std::fmt;
use std::sync::Arc;

use crate::boards::BoardWeights;
use crate::counting::{CountingRules, LogRecord};
use crate::score::thousandths_added;
use crate::trending::{Log2Worths, log2_difference, log2_sum};
use crate::{Invalid, Millis, canary};

/// The most of them that boards may ask for: each is some 50 bytes in the document of each video, and one more sum for each event.
pub const MAX_DECAYS: usize = 4;
/// The longest half-life, in minutes: a year, as that of `trending`.
pub const MAX_HALF_LIFE_MINUTES: u64 = 525_600;
const MINUTE_MS: u64 = 60_000;

/// The half-life by which a score decays, and what an event is worth in that score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decay {
    /// The half-life in minutes, from 1 to [`MAX_HALF_LIFE_MINUTES`].
    half_life_minutes: u64,
    /// `None`: the weights of all.
    weights: Option<BoardWeights>,
}

impl Decay {
    /// The decay by this half-life and these weights; `None` stands for the weights of all.
    ///
    /// # Errors
    /// Names `halfLifeMinutes` where that is out of bounds.
    pub fn new(half_life_minutes: u64, weights: Option<BoardWeights>) -> Result<Self, Invalid> {
        if !(1..=MAX_HALF_LIFE_MINUTES).contains(&half_life_minutes) {
            let wrong = format!("must be a whole number from 1 to {MAX_HALF_LIFE_MINUTES}");
            return Err(Invalid::new("halfLifeMinutes", wrong));
        }
        Ok(Self { half_life_minutes, weights })
    }

    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (minutes, weights) = text.split_once(' ').map_or((text, None), |(it, rest)| (it, Some(rest)));
        let minutes = minutes.parse().map_err(|_| Invalid::new("halfLifeMinutes", "must be a number"))?;
        Self::new(minutes, weights.map(str::parse).transpose()?)
    }

    /// Its half-life, in minutes.
    pub const fn half_life_minutes(&self) -> u64 {
        self.half_life_minutes
    }

    /// Its half-life, in milliseconds.
    pub const fn half_life_ms(&self) -> u64 {
        self.half_life_minutes * MINUTE_MS
    }
}

/// As archives name it: the minutes, and the weights in thousandths where it has some of its own.
impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.half_life_minutes)?;
        self.weights.map_or(Ok(()), |weights| write!(f, " {weights}"))
    }
}

/// A decay that an archive counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedDecay {
    /// The decay.
    pub decay: Decay,
    /// Which run of it this is: a number that no other run of any decay has.
    pub run: u32,
    /// What the log took later than this is in the scores; of what came before, a part of it may be missing. `None`: all that was
    /// counted is in them.
    pub whole_after: Option<Millis>,
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
    /// The decays.
    pub fn iter(&self) -> std::slice::Iter<'_, CountedDecay> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is said of this decay, if it is counted.
    pub fn of(&self, decay: &Decay) -> Option<&CountedDecay> {
        self.iter().find(|counted| counted.decay == *decay)
    }

    /// These decays: those that are counted already as they are, the others from here on, where the last record that is counted was
    /// taken by the log at `counted`. `new_run` makes numbers that were never a run's.
    #[must_use]
    pub fn changed_to(
        &self,
        wanted: &[Decay],
        counted: Option<Millis>,
        mut new_run: impl FnMut() -> u32,
    ) -> Self {
        let of = |decay: &Decay| {
            let known = self.of(decay).copied();
            known.unwrap_or_else(|| CountedDecay { decay: *decay, run: new_run(), whole_after: counted })
        };
        wanted.iter().map(of).collect()
    }

    /// After a stretch of the log that was counted without decays, of which the last record was taken by the log at `until`.
    #[must_use]
    pub fn with_gap(&self, until: Option<Millis>, mut new_run: impl FnMut() -> u32) -> Self {
        let later = |counted: &CountedDecay| CountedDecay {
            run: new_run(),
            whole_after: counted.whole_after.max(until),
            ..*counted
        };
        self.iter().map(later).collect()
    }

    /// Counts an event in a video's scores, and returns what it added to each.
    pub(crate) fn count(
        &self,
        scores: &mut DecayedScores,
        record: &LogRecord,
        rules: &CountingRules,
        worths: &mut Log2Worths,
    ) -> Vec<RunPart> {
        let event = &record.event;
        if self.is_empty() || canary::is_canary(&event.video_id) {
            return Vec::new();
        }
        let added = |CountedDecay { decay, run, .. }: &CountedDecay| {
            let weights = decay.weights.map_or(rules.weights, |own| own.with_threshold(&rules.weights));
            let worth = thousandths_added(event, &weights);
            let log2 = worths.log2_worth(worth, event.timestamp, record.broker_time, decay.half_life_ms())?;
            scores.add(*decay, log2);
            Some(RunPart { run: *run, log2 })
        };
        self.iter().filter_map(added).collect()
    }

    /// Takes off what an event added in runs that go on.
    pub(crate) fn take_back(&self, scores: &mut DecayedScores, parts: &[RunPart]) {
        for RunPart { run, log2 } in parts {
            if let Some(counted) = self.iter().find(|counted| counted.run == *run) {
                scores.take_off(&counted.decay, *log2);
            }
        }
    }
}

/// What an event added to a decayed score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunPart {
    /// The run of the score's decay.
    pub run: u32,
    /// How much, as a logarithm.
    pub log2: f64,
}

/// The score of a video by a decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecayedScore {
    /// The decay.
    pub decay: Decay,
    /// The score, as a logarithm.
    pub log2: f64,
    /// How many events are in it.
    pub events: u64,
}

/// The scores of a video by decays, in the order of these. One that has no event is not among them.
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
    /// The scores.
    pub fn iter(&self) -> std::slice::Iter<'_, DecayedScore> {
        self.0.iter()
    }

    /// The scores, as they lie in memory.
    pub fn as_slice(&self) -> &[DecayedScore] {
        &self.0
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The score by this decay; negative infinity where there is none.
    pub fn log2_of(&self, decay: &Decay) -> f64 {
        self.place(decay).map_or(f64::NEG_INFINITY, |place| self.0[place].log2)
    }

    fn place(&self, decay: &Decay) -> Result<usize, usize> {
        self.0.binary_search_by_key(decay, |score| score.decay)
    }

    fn add(&mut self, decay: Decay, log2: f64) {
        match self.place(&decay) {
            Ok(place) => {
                let score = &mut self.0[place];
                (score.log2, score.events) = (log2_sum(score.log2, log2), score.events + 1);
            }
            Err(place) => self.0.insert(place, DecayedScore { decay, log2, events: 1 }),
        }
    }

    fn take_off(&mut self, decay: &Decay, log2: f64) {
        let Ok(place) = self.place(decay) else { return };
        let score = &mut self.0[place];
        if score.events <= 1 {
            self.0.remove(place);
            return;
        }
        (score.log2, score.events) = (log2_difference(score.log2, log2), score.events - 1);
    }

    /// Forgets those that are counted no more.
    pub(crate) fn keep(&mut self, counted: &CountedDecays) {
        self.0.retain(|score| counted.of(&score.decay).is_some());
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
