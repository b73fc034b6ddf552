//! What a manager knows of one reader.

use std::time::{Duration, Instant};

use super::report::{ReaderReport, sort_held_videos};
use super::time_limits::SUSPECT_AFTER_SILENCE;
use crate::VideoId;
use crate::handover::HeldVideo;

/// The number of failed probes in a row after which a reader that sends heartbeats is unreachable: a single one may be
/// a connection that was cut.
const UNREACHABLE_AFTER: u32 = 2;

/// One reader, as its heartbeats and probes show it.
#[derive(Debug, Clone)]
pub struct ReaderLiveness<R> {
    /// The reader's last heartbeat, with its videos in the order of their names.
    pub last_record: R,
    /// The time of the last heartbeat that the reader sent to this manager itself.
    pub(super) heard_here_at: Option<Instant>,
    /// The time at which `last_record` arrived.
    pub(super) record_came_at: Instant,
    /// The reader's beat in the store at the last poll that returned one.
    pub(super) polled_beat: Option<u64>,
    /// The time at which the reader's beat was last seen to change, moved forward by the time in which this manager did
    /// not poll.
    pub(super) beat_changed_at: Instant,
    /// Whether this manager has seen the reader alive, rather than only found it in the store at its start.
    pub(super) was_seen_alive: bool,
    /// The time of the last probe in the current silence, and whether the reader answered it.
    pub(super) last_silence_probe: Option<(Instant, bool)>,
    /// The time of the last probe of any kind.
    pub(super) last_probe_at: Option<Instant>,
    /// The time at which viewers were last sent to the reader.
    pub(super) viewers_sent_at: Option<Instant>,
    /// The number of probes in a row that did not reach the reader and after each of which the store was reached.
    pub(super) failed_probes: u32,
    /// The time of a probe that did not reach the reader, if the store has not been reached since.
    pub(super) unconfirmed_failure_at: Option<Instant>,
}

impl<R: ReaderReport> ReaderLiveness<R> {
    /// Makes the entry of a reader that sends its first heartbeat now.
    pub(super) const fn new(now: Instant, record: R) -> Self {
        Self {
            last_record: record,
            heard_here_at: None,
            record_came_at: now,
            polled_beat: None,
            beat_changed_at: now,
            was_seen_alive: true,
            last_silence_probe: None,
            last_probe_at: None,
            viewers_sent_at: None,
            failed_probes: 0,
            unconfirmed_failure_at: None,
        }
    }

    /// Whether the reader cannot be reached, whatever its heartbeats say.
    pub const fn is_unreachable(&self) -> bool {
        self.failed_probes >= UNREACHABLE_AFTER
    }

    /// Whether the last record is young enough for viewers to be sent to the reader. By the clock: time in which this
    /// manager did not poll counts too, because nobody knows what happened to the reader meanwhile.
    pub fn has_recent_record(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.record_came_at) < SUSPECT_AFTER_SILENCE
    }

    /// Returns the reader's last report on a video.
    pub fn held_video(&self, video: &VideoId) -> Option<&HeldVideo> {
        let videos = self.last_record.held_videos();
        videos.binary_search_by(|held| held.video.cmp(video)).ok().map(|at| &videos[at])
    }

    /// Does not count `time` before `asked` as the reader's silence. Heartbeats since `asked` stay in force.
    pub(super) fn discount_silence(&mut self, time: Duration, asked: Instant) {
        self.beat_changed_at = self.beat_changed_at.max((self.beat_changed_at + time).min(asked));
    }

    pub(super) fn note_record(&mut self, now: Instant, mut record: R, is_current: bool) {
        sort_held_videos(&mut record, is_current);
        (self.last_record, self.beat_changed_at, self.was_seen_alive, self.last_silence_probe) =
            (record, now, true, None);
        self.record_came_at = now;
    }
}
