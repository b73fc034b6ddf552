//! A simulated manager's view of the cluster: its assignments, and the readers as
//! [`ReaderWatch`](liverank_core::liveness::ReaderWatch) judges them.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use liverank_core::handover::coordinator::{self, ClusterView, FULL_USAGE_THOUSANDTHS, ReaderStatus};
use liverank_core::handover::peak::RecentPeak;
use liverank_core::handover::{AssignedReaders, CordonLevel, HeldVideo, ReaderShare};
use liverank_core::liveness::{ReaderLiveness, ReaderReport, ReaderWatch, ReadersVerdict};
use liverank_core::{ReaderId, VideoId};

use crate::net::{CAPACITY, Ms, Record, index};

/// A manager's view of the cluster.
pub struct View {
    pub now: Instant,
    pub loaded: bool,
    pub assigned: HashMap<VideoId, AssignedReaders>,
    pub highest_epoch: u64,
    pub watch: ReaderWatch<Record>,
    /// The last decision about which readers are gone.
    verdict: ReadersVerdict,
    /// The recent peak of the viewers of each video.
    peaks: HashMap<VideoId, RecentPeak>,
    names: Vec<ReaderId>,
    /// The readers that the operator has removed, as the store says.
    pub removed: BTreeSet<usize>,
}

impl ClusterView for View {
    fn assigned_readers(&self, video: &VideoId) -> Option<&AssignedReaders> {
        self.assigned.get(video)
    }

    fn reader_status(&self, reader: &ReaderId) -> Option<ReaderStatus> {
        let cordon = self.is_removed(reader).then_some(CordonLevel::Removed);
        self.watch.status_to_act_on(self.now, reader, cordon, &self.verdict)
    }

    fn viewer_url(&self, reader: &ReaderId) -> Option<String> {
        self.watch.get(reader).map(|_| reader.as_str().to_owned())
    }

    fn held_video(&self, reader: &ReaderId, video: &VideoId) -> Option<&HeldVideo> {
        self.watch.get(reader).filter(|sighting| sighting.has_recent_record(self.now))?.held_video(video)
    }

    fn usage_thousandths(&self, reader: &ReaderId) -> u64 {
        let capacity = self.record(reader).map_or(CAPACITY, |record| record.capacity);
        (self.viewers_at(reader) * FULL_USAGE_THOUSANDTHS)
            .checked_div(capacity)
            .unwrap_or(FULL_USAGE_THOUSANDTHS)
    }

    fn room(&self, reader: &ReaderId) -> u64 {
        let capacity = self.record(reader).map_or(0, |record| record.capacity);
        capacity.saturating_sub(self.viewers_at(reader))
    }

    fn reported_usage(&self, reader: &ReaderId) -> (u64, u64) {
        (self.record(reader).map_or(0, |record| record.capacity), self.viewers_at(reader))
    }

    fn is_open(&self, reader: &ReaderId) -> bool {
        self.watch.reader_status(reader) == Some(ReaderStatus::Alive) && !self.is_removed(reader)
    }

    fn viewers(&self, video: &VideoId) -> u64 {
        self.peaks.get(video).map_or(0, RecentPeak::greatest)
    }
}

impl View {
    /// Makes the view of a manager that knows nothing but the names of the readers.
    pub fn new(now: Instant, names: Vec<ReaderId>) -> Self {
        Self {
            now,
            loaded: false,
            assigned: HashMap::new(),
            highest_epoch: 0,
            watch: ReaderWatch::default(),
            verdict: ReadersVerdict::default(),
            peaks: HashMap::new(),
            names,
            removed: BTreeSet::new(),
        }
    }

    pub fn is_fresh(&self) -> bool {
        self.watch.is_view_recent(self.now)
    }

    pub fn is_removed(&self, reader: &ReaderId) -> bool {
        self.removed.contains(&index(reader.as_str()))
    }

    /// Returns the last record of a reader; `None` if the reader is not known.
    pub fn record(&self, reader: &ReaderId) -> Option<&Record> {
        self.watch.get(reader).map(|sighting| &sighting.last_record)
    }

    fn viewers_at(&self, reader: &ReaderId) -> u64 {
        self.record(reader).map_or(0, ReaderReport::viewers)
    }

