//! What a reader holds of one video: a ring of numbers that stands for a ring of comments, and its viewers' cursors.

use std::collections::{BTreeMap, BTreeSet};

use liverank_core::handover::resume;

use crate::net::{Ms, NodeId, SimMessage, SimNetwork, StreamItem};

/// A viewer's connection. What is written arrives in order, as long as it lives.
pub struct ViewerSeat {
    pub viewer: (NodeId, u32),
    /// Where it stands; `None` until the ring does.
    pub seen: Option<u64>,
    /// Where it said it stood.
    pub position: Option<u64>,
    /// When the last of what was written arrives.
    pub arrives: Ms,
}

#[derive(Default)]
pub struct SimulatedRoom {
    /// The last number held; `None` until the archive was asked.
    pub head: Option<u64>,
    /// The highest number known to exist.
    pub known: u64,
    /// Numbers held, without a hole, end at the head.
    floor: u64,
    early: BTreeSet<u64>,
    pub seats: BTreeMap<u64, ViewerSeat>,
    pub empty_since: Ms,
    /// Managers that wait for it to be ready.
    pub warming: Vec<(NodeId, u32)>,
}

impl SimulatedRoom {
    pub fn new(now: Ms) -> Self {
        Self { empty_since: now, ..Self::default() }
    }

    /// The ring stands, with the numbers after `after` up to `head`.
    pub fn take_fetched(&mut self, after: u64, head: u64) {
        self.known = self.known.max(head);
        match self.head {
            None => (self.floor, self.head) = (after + 1, Some(head)),
            Some(at) if after <= at && head > at => self.head = Some(head),
            Some(_) => {}
        }
        self.join_ring_and_live();
    }

    /// A comment came over the bus.
    pub fn take_published(&mut self, seq: u64) {
        self.known = self.known.max(seq);
        if self.head.is_some_and(|head| seq > head) {
            self.early.insert(seq);
        }
        self.join_ring_and_live();
    }

    fn join_ring_and_live(&mut self) {
        let Some(head) = &mut self.head else { return };
        while self.early.remove(&(*head + 1)) {
            *head += 1;
        }
        self.early.retain(|seq| *seq > *head);
    }

    /// The last number before what is missing.
    pub fn last_before_gap(&self) -> Option<u64> {
        self.head.filter(|head| *head < self.known)
    }

    /// Everything that its viewers can be told now.
    pub fn items_to_tell(&mut self, reach: u64) -> Vec<(u64, StreamItem)> {
        let Some(head) = self.head else { return Vec::new() };
        let mut items = Vec::new();
        for (conn, seat) in &mut self.seats {
            let seen = if let Some(seen) = seat.seen {
                seen
            } else {
                let position = seat.position.unwrap_or(head);
                items.push((*conn, StreamItem::Connected(position)));
                let start = resume::start(position, head, reach);
                if let Some((from, to)) = start.gap {
                    items.push((*conn, StreamItem::Gap(from, to)));
                }
                start.after
            };
            items.extend((seen + 1..=head).map(|seq| (*conn, StreamItem::Comment(seq))));
            seat.seen = Some(seen.max(head));
        }
        items
    }

    pub fn has_comment(&self, seq: u64) -> bool {
        self.head.is_some_and(|head| (self.floor..=head).contains(&seq))
    }
}

/// What is written arrives, in order; or the connection breaks, and nothing that is written after that does.
pub fn write_item(net: &mut SimNetwork, node: NodeId, conn: u64, seat: &mut ViewerSeat, item: StreamItem) {
    if seat.arrives == Ms::MAX {
        return;
    }
    if net.weather.lost > 0 && net.rng.happens_per_mille(1) {
        let at = seat.arrives.max(net.now) + net.random_delay();
        net.deliver_at(at, node, seat.viewer.0, None, SimMessage::Reset { conn });
        // The reader notices by a later write.
        let (noticed, inc) = (at + net.rng.number_below(3_000), net.incarnation(node));
        net.deliver_at(noticed, seat.viewer.0, node, Some(inc), SimMessage::Close { conn });
        seat.arrives = Ms::MAX;
        return;
    }
    seat.arrives = seat.arrives.max(net.now + net.random_delay());
    net.deliver_at(seat.arrives, node, seat.viewer.0, None, SimMessage::Sent { conn, item });
}
