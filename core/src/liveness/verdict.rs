//! Which readers have to be replaced, and which status of a reader the manager may act on.

use std::collections::BTreeSet;
use std::time::Instant;

use super::reader::ReaderLiveness;
use super::report::ReaderReport;
use super::time_limits::MISSING_AFTER_SILENCE;
use super::watch::ReaderWatch;
use crate::ReaderId;
use crate::handover::CordonLevel;
use crate::handover::coordinator::ReaderStatus;

/// The reason for which nothing is moved although readers seem gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// The view is too old to act on.
    Stale,
    /// So many readers seem gone that it is more likely this manager that is cut off.
    TooManyGone {
        /// The number of readers that seem gone.
        missing: usize,
        /// The number of all readers that are counted.
        readers: usize,
    },
}

/// The actions that follow from the readers' silence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadersVerdict {
    /// Readers whose videos have to be given to other readers.
    pub readers_to_replace: BTreeSet<ReaderId>,
    /// The reason for which readers that seem gone are not among them; `None` if there is no such reason.
    pub hold_reason: Option<HoldReason>,
}

impl<R: ReaderReport> ReaderWatch<R> {
    /// Decides which readers are to be replaced. `serves`: whether a reader has videos. `removed`: whether a planner
    /// removed a reader.
    pub fn decide_about_readers(
        &self,
        now: Instant,
        serves: impl Fn(&ReaderId) -> bool,
        removed: impl Fn(&ReaderId) -> bool,
    ) -> ReadersVerdict {
        if !self.is_view_recent(now) {
            return ReadersVerdict {
                readers_to_replace: BTreeSet::new(),
                hold_reason: Some(HoldReason::Stale),
            };
        }
        let is_lost = |sighting: &ReaderLiveness<R>| {
            self.status_of(sighting) == ReaderStatus::Gone || sighting.is_unreachable()
        };
        // A reader that said it was leaving, or was removed, is expected to fall silent, and a lost reader without
        // videos was already replaced: neither shows anything about this manager's own connection.
        let counted: Vec<&ReaderLiveness<R>> = self
            .readers
            .values()
            .filter(|sighting| !removed(sighting.last_record.reader_id()))
            .filter(|sighting| !is_lost(sighting) || serves(sighting.last_record.reader_id()))
            .collect();
        let missing = counted.iter().filter(|sighting| self.seems_gone(sighting)).count();
        let too_many = missing > (counted.len() / 3).max(1);
        let leaving = self
            .readers
            .values()
            .filter(|sighting| sighting.last_record.is_leaving() || (is_lost(sighting) && !too_many));
        ReadersVerdict {
            readers_to_replace: leaving.map(|sighting| sighting.last_record.reader_id().clone()).collect(),
            hold_reason: too_many.then_some(HoldReason::TooManyGone { missing, readers: counted.len() }),
        }
    }

    /// Returns the status of a reader by which a manager may act; `None` if the reader is not known. A reader that its
    /// operator removed is gone, whatever it reports. Any other reader is gone only if this manager may act on that:
    /// never by a stale view, and not while so many readers seem gone that the manager itself is more likely cut off.
    /// `verdict` is what [`ReaderWatch::decide_about_readers`] last returned.
    pub fn status_to_act_on(
        &self,
        now: Instant,
        reader: &ReaderId,
        cordon: Option<CordonLevel>,
        verdict: &ReadersVerdict,
    ) -> Option<ReaderStatus> {
        if cordon == Some(CordonLevel::Removed) {
            return Some(ReaderStatus::Gone);
        }
        let Some(sighting) = self.get(reader) else {
            return self.is_settled(now).then_some(ReaderStatus::Gone);
        };
        let may_act = || self.is_view_recent(now) && verdict.readers_to_replace.contains(reader);
        let is_lost = || self.status_of(sighting) == ReaderStatus::Gone || sighting.is_unreachable();
        Some(match self.status_of(sighting) {
            _ if is_lost() && may_act() => ReaderStatus::Gone,
            // Silent or not: it said that it leaves, and its end is expected.
            _ if sighting.last_record.is_leaving() => ReaderStatus::Leaving,
            ReaderStatus::Alive if cordon == Some(CordonLevel::Draining) => ReaderStatus::Draining,
            ReaderStatus::Alive => ReaderStatus::Alive,
            ReaderStatus::Draining | ReaderStatus::Leaving => ReaderStatus::Leaving,
            ReaderStatus::Gone | ReaderStatus::Suspect => ReaderStatus::Suspect,
        })
    }

    fn seems_gone(&self, sighting: &ReaderLiveness<R>) -> bool {
        let answered = matches!(sighting.last_silence_probe, Some((_, true)));
        let is_silent = !answered && self.silence_of(sighting) >= self.scaled_wait(MISSING_AFTER_SILENCE);
        !sighting.last_record.is_leaving() && (is_silent || sighting.is_unreachable())
    }
}
