//! Assignments, heartbeats and orders on Redis.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `assignments` | hash | video → `{"format","epoch","readers"}` |
//! | `assignments:state` | hash | `format`, `epoch` (the last one minted), `version`; `term`, `holder`, `beat`, `lease` (JSON) of the planner |
//! | | | and `epoch:server` and `term:server`: the server process (`run_id`) on which each was minted last |
//! | `assignments:cordons` | hash | reader → `{"format","reader","closing","why"}` |
//! | `viewers:peaks` | sorted set | video → the most viewers that it had at the same time |
//! | `readers` | hash | reader → its beat, a space, its record as JSON |
//! | `assignments:changes` | channel | changes, as JSON |
//!
//! Epochs and terms are minted in Lua by the rule of [`liverank_core::epoch::mint_epoch`]; a test compares their
//! constants.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use liverank_core::epoch::{is_plausible_epoch, latest_possible_epoch};
use liverank_core::handover::{AssignedReaders, PlannerLease, ReaderShare};
use liverank_core::{ReaderId, VideoId};
use redis::{FromRedisValue, Script, ScriptInvocation, cmd};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    AssignmentChange, AssignmentSnapshot, AssignmentStore, CHANGE_QUEUE_LENGTH, MAX_VIEWER_PEAKS,
    PlannerOrders, PlannerTerm, ReaderCordon, ReaderRecord, SwapOutcome, TermGrant, VideoAssignment,
    check_epoch_is_possible, now_micros,
};
use crate::StoreError;
use crate::lossy_channel::LossyChannel;
use crate::redis_link::{PART_NAME, RedisLink};

/// The format version of what is stored and published.
const STORED_FORMAT: u32 = 1;
/// The number of assignments that the server is asked for at once: 200 KB, which take it a fraction of a millisecond.
const ASSIGNMENTS_PER_READ: u32 = 1_000;
/// The number of peaks that are removed at once: they take the server about a millisecond.
const MAX_PEAKS_REMOVED_AT_ONCE: usize = 2_000;

const STATE_LUA: &str = include_str!("redis/state.lua");
static ASSIGN_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[STATE_LUA, include_str!("redis/assign.lua")]));
static REMOVE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[STATE_LUA, include_str!("redis/remove.lua")]));
static VERSION_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[STATE_LUA, include_str!("redis/version.lua")]));
static ORDERS_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[STATE_LUA, include_str!("redis/orders.lua")]));
static TERM_SCRIPT: LazyLock<Script> = LazyLock::new(|| script(&[STATE_LUA, include_str!("redis/term.lua")]));
static CORDON_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| script(&[STATE_LUA, include_str!("redis/cordon.lua")]));
static FORGET_READER_SCRIPT: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("redis/forget.lua")]));

fn script(parts: &[&str]) -> Script {
    Script::new(&parts.concat())
}

/// Assignments, heartbeats, terms and cordons on Redis.
pub struct RedisAssignments {
    link: Arc<RedisLink>,
    /// The maximum number of peaks of viewers.
    max_peaks: usize,
}

impl RedisAssignments {
    /// Returns the store on the Redis of `link`.
    pub fn new(link: Arc<RedisLink>) -> Self {
        Self { link, max_peaks: MAX_VIEWER_PEAKS }
    }

    /// Returns the same store with this maximum number of peaks of viewers, in place of [`MAX_VIEWER_PEAKS`].
    #[must_use]
    pub fn with_max_peaks(self, max_peaks: usize) -> Self {
        Self { max_peaks, ..self }
    }

    fn key_named(&self, name: &str) -> String {
        self.link.keys().shared_key("assignments", name)
    }

