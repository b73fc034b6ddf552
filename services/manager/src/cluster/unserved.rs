//! Counts viewers who asked for a reader and could not be sent to one that accepts viewers, so that a video without a
//! reader is noticed whatever each process reports of itself.

use std::time::{Duration, Instant};

use liverank_core::VideoId;
use liverank_protocol::UnservedRequests;

/// The time for which failed requests are counted, and the time without a failed request after which the problem counts
/// as over.
const COUNTING_WINDOW: Duration = Duration::from_secs(10);

/// The recent requests for which no reader could be named.
#[derive(Debug, Default)]
pub struct UnservedViewers {
    /// The times of the first and the last failed request of the problem that is not over.
    first_and_last_failure: Option<(Instant, Instant)>,
    /// The current half of the window: the time at which it began, and the number of requests in it.
    /// `requests_in_previous_half` is the number in the half before.
    current_half_window: (Option<Instant>, u64),
    requests_in_previous_half: u64,
    video: Option<VideoId>,
}

impl UnservedViewers {
    /// Counts a request for `video` for which no reader could be named.
    pub fn note_unserved(&mut self, now: Instant, video: &VideoId) {
        let is_over = |last: Instant| now.saturating_duration_since(last) >= COUNTING_WINDOW;
        let first =
            self.first_and_last_failure.filter(|(_, last)| !is_over(*last)).map_or(now, |(first, _)| first);
        self.first_and_last_failure = Some((first, now));
        self.roll_window(now);
        self.current_half_window.1 += 1;
        if self.video.as_ref() != Some(video) {
            self.video = Some(video.clone());
        }
    }

    /// Returns the requests that no reader could serve lately, if there are any.
    pub fn recent_unserved_requests(&self, now: Instant) -> Option<UnservedRequests> {
        let (first, last) = self.first_and_last_failure?;
        if now.saturating_duration_since(last) >= COUNTING_WINDOW {
            return None;
        }
        Some(UnservedRequests {
            requests: self.current_half_window.1 + self.requests_in_previous_half,
            since_ms: now.saturating_duration_since(first).as_millis() as u64,
            video: self.video.clone(),
        })
    }

    fn roll_window(&mut self, now: Instant) {
        let since = *self.current_half_window.0.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= COUNTING_WINDOW / 2 {
            self.requests_in_previous_half =
                if passed < COUNTING_WINDOW { self.current_half_window.1 } else { 0 };
            self.current_half_window = (Some(now), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unserved_requests_are_reported_until_none_for_a_while() {
        let (mut unserved, start) = (UnservedViewers::default(), Instant::now());
        let video = VideoId::parse("v").unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(unserved.recent_unserved_requests(start), None);
        for second in 0..30 {
            unserved.note_unserved(at(second), &video);
        }
        let told = unserved.recent_unserved_requests(at(30)).unwrap();
        assert_eq!((told.since_ms, told.video.as_ref()), (30_000, Some(&video)));
        assert!((5..=10).contains(&told.requests), "{told:?}");
        assert_eq!(unserved.recent_unserved_requests(at(39)), None);
        unserved.note_unserved(at(60), &video);
        assert_eq!(
            unserved.recent_unserved_requests(at(61)).map(|told| (told.requests, told.since_ms)),
            Some((1, 1_000))
        );
    }
}
