//! How many viewers a video has, for those of its viewers who ask (`?events=viewers`): one event, at most once a second,
//! where the number has changed.
//!
//! A reader counts its own. What other readers have of the video, managers say in the answers to heartbeats; of most videos
//! there is nothing elsewhere, and nothing is said.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use liverank_core::VideoId;

use crate::hub::ChannelHub;

/// Between two events at least.
const MIN_EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// What one room's viewers are told.
#[derive(Default)]
pub struct ChannelViewerCount {
    /// Viewers who ask.
    askers: AtomicU64,
    /// Grows with every event.
    version: AtomicU32,
    told_count: Mutex<ToldCount>,
}

#[derive(Default)]
struct ToldCount {
    /// `None` where nobody asked when there last was something to tell.
    viewers: Option<u64>,
    event: Bytes,
}

impl ChannelViewerCount {
    fn told(&self) -> MutexGuard<'_, ToldCount> {
        self.told_count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A viewer who asks comes. Returns the version that it has had: the number that others know is news to it, one from a
    /// time when nobody asked is not to be told.
    pub fn add_asker(&self) -> u32 {
        let mut told = self.told();
        if self.askers.fetch_add(1, Ordering::Relaxed) == 0 {
            told.viewers = None;
        }
        let version = self.version.load(Ordering::Acquire);
        if told.viewers.is_some() { version.wrapping_sub(1) } else { version }
    }

    /// A viewer who asked goes.
    pub fn remove_asker(&self) {
        self.askers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes the number. `true`: it is news for somebody.
    pub fn set_count(&self, viewers: u64) -> bool {
        let mut told = self.told();
        if self.askers.load(Ordering::Relaxed) == 0 || told.viewers == Some(viewers) {
            return false;
        }
        told.viewers = Some(viewers);
        told.event = format!("event: viewers\ndata: {{\"viewers\":{viewers}}}\n\n").into();
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// The event for one who has had the version `had`, if there is a later one. Only the last counts.
    pub fn count_event_after(&self, had: &mut u32) -> Option<Bytes> {
        if self.version.load(Ordering::Acquire) == *had {
            return None;
        }
        let told = self.told();
        *had = self.version.load(Ordering::Acquire);
        told.viewers.is_some().then(|| told.event.clone())
    }
}

/// Viewers that other readers have of the videos that are watched here, as a manager last said.
#[derive(Default)]
pub struct ViewersElsewhere(Mutex<HashMap<VideoId, u64>>);

impl ViewersElsewhere {
    /// Notes what a manager says: all of it.
    pub fn set_all(&self, viewers: Vec<(VideoId, u64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = viewers.into_iter().collect();
    }

    fn viewers_of(&self, video: &VideoId) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(video).copied().unwrap_or(0)
    }
}

/// Tells viewers who ask, for ever.
pub async fn run(hub: Arc<ChannelHub>) {
    let mut ticks = tokio::time::interval(MIN_EVENT_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for room in hub.rooms() {
            if room
                .viewer_count
                .set_count(room.viewers().saturating_add(hub.viewers_elsewhere.viewers_of(&room.video)))
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
        assert_eq!(count.count_event_after(&mut had), None);
        assert!(count.set_count(3) && !count.set_count(3));
        assert!(count.set_count(4));
        let event = "event: viewers\ndata: {\"viewers\":4}\n\n";
        assert_eq!(event_text(count.count_event_after(&mut had)).as_deref(), Some(event));
        assert_eq!(count.count_event_after(&mut had), None);
        let mut late = count.add_asker();
        assert_eq!(
            event_text(count.count_event_after(&mut late)).as_deref(),
            Some(event),
            "it is news to this one"
        );
        assert_eq!(count.count_event_after(&mut late), None);
    }

    #[test]
    fn a_count_from_before_anybody_asked_is_not_told() {
        let count = ChannelViewerCount::default();
        let mut had = count.add_asker();
        assert!(count.set_count(3));
        assert!(count.count_event_after(&mut had).is_some());
        count.remove_asker();
        assert!(!count.set_count(9));
        let mut had = count.add_asker();
        assert_eq!(count.count_event_after(&mut had), None);
        assert!(count.set_count(3), "also where it is the same as then");
        assert!(count.count_event_after(&mut had).is_some());
    }
}
