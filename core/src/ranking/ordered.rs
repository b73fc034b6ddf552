//! A sorted set that knows positions: it counts the keys above a key and finds the key at a position, each in `O(log
//! n)`.
//!
//! The set is a weight-balanced tree: the sizes of its subtrees give positions and also keep the tree balanced (Adams
//! 1992, with the parameters that Hirai and Yamazaki proved in 2011). Nodes are in one vector and refer to each other
//! by index. The trees of the standard library do not know positions.

use std::cmp::Ordering;

/// The index that means "no node".
const NO_NODE: u32 = u32::MAX;
/// The greatest ratio between the sizes of a node's two sides: above it, the node is rebalanced.
const MAX_SIDE_RATIO: u32 = 3;
/// The limit below which a single rotation suffices: the larger side's inner part has fewer than this many times the
/// nodes of its outer part.
const SINGLE_ROTATION_RATIO: u32 = 2;

#[derive(Debug, Clone)]
struct Node<K> {
    /// The key of the node; `None` if the node is free.
    key: Option<K>,
    size: u32,
    left: u32,
    right: u32,
}

/// An ordered set that finds the rank of a key. The set holds fewer than `u32::MAX` keys.
#[derive(Debug, Clone)]
pub(super) struct OrderedSet<K> {
    nodes: Vec<Node<K>>,
    free_nodes: Vec<u32>,
    root: u32,
}

impl<K> Default for OrderedSet<K> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free_nodes: Vec::new(), root: NO_NODE }
    }
}

impl<K: Ord> OrderedSet<K> {
    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.size(self.root) as usize
    }

    /// Adds a key to the set.
    pub(super) fn insert(&mut self, key: K) {
        self.root = self.insert_below(self.root, key);
    }

    /// Removes a key, if the set has it.
    pub(super) fn remove(&mut self, key: &K) {
        self.root = self.remove_below(self.root, key);
    }

    /// Returns the number of keys that are greater than `key`; the set need not have `key`.
    pub(super) fn count_above(&self, key: &K) -> usize {
        let (mut at, mut above) = (self.root, 0);
        while at != NO_NODE {
            let node = self.node(at);
            match key.cmp(self.key(at)) {
                Ordering::Less => {
                    above += self.size(node.right) + 1;
                    at = node.left;
                }
                Ordering::Equal => return (above + self.size(node.right)) as usize,
                Ordering::Greater => at = node.right,
            }
        }
        above as usize
    }

    /// Returns the keys in descending order, without the first `skip`.
    pub(super) fn descending(&self, skip: usize) -> Descending<'_, K> {
        let mut path = Vec::new();
        let (mut at, mut skip) = (self.root, skip);
        while at != NO_NODE {
            let node = self.node(at);
            let above = self.size(node.right) as usize;
            if skip > above {
                skip -= above + 1;
                at = node.left;
                continue;
            }
            path.push(at);
            if skip == above {
                break;
            }
            at = node.right;
        }
        Descending { set: self, path }
    }

    fn node(&self, at: u32) -> &Node<K> {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node<K> {
        &mut self.nodes[at as usize]
    }

    fn key(&self, at: u32) -> &K {
        self.node(at).key.as_ref().expect("a node in the tree has a key")
    }

    fn size(&self, at: u32) -> u32 {
        if at == NO_NODE { 0 } else { self.node(at).size }
    }

    fn insert_below(&mut self, at: u32, key: K) -> u32 {
        if at == NO_NODE {
            return self.new_leaf(key);
        }
        match key.cmp(self.key(at)) {
            Ordering::Equal => return at,
            Ordering::Less => self.node_mut(at).left = self.insert_below(self.node(at).left, key),
            Ordering::Greater => self.node_mut(at).right = self.insert_below(self.node(at).right, key),
        }
        self.rebalance(at)
    }

    fn new_leaf(&mut self, key: K) -> u32 {
        let node = Node { key: Some(key), size: 1, left: NO_NODE, right: NO_NODE };
        if let Some(at) = self.free_nodes.pop() {
            *self.node_mut(at) = node;
            return at;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("no board has four thousand million videos")
    }

    fn remove_below(&mut self, at: u32, key: &K) -> u32 {
        if at == NO_NODE {
            return NO_NODE;
        }
        match key.cmp(self.key(at)) {
            Ordering::Less => self.node_mut(at).left = self.remove_below(self.node(at).left, key),
            Ordering::Greater => self.node_mut(at).right = self.remove_below(self.node(at).right, key),
            Ordering::Equal => {
                let Node { left, right, .. } = *self.node(at);
                self.node_mut(at).key = None;
                self.free_nodes.push(at);
                return self.join_sides(left, right);
            }
        }
        self.rebalance(at)
    }

    /// Joins two subtrees whose parent was removed: the nearest key of the larger one becomes the new parent. Returns
    /// the index of the new parent.
    fn join_sides(&mut self, left: u32, right: u32) -> u32 {
        if left == NO_NODE || right == NO_NODE {
            return left.min(right);
        }
        let (top, left, right) = if self.size(left) > self.size(right) {
            let (top, rest) = self.detach_greatest(left);
            (top, rest, right)
        } else {
            let (top, rest) = self.detach_least(right);
            (top, left, rest)
        };
        let node = self.node_mut(top);
        (node.left, node.right) = (left, right);
        self.rebalance(top)
    }

    fn detach_greatest(&mut self, at: u32) -> (u32, u32) {
        let right = self.node(at).right;
        if right == NO_NODE {
            return (at, self.node(at).left);
        }
        let (greatest, rest) = self.detach_greatest(right);
        self.node_mut(at).right = rest;
        (greatest, self.rebalance(at))
    }

    fn detach_least(&mut self, at: u32) -> (u32, u32) {
        let left = self.node(at).left;
        if left == NO_NODE {
            return (at, self.node(at).right);
        }
        let (least, rest) = self.detach_least(left);
        self.node_mut(at).left = rest;
        (least, self.rebalance(at))
    }

    /// Updates the size of a node after one of its sides changed by one key, and rebalances it. Returns the index of
    /// the node that is now at the top.
    fn rebalance(&mut self, at: u32) -> u32 {
        let Node { left, right, .. } = *self.node(at);
        let (less, more) = (self.size(left), self.size(right));
        self.node_mut(at).size = less + more + 1;
        if less + more <= 1 {
            return at;
        }
        if more > MAX_SIDE_RATIO * less {
            let Node { left: inner, right: outer, .. } = *self.node(right);
            if self.size(inner) >= SINGLE_ROTATION_RATIO * self.size(outer) {
                self.node_mut(at).right = self.rotate_right(right);
            }
            return self.rotate_left(at);
        }
        if less > MAX_SIDE_RATIO * more {
            let Node { left: outer, right: inner, .. } = *self.node(left);
            if self.size(inner) >= SINGLE_ROTATION_RATIO * self.size(outer) {
                self.node_mut(at).left = self.rotate_left(left);
            }
            return self.rotate_right(at);
        }
        at
    }

    /// Rotates left: the right child becomes the parent. Returns the index of the new parent.
    fn rotate_left(&mut self, at: u32) -> u32 {
        let up = self.node(at).right;
        self.node_mut(at).right = self.node(up).left;
        self.node_mut(up).left = at;
        self.update_size(at);
        self.update_size(up);
        up
    }

    /// Rotates right: the left child becomes the parent. Returns the index of the new parent.
    fn rotate_right(&mut self, at: u32) -> u32 {
        let up = self.node(at).left;
        self.node_mut(at).left = self.node(up).right;
        self.node_mut(up).right = at;
        self.update_size(at);
        self.update_size(up);
        up
    }

    fn update_size(&mut self, at: u32) {
        let Node { left, right, .. } = *self.node(at);
        self.node_mut(at).size = self.size(left) + self.size(right) + 1;
    }
}

/// Iterates over the keys in descending order.
pub(super) struct Descending<'a, K> {
    set: &'a OrderedSet<K>,
    /// The nodes that are still to come, each before its left side; the next node is last.
    path: Vec<u32>,
}

