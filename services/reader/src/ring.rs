//! The last comments of one video, encoded once and shared by all who watch it, and where each viewer stands in them.
//!
//! Pure: no clock, no socket, no lock. A viewer is a [`RingCursor`]; whatever writes to its socket asks [`CommentRing::take_comments`] what
//! comes next and gets a shared slice. Promises, tested below for any order, repeat and loss of what is pushed:
//! 1. A cursor is given each number once and in order; what it cannot be given is named by a gap, so that events and
//!    gaps together cover every number between where it began and where it is.
//! 2. Memory is bounded by the capacity and by bytes, whatever viewers do and however long comments are. Beyond either is a gap.
//! 3. A comment that a deletion names is given to nobody from then on, in whatever order the two are pushed or restored.
//!    Its number is: a viewer stands behind it then.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use liverank_core::comment::{CommentEpoch, StreamPosition};
use liverank_core::handover::resume::{self, ResumePoint};
use liverank_core::stream_events::StreamEvents;

use crate::entry::{EncodedEntry, StreamFilter, UserKey};
use crate::sse;

/// The ring holds this part more than a resuming viewer may ask for, so that one who asked for all of it has time to
/// take it before the oldest are pushed out.
const RING_SLACK_DIVISOR: usize = 4;
/// Slices that were joined and may be wanted again by others who stand at the same number.
const MAX_JOINED_KEPT: usize = 4;
/// The longest slice handed out at once: large enough that joining pays, small enough that a slow viewer's buffer is.
pub const MAX_SLICE_BYTES: usize = 32 * 1024;

/// Where a viewer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingCursor {
    /// Came before it was known where the comments stand: is told of a gap once it is known, where there are comments that may
    /// have come meanwhile, and given all that come from there on.
    New,
    /// Has seen everything up to a position that the ring has yet to judge.
    Resume(StreamPosition),
    /// Is to be told of a gap first.
    Missing {
        /// In which of the ring's turns.
        turn: u32,
        /// The first number it misses.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Claims to have been here, and cannot say where: is told of a gap and then given what comes.
    Lost,
    /// Has seen everything up to a number.
    At {
        /// In which of the ring's turns.
        turn: u32,
        /// Up to and including this number.
        seen: u64,
    },
}

impl RingCursor {
    /// Goes back over the last `count` events that it was given.
    pub const fn rewind(&mut self, count: u64) {
        if let Self::At { seen, .. } = self {
            *seen -= count;
        }
    }
}

/// What a viewer is to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenEvents {
    /// Nothing for now.
    Nothing,
    /// Whole events, shared with everyone who stands at the same number.
    Events {
        /// Encoded, one after the other.
        bytes: Bytes,
        /// How many.
        count: u64,
    },
    /// It misses the numbers `from` to `to`, and stands at `to` now.
    Gap {
        /// The run of sequence numbers.
        numbering: CommentEpoch,
        /// The first number missed; 0 where that is unknown.
        from: u64,
        /// The last number missed.
        to: u64,
    },
}

/// The outcome of pushing a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// It continued the ring, with this many (itself and those that had come early).
    Appended(u64),
    /// The ring had the comment already.
    Repeat,
    /// The comment waits for those with lower numbers.
    Early,
    /// Too many wait already: it will come again with the hole's filling.
    Refused,
}

/// Numbers that are known to exist and are not here: those after `after` up to `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingHole {
    /// The last number before them.
    pub before_first: u64,
    /// The last of them.
    pub last: u64,
}

/// The latest comments of one video, in order, with those that came early.
#[derive(Debug)]
pub struct CommentRing {
    /// How far back a resuming viewer may ask.
    reach: usize,
    /// What the events may take together, and again those that came early. The newest one is kept, whatever it takes.
    max_bytes: usize,
    comment_epoch: Option<CommentEpoch>,
    /// Grows when comments are numbered anew; 0 while it is unknown where they stand.
    turn_number: u32,
    /// Where this turn began.
    origin: u64,
    /// The events numbered `head - len + 1 ..= head`; `None` was given up.
    events: VecDeque<Option<EncodedEntry>>,
    /// The bytes that they take.
    bytes: usize,
    /// There was no room for this number and those before it.
    no_room_upto: u64,
    /// Events that went for want of room, since somebody asked last.
    crowded_out: u64,
    head_seq: u64,
    /// Viewers are given what is up to here: what is behind it waits to be joined with more.
    visible: u64,
    /// The highest number known to exist.
    highest_known: u64,
    early: BTreeMap<u64, EncodedEntry>,
    /// The bytes that they take.
    early_bytes: usize,
    /// Comments that deletions name, no older than what may be restored.
    removed: BTreeSet<u64>,
    /// The last number of an entry that not all viewers are given alike; 0 without any.
    last_special: u64,
    /// The last number of a shadowed comment of each author that has one here.
    shadowed: HashMap<UserKey, u64>,
    joined: VecDeque<JoinedSlice>,
}

