//! A manager's overview of the cluster, for the people who look after the system.

use std::cmp::Ordering;

use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::{CordonLevel, ReaderShare};
use liverank_core::{Millis, ReaderId, VideoId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::{
    CordonRequest, MaybeUnknown, MoveState, OutsideDecision, PlannerDecision, UnservedRequests, ZonedViewers,
};

/// Answer of the manager's `GET /overview`, of limited size. A gateway merges the answers of all managers into the
/// `placement` of its own answer to `GET /operate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The time of the answer, in milliseconds since 1970.
    pub at: Millis,
    /// Whether the manager reaches the store; if not, the answer is what the manager last read from it.
    pub fresh: bool,
    /// The reason for which no video is moved; null if moves are not suspended.
    pub hold: Option<String>,
    /// Number of viewers connected to all readers that are not gone, without those of the canary (the system's own video).
    pub viewers: u64,
    /// Maximum number of viewers that all readers that are not gone can hold.
    pub capacity: u64,
    /// Number of videos that are assigned to readers.
    pub videos_assigned: u64,
    /// Number of videos that have viewers, without the canary.
    pub videos_watched: u64,
    /// Number of readers that the manager knows.
    pub readers_total: u64,
    /// The readers, the fullest first; limited in number.
    pub readers: Vec<OverviewReader>,
    /// The viewers of each reader over the last minutes.
    pub history: HistoryColumns,
    /// The most watched videos, the most watched first; limited in number.
    pub videos: Vec<WatchedVideo>,
    /// The moves that this manager carries out now, or finished lately, the latest first; limited in number.
    pub moves: Vec<OverviewMove>,
    /// Number of viewers that are to be handed over and are still at their old reader.
    pub in_flight: u64,
    /// Maximum number of viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
    /// The cordons of closed readers; limited in number.
    pub cordons: Vec<CordonRequest>,
    /// Requests of viewers who could not be sent to any reader that accepts them; null if there were none.
    pub unserved: Option<UnservedRequests>,
    /// The planner in force, and the last decisions of planners.
    pub planner: PlannerState,
}

/// A reader in an [`Overview`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverviewReader {
    /// The id of the reader.
    pub id: ReaderId,
    /// The reader's status by its heartbeats.
    pub state: MaybeUnknown<ReaderStatus>,
    /// The cordon that a planner set on the reader; null if the reader is open.
    pub cordon: Option<MaybeUnknown<CordonLevel>>,
    /// Number of viewers connected to the reader, without the canary's.
    pub viewers: u64,
    /// Maximum number of viewers that the reader can hold.
    pub capacity: u64,
    /// Number of videos assigned to the reader.
    pub videos: u64,
    /// Milliseconds since the reader's last heartbeat.
    pub silent_ms: u64,
    /// Whether the reader sends heartbeats but cannot be reached at its URL.
    pub unreachable: bool,
    /// The zone of the reader; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// The viewers by the zones of their gateways; absent if no viewer's gateway named its zone.
    #[serde(default, skip_serializing_if = "ZonedViewers::is_empty")]
    pub viewers_by_zone: ZonedViewers,
}

/// A move in an [`Overview`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverviewMove {
    /// The move and its current state. In JSON, the members of this state stand beside `kind`.
    #[serde(flatten)]
    pub state: MoveState,
    /// The kind of change that the move makes.
    pub kind: MaybeUnknown<MoveKind>,
}

/// The kind of change of a video's readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveKind {
    /// The video moves to other readers; their number stays the same.
    Move,
    /// The video gets more readers than before.
    Split,
    /// The video gets fewer readers than before.
    Merge,
    /// The same readers get other shares.
    Reshare,
}

impl MoveKind {
    /// Returns the kind of a change from the readers `from` to the readers `to`.
    pub fn of_change(from: &[ReaderShare], to: &[ReaderShare]) -> Self {
        let stays = |share: &ReaderShare| from.iter().any(|before| before.reader == share.reader);
        match to.len().cmp(&from.len()) {
            Ordering::Greater => Self::Split,
            Ordering::Less => Self::Merge,
            Ordering::Equal if to.iter().all(stays) => Self::Reshare,
            Ordering::Equal => Self::Move,
        }
    }
}

impl std::fmt::Display for MoveKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Move => "move",
            Self::Split => "split",
            Self::Merge => "merge",
            Self::Reshare => "reshare",
        })
    }
}

/// A video with viewers in an [`Overview`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedVideo {
    /// The id of the video.
    pub videoid: VideoId,
    /// Number of viewers connected now.
    pub viewers: u64,
    /// The readers assigned to the video, without those that still hand viewers over; limited in number.
    pub readers: Vec<ReaderId>,
    /// Whether some of its viewers are still to be handed over.
    pub moving: bool,
}

/// The viewers of each reader over the last minutes, in columns of equal length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryColumns {
    /// The time of each sample, in milliseconds since 1970.
    pub times: Vec<Millis>,
    /// The readers that are shown by name, in the order of their names.
    pub readers: Vec<ReaderColumn>,
    /// The viewers of all readers that are not shown by name, one sum a sample.
    pub others: Vec<u64>,
}

/// One reader's number of viewers over the last minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderColumn {
    /// The id of the reader.
    pub id: ReaderId,
    /// Number of viewers, one value a sample.
    pub viewers: Vec<u64>,
}

/// The planner in force as a manager knows it, and the last decisions of planners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannerState {
    /// Whether the planner in this manager has the term in force.
    pub leading: bool,
    /// The name of the planner that has the term in force; null if it is not known.
    pub holder: Option<String>,
    /// The number of the term in force; null if there never was a planner.
    pub term: Option<u64>,
    /// The last decisions of the planner in this manager, the latest first; limited in number.
    pub decisions: Vec<PlannerDecision>,
    /// The last decisions of a planner outside of the managers, as the planner told them, the latest first. Managers of
    /// earlier releases leave this field out.
    #[serde(default)]
    pub outside: Vec<OutsideDecision>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_move_follows_from_the_readers_before_and_after() {
        let shares = |names: &[&str]| -> Vec<ReaderShare> {
            let share =
                |name: &&str| ReaderShare { reader: ReaderId::parse(name).expect("an id"), weight: 1 };
            names.iter().map(share).collect()
        };
        let kinds: [(&[&str], &[&str], _); 4] = [
            (&["a"], &["b"], MoveKind::Move),
            (&["a"], &["a", "b"], MoveKind::Split),
            (&["a", "b"], &["c"], MoveKind::Merge),
            (&["a", "b"], &["b", "a"], MoveKind::Reshare),
        ];
        for (from, to, kind) in kinds {
            assert_eq!(MoveKind::of_change(&shares(from), &shares(to)), kind, "{from:?} to {to:?}");
        }
    }
}
