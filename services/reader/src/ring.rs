//! The last comments of one video, encoded once and shared by all its viewers, and each viewer's position in them.
//!
//! Pure: no clock, no socket, no lock. A viewer is a [`RingCursor`]; the code that writes to the viewer's socket calls
//! [`CommentRing::take_comments`] and gets a shared slice of the next events. Guarantees, tested below for any order,
//! repetition and loss of what is pushed:
//!
//! 1. A cursor is given each sequence number once and in order. Numbers that it cannot be given are named by a gap, so
//!    that events and gaps together cover every number between the cursor's first and its current position.
//! 2. Memory is bounded by the capacity in comments and by bytes, whatever viewers do and however long comments are.
//!    Viewers behind these bounds are told of a gap.
//! 3. A comment that a deletion names is given to nobody from then on, in whatever order the two are pushed or
//!    restored. Its sequence number still is: a viewer's position is then behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use liverank_core::comment::{CommentEpoch, StreamPosition};
use liverank_core::handover::resume::{self, ResumePoint};
use liverank_core::stream_events::StreamEvents;

use crate::entry::{EncodedEntry, StreamFilter, UserKey};
use crate::sse;

/// The ring holds one part in this many more comments than a resuming viewer may ask for, so that a viewer who asked
/// for all of them has time to take them before the oldest are evicted.
const RING_SLACK_DIVISOR: usize = 4;
/// The maximum number of joined slices that are kept for other viewers at the same position.
const MAX_JOINED_KEPT: usize = 4;
/// The maximum length of a slice: large enough that joining events pays, small enough that a slow viewer's buffer stays
/// small.
pub const MAX_SLICE_BYTES: usize = 32 * 1024;

/// The position of a viewer in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingCursor {
    /// The viewer came before the ring had a position. Once the ring has one, the viewer is told of a gap if comments
    /// may have come meanwhile, and is given all comments from there on.
    New,
    /// The viewer has seen everything up to a position that the ring has not checked yet.
    Resume(StreamPosition),
    /// The viewer has to be told of a gap first.
    Missing {
        /// The turn of the ring to which the numbers belong.
        turn: u32,
        /// The first sequence number that the viewer misses.
        from: u64,
        /// The last sequence number that the viewer misses.
        to: u64,
    },
    /// The viewer was connected before, and its position is unknown: it is told of a gap and then given new comments.
    Lost,
    /// The viewer has seen everything up to a sequence number.
    At {
        /// The turn of the ring to which the number belongs.
        turn: u32,
        /// The last sequence number that the viewer has seen.
        seen: u64,
    },
}

impl RingCursor {
    /// Moves the cursor back over the last `count` events that it was given.
    pub const fn rewind(&mut self, count: u64) {
        if let Self::At { seen, .. } = self {
            *seen -= count;
        }
    }
}

/// The events that a viewer is to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenEvents {
    /// There is nothing to send now.
    Nothing,
    /// Whole events, shared by all viewers at the same position.
    Events {
        /// The encoded events, one after the other.
        bytes: Bytes,
        /// The number of events; 0 if the bytes only name the viewer's position.
        count: u64,
    },
    /// The viewer misses the sequence numbers `from` to `to`; its position is `to` now.
    Gap {
        /// The comment epoch to which the numbers belong.
        numbering: CommentEpoch,
        /// The first sequence number missed; 0 if that is unknown.
        from: u64,
        /// The last sequence number missed.
        to: u64,
    },
}

/// The outcome of pushing a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// The comment continued the ring, which grew by this many comments: this one and those that had arrived early.
    Appended(u64),
    /// The ring had the comment already.
    Repeat,
    /// The comment is kept until those with lower sequence numbers have arrived.
    Early,
    /// The comment was dropped because too many wait already: it is fetched again when the hole is filled.
    Refused,
}

/// A range of sequence numbers that are known to exist and are not in the ring: those after `before_first` up to
/// `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingHole {
    /// The last sequence number before the range.
    pub before_first: u64,
    /// The last sequence number of the range.
    pub last: u64,
}

