//! The last comments of one video, encoded once and shared by all its viewers, and each viewer's position in them.
//!
//! Pure: no clock, no socket, no lock. A viewer is a [`RingCursor`]; the code that writes to the viewer's socket calls
//! [`CommentRing::take_next_events`] and gets a shared slice of the next events. Guarantees, tested below for any
//! order, repetition and loss of what is pushed:
//!
//! 1. A cursor is given each sequence number once and in order. Numbers that it cannot be given are named by a gap, so
//!    that events and gaps together cover every number between the cursor's first and its current position.
//! 2. Memory is bounded by the capacity in comments and by bytes, whatever viewers do and however long comments are.
//!    Viewers behind these bounds are told of a gap.
//! 3. A comment that a deletion names is given to nobody from then on, in whatever order the two are pushed or
//!    restored. Viewers are still given the comment's sequence number, in an event without the comment, so that their
//!    positions move past it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use liverank_core::comment::{CommentEpoch, StreamPosition};
use liverank_core::handover::resume::{self, ResumePoint};
use liverank_core::stream_events::StreamEvents;

use crate::entry::{EncodedEntry, StreamFilter, UserKey};
use crate::sse;

/// The ring holds a quarter (one divided by this number) more comments than a resuming viewer may ask for, so that a
/// viewer who asks for all of them gets them before the oldest are evicted.
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
    BeforePosition,
    /// The viewer has seen everything up to a position that the ring has not checked yet.
    Resume(StreamPosition),
    /// The viewer has to be told of a gap first.
    Missing {
        /// The turn of the ring to which the numbers belong.
        run: u32,
        /// The first sequence number that the viewer misses.
        from: u64,
        /// The last sequence number that the viewer misses.
        to: u64,
    },
    /// The viewer was connected before, and its position is unknown: it is told of a gap and then given new comments.
    UnknownPosition,
    /// The viewer has seen everything up to a sequence number.
    At {
        /// The turn of the ring to which the number belongs.
        run: u32,
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
pub enum NextEvents {
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
    max_resumable_comments: usize,
    /// The maximum number of bytes that the events may take together, and the same again for those that arrived early.
    /// The newest event is kept whatever it takes.
    max_bytes: usize,
    comment_epoch: Option<CommentEpoch>,
    /// Grows by one with each new comment epoch; 0 while the ring has no position.
    epoch_number: u32,
    /// The sequence number at which the ring began its current comment epoch.
    epoch_start_seq: u64,
    /// The events numbered `head - len + 1 ..= head`; `None` for an event that was given up as lost.
    events: VecDeque<Option<EncodedEntry>>,
    /// The bytes that `events` take.
    stored_event_bytes: usize,
    /// The highest sequence number that was evicted, or not restored, for lack of space.
    highest_evicted_seq: u64,
    /// The number of events evicted for lack of space since `CommentRing::used_bytes_and_evicted` was last called.
    evicted_for_space_count: u64,
    head_seq: u64,
    /// The last sequence number that viewers are given: later ones wait to be joined with more.
    visible_seq: u64,
    /// The highest sequence number known to exist.
    highest_known_seq: u64,
    early_entries: BTreeMap<u64, EncodedEntry>,
    /// The bytes that `early_entries` take.
    early_bytes: usize,
    /// The sequence numbers of removed comments, no older than what may still be restored.
    removed_seqs: BTreeSet<u64>,
    /// The last sequence number of an entry that differs by viewer; 0 if there is none. A viewer without one after its
    /// position shares the joined slices of the others.
    last_differing_seq: u64,
    /// For each author of shadowed comments in the ring, the sequence number of the last one.
    last_shadowed_seqs: HashMap<UserKey, u64>,
    /// Entries after a position, joined into one piece for all viewers at that position.
    joined_slices: VecDeque<JoinedSlice>,
}

#[derive(Debug)]
struct JoinedSlice {
    seen_seq: u64,
    visible_seq: u64,
    stream_filter: StreamFilter,
    bytes: Bytes,
    event_count: u64,
}

impl CommentRing {
    /// Creates a ring for viewers who may have missed up to `reach` comments, fewer if these take more than `max_bytes`
    /// bytes. The ring is empty and has no position before [`CommentRing::begin_epoch`].
    pub fn new(reach: usize, max_bytes: usize) -> Self {
        Self {
            max_resumable_comments: reach.max(1),
            max_bytes,
            comment_epoch: None,
            epoch_number: 0,
            epoch_start_seq: 0,
            events: VecDeque::new(),
            stored_event_bytes: 0,
            highest_evicted_seq: 0,
            evicted_for_space_count: 0,
            head_seq: 0,
            visible_seq: 0,
            highest_known_seq: 0,
            early_entries: BTreeMap::new(),
            early_bytes: 0,
            removed_seqs: BTreeSet::new(),
            last_differing_seq: 0,
            last_shadowed_seqs: HashMap::new(),
            joined_slices: VecDeque::new(),
        }
    }

    /// Begins a comment epoch: empties the ring and sets its position to `head` in the comment epoch `numbering`.
    /// Viewers of the previous epoch are told of a gap.
    pub fn begin_epoch(&mut self, numbering: CommentEpoch, head: u64) {
        self.comment_epoch = Some(numbering);
        self.epoch_number += 1;
        (self.epoch_start_seq, self.head_seq, self.visible_seq, self.highest_known_seq) =
            (head, head, head, head);
        self.events.clear();
        self.early_entries.clear();
        (self.stored_event_bytes, self.early_bytes, self.highest_evicted_seq) = (0, 0, 0);
        self.removed_seqs.clear();
        self.last_differing_seq = 0;
        self.last_shadowed_seqs.clear();
        self.joined_slices.clear();
    }

    /// Returns the ring's comment epoch; `None` before [`CommentRing::begin_epoch`].
    pub const fn comment_epoch(&self) -> Option<&CommentEpoch> {
        self.comment_epoch.as_ref()
    }

    /// Returns the last sequence number that the ring holds.
    pub const fn head_seq(&self) -> u64 {
        self.head_seq
    }

    /// Returns the highest sequence number known to exist.
    pub const fn highest_known_seq(&self) -> u64 {
        self.highest_known_seq
    }

    /// Returns the first sequence number that the ring holds; one more than the head if the ring is empty.
    fn first_seq(&self) -> u64 {
        self.head_seq + 1 - self.events.len() as u64
    }

    const fn capacity(&self) -> usize {
        self.max_resumable_comments + self.max_resumable_comments / RING_SLACK_DIVISOR + 1
    }

    /// Pushes an entry of the channel; entries may come in any order. No viewer is given the entry before
    /// [`CommentRing::reveal_all`].
    pub fn push(&mut self, seq: u64, entry: impl Into<EncodedEntry>) -> PushOutcome {
        let entry = entry.into();
        self.highest_known_seq = self.highest_known_seq.max(seq);
        if let Some(removed) = entry.removed_seq() {
            self.remove_comment(removed);
        }
        let entry = self.entry_unless_removed(seq, entry);
        if seq <= self.head_seq || self.early_entries.contains_key(&seq) {
            return PushOutcome::Repeat;
        }
        if seq > self.head_seq + 1 {
            // A hole is filled from the stores long before as many have arrived; the entries beyond are fetched
            // together with the hole.
            let full =
                self.early_bytes + entry.memory_bytes() > self.max_bytes && !self.early_entries.is_empty();
            if full || self.early_entries.len() >= self.max_resumable_comments {
                return PushOutcome::Refused;
            }
            self.early_bytes += entry.memory_bytes();
            self.early_entries.insert(seq, entry);
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
        self.removed_seqs = self.removed_seqs.split_off(&oldest);
        if seq < oldest {
            return;
        }
        self.removed_seqs.insert(seq);
        let at = seq.checked_sub(self.first_seq());
        let held = at.and_then(|at| self.events.get_mut(at as usize)).and_then(Option::as_mut);
        let (entry, bytes) = match (held, self.early_entries.get_mut(&seq)) {
            (Some(entry), _) => (entry, &mut self.stored_event_bytes),
            (None, Some(entry)) => (entry, &mut self.early_bytes),
            (None, None) => return,
        };
        *bytes -= entry.memory_bytes();
        *entry = entry.to_removed();
        *bytes += entry.memory_bytes();
        self.joined_slices.clear();
    }

    fn entry_unless_removed(&self, seq: u64, entry: EncodedEntry) -> EncodedEntry {
        if self.removed_seqs.contains(&seq) { entry.to_removed() } else { entry }
    }

    fn append_entry(&mut self, entry: Option<EncodedEntry>) {
        self.head_seq += 1;
        if let Some(entry) = &entry {
            self.note_special(self.head_seq, entry);
            self.stored_event_bytes += entry.memory_bytes();
        }
        self.events.push_back(entry);
        if self.events.len() > self.capacity() {
            self.drop_oldest();
        }
        self.evict_to_fit();
    }

    fn drop_oldest(&mut self) {
        if let Some(Some(entry)) = self.events.pop_front() {
            self.stored_event_bytes -= entry.memory_bytes();
        }
    }

    fn evict_to_fit(&mut self) {
        while self.stored_event_bytes > self.max_bytes && self.events.len() > 1 {
            self.highest_evicted_seq = self.first_seq();
            self.evicted_for_space_count += 1;
            self.drop_oldest();
        }
    }

    /// Returns how many comments a resuming viewer may have missed now: fewer than `max_resumable_comments` if comments
    /// were evicted for lack of space.
    fn resumable_comments(&self) -> u64 {
        (self.max_resumable_comments as u64).min(self.head_seq.saturating_sub(self.highest_evicted_seq))
    }

    /// Returns the bytes that all held events take, and the number of events evicted for lack of space since the last
    /// call.
    pub const fn used_bytes_and_evicted(&mut self) -> (usize, u64) {
        (self.stored_event_bytes + self.early_bytes, std::mem::replace(&mut self.evicted_for_space_count, 0))
    }

    fn append_early(&mut self) -> u64 {
        let before = self.head_seq;
        while let Some(entry) = self.early_entries.remove(&(self.head_seq + 1)) {
            self.early_bytes -= entry.memory_bytes();
            self.append_entry(Some(entry));
        }
        self.head_seq - before
    }

    /// Notes that comments up to sequence number `seq` exist.
    pub fn note_highest_known(&mut self, seq: u64) {
        self.highest_known_seq = self.highest_known_seq.max(seq);
    }

    /// Returns the lowest range of sequence numbers that are known to exist and are not in the ring; `None` if there is
    /// none.
    pub fn first_hole(&self) -> Option<RingHole> {
        let upto =
            self.early_entries.first_key_value().map_or(self.highest_known_seq, |(first, _)| first - 1);
        (upto > self.head_seq).then_some(RingHole { before_first: self.head_seq, last: upto })
    }

    /// Stops waiting for the lowest hole: the comments that arrived early are appended, and viewers are told of a gap.
    /// If none arrived early, the hole is only forgotten until its numbers are reported again. Returns the number of
    /// comments that viewers will be told they miss.
    pub fn skip_lowest_hole(&mut self) -> u64 {
        let Some(hole) = self.first_hole() else { return 0 };
        if self.early_entries.is_empty() {
            self.highest_known_seq = self.head_seq;
            return 0;
        }
        let lost = hole.last - hole.before_first;
        if lost as usize >= self.capacity() {
            self.events.clear();
            self.stored_event_bytes = 0;
            self.head_seq = hole.last;
        } else {
            (0..lost).for_each(|_| self.append_entry(None));
        }
        self.append_early();
        lost
    }

    /// Makes all held events visible to viewers. Returns true if an event was not visible before.
    pub const fn reveal_all(&mut self) -> bool {
        let news = self.visible_seq < self.head_seq;
        self.visible_seq = self.head_seq;
        news
    }

    /// Returns the cursor of a viewer that wants only comments from now on.
    pub const fn cursor_from_now(&self) -> RingCursor {
        match self.comment_epoch {
            Some(_) => RingCursor::At { run: self.epoch_number, seen: self.head_seq },
            None => RingCursor::BeforePosition,
        }
    }

    /// Returns the cursor of a viewer that resumes after `position`. The viewer is given at most
    /// `max_resumable_comments` comments, though the ring may hold more, so that what a viewer gets does not depend on
    /// luck.
    pub fn cursor_from_position(&self, position: StreamPosition) -> RingCursor {
        if self.comment_epoch.as_ref() != Some(&position.comment_epoch) {
            return RingCursor::Resume(position);
        }
        let ResumePoint { missed_range: gap, send_after: after } =
            resume::resume_point(position.seq, self.head_seq, self.resumable_comments());
        match gap {
            Some((from, to)) => RingCursor::Missing { run: self.epoch_number, from, to },
            None => RingCursor::At { run: self.epoch_number, seen: after },
        }
    }

    /// Returns the position of a viewer at `cursor`, or the position that the viewer will be told; `None` while that is
    /// unknown.
    pub fn position_of(&self, cursor: &RingCursor) -> Option<StreamPosition> {
        let numbering = self.comment_epoch.clone()?;
        let seq = match cursor {
            RingCursor::BeforePosition => self.epoch_start_seq,
            RingCursor::Resume(position) if position.comment_epoch == numbering => position.seq,
            RingCursor::At { run, seen } if *run == self.epoch_number => *seen,
            RingCursor::Missing { run, from, .. } if *run == self.epoch_number => from - 1,
            RingCursor::Resume(_)
            | RingCursor::UnknownPosition
            | RingCursor::At { .. }
            | RingCursor::Missing { .. } => self.head_seq,
        };
        Some(StreamPosition { comment_epoch: numbering, seq })
    }

    /// Returns the range of comments that has to be fetched for a viewer who has seen everything up to `seen`, as far
    /// as the ring reaches; `None` if nothing has to be fetched.
    pub fn missing_since(&self, seen: u64) -> Option<RingHole> {
        let after = resume::resume_point(seen, self.head_seq, self.resumable_comments()).send_after;
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
                    self.stored_event_bytes += event.memory_bytes();
                    *slot = Some(event);
                }
            } else if seq + 1 == floor && seq > 0 && self.events.len() < self.capacity() {
                if self.stored_event_bytes + event.memory_bytes() > self.max_bytes {
                    self.highest_evicted_seq = self.highest_evicted_seq.max(seq);
                    break;
                }
                self.stored_event_bytes += event.memory_bytes();
                self.events.push_front(Some(event));
            }
        }
        self.evict_to_fit();
        self.joined_slices.clear();
    }

    /// Notes the sequence number of an entry that differs by viewer, and the author of a shadowed comment.
    fn note_special(&mut self, seq: u64, entry: &EncodedEntry) {
        if !entry.differs_by_viewer() {
            return;
        }
        self.last_differing_seq = self.last_differing_seq.max(seq);
        if let Some(author) = entry.only_author() {
            let last = self.last_shadowed_seqs.entry(author).or_default();
            *last = seq.max(*last);
            // Forgets authors whose last shadowed comment has left the ring.
            if self.last_shadowed_seqs.len() > 2 * self.capacity() {
                let floor = self.head_seq.saturating_sub(self.capacity() as u64);
                self.last_shadowed_seqs.retain(|_, last| *last >= floor);
            }
        }
    }

    fn event_at(&self, seq: u64) -> Option<&EncodedEntry> {
        self.events.get(seq.checked_sub(self.first_seq())? as usize)?.as_ref()
    }

    /// Returns the next events for a viewer that asked for nothing beside comments; moves its cursor past them.
    pub fn take_next_comments(&mut self, cursor: &mut RingCursor) -> NextEvents {
        self.take_next_events(cursor, StreamEvents::default())
    }

    /// Returns the next events for a viewer with the filter `asked`; moves its cursor past them.
    pub fn take_next_events(
        &mut self,
        cursor: &mut RingCursor,
        asked: impl Into<StreamFilter>,
    ) -> NextEvents {
        if let Some(told) = self.settle_cursor(cursor) {
            return told;
        }
        let RingCursor::At { seen, .. } = cursor else { return NextEvents::Nothing };
        if *seen >= self.visible_seq {
            return NextEvents::Nothing;
        }
        let missed = self.last_missing_after(*seen);
        if missed > *seen {
            let gap = self.gap_between(*seen + 1, missed);
            *seen = missed;
            return gap.unwrap_or(NextEvents::Nothing);
        }
        let (bytes, count) = self.joined_slice(*seen, asked.into());
        *seen += count;
        NextEvents::Events { bytes, count }
    }

    /// Moves a cursor into the ring's current comment epoch, if the ring has one. Returns the event that the viewer has
    /// to be sent because of the move: a gap, or its position; `None` if it needs none.
    fn settle_cursor(&self, cursor: &mut RingCursor) -> Option<NextEvents> {
        let numbering = self.comment_epoch.as_ref()?;
        let (seen, gap) = match cursor {
            RingCursor::At { run, .. } if *run == self.epoch_number => return None,
            // It is unknown which comments came between the viewer's greeting and now.
            RingCursor::BeforePosition if self.epoch_start_seq > 0 => {
                (self.epoch_start_seq, self.gap_between(0, self.epoch_start_seq))
            }
            // The viewer is told its position: otherwise it could not resume if its connection is lost before the first
            // comment.
            RingCursor::BeforePosition => (0, self.position_event(0)),
            RingCursor::Resume(position) if position.comment_epoch == *numbering => (position.seq, None),
            RingCursor::Missing { run, from, to } if *run == self.epoch_number => {
                (*to, self.gap_between(*from, *to))
            }
            RingCursor::UnknownPosition | RingCursor::Resume(_) => {
                (self.head_seq, self.gap_between(0, self.head_seq))
            }
            // All comments since the new comment epoch was known are still available.
            RingCursor::At { .. } | RingCursor::Missing { .. } => {
                (self.epoch_start_seq, self.gap_between(0, self.epoch_start_seq))
            }
        };
        *cursor = RingCursor::At { run: self.epoch_number, seen };
        gap
    }

    fn position_event(&self, seq: u64) -> Option<NextEvents> {
        let bytes = sse::id_only_event(self.comment_epoch.as_ref()?, seq);
        Some(NextEvents::Events { bytes, count: 0 })
    }

    fn gap_between(&self, from: u64, to: u64) -> Option<NextEvents> {
        Some(NextEvents::Gap { numbering: self.comment_epoch.clone()?, from, to })
    }

    /// Returns the last number of the missing range that follows `seen`; `seen` if the next number is in the ring.
    fn last_missing_after(&self, seen: u64) -> u64 {
        let mut missed = seen.max(self.first_seq() - 1);
        while missed < self.visible_seq && self.event_at(missed + 1).is_none() {
            missed += 1;
        }
        missed
    }

    /// Returns the events after `seen`, of which the first is in the ring, joined into one slice, and their number.
    fn joined_slice(&mut self, seen: u64, asked: StreamFilter) -> (Bytes, u64) {
        // If all viewers are given the same events, all share one slice.
        let asked = if self.last_differing_seq > seen {
            let has_own = self.last_shadowed_seqs.get(&asked.shadowed_user).is_some_and(|last| *last > seen);
            StreamFilter {
                shadowed_user: if has_own { asked.shadowed_user } else { UserKey::default() },
                ..asked
            }
        } else {
            StreamFilter::default()
        };
        let known = |joined: &&JoinedSlice| {
            (joined.seen_seq, joined.visible_seq, joined.stream_filter) == (seen, self.visible_seq, asked)
        };
        if let Some(joined) = self.joined_slices.iter().find(known) {
            return (joined.bytes.clone(), joined.event_count);
        }
        let mut size = 0;
        let fits = |event: &&Bytes| {
            size += event.len();
            size == event.len() || size <= MAX_SLICE_BYTES
        };
        let held = (seen + 1..=self.visible_seq).map_while(|seq| self.event_at(seq));
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
        if self.joined_slices.len() == MAX_JOINED_KEPT {
            self.joined_slices.pop_front();
        }
        self.joined_slices.push_back(JoinedSlice {
            seen_seq: seen,
            visible_seq: self.visible_seq,
            stream_filter: asked,
            bytes: bytes.clone(),
            event_count: count,
        });
        (bytes, count)
    }

    /// Frees the joined slices, which only save work under load.
    pub fn shrink_buffers(&mut self) {
        self.joined_slices = VecDeque::new();
    }
}

#[cfg(test)]
mod tests;
