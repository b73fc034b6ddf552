//! One watched video: its ring, who watches, and when what is new is shown to them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::VideoId;
use liverank_core::comment::{Comment, CommentEpoch, StreamPosition};

use crate::entry::{EncodedEntry, StreamFilter};
use crate::metrics::ReaderMetrics;
use crate::pace::WindowCount;
use crate::ring::{CommentRing, PushOutcome, RingCursor, RingHole, TakenEvents};
use crate::viewer_counts::ChannelViewerCount;

/// The room of one video: its ring and its viewers.
pub struct VideoChannel {
    /// The video.
    pub video: VideoId,
    /// Which writing threads have been told that there is something new here, a bit each, and have yet to look.
    pub called_threads: AtomicU32,
    /// One at a time subscribes, reads the head and unsubscribes.
    pub opening_lock: tokio::sync::Mutex<()>,
    /// One at a time fetches what viewers who come back have missed: the others then find it in the ring.
    pub backfill_lock: tokio::sync::Mutex<()>,
    /// The bus connection that the video's channel is subscribed on; 0: none.
    pub subscribed_on: AtomicU64,
    /// Whether somebody is filling holes.
    pub is_repairing: AtomicBool,
    /// Grows with every heartbeat that idle viewers are due.
    pub heartbeat_number: AtomicU32,
    /// What viewers who ask are told of how many they are.
    pub viewer_count: ChannelViewerCount,
    viewers: AtomicU64,
    state: Mutex<ChannelState>,
}

struct ChannelState {
    ring: CommentRing,
    /// Whether the archive was found empty before the ring stood anywhere: then every comment that comes is new.
    blank: bool,
    shown_at: Instant,
    /// Whether somebody will show what is new when its time comes.
    showing: bool,
    counted: WindowCount,
    emptied_at: Instant,
    /// Viewers whose streams are to end.
    going: u64,
}

/// The next action of a viewer.
#[derive(Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Sends this.
    Send(TakenEvents),
    /// Ends.
    End,
    /// Waits.
    Wait,
}

/// When what is new is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowDecision {
    /// There is nothing new, or somebody has it in hand.
    Nothing,
    /// The event was shown: the caller wakes the writing threads.
    Now,
    /// Not before this time: whoever is told this sees to it.
    At(Instant),
}