#[derive(Debug)]
struct JoinedSlice {
    seen_seq: u64,
    visible: u64,
    stream_filter: StreamFilter,
    bytes: Bytes,
    event_count: u64,
}

impl CommentRing {
    /// A ring that serves viewers who missed up to `reach` comments, fewer where these take more than `max_bytes`. It holds
    /// nothing before [`CommentRing::begin_turn`].
    pub fn new(reach: usize, max_bytes: usize) -> Self {
        Self {
            reach: reach.max(1),
            max_bytes,
            comment_epoch: None,
            turn_number: 0,
            origin: 0,
            events: VecDeque::new(),
            bytes: 0,
            no_room_upto: 0,
            crowded_out: 0,
            head_seq: 0,
            visible: 0,
            highest_known: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            removed: BTreeSet::new(),
            last_special: 0,
            shadowed: HashMap::new(),
            joined: VecDeque::new(),
        }
    }

    /// Begins a turn: comments of `numbering` stand at `head`. Viewers of the turn before are told of a gap.
    pub fn begin_turn(&mut self, numbering: CommentEpoch, head: u64) {
        self.comment_epoch = Some(numbering);
        self.turn_number += 1;
        (self.origin, self.head_seq, self.visible, self.highest_known) = (head, head, head, head);
        self.events.clear();
        self.early.clear();
        (self.bytes, self.early_bytes, self.no_room_upto) = (0, 0, 0);
        self.removed.clear();
        self.last_special = 0;
        self.shadowed.clear();
        self.joined.clear();
    }

    /// Which count it holds; `None` before [`CommentRing::begin_turn`].
    pub const fn numbering(&self) -> Option<&CommentEpoch> {
        self.comment_epoch.as_ref()
    }

    /// The last number held.
    pub const fn head(&self) -> u64 {
        self.head_seq
    }

    /// The highest number known to exist.
    pub const fn known(&self) -> u64 {
        self.highest_known
    }

    /// The first number held; one past the head where none is.
    fn first_seq(&self) -> u64 {
        self.head_seq + 1 - self.events.len() as u64
    }

    const fn capacity(&self) -> usize {
        self.reach + self.reach / RING_SLACK_DIVISOR + 1
    }

    /// Takes an entry of the channel, in whatever order they come. Nobody is given it before [`CommentRing::reveal_all`].
    pub fn push(&mut self, seq: u64, entry: impl Into<EncodedEntry>) -> PushOutcome {
        let entry = entry.into();
        self.highest_known = self.highest_known.max(seq);
        if let Some(removed) = entry.removed_seq() {
            self.remove_comment(removed);
        }
        let entry = self.entry_unless_removed(seq, entry);
        if seq <= self.head_seq || self.early.contains_key(&seq) {
            return PushOutcome::Repeat;
        }
        if seq > self.head_seq + 1 {
            // A hole is filled from the stores long before as many arrive; what is beyond is fetched with it.
            let full = self.early_bytes + entry.memory_bytes() > self.max_bytes && !self.early.is_empty();
            if full || self.early.len() >= self.reach {
                return PushOutcome::Refused;
            }
            self.early_bytes += entry.memory_bytes();
            self.early.insert(seq, entry);
            return PushOutcome::Early;
        }
        self.append_entry(Some(entry));
        PushOutcome::Appended(1 + self.append_early())
    }

    /// Replaces a comment by what is left of it, now or when it comes.
    fn remove_comment(&mut self, seq: u64) {
        let oldest = self.head_seq.saturating_sub(self.capacity() as u64);
        // What is older cannot be restored; what is newer than a deletion is none that it names.
        self.removed = self.removed.split_off(&oldest);
        if seq < oldest {
            return;
        }
        self.removed.insert(seq);
        let at = seq.checked_sub(self.first_seq());
        let held = at.and_then(|at| self.events.get_mut(at as usize)).and_then(Option::as_mut);
        let (entry, bytes) = match (held, self.early.get_mut(&seq)) {
            (Some(entry), _) => (entry, &mut self.bytes),
            (None, Some(entry)) => (entry, &mut self.early_bytes),
            (None, None) => return,
        };
        *bytes -= entry.memory_bytes();
        *entry = entry.to_removed();
        *bytes += entry.memory_bytes();
        self.joined.clear();
    }

