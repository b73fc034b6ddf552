//! The number of a video's viewers, for those viewers who ask for it (`?events=viewers`): one event, at most once a
//! second, if the number has changed.
//!
//! A reader counts its own viewers. Managers report the viewers that other readers have of the same video, in their
//! answers to heartbeats. Most videos have no viewers at other readers, and managers report nothing for these.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use liverank_core::VideoId;

use crate::hub::ChannelHub;

/// The shortest time between two events with the number of viewers.
const MIN_EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// The number of viewers that one channel's viewers are told, and the number of those who ask for it.
#[derive(Default)]
pub struct ChannelViewerCount {
    /// The number of viewers who ask for the number of viewers.
    asker_count: AtomicU64,
    /// Grows by one with every new event.
    version: AtomicU32,
    sent_count: Mutex<SentCount>,
}

#[derive(Default)]
struct SentCount {
    /// The number of viewers in the last event; `None` if there was no event since the first viewer began to ask.
    viewers: Option<u64>,
    event: Bytes,
}

impl ChannelViewerCount {
    fn lock_sent_count(&self) -> MutexGuard<'_, SentCount> {
        self.sent_count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more viewer who asks. Returns the version of the count that the viewer is treated as having: the
    /// previous version if others asked before, so that the viewer is sent the number that they have; the current
    /// version if nobody asked before, because an old number is not to be sent.
    pub fn add_asker(&self) -> u32 {
        let mut told = self.lock_sent_count();
        if self.asker_count.fetch_add(1, Ordering::Relaxed) == 0 {
            told.viewers = None;
        }
        let version = self.version.load(Ordering::Acquire);
        if told.viewers.is_some() { version.wrapping_sub(1) } else { version }
    }

    /// Counts one viewer less who asks.
    pub fn remove_asker(&self) {
        self.asker_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets the number of viewers. Returns `true` if the number changed and a viewer asks for it, so that viewers have
    /// to be told.
    pub fn set_count(&self, viewers: u64) -> bool {
        let mut told = self.lock_sent_count();
        if self.asker_count.load(Ordering::Relaxed) == 0 || told.viewers == Some(viewers) {
            return false;
        }
        told.viewers = Some(viewers);
        told.event = format!("event: viewers\ndata: {{\"viewers\":{viewers}}}\n\n").into();
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// Returns the event for a viewer that was sent the version `had`, if there is a later one, and updates `had`.
    /// Versions in between are skipped.
    pub fn event_if_newer(&self, had: &mut u32) -> Option<Bytes> {
        if self.version.load(Ordering::Acquire) == *had {
            return None;
        }
        let told = self.lock_sent_count();
        *had = self.version.load(Ordering::Acquire);
        told.viewers.is_some().then(|| told.event.clone())
    }
}

/// The number of viewers that other readers have of this reader's videos, as a manager last reported.
#[derive(Default)]
pub struct ViewersElsewhere(Mutex<HashMap<VideoId, u64>>);

impl ViewersElsewhere {
    /// Replaces all numbers by those that a manager reports.
    pub fn set_all(&self, viewers: Vec<(VideoId, u64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = viewers.into_iter().collect();
    }

    fn viewers_of(&self, video: &VideoId) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(video).copied().unwrap_or(0)
    }
}

/// Tells the number of viewers to those who ask for it, once a second, for ever.
pub async fn run(hub: Arc<ChannelHub>) {
    let mut ticks = tokio::time::interval(MIN_EVENT_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for room in hub.channels() {
            if room
                .announced_viewer_count
                .set_count(room.viewer_total().saturating_add(hub.viewers_elsewhere.viewers_of(&room.video)))
            {
                hub.fanout.notify_threads(&room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_text(event: Option<Bytes>) -> Option<String> {
        event.map(|event| String::from_utf8(event.to_vec()).unwrap())
    }

    #[test]
    fn an_asker_is_told_only_the_latest_count_and_once() {
        let count = ChannelViewerCount::default();
        assert!(!count.set_count(3), "nobody asks");
        let mut had = count.add_asker();
        assert_eq!(count.event_if_newer(&mut had), None);
        assert!(count.set_count(3) && !count.set_count(3));
        assert!(count.set_count(4));
        let event = "event: viewers\ndata: {\"viewers\":4}\n\n";
        assert_eq!(event_text(count.event_if_newer(&mut had)).as_deref(), Some(event));
        assert_eq!(count.event_if_newer(&mut had), None);
        let mut late = count.add_asker();
        assert_eq!(
            event_text(count.event_if_newer(&mut late)).as_deref(),
            Some(event),
            "it is news to this one"
        );
        assert_eq!(count.event_if_newer(&mut late), None);
    }

    #[test]
    fn a_count_from_before_anybody_asked_is_not_told() {
        let count = ChannelViewerCount::default();
        let mut had = count.add_asker();
        assert!(count.set_count(3));
        assert!(count.event_if_newer(&mut had).is_some());
        count.remove_asker();
        assert!(!count.set_count(9));
        let mut had = count.add_asker();
        assert_eq!(count.event_if_newer(&mut had), None);
        assert!(count.set_count(3), "also where it is the same as then");
        assert!(count.event_if_newer(&mut had).is_some());
    }
}
