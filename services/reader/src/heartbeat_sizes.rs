//! The sizes of a reader's heartbeats. Managers take a reader for dead if its heartbeats do not arrive; so a reader
//! whose long heartbeat is refused or late names only its most watched videos, until managers answer quickly again.
//!
//! Pure: knows no clock.

use std::borrow::Cow;
use std::time::Duration;

use liverank_core::handover::HeldVideo;
use liverank_protocol::ReaderRecord;

/// The greatest size, in bytes, of a heartbeat that managers of this release accept.
const MAX_BYTES: usize = 24 * 1024 * 1024;
/// The greatest size, in bytes, of a heartbeat that every manager accepts: those of the release before this one accept
/// 8 MiB.
const MAX_BYTES_ACCEPTED_BY_ALL: usize = 8 * 1024 * 1024;
/// The greatest size, in bytes, of a heartbeat after a late one: more than ten thousand videos with usual ids. A
/// heartbeat this short is not late because of its length.
const MAX_BYTES_AFTER_LATE: usize = 2 * 1024 * 1024;
/// The maximum size, in bytes, of everything in a heartbeat but its videos.
const OTHER_MEMBERS_BYTES: usize = 16 * 1024;
/// The size of a video in a heartbeat beside its id, in bytes, with the longest numbers.
const HELD_VIDEO_BYTES: usize = 128;
/// An answer that took less time than this is quick: half of the time that an answer may take.
const QUICK_ANSWER_LIMIT: Duration = Duration::from_millis(400);
/// The number of quick answers in a row after which heartbeats may be twice as long.
const QUICK_ANSWERS_TO_GROW: u32 = 10;

/// Limits the size of the next heartbeats, by the managers' answers to the last ones.
#[derive(Debug)]
pub struct HeartbeatSizes {
    /// The greatest size of a heartbeat now, in bytes.
    max_bytes: usize,
    quick_answers: u32,
}

impl Default for HeartbeatSizes {
    fn default() -> Self {
        Self { max_bytes: MAX_BYTES, quick_answers: 0 }
    }
}

impl HeartbeatSizes {
    /// Returns the record; if it would be too long with all its videos, returns a copy with only the most watched ones.
    pub fn fit_record<'a>(&self, record: &'a ReaderRecord) -> Cow<'a, ReaderRecord> {
        if size_of_record(record) <= self.max_bytes {
            return Cow::Borrowed(record);
        }
        let mut videos = record.videos.clone();
        videos.sort_by_key(|held| std::cmp::Reverse(held.viewers));
        let mut size = OTHER_MEMBERS_BYTES;
        let fitting = videos.iter().take_while(|held| {
            size += size_of_video(held);
            size <= self.max_bytes
        });
        let count = fitting.count();
        videos.truncate(count);
        Cow::Owned(ReaderRecord { videos, ..record.clone() })
    }

    /// Notes that a manager refused a heartbeat as too long.
    pub fn note_too_long(&mut self) {
        self.shorten_to(MAX_BYTES_ACCEPTED_BY_ALL);
    }

    /// Notes that no manager answered this heartbeat in time.
    pub fn note_late(&mut self, sent: &ReaderRecord) {
        if size_of_record(sent) > MAX_BYTES_AFTER_LATE {
            self.shorten_to(MAX_BYTES_AFTER_LATE);
        }
    }

    fn shorten_to(&mut self, bytes: usize) {
        self.max_bytes = self.max_bytes.min(bytes);
        self.quick_answers = 0;
    }

    /// Notes the time that a manager took to answer.
    pub fn note_answer(&mut self, took: Duration) {
        self.quick_answers = if took < QUICK_ANSWER_LIMIT { self.quick_answers + 1 } else { 0 };
        if self.quick_answers >= QUICK_ANSWERS_TO_GROW {
            self.quick_answers = 0;
            self.max_bytes = (2 * self.max_bytes).min(MAX_BYTES);
        }
    }
}

/// Returns an upper bound for the size, in bytes, of a heartbeat with this record.
fn size_of_record(record: &ReaderRecord) -> usize {
    OTHER_MEMBERS_BYTES + record.videos.iter().map(size_of_video).sum::<usize>()
}

fn size_of_video(held: &HeldVideo) -> usize {
    let id = held.video.as_str();
    let escaped = id.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    id.len() + escaped + HELD_VIDEO_BYTES
}

#[cfg(test)]
mod tests {
    use liverank_core::{ReaderId, VideoId};

    use super::*;

    const QUICK: Duration = Duration::from_millis(5);

    fn record(videos: u64) -> ReaderRecord {
        let held = |number: u64| HeldVideo {
            video: VideoId::parse(&format!("{number:06}{}", "\"".repeat(250))).unwrap(),
            viewers: number,
            epoch: (1 << 53) - 1,
            ready: false,
            shedding: false,
        };
        ReaderRecord {
            id: ReaderId::parse("r").unwrap(),
            public_url: "http://r".into(),
            internal_url: "http://r".into(),
            beat: 1,
            incarnation: 1,
            capacity: 1,
            viewers: 7,
            draining: false,
            grace_ms: 0,
            highest_epoch: 0,
            videos: (0..videos).map(held).collect(),
            messages_sent: 0,
            reconnects: 0,
            reconnect_errors: 0,
            ticket: None,
            zone: None,
            viewers_by_zone: liverank_protocol::ZonedViewers::default(),
        }
    }

    #[test]
    fn a_shortened_heartbeat_fits_and_has_the_most_watched_videos() {
        let (all, mut sizes) = (record(20_000), HeartbeatSizes::default());
        assert_eq!(*sizes.fit_record(&all), all);
        for (note, limit) in [
            (HeartbeatSizes::note_too_long as fn(&mut HeartbeatSizes), MAX_BYTES_ACCEPTED_BY_ALL),
            (|sizes: &mut HeartbeatSizes| sizes.note_late(&record(20_000)), MAX_BYTES_AFTER_LATE),
        ] {
            note(&mut sizes);
            let short = sizes.fit_record(&all);
            let bytes = serde_json::to_vec(&*short).unwrap().len();
            assert!((limit * 8 / 10..=limit).contains(&bytes), "{bytes} of {limit}");
            assert_eq!((short.viewers, short.videos[0].viewers), (7, 19_999));
            assert_eq!(sizes.fit_record(&record(3)).videos.len(), 3);
        }
    }

    #[test]
    fn heartbeats_grow_again_while_answers_are_quick() {
        let (all, mut sizes) = (record(20_000), HeartbeatSizes::default());
        sizes.note_late(&all);
        let rounds = (1..100).find(|_| {
            sizes.note_answer(QUICK);
            sizes.fit_record(&all).videos.len() == all.videos.len()
        });
        assert_eq!(rounds, Some(30), "2, 4, 8, 16 MiB");
        sizes.note_late(&all);
        for _ in 0..100 {
            for _ in 1..QUICK_ANSWERS_TO_GROW {
                sizes.note_answer(QUICK);
            }
            sizes.note_answer(QUICK_ANSWER_LIMIT);
        }
        assert!(
            sizes.fit_record(&all).videos.len() < all.videos.len(),
            "a slow answer begins the count anew"
        );
    }

    #[test]
    fn a_short_heartbeat_that_is_late_stays_as_it_is() {
        let (some, mut sizes) = (record(1_000), HeartbeatSizes::default());
        sizes.note_late(&some);
        assert_eq!(*sizes.fit_record(&record(20_000)), record(20_000));
    }
}
