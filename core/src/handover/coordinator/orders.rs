//! How an order to change a video's readers is carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::view::{ClusterView, ReaderStatus};
use crate::handover::{ElapsedTime, ReaderShare};
use crate::{ReaderId, VideoId};

/// The time limit within which new readers have to hold a video ready. Fetching missing comments takes far less.
pub const WARM_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval at which the manager repeats its request to hold a video ready, because a message may be lost.
pub const WARM_UP_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The time limit of the compare-and-set, after which the order is dropped. The store's own time limit is shorter.
pub const SWAP_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of orders in progress at the same time: more than a planner gives in a round.
pub const MAX_ORDERS_IN_PROGRESS: usize = 10_000;

/// An order to change who serves a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentOrder {
    /// The video.
    pub video: VideoId,
    /// The assignment epoch that the sender of the order believes to be in force; the order is refused if another one
    /// is.
    pub expected_epoch: u64,
    /// The readers that are to serve the video.
    pub readers: Vec<ReaderShare>,
}

/// The reason why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// A later planner has taken over.
    #[error("term {highest} has begun")]
    OldTerm {
        /// The highest term heard of.
        highest: u64,
    },
    /// The video's assignment epoch is not the one that the order expects; `None`: the video has no assignment.
    #[error("the video's epoch is {current:?}")]
    OldEpoch {
        /// The epoch of the assignment that is in force.
        current: Option<u64>,
    },
    /// Another order for the video is being carried out.
    #[error("the video is being moved")]
    VideoBusy,
    /// The order names no reader, a reader twice, a reader without a share, or a reader that takes no videos now.
    #[error("not all of the readers can take the video")]
    BadReaders,
    /// The maximum number of orders is being carried out already.
    #[error("too many orders are being carried out")]
    TooManyOrders,
}

/// A step that a manager takes to carry out an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderStep {
    /// Asks a reader to hold a video ready; its answer goes to [`Coordinator::note_warmed`].
    WarmUpReader {
        /// The reader that is asked.
        reader: ReaderId,
        /// The video that the reader is to hold ready.
        video: VideoId,
    },
    /// The compare-and-set; its outcome goes to [`Coordinator::note_swap_done`].
    SwapAssignment(AssignmentOrder),
    /// The manager drops the order; the assignment has not changed.
    Dropped(AssignmentOrder),
}

#[derive(Debug)]
struct OrderProgress {
    order: AssignmentOrder,
    /// The readers that do not hold the video ready yet, each with the time at which it was last asked; `None` if it
    /// was not asked yet.
    readers_not_ready: Vec<(ReaderId, Option<ElapsedTime>)>,
    /// The time at which the current step must be done; later, the order is dropped.
    step_deadline: ElapsedTime,
    is_swapping: bool,
}

/// The orders that a manager is carrying out.
#[derive(Debug, Default)]
pub struct Coordinator {
    highest_term: u64,
    orders: BTreeMap<VideoId, OrderProgress>,
}

impl Coordinator {
    /// Returns the highest term heard of.
    pub const fn term(&self) -> u64 {
        self.highest_term
    }

    /// Notes a planner's term, which has just begun or was read from the store.
    pub fn note_term(&mut self, term: u64) {
        self.highest_term = self.highest_term.max(term);
    }

    /// Returns whether an order for the video is being carried out.
    pub fn is_moving(&self, video: &VideoId) -> bool {
        self.orders.contains_key(video)
    }

