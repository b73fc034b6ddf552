//! The moves that this manager carries out: those that wait for the budget, those in progress, and those that ended.
//! The current time is an argument. The hand-over protocol itself is in [`Coordinator`].

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use liverank_core::handover::ReaderShare;
use liverank_core::handover::coordinator::{
    AssignmentOrder, ClusterView, Coordinator, OrderRefusal, OrderStep, ReaderStatus,
};
use liverank_core::{ReaderId, VideoId};
use liverank_protocol::{MoveKind, MovePhase, MoveState, OrderedBy};

use crate::cluster::ClusterAtTime;
use crate::metrics::{MoveLabels, MoveOutcome};

/// The maximum number of moves that wait or are before their compare-and-set: more than a planner orders in a round.
const MAX_UNFINISHED_MOVES: usize = 10_000;
/// The maximum number of ended moves that are remembered, for people and planners to see.
const MAX_ENDED_MOVES: usize = 1_000;
/// The time that a move may wait for the budget: by then a planner has long seen other loads.
const MAX_WAIT_FOR_BUDGET: Duration = Duration::from_mins(2);
/// The time for which a hand-over is watched here; after it, the move counts as done, and the heartbeats continue the
/// hand-over.
const MAX_HAND_OVER_WATCH: Duration = Duration::from_mins(30);

/// A move that was ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedMove {
    /// The order that the move carries out.
    pub order: AssignmentOrder,
    /// The kind of sender that ordered the move.
    pub ordered_by: OrderedBy,
    /// The planner's term under which the move was ordered; `None` for moves that a manager makes by itself.
    pub ordered_under_term: Option<u64>,
    /// The reason for the move, in words.
    pub reason: String,
    /// The number of viewers that the move moves, as far as it is known.
    pub viewers: u64,
}

#[derive(Debug)]
struct MoveEntry {
    ordered_move: WantedMove,
    readers_before: Vec<ReaderShare>,
    epoch: u64,
    phase: MovePhase,
    viewers_to_hand_over: u64,
    detail: Option<String>,
    state_since: Instant,
    /// The time at which the new assignment came into force.
    in_force_at: Option<Instant>,
}

impl MoveEntry {
    fn labels(&self, outcome: MoveOutcome) -> MoveLabels {
        let kind = MoveKind::of_change(&self.readers_before, &self.ordered_move.order.readers).into();
        MoveLabels { reason: self.ordered_move.ordered_by.into(), kind, outcome }
    }
}

/// The outcome of the compare-and-set of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveSwapOutcome {
    /// The new assignment is in force, under this epoch.
    InForce(u64),
    /// The new assignment did not come into force, for this reason.
    Failed(String),
}

/// Keeps the moves that wait, are in progress, and have ended, and decides which begin.
#[derive(Debug, Default)]
pub struct MoveExecutor {
    coordinator: Coordinator,
    next_id: u64,
    /// The labels of moves that came into force or failed and are not counted in the metrics yet: those of a quarter of
    /// a second at most.
    ended_move_labels: Vec<MoveLabels>,
    entries: BTreeMap<u64, MoveEntry>,
    /// The move of each video that waits or is before its compare-and-set.
    unfinished_moves: HashMap<VideoId, u64>,
}

impl MoveExecutor {
    /// Returns the highest planner's term that this manager knows.
    pub const fn highest_term(&self) -> u64 {
        self.coordinator.term()
    }

    /// Notes a planner's term.
    pub fn note_term(&mut self, term: u64) {
        self.coordinator.note_term(term);
    }

    /// Returns true if a move of the video waits or is before its compare-and-set.
    pub fn is_moving(&self, video: &VideoId) -> bool {
        self.unfinished_moves.contains_key(video)
    }

    /// Returns the readers that the video is to have, if a move of it waits or is before its compare-and-set; otherwise
    /// `None`.
    pub fn planned_readers(&self, video: &VideoId) -> Option<&[ReaderShare]> {
        self.entries
            .get(self.unfinished_moves.get(video)?)
            .map(|entry| entry.ordered_move.order.readers.as_slice())
    }

