//! The boards on Redis: two sorted sets, a hash of owners, and a hash with the generation and offsets.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `global_ranking` | sorted set | video → score in points, as in MongoDB |
//! | `trending` | sorted set | video → log2 of the decayed score |
//! | `ranking:owners` | hash | video → owner |
//! | `ranking:revisions` | hash | video → revision of its state; also of videos that were taken off the boards |
//! | `ranking:projection` | hash | `format`, `generation`, `version`, `offset:<partition>`, `shadow` (the one it was), `revisions` (their generation), `line` (of idle videos) |
//! | `ranking:next`, `ranking:next:…` | as above | the shadow: the next generation while it is gathered; expires |
//! | `ranking:steps:<random>` | string | the boards that a write too large for one script goes to, and its done steps; expires |
//! | `ranking:half-life` | hash | generation → half-life of its decayed scores, in ms; of the one in force and later ones |
//! | `ranking:metadata` | hash | video → generation, revision and metadata of it; the empty field exists if those of all videos do |
//! | `ranking:changes` | channel | changes, as JSON |
//! | `board:<key>:…` | as above | a declared board |
//! | `ranking:declared` | hash | key of a declared board → when it was last wanted, in seconds; absent if none was ever declared |
//!
//! A write larger than [`MAX_ENTRIES_PER_STEP`] entries takes several scripts, so that none blocks Redis for long. Its
//! offsets are written by the last one, and only if all earlier steps are in this very store. Entries are absolute, so
//! a write that ends half-way has done a part of what its repetition does.
//!
//! The shadow expires, and a Redis that is full may evict keys that expire one by one. So each step compares what the
//! shadow holds with what it held after the step before, and begins anew if something is missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use liverank_core::ranking::{RankedVideo, Score};
use liverank_core::{Metadata, Millis, VideoId};
use redis::{Script, ScriptInvocation, cmd};
use tokio::sync::{Mutex, mpsc};

use super::{
    BatchProjection, BoardChange, BoardEntry, BoardPage, BoardPlace, BoardsSnapshot, BuiltInBoard,
    BuiltInBoardPlaces, CHANGE_QUEUE_LENGTH, DescribedVideo, PageStart, ProjectionCheckpoint,
    ProjectionOutcome, RankingStore,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;
use crate::redis_link::{PART_NAME, RedisLink};

mod change_message;
mod idle;
mod metadata;

use change_message::{
    damaged_message, decode_change, parse_number, parse_owner, parse_score, parse_video_id,
};

/// The number of entries that a script writes or reads at most: about 10 ms of Redis's one thread, for which other
/// commands wait meanwhile.
const MAX_ENTRIES_PER_STEP: usize = 1000;
/// The time in seconds for which the shadow of a repair is kept after its last step. Steps follow each other within
/// moments, unless the archive cannot be reached meanwhile; an unfinished repair must not fill Redis.
const REPAIR_SECONDS: u32 = 600;
/// The number of times that a snapshot is begun again because the boards were emptied during it.
const SNAPSHOT_ATTEMPTS: usize = 3;
/// The keys of the boards that are served, in the order in which the scripts expect them.
const LIVE_KEYS: [&str; 5] =
    ["ranking:projection", "global_ranking", "trending", "ranking:owners", "ranking:revisions"];
/// The keys of the shadow (the next generation while it is gathered), in the same order.
const SHADOW_KEYS: [&str; 5] = [
    "ranking:next",
    "ranking:next:global",
    "ranking:next:trending",
    "ranking:next:owners",
    "ranking:next:revisions",
];
/// The format version of what is stored and published.
const FORMAT: u32 = 1;

const ENTRIES_LUA: &str = include_str!("redis/entries.lua");
const REPAIR_LUA: &str = include_str!("redis/repair.lua");
static PROJECT_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[ENTRIES_LUA, include_str!("redis/project.lua")]));
static RESTORE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[ENTRIES_LUA, REPAIR_LUA, include_str!("redis/restore.lua")]));
static COMMIT_RESTORE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[ENTRIES_LUA, REPAIR_LUA, include_str!("redis/restored.lua")]));
const PLACE_LUA: &str = include_str!("redis/place.lua");
static PAGE_SCRIPT: LazyLock<Script> = LazyLock::new(|| script(&[PLACE_LUA, include_str!("redis/page.lua")]));
static PLACES_SCRIPT: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("redis/places.lua")]));
static RETAIN_BOARDS_SCRIPT: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("redis/keep.lua")]));
/// The script that returns the server's time. The script is called with a key, which decides which node of a cluster is
/// asked.
static TIME_SCRIPT: LazyLock<Script> = LazyLock::new(|| script(&["return redis.call('TIME')"]));
static READ_ENTRIES_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[PLACE_LUA, include_str!("redis/read.lua")]));

