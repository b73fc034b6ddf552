//! The assignment of partitions to the members of the consumer group.
//!
//! Each partition has a holder, which reads it, and a target, which should read it. A holder releases a partition at
//! its next poll; a target takes it once it has no holder. So a partition never has two readers, and no member waits
//! for another one's answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::CREATED_PARTITION_COUNT;

/// The members of the group and their partitions.
#[derive(Default)]
pub struct ConsumerGroup(Mutex<MembershipTable>);

#[derive(Default)]
struct MembershipTable {
    /// The members in the order in which they joined.
    members: Vec<u64>,
    next_member_id: u64,
    holder_by_partition: BTreeMap<u32, u64>,
    target_by_partition: BTreeMap<u32, u64>,
}

impl ConsumerGroup {
    fn lock_table(&self) -> MutexGuard<'_, MembershipTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a member, plans the partitions anew, and returns the member's id.
    pub fn add_member(&self) -> u64 {
        let mut table = self.lock_table();
        let member = table.next_member_id;
        table.next_member_id += 1;
        table.members.push(member);
        table.plan_partitions();
        member
    }

    /// Removes a member, which releases all its partitions, and plans the partitions anew.
    pub fn remove_member(&self, member: u64) {
        let mut table = self.lock_table();
        table.members.retain(|other| *other != member);
        table.holder_by_partition.retain(|_, holder| *holder != member);
        table.plan_partitions();
    }

    /// Releases the partitions that the member holds but should not hold any longer, and returns them.
    pub fn release_surplus(&self, member: u64) -> Vec<u32> {
        let mut table = self.lock_table();
        let MembershipTable { holder_by_partition, target_by_partition, .. } = &mut *table;
        let gone = |at: &u32, holder: &u64| *holder == member && target_by_partition.get(at) != Some(&member);
        let partitions: Vec<u32> =
            holder_by_partition.iter().filter(|(at, by)| gone(at, by)).map(|(at, _)| *at).collect();
        holder_by_partition.retain(|at, _| !partitions.contains(at));
        partitions
    }

    /// Makes the member the holder of the partitions that it should hold and nobody holds, and returns them.
    pub fn take_assigned(&self, member: u64) -> Vec<u32> {
        let mut table = self.lock_table();
        let MembershipTable { holder_by_partition, target_by_partition, .. } = &mut *table;
        let free = |at: &u32, target: &u64| *target == member && !holder_by_partition.contains_key(at);
        let partitions: Vec<u32> =
            target_by_partition.iter().filter(|(at, by)| free(at, by)).map(|(at, _)| *at).collect();
        holder_by_partition.extend(partitions.iter().map(|at| (*at, member)));
        partitions
    }

    /// Returns true if the member holds the partition.
    pub fn holds_partition(&self, member: u64, partition: u32) -> bool {
        self.lock_table().holder_by_partition.get(&partition) == Some(&member)
    }
}

impl MembershipTable {
    /// Plans which member is to hold each partition: every member gets an equal number, and as few partitions as
    /// possible change their member.
    fn plan_partitions(&mut self) {
        let old = std::mem::take(&mut self.target_by_partition);
        let Some(members) = std::num::NonZeroUsize::new(self.members.len()) else { return };
        let (share, extra) =
            (CREATED_PARTITION_COUNT as usize / members, CREATED_PARTITION_COUNT as usize % members);
        let mut held: BTreeMap<u64, Vec<u32>> =
            self.members.iter().map(|member| (*member, Vec::new())).collect();
        for (partition, member) in old {
            if let Some(partitions) = held.get_mut(&member) {
                partitions.push(partition);
            }
        }
        // If the division leaves a remainder, the members with the most partitions keep one more.
        let mut order = self.members.clone();
        order.sort_by_key(|member| std::cmp::Reverse(held[member].len()));
        let quota = |rank: usize| share + usize::from(rank < extra);
        for (rank, member) in order.iter().enumerate() {
            let kept = held[member].iter().take(quota(rank));
            self.target_by_partition.extend(kept.map(|partition| (*partition, *member)));
        }
        let mut orphans: Vec<u32> =
            (0..CREATED_PARTITION_COUNT).filter(|at| !self.target_by_partition.contains_key(at)).collect();
        for (rank, member) in order.iter().enumerate() {
            let missing = quota(rank) - held[member].len().min(quota(rank));
            let given = orphans.split_off(orphans.len().saturating_sub(missing));
            self.target_by_partition.extend(given.into_iter().map(|partition| (partition, *member)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets every member poll until nothing moves; returns how many partitions were taken.
    fn poll_until_settled(group: &ConsumerGroup, members: &[u64]) -> usize {
        let mut moved = 0;
        for _ in 0..3 {
            for member in members {
                group.release_surplus(*member);
                moved += group.take_assigned(*member).len();
            }
        }
        moved
    }

    fn partitions_of_each(group: &ConsumerGroup, members: &[u64]) -> Vec<usize> {
        let held = |member: &u64| {
            (0..CREATED_PARTITION_COUNT).filter(|at| group.holds_partition(*member, *at)).count()
        };
        members.iter().map(held).collect()
    }

    #[test]
    fn a_rebalance_is_even_and_moves_few_partitions() {
        let group = ConsumerGroup::default();
        let mut members = vec![group.add_member()];
        assert_eq!(poll_until_settled(&group, &members), 12);
        for (count, moved) in [(2, 6), (3, 4), (4, 3), (5, 2)] {
            members.push(group.add_member());
            assert_eq!(poll_until_settled(&group, &members), moved, "the {count}th joins");
        }
        let mut even = partitions_of_each(&group, &members);
        even.sort_unstable();
        assert_eq!(even, [2, 2, 2, 3, 3]);
        let left = members.remove(2);
        let freed = partitions_of_each(&group, &[left])[0];
        group.remove_member(left);
        assert_eq!(poll_until_settled(&group, &members), freed, "only what was freed moves");
        assert_eq!(partitions_of_each(&group, &members), [3, 3, 3, 3]);
    }

    #[test]
    fn a_partition_has_one_holder_even_while_it_moves() {
        let group = ConsumerGroup::default();
        let first = group.add_member();
        group.take_assigned(first);
        let second = group.add_member();
        assert_eq!(group.take_assigned(second), Vec::<u32>::new(), "the first has not let go yet");
        assert_eq!(group.release_surplus(first).len(), 6);
        assert_eq!(group.take_assigned(second).len(), 6);
        assert_eq!(partitions_of_each(&group, &[first, second]), [6, 6]);
    }

    #[test]
    fn more_members_than_partitions_leave_some_idle() {
        let group = ConsumerGroup::default();
        let members: Vec<u64> = (0..15).map(|_| group.add_member()).collect();
        poll_until_settled(&group, &members);
        let sizes = partitions_of_each(&group, &members);
        assert_eq!((sizes.iter().sum::<usize>(), sizes.iter().max()), (12, Some(&1)));
    }
}