    fn new_script_call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.key(self.key_named("assignments"));
        call.key(self.key_named("assignments:state"));
        call
    }

    /// Runs a script on assignments. Adds the last argument: the greatest epoch that can have been minted by our
    /// clock.
    async fn run_script<T: FromRedisValue + Send>(
        &self,
        mut call: ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        call.arg(latest_possible_epoch(now_micros()));
        self.link.run_script(&call).await
    }

    /// Returns the store's version, and the greatest epoch that can have been minted by the later one of our clock and
    /// the server's.
    async fn version_and_latest_epoch(&self) -> Result<(u64, u64), StoreError> {
        let (version, latest): (String, String) =
            self.run_script(self.new_script_call(&VERSION_SCRIPT)).await?;
        Ok((parse_number(&version)?, parse_number(&latest)?))
    }

    async fn run_swap_script(
        &self,
        video: &VideoId,
        call: ScriptInvocation<'_>,
    ) -> Result<SwapOutcome, StoreError> {
        let (outcome, stands): (String, String) = self.run_script(call).await?;
        if outcome == "fenced" {
            return Ok(SwapOutcome::Fenced(parse_number(&stands)?));
        }
        let stands = if stands.is_empty() { None } else { Some(parse_assignment(video, &stands)?) };
        match (outcome.as_str(), stands) {
            ("stored", Some(stored)) => Ok(SwapOutcome::Stored(stored)),
            ("conflict", stands) => Ok(SwapOutcome::Conflict(stands)),
            _ => Err(unexpected_answer(&outcome)),
        }
    }

    fn new_orders_call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = self.new_script_call(script);
        call.key(self.key_named("assignments:cordons"));
        call
    }

    async fn run_term_script(&self, call: ScriptInvocation<'_>) -> Result<TermGrant, StoreError> {
        let (outcome, told): (String, PlannerFields) = self.run_script(call).await?;
        let term = parse_term(told)?;
        match (outcome.as_str(), term) {
            ("held", Some(term)) => Ok(TermGrant::Held(term)),
            ("lost", term) => Ok(TermGrant::Lost(term)),
            _ => Err(unexpected_answer(&outcome)),
        }
    }
}

fn unexpected_answer(answer: &str) -> StoreError {
    StoreError::unusable(PART_NAME, format!("unexpected answer of a script: {answer:.200}"))
}

fn parse_number(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_| unexpected_answer(text))
}

/// The planner's term, holder, beat and lease in a script's answer. An absent term is an empty text, as is an absent
/// lease.
type PlannerFields = (String, String, String, String);

fn parse_term((term, holder, beat, lease): PlannerFields) -> Result<Option<PlannerTerm>, StoreError> {
    if term.is_empty() {
        return Ok(None);
    }
    let lease = match lease.as_str() {
        "" => None,
        json => Some(serde_json::from_str(json).map_err(|_| unexpected_answer(json))?),
    };
    Ok(Some(PlannerTerm { term: parse_number(&term)?, holder, lease, beat: parse_number(&beat)? }))
}

/// Returns a lease as it is stored: JSON, or an empty text for none.
fn lease_json(lease: Option<&PlannerLease>) -> String {
    lease.map_or_else(String::new, |lease| {
        serde_json::to_string(lease).expect("texts and whole numbers always serialise")
    })
}

/// The value under a video in the hash `assignments`.
#[derive(Deserialize)]
struct StoredAssignment {
    format: u32,
    epoch: u64,
    readers: Vec<ReaderShare>,
}

impl StoredAssignment {
    fn into_assignment(self, video_id: VideoId) -> Option<VideoAssignment> {
        let assigned = AssignedReaders { epoch: self.epoch, readers: self.readers };
        (self.format == STORED_FORMAT).then_some(VideoAssignment { video_id, assigned_readers: assigned })
    }
}

/// Returns true if the epoch of a stored assignment can have been minted by now, or if the assignment cannot be read,
/// which the caller reports. An assignment with an impossible epoch, which another release stored, is ignored.
fn is_minted(json: &str, latest_epoch: u64) -> bool {
    #[derive(Deserialize)]
    struct StoredEpoch {
        epoch: f64,
    }
    serde_json::from_str::<StoredEpoch>(json).map_or(true, |stored| stored.epoch <= latest_epoch as f64)
}