impl<'a, K: Ord> Iterator for Descending<'a, K> {
    type Item = &'a K;

    fn next(&mut self) -> Option<&'a K> {
        let at = self.path.pop()?;
        let mut below = self.set.node(at).left;
        while below != NO_NODE {
            self.path.push(below);
            below = self.set.node(below).right;
        }
        Some(self.set.key(at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Checks sizes and balance of a subtree; returns its depth.
    fn check(set: &OrderedSet<u16>, at: u32) -> u32 {
        if at == NO_NODE {
            return 0;
        }
        let Node { left, right, size, .. } = *set.node(at);
        let (less, more) = (set.size(left), set.size(right));
        assert_eq!(size, less + more + 1);
        assert!(
            less + more <= 1 || (less <= MAX_SIDE_RATIO * more && more <= MAX_SIDE_RATIO * less),
            "{less} {more}"
        );
        check(set, left).max(check(set, right)) + 1
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_set_and_knows_positions(
            steps in proptest::collection::vec((any::<bool>(), 0..200u16), 0..400), probe in 0..200u16, skip in 0..220usize,
        ) {
            let mut set = OrderedSet::default();
            let mut model = BTreeSet::new();
            for (put, key) in steps {
                if put {
                    set.insert(key);
                    model.insert(key);
                } else {
                    set.remove(&key);
                    model.remove(&key);
                }
                prop_assert_eq!(set.len(), model.len());
            }
            check(&set, set.root);
            prop_assert_eq!(set.count_above(&probe), model.range(probe + 1..).count());
            prop_assert!(set.descending(skip).eq(model.iter().rev().skip(skip)));
            prop_assert_eq!(set.nodes.len() - set.free_nodes.len(), model.len(), "freed nodes are used again");
        }
    }

    #[test]
    fn it_stays_flat_whatever_the_order() {
        let mut set = OrderedSet::default();
        for key in 0..=u16::MAX {
            set.insert(key);
        }
        assert!(check(&set, set.root) <= 24);
        for key in 0..60_000 {
            set.remove(&key);
        }
        assert!(check(&set, set.root) <= 20);
        assert_eq!(set.nodes.len(), usize::from(u16::MAX) + 1);
    }
}
