//! Planners without a plan: they order moves, splits and joins at random, race each other, and take over from each
//! other.

use liverank_core::handover::{Share, VideoAssignment};

use crate::net::{NodeId, SimMessage, SimNetwork, SimTimer};

pub struct SimulatedPlanner {
    node: NodeId,
    term: Option<u64>,
}

impl SimulatedPlanner {
    pub const fn new(at: usize) -> Self {
        Self { node: NodeId::Planner(at), term: None }
    }

    pub fn start_process(&mut self, net: &mut SimNetwork) {
        let after = net.rng.number_between(500, 4_000);
        net.set_timer(self.node, after, SimTimer::Beat);
    }

    pub fn on_timer(&mut self, net: &mut SimNetwork, until: u64) {
        if net.now > until {
            return;
        }
        let manager = NodeId::Manager(net.rng.random_index(net.managers));
        // Every so often it takes itself for a new one.
        let msg = if self.term.is_none() || net.rng.happens_per_mille(100) {
            SimMessage::WantTerm
        } else {
            SimMessage::WhatIs
        };
        net.send_message(self.node, manager, msg);
        let after = net.rng.number_between(300, 2_500);
        net.set_timer(self.node, after, SimTimer::Beat);
    }

    pub fn handle_message(&mut self, net: &mut SimNetwork, msg: SimMessage) {
        match msg {
            SimMessage::Term(term) => self.term = Some(term),
            SimMessage::Situation { assignments, open } => self.order_random_move(net, &assignments, &open),
            SimMessage::Ordered { accepted: true } => net.checks.counts.orders += 1,
            SimMessage::Ordered { accepted: false } => net.checks.counts.refused_orders += 1,
            _ => {}
        }
    }

    fn order_random_move(
        &self,
        net: &mut SimNetwork,
        assignments: &[(usize, VideoAssignment)],
        open: &[usize],
    ) {
        let Some(term) = self.term else { return };
        let Some((video, assigned)) = net.rng.pick_one(assignments).cloned() else { return };
        // One order, or two that race at two managers.
        for _ in 0..net.rng.number_between(1, 2) {
            let mut readers = Vec::new();
            for _ in 0..net.rng.number_between(1, 3) {
                let Some(reader) = net.rng.pick_one(open).copied() else { return };
                let reader = net.readers[reader].clone();
                if readers.iter().all(|share: &Share| share.reader != reader) {
                    readers.push(Share { reader, weight: net.rng.number_between(1, 4) as u32 });
                }
            }
            let manager = NodeId::Manager(net.rng.random_index(net.managers));
            net.send_message(
                self.node,
                manager,
                SimMessage::Order { term, video, expected: assigned.epoch, readers },
            );
        }
    }
}
