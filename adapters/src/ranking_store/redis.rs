//! The boards on Redis: two sorted sets, a hash of owners, and a hash with the generation and offsets.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `global_ranking` | sorted set | video → score in points, as in MongoDB |
//! | `trending` | sorted set | video → log2 of the decayed score |
//! | `ranking:owners` | hash | video → owner |
//! | `ranking:revisions` | hash | video → revision of its state; also of videos that were taken off the boards |
//! | `ranking:projection` | hash | `format`, `generation`, `version`, `offset:<partition>`, `shadow` (the one it was), `revisions` (their generation) |
//! | `ranking:next`, `ranking:next:…` | as above | the shadow: the next generation while it is gathered; expires |
//! | `ranking:steps:<random>` | string | the boards that a write too large for one script goes to, and its done steps; expires |
//! | `ranking:half-life` | hash | generation → half-life of its decayed scores, in ms; of the one in force and later ones |
//! | `ranking:metadata` | hash | video → generation, revision and metadata of it; the empty field exists if those of all videos do |
//! | `ranking:changes` | channel | changes, as JSON |
//! | `board:<key>:…` | as above | a declared board |
//! | `ranking:declared` | hash | key of a declared board → when it was last wanted, in seconds; absent if none was ever declared |
//!
//! A write larger than [`STEP`] entries takes several scripts, so that none blocks Redis for long. Its offsets are
//! written by the last one, and only if all earlier steps are in this very store. Entries are absolute, so a write
//! that ends half-way has done a part of what its repetition does.
//!
//! The shadow expires, and a Redis that is full may evict keys that expire one by one. So each step compares what the
//! shadow holds with what it held after the step before, and begins anew if something is missing.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use liverank_core::ranking::{RankedVideo, Score};
use liverank_core::{Metadata, VideoId};
use redis::{Script, ScriptInvocation, cmd};
use tokio::sync::{Mutex, mpsc};

use super::{
    BatchProjection, BoardChange, BoardEntry, BoardPage, BoardPlace, BoardsSnapshot, BuiltInBoard,
    CHANGE_QUEUE_LENGTH, Described, PageStart, PlacesOfVideo, ProjectionCheckpoint, ProjectionOutcome,
    RankingStore,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;
use crate::redis_link::{PART, RedisLink};

mod change_message;
mod metadata;

use change_message::{damaged, decode, number, owner_of, video_id, whole};

/// The number of entries that a script writes or reads at most: about 10 ms of Redis's one thread, for which other
/// commands wait meanwhile.
const STEP: usize = 1000;
/// The time in seconds for which the shadow of a repair is kept after its last step. Steps follow each other within
/// moments, unless the archive cannot be reached meanwhile; an unfinished repair must not fill Redis.
const REPAIR_SECONDS: u32 = 600;
/// The number of times that a snapshot is begun again because the boards were emptied during it.
const SNAPSHOT_ATTEMPTS: usize = 3;
/// The keys of the boards that are served, in the order in which the scripts expect them.
const LIVE: [&str; 5] =
    ["ranking:projection", "global_ranking", "trending", "ranking:owners", "ranking:revisions"];
/// The keys of the shadow (the next generation while it is gathered), in the same order.
const SHADOW: [&str; 5] = [
    "ranking:next",
    "ranking:next:global",
    "ranking:next:trending",
    "ranking:next:owners",
    "ranking:next:revisions",
];
/// The format version of what is stored and published.
const FORMAT: u32 = 1;

const ENTRIES: &str = include_str!("redis/entries.lua");
const REPAIR: &str = include_str!("redis/repair.lua");
static PROJECT: LazyLock<Script> = LazyLock::new(|| script(&[ENTRIES, include_str!("redis/project.lua")]));
static RESTORE: LazyLock<Script> =
    LazyLock::new(|| script(&[ENTRIES, REPAIR, include_str!("redis/restore.lua")]));
static RESTORED: LazyLock<Script> =
    LazyLock::new(|| script(&[ENTRIES, REPAIR, include_str!("redis/restored.lua")]));
const PLACE: &str = include_str!("redis/place.lua");
static PAGE: LazyLock<Script> = LazyLock::new(|| script(&[PLACE, include_str!("redis/page.lua")]));
static PLACES: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("redis/places.lua")]));
static KEEP: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("redis/keep.lua")]));
static READ: LazyLock<Script> = LazyLock::new(|| script(&[PLACE, include_str!("redis/read.lua")]));