fn script(parts: &[&str]) -> Script {
    Script::new(&parts.concat())
}

/// The boards on Redis, or one declared board.
pub struct RedisRanking {
    link: Arc<RedisLink>,
    /// The prefix of the keys: empty, or the name of a declared board.
    key_prefix: String,
    /// The repair that this process does: one at a time.
    repair: Mutex<RunningRepair>,
}

/// A repair under way. Redis counts the steps, too, so that the loss of some of them is noticed.
struct RunningRepair {
    token: u64,
    generation: u64,
    steps_done: u64,
}

impl RunningRepair {
    fn new(generation: u64) -> Self {
        Self { token: rand::random(), generation, steps_done: 0 }
    }
}

/// The answer of a script that writes to the boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScriptOutcome {
    Applied,
    Behind,
    Superseded,
    /// Earlier steps of the repair are missing from Redis.
    Lost,
}

impl ScriptOutcome {
    fn parse(answer: &str) -> Result<Self, StoreError> {
        match answer {
            "applied" => Ok(Self::Applied),
            "behind" => Ok(Self::Behind),
            "superseded" => Ok(Self::Superseded),
            "lost" => Ok(Self::Lost),
            other => Err(StoreError::unusable(PART_NAME, format!("unexpected answer of a script: {other}"))),
        }
    }

    fn projection_outcome(self) -> Result<ProjectionOutcome, StoreError> {
        match self {
            Self::Applied => Ok(ProjectionOutcome::Applied),
            Self::Behind => Ok(ProjectionOutcome::Behind),
            Self::Superseded => Ok(ProjectionOutcome::Superseded),
            Self::Lost => Err(StoreError::unavailable(
                PART_NAME,
                "it lost a part of what was being written: begin again",
            )),
        }
    }
}

impl RedisRanking {
    /// Returns the boards on the Redis of `link`.
    pub fn new(link: Arc<RedisLink>) -> Self {
        Self { link, key_prefix: String::new(), repair: Mutex::new(RunningRepair::new(0)) }
    }

    fn of_declared(&self, key: &str) -> Self {
        let (link, key_prefix) = (Arc::clone(&self.link), format!("board:{key}:"));
        Self { link, key_prefix, repair: Mutex::new(RunningRepair::new(0)) }
    }

    /// Removes all keys of these boards.
    async fn remove_all_keys(&self) -> Result<(), StoreError> {
        let mut unlink = cmd("UNLINK");
        for name in
            LIVE_KEYS.into_iter().chain(SHADOW_KEYS).chain(["ranking:half-life", metadata::METADATA_KEY])
        {
            unlink.arg(self.key(name));
        }
        self.link.query::<u64>(&unlink).await?;
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        self.link.keys().shared_key("boards", &format!("{}{name}", self.key_prefix))
    }

    fn channel(&self) -> String {
        self.key("ranking:changes")
    }

