//! The channel of one watched video: its ring of comments, the number of its viewers, and the time at which new
//! comments become visible to them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use liverank_core::VideoId;
use liverank_core::comment::{Comment, CommentEpoch, StreamPosition};

use crate::entry::{EncodedEntry, StreamFilter};
use crate::metrics::ReaderMetrics;
use crate::pace::LastCountedWindow;
use crate::ring::{CommentRing, NextEvents, PushOutcome, RingCursor, RingHole};
use crate::viewer_counts::ChannelViewerCount;
use crate::viewer_zone::ViewerZone;

/// The channel of one video: its ring of comments and the state shared by its viewers.
pub struct VideoChannel {
    /// The video whose comments the channel carries.
    pub video: VideoId,
    /// One bit for each writing thread, which is set while the thread has been notified of something new in this
    /// channel and has not handled it yet.
    pub notified_writer_threads: AtomicU32,
    /// Held while a task subscribes the channel, reads its head or unsubscribes it, so that these exclude each other.
    pub opening_lock: tokio::sync::Mutex<()>,
    /// Held while a task fetches what a returning viewer missed, so that other returning viewers wait and then find the
    /// comments in the ring.
    pub backfill_lock: tokio::sync::Mutex<()>,
    /// The number of the bus connection on which the video's channel is subscribed; 0 if it is not subscribed.
    pub subscribed_connection_number: AtomicU64,
    /// True if a task is filling holes of the ring.
    pub is_repairing: AtomicBool,
    /// The number of heartbeats that were due to the channel's idle viewers so far.
    pub heartbeat_number: AtomicU32,
    /// The number of viewers as it is told to those viewers who ask for it.
    pub announced_viewer_count: ChannelViewerCount,
    viewer_total: AtomicU64,
    /// The number of the viewers whose gateways are in other zones than the reader.
    viewers_of_other_zones: AtomicU64,
    state: Mutex<ChannelState>,
}

struct ChannelState {
    ring: CommentRing,
    /// True if the archive was found empty before the ring had a position: then every comment that arrives is a new
    /// one.
    archive_was_empty: bool,
    last_shown_at: Instant,
    /// True if a task already waits to make the new comments visible at the due time.
    show_is_scheduled: bool,
    last_counted_window: LastCountedWindow,
    emptied_at: Instant,
    /// The number of viewers whose streams are to be ended.
    streams_to_end_count: u64,
}

/// The next action for a viewer.
#[derive(Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Send the viewer these events.
    Send(NextEvents),
    /// End the viewer's stream.
    End,
    /// Send nothing until the channel has something new.
    Wait,
}

/// The time at which new comments of a channel become visible to its viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowDecision {
    /// Nothing to do: there are no new comments, or another task will make them visible.
    Nothing,
    /// The new comments are visible now: the caller has to wake the writing threads.
    Now,
    /// Not before this time: the caller has to call `show_due` then.
    At(Instant),
}