impl VideoChannel {
    /// A room that nobody is in and that stands nowhere yet.
    pub fn new(video: VideoId, (ring_length, ring_bytes): (usize, usize), now: Instant) -> Self {
        Self {
            video,
            called_threads: AtomicU32::new(0),
            opening_lock: tokio::sync::Mutex::default(),
            backfill_lock: tokio::sync::Mutex::default(),
            subscribed_on: AtomicU64::new(0),
            is_repairing: AtomicBool::new(false),
            heartbeat_number: AtomicU32::new(0),
            viewer_count: ChannelViewerCount::default(),
            viewers: AtomicU64::new(0),
            state: Mutex::new(ChannelState {
                ring: CommentRing::new(ring_length, ring_bytes),
                blank: false,
                shown_at: now,
                showing: false,
                counted: WindowCount::default(),
                emptied_at: now,
                going: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, ChannelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Viewers in the room.
    pub fn viewers(&self) -> u64 {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Lets a viewer in. Callers hold the lock of the rooms, so that a room is not closed under it.
    pub fn add_viewer(&self) {
        self.viewers.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets a viewer out.
    pub fn remove_viewer(&self, now: Instant) {
        if self.viewers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.state().emptied_at = now;
        }
    }

    /// How long nobody has been in the room; `None` while somebody is.
    pub fn empty_for(&self, now: Instant) -> Option<Duration> {
        (self.viewers() == 0).then(|| now.saturating_duration_since(self.state().emptied_at))
    }

    /// Which count the ring holds, and its head.
    pub fn head_position(&self) -> Option<StreamPosition> {
        let state = self.state();
        let numbering = state.ring.numbering()?.clone();
        Some(StreamPosition { comment_epoch: numbering, seq: state.ring.head() })
    }

    /// Which count the ring holds, and the highest number known to exist.
    pub fn highest_known(&self) -> Option<StreamPosition> {
        let state = self.state();
        let numbering = state.ring.numbering()?.clone();
        Some(StreamPosition { comment_epoch: numbering, seq: state.ring.known() })
    }

    /// Whether it is known where its comments stand, if only that there are none at all yet.
    pub fn is_anchored(&self) -> bool {
        let state = self.state();
        state.blank || state.ring.numbering().is_some()
    }

    /// Notes that no archive exists yet.
    pub fn note_no_archive(&self) {
        self.state().blank = true;
    }

    /// Notes that the video's comments of this count go up to `seq`. A new count begins a new turn of the ring there.
    pub fn note_head(&self, numbering: &CommentEpoch, seq: u64) {
        let mut state = self.state();
        if state.ring.numbering() != Some(numbering) {
            let origin = if state.blank { 0 } else { seq };
            state.blank = false;
            state.ring.begin_turn(numbering.clone(), origin);
        }
        state.ring.note_exists(seq);
    }

    /// Takes a comment. Returns what became of it, or `None` where it belongs to another count than the ring's.
    pub fn push(&self, numbering: &CommentEpoch, comment: &Comment) -> Option<PushOutcome> {
        let entry = EncodedEntry::of(numbering, comment);
        let mut state = self.state();
        match state.ring.numbering() {
            None => {
                let origin = if state.blank { 0 } else { comment.seq.saturating_sub(1) };
                state.blank = false;
                state.ring.begin_turn(numbering.clone(), origin);
            }
            Some(ours) if ours != numbering => return None,
            Some(_) => {}
        }
        Some(state.ring.push(comment.seq, entry))
    }

    /// Shows viewers what is new, or says when that may be: `gap` after the last time, as `pace` says for what came.
    pub fn show_paced(&self, now: Instant, pace: impl FnOnce(&mut WindowCount) -> Duration) -> ShowDecision {
        let mut state = self.state();
        let gap = pace(&mut state.counted);
        if state.showing {
            return ShowDecision::Nothing;
        }
        let due = state.shown_at + gap;
        if due <= now {
            return state.show_now(now);
        }
        state.showing = true;
        ShowDecision::At(due)
    }

    /// Shows what is new, the time that [`ShowDecision::At`] told having come.
    pub fn show_due(&self, now: Instant) -> ShowDecision {
        let mut state = self.state();
        state.showing = false;
        state.show_now(now)
    }

    /// What a viewer is to be sent next who is and asked for this.
    pub fn next_action(&self, cursor: &mut RingCursor, asked: StreamFilter) -> NextAction {
        let mut state = self.state();
        match state.ring.take_for_filter(cursor, asked) {
            TakenEvents::Nothing if state.going > 0 => {
                state.going -= 1;
                NextAction::End
            }
            TakenEvents::Nothing => NextAction::Wait,
            taken => NextAction::Send(taken),
        }
    }

    /// Where a viewer begins that wants what comes from now on.
    pub fn cursor_from_now(&self) -> RingCursor {
        self.state().ring.cursor_from_now()
    }

    /// Where a viewer begins that comes back.
    pub fn cursor_from_position(&self, position: StreamPosition) -> RingCursor {
        self.state().ring.cursor_from_position(position)
    }

    /// The position of a viewer at `cursor`, if that is known yet.
    pub fn position_of(&self, cursor: &RingCursor) -> Option<StreamPosition> {
        self.state().ring.position_of(cursor)
    }

    /// What is missing of what is known to exist.
    pub fn first_hole(&self) -> Option<(CommentEpoch, RingHole)> {
        let state = self.state();
        Some((state.ring.numbering()?.clone(), state.ring.first_hole()?))
    }

    /// Stops waiting for what is missing. Returns how many comments viewers will not get.
    pub fn give_up_hole(&self) -> u64 {
        self.state().ring.give_up_hole()
    }

    /// What the ring lacks for a viewer that comes back to `position`; `None` also where that is of another count.
    pub fn missing_since(&self, position: &StreamPosition) -> Option<RingHole> {
        let state = self.state();
        (state.ring.numbering() == Some(&position.comment_epoch))
            .then(|| state.ring.missing_since(position.seq))
            .flatten()
    }

    /// Puts earlier comments back into the ring.
    pub fn restore_earlier(&self, numbering: &CommentEpoch, comments: &[Comment]) {
        let entries: Vec<(u64, EncodedEntry)> =
            comments.iter().map(|comment| (comment.seq, EncodedEntry::of(numbering, comment))).collect();
        let mut state = self.state();
        if state.ring.numbering() == Some(numbering) {
            state.ring.restore_earlier(entries);
        }
    }

    /// What its ring takes, in bytes, and how many comments went for want of room since this was asked last.
    pub fn measure_ring(&self) -> (usize, u64) {
        self.state().ring.used_bytes_and_evicted()
    }

    /// What is due once in a while. `true`: idle viewers are due a heartbeat, for nothing was shown for `idle`.
    pub fn tick_idle(&self, now: Instant, idle: Duration) -> bool {
        {
            let mut state = self.state();
            state.ring.shrink_buffers();
            if now.saturating_duration_since(state.shown_at) < idle {
                return false;
            }
            // Counts as shown: the next heartbeat is due an idle time later.
            state.shown_at = now;
        }
        self.heartbeat_number.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Lets the streams of `viewers` viewers end, each when its viewer has been sent all comments that are there. It replaces an
    /// earlier request of which some streams have not ended. The caller wakes the writing threads.
    pub fn end_streams(&self, viewers: u64) {
        self.state().going = viewers;
    }
}

impl ChannelState {
    fn show_now(&mut self, now: Instant) -> ShowDecision {
        if !self.ring.reveal_all() {
            return ShowDecision::Nothing;
        }
        self.shown_at = now;
        ShowDecision::Now
    }
}

/// Counts what became of pushed comments.
pub fn count_pushed(metrics: &ReaderMetrics, pushed: PushOutcome) {
    match pushed {
        PushOutcome::Appended(_) => {}
        PushOutcome::Repeat => drop(metrics.repeated_comments.inc()),
        PushOutcome::Early | PushOutcome::Refused => drop(metrics.out_of_order.inc()),
    }
}
