//! Viewers who asked where to go and could not be sent to a reader that takes them: no video without a reader is to go
//! unnoticed, whatever every part says of itself.

use std::time::{Duration, Instant};

use liverank_core::VideoId;
use liverank_protocol::UnservedRequests;

/// For how long requests are counted, and how long none has to be in vain for it to be over.
const COUNTING_WINDOW: Duration = Duration::from_secs(10);

/// Requests in vain.
#[derive(Debug, Default)]
pub struct UnservedViewers {
    /// The first of those that are not over, and the last.
    spell: Option<(Instant, Instant)>,
    /// Two halves of the window: when each began, and how many.
    current_half: (Option<Instant>, u64),
    previous_half: u64,
    video: Option<VideoId>,
}

impl UnservedViewers {
    /// Notes a request for `video` that no reader could be named for.
    pub fn note_unserved(&mut self, now: Instant, video: &VideoId) {
        let is_over = |last: Instant| now.saturating_duration_since(last) >= COUNTING_WINDOW;
        let first = self.spell.filter(|(_, last)| !is_over(*last)).map_or(now, |(first, _)| first);
        self.spell = Some((first, now));
        self.roll_window(now);
        self.current_half.1 += 1;
        if self.video.as_ref() != Some(video) {
            self.video = Some(video.clone());
        }
    }

    /// Returns the requests that no reader could serve lately, if there are any.
    pub fn unserved_lately(&self, now: Instant) -> Option<UnservedRequests> {
        let (first, last) = self.spell?;
        if now.saturating_duration_since(last) >= COUNTING_WINDOW {
            return None;
        }
        Some(UnservedRequests {
            requests: self.current_half.1 + self.previous_half,
            since_ms: now.saturating_duration_since(first).as_millis() as u64,
            video: self.video.clone(),
        })
    }

    fn roll_window(&mut self, now: Instant) {
        let since = *self.current_half.0.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= COUNTING_WINDOW / 2 {
            self.previous_half = if passed < COUNTING_WINDOW { self.current_half.1 } else { 0 };
            self.current_half = (Some(now), 0);
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
        assert_eq!(unserved.unserved_lately(start), None);
        for second in 0..30 {
            unserved.note_unserved(at(second), &video);
        }
        let told = unserved.unserved_lately(at(30)).unwrap();
        assert_eq!((told.since_ms, told.video.as_ref()), (30_000, Some(&video)));
        assert!((5..=10).contains(&told.requests), "{told:?}");
        assert_eq!(unserved.unserved_lately(at(39)), None);
        unserved.note_unserved(at(60), &video);
        assert_eq!(
            unserved.unserved_lately(at(61)).map(|told| (told.requests, told.since_ms)),
            Some((1, 1_000))
        );
    }
}