impl VideoChannel {
    /// Makes a channel without viewers whose ring has no position yet.
    pub fn new(video: VideoId, (ring_length, ring_bytes): (usize, usize), now: Instant) -> Self {
        Self {
            video,
            notified_writer_threads: AtomicU32::new(0),
            opening_lock: tokio::sync::Mutex::default(),
            backfill_lock: tokio::sync::Mutex::default(),
            subscribed_connection_number: AtomicU64::new(0),
            is_repairing: AtomicBool::new(false),
            heartbeat_number: AtomicU32::new(0),
            announced_viewer_count: ChannelViewerCount::default(),
            viewer_total: AtomicU64::new(0),
            viewers_of_other_zones: AtomicU64::new(0),
            state: Mutex::new(ChannelState {
                ring: CommentRing::new(ring_length, ring_bytes),
                archive_was_empty: false,
                last_shown_at: now,
                show_is_scheduled: false,
                last_counted_window: LastCountedWindow::default(),
                emptied_at: now,
                streams_to_end_count: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, ChannelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of viewers of the channel.
    pub fn viewer_total(&self) -> u64 {
        self.viewer_total.load(Ordering::Relaxed)
    }

    /// The number of viewers of the channel whose gateways are in other zones than the reader.
    pub fn viewers_of_other_zones(&self) -> u64 {
        self.viewers_of_other_zones.load(Ordering::Relaxed)
    }

    /// Counts one more viewer. The caller holds the lock of the hub's channels, so that the channel is not closed
    /// meanwhile.
    pub fn add_viewer(&self, zone: ViewerZone) {
        self.viewer_total.fetch_add(1, Ordering::Relaxed);
        if zone == ViewerZone::Other {
            self.viewers_of_other_zones.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one viewer less; notes `now` if it was the last one.
    pub fn remove_viewer(&self, now: Instant, zone: ViewerZone) {
        if zone == ViewerZone::Other {
            self.viewers_of_other_zones.fetch_sub(1, Ordering::Relaxed);
        }
        if self.viewer_total.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.state().emptied_at = now;
        }
    }

    /// Returns how long the channel has had no viewers; `None` while it has viewers.
    pub fn empty_for(&self, now: Instant) -> Option<Duration> {
        (self.viewer_total() == 0).then(|| now.saturating_duration_since(self.state().emptied_at))
    }

    /// Returns the position of the newest comment in the ring; `None` while the ring has no comment epoch.
    pub fn newest_in_ring(&self) -> Option<StreamPosition> {
        let state = self.state();
        let numbering = state.ring.comment_epoch()?.clone();
        Some(StreamPosition { comment_epoch: numbering, seq: state.ring.head_seq() })
    }

    /// Returns the position of the newest comment known to exist, also if the ring does not have it yet; `None` while
    /// the ring has no comment epoch.
    pub fn newest_known_position(&self) -> Option<StreamPosition> {
        let state = self.state();
        let numbering = state.ring.comment_epoch()?.clone();
        Some(StreamPosition { comment_epoch: numbering, seq: state.ring.highest_known_seq() })
    }

    /// Returns true if the position of the video's newest comment is known, or it is known that the archive is still
    /// empty.
    pub fn has_known_position(&self) -> bool {
        let state = self.state();
        state.archive_was_empty || state.ring.comment_epoch().is_some()
    }

    /// Notes that no archive exists yet.
    pub fn note_no_archive(&self) {
        self.state().archive_was_empty = true;
    }

    /// Notes that the video's comments of this comment epoch go up to `seq`. If the epoch is a new one, the ring is
    /// emptied and begins at `seq`.
    pub fn note_head(&self, numbering: &CommentEpoch, seq: u64) {
        let mut state = self.state();
        if state.ring.comment_epoch() != Some(numbering) {
            let origin = if state.archive_was_empty { 0 } else { seq };
            state.archive_was_empty = false;
            state.ring.begin_epoch(numbering.clone(), origin);
        }
        state.ring.note_highest_known(seq);
    }

    /// Pushes a comment into the ring. Returns the outcome, or `None` if the comment belongs to another comment epoch
    /// than the ring's.
    pub fn push(&self, numbering: &CommentEpoch, comment: &Comment) -> Option<PushOutcome> {
        let entry = EncodedEntry::encode(numbering, comment);
        let mut state = self.state();
        match state.ring.comment_epoch() {
            None => {
                let origin = if state.archive_was_empty { 0 } else { comment.seq.saturating_sub(1) };
                state.archive_was_empty = false;
                state.ring.begin_epoch(numbering.clone(), origin);
            }
            Some(ours) if ours != numbering => return None,
            Some(_) => {}
        }
        Some(state.ring.push(comment.seq, entry))
    }

    /// Makes new comments visible to viewers, or returns the time at which the comments may become visible. `pace`
    /// returns the minimum time between two moments at which the channel's comments become visible.
    pub fn show_paced(
        &self,
        now: Instant,
        pace: impl FnOnce(&mut LastCountedWindow) -> Duration,
    ) -> ShowDecision {
        let mut state = self.state();
        let gap = pace(&mut state.last_counted_window);
        if state.show_is_scheduled {
            return ShowDecision::Nothing;
        }
        let due = state.last_shown_at + gap;
        if due <= now {
            return state.show_now(now);
        }
        state.show_is_scheduled = true;
        ShowDecision::At(due)
    }

    /// Makes new comments visible now; to be called at the time that [`ShowDecision::At`] named.
    pub fn show_due(&self, now: Instant) -> ShowDecision {
        let mut state = self.state();
        state.show_is_scheduled = false;
        state.show_now(now)
    }

    /// Returns the next action for the viewer at `cursor` who asked for the events of `asked`; moves the cursor past
    /// the events returned.
    pub fn next_action(&self, cursor: &mut RingCursor, asked: StreamFilter) -> NextAction {
        let mut state = self.state();
        match state.ring.take_next_events(cursor, asked) {
            NextEvents::Nothing if state.streams_to_end_count > 0 => {
                state.streams_to_end_count -= 1;
                NextAction::End
            }
            NextEvents::Nothing => NextAction::Wait,
            taken => NextAction::Send(taken),
        }
    }

    /// Returns the cursor of a viewer that wants only comments from now on.
    pub fn cursor_from_now(&self) -> RingCursor {
        self.state().ring.cursor_from_now()
    }

    /// Returns the cursor of a viewer that resumes after `position`.
    pub fn cursor_from_position(&self, position: StreamPosition) -> RingCursor {
        self.state().ring.cursor_from_position(position)
    }

    /// Returns the stream position of a viewer at `cursor`; `None` if it is not known yet.
    pub fn position_of(&self, cursor: &RingCursor) -> Option<StreamPosition> {
        self.state().ring.position_of(cursor)
    }

    /// Returns the lowest range of comments that are known to exist and are not in the ring, with their comment epoch;
    /// `None` if there is none.
    pub fn first_hole(&self) -> Option<(CommentEpoch, RingHole)> {
        let state = self.state();
        Some((state.ring.comment_epoch()?.clone(), state.ring.first_hole()?))
    }

    /// Stops waiting for the lowest missing range of comments. Returns how many comments viewers will not get.
    pub fn skip_lowest_hole(&self) -> u64 {
        self.state().ring.skip_lowest_hole()
    }

    /// Returns the range of comments that has to be fetched for a viewer that resumes after `position`; `None` if
    /// nothing has to be fetched, or if `position` is of another comment epoch.
    pub fn missing_since(&self, position: &StreamPosition) -> Option<RingHole> {
        let state = self.state();
        (state.ring.comment_epoch() == Some(&position.comment_epoch))
            .then(|| state.ring.missing_since(position.seq))
            .flatten()
    }

    /// Puts earlier comments back into the ring, unless they are of another comment epoch than the ring's.
    pub fn restore_earlier(&self, numbering: &CommentEpoch, comments: &[Comment]) {
        let entries: Vec<(u64, EncodedEntry)> =
            comments.iter().map(|comment| (comment.seq, EncodedEntry::encode(numbering, comment))).collect();
        let mut state = self.state();
        if state.ring.comment_epoch() == Some(numbering) {
            state.ring.restore_earlier(entries);
        }
    }

    /// Returns the bytes that the ring takes, and how many comments were evicted for lack of space since the last call.
    pub fn measure_ring(&self) -> (usize, u64) {
        self.state().ring.used_bytes_and_evicted()
    }

    /// Does the periodic work of the channel: frees its buffers, and finds out if idle viewers need a heartbeat.
    /// Returns `true` if a heartbeat is due to idle viewers because nothing became visible for `idle`.
    pub fn run_periodic_work(&self, now: Instant, idle: Duration) -> bool {
        {
            let mut state = self.state();
            state.ring.shrink_buffers();
            if now.saturating_duration_since(state.last_shown_at) < idle {
                return false;
            }
            // The heartbeat counts as an event: the next one is due an idle time later.
            state.last_shown_at = now;
        }
        self.heartbeat_number.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Requests that the streams of `viewers` viewers end, each when its viewer has been sent all visible comments.
    /// Replaces an earlier request, also if not all of its streams have ended. The caller has to wake the writing
    /// threads.
    pub fn end_streams(&self, viewers: u64) {
        self.state().streams_to_end_count = viewers;
    }
}

impl ChannelState {
    fn show_now(&mut self, now: Instant) -> ShowDecision {
        if !self.ring.reveal_all() {
            return ShowDecision::Nothing;
        }
        self.last_shown_at = now;
        ShowDecision::Now
    }
}

/// Counts the outcome of pushing a comment in the metrics.
pub fn count_pushed(metrics: &ReaderMetrics, pushed: PushOutcome) {
    match pushed {
        PushOutcome::Appended(_) => {}
        PushOutcome::Repeat => drop(metrics.repeated_comments.inc()),
        PushOutcome::Early | PushOutcome::Refused => drop(metrics.out_of_order_comments.inc()),
    }
}
