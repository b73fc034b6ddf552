//! The load that readers' records report: all viewers but those of the canary ([`liverank_core::canary`]).
//!
//! Each gateway watches the canary for a moment every few seconds. If these viewers counted as load, a system that
//! nobody watches would seem watched now and then: plans would be made anew, and a reader would not count as empty.
//! Planners, and people, are given the numbers of this module.
//!
//! What is decided about connections counts the canary's viewers as all others: whether a reader has room, which
//! viewers it hands over, and whether it still has any before it ends. So the canary's stream follows its video as every
//! stream does. That is why records have the canary's viewers, and managers leave them out (ADR 055).

use liverank_core::handover::HeldVideo;
use liverank_core::{VideoId, canary};

use super::KnownCluster;
use crate::liveness::ReaderLiveness;

/// Returns the videos of a reader that have viewers, without the canary.
pub fn watched_videos(sighting: &ReaderLiveness) -> impl Iterator<Item = &HeldVideo> {
    sighting.last_record.videos.iter().filter(|held| held.viewers > 0 && !canary::is_canary(&held.video))
}

/// Returns the number of a reader's viewers, without the canary's.
pub fn viewers_without_canary(sighting: &ReaderLiveness) -> u64 {
    let of_canary = sighting.held_video(&canary::video()).map_or(0, |held| held.viewers);
    sighting.last_record.viewers.saturating_sub(of_canary)
}

impl KnownCluster {
    /// Returns the number of a video's viewers by the last reports of live readers; 0 for the canary.
    pub fn load_of_video(&self, video: &VideoId) -> u64 {
        if canary::is_canary(video) { 0 } else { self.viewer_count_of(video) }
    }

    /// Returns the number of videos that have viewers, without the canary.
    pub fn watched_count(&self) -> usize {
        self.audiences.len() - usize::from(self.audiences.contains_key(&canary::video()))
    }
}