    fn entry_unless_removed(&self, seq: u64, entry: EncodedEntry) -> EncodedEntry {
        if self.removed.contains(&seq) { entry.to_removed() } else { entry }
    }

    fn append_entry(&mut self, entry: Option<EncodedEntry>) {
        self.head_seq += 1;
        if let Some(entry) = &entry {
            self.note_special(self.head_seq, entry);
            self.bytes += entry.memory_bytes();
        }
        self.events.push_back(entry);
        if self.events.len() > self.capacity() {
            self.drop_oldest();
        }
        self.evict_to_fit();
    }

    fn drop_oldest(&mut self) {
        if let Some(Some(entry)) = self.events.pop_front() {
            self.bytes -= entry.memory_bytes();
        }
    }

    fn evict_to_fit(&mut self) {
        while self.bytes > self.max_bytes && self.events.len() > 1 {
            self.no_room_upto = self.first_seq();
            self.crowded_out += 1;
            self.drop_oldest();
        }
    }

    /// How far back it reaches: less than it may be asked for where there was no room.
    fn reach_now(&self) -> u64 {
        (self.reach as u64).min(self.head_seq.saturating_sub(self.no_room_upto))
    }

    /// What all that is held takes, in bytes; and how many events went for want of room since this was asked last.
    pub const fn used_bytes_and_evicted(&mut self) -> (usize, u64) {
        (self.bytes + self.early_bytes, std::mem::replace(&mut self.crowded_out, 0))
    }

    fn append_early(&mut self) -> u64 {
        let before = self.head_seq;
        while let Some(entry) = self.early.remove(&(self.head_seq + 1)) {
            self.early_bytes -= entry.memory_bytes();
            self.append_entry(Some(entry));
        }
        self.head_seq - before
    }

    /// Notes that comments up to `seq` exist.
    pub fn note_exists(&mut self, seq: u64) {
        self.highest_known = self.highest_known.max(seq);
    }

    /// What is known to exist and is not here, the lowest stretch of it.
    pub fn first_hole(&self) -> Option<RingHole> {
        let upto = self.early.first_key_value().map_or(self.highest_known, |(first, _)| first - 1);
        (upto > self.head_seq).then_some(RingHole { before_first: self.head_seq, last: upto })
    }

    /// Stops waiting for the lowest hole: what waits behind it is let through, and viewers are told of a gap. Where
    /// nothing waits behind it, the hole is merely forgotten until somebody names it again. Returns how many numbers
    /// viewers will be told they miss.
    pub fn give_up_hole(&mut self) -> u64 {
        let Some(hole) = self.first_hole() else { return 0 };
        if self.early.is_empty() {
            self.highest_known = self.head_seq;
            return 0;
        }
        let lost = hole.last - hole.before_first;
        if lost as usize >= self.capacity() {
            self.events.clear();
            self.bytes = 0;
            self.head_seq = hole.last;
        } else {
            (0..lost).for_each(|_| self.append_entry(None));
        }
        self.append_early();
        lost
    }

    /// Lets viewers have all that is held. Returns whether there is anything they did not have before.
    pub const fn reveal_all(&mut self) -> bool {
        let news = self.visible < self.head_seq;
        self.visible = self.head_seq;
        news
    }

    /// Where a viewer begins that wants what comes from now on.
    pub const fn cursor_from_now(&self) -> RingCursor {
        match self.comment_epoch {
            Some(_) => RingCursor::At { turn: self.turn_number, seen: self.head_seq },
            None => RingCursor::New,
        }
    }

    /// Where a viewer begins that comes back. It is given no more than promised, though the ring may hold more: what a
    /// viewer gets does not depend on luck.
    pub fn cursor_from_position(&self, position: StreamPosition) -> RingCursor {
        if self.comment_epoch.as_ref() != Some(&position.comment_epoch) {
            return RingCursor::Resume(position);
        }
        let ResumePoint { missed_range: gap, send_after: after } =
            resume::resume_point(position.seq, self.head_seq, self.reach_now());
        match gap {
            Some((from, to)) => RingCursor::Missing { turn: self.turn_number, from, to },
            None => RingCursor::At { turn: self.turn_number, seen: after },
        }
    }