fn parse_assignment(video: &VideoId, json: &str) -> Result<VideoAssignment, StoreError> {
    let stored: Option<StoredAssignment> = serde_json::from_str(json).ok();
    stored.and_then(|stored| stored.into_assignment(video.clone())).ok_or_else(|| {
        StoreError::unusable(
            PART_NAME,
            format!("the assignment of {video:?} is of another format: {json:.200}"),
        )
    })
}

/// A message on the channel of assignment changes.
#[derive(Deserialize)]
struct ChangeMessage {
    format: u32,
    version: u64,
    video: VideoId,
    assignment: Option<StoredAssignment>,
}

fn decode_change(payload: &[u8]) -> Option<AssignmentChange> {
    let told: ChangeMessage = serde_json::from_slice(payload).ok()?;
    if told.format != STORED_FORMAT {
        return None;
    }
    let version = told.version;
    Some(match told.assignment {
        // A change with an impossible epoch is dropped; the gap in the versions makes subscribers load everything
        // again.
        Some(stored) if !is_plausible_epoch(stored.epoch, now_micros()) => return None,
        Some(stored) => {
            AssignmentChange::Assigned { version, assignment: stored.into_assignment(told.video)? }
        }
        None => AssignmentChange::Removed { version, video_id: told.video },
    })
}

/// Replaces each epoch in a reader's record by 0 if it is greater than any epoch that can have been minted by now.
fn without_impossible_epochs(mut record: ReaderRecord, now: u64) -> ReaderRecord {
    let epochs = record.videos.iter_mut().map(|held| &mut held.epoch).chain([&mut record.highest_epoch]);
    epochs.filter(|epoch| !is_plausible_epoch(**epoch, now)).for_each(|epoch| *epoch = 0);
    record
}

/// A reader's record or cordon as it is stored, with its format version.
#[derive(Serialize, Deserialize)]
struct WithFormat<R> {
    format: u32,
    #[serde(flatten)]
    record: R,
}

impl<R: for<'a> Deserialize<'a>> WithFormat<R> {
    /// Parses a stored value; `None` if it is of another format, which is for the managers of another release.
    fn parse_record(json: &str) -> Option<R> {
        let stored: Self = serde_json::from_str(json).ok()?;
        (stored.format == STORED_FORMAT).then_some(stored.record)
    }
}

fn format_record<R: Serialize>(record: &R) -> String {
    serde_json::to_string(&WithFormat { format: STORED_FORMAT, record })
        .expect("texts and whole numbers always serialise")
}

#[async_trait]
impl AssignmentStore for RedisAssignments {
    async fn assignments_version(&self) -> Result<u64, StoreError> {
        Ok(self.version_and_latest_epoch().await?.0)
    }

    /// Reads the hash in pieces, so that the server answers others in between, however many assignments there are. If the
    /// connection is lost in between, another server may go on with a cursor that is not its own, and leave assignments
    /// out: then nothing is returned. Of a cluster, this is about the server of the assignments alone.
    async fn load_assignments(&self) -> Result<AssignmentSnapshot, StoreError> {
        let foreign = |what: &str| StoreError::unusable(PART_NAME, format!("assignments: {what}"));
        let (version, latest_epoch) = self.version_and_latest_epoch().await?;
        // A field may come twice while the hash grows; of the two, the later assignment counts.
        let mut assignments: HashMap<VideoId, VideoAssignment> = HashMap::new();
        let mut cursor = String::from("0");
        let mut used = None;
        loop {
            let mut scan = cmd("HSCAN");
            scan.arg(self.key_named("assignments")).arg(&cursor).arg("COUNT").arg(ASSIGNMENTS_PER_READ);
            let (answer, connection) = self.link.query_on_connection(&scan).await?;
            let (next, piece): (String, Vec<String>) = answer;
            if connection.is_none() || *used.get_or_insert(connection) != connection {
                let lost = "the connection was lost while the assignments were read";
                return Err(StoreError::unavailable(PART_NAME, lost));
            }
            for [video, json] in
                piece.as_chunks::<2>().0.iter().filter(|[_, json]| is_minted(json, latest_epoch))
            {
                let video = VideoId::parse(video).map_err(|error| foreign(&error.to_string()))?;
                let assignment = parse_assignment(&video, json)?;
                if assignments.get(&video).is_none_or(|known| known.epoch() <= assignment.epoch()) {
                    assignments.insert(video, assignment);
                }
            }
            if next == "0" {
                return Ok(AssignmentSnapshot { version, assignments: assignments.into_values().collect() });
            }
            cursor = next;
        }
    }

