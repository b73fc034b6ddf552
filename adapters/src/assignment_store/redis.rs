//! Assignments and heartbeats on Redis.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `assignments` | hash | video → `{"format","epoch","readers"}` |
//! | `assignments:state` | hash | `format`, `epoch` (the last one minted), `version` |
//! | `readers` | hash | reader → its beat, a space, its record as JSON |
//! | `assignments:changes` | channel | changes, as JSON |

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use liverank_core::placement::Assignment;
use liverank_core::{ReaderId, VideoId};
use redis::{Script, ScriptInvocation, cmd};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{AssignmentStore, CHANGE_QUEUE, Change, MAX_EPOCH, ReaderRecord, State, Swapped};
use crate::StoreError;
use crate::outlet::Outlet;
use crate::redis_link::{PART, RedisLink};

/// The format of what is stored and published.
const FORMAT: u32 = 1;

const STATE: &str = include_str!("redis/state.lua");
static ASSIGN: LazyLock<Script> = LazyLock::new(|| script(&[STATE, include_str!("redis/assign.lua")]));
static REMOVE: LazyLock<Script> = LazyLock::new(|| script(&[STATE, include_str!("redis/remove.lua")]));
static LOAD: LazyLock<Script> = LazyLock::new(|| script(&[STATE, include_str!("redis/load.lua")]));
static FORGET: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("redis/forget.lua")]));

fn script(parts: &[&str]) -> Script {
    Script::new(&parts.concat())
}

/// Assignments and heartbeats on Redis.
pub struct RedisAssignments {
    link: Arc<RedisLink>,
}

impl RedisAssignments {
    /// Assignments and heartbeats on the Redis of `link`.
    pub fn new(link: Arc<RedisLink>) -> Self {
        Self { link }
    }

    fn key(&self, name: &str) -> String {
        self.link.keys().shared("assignments", name)
    }

    fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.key(self.key("assignments"));
        call.key(self.key("assignments:state"));
        call
    }

    async fn swapped(&self, video: &VideoId, call: &ScriptInvocation<'_>) -> Result<Swapped, StoreError> {
        let (outcome, stands): (String, String) = self.link.script(call).await?;
        let stands = if stands.is_empty() { None } else { Some(assignment(video, &stands)?) };
        match (outcome.as_str(), stands) {
            ("stored", Some(stored)) => Ok(Swapped::Stored(stored)),
            ("conflict", stands) => Ok(Swapped::Conflict(stands)),
            _ => Err(StoreError::unusable(PART, format!("unexpected answer of a script: {outcome}"))),
        }
    }
}

/// An assignment as it is stored under its video.
#[derive(Deserialize)]
struct Stored {
    format: u32,
    epoch: u64,
    readers: Vec<ReaderId>,
}

impl Stored {
    fn of(self, video_id: VideoId) -> Option<Assignment> {
        (self.format == FORMAT).then_some(Assignment { video_id, readers: self.readers, epoch: self.epoch })
    }
}

fn assignment(video: &VideoId, json: &str) -> Result<Assignment, StoreError> {
    let stored: Option<Stored> = serde_json::from_str(json).ok();
    stored.and_then(|stored| stored.of(video.clone())).ok_or_else(|| {
        StoreError::unusable(PART, format!("the assignment of {video:?} is of another format: {json:.200}"))
    })
}

/// A published change.
#[derive(Deserialize)]
struct Told {
    format: u32,
    version: u64,
    video: VideoId,
    assignment: Option<Stored>,
}

fn decode(payload: &[u8]) -> Option<Change> {
    let told: Told = serde_json::from_slice(payload).ok()?;
    if told.format != FORMAT {
        return None;
    }
    let version = told.version;
    Some(match told.assignment {
        Some(stored) => Change::Assigned { version, assignment: stored.of(told.video)? },
        None => Change::Removed { version, video_id: told.video },
    })
}

/// A reader's record as it is stored.
#[derive(Serialize, Deserialize)]
struct Heartbeat<R> {
    format: u32,
    #[serde(flatten)]
    record: R,
}

