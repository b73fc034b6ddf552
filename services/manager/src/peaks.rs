//! The peak of viewers of each video: the most that watched it at the same time, for [`STEADY_SECONDS`] on end.
//!
//! A manager adds up what the readers report, once a second. A viewer who goes from one reader to another may be in two
//! reports: for a second or two in a hand-over, and after a reader's death until its last report is old. So a number of
//! viewers counts only if the video had at least as many in each of five seconds in a row; and while a video's viewers
//! are handed over, or one of its readers is silent, no number counts at all. What a crowd does within less than five
//! seconds may be missing; no viewer is in a peak twice.
//!
//! Peaks are in the store that managers share, which keeps the greatest. So all managers note them, and none waits for
//! another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liverank_adapters::StoreError;
use liverank_core::VideoId;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Manager;
use crate::cluster::KnownCluster;
use crate::cluster::load::watched_videos;
use crate::liveness::ReaderStatus;
use crate::manager::STORE_TIMEOUT;

/// The interval of looking at the readers' reports, which come as often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The seconds for which a number of viewers must have been there: longer than a dead reader's last report is taken for true
/// (3 s).
const STEADY_SECONDS: usize = 5;
/// The number of looks after which the peaks of all watched videos are written again, so that a store that came back
/// empty gets them.
const LOOKS_BETWEEN_RENEWALS: u64 = 60;
/// The number of videos in one write or read of the store.
const VIDEOS_AT_ONCE: usize = 500;
/// The time that the store may take to return peaks to a waiting caller, who gets the current number of viewers in any
/// case.
const READ_TIMEOUT: Duration = Duration::from_millis(250);

/// The last numbers of viewers of one video, and its peak as far as this manager knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PeakTracker {
    last_counts: [u64; STEADY_SECONDS],
    /// The number of looks in a row at which the number of viewers was known for sure, up to [`STEADY_SECONDS`].
    known_counts: usize,
    peak: u64,
    /// The peak that is known to be in the store.
    stored_peak: u64,
}

/// The videos that are watched, with their last numbers of viewers.
#[derive(Debug, Default)]
pub struct PeakTrackers {
    videos: HashMap<VideoId, PeakTracker>,
    look_count: u64,
}

impl PeakTrackers {
    /// Notes how many viewers each video has now; `None` where that is not known for sure. Videos that are not named are not
    /// watched any more. Returns the peaks that are to be stored.
    pub fn note_viewers(&mut self, watched: Vec<(VideoId, Option<u64>)>) -> Vec<(VideoId, u64)> {
        let at = (self.look_count % STEADY_SECONDS as u64) as usize;
        let renews = self.look_count.is_multiple_of(LOOKS_BETWEEN_RENEWALS);
        self.look_count += 1;
        let mut before = std::mem::take(&mut self.videos);
        for (id, viewers) in watched {
            let mut video = before.remove(&id).unwrap_or_default();
            video.last_counts[at] = viewers.unwrap_or(0);
            video.known_counts =
                if viewers.is_some() { (video.known_counts + 1).min(STEADY_SECONDS) } else { 0 };
            if video.known_counts == STEADY_SECONDS {
                video.peak = video.peak.max(video.last_counts.iter().copied().min().unwrap_or(0));
            }
            self.videos.insert(id, video);
        }
        let due = self
            .videos
            .iter()
            .filter(|(_, video)| video.peak > video.stored_peak || (renews && video.peak > 0));
        due.map(|(id, video)| (id.clone(), video.peak)).collect()
    }

    /// Notes the peaks that are in the store.
    pub fn note_stored(&mut self, stored: impl IntoIterator<Item = (VideoId, u64)>) {
        for (id, peak) in stored {
            if let Some(video) = self.videos.get_mut(&id) {
                video.stored_peak = peak;
                video.peak = video.peak.max(peak);
            }
        }
    }
}

impl KnownCluster {
    /// Returns how many viewers each watched video has at `now`; `None` while some of them may be in two reports: in a hand-over,
    /// while a reader sends viewers away or leaves, and while the last report of a reader is old.
    pub fn certain_viewer_counts(&self, now: Instant) -> Vec<(VideoId, Option<u64>)> {
        let mut videos: HashMap<&VideoId, bool> = HashMap::new();
        for sighting in self.reader_watch.all_readers() {
            let status = self.reader_watch.status_of(sighting);
            if status == ReaderStatus::Gone {
                continue;
            }
            let is_still = status == ReaderStatus::Alive && sighting.has_recent_record(now);
            for held in watched_videos(sighting) {
                *videos.entry(&held.video).or_insert(true) &= is_still && !held.shedding;
            }
        }
        videos
            .into_iter()
            .map(|(video, is_sure)| {
                let is_sure = is_sure && !self.has_hand_over(video);
                (video.clone(), is_sure.then(|| self.viewer_count_of(video)))
            })
            .collect()
    }
}