    /// Returns the readers of a video to which viewers are sent, the best first.
    pub fn route(&mut self, video: &VideoId, lots: [u32; 2]) -> Vec<usize> {
        let Some(assigned) = self.assigned.get(video) else { return Vec::new() };
        let readers = coordinator::readers_to_join(self, video, assigned, lots);
        let readers: Vec<ReaderId> = readers.iter().map(|it| it.reader.clone()).collect();
        if let Some(best) = readers.first() {
            self.watch.note_viewer_sent(self.now, best);
        }
        readers.iter().map(|reader| index(reader.as_str())).collect()
    }

    /// Returns the readers that accept new videos.
    pub fn open(&self) -> Vec<usize> {
        let open = self.watch.open_readers_among(|reader| !self.is_removed(reader));
        open.map(|sighting| sighting.last_record.reader()).collect()
    }

    /// Returns the reader to choose for a video: the one with most of its viewers, else the least used one.
    pub fn choose(&self, video: &VideoId, besides: &[ReaderShare]) -> Option<ReaderId> {
        let held = |reader: usize| self.watch.get(&self.names[reader])?.held_video(video);
        let at = |reader: usize| held(reader).map_or(0, |held| held.viewers);
        let is_beside = |at: &usize| besides.iter().all(|share| share.reader != self.names[*at]);
        let has_room = |reader: usize| self.room(&self.names[reader]) > 0;
        let open = self.open();
        let best = open.into_iter().filter(is_beside).max_by_key(|reader| {
            (
                has_room(*reader),
                at(*reader),
                u64::MAX - self.viewers_at(&self.names[*reader]),
                usize::MAX - reader,
            )
        })?;
        Some(self.names[best].clone())
    }

    /// Returns the reader with the most room that does not serve the video; `None` if there is none.
    pub fn roomiest_other(&self, assigned: &AssignedReaders) -> Option<ReaderId> {
        let others = self.open().into_iter().map(|reader| self.names[reader].clone());
        let has_room = |reader: &ReaderId| assigned.share_of(reader).is_none() && self.room(reader) > 0;
        others.filter(has_room).max_by_key(|reader| self.room(reader))
    }

    /// Returns the number of viewers for whom open readers have room.
    pub fn room_elsewhere(&self) -> u64 {
        self.open().into_iter().map(|reader| self.room(&self.names[reader])).sum()
    }

    pub fn put_assignment(&mut self, video: VideoId, assigned: AssignedReaders) {
        self.highest_epoch = self.highest_epoch.max(assigned.epoch);
        self.assigned.insert(video, assigned);
    }

    /// Returns the highest epoch that this manager or any reader has seen.
    pub fn seen(&self) -> u64 {
        self.highest_epoch.max(self.watch.highest_epoch())
    }

    /// Notes a heartbeat that this manager received itself.
    pub fn note_heartbeat(&mut self, record: Record) {
        self.watch.note_heartbeat(self.now, record);
        self.decide_about_readers();
    }

    /// Notes the store's records of the readers; the store was asked at `asked`, `time` after the start of the run.
    pub fn observe(&mut self, (asked, time): (Instant, Ms), records: Vec<Record>, removed: BTreeSet<usize>) {
        self.removed = removed;
        self.watch.note_records(asked, records);
        self.note_peaks(time);
        self.decide_about_readers();
    }

    /// Notes how many viewers each video has, by the reports of readers that are not gone.
    fn note_peaks(&mut self, time: Ms) {
        let mut viewers: HashMap<&VideoId, (u64, bool)> = HashMap::new();
        let is_there = |it: &&ReaderLiveness<Record>| self.watch.status_of(it) != ReaderStatus::Gone;
        for record in self.watch.all_readers().filter(is_there).map(|it| &it.last_record) {
            for held in &record.held {
                let (viewers, handed_over) = viewers.entry(&held.video).or_default();
                *viewers += held.viewers;
                let assigned = self.assigned.get(&held.video);
                *handed_over |= assigned.is_some_and(|it| it.must_hand_over(&record.id, held));
            }
        }
        for (video, (viewers, handed_over)) in viewers {
            let peak = self.peaks.entry(video.clone()).or_default();
            peak.note_number(Duration::from_millis(time), viewers, handed_over);
        }
    }

    /// Notes that a reader has a video ready, ahead of its report.
    pub fn ready(&mut self, reader: &ReaderId, video: &VideoId) {
        self.watch.note_video_ready(reader, video);
    }

    /// Decides again which readers are gone.
    pub fn decide_about_readers(&mut self) {
        let serves = |reader: &ReaderId| self.assigned.values().any(|it| it.share_of(reader).is_some());
        self.verdict = self.watch.decide_about_readers(self.now, serves, |reader| self.is_removed(reader));
    }
}
