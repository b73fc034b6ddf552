//! What a reader's record says of the reader's life, and which of two records is the later one.

use crate::ReaderId;
use crate::handover::HeldVideo;

/// A reader's record, as far as it says whether the reader is alive. The record that readers send says more, and the
/// simulation's record says less; both are judged by what stands here.
pub trait ReaderReport {
    /// Returns the name of the reader.
    fn reader_id(&self) -> &ReaderId;
    /// Returns the number of the heartbeat. A process counts its heartbeats up, from a random number.
    fn beat(&self) -> u64;
    /// Returns a number that is greater the later the reader's process began; 0 if the record does not say it.
    fn incarnation(&self) -> u64;
    /// Whether the reader says that it is leaving.
    fn is_leaving(&self) -> bool;
    /// Returns the number of viewers that are connected to the reader.
    fn viewers(&self) -> u64;
    /// Returns the highest epoch that the reader has seen.
    fn highest_epoch(&self) -> u64;
    /// Returns the videos that the reader has viewers of or keeps ready.
    fn held_videos(&self) -> &[HeldVideo];
    /// Returns the same videos to be changed.
    fn held_videos_mut(&mut self) -> &mut Vec<HeldVideo>;
}

/// Whether a record was written after `known`: the store may come back with an old copy, which is no sign of life.
/// Processes count their heartbeats up, from a random number. If one of the records does not say when its process
/// began, every other beat counts as later.
pub(super) fn is_later(record: &impl ReaderReport, known: &impl ReaderReport) -> bool {
    let ahead = record.beat().wrapping_sub(known.beat());
    let is_ahead = ahead != 0 && ahead < u64::MAX / 2;
    match (record.incarnation(), known.incarnation()) {
        (0, _) | (_, 0) => ahead != 0,
        (now, before) if now == before => is_ahead,
        (now, before) => now > before,
    }
}

/// Sorts a record's videos by name. If the record may be old (`is_current` is false), its videos are marked as not
/// ready, so that no viewers are sent to a reader that may have died since.
pub(super) fn sort_held_videos(record: &mut impl ReaderReport, is_current: bool) {
    let videos = record.held_videos_mut();
    videos.sort_unstable_by(|a, b| a.video.cmp(&b.video));
    if !is_current {
        for held in videos {
            held.ready = false;
        }
    }
}
