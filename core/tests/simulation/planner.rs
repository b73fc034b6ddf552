//! Simulated planners: they order moves, splits and joins at random, race each other, and take over from each other.

use liverank_core::handover::{AssignedReaders, ReaderShare};

use crate::net::{Msg, Net, Node, Timer};

pub struct RandomPlanner {
    node: Node,
    term: Option<u64>,
}

impl RandomPlanner {
    pub const fn new(at: usize) -> Self {
        Self { node: Node::Planner(at), term: None }
    }

    pub fn boot(&mut self, net: &mut Net) {
        let after = net.rng.between(500, 4_000);
        net.timer(self.node, after, Timer::Beat);
    }

    pub fn on_timer(&mut self, net: &mut Net, until: u64) {
        if net.now > until {
            return;
        }
        let manager = Node::Manager(net.rng.index(net.managers));
        // Now and then the planner acts as a new one and asks for a new term.
        let msg = if self.term.is_none() || net.rng.chance(100) { Msg::WantTerm } else { Msg::WhatIs };
        net.send(self.node, manager, msg);
        let after = net.rng.between(300, 2_500);
        net.timer(self.node, after, Timer::Beat);
    }

    pub fn on(&mut self, net: &mut Net, msg: Msg) {
        match msg {
            Msg::Term(term) => self.term = Some(term),
            Msg::Situation { assignments, open } => self.order_random_move(net, &assignments, &open),
            Msg::Ordered { accepted: true } => net.checks.counts.orders += 1,
            Msg::Ordered { accepted: false } => net.checks.counts.refused_orders += 1,
            _ => {}
        }
    }

    fn order_random_move(&self, net: &mut Net, assignments: &[(usize, AssignedReaders)], open: &[usize]) {
        let Some(term) = self.term else { return };
        let Some((video, assigned)) = net.rng.pick(assignments).cloned() else { return };
        // The planner sends one order, or two that race at two managers.
        for _ in 0..net.rng.between(1, 2) {
            let mut readers = Vec::new();
            for _ in 0..net.rng.between(1, 3) {
                let Some(reader) = net.rng.pick(open).copied() else { return };
                let reader = net.readers[reader].clone();
                if readers.iter().all(|share: &ReaderShare| share.reader != reader) {
                    readers.push(ReaderShare { reader, weight: net.rng.between(1, 4) as u32 });
                }
            }
            let manager = Node::Manager(net.rng.index(net.managers));
            net.send(self.node, manager, Msg::Order { term, video, expected: assigned.epoch, readers });
        }
    }
}