    /// Accepts or refuses an order. `term` is the term of the planner that gave it; `None` for an order that the
    /// manager makes by itself because a reader shuts down. [`Coordinator::next_steps`] then says what to do.
    pub fn accept_order(
        &mut self,
        now: ElapsedTime,
        term: Option<u64>,
        order: AssignmentOrder,
        sight: &impl ClusterView,
    ) -> Result<(), OrderRefusal> {
        let term = term.unwrap_or(self.highest_term);
        if term < self.highest_term {
            return Err(OrderRefusal::OldTerm { highest: self.highest_term });
        }
        self.highest_term = term;
        let current = sight.assigned_readers(&order.video);
        let epoch = current.map(|current| current.epoch);
        if epoch != Some(order.expected_epoch) {
            return Err(OrderRefusal::OldEpoch { current: epoch });
        }
        if self.orders.contains_key(&order.video) {
            return Err(OrderRefusal::VideoBusy);
        }
        if self.orders.len() >= MAX_ORDERS_IN_PROGRESS {
            return Err(OrderRefusal::TooManyOrders);
        }
        let serves =
            |share: &ReaderShare| current.is_some_and(|current| current.share_of(&share.reader).is_some());
        let takes = |share: &ReaderShare| {
            serves(share) || sight.reader_status(&share.reader) == Some(ReaderStatus::Alive)
        };
        let twice = |at: usize| order.readers[..at].iter().any(|it| it.reader == order.readers[at].reader);
        let is_good = !order.readers.is_empty()
            && order.readers.iter().all(|share| share.weight > 0 && takes(share))
            && !(0..order.readers.len()).any(twice);
        if !is_good {
            return Err(OrderRefusal::BadReaders);
        }
        let cold = order.readers.iter().filter(|share| !serves(share));
        let readers_not_ready = cold.map(|share| (share.reader.clone(), None)).collect();
        let progress = OrderProgress {
            readers_not_ready,
            step_deadline: now + WARM_UP_TIMEOUT,
            is_swapping: false,
            order,
        };
        self.orders.insert(progress.order.video.clone(), progress);
        Ok(())
    }

    /// Notes a reader's answer that it holds a video ready.
    pub fn note_warmed(&mut self, video: &VideoId, reader: &ReaderId) {
        if let Some(progress) = self.orders.get_mut(video) {
            progress.readers_not_ready.retain(|(cold, _)| cold != reader);
        }
    }

    /// Returns the steps that have to be taken now. The caller has to call this after every order and every answer, and
    /// otherwise a few times a second.
    pub fn next_steps(&mut self, now: ElapsedTime, sight: &impl ClusterView) -> Vec<OrderStep> {
        let mut steps = Vec::new();
        self.orders.retain(|_, progress| progress.advance_order(now, sight, &mut steps));
        steps
    }

    /// Notes that the compare-and-set of an order has ended, whether it succeeded or not. The result need not be given,
    /// because the caller's [`ClusterView`] knows which assignment is in force.
    pub fn note_swap_done(&mut self, order: &AssignmentOrder) {
        if self.orders.get(&order.video).is_some_and(|progress| progress.order == *order) {
            self.orders.remove(&order.video);
        }
    }
}

impl OrderProgress {
    /// Adds the next steps of the order to `steps`. Returns `false` if the order has ended.
    fn advance_order(
        &mut self,
        now: ElapsedTime,
        sight: &impl ClusterView,
        steps: &mut Vec<OrderStep>,
    ) -> bool {
        let in_force = sight.assigned_readers(&self.order.video).map(|current| current.epoch);
        if now >= self.step_deadline || (!self.is_swapping && in_force != Some(self.order.expected_epoch)) {
            steps.push(OrderStep::Dropped(self.order.clone()));
            return false;
        }
        if self.is_swapping {
            return true;
        }
        if self.readers_not_ready.is_empty() {
            (self.is_swapping, self.step_deadline) = (true, now + SWAP_TIMEOUT);
            steps.push(OrderStep::SwapAssignment(self.order.clone()));
            return true;
        }
        for (reader, asked) in &mut self.readers_not_ready {
            if asked.is_none_or(|asked| now.saturating_sub(asked) >= WARM_UP_RETRY_INTERVAL) {
                *asked = Some(now);
                steps.push(OrderStep::WarmUpReader {
                    reader: reader.clone(),
                    video: self.order.video.clone(),
                });
            }
        }
        true
    }
}