    /// Accepts a move, which begins when [`MoveExecutor::begin_waiting_moves`] finds budget for it. Returns the move's
    /// number, or the reason for which the move is refused.
    pub fn accept_move(
        &mut self,
        now: Instant,
        seen: &ClusterAtTime<'_>,
        ordered_move: WantedMove,
    ) -> Result<u64, OrderRefusal> {
        if ordered_move.ordered_under_term.is_some_and(|term| term < self.highest_term()) {
            return Err(OrderRefusal::OldTerm { highest: self.highest_term() });
        }
        let current = seen.assigned_readers(&ordered_move.order.video);
        let Some(current) = current.filter(|current| current.epoch == ordered_move.order.expected_epoch)
        else {
            return Err(OrderRefusal::OldEpoch { current: current.map(|current| current.epoch) });
        };
        if self.is_moving(&ordered_move.order.video) {
            return Err(OrderRefusal::VideoBusy);
        }
        if self.unfinished_moves.len() >= MAX_UNFINISHED_MOVES {
            return Err(OrderRefusal::TooManyOrders);
        }
        // A reader that ends soon has to give its videos to any reader that is alive.
        let takes = |reader: &ReaderId| match ordered_move.ordered_by {
            OrderedBy::Drain => seen.reader_status(reader) == Some(ReaderStatus::Alive),
            OrderedBy::Order | OrderedBy::Autopilot => seen.cluster.is_reader_open(reader),
        };
        let fits = |share: &ReaderShare| {
            share.weight > 0 && (current.share_of(&share.reader).is_some() || takes(&share.reader))
        };
        let readers = &ordered_move.order.readers;
        let twice = |at: usize| readers[..at].iter().any(|share| share.reader == readers[at].reader);
        if readers.is_empty() || !readers.iter().all(fits) || (0..readers.len()).any(twice) {
            return Err(OrderRefusal::BadReaders);
        }
        self.next_id += 1;
        self.unfinished_moves.insert(ordered_move.order.video.clone(), self.next_id);
        let entry = MoveEntry {
            readers_before: current.readers.clone(),
            epoch: current.epoch,
            phase: MovePhase::Waiting,
            viewers_to_hand_over: ordered_move.viewers,
            detail: None,
            state_since: now,
            in_force_at: None,
            ordered_move,
        };
        self.entries.insert(self.next_id, entry);
        self.forget_oldest_ended();
        Ok(self.next_id)
    }

    /// Returns the number of viewers of moves that are in progress and were not yet in the count made at `counted`.
    pub fn uncounted_viewers(&self, counted: Option<Instant>) -> u64 {
        let is_uncounted = |entry: &&MoveEntry| match entry.phase {
            MovePhase::Warming => true,
            MovePhase::HandingOver => entry.in_force_at >= counted,
            _ => false,
        };
        self.entries.values().filter(is_uncounted).map(|entry| entry.ordered_move.viewers).sum()
    }

    /// Begins waiting moves, oldest first, as long as they move no more than `room` viewers. A move that is larger than
    /// any budget begins when nothing is in progress (`idle`). `time` is the same moment as
    /// `now`, on the coordinator's clock.
    pub fn begin_waiting_moves(
        &mut self,
        now: Instant,
        time: Duration,
        seen: &ClusterAtTime<'_>,
        room: u64,
        idle: bool,
    ) {
        let mut room = room;
        let mut idle = idle;
        let is_waiting = |id: &u64| self.entries[id].phase == MovePhase::Waiting;
        let mut waiting: Vec<u64> = self.unfinished_moves.values().copied().filter(is_waiting).collect();
        waiting.sort_unstable();
        for id in waiting {
            let entry = &self.entries[&id];
            if now.saturating_duration_since(entry.state_since) > MAX_WAIT_FOR_BUDGET {
                self.fail_move(id, "the budget had no room for it in time".to_owned());
                continue;
            }
            let viewers = entry.ordered_move.viewers;
            if viewers > room && !idle {
                // Later moves must not overtake this one for ever.
                break;
            }
            self.begin_move(id, time, seen);
            room = room.saturating_sub(viewers);
            idle = false;
        }
    }

    /// Begins a move, whether it has waited or not; the move fails if the coordinator refuses it.
    pub fn begin_move(&mut self, id: u64, time: Duration, seen: &ClusterAtTime<'_>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (order, term) = (entry.ordered_move.order.clone(), entry.ordered_move.ordered_under_term);
        match self.coordinator.accept_order(time, term, order, seen) {
            Ok(()) => entry.phase = MovePhase::Warming,
            Err(refused) => self.fail_move(id, refused.to_string()),
        }
    }

    /// Notes that a reader keeps a video ready.
    pub fn note_warmed(&mut self, video: &VideoId, reader: &ReaderId) {
        self.coordinator.note_warmed(video, reader);
    }

    /// Returns the steps that are to be carried out now. Moves that the coordinator gave up are marked as failed.
    pub fn next_steps(&mut self, time: Duration, seen: &ClusterAtTime<'_>) -> Vec<OrderStep> {
        let mut steps = self.coordinator.next_steps(time, seen);
        steps.retain(|step| {
            let OrderStep::Dropped(order) = step else { return true };
            let moved = seen.assigned_readers(&order.video).map(|it| it.epoch) != Some(order.expected_epoch);
            let why = if moved { "another move of the video was first" } else { "not ready in time" };
            if let Some(id) = self.unfinished_moves.get(&order.video).copied() {
                self.fail_move(id, why.to_owned());
            }
            false
        });
        steps
    }