fn script(parts: &[&str]) -> Script {
    Script::new(&parts.concat())
}

/// The boards on Redis, or one declared board.
pub struct RedisRanking {
    link: Arc<RedisLink>,
    /// The prefix of the keys: empty, or the name of a declared board.
    begin: String,
    /// The repair that this process does: one at a time.
    repair: Mutex<Repair>,
}

/// A repair under way. Redis counts the steps, too, so that the loss of some of them is noticed.
struct Repair {
    token: u64,
    generation: u64,
    steps: u64,
}

impl Repair {
    fn new(generation: u64) -> Self {
        Self { token: rand::random(), generation, steps: 0 }
    }
}

/// The answer of a script that writes to the boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Applied,
    Behind,
    Superseded,
    /// Steps that were done before are missing.
    Lost,
}

impl Outcome {
    fn read(answer: &str) -> Result<Self, StoreError> {
        match answer {
            "applied" => Ok(Self::Applied),
            "behind" => Ok(Self::Behind),
            "superseded" => Ok(Self::Superseded),
            "lost" => Ok(Self::Lost),
            other => Err(StoreError::unusable(PART, format!("unexpected answer of a script: {other}"))),
        }
    }

    fn projected(self) -> Result<ProjectionOutcome, StoreError> {
        match self {
            Self::Applied => Ok(ProjectionOutcome::Applied),
            Self::Behind => Ok(ProjectionOutcome::Behind),
            Self::Superseded => Ok(ProjectionOutcome::Superseded),
            Self::Lost => {
                Err(StoreError::unavailable(PART, "it lost a part of what was being written: begin again"))
            }
        }
    }
}

impl RedisRanking {
    /// Returns the boards on the Redis of `link`.
    pub fn new(link: Arc<RedisLink>) -> Self {
        Self { link, begin: String::new(), repair: Mutex::new(Repair::new(0)) }
    }

    fn of_declared(&self, key: &str) -> Self {
        let (link, begin) = (Arc::clone(&self.link), format!("board:{key}:"));
        Self { link, begin, repair: Mutex::new(Repair::new(0)) }
    }

    /// Removes all keys of these boards.
    async fn remove(&self) -> Result<(), StoreError> {
        let mut unlink = cmd("UNLINK");
        for name in LIVE.into_iter().chain(SHADOW).chain(["ranking:half-life", metadata::KEY]) {
            unlink.arg(self.key(name));
        }
        self.link.query::<u64>(&unlink).await?;
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        self.link.keys().shared("boards", &format!("{}{name}", self.begin))
    }

    fn channel(&self) -> String {
        self.key("ranking:changes")
    }

