//! The memory limit for the answers of managers and readers, over all clusters: for their bytes while they are read,
//! and for the parsed values as long as these are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::store::ClusterKey;

/// The default memory limit for answers, in MiB: half the memory that the chart gives the operator.
pub const DEFAULT_MIB: u16 = 128;
/// The divisor of the memory limit: each cluster may always take this fraction of the limit, one eighth. A cluster may
/// take more only while less than half of the limit is taken. So one cluster, whose image its author chooses, leaves
/// half of the limit to the others.
const GUARANTEED_PART_DIVISOR: usize = 8;
/// The longest wait for free memory within the limit. An answer that waits longer is too old to plan by.
const RESERVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The error if the memory for an answer did not become free in time.
#[derive(Debug, thiserror::Error)]
#[error("too many answers are being read or kept at once")]
pub struct AnswerBudgetExhausted;

/// The limit on the memory for all answers of managers and readers. Clones share the limit.
#[derive(Clone)]
pub struct AnswerBudget(Arc<SharedLimit>);

struct SharedLimit {
    bytes: usize,
    reserved: Mutex<ReservedBytes>,
    freed: Notify,
}

#[derive(Default)]
struct ReservedBytes {
    total: usize,
    by_cluster: HashMap<ClusterKey, usize>,
}

/// Returns whether a cluster that has reserved `own` of all `taken` bytes may reserve `more` of the `limit` bytes.
fn has_room(limit: usize, taken: usize, own: usize, more: usize) -> bool {
    let all = taken.saturating_add(more);
    all <= limit && (own.saturating_add(more) <= limit / GUARANTEED_PART_DIVISOR || all <= limit / 2)
}

impl AnswerBudget {
    /// Creates a limit of `mib` MiB.
    pub fn of_mib(mib: u16) -> Self {
        let (reserved, freed) = Default::default();
        Self(Arc::new(SharedLimit { bytes: usize::from(mib) * 1024 * 1024, reserved, freed }))
    }

    /// Waits until `bytes` bytes for an answer of `cluster` are free within the limit, and reserves them.
    pub async fn reserve(
        &self,
        cluster: &ClusterKey,
        bytes: usize,
    ) -> Result<ReservedMemory, AnswerBudgetExhausted> {
        let room = async {
            loop {
                let freed = self.0.freed.notified();
                if let Some(room) = self.try_reserve(cluster, bytes) {
                    return room;
                }
                freed.await;
            }
        };
        timeout(RESERVE_TIMEOUT, room).await.map_err(|_| AnswerBudgetExhausted)
    }

    fn try_reserve(&self, cluster: &ClusterKey, bytes: usize) -> Option<ReservedMemory> {
        let mut taken = self.0.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_cluster.get(cluster).copied().unwrap_or(0);
        if !has_room(self.0.bytes, taken.total, own, bytes) {
            return None;
        }
        taken.total += bytes;
        taken.by_cluster.insert(cluster.clone(), own + bytes);
        Some(ReservedMemory { limit: Arc::clone(&self.0), cluster: cluster.clone(), bytes })
    }
}

/// Memory that is reserved for an answer; dropping the value frees the memory.
pub struct ReservedMemory {
    limit: Arc<SharedLimit>,
    cluster: ClusterKey,
    bytes: usize,
}

impl Drop for ReservedMemory {
    fn drop(&mut self) {
        {
            let mut taken = self.limit.reserved.lock().unwrap_or_else(PoisonError::into_inner);
            taken.total -= self.bytes;
            let own = taken.by_cluster.get_mut(&self.cluster).map(|own| {
                *own -= self.bytes;
                *own
            });
            if own == Some(0) {
                taken.by_cluster.remove(&self.cluster);
            }
        }
        self.limit.freed.notify_waiters();
    }
}

/// An answer with the memory that is reserved for it; dropping the answer frees the memory.
pub struct BudgetedAnswer<T> {
    /// The answer.
    pub answer: T,
    /// The memory that is reserved for the answer.
    pub reserved_memory: ReservedMemory,
}

impl<T> BudgetedAnswer<T> {
    /// Converts the answer and keeps the reserved memory.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> BudgetedAnswer<U> {
        BudgetedAnswer { answer: convert(self.answer), reserved_memory: self.reserved_memory }
    }
}

#[cfg(test)]
impl AnswerBudget {
    /// Returns the number of bytes that are taken.
    pub fn reserved_bytes(&self) -> usize {
        self.0.reserved.lock().unwrap().total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_takes_more_than_its_share_only_of_the_first_half() {
        let cases = [
            (0, 0, 400, true),
            (0, 0, 401, false),
            (400, 400, 1, false),
            (400, 0, 100, true),
            (400, 0, 101, false),
            (700, 50, 50, true),
            (700, 50, 51, false),
            (750, 0, 51, false),
            (0, 0, usize::MAX, false),
        ];
        for (taken, own, more, expected) in cases {
            assert_eq!(has_room(800, taken, own, more), expected, "{own} of {taken}, {more} more");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_room_and_not_for_ever() {
        let budget = AnswerBudget::of_mib(8);
        let mib = |count: usize| count * 1024 * 1024;
        let (greedy, other) = (ClusterKey::new("ns", "greedy"), ClusterKey::new("ns", "other"));
        let all = budget.reserve(&greedy, mib(4)).await.unwrap();
        assert!(budget.reserve(&greedy, 1).await.is_err(), "one cluster has the first half");
        let share = budget.reserve(&other, mib(1)).await.unwrap();
        let more = tokio::spawn({
            let (budget, other) = (budget.clone(), other.clone());
            async move { budget.reserve(&other, mib(1)).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        assert!(!more.is_finished());
        drop(all);
        more.await.unwrap().unwrap();
        drop(share);
        assert_eq!(budget.reserved_bytes(), 0);
    }
}
