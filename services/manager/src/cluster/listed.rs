//! Selects the videos that an answer of limited length lists: those that planners need most.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io::Write;

use liverank_adapters::assignment_store::VideoAssignment;
use liverank_core::VideoId;
use serde::Serialize;

use super::KnownCluster;
use super::load::watched_videos;

/// The bytes of an assignment in the answer beside its ids: names of members and the longest numbers.
const ASSIGNMENT_BYTES: usize = 160;
/// The bytes of one reader of an assignment, beside its id.
const SHARE_BYTES: usize = 40;
/// The bytes of a video in the list of a reader, beside its id.
const READER_VIDEO_BYTES: usize = 24;

/// The videos that are listed.
#[derive(Debug, PartialEq, Eq)]
pub enum ListedVideos<'a> {
    /// All videos are listed, because there is room for them.
    All,
    /// Only these videos are listed.
    Some(HashSet<&'a VideoId>),
}

impl ListedVideos<'_> {
    /// Returns true if `video` is listed.
    pub fn contains(&self, video: &VideoId) -> bool {
        match self {
            Self::All => true,
            Self::Some(videos) => videos.contains(video),
        }
    }
}

/// The properties of a watched video that decide whether it is listed.
#[derive(Debug, Default)]
struct ListingCandidate {
    /// True if some of the video's viewers are at a reader that is being emptied: a planner has to find them a place.
    is_at_emptied_reader: bool,
    viewers: u64,
    bytes: usize,
}

impl KnownCluster {
    /// Returns the videos that take at most `room` bytes in the answer. Videos with viewers at readers that are being
    /// emptied come first, then the most watched videos, and videos that nobody watches last.
    pub fn videos_within(&self, room: usize) -> ListedVideos<'_> {
        let watched = self.listing_candidates();
        let is_unwatched = |it: &&VideoAssignment| !watched.contains_key(&it.video_id);
        let unwatched = || self.assignment_view.all_assignments().filter(is_unwatched);
        let total: usize = watched.values().map(|it| it.bytes).sum::<usize>()
            + unwatched().map(assignment_bytes).sum::<usize>();
        if total <= room {
            return ListedVideos::All;
        }
        let mut by_need: Vec<(&VideoId, &ListingCandidate)> =
            watched.iter().map(|(id, it)| (*id, it)).collect();
        by_need.sort_unstable_by_key(|(id, it)| (Reverse(it.is_at_emptied_reader), Reverse(it.viewers), *id));
        let costs = by_need.into_iter().map(|(id, it)| (id, it.bytes));
        let costs = costs.chain(unwatched().map(|it| (&it.video_id, assignment_bytes(it))));
        let mut left = room;
        let within = costs.map_while(|(id, bytes)| {
            left = left.checked_sub(bytes)?;
            Some(id)
        });
        ListedVideos::Some(within.collect())
    }

    fn listing_candidates(&self) -> HashMap<&VideoId, ListingCandidate> {
        let mut watched: HashMap<&VideoId, ListingCandidate> = HashMap::new();
        for sighting in self.reader_watch.all_readers() {
            let is_emptied =
                sighting.last_record.draining || self.cordon_level(&sighting.last_record.id).is_some();
            for held in watched_videos(sighting) {
                let cost = watched.entry(&held.video).or_default();
                cost.is_at_emptied_reader |= is_emptied;
                cost.viewers = cost.viewers.saturating_add(held.viewers);
                cost.bytes += json_bytes(held.video.as_str()) + READER_VIDEO_BYTES;
            }
        }
        for (video, cost) in &mut watched {
            cost.bytes += self.assignment_view.get(video).map_or(0, assignment_bytes);
        }
        watched
    }
}

fn assignment_bytes(assignment: &VideoAssignment) -> usize {
    let readers = assignment.readers().iter();
    let readers: usize = readers.map(|share| json_bytes(share.reader.as_str()) + SHARE_BYTES).sum();
    json_bytes(assignment.video_id.as_str()) + ASSIGNMENT_BYTES + readers
}