    /// Returns the call of a script for a step of a repair.
    fn repairing<'a>(&self, script: &'a Script, repair: &Repair) -> ScriptInvocation<'a> {
        let mut call = self.call(script, repair.token);
        for name in SHADOW {
            call.key(self.key(name));
        }
        call.arg(self.channel())
            .arg(repair.generation)
            .arg(repair.steps)
            .arg(format!("{:016x}", repair.token));
        call
    }

    /// Returns a call of `script` with the keys of the boards, and the key in which its steps are counted.
    fn call<'a>(&self, script: &'a Script, token: u64) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for name in LIVE {
            call.key(self.key(name));
        }
        call.key(self.key(&format!("ranking:steps:{token:016x}")));
        call
    }

    async fn outcome(&self, call: &ScriptInvocation<'_>) -> Result<Outcome, StoreError> {
        Outcome::read(&self.link.script::<String>(call).await?)
    }

    /// Reads up to [`STEP`] entries of the boards, the best ones or those after `last`: generation, version and
    /// entries.
    async fn stretch(&self, last: Option<&BoardEntry>) -> Result<(String, u64, Vec<BoardEntry>), StoreError> {
        let mut call = self.call(&READ, 0);
        call.arg(STEP);
        if let Some(last) = last {
            call.arg(last.video_id.as_str()).arg(last.score);
        }
        let answer: Vec<String> = self.link.script(&call).await?;
        let [generation, version, entries @ ..] = answer.as_slice() else {
            return Err(StoreError::unusable(PART, "a script answered less than it should"));
        };
        let entries = entries
            .as_chunks::<5>()
            .0
            .iter()
            .map(|[video, owner, score, trending, revision]| {
                let trending = if trending.is_empty() { None } else { Some(number(trending)?) };
                Ok(BoardEntry {
                    video_id: video_id(video)?,
                    owner: owner_of(video, owner)?,
                    score: number(score)?,
                    trending,
                    revision: if revision.is_empty() { 0 } else { whole(revision)? },
                    removed: false,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok((generation.clone(), whole(version)?, entries))
    }

    /// Reads up to `step` videos, at most [`STEP`], of a page of `limit` videos.
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
        let mut call = PAGE.key(self.key(name));
        call.key(self.key("ranking:owners")).arg(step);
        match start {
            PageStart::Best => call.arg("best"),
            PageStart::After(cursor) => {
                let score = Score::new(cursor.score).get();
                call.arg("after").arg(cursor.video_id.as_str()).arg(score)
            }
            PageStart::Around(video) => call.arg("around").arg(video.as_str()).arg(limit),
        };
        let answer: Vec<String> = self.link.script(&call).await?;
        let [skipped, total, lines @ ..] = answer.as_slice() else { return Ok(None) };
        let line = |[video, score, owner]: &[String; 3]| {
            let (user_id, score) = (owner_of(video, owner)?, number(score)?);
            Ok(RankedVideo { video_id: video_id(video)?, score, user_id })
        };
        let lines = lines.as_chunks::<3>().0.iter().map(line).collect::<Result<_, StoreError>>()?;
        Ok(Some(BoardPage { lines, first_rank: whole(skipped)? + 1, total: whole(total)? }))
    }

    /// Reads all entries; `None` if the boards were emptied meanwhile.
    async fn try_snapshot(&self) -> Result<Option<BoardsSnapshot>, StoreError> {
        let (generation, version, mut stretch) = self.stretch(None).await?;
        let mut entries: HashMap<VideoId, BoardEntry> = HashMap::new();
        loop {
            let full = stretch.len() == STEP;
            let last = stretch.last().filter(|_| full).cloned();
            // A video that falls during the read is read again later: the later read counts.
            entries.extend(stretch.into_iter().map(|entry| (entry.video_id.clone(), entry)));
            let Some(last) = last else {
                return Ok(Some(BoardsSnapshot { version, entries: entries.into_values().collect() }));
            };
            let next = self.stretch(Some(&last)).await?;
            if next.0 != generation || next.1 < version {
                return Ok(None);
            }
            stretch = next.2;
        }
    }
}

/// Returns the traces as JSON texts without brackets: digits and dashes need no escaping.
fn traces(projection: &BatchProjection) -> String {
    let texts: Vec<String> = projection.traces.iter().map(|trace| format!("\"{trace}\"")).collect();
    texts.join(",")
}

fn write_entries(call: &mut ScriptInvocation<'_>, entries: &[BoardEntry]) {
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
    async fn project_batch(&self, projection: &BatchProjection) -> Result<ProjectionOutcome, StoreError> {
        let steps = projection.entries.len().div_ceil(STEP).max(1);
        let token = rand::random();
        for step in 1..=steps {
            let mut call = self.call(&PROJECT, token);
            call.arg(self.channel()).arg(projection.generation).arg(step).arg(steps);
            call.arg(traces(projection)).arg(projection.offset_ranges.len());
            for span in &projection.offset_ranges {
                call.arg(span.partition).arg(span.first).arg(span.next);
            }
            let from = (step - 1) * STEP;
            let to = projection.entries.len().min(step * STEP);
            write_entries(&mut call, &projection.entries[from..to]);
            match self.outcome(&call).await? {
                Outcome::Applied => {}
                stopped => return stopped.projected(),
            }
        }
        Ok(ProjectionOutcome::Applied)
    }

    async fn checkpoint(&self) -> Result<ProjectionCheckpoint, StoreError> {
        let fields: HashMap<String, String> =
            self.link.query(cmd("HGETALL").arg(self.key("ranking:projection"))).await?;
        if let Some(format) = fields.get("format").filter(|format| **format != FORMAT.to_string()) {
            let reason = format!("the boards are of format {format}, this release knows {FORMAT}");
            return Err(StoreError::unusable(PART, reason));
        }
        let generation = fields.get("generation").map(|text| whole(text)).transpose()?;
        let mut offsets = Vec::new();
        for (field, value) in &fields {
            if let Some(partition) = field.strip_prefix("offset:") {
                let partition = partition.parse().map_err(|_| damaged(format!("the field {field:?}")))?;
                offsets.push((partition, whole(value)?));
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
            *repair = Repair::new(generation);
        }
        let mut rest = entries;
        // A repair without entries begins the generation all the same.
        loop {
            let (now, later) = rest.split_at(rest.len().min(STEP));
            let mut call = self.repairing(&RESTORE, &repair);
            call.arg(REPAIR_SECONDS);
            write_entries(&mut call, now);
            match self.outcome(&call).await? {
                Outcome::Applied => repair.steps += 1,
                stopped => {
                    *repair = Repair::new(generation);
                    return stopped.projected();
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
            *repair = Repair::new(generation);
        }
        let mut call = self.repairing(&RESTORED, &repair);
        for (partition, offset) in offsets {
            call.arg(*partition).arg(*offset);
        }
        let outcome = self.outcome(&call).await?;
        *repair = Repair::new(generation);
        outcome.projected()
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
        noted.map(|text| whole(&text)).transpose()
    }

    async fn board_page(
        &self,
        board: BuiltInBoard,
        start: &PageStart,
        limit: usize,
    ) -> Result<Option<BoardPage>, StoreError> {
        let Some(mut page) = self.page_step(board, start, limit, limit.min(STEP)).await? else {
            return Ok(None);
        };
        let mut step = page.lines.len();
        while step == STEP && page.lines.len() < limit {
            let Some(last) = page.lines.last() else { break };
            let wanted = (limit - page.lines.len()).min(STEP);
            let next = self.page_step(board, &PageStart::after(last), limit, wanted).await?;
            let lines = next.unwrap_or_default().lines;
            step = lines.len();
            page.lines.extend(lines);
        }
        Ok(Some(page))
    }

    async fn places_of_video(&self, video: &VideoId) -> Result<PlacesOfVideo, StoreError> {
        let mut call = PLACES.key(self.key("global_ranking"));
        call.key(self.key("trending")).arg(video.as_str());
        let answer: Vec<i64> = self.link.script(&call).await?;
        let [global, global_total, trending, trending_total] = answer[..] else {
            return Err(StoreError::unusable(PART, "a script answered less than it should"));
        };
        let place = |above: i64, total: i64| BoardPlace {
            rank: u64::try_from(above).ok().map(|above| above + 1),
            total: total.max(0) as u64,
        };
        Ok(PlacesOfVideo { global: place(global, global_total), trending: place(trending, trending_total) })
    }

    /// Reads all entries in parts, so as not to block Redis, from the best to the last, each part from the end of the
    /// one before, by score and id: an entry that does not change meanwhile is read once, whatever moves above or
    /// below it. Subscribers receive entries that change after the returned version. So an entry may be newer than the
    /// version, never older.
    async fn boards_snapshot(&self) -> Result<BoardsSnapshot, StoreError> {
        for _ in 0..SNAPSHOT_ATTEMPTS {
            if let Some(snapshot) = self.try_snapshot().await? {
                return Ok(snapshot);
            }
        }
        Err(StoreError::unavailable(PART, "the boards are being emptied again and again"))
    }

    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<BoardChange>, StoreError> {
        let (outlet, receiver) = LossyChannel::open(CHANGE_QUEUE_LENGTH, BoardChange::Reset);
        self.link.listen_to(self.channel(), outlet, decode);
        Ok(receiver)
    }

    async fn describe(&self, generation: u64, videos: &[Described]) -> Result<(), StoreError> {
        self.put_metadata(generation, videos).await
    }

    async fn metadata(&self, videos: &[VideoId]) -> Result<Vec<Option<Metadata>>, StoreError> {
        self.read_metadata(videos).await
    }

    async fn note_described(&self) -> Result<(), StoreError> {
        self.note_all_described().await
    }

    async fn is_described(&self) -> Result<bool, StoreError> {
        self.are_all_described().await
    }

    fn declared_board(&self, key: &str) -> Arc<dyn RankingStore> {
        Arc::new(self.of_declared(key))
    }

    async fn keep_declared_boards(
        &self,
        wanted: &[String],
        unwanted_after: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let list = self.key("ranking:declared");
        let mut call = KEEP.key(list.clone());
        call.arg(unwanted_after.as_secs());
        for key in wanted {
            call.arg(key);
        }
        let unwanted: Vec<String> = self.link.script(&call).await?;
        for key in &unwanted {
            // The list entry is removed last: a removal that is interrupted is done again.
            self.of_declared(key).remove().await?;
            self.link.query::<u64>(cmd("HDEL").arg(&list).arg(key)).await?;
        }
        Ok(unwanted)
    }
}