/// The latest comments of one video in order, and those that arrived early.
#[derive(Debug)]
pub struct CommentRing {
    /// The maximum number of comments that a resuming viewer may have missed and still gets.
    reach: usize,
    /// The maximum number of bytes that the events may take together, and the same again for those that arrived early.
    /// The newest event is kept whatever it takes.
    max_bytes: usize,
    comment_epoch: Option<CommentEpoch>,
    /// Grows by one with each new comment epoch; 0 while the ring has no position.
    turn_number: u32,
    /// The sequence number at which this turn began.
    origin: u64,
    /// The events numbered `head - len + 1 ..= head`; `None` for an event that was given up as lost.
    events: VecDeque<Option<EncodedEntry>>,
    /// The bytes that `events` take.
    bytes: usize,
    /// The highest sequence number that was evicted, or not restored, for lack of space.
    no_room_upto: u64,
    /// The number of events evicted for lack of space since `CommentRing::used_bytes_and_evicted` was last called.
    crowded_out: u64,
    head_seq: u64,
    /// The last sequence number that viewers are given: later ones wait to be joined with more.
    visible: u64,
    /// The highest sequence number known to exist.
    highest_known: u64,
    early: BTreeMap<u64, EncodedEntry>,
    /// The bytes that `early` takes.
    early_bytes: usize,
    /// The sequence numbers of removed comments, no older than what may still be restored.
    removed: BTreeSet<u64>,
    /// The last sequence number of an entry that differs by viewer; 0 if there is none.
    last_special: u64,
    /// For each author of shadowed comments in the ring, the sequence number of the last one.
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
    /// Makes a ring that serves viewers who missed up to `reach` comments, fewer if these take more than `max_bytes`
    /// bytes. The ring is empty and has no position before [`CommentRing::begin_turn`].
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

    /// Begins a turn: empties the ring and sets its position to `head` in the comment epoch `numbering`. Viewers of the
    /// previous turn are told of a gap.
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

    /// Returns the ring's comment epoch; `None` before [`CommentRing::begin_turn`].
    pub const fn numbering(&self) -> Option<&CommentEpoch> {
        self.comment_epoch.as_ref()
    }

    /// Returns the last sequence number that the ring holds.
    pub const fn head(&self) -> u64 {
        self.head_seq
    }

    /// Returns the highest sequence number known to exist.
    pub const fn known(&self) -> u64 {
        self.highest_known
    }

    /// Returns the first sequence number that the ring holds; one more than the head if the ring is empty.
    fn first_seq(&self) -> u64 {
        self.head_seq + 1 - self.events.len() as u64
    }

    const fn capacity(&self) -> usize {
        self.reach + self.reach / RING_SLACK_DIVISOR + 1
    }

    /// Pushes an entry of the channel; entries may come in any order. No viewer is given the entry before
    /// [`CommentRing::reveal_all`].
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
            // A hole is filled from the stores long before as many have arrived; the entries beyond are fetched
            // together with the hole.
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

