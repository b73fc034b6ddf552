//! Assignments and heartbeats in memory: empty after a start, as a Redis may be.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use liverank_core::handover::{Assigned, Lease, Share};
use liverank_core::{ReaderId, VideoId};
use tokio::sync::mpsc;

use super::{
    Assignment, AssignmentStore, CHANGE_QUEUE, Change, Cordon, Orders, ReaderRecord, State, Swapped, Term,
    TermGrant, expect_possible, mint, now_micros,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;

/// What errors name as the part that failed.
const PART: &str = "assignments";

/// Assignments and heartbeats in memory.
#[derive(Default)]
pub struct EmbeddedAssignments {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    epoch: u64,
    assignments: HashMap<VideoId, Assignment>,
    readers: HashMap<ReaderId, ReaderRecord>,
    term: Option<Term>,
    cordons: BTreeMap<ReaderId, Cordon>,
    subscribers: Vec<Arc<LossyChannel<Change>>>,
}

impl Inner {
    fn tell(&mut self, change: &Change) {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &self.subscribers {
            subscriber.offer(change.clone());
        }
    }

    /// `lease`, or else the one shown last.
    fn lease(&self, lease: Option<&Lease>) -> Option<Lease> {
        lease.or_else(|| self.term.as_ref()?.lease.as_ref()).cloned()
    }

    fn epoch_of(&self, video: &VideoId) -> Option<u64> {
        self.assignments.get(video).map(Assignment::epoch)
    }

    fn conflict(&self, video: &VideoId) -> Swapped {
        Swapped::Conflict(self.assignments.get(video).cloned())
    }

    /// Answers the term in force where `term` is over; one that is later than it has been lost here.
    fn fence(&mut self, term: u64) -> Option<u64> {
        let in_force = self.term.as_ref().map_or(0, |term| term.term);
        if term > in_force {
            self.term = Some(Term { term, holder: String::new(), lease: self.lease(None), beat: 0 });
        }
        (term < in_force).then_some(in_force)
    }
}

impl EmbeddedAssignments {
    /// A store without assignments and readers.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AssignmentStore for EmbeddedAssignments {
    async fn load(&self) -> Result<State, StoreError> {
        let inner = self.inner();
        Ok(State { version: inner.version, assignments: inner.assignments.values().cloned().collect() })
    }

    async fn assign(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[Share],
        seen: u64,
        term: Option<u64>,
    ) -> Result<Swapped, StoreError> {
        expect_possible(PART, seen)?;
        expect_possible(PART, term.unwrap_or(0))?;
        let mut inner = self.inner();
        if let Some(in_force) = term.and_then(|term| inner.fence(term)) {
            return Ok(Swapped::Fenced(in_force));
        }
        if inner.epoch_of(video) != expected {
            return Ok(inner.conflict(video));
        }
        inner.epoch = mint(inner.epoch, seen, now_micros());
        inner.version += 1;
        let (epoch, version) = (inner.epoch, inner.version);
        let assignment =
            Assignment { video_id: video.clone(), assigned: Assigned { epoch, readers: readers.to_vec() } };
        inner.assignments.insert(video.clone(), assignment.clone());
        inner.tell(&Change::Assigned { version, assignment: assignment.clone() });
        Ok(Swapped::Stored(assignment))
    }

    async fn remove(&self, video: &VideoId, expected: u64) -> Result<Swapped, StoreError> {
        let mut inner = self.inner();
        if inner.epoch_of(video) != Some(expected) {
            return Ok(inner.conflict(video));
        }
        let Some(removed) = inner.assignments.remove(video) else { return Ok(Swapped::Conflict(None)) };
        inner.version += 1;
        let version = inner.version;
        inner.tell(&Change::Removed { version, video_id: video.clone() });
        Ok(Swapped::Stored(removed))
    }

    async fn heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError> {
        self.inner().readers.insert(reader.id.clone(), reader.clone());
        Ok(())
    }

    async fn readers(&self) -> Result<Vec<ReaderRecord>, StoreError> {
        Ok(self.inner().readers.values().cloned().collect())
    }

    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError> {
        let mut inner = self.inner();
        if inner.readers.get(reader).is_some_and(|record| record.beat == beat) {
            inner.readers.remove(reader);
        }
        Ok(())
    }

    async fn orders(&self) -> Result<Orders, StoreError> {
        let inner = self.inner();
        Ok(Orders { term: inner.term.clone(), cordons: inner.cordons.values().cloned().collect() })
    }

    async fn mint_term(
        &self,
        holder: &str,
        lease: Option<&Lease>,
        expected: u64,
        seen: u64,
    ) -> Result<TermGrant, StoreError> {
        expect_possible(PART, seen)?;
        let mut inner = self.inner();
        let in_force = inner.term.as_ref().map_or(0, |term| term.term);
        if in_force != expected {
            return Ok(TermGrant::Lost(inner.term.clone()));
        }
        let term = mint(in_force, seen, now_micros());
        let term = Term { term, holder: holder.to_owned(), lease: inner.lease(lease), beat: 0 };
        inner.term = Some(term.clone());
        Ok(TermGrant::Held(term))
    }

    async fn renew_term(&self, term: &Term) -> Result<TermGrant, StoreError> {
        expect_possible(PART, term.term)?;
        let mut inner = self.inner();
        if inner.fence(term.term).is_some() {
            return Ok(TermGrant::Lost(inner.term.clone()));
        }
        let term = Term { lease: inner.lease(term.lease.as_ref()), ..term.clone() };
        inner.term = Some(term.clone());
        Ok(TermGrant::Held(term))
    }

    async fn cordon(
        &self,
        term: u64,
        reader: &ReaderId,
        cordon: Option<&Cordon>,
    ) -> Result<Option<u64>, StoreError> {
        expect_possible(PART, term)?;
        let mut inner = self.inner();
        if let Some(in_force) = inner.fence(term) {
            return Ok(Some(in_force));
        }
        match cordon {
            Some(cordon) => drop(inner.cordons.insert(reader.clone(), cordon.clone())),
            None => drop(inner.cordons.remove(reader)),
        }
        Ok(None)
    }

    async fn changes(&self) -> Result<mpsc::Receiver<Change>, StoreError> {
        let (outlet, receiver) = LossyChannel::open(CHANGE_QUEUE, Change::Reset);
        let mut inner = self.inner();
        outlet.offer(Change::Reset);
        inner.subscribers.retain(|subscriber| !subscriber.is_closed());
        inner.subscribers.push(outlet);
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keeps_what_every_assignment_store_promises() {
        super::super::conformance::suite(|| async {
            Arc::new(EmbeddedAssignments::new()) as Arc<dyn AssignmentStore>
        })
        .await;
    }
}
