//! What a reader holds of one video: a ring of numbers that stands for a ring of comments, and its viewers' cursors.

use std::collections::{BTreeMap, BTreeSet};

use liverank_core::handover::resume;

use crate::net::{Item, Ms, Msg, Net, Node};

/// A viewer's connection. What is written arrives in order, as long as it lives.
pub struct Seat {
    pub viewer: (Node, u32),
    /// Where it stands; `None` until the ring does.
    pub seen: Option<u64>,
    /// Where it said it stood.
    pub position: Option<u64>,
    /// When the last of what was written arrives.
    pub arrives: Ms,
}

#[derive(Default)]
pub struct Room {
    /// What the archive was asked for another room of the video, before this one, is not for this one: a reader reads a head
    /// into the very channel that it asked for (`ChannelHub::open_channel` in `services/reader/src/hub.rs`).
    pub number: u64,
    /// The last number held; `None` until the archive was asked.
    pub head: Option<u64>,
    /// The highest number known to exist.
    pub known: u64,
    /// Numbers held, without a hole, end at the head.
    floor: u64,
    early: BTreeSet<u64>,
    pub seats: BTreeMap<u64, Seat>,
    pub empty_since: Ms,
    /// Managers that wait for it to be ready, and since when.
    pub warming: Vec<((Node, u32), Ms)>,
}

impl Room {
    pub fn new(number: u64, now: Ms) -> Self {
        Self { number, empty_since: now, ..Self::default() }
    }

    /// The ring stands, with the numbers after `after` up to `head`.
    pub fn fetched(&mut self, after: u64, head: u64) {
        self.known = self.known.max(head);
        match self.head {
            None => (self.floor, self.head) = (after + 1, Some(head)),
            Some(at) if after <= at && head > at => self.head = Some(head),
            Some(_) => {}
        }
        self.join_ring_and_live();
    }

    /// A comment came over the bus.
    pub fn published(&mut self, seq: u64) {
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
    pub fn hole(&self) -> Option<u64> {
        self.head.filter(|head| *head < self.known)
    }

    /// Everything that its viewers can be told now.
    pub fn tell(&mut self, reach: u64) -> Vec<(u64, Item)> {
        let Some(head) = self.head else { return Vec::new() };
        let mut items = Vec::new();
        for (conn, seat) in &mut self.seats {
            let seen = if let Some(seen) = seat.seen {
                seen
            } else {
                let position = seat.position.unwrap_or(head);
                items.push((*conn, Item::Connected(position)));
                let start = resume::resume_point(position, head, reach);
                if let Some((from, to)) = start.missed_range {
                    items.push((*conn, Item::Gap(from, to)));
                }
                start.send_after
            };
            items.extend((seen + 1..=head).map(|seq| (*conn, Item::Comment(seq))));
            seat.seen = Some(seen.max(head));
        }
        items
    }

    pub fn holds(&self, seq: u64) -> bool {
        self.head.is_some_and(|head| (self.floor..=head).contains(&seq))
    }
}

/// What is written arrives, in order; or the connection breaks, and nothing that is written after that does.
pub fn write(net: &mut Net, node: Node, conn: u64, seat: &mut Seat, item: Item) {
    if seat.arrives == Ms::MAX {
        return;
    }
    if net.weather.lost > 0 && net.rng.chance(1) {
        let at = seat.arrives.max(net.now) + net.delay();
        net.deliver(at, node, seat.viewer.0, None, Msg::Reset { conn });
        // The reader notices by a later write.
        let (noticed, inc) = (at + net.rng.below(3_000), net.inc(node));
        net.deliver(noticed, seat.viewer.0, node, Some(inc), Msg::Close { conn });
        seat.arrives = Ms::MAX;
        return;
    }
    seat.arrives = seat.arrives.max(net.now + net.delay());
    net.deliver(seat.arrives, node, seat.viewer.0, None, Msg::Sent { conn, item });
}