    /// The position that a viewer at `cursor` stands at, or will be told it stands at; `None` while that is unknown.
    pub fn position_of(&self, cursor: &RingCursor) -> Option<StreamPosition> {
        let numbering = self.comment_epoch.clone()?;
        let seq = match cursor {
            RingCursor::New => self.origin,
            RingCursor::Resume(position) if position.comment_epoch == numbering => position.seq,
            RingCursor::At { turn, seen } if *turn == self.turn_number => *seen,
            RingCursor::Missing { turn, from, .. } if *turn == self.turn_number => from - 1,
            RingCursor::Resume(_) | RingCursor::Lost | RingCursor::At { .. } | RingCursor::Missing { .. } => {
                self.head_seq
            }
        };
        Some(StreamPosition { comment_epoch: numbering, seq })
    }

    /// What has to be fetched so that a viewer who has seen everything up to `seen` misses no more than it must.
    pub fn missing_since(&self, seen: u64) -> Option<RingHole> {
        let after = resume::resume_point(seen, self.head_seq, self.reach_now()).send_after;
        if after >= self.head_seq {
            return None;
        }
        let floor = self.first_seq();
        let first = after.max(floor - 1) + 1;
        let given_up = (first..=self.head_seq).rev().find(|seq| self.event_at(*seq).is_none());
        let upto = given_up.unwrap_or(floor - 1);
        (upto > after).then_some(RingHole { before_first: after, last: upto })
    }

    /// Puts back entries from before the ring's first, or ones that were given up. In ascending order, without holes.
    pub fn restore_earlier<E: Into<EncodedEntry>>(&mut self, entries: Vec<(u64, E)>) {
        let entries: Vec<(u64, EncodedEntry)> =
            entries.into_iter().map(|(seq, entry)| (seq, entry.into())).collect();
        for removed in entries.iter().filter_map(|(_, entry)| entry.removed_seq()) {
            self.remove_comment(removed);
        }
        for (seq, entry) in entries.into_iter().rev() {
            let event = self.entry_unless_removed(seq, entry);
            self.note_special(seq, &event);
            let floor = self.first_seq();
            if (floor..=self.head_seq).contains(&seq) {
                let slot = &mut self.events[(seq - floor) as usize];
                if slot.is_none() {
                    self.bytes += event.memory_bytes();
                    *slot = Some(event);
                }
            } else if seq + 1 == floor && seq > 0 && self.events.len() < self.capacity() {
                if self.bytes + event.memory_bytes() > self.max_bytes {
                    self.no_room_upto = self.no_room_upto.max(seq);
                    break;
                }
                self.bytes += event.memory_bytes();
                self.events.push_front(Some(event));
            }
        }
        self.evict_to_fit();
        self.joined.clear();
    }

    /// Notes an entry that not all viewers are given alike.
    fn note_special(&mut self, seq: u64, entry: &EncodedEntry) {
        if !entry.differs_by_viewer() {
            return;
        }
        self.last_special = self.last_special.max(seq);
        if let Some(author) = entry.only_author() {
            let last = self.shadowed.entry(author).or_default();
            *last = seq.max(*last);
            // Of those whose comments have left the ring nothing is to be known.
            if self.shadowed.len() > 2 * self.capacity() {
                let floor = self.head_seq.saturating_sub(self.capacity() as u64);
                self.shadowed.retain(|_, last| *last >= floor);
            }
        }
    }

    fn event_at(&self, seq: u64) -> Option<&EncodedEntry> {
        self.events.get(seq.checked_sub(self.first_seq())? as usize)?.as_ref()
    }

    /// What a viewer is to be sent next that asked for nothing beside comments; moves its cursor past it.
    pub fn take_comments(&mut self, cursor: &mut RingCursor) -> TakenEvents {
        self.take_for_filter(cursor, StreamEvents::default())
    }

    /// What a viewer is to be sent next; moves its cursor past it.
    pub fn take_for_filter(
        &mut self,
        cursor: &mut RingCursor,
        asked: impl Into<StreamFilter>,
    ) -> TakenEvents {
        if let Some(told) = self.settle_cursor(cursor) {
            return told;
        }
        let RingCursor::At { seen, .. } = cursor else { return TakenEvents::Nothing };
        if *seen >= self.visible {
            return TakenEvents::Nothing;
        }
        let missed = self.missed_after(*seen);
        if missed > *seen {
            let gap = self.gap_between(*seen + 1, missed);
            *seen = missed;
            return gap.unwrap_or(TakenEvents::Nothing);
        }
        let (bytes, count) = self.joined_slice(*seen, asked.into());
        *seen += count;
        TakenEvents::Events { bytes, count }
    }