    async fn assign_video(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderShare],
        seen: u64,
        term: Option<u64>,
    ) -> Result<SwapOutcome, StoreError> {
        check_epoch_is_possible(PART_NAME, seen)?;
        check_epoch_is_possible(PART_NAME, term.unwrap_or(0))?;
        let readers = serde_json::to_string(readers).expect("texts always serialise");
        let mut call = self.new_script_call(&ASSIGN_SCRIPT);
        call.arg(self.key_named("assignments:changes")).arg(video.as_str());
        call.arg(expected.map_or_else(String::new, |epoch| epoch.to_string())).arg(seen).arg(readers);
        call.arg(term.map_or_else(String::new, |term| term.to_string()));
        self.run_swap_script(video, call).await
    }

    async fn remove_assignment(&self, video: &VideoId, expected: u64) -> Result<SwapOutcome, StoreError> {
        let mut call = self.new_script_call(&REMOVE_SCRIPT);
        call.arg(self.key_named("assignments:changes")).arg(video.as_str()).arg(expected);
        self.run_swap_script(video, call).await
    }

    async fn note_heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError> {
        let record = format!("{} {}", reader.beat, format_record(reader));
        self.link.query(cmd("HSET").arg(self.key_named("readers")).arg(reader.id.as_str()).arg(record)).await
    }

    /// Reads the readers' records. Records of another format are left out, and impossible epochs (which another
    /// release accepted) are set to 0.
    async fn reader_records(&self) -> Result<Vec<ReaderRecord>, StoreError> {
        let all: HashMap<String, String> =
            self.link.query(cmd("HGETALL").arg(self.key_named("readers"))).await?;
        let now = now_micros();
        let record = |text: &String| {
            let (_, json) = text.split_once(' ')?;
            WithFormat::<ReaderRecord>::parse_record(json)
                .map(|record| without_impossible_epochs(record, now))
        };
        Ok(all.values().filter_map(record).collect())
    }

    async fn raise_viewer_peaks(&self, peaks: &[(VideoId, u64)]) -> Result<(), StoreError> {
        if peaks.is_empty() {
            return Ok(());
        }
        let mut command = cmd("ZADD");
        command.arg(self.key_named("viewers:peaks")).arg("GT");
        for (video, viewers) in peaks {
            command.arg(*viewers).arg(video.as_str());
        }
        self.link.query::<u64>(&command).await?;
        let count: usize = self.link.query(cmd("ZCARD").arg(self.key_named("viewers:peaks"))).await?;
        // Redis serves nobody else meanwhile, so a store of a release without a bound is cut bit by bit.
        let surplus = count.saturating_sub(self.max_peaks).min(MAX_PEAKS_REMOVED_AT_ONCE);
        if surplus == 0 {
            return Ok(());
        }
        let mut lowest = cmd("ZREMRANGEBYRANK");
        lowest.arg(self.key_named("viewers:peaks")).arg(0).arg(surplus - 1);
        self.link.query::<u64>(&lowest).await.map(drop)
    }

    async fn viewer_peaks(&self, videos: &[VideoId]) -> Result<Vec<Option<u64>>, StoreError> {
        if videos.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = cmd("ZMSCORE");
        command.arg(self.key_named("viewers:peaks"));
        for video in videos {
            command.arg(video.as_str());
        }
        // Scores are doubles, which have every number of viewers exactly.
        let scores: Vec<Option<f64>> = self.link.query(&command).await?;
        Ok(scores.into_iter().map(|score| score.map(|score| score as u64)).collect())
    }

    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError> {
        let mut call = FORGET_READER_SCRIPT.key(self.key_named("readers"));
        call.arg(reader.as_str()).arg(beat);
        self.link.run_script(&call).await
    }

    /// Reads the planner's term and the cordons. Cordons of another format are left out.
    async fn planner_orders(&self) -> Result<PlannerOrders, StoreError> {
        let (planner, cordons): (PlannerFields, Vec<String>) =
            self.run_script(self.new_orders_call(&ORDERS_SCRIPT)).await?;
        let mut cordons: Vec<ReaderCordon> =
            cordons.iter().filter_map(|json| WithFormat::<ReaderCordon>::parse_record(json)).collect();
        cordons.sort_by(|a, b| a.reader.cmp(&b.reader));
        Ok(PlannerOrders { planner_term: parse_term(planner)?, cordons })
    }

    async fn mint_term(
        &self,
        holder: &str,
        lease: Option<&PlannerLease>,
        expected: u64,
        seen: u64,
    ) -> Result<TermGrant, StoreError> {
        check_epoch_is_possible(PART_NAME, seen)?;
        let mut call = self.new_script_call(&TERM_SCRIPT);
        call.arg("mint").arg(expected).arg(holder).arg(seen).arg(lease_json(lease));
        self.run_term_script(call).await
    }

    async fn renew_term(&self, term: &PlannerTerm) -> Result<TermGrant, StoreError> {
        check_epoch_is_possible(PART_NAME, term.term)?;
        let mut call = self.new_script_call(&TERM_SCRIPT);
        call.arg("renew")
            .arg(term.term)
            .arg(&term.holder)
            .arg(term.beat)
            .arg(lease_json(term.lease.as_ref()));
        self.run_term_script(call).await
    }

    async fn set_cordon(
        &self,
        term: u64,
        reader: &ReaderId,
        cordon: Option<&ReaderCordon>,
    ) -> Result<Option<u64>, StoreError> {
        check_epoch_is_possible(PART_NAME, term)?;
        let mut call = self.new_orders_call(&CORDON_SCRIPT);
        call.arg(term).arg(reader.as_str()).arg(cordon.map_or_else(String::new, format_record));
        let in_force: String = self.run_script(call).await?;
        if in_force.is_empty() { Ok(None) } else { parse_number(&in_force).map(Some) }
    }

    async fn subscribe_changes(&self) -> Result<mpsc::Receiver<AssignmentChange>, StoreError> {
        let (outlet, receiver) = LossyChannel::bounded(CHANGE_QUEUE_LENGTH, AssignmentChange::Reset);
        self.link.listen_to_channel(self.key_named("assignments:changes"), outlet, decode_change);
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_change_messages_are_decoded() {
        let assigned =
            br#"{"format":1,"version":3,"video":"v","assignment":{"format":1,"epoch":9,"readers":[{"reader":"r","weight":2}]}}"#;
        let video_id = VideoId::parse("v").unwrap();
        let readers = vec![ReaderShare { reader: ReaderId::parse("r").unwrap(), weight: 2 }];
        let assignment = VideoAssignment {
            video_id: video_id.clone(),
            assigned_readers: AssignedReaders { epoch: 9, readers },
        };
        assert_eq!(decode_change(assigned), Some(AssignmentChange::Assigned { version: 3, assignment }));
        let removed = br#"{"format":1,"version":4,"video":"v"}"#;
        assert_eq!(decode_change(removed), Some(AssignmentChange::Removed { version: 4, video_id }));
        for other in [&b"{}"[..], b"", br#"{"format":2,"version":4,"video":"v"}"#] {
            assert_eq!(decode_change(other), None);
        }
    }

    fn parse_json(text: &str) -> serde_json::Value {
        crate::fixtures::parse_json(text.as_bytes())
    }

    #[test]
    fn heartbeats_and_cordons_have_fixtures() {
        let read = |json: &serde_json::Value| {
            WithFormat::<ReaderRecord>::parse_record(&json.to_string()).ok_or("is not read")
        };
        crate::fixtures::check_json_fixture(
            "redis-reader",
            &crate::fixtures::reader_record(),
            |record| parse_json(&format_record(record)),
            read,
        );
        let cordon = ReaderCordon {
            reader: ReaderId::parse("reader-1").unwrap(),
            closing: super::super::CordonLevel::Draining,
            why: "upgrade".to_owned(),
        };
        let read = |json: &serde_json::Value| {
            WithFormat::<ReaderCordon>::parse_record(&json.to_string()).ok_or("is not read")
        };
        crate::fixtures::check_json_fixture(
            "redis-cordon",
            &cordon,
            |cordon| parse_json(&format_record(cordon)),
            read,
        );
        let lease = PlannerLease { uid: "5e2c".to_owned(), transitions: 4 };
        let read = |json: &serde_json::Value| serde_json::from_str::<PlannerLease>(&json.to_string());
        crate::fixtures::check_json_fixture(
            "redis-lease",
            &lease,
            |lease| parse_json(&lease_json(Some(lease))),
            read,
        );
    }

    /// The fixtures are what `assign.lua` and `tell` of `state.lua` write.
    #[test]
    fn assignments_and_their_changes_have_fixtures() {
        let readers = vec![ReaderShare { reader: ReaderId::parse("reader-1").unwrap(), weight: 2 }];
        let video_id = VideoId::parse("cats").unwrap();
        let today = VideoAssignment {
            video_id: video_id.clone(),
            assigned_readers: AssignedReaders { epoch: 7, readers },
        };
        let stored = |it: &VideoAssignment| {
            let AssignedReaders { epoch, readers } = &it.assigned_readers;
            serde_json::json!({ "format": 1, "epoch": epoch, "readers": readers })
        };
        let read = |json: &serde_json::Value| parse_assignment(&video_id, &json.to_string());
        crate::fixtures::check_json_fixture("redis-assignment", &today, stored, read);
        let write = |change: &AssignmentChange| {
            let AssignmentChange::Assigned { version, assignment } = change else { panic!("{change:?}") };
            serde_json::json!({ "format": 1, "version": version, "video": "cats", "assignment": stored(assignment) })
        };
        let read = |json: &serde_json::Value| decode_change(json.to_string().as_bytes()).ok_or("is not read");
        let change = AssignmentChange::Assigned { version: 3, assignment: today.clone() };
        crate::fixtures::check_json_fixture("redis-assignment-change", &change, write, read);
    }

    #[test]
    fn a_cordon_of_a_kind_that_this_release_does_not_know_is_left_out() {
        let later = r#"{"format":1,"reader":"r","closing":"half_closed","why":""}"#;
        assert_eq!(WithFormat::<ReaderCordon>::parse_record(later), None);
    }

    #[test]
    fn the_lua_script_mints_epochs_with_the_constants_of_core() {
        use liverank_core::epoch::{MAX_CLOCK_SKEW_MICROS, MAX_EPOCH, new_server_jump_micros};
        assert!(STATE_LUA.contains(&format!("+ 1) * {}", new_server_jump_micros(0))), "the jump");
        assert!(
            STATE_LUA.contains(&format!("math.min(micros(), {})", MAX_EPOCH.div_ceil(2))),
            "the clock's greatest"
        );
        assert!(STATE_LUA.contains(&format!("latest - {MAX_CLOCK_SKEW_MICROS})")), "the farthest jump");
    }
}
