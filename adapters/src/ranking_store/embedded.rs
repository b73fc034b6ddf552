//! The boards in memory: empty after a start, as a Redis may be, and repaired in the same way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use liverank_core::idle::is_idle;
use liverank_core::ranking::{RankedVideo, Ranking, first_index_around};
use liverank_core::{Metadata, Millis, VideoId, canary};
use tokio::sync::mpsc;

use super::{
    BatchProjection, BoardChange, BoardEntry, BoardPage, BoardPlace, BoardsSnapshot, BuiltInBoard,
    BuiltInBoardPlaces, CHANGE_QUEUE_LENGTH, DescribedVideo, PageStart, ProjectionCheckpoint,
    ProjectionOutcome, RETIRED_PER_CALL, RankingStore,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;

/// The boards in memory, for `liverank up`.
#[derive(Default)]
pub struct EmbeddedRanking {
    boards: Mutex<Boards>,
    /// The declared boards by key, each with the time at which it was last wanted.
    declared_boards: Mutex<HashMap<String, (Instant, Arc<EmbeddedRanking>)>>,
}

#[derive(Default)]
struct Boards {
    generation: Option<u64>,
    version: u64,
    offsets: BTreeMap<u32, u64>,
    videos: GenerationVideos,
    /// The next generation while it is gathered. At most one generation is gathered at a time, and its entries are
    /// never older than the generation: a later repair can use the entries that an unfinished repair leaves here.
    unfinished_repair: Option<(u64, GenerationVideos)>,
    subscribers: Vec<Arc<LossyChannel<BoardChange>>>,
    /// The half-life in milliseconds by generation, from the generation in force on.
    half_lives: BTreeMap<u64, u64>,
    /// The metadata of each video, with the generation and the revision of the video's state.
    metadata: HashMap<VideoId, ((u64, u64), Metadata)>,
    /// True if all metadata in the archive were written here.
    is_metadata_complete: bool,
}

/// The videos of one generation, with their ranks.
#[derive(Default)]
struct GenerationVideos {
    entries: HashMap<VideoId, BoardEntry>,
    /// The revision of the last known state of each video, also of videos that were taken off the boards.
    revisions: HashMap<VideoId, u64>,
    global: Ranking,
    trending: Ranking,
    /// The decayed score below which videos are idle; `None` before the first call of `retire_idle` in this generation.
    idle_threshold: Option<f64>,
}

impl GenerationVideos {
    const fn board(&self, board: BuiltInBoard) -> &Ranking {
        match board {
            BuiltInBoard::Global => &self.global,
            BuiltInBoard::Trending => &self.trending,
        }
    }

    /// Puts entries on the boards unless a later revision is known; returns the entries that changed the boards.
    fn put_entries(&mut self, entries: &[BoardEntry]) -> Vec<BoardEntry> {
        entries.iter().filter_map(|entry| self.put_entry(entry)).collect()
    }

    fn put_entry(&mut self, entry: &BoardEntry) -> Option<BoardEntry> {
        let is_idle = !entry.removed && is_idle(entry.trending, self.idle_threshold);
        if is_idle && !self.entries.contains_key(&entry.video_id) {
            return None;
        }
        let revision = self.revisions.entry(entry.video_id.clone()).or_default();
        if entry.revision < *revision {
            return None;
        }
        let is_news = entry.revision > *revision;
        *revision = entry.revision;
        if entry.removed {
            self.global.remove(&entry.video_id);
            self.trending.remove(&entry.video_id);
            let was_there = self.entries.remove(&entry.video_id).is_some();
            return (was_there || is_news && canary::is_canary(&entry.video_id)).then(|| entry.clone());
        }
        let mut now = entry.clone();
        now.trending = now.trending.filter(|trending| trending.is_finite());
        let line = |score| RankedVideo { video_id: now.video_id.clone(), score, user_id: now.owner.clone() };
        let mut changed = self.global.set_score(&line(now.score));
        changed |= match now.trending {
            Some(trending) => self.trending.set_score(&line(trending)),
            None => self.trending.remove(&now.video_id),
        };
        self.entries.insert(now.video_id.clone(), now.clone());
        changed.then_some(now)
    }

    /// Takes videos with a decayed score below `line` off the boards, at most [`RETIRED_PER_CALL`], and forgets their
    /// revisions. Returns an entry for each, which says that it was taken off.
    fn retire_idle(&mut self, line: f64) -> Vec<BoardEntry> {
        self.idle_threshold = Some(line);
        let first = self.trending.len().saturating_sub(RETIRED_PER_CALL);
        let lowest = self.trending.page(first, RETIRED_PER_CALL);
        let idle = lowest.into_iter().filter(|video| is_idle(Some(video.score), Some(line)));
        let mut retired = Vec::new();
        for RankedVideo { video_id, .. } in idle {
            self.global.remove(&video_id);
            self.trending.remove(&video_id);
            self.revisions.remove(&video_id);
            let Some(entry) = self.entries.remove(&video_id) else { continue };
            retired.push(BoardEntry { score: 0.0, trending: None, removed: true, ..entry });
        }
        retired
    }
}

impl Boards {
    /// Puts a generation in force. The caller has to notify the subscribers.
    fn begin_generation(&mut self, generation: u64, lists: GenerationVideos) {
        self.generation = Some(generation);
        self.version += 1;
        self.offsets.clear();
        self.videos = lists;
        self.unfinished_repair = None;
    }

    /// Returns true if a generation later than `generation` is in force or is being gathered, so that a repair for
    /// `generation` is of no use.
    fn is_superseded(&self, generation: u64) -> bool {
        self.generation > Some(generation)
            || self.unfinished_repair.as_ref().is_some_and(|(next, _)| *next > generation)
    }

    /// Stores a video's metadata unless later ones are known. Returns true if the metadata differ from those before.
    fn put_metadata(&mut self, generation: u64, video: &DescribedVideo) -> bool {
        let (of, known) = ((generation, video.revision), self.metadata.get(&video.video_id));
        if known.is_some_and(|(known, _)| *known > of) {
            return false;
        }
        let is_other = known.map(|(_, metadata)| metadata) != video.metadata.as_ref();
        match &video.metadata {
            Some(metadata) => {
                self.metadata.insert(video.video_id.clone(), (of, metadata.clone()));
            }
            None => {
                self.metadata.remove(&video.video_id);
            }
        }
        is_other
    }

    /// Sends subscribers a change (`None`: a reset).
    fn notify_subscribers(&mut self, change: Option<&BoardChange>) {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &self.subscribers {
            subscriber.send_or_mark_lost(change.unwrap_or(&BoardChange::Reset).clone());
        }
    }
}

impl EmbeddedRanking {
    /// Returns empty boards.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock_boards(&self) -> MutexGuard<'_, Boards> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RankingStore for EmbeddedRanking {
    fn store_name(&self) -> &'static str {
        "boards"
    }

    async fn project_batch(&self, projection: &BatchProjection) -> Result<ProjectionOutcome, StoreError> {
        let mut boards = self.lock_boards();
        match boards.generation {
            None => return Ok(ProjectionOutcome::Behind),
            Some(generation) if generation < projection.generation => return Ok(ProjectionOutcome::Behind),
            Some(generation) if generation > projection.generation => {
                return Ok(ProjectionOutcome::Superseded);
            }
            Some(_) => {}
        }
        let stands = |partition| boards.offsets.get(&partition).copied().unwrap_or(0);
        if projection.offset_ranges.iter().any(|span| stands(span.partition) < span.first) {
            return Ok(ProjectionOutcome::Behind);
        }
        let replay = projection.offset_ranges.iter().all(|span| stands(span.partition) >= span.next);
        if replay && !projection.offset_ranges.is_empty() {
            return Ok(ProjectionOutcome::Applied);
        }
        let changed = boards.videos.put_entries(&projection.entries);
        for span in &projection.offset_ranges {
            let offset = boards.offsets.entry(span.partition).or_default();
            *offset = span.next.max(*offset);
        }
        if !changed.is_empty() {
            boards.version += 1;
            let traces = projection.traces.clone();
            let (version, described) = (boards.version, Vec::new());
            let logged_at = projection.logged_at();
            let change = BoardChange::Changed { version, entries: changed, described, traces, logged_at };
            boards.notify_subscribers(Some(&change));
        }
        Ok(ProjectionOutcome::Applied)
    }

    async fn checkpoint(&self) -> Result<ProjectionCheckpoint, StoreError> {
        let boards = self.lock_boards();
        let offsets = boards.offsets.iter().map(|(partition, offset)| (*partition, *offset)).collect();
        Ok(ProjectionCheckpoint { generation: boards.generation, offsets })
    }

    async fn write_snapshot(
        &self,
        generation: u64,
        entries: &[BoardEntry],
    ) -> Result<ProjectionOutcome, StoreError> {
        let mut boards = self.lock_boards();
        if boards.is_superseded(generation) {
            return Ok(ProjectionOutcome::Superseded);
        }
        if boards.generation.is_none() {
            boards.begin_generation(generation, GenerationVideos::default());
            boards.notify_subscribers(None);
        }
        if boards.generation == Some(generation) {
            if !boards.videos.put_entries(entries).is_empty() {
                boards.version += 1;
            }
        } else {
            let begun = boards.unfinished_repair.take().filter(|(next, _)| *next == generation);
            let (_, lists) =
                boards.unfinished_repair.insert(begun.unwrap_or((generation, GenerationVideos::default())));
            lists.put_entries(entries);
        }
        Ok(ProjectionOutcome::Applied)
    }

    async fn commit_snapshot(
        &self,
        generation: u64,
        offsets: &[(u32, u64)],
    ) -> Result<ProjectionOutcome, StoreError> {
        let mut boards = self.lock_boards();
        if boards.is_superseded(generation) {
            return Ok(ProjectionOutcome::Superseded);
        }
        if boards.generation != Some(generation) {
            let begun = boards.unfinished_repair.take().filter(|(next, _)| *next == generation);
            boards.begin_generation(generation, begun.map(|(_, lists)| lists).unwrap_or_default());
        }
        for (partition, next) in offsets {
            let offset = boards.offsets.entry(*partition).or_default();
            *offset = (*next).max(*offset);
        }
        boards.notify_subscribers(None);
        Ok(ProjectionOutcome::Applied)
    }

    async fn retire_idle(&self, generation: u64, line: f64) -> Result<u64, StoreError> {
        let mut boards = self.lock_boards();
        if boards.generation != Some(generation) {
            return Ok(0);
        }
        let entries = boards.videos.retire_idle(line);
        let retired = entries.len() as u64;
        if retired > 0 {
            boards.version += 1;
            let (version, described, traces) = (boards.version, Vec::new(), Vec::new());
            let change = BoardChange::Changed { version, entries, described, traces, logged_at: None };
            boards.notify_subscribers(Some(&change));
        }
        Ok(retired)
    }

    async fn idle_threshold(&self) -> Result<Option<f64>, StoreError> {
        Ok(self.lock_boards().videos.idle_threshold)
    }

    async fn note_half_life(&self, generation: u64, millis: u64) -> Result<(), StoreError> {
        let mut boards = self.lock_boards();
        let in_force = boards.generation.unwrap_or(0);
        if generation >= in_force {
            boards.half_lives.retain(|noted, _| *noted >= in_force);
            boards.half_lives.insert(generation, millis);
        }
        Ok(())
    }

    async fn noted_half_life(&self) -> Result<Option<u64>, StoreError> {
        let boards = self.lock_boards();
        Ok(boards.generation.and_then(|generation| boards.half_lives.get(&generation).copied()))
    }

    async fn board_page(
        &self,
        board: BuiltInBoard,
        start: &PageStart,
        limit: usize,
    ) -> Result<Option<BoardPage>, StoreError> {
        let boards = self.lock_boards();
        let ranking = boards.videos.board(board);
        let skip = match start {
            PageStart::Best => 0,
            PageStart::After(cursor) => ranking.position_after(cursor.score, &cursor.video_id),
            PageStart::Around(video) => match ranking.position_of(video) {
                Some(position) => first_index_around(position, ranking.len(), limit),
                None => return Ok(None),
            },
        };
        let videos = ranking.page(skip, limit);
        Ok(Some(BoardPage { videos, first_rank: skip as u64 + 1, total: ranking.len() as u64 }))
    }

    async fn ranks_of_video(&self, video: &VideoId) -> Result<BuiltInBoardPlaces, StoreError> {
        let boards = self.lock_boards();
        let place = |board| {
            let ranking = boards.videos.board(board);
            let rank = ranking.position_of(video).map(|position| position as u64 + 1);
            BoardPlace { rank, total: ranking.len() as u64 }
        };
        Ok(BuiltInBoardPlaces {
            global: place(BuiltInBoard::Global),
            trending: place(BuiltInBoard::Trending),
        })
    }

    async fn boards_snapshot(&self) -> Result<BoardsSnapshot, StoreError> {
        let boards = self.lock_boards();
        Ok(BoardsSnapshot {
            version: boards.version,
            entries: boards.videos.entries.values().cloned().collect(),
        })
    }

    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<BoardChange>, StoreError> {
        let (outlet, receiver) = LossyChannel::bounded(CHANGE_QUEUE_LENGTH, BoardChange::Reset);
        let mut boards = self.lock_boards();
        outlet.send_or_mark_lost(BoardChange::Reset);
        boards.subscribers.retain(|subscriber| !subscriber.is_closed());
        boards.subscribers.push(outlet);
        Ok(receiver)
    }

    async fn put_metadata(&self, generation: u64, videos: &[DescribedVideo]) -> Result<(), StoreError> {
        let mut boards = self.lock_boards();
        let news = videos.iter().filter(|video| boards.put_metadata(generation, video));
        let described: Vec<VideoId> = news.map(|video| video.video_id.clone()).collect();
        if !described.is_empty() && boards.generation.is_some() {
            boards.version += 1;
            let (version, entries, traces) = (boards.version, Vec::new(), Vec::new());
            let change = BoardChange::Changed { version, entries, described, traces, logged_at: None };
            boards.notify_subscribers(Some(&change));
        }
        Ok(())
    }

    async fn metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        let boards = self.lock_boards();
        Ok(videos
            .iter()
            .map(|video| boards.metadata.get(video).map(|(_, metadata)| metadata.clone()))
            .collect())
    }

    async fn note_metadata_complete(&self) -> Result<(), StoreError> {
        self.lock_boards().is_metadata_complete = true;
        Ok(())
    }

    async fn is_metadata_complete(&self) -> Result<bool, StoreError> {
        Ok(self.lock_boards().is_metadata_complete)
    }

    fn declared_board(&self, key: &str) -> Arc<dyn RankingStore> {
        let mut declared = self.declared_boards.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, store) = declared.entry(key.to_owned()).or_insert_with(|| (Instant::now(), Arc::default()));
        Arc::clone(store) as Arc<dyn RankingStore>
    }

    async fn retain_declared_boards(
        &self,
        wanted: &[String],
        unwanted_after: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let now = Instant::now();
        let mut declared = self.declared_boards.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, (last, _)) in declared.iter_mut().filter(|(key, _)| wanted.contains(key)) {
            *last = now;
        }
        let unwanted = |last: Instant| now.duration_since(last) >= unwanted_after;
        let removed = declared.iter().filter(|(key, (last, _))| !wanted.contains(key) && unwanted(*last));
        let removed: Vec<String> = removed.map(|(key, _)| key.clone()).collect();
        declared.retain(|key, _| !removed.contains(key));
        Ok(removed)
    }

    async fn wanted_boards(&self, together: Duration) -> Result<Vec<String>, StoreError> {
        let declared = self.declared_boards.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = declared.values().map(|(last, _)| *last).max();
        let is_wanted = |last: Instant| newest.is_some_and(|newest| newest.duration_since(last) <= together);
        let mut keys: Vec<String> =
            declared.iter().filter(|(_, (last, _))| is_wanted(*last)).map(|(key, _)| key.clone()).collect();
        keys.sort();
        Ok(keys)
    }

    async fn store_time(&self) -> Result<Option<Millis>, StoreError> {
        Ok(None)
    }
}