    /// Gives a cursor its place in this turn, where there is one, and answers what its viewer is to be told of that: a gap, or
    /// where it stands.
    fn settle_cursor(&self, cursor: &mut RingCursor) -> Option<TakenEvents> {
        let numbering = self.comment_epoch.as_ref()?;
        let (seen, gap) = match cursor {
            RingCursor::At { turn, .. } if *turn == self.turn_number => return None,
            // What came between its greeting and now, nobody can tell.
            RingCursor::New if self.origin > 0 => (self.origin, self.gap_between(0, self.origin)),
            // It learns where it stands, or it could not resume if it is lost before the first comment.
            RingCursor::New => (0, self.standing_at(0)),
            RingCursor::Resume(position) if position.comment_epoch == *numbering => (position.seq, None),
            RingCursor::Missing { turn, from, to } if *turn == self.turn_number => {
                (*to, self.gap_between(*from, *to))
            }
            RingCursor::Lost | RingCursor::Resume(_) => (self.head_seq, self.gap_between(0, self.head_seq)),
            // All that came since the new count was known is still to be had.
            RingCursor::At { .. } | RingCursor::Missing { .. } => {
                (self.origin, self.gap_between(0, self.origin))
            }
        };
        *cursor = RingCursor::At { turn: self.turn_number, seen };
        gap
    }

    fn standing_at(&self, seq: u64) -> Option<TakenEvents> {
        let bytes = sse::id_only_event(self.comment_epoch.as_ref()?, seq);
        Some(TakenEvents::Events { bytes, count: 0 })
    }

    fn gap_between(&self, from: u64, to: u64) -> Option<TakenEvents> {
        Some(TakenEvents::Gap { numbering: self.comment_epoch.clone()?, from, to })
    }

    /// The last number of the stretch that follows `seen` and is not held.
    fn missed_after(&self, seen: u64) -> u64 {
        let mut missed = seen.max(self.first_seq() - 1);
        while missed < self.visible && self.event_at(missed + 1).is_none() {
            missed += 1;
        }
        missed
    }

    /// The events after `seen`, of which the first is held, joined; and how many they are.
    fn joined_slice(&mut self, seen: u64, asked: StreamFilter) -> (Bytes, u64) {
        // Where all are given the same, all share it.
        let asked = if self.last_special > seen {
            let has_own = self.shadowed.get(&asked.shadowed_user).is_some_and(|last| *last > seen);
            StreamFilter {
                shadowed_user: if has_own { asked.shadowed_user } else { UserKey::default() },
                ..asked
            }
        } else {
            StreamFilter::default()
        };
        let known = |joined: &&JoinedSlice| {
            (joined.seen_seq, joined.visible, joined.stream_filter) == (seen, self.visible, asked)
        };
        if let Some(joined) = self.joined.iter().find(known) {
            return (joined.bytes.clone(), joined.event_count);
        }
        let mut size = 0;
        let fits = |event: &&Bytes| {
            size += event.len();
            size == event.len() || size <= MAX_SLICE_BYTES
        };
        let held = (seen + 1..=self.visible).map_while(|seq| self.event_at(seq));
        let events: Vec<&Bytes> = held.map(|entry| entry.event_bytes(asked)).take_while(fits).collect();
        let count = events.len() as u64;
        if let [event] = events[..] {
            return (event.clone(), 1);
        }
        let mut bytes = BytesMut::with_capacity(events.iter().map(|event| event.len()).sum());
        for event in events {
            bytes.extend_from_slice(event);
        }
        let bytes = bytes.freeze();
        if self.joined.len() == MAX_JOINED_KEPT {
            self.joined.pop_front();
        }
        self.joined.push_back(JoinedSlice {
            seen_seq: seen,
            visible: self.visible,
            stream_filter: asked,
            bytes: bytes.clone(),
            event_count: count,
        });
        (bytes, count)
    }

    /// Lets go of what only speeds up a busy time.
    pub fn shrink_buffers(&mut self) {
        self.joined = VecDeque::new();
    }
}

#[cfg(test)]
mod tests;