/// Measures the videos' peaks of viewers once a second, and stores the new ones. Never returns.
pub async fn run(manager: Arc<Manager>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut steady = PeakTrackers::default();
    loop {
        ticks.tick().await;
        let watched = manager.cluster().certain_viewer_counts(Instant::now());
        let due = steady.note_viewers(watched);
        for part in due.chunks(VIDEOS_AT_ONCE) {
            match timeout(STORE_TIMEOUT, store_peaks(&manager, part)).await {
                Ok(Ok(stored)) => steady.note_stored(stored),
                // The store is away, which shows elsewhere; the peaks are written at the next look.
                _ => break,
            }
        }
    }
}

async fn store_peaks(manager: &Manager, peaks: &[(VideoId, u64)]) -> Result<Vec<(VideoId, u64)>, StoreError> {
    manager.assignment_store.raise_viewer_peaks(peaks).await?;
    let ids: Vec<VideoId> = peaks.iter().map(|(id, _)| id.clone()).collect();
    let stored = manager.assignment_store.viewer_peaks(&ids).await?;
    // A peak that is not there any more was too low to stay among the greatest: it is not written again before it grows.
    let known = ids.into_iter().zip(stored).zip(peaks);
    Ok(known.map(|((id, stored), (_, written))| (id, stored.unwrap_or(*written))).collect())
}

/// Returns the peak of viewers of each video, 0 for one that was never watched for long enough; `None` if the store does not
/// answer in time.
pub async fn read_peaks(manager: &Manager, videos: &[VideoId]) -> Option<Vec<u64>> {
    let read = async {
        let mut peaks = Vec::with_capacity(videos.len());
        for part in videos.chunks(VIDEOS_AT_ONCE) {
            let read = manager.assignment_store.viewer_peaks(part).await.ok()?;
            peaks.extend(read.into_iter().map(|peak| peak.unwrap_or(0)));
        }
        Some(peaks)
    };
    timeout(READ_TIMEOUT, read).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(id: &str) -> VideoId {
        VideoId::parse(id).unwrap()
    }

    fn peak_of(steady: &PeakTrackers, id: &str) -> u64 {
        steady.videos.get(&video(id)).map_or(0, |video| video.peak)
    }

    #[test]
    fn a_number_counts_once_it_was_there_for_five_looks_on_end() {
        let mut steady = PeakTrackers::default();
        let look = |steady: &mut PeakTrackers, viewers| steady.note_viewers(vec![(video("v"), viewers)]);
        for viewers in [7, 7, 9, 9, 9] {
            look(&mut steady, Some(viewers));
        }
        assert_eq!(peak_of(&steady, "v"), 7);
        // A viewer in two reports, for less than five looks.
        for viewers in [12, 12, 12, 12, 8] {
            look(&mut steady, Some(viewers));
        }
        assert_eq!(peak_of(&steady, "v"), 9);
        for viewers in [Some(20), Some(20), Some(20), Some(20), None, Some(20), Some(20), Some(20), Some(20)]
        {
            look(&mut steady, viewers);
        }
        assert_eq!(peak_of(&steady, "v"), 9, "what is not sure ends what was there on end");
        look(&mut steady, Some(20));
        assert_eq!(peak_of(&steady, "v"), 20);
    }

    #[test]
    fn a_peak_is_written_until_it_is_stored_and_again_every_minute() {
        let mut steady = PeakTrackers::default();
        let due = |steady: &mut PeakTrackers| steady.note_viewers(vec![(video("v"), Some(3))]);
        assert!((0..4).all(|_| due(&mut steady).is_empty()));
        assert_eq!([due(&mut steady), due(&mut steady)], [[(video("v"), 3)], [(video("v"), 3)]]);
        steady.note_stored([(video("v"), 30), (video("unknown"), 1)]);
        assert!((7..=60).all(|_| due(&mut steady).is_empty()));
        assert_eq!(due(&mut steady), [(video("v"), 30)], "the store may have lost it");
        assert!(steady.note_viewers(Vec::new()).is_empty());
        assert_eq!(peak_of(&steady, "v"), 0, "a video that nobody watches takes no memory");
    }

    #[test]
    fn the_peak_is_the_greatest_number_of_five_on_end() {
        for run in 0..200_u64 {
            let number = |at: u64| ((run + 1).wrapping_mul(2_654_435_761).wrapping_mul(at + 7) >> 7) % 31;
            let numbers: Vec<u64> = (0..run % 40).map(number).collect();
            let mut steady = PeakTrackers::default();
            for number in &numbers {
                steady.note_viewers(vec![(video("v"), Some(*number))]);
            }
            let due = numbers.windows(STEADY_SECONDS).filter_map(|five| five.iter().min()).max();
            assert_eq!(peak_of(&steady, "v"), due.copied().unwrap_or(0), "{numbers:?}");
        }
    }
}
