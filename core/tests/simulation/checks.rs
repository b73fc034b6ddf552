//! The checks of the simulation: violations, recorded the moment they happen, and counts of the events without which a
//! run would prove nothing.

use std::collections::HashMap;

use liverank_core::handover::AssignedReaders;

use crate::net::Ms;

/// The longest time that a viewer may be without a stream, in milliseconds, counted from the last death of a reader of
/// its video.
pub const WITHOUT_ROUTE: Ms = 10_000;

/// The number of times that each kind of event happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub events: u64,
    pub comments_seen: u64,
    pub streams: u64,
    pub resumed: u64,
    pub before_any_comment: u64,
    pub gaps: u64,
    pub handed_over: u64,
    pub shed: u64,
    pub orders: u64,
    pub refused_orders: u64,
    pub races_lost: u64,
    pub swaps: u64,
    pub reassigned: u64,
    pub reminted: u64,
    pub old_words: u64,
    pub reader_crashes: u64,
    pub manager_crashes: u64,
    pub drains: u64,
    pub removals: u64,
    pub unreachable: u64,
    pub early_ends: u64,
    pub managers_replaced: u64,
    pub managers_paused: u64,
    pub managers_starved: u64,
    pub machine_stops: u64,
    pub crowded_leaves: u64,
    pub sent_away: u64,
    pub refused_full: u64,
    pub failovers: u64,
    pub longest_without: u64,
}

#[derive(Default)]
pub struct Checks {
    pub violation: Option<String>,
    pub counts: Counts,
    /// The assignment for which each epoch was minted.
    epochs: HashMap<u64, (usize, AssignedReaders)>,
    terms: HashMap<u64, usize>,
    /// Viewers just closed for a move: the video, and the reader to which they are sent.
    pub closing: Vec<(usize, usize)>,
    /// Videos that an order is about to give to a reader: the video and the reader.
    pub given: Vec<(usize, usize)>,
    /// The shutting-down readers that have just sent a viewer away by themselves, before their last phase.
    pub sent_away: Vec<usize>,
    /// The times in which no viewer could get another reader: the store was away, no manager was able to act, or no
    /// reader had room.
    pub away: Vec<(Ms, Ms)>,
    /// The time at which a reader of each video last died.
    pub last_death: HashMap<usize, Ms>,
    /// The number of comments of each video so far.
    pub heads: Vec<u64>,
    /// The number of comments that a viewer may be behind and still resume without a gap.
    pub reach: u64,
}

impl Checks {
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    pub fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what);
        }
    }

    /// Notes that the store minted an epoch for this assignment.
    pub fn note_minted_epoch(&mut self, video: usize, assigned: &AssignedReaders) {
        if let Some(before) = self.epochs.insert(assigned.epoch, (video, assigned.clone())) {
            self.fail(|| format!("epoch {} was minted twice: {before:?}, {assigned:?}", assigned.epoch));
        }
    }

    /// Checks that an assignment that `who` believes in was minted.
    pub fn believed(&mut self, who: &str, video: usize, assigned: &AssignedReaders) {
        let holds = self.epochs.get(&assigned.epoch).is_some_and(|it| it.0 == video && it.1 == *assigned);
        self.require(holds, || format!("{who} believes {assigned:?} of v{video}, which nobody minted"));
    }

    /// Returns the assignment for which an epoch was minted.
    pub fn minted_as(&self, epoch: u64) -> Option<&AssignedReaders> {
        self.epochs.get(&epoch).map(|(_, assigned)| assigned)
    }

    /// Returns the time, between `since` and `now`, in which no viewer could get another reader.
    pub fn excused(&self, since: Ms, now: Ms) -> Ms {
        let mut away = self.away.clone();
        away.sort_unstable();
        let (mut excused, mut counted) = (0, since);
        for (from, to) in away {
            let (from, to) = (from.max(counted), to.min(now));
            excused += to.saturating_sub(from);
            counted = counted.max(to);
        }
        excused
    }

    pub fn term(&mut self, term: u64, planner: usize) {
        if let Some(before) = self.terms.insert(term, planner) {
            self.fail(|| format!("term {term} was minted twice, for planners {before} and {planner}"));
        }
    }
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        macro_rules! sum { ($($field:ident),*) => { $( self.$field += other.$field; )* } }
        sum!(
            events,
            comments_seen,
            streams,
            resumed,
            before_any_comment,
            gaps,
            handed_over,
            shed,
            orders,
            refused_orders,
            races_lost,
            swaps,
            reassigned,
            reminted,
            old_words,
            reader_crashes,
            manager_crashes,
            drains,
            removals,
            unreachable,
            early_ends,
            managers_replaced,
            managers_paused,
            managers_starved,
            machine_stops,
            crowded_leaves,
            sent_away,
            refused_full,
            failovers
        );
        self.longest_without = self.longest_without.max(other.longest_without);
    }
}