    /// Returns the term under which a move was ordered, if the move is still wanted.
    pub fn term_of_order(&self, order: &AssignmentOrder) -> Option<u64> {
        self.unfinished_moves
            .get(&order.video)
            .and_then(|id| self.entries[id].ordered_move.ordered_under_term)
    }

    /// Notes that the compare-and-set of a move was done, lost or failed. The view has been updated before.
    pub fn note_swap_done(&mut self, now: Instant, order: &AssignmentOrder, outcome: MoveSwapOutcome) {
        self.coordinator.note_swap_done(order);
        let Some(id) = self.unfinished_moves.get(&order.video).copied() else { return };
        match outcome {
            MoveSwapOutcome::InForce(epoch) => {
                self.unfinished_moves.remove(&order.video);
                if let Some(entry) = self.entries.get_mut(&id) {
                    (entry.phase, entry.epoch) = (MovePhase::HandingOver, epoch);
                    entry.in_force_at = Some(now);
                    self.ended_move_labels.push(entry.labels(MoveOutcome::InForce));
                }
            }
            MoveSwapOutcome::Failed(why) => self.fail_move(id, why),
        }
    }

    fn fail_move(&mut self, id: u64, why: String) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        tracing::info!(video = ?entry.ordered_move.order.video, by = %entry.ordered_move.ordered_by, why, "a move was given up");
        self.unfinished_moves.remove(&entry.ordered_move.order.video);
        self.ended_move_labels.push(entry.labels(MoveOutcome::Failed));
        (entry.phase, entry.detail) = (MovePhase::Failed, Some(why));
    }

    /// Returns the labels of the moves that came into force or failed since the last call.
    pub fn take_ended_move_labels(&mut self) -> Vec<MoveLabels> {
        std::mem::take(&mut self.ended_move_labels)
    }

    /// Updates the number of viewers that are still to be handed over, by the last count; marks moves without any as
    /// done.
    pub fn update_pending_viewers(&mut self, now: Instant, seen: &ClusterAtTime<'_>) {
        let owed = &seen.cluster.pending_hand_overs;
        let counted = |entry: &MoveEntry| owed.counted_at > entry.in_force_at;
        let entries = self.entries.values_mut();
        for entry in entries.filter(|entry| entry.phase == MovePhase::HandingOver && counted(entry)) {
            let video = &entry.ordered_move.order.video;
            entry.viewers_to_hand_over = owed.viewers_by_video.get(video).copied().unwrap_or(0);
            let superseded = seen.assigned_readers(video).map(|it| it.epoch) != Some(entry.epoch);
            let overdue = now.saturating_duration_since(entry.state_since) > MAX_HAND_OVER_WATCH;
            if superseded || overdue || entry.viewers_to_hand_over == 0 {
                entry.phase = MovePhase::Done;
                entry.detail = superseded.then(|| "another assignment came after it".to_owned());
            }
        }
    }

    fn forget_oldest_ended(&mut self) {
        let has_ended = |entry: &MoveEntry| matches!(entry.phase, MovePhase::Done | MovePhase::Failed);
        while self.entries.len() > MAX_ENDED_MOVES + self.unfinished_moves.len() {
            let oldest = self.entries.iter().find(|(_, entry)| has_ended(entry)).map(|(id, _)| *id);
            let Some(oldest) = oldest.or_else(|| self.oldest_hand_over()) else { return };
            self.entries.remove(&oldest);
        }
    }

    fn oldest_hand_over(&self) -> Option<u64> {
        self.entries.iter().find(|(_, entry)| entry.phase == MovePhase::HandingOver).map(|(id, _)| *id)
    }

    /// Returns all moves, the latest first, at most `most`.
    pub fn move_states(&self, now: Instant, most: usize) -> Vec<MoveState> {
        let state = |(id, entry): (&u64, &MoveEntry)| MoveState {
            id: *id,
            videoid: entry.ordered_move.order.video.clone(),
            state: entry.phase.into(),
            from: entry.readers_before.clone(),
            to: entry.ordered_move.order.readers.clone(),
            epoch: entry.epoch,
            viewers: entry.ordered_move.viewers,
            left: entry.viewers_to_hand_over,
            by: entry.ordered_move.ordered_by.into(),
            why: entry.ordered_move.reason.clone(),
            term: entry.ordered_move.ordered_under_term,
            detail: entry.detail.clone(),
            age_ms: now.saturating_duration_since(entry.state_since).as_millis() as u64,
        };
        self.entries.iter().rev().take(most).map(state).collect()
    }
}
