//! The simulated channel of one video in a reader: a ring of sequence numbers in place of comments, and its viewers'
//! positions.

use std::collections::{BTreeMap, BTreeSet};

use liverank_core::handover::resume;

use crate::net::{Item, Ms, Msg, Net, Node};

/// A viewer's connection. Items written to it arrive in order, as long as it lives.
pub struct ViewerConnection {
    pub viewer: (Node, u32),
    /// The last sequence number that the viewer was sent; `None` until the ring is filled.
    pub seen: Option<u64>,
    /// The position that the viewer gave when it connected.
    pub position: Option<u64>,
    /// The time at which the last written item arrives; `Ms::MAX` if the connection is broken.
    pub arrives: Ms,
}

#[derive(Default)]
pub struct Channel {
    /// The number of this channel. An archive's answer to a request for an earlier channel of the video is not for
    /// this one: a reader reads a head into the very channel that asked for it (`ChannelHub::open_channel` in
    /// `services/reader/src/hub.rs`).
    pub number: u64,
    /// The last sequence number in the ring; `None` until the archive has answered.
    pub head: Option<u64>,
    /// The highest sequence number known to exist.
    pub known: u64,
    /// The first sequence number in the ring; the ring has no hole from there to the head.
    floor: u64,
    early: BTreeSet<u64>,
    pub seats: BTreeMap<u64, ViewerConnection>,
    pub empty_since: Ms,
    /// The managers that wait for the channel to be ready, each with the time of its request.
    pub warming: Vec<((Node, u32), Ms)>,
}

impl Channel {
    pub fn new(number: u64, now: Ms) -> Self {
        Self { number, empty_since: now, ..Self::default() }
    }

    /// Notes the archive's answer: the ring is filled with the numbers after `after` up to `head`.
    pub fn fetched(&mut self, after: u64, head: u64) {
        self.known = self.known.max(head);
        match self.head {
            None => (self.floor, self.head) = (after + 1, Some(head)),
            Some(at) if after <= at && head > at => self.head = Some(head),
            Some(_) => {}
        }
        self.join_ring_and_live();
    }

    /// Notes a comment that came over the bus.
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

    /// Returns the last sequence number before missing ones; `None` if none is missing.
    pub fn hole(&self) -> Option<u64> {
        self.head.filter(|head| *head < self.known)
    }

    /// Returns everything that the viewers can be sent now, with their connections.
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

/// Writes an item to a connection. The item arrives in order; or the connection breaks, and no later item arrives.
pub fn write(net: &mut Net, node: Node, conn: u64, seat: &mut ViewerConnection, item: Item) {
    if seat.arrives == Ms::MAX {
        return;
    }
    if net.weather.lost > 0 && net.rng.chance(1) {
        let at = seat.arrives.max(net.now) + net.delay();
        net.deliver(at, node, seat.viewer.0, None, Msg::Reset { conn });
        // The reader notices the broken connection at a later write.
        let (noticed, inc) = (at + net.rng.below(3_000), net.inc(node));
        net.deliver(noticed, seat.viewer.0, node, Some(inc), Msg::Close { conn });
        seat.arrives = Ms::MAX;
        return;
    }
    seat.arrives = seat.arrives.max(net.now + net.delay());
    net.deliver(seat.arrives, node, seat.viewer.0, None, Msg::Sent { conn, item });
}
