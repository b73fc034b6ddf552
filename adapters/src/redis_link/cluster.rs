//! The nodes of a Redis Cluster, and the node that holds each slot as far as we know.
//!
//! The client library's own cluster connection is not used: it renews sharded subscriptions in a way that Redis
//! refuses, keeps pushed messages in a queue without bound, and delays all callers while it connects to an unreachable
//! node. Here each node has its own connection, and an unreachable node affects only its slots.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::{ErrorKind, RedisError, cmd};
use tokio::time::Instant;

use super::PART_NAME;
use super::node::{CALLER_TIMEOUT, Dialer, Node};
use super::slots::{Address, Slots};
use crate::StoreError;

/// The pause between two reads of the slots' owners: nodes need about as long to inform each other.
const REREAD_SLOTS_AFTER: Duration = Duration::from_millis(200);
/// The number of nodes asked at once for the slots' owners; the first answer counts. With a larger number, many
/// requests would be sent for one answer; with a smaller one, all the nodes asked might be unreachable.
const NODES_ASKED_AT_ONCE: usize = 5;

/// The nodes of a Redis Cluster.
pub(super) struct Cluster {
    dialer: Dialer,
    configured_nodes: Vec<(Address, Arc<Node>)>,
    /// The nodes that hold slots, and the nodes that a redirection named since the slots were last read.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    known_slots: RwLock<Arc<Slots>>,
    /// Held by the task that reads the slots' owners; the value is the time of the last attempt.
    slot_read_lock: tokio::sync::Mutex<Option<Instant>>,
    slots_are_stale: AtomicBool,
}

impl Cluster {
    /// Returns the cluster to which the nodes in `dialers` belong. The credentials and the TLS settings of the first
    /// dialer are used for all nodes.
    pub(super) fn new(dialers: Vec<Dialer>) -> Result<Self, StoreError> {
        let mut configured_nodes = Vec::new();
        for dialer in &dialers {
            let address = dialer.address().ok_or_else(|| {
                StoreError::unusable(PART_NAME, "the nodes of a cluster are reached over TCP")
            })?;
            if dialer.database() != 0 {
                return Err(StoreError::unusable(PART_NAME, "a cluster has no numbered databases"));
            }
            configured_nodes.push((address, Arc::new(dialer.node_of_url()?)));
        }
        let dialer = dialers.into_iter().next();
        Ok(Self {
            dialer: dialer.ok_or_else(|| StoreError::unusable(PART_NAME, "no URL"))?,
            configured_nodes,
            nodes: Mutex::new(HashMap::new()),
            known_slots: RwLock::new(Arc::default()),
            slot_read_lock: tokio::sync::Mutex::new(None),
            slots_are_stale: AtomicBool::new(false),
        })
    }

    /// Returns the node that holds each slot, as far as we know.
    pub(super) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.known_slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks the slots' owners as possibly changed: the next caller reads them again first.
    pub(super) fn mark_slots_stale(&self) {
        self.slots_are_stale.store(true, Ordering::Relaxed);
    }

    /// Returns the same as [`Self::slots`], after reading the owners again if they may have changed. An old answer is
    /// better than none: a command that is sent to the wrong node is redirected to the right one.
    pub(super) async fn current_slots(&self) -> Result<Arc<Slots>, RedisError> {
        let slots = self.slots();
        if slots.version == 0 {
            return self.reread_slots(0).await;
        }
        if !self.slots_are_stale.swap(false, Ordering::Relaxed) {
            return Ok(slots);
        }
        Ok(self.reread_slots(slots.version).await.unwrap_or(slots))
    }

    /// Returns the slots' owners of a version later than `seen`: reads them from the cluster, unless another task has
    /// done so.
    pub(super) async fn reread_slots(&self, seen: u64) -> Result<Arc<Slots>, RedisError> {
        tokio::time::timeout(CALLER_TIMEOUT + REREAD_SLOTS_AFTER, self.read_slots(seen)).await.unwrap_or_else(
            |_| {
                let reason = "no node of the cluster says who holds what";
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, reason).into())
            },
        )
    }

    async fn read_slots(&self, seen: u64) -> Result<Arc<Slots>, RedisError> {
        let mut last = self.slot_read_lock.lock().await;
        let slots = self.slots();
        if slots.version > seen {
            return Ok(slots);
        }
        if let Some(last) = *last {
            tokio::time::sleep_until(last + REREAD_SLOTS_AFTER).await;
        }
        *last = Some(Instant::now());
        let question = cmd("CLUSTER").arg("SLOTS").clone();
        let version = slots.version + 1;
        let mut asked: FuturesUnordered<_> = self
            .nodes_to_ask()
            .into_iter()
            .map(|(address, node)| {
                let question = &question;
                async move {
                    let answer = node.send_command(question).await?.extract_error()?;
                    let foreign = (ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS answered something else");
                    Slots::parse(version, &answer, &address).ok_or_else(|| RedisError::from(foreign))
                }
            })
            .collect();
        let mut failure = RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node is known"));
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(read) => return Ok(self.adopt_slots(read)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Returns the nodes to ask for the slots: first those with a connection, then the others, then those that the
    /// configuration names.
    fn nodes_to_ask(&self) -> Vec<(Address, Arc<Node>)> {
        let mut all: Vec<_> = {
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.iter().map(|(address, node)| (address.clone(), Arc::clone(node))).collect()
        };
        all.sort_by_key(|(_, node)| !node.is_connected());
        // One of the configuration's nodes is always among them: the nodes we know may all have gone for good.
        all.truncate(NODES_ASKED_AT_ONCE - 1);
        let seeds: Vec<_> = self
            .configured_nodes
            .iter()
            .filter(|(seed, _)| all.iter().all(|(known, _)| known != seed))
            .collect();
        let first = rand::random_range(0..seeds.len().max(1));
        all.extend(
            seeds
                .iter()
                .cycle()
                .skip(first)
                .take(seeds.len().min(NODES_ASKED_AT_ONCE - all.len()))
                .map(|&seed| seed.clone()),
        );
        all
    }

    /// Returns the number of the last connection for commands to each node that is known.
    pub(super) fn last_connections(&self) -> HashMap<Address, u64> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().map(|(address, node)| (address.clone(), node.last_connection())).collect()
    }

    fn adopt_slots(&self, read: Slots) -> Arc<Slots> {
        let read = Arc::new(read);
        let holding = read.nodes();
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|address, _| holding.contains(address));
        *self.known_slots.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&read);
        drop(holding);
        read
    }

    /// Returns the node at `address`, which is created if it is not known yet.
    pub(super) fn node(&self, address: &Address) -> Result<Arc<Node>, RedisError> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(self.dialer.node_at(address)?);
        nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }
}