/// Returns the bytes of an id in JSON, without its quotes. No id has control characters, which take more.
fn json_bytes(id: &str) -> usize {
    id.len() + id.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// Returns the bytes of a value as JSON.
pub fn bytes_as_json(value: &impl Serialize) -> usize {
    struct ByteCount(usize);

    impl Write for ByteCount {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = ByteCount(0);
    serde_json::to_writer(&mut count, value).expect("strings and numbers always serialise");
    count.0
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use liverank_adapters::assignment_store::{AssignmentSnapshot, ReaderRecord};
    use liverank_core::ReaderId;
    use liverank_core::handover::{AssignedReaders, HeldVideo, ReaderShare};
    use liverank_protocol::{MAX_LOAD_BYTES, ZonedViewers};

    use super::*;

    fn video(id: &str) -> VideoId {
        VideoId::parse(id).unwrap()
    }

    fn assignment(id: &str, reader: &str) -> VideoAssignment {
        let readers = vec![ReaderShare { reader: ReaderId::parse(reader).unwrap(), weight: 1 }];
        VideoAssignment { video_id: video(id), assigned_readers: AssignedReaders { epoch: 7, readers } }
    }

    fn record(name: &str, draining: bool, videos: &[(&str, u64)]) -> ReaderRecord {
        let held = |(id, viewers): &(&str, u64)| HeldVideo {
            video: video(id),
            viewers: *viewers,
            epoch: 7,
            ready: true,
            shedding: false,
        };
        let url = format!("http://{name}");
        ReaderRecord {
            id: ReaderId::parse(name).unwrap(),
            public_url: url.clone(),
            internal_url: url,
            beat: 1,
            incarnation: 1,
            capacity: 1_000,
            viewers: videos.iter().map(|(_, viewers)| viewers).sum(),
            draining,
            grace_ms: 0,
            highest_epoch: 7,
            videos: videos.iter().map(held).collect(),
            messages_sent: 0,
            reconnects: 0,
            reconnect_errors: 0,
            ticket: None,
            zone: None,
            viewers_by_zone: ZonedViewers::default(),
        }
    }

    fn cluster(records: Vec<ReaderRecord>, assignments: Vec<VideoAssignment>) -> KnownCluster {
        let mut cluster = KnownCluster::default();
        let state = AssignmentSnapshot { version: 1, assignments };
        cluster.assignment_view.replace_all(Instant::now(), state);
        cluster.note_records(Instant::now(), records);
        cluster
    }

    /// Returns the ids of the listed assignments in their order by name, and the load.
    fn listed_within(cluster: &KnownCluster, bytes: usize) -> (Vec<String>, liverank_protocol::ClusterLoad) {
        let mut load = cluster.cluster_load(Instant::now(), 1, false);
        cluster.list_videos(Instant::now(), &mut load, bytes);
        let listed = load.assignments.iter().flatten();
        let mut ids: Vec<String> = listed.map(|it| it.videoid.to_string()).collect();
        ids.sort();
        (ids, load)
    }

    #[test]
    fn an_answer_with_room_lists_every_video() {
        let cluster = cluster(
            vec![record("a", false, &[("hot", 90), ("cool", 1)])],
            vec![assignment("hot", "a"), assignment("cool", "a"), assignment("idle", "a")],
        );
        let (ids, load) = listed_within(&cluster, MAX_LOAD_BYTES);
        assert_eq!((ids, load.unlisted), (vec!["cool".into(), "hot".into(), "idle".into()], None));
        assert_eq!(load.readers[0].videos.len(), 2);
    }

    #[test]
    fn without_room_for_all_those_that_have_to_leave_come_first_then_the_most_watched() {
        let watched = [("hot", 90), ("warm", 9), ("cool", 1)];
        let assignments = ["hot", "warm", "cool", "leaving", "idle"].map(|id| assignment(id, "a"));
        let records = vec![record("a", false, &watched), record("b", true, &[("leaving", 2)])];
        let cluster = cluster(records, assignments.to_vec());
        let (_, bare) = listed_within(&cluster, 0);
        let mut bare_bytes = bytes_as_json(&bare);
        let mut seen = Vec::new();
        for _ in 0..40 {
            let (ids, load) = listed_within(&cluster, bare_bytes);
            assert!(bytes_as_json(&load) <= bare_bytes.max(bytes_as_json(&bare)), "{}", bytes_as_json(&load));
            let unlisted = load.unlisted.clone().unwrap_or_default();
            let parts: u64 = load.readers.iter().flat_map(|it| &it.videos).map(|(_, viewers)| viewers).sum();
            let left_out: u64 = unlisted.viewers.iter().map(|(_, viewers)| viewers).sum();
            assert_eq!(parts + left_out, 102, "no viewer is forgotten");
            assert_eq!(ids.len() as u64 + unlisted.videos, 5, "nor a video");
            if seen.last() != Some(&ids) {
                seen.push(ids);
            }
            bare_bytes += 100;
        }
        let expected: [&[&str]; 6] = [
            &[],
            &["leaving"],
            &["hot", "leaving"],
            &["hot", "leaving", "warm"],
            &["cool", "hot", "leaving", "warm"],
            &["cool", "hot", "idle", "leaving", "warm"],
        ];
        assert_eq!(seen, expected);
    }

    /// A stranger registers videos with long ids, and watches some.
    #[test]
    fn an_answer_stays_within_what_planners_read() {
        let id = |number: usize| format!("{number:05}{}", "\"".repeat(251));
        let all: Vec<VideoAssignment> = (0..30_000).map(|number| assignment(&id(number), "a")).collect();
        let long: Vec<String> = (0..10_000).map(id).collect();
        let mut watched: Vec<(&str, u64)> = long.iter().map(|id| (id.as_str(), 1)).collect();
        watched.push(("hot", 9_000));
        let cluster =
            cluster(vec![record("a", false, &watched)], [&all[..], &[assignment("hot", "a")]].concat());
        let load = cluster.cluster_load(Instant::now(), 1, true);
        let bytes = bytes_as_json(&load);
        assert!((MAX_LOAD_BYTES * 9 / 10..=MAX_LOAD_BYTES).contains(&bytes), "{bytes}");
        assert!(load.assignments.iter().flatten().any(|it| it.videoid.as_str() == "hot"));
        let unlisted = load.unlisted.unwrap();
        assert_eq!(unlisted.videos + load.assignments.unwrap().len() as u64, 30_001);
    }
}