#[async_trait]
impl AssignmentStore for RedisAssignments {
    async fn load(&self) -> Result<State, StoreError> {
        let answer: Vec<String> = self.link.script(&self.call(&LOAD)).await?;
        let foreign = |what: &str| StoreError::unusable(PART, format!("assignments: {what}"));
        let (version, all) = answer.split_first().ok_or_else(|| foreign("no version"))?;
        let version = version.parse().map_err(|_| foreign("the version is no number"))?;
        let assignments = all
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[video, json]| {
                let video = VideoId::parse(video).map_err(|error| foreign(&error.to_string()))?;
                assignment(&video, json)
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(State { version, assignments })
    }

    async fn assign(
        &self,
        video: &VideoId,
        expected: Option<u64>,
        readers: &[ReaderId],
        seen: u64,
    ) -> Result<Swapped, StoreError> {
        if seen >= MAX_EPOCH {
            return Err(super::epoch_too_high(PART, seen));
        }
        let readers = serde_json::to_string(readers).expect("texts always serialise");
        let mut call = self.call(&ASSIGN);
        call.arg(self.key("assignments:changes")).arg(video.as_str());
        call.arg(expected.map_or_else(String::new, |epoch| epoch.to_string())).arg(seen).arg(readers);
        self.swapped(video, &call).await
    }

    async fn remove(&self, video: &VideoId, expected: u64) -> Result<Swapped, StoreError> {
        let mut call = self.call(&REMOVE);
        call.arg(self.key("assignments:changes")).arg(video.as_str()).arg(expected);
        self.swapped(video, &call).await
    }

    async fn heartbeat(&self, reader: &ReaderRecord) -> Result<(), StoreError> {
        let json = serde_json::to_string(&Heartbeat { format: FORMAT, record: reader })
            .expect("texts and whole numbers always serialise");
        let record = format!("{} {json}", reader.beat);
        self.link.query(cmd("HSET").arg(self.key("readers")).arg(reader.id.as_str()).arg(record)).await
    }

    /// Records of another format are left out: their reader is for the managers of its own release.
    async fn readers(&self) -> Result<Vec<ReaderRecord>, StoreError> {
        let all: HashMap<String, String> = self.link.query(cmd("HGETALL").arg(self.key("readers"))).await?;
        let record = |text: &String| {
            let (_, json) = text.split_once(' ')?;
            let heartbeat: Heartbeat<ReaderRecord> = serde_json::from_str(json).ok()?;
            (heartbeat.format == FORMAT).then_some(heartbeat.record)
        };
        Ok(all.values().filter_map(record).collect())
    }

    async fn forget_reader(&self, reader: &ReaderId, beat: u64) -> Result<(), StoreError> {
        let mut call = FORGET.key(self.key("readers"));
        call.arg(reader.as_str()).arg(beat);
        self.link.script(&call).await
    }

    async fn changes(&self) -> Result<mpsc::Receiver<Change>, StoreError> {
        let (outlet, receiver) = Outlet::open(CHANGE_QUEUE, Change::Reset);
        self.link.listen_to(self.key("assignments:changes"), outlet, decode);
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_anything_else_is_not() {
        let assigned =
            br#"{"format":1,"version":3,"video":"v","assignment":{"format":1,"epoch":9,"readers":["r"]}}"#;
        let video_id = VideoId::parse("v").unwrap();
        let readers = vec![ReaderId::parse("r").unwrap()];
        let assignment = Assignment { video_id: video_id.clone(), readers, epoch: 9 };
        assert_eq!(decode(assigned), Some(Change::Assigned { version: 3, assignment }));
        let removed = br#"{"format":1,"version":4,"video":"v"}"#;
        assert_eq!(decode(removed), Some(Change::Removed { version: 4, video_id }));
        for other in [&b"{}"[..], b"", br#"{"format":2,"version":4,"video":"v"}"#] {
            assert_eq!(decode(other), None);
        }
    }
}