    /// Returns the call of a script for a step of a repair.
    fn repair_call<'a>(&self, script: &'a Script, repair: &RunningRepair) -> ScriptInvocation<'a> {
        let mut call = self.call(script, repair.token);
        for name in SHADOW_KEYS {
            call.key(self.key(name));
        }
        call.arg(self.channel())
            .arg(repair.generation)
            .arg(repair.steps_done)
            .arg(format!("{:016x}", repair.token));
        call
    }

    /// Returns a call of `script` with the keys of the boards, and the key in which its steps are counted.
    fn call<'a>(&self, script: &'a Script, token: u64) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for name in LIVE_KEYS {
            call.key(self.key(name));
        }
        call.key(self.key(&format!("ranking:steps:{token:016x}")));
        call
    }

    async fn run_script(&self, call: &ScriptInvocation<'_>) -> Result<ScriptOutcome, StoreError> {
        ScriptOutcome::parse(&self.link.run_script::<String>(call).await?)
    }

    /// Reads up to [`MAX_ENTRIES_PER_STEP`] entries of the boards, the best ones or those after `last`: generation,
    /// version and entries.
    async fn read_entries_after(
        &self,
        last: Option<&BoardEntry>,
    ) -> Result<(String, u64, Vec<BoardEntry>), StoreError> {
        let mut call = self.call(&READ_ENTRIES_SCRIPT, 0);
        call.arg(MAX_ENTRIES_PER_STEP);
        if let Some(last) = last {
            call.arg(last.video_id.as_str()).arg(last.score);
        }
        let answer: Vec<String> = self.link.run_script(&call).await?;
        let [generation, version, entries @ ..] = answer.as_slice() else {
            return Err(StoreError::unusable(PART_NAME, "a script answered less than it should"));
        };
        let entries = entries
            .as_chunks::<5>()
            .0
            .iter()
            .map(|[video, owner, score, trending, revision]| {
                let trending = if trending.is_empty() { None } else { Some(parse_score(trending)?) };
                Ok(BoardEntry {
                    video_id: parse_video_id(video)?,
                    owner: parse_owner(video, owner)?,
                    score: parse_score(score)?,
                    trending,
                    revision: if revision.is_empty() { 0 } else { parse_number(revision)? },
                    removed: false,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok((generation.clone(), parse_number(version)?, entries))
    }

    /// Reads up to `step` videos, at most [`MAX_ENTRIES_PER_STEP`], of a page of `limit` videos.
    async fn page_step(
        &self,
        board: BuiltInBoard,
        start: &PageStart,
        limit: usize,
        step: usize,
    ) -> Result<Option<BoardPage>, StoreError> {
        let name = match board {
            BuiltInBoard::Global => "global_ranking",
            BuiltInBoard::Trending => "trending",
        };
        let mut call = PAGE_SCRIPT.key(self.key(name));
        call.key(self.key("ranking:owners")).arg(step);
        match start {
            PageStart::Best => call.arg("best"),
            PageStart::After(cursor) => {
                let score = Score::new(cursor.score).get();
                call.arg("after").arg(cursor.video_id.as_str()).arg(score)
            }
            PageStart::Around(video) => call.arg("around").arg(video.as_str()).arg(limit),
        };
        let answer: Vec<String> = self.link.run_script(&call).await?;
        let [skipped, total, lines @ ..] = answer.as_slice() else { return Ok(None) };
        let line = |[video, score, owner]: &[String; 3]| {
            let (user_id, score) = (parse_owner(video, owner)?, parse_score(score)?);
            Ok(RankedVideo { video_id: parse_video_id(video)?, score, user_id })
        };
        let videos = lines.as_chunks::<3>().0.iter().map(line).collect::<Result<_, StoreError>>()?;
        Ok(Some(BoardPage { videos, first_rank: parse_number(skipped)? + 1, total: parse_number(total)? }))
    }

    /// Reads all entries; `None` if the boards were emptied meanwhile.
    async fn try_snapshot(&self) -> Result<Option<BoardsSnapshot>, StoreError> {
        let (generation, version, mut stretch) = self.read_entries_after(None).await?;
        let mut entries: HashMap<VideoId, BoardEntry> = HashMap::new();
        loop {
            let full = stretch.len() == MAX_ENTRIES_PER_STEP;
            let last = stretch.last().filter(|_| full).cloned();
            // A video that falls during the read is read again later: the later read counts.
            entries.extend(stretch.into_iter().map(|entry| (entry.video_id.clone(), entry)));
            let Some(last) = last else {
                return Ok(Some(BoardsSnapshot { version, entries: entries.into_values().collect() }));
            };
            let next = self.read_entries_after(Some(&last)).await?;
            if next.0 != generation || next.1 < version {
                return Ok(None);
            }
            stretch = next.2;
        }
    }
}

/// Returns the traces as JSON texts without brackets: digits and dashes need no escaping.
fn encode_traces(projection: &BatchProjection) -> String {
    let texts: Vec<String> = projection.traces.iter().map(|trace| format!("\"{trace}\"")).collect();
    texts.join(",")
}

fn append_entry_args(call: &mut ScriptInvocation<'_>, entries: &[BoardEntry]) {
    for entry in entries {
        call.arg(entry.video_id.as_str()).arg(entry.owner.as_str());
        if entry.removed {
            call.arg("").arg("");
        } else {
            call.arg(entry.score);
            match entry.trending.filter(|trending| trending.is_finite()) {
                Some(trending) => call.arg(trending),
                None => call.arg(""),
            };
        }
        call.arg(entry.revision);
    }
}

#[async_trait]
impl RankingStore for RedisRanking {
    fn store_name(&self) -> &'static str {
        PART_NAME
    }

    async fn project_batch(&self, projection: &BatchProjection) -> Result<ProjectionOutcome, StoreError> {
        let steps = projection.entries.len().div_ceil(MAX_ENTRIES_PER_STEP).max(1);
        let token = rand::random();
        for step in 1..=steps {
            let mut call = self.call(&PROJECT_SCRIPT, token);
            call.arg(self.channel()).arg(projection.generation).arg(step).arg(steps);
            let logged_at = projection.logged_at().map(|at| at.to_string()).unwrap_or_default();
            call.arg(encode_traces(projection)).arg(logged_at).arg(projection.offset_ranges.len());
            for span in &projection.offset_ranges {
                call.arg(span.partition).arg(span.first).arg(span.next);
            }
            let from = (step - 1) * MAX_ENTRIES_PER_STEP;
            let to = projection.entries.len().min(step * MAX_ENTRIES_PER_STEP);
            append_entry_args(&mut call, &projection.entries[from..to]);
            match self.run_script(&call).await? {
                ScriptOutcome::Applied => {}
                stopped => return stopped.projection_outcome(),
            }
        }
        Ok(ProjectionOutcome::Applied)
    }

    async fn checkpoint(&self) -> Result<ProjectionCheckpoint, StoreError> {
        let fields: HashMap<String, String> =
            self.link.query(cmd("HGETALL").arg(self.key("ranking:projection"))).await?;
        if let Some(format) = fields.get("format").filter(|format| **format != FORMAT.to_string()) {
            let reason = format!("the boards are of format {format}, this release knows {FORMAT}");
            return Err(StoreError::unusable(PART_NAME, reason));
        }
        let generation = fields.get("generation").map(|text| parse_number(text)).transpose()?;
        let mut offsets = Vec::new();
        for (field, value) in &fields {
            if let Some(partition) = field.strip_prefix("offset:") {
                let partition =
                    partition.parse().map_err(|_| damaged_message(format!("the field {field:?}")))?;
                offsets.push((partition, parse_number(value)?));
            }
        }
        offsets.sort_unstable();
        Ok(ProjectionCheckpoint { generation, offsets })
    }

    async fn write_snapshot(
        &self,
        generation: u64,
        entries: &[BoardEntry],
    ) -> Result<ProjectionOutcome, StoreError> {
        let mut repair = self.repair.lock().await;
        if repair.generation != generation {
            *repair = RunningRepair::new(generation);
        }
        let mut rest = entries;
        // A repair without entries begins the generation all the same.
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_ENTRIES_PER_STEP));
            let mut call = self.repair_call(&RESTORE_SCRIPT, &repair);
            call.arg(REPAIR_SECONDS);
            append_entry_args(&mut call, now);
            match self.run_script(&call).await? {
                ScriptOutcome::Applied => repair.steps_done += 1,
                stopped => {
                    *repair = RunningRepair::new(generation);
                    return stopped.projection_outcome();
                }
            }
            rest = later;
            if rest.is_empty() {
                return Ok(ProjectionOutcome::Applied);
            }
        }
    }

    async fn commit_snapshot(
        &self,
        generation: u64,
        offsets: &[(u32, u64)],
    ) -> Result<ProjectionOutcome, StoreError> {
        let mut repair = self.repair.lock().await;
        if repair.generation != generation {
            *repair = RunningRepair::new(generation);
        }
        let mut call = self.repair_call(&COMMIT_RESTORE_SCRIPT, &repair);
        for (partition, offset) in offsets {
            call.arg(*partition).arg(*offset);
        }
        let outcome = self.run_script(&call).await?;
        *repair = RunningRepair::new(generation);
        outcome.projection_outcome()
    }

    async fn retire_idle(&self, generation: u64, line: f64) -> Result<u64, StoreError> {
        self.retire_videos_below(generation, line).await
    }

    async fn idle_threshold(&self) -> Result<Option<f64>, StoreError> {
        self.read_idle_threshold().await
    }

    async fn note_half_life(&self, generation: u64, millis: u64) -> Result<(), StoreError> {
        let key = self.key("ranking:half-life");
        let in_force = self.checkpoint().await?.generation.unwrap_or(0);
        if generation < in_force {
            return Ok(());
        }
        let noted: Vec<String> = self.link.query(cmd("HKEYS").arg(&key)).await?;
        let old = noted.iter().filter(|noted| noted.parse().is_ok_and(|noted: u64| noted < in_force));
        for old in old {
            self.link.query::<u64>(cmd("HDEL").arg(&key).arg(old)).await?;
        }
        self.link.query::<u64>(cmd("HSET").arg(&key).arg(generation).arg(millis)).await?;
        Ok(())
    }

    async fn noted_half_life(&self) -> Result<Option<u64>, StoreError> {
        let Some(generation) = self.checkpoint().await?.generation else { return Ok(None) };
        let noted: Option<String> =
            self.link.query(cmd("HGET").arg(self.key("ranking:half-life")).arg(generation)).await?;
        noted.map(|text| parse_number(&text)).transpose()
    }

    async fn board_page(
        &self,
        board: BuiltInBoard,
        start: &PageStart,
        limit: usize,
    ) -> Result<Option<BoardPage>, StoreError> {
        let Some(mut page) = self.page_step(board, start, limit, limit.min(MAX_ENTRIES_PER_STEP)).await?
        else {
            return Ok(None);
        };
        let mut step = page.videos.len();
        while step == MAX_ENTRIES_PER_STEP && page.videos.len() < limit {
            let Some(last) = page.videos.last() else { break };
            let wanted = (limit - page.videos.len()).min(MAX_ENTRIES_PER_STEP);
            let next = self.page_step(board, &PageStart::after(last), limit, wanted).await?;
            let lines = next.unwrap_or_default().videos;
            step = lines.len();
            page.videos.extend(lines);
        }
        Ok(Some(page))
    }

    async fn ranks_of_video(&self, video: &VideoId) -> Result<BuiltInBoardPlaces, StoreError> {
        let mut call = PLACES_SCRIPT.key(self.key("global_ranking"));
        call.key(self.key("trending")).arg(video.as_str());
        let answer: Vec<i64> = self.link.run_script(&call).await?;
        let [global, global_total, trending, trending_total] = answer[..] else {
            return Err(StoreError::unusable(PART_NAME, "a script answered less than it should"));
        };
        let place = |above: i64, total: i64| BoardPlace {
            rank: u64::try_from(above).ok().map(|above| above + 1),
            total: total.max(0) as u64,
        };
        Ok(BuiltInBoardPlaces {
            global: place(global, global_total),
            trending: place(trending, trending_total),
        })
    }

    /// Reads all entries in parts, so as not to block Redis, from the best to the last, each part from the end of the
    /// one before, by score and id: an entry that does not change meanwhile is read once, whatever moves above or below
    /// it. Subscribers receive entries that change after the returned version. An entry may therefore be newer than the
    /// version, never older.
    async fn boards_snapshot(&self) -> Result<BoardsSnapshot, StoreError> {
        for _ in 0..SNAPSHOT_ATTEMPTS {
            if let Some(snapshot) = self.try_snapshot().await? {
                return Ok(snapshot);
            }
        }
        Err(StoreError::unavailable(PART_NAME, "the boards are being emptied again and again"))
    }

    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<BoardChange>, StoreError> {
        let (outlet, receiver) = LossyChannel::bounded(CHANGE_QUEUE_LENGTH, BoardChange::Reset);
        self.link.listen_to_channel(self.channel(), outlet, decode_change);
        Ok(receiver)
    }

    async fn put_metadata(&self, generation: u64, videos: &[DescribedVideo]) -> Result<(), StoreError> {
        self.put_metadata(generation, videos).await
    }

    async fn metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        self.read_metadata(videos).await
    }

    async fn note_metadata_complete(&self) -> Result<(), StoreError> {
        self.note_all_metadata_written().await
    }

    async fn is_metadata_complete(&self) -> Result<bool, StoreError> {
        self.are_all_described().await
    }

    fn declared_board(&self, key: &str) -> Arc<dyn RankingStore> {
        Arc::new(self.of_declared(key))
    }

    async fn retain_declared_boards(
        &self,
        wanted: &[String],
        unwanted_after: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let list = self.key("ranking:declared");
        let mut call = RETAIN_BOARDS_SCRIPT.key(list.clone());
        call.arg(unwanted_after.as_secs());
        for key in wanted {
            call.arg(key);
        }
        let unwanted: Vec<String> = self.link.run_script(&call).await?;
        for key in &unwanted {
            // The list entry is removed last: a removal that is interrupted is done again.
            self.of_declared(key).remove_all_keys().await?;
            self.link.query::<u64>(cmd("HDEL").arg(&list).arg(key)).await?;
        }
        Ok(unwanted)
    }

    async fn wanted_boards(&self, together: Duration) -> Result<Vec<String>, StoreError> {
        let list = self.key("ranking:declared");
        let marks: BTreeMap<String, u64> = self.link.query(cmd("HGETALL").arg(&list)).await?;
        let newest = marks.values().max().copied().unwrap_or(0);
        let is_wanted = |since: u64| newest - since <= together.as_secs();
        Ok(marks.into_iter().filter(|(_, since)| is_wanted(*since)).map(|(key, _)| key).collect())
    }

    async fn store_time(&self) -> Result<Option<Millis>, StoreError> {
        let (seconds, micros): (Millis, Millis) =
            self.link.run_script(&TIME_SCRIPT.key(self.key("ranking:declared"))).await?;
        Ok(Some(1000 * seconds + micros / 1000))
    }
}
