//! Assignments and heartbeats in memory: empty after a start, as a Redis may be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use liverank_core::placement::Assignment;
use liverank_core::{ReaderId, VideoId};
use tokio::sync::mpsc;

use super::{AssignmentStore, CHANGE_QUEUE, Change, MAX_EPOCH, ReaderRecord, State, Swapped};
use crate::StoreError;
use crate::outlet::Outlet;

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
    subscribers: Vec<Arc<Outlet<Change>>>,
}

impl Inner {
    fn tell(&mut self, change: &Change) {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &self.subscribers {
            subscriber.offer(change.clone());
        }
    }

    fn epoch_of(&self, video: &VideoId) -> Option<u64> {
        self.assignments.get(video).map(|assignment| assignment.epoch)
    }

    fn conflict(&self, video: &VideoId) -> Swapped {
        Swapped::Conflict(self.assignments.get(video).cloned())
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
        readers: &[ReaderId],
        seen: u64,
    ) -> Result<Swapped, StoreError> {
        if seen >= MAX_EPOCH {
            return Err(super::epoch_too_high("assignments", seen));
        }
        let mut inner = self.inner();
        if inner.epoch_of(video) != expected {
            return Ok(inner.conflict(video));
        }
        inner.epoch = inner.epoch.max(seen) + 1;
        inner.version += 1;
        let (epoch, version) = (inner.epoch, inner.version);
        let assignment = Assignment { video_id: video.clone(), readers: readers.to_vec(), epoch };
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

    async fn changes(&self) -> Result<mpsc::Receiver<Change>, StoreError> {
        let (outlet, receiver) = Outlet::open(CHANGE_QUEUE, Change::Reset);
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