    /// Replaces a comment in the ring by its id alone; a comment that is not there yet is replaced when it is pushed or
    /// restored.
    fn remove_comment(&mut self, seq: u64) {
        let oldest = self.head_seq.saturating_sub(self.capacity() as u64);
        // Sequence numbers that are older cannot be restored; a comment that is newer than a deletion is not meant by
        // it.
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

    /// Returns how many comments back viewers can resume now: fewer than `reach` if comments were evicted for lack of
    /// space.
    fn reach_now(&self) -> u64 {
        (self.reach as u64).min(self.head_seq.saturating_sub(self.no_room_upto))
    }

    /// Returns the bytes that all held events take, and the number of events evicted for lack of space since the last
    /// call.
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

    /// Notes that comments up to sequence number `seq` exist.
    pub fn note_exists(&mut self, seq: u64) {
        self.highest_known = self.highest_known.max(seq);
    }

    /// Returns the lowest range of sequence numbers that are known to exist and are not in the ring; `None` if there is
    /// none.
    pub fn first_hole(&self) -> Option<RingHole> {
        let upto = self.early.first_key_value().map_or(self.highest_known, |(first, _)| first - 1);
        (upto > self.head_seq).then_some(RingHole { before_first: self.head_seq, last: upto })
    }

    /// Stops waiting for the lowest hole: the comments that arrived early are appended, and viewers are told of a gap.
    /// If none arrived early, the hole is only forgotten until its numbers are reported again. Returns the number of
    /// comments that viewers will be told they miss.
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

    /// Makes all held events visible to viewers. Returns whether any of them was not visible before.
    pub const fn reveal_all(&mut self) -> bool {
        let news = self.visible < self.head_seq;
        self.visible = self.head_seq;
        news
    }

    /// Returns the cursor of a viewer that wants only comments from now on.
    pub const fn cursor_from_now(&self) -> RingCursor {
        match self.comment_epoch {
            Some(_) => RingCursor::At { turn: self.turn_number, seen: self.head_seq },
            None => RingCursor::New,
        }
    }

    /// Returns the cursor of a viewer that resumes after `position`. The viewer is given at most `reach` comments,
    /// though the ring may hold more, so that what a viewer gets does not depend on luck.
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

    /// Returns the position of a viewer at `cursor`, or the position that the viewer will be told; `None` while that is
    /// unknown.
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

    /// Returns the range that has to be fetched so that a viewer who has seen everything up to `seen` misses no more
    /// than it must; `None` if nothing has to be.
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

    /// Puts back entries from before the ring's first one, or ones that were given up as lost. `entries` are in
    /// ascending order, without holes.
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

    /// Notes an entry that differs by viewer, and its author if it is a shadowed comment.
    fn note_special(&mut self, seq: u64, entry: &EncodedEntry) {
        if !entry.differs_by_viewer() {
            return;
        }
        self.last_special = self.last_special.max(seq);
        if let Some(author) = entry.only_author() {
            let last = self.shadowed.entry(author).or_default();
            *last = seq.max(*last);
            // Forgets authors whose last shadowed comment has left the ring.
            if self.shadowed.len() > 2 * self.capacity() {
                let floor = self.head_seq.saturating_sub(self.capacity() as u64);
                self.shadowed.retain(|_, last| *last >= floor);
            }
        }
    }

    fn event_at(&self, seq: u64) -> Option<&EncodedEntry> {
        self.events.get(seq.checked_sub(self.first_seq())? as usize)?.as_ref()
    }

    /// Returns the next events for a viewer that asked for nothing beside comments; moves its cursor past them.
    pub fn take_comments(&mut self, cursor: &mut RingCursor) -> TakenEvents {
        self.take_for_filter(cursor, StreamEvents::default())
    }

    /// Returns the next events for a viewer with the filter `asked`; moves its cursor past them.
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

    /// Moves a cursor into the ring's current turn, if the ring has begun one. Returns what the viewer has to be told
    /// about that: a gap, or its position; `None` if nothing.
    fn settle_cursor(&self, cursor: &mut RingCursor) -> Option<TakenEvents> {
        let numbering = self.comment_epoch.as_ref()?;
        let (seen, gap) = match cursor {
            RingCursor::At { turn, .. } if *turn == self.turn_number => return None,
            // It is unknown which comments came between the viewer's greeting and now.
            RingCursor::New if self.origin > 0 => (self.origin, self.gap_between(0, self.origin)),
            // The viewer is told its position: otherwise it could not resume if its connection is lost before the first
            // comment.
            RingCursor::New => (0, self.standing_at(0)),
            RingCursor::Resume(position) if position.comment_epoch == *numbering => (position.seq, None),
            RingCursor::Missing { turn, from, to } if *turn == self.turn_number => {
                (*to, self.gap_between(*from, *to))
            }
            RingCursor::Lost | RingCursor::Resume(_) => (self.head_seq, self.gap_between(0, self.head_seq)),
            // All comments since the new comment epoch was known are still available.
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

    /// Returns the last number of the missing range that follows `seen`; `seen` if the next number is in the ring.
    fn missed_after(&self, seen: u64) -> u64 {
        let mut missed = seen.max(self.first_seq() - 1);
        while missed < self.visible && self.event_at(missed + 1).is_none() {
            missed += 1;
        }
        missed
    }

    /// Returns the events after `seen`, of which the first is in the ring, joined into one slice, and their number.
    fn joined_slice(&mut self, seen: u64, asked: StreamFilter) -> (Bytes, u64) {
        // If all viewers are given the same events, all share one slice.
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

    /// Frees the joined slices, which only save work under load.
    pub fn shrink_buffers(&mut self) {
        self.joined = VecDeque::new();
    }
}

#[cfg(test)]
mod tests;
