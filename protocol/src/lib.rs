//! What our own processes say to each other over HTTP. Public formats stand in the `OpenAPI` document; so do these.
//!
//! Every message can be read by a process of the previous and of the next release: a new field has a default, and a
//! field of a fixed set of values is a [`MaybeUnknown`] where a value may be added.

pub mod access;

use liverank_core::handover::coordinator::ReaderStatus;
use liverank_core::handover::{CordonLevel, HandOver, PlannerLease, ReaderShare};
use liverank_core::secret::Secret;
use liverank_core::{ReaderId, VideoId};
use serde::{Deserialize, Serialize};

mod health;
mod heartbeat;
mod registration;
pub mod roles;

pub use health::{ReaderHealth, ReaderHealthStatus};
pub use heartbeat::ReaderRecord;
pub use liverank_core::unknown::MaybeUnknown;
pub use registration::{RegisterAction, RegisterAnswer, RegisterRequest, ResolveAnswer, RouteRequest};

/// Answer of the manager's `POST /route` to a [`RouteRequest`]: where viewers of a video go. Registers a video that
/// nobody serves; never under an older epoch than the asker names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The video.
    pub videoid: VideoId,
    /// The assignment's epoch.
    pub epoch: u64,
    /// Its readers, best first; at least one. Of those that take viewers the first is drawn by the power of two choices,
    /// anew for each answer.
    pub readers: Vec<RouteReader>,
    /// Whether the manager has not seen the store for some seconds: the readers may have changed meanwhile, and another
    /// manager may know. Managers of earlier releases do not say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A reader as others reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReader {
    /// Its name.
    pub id: ReaderId,
    /// Where viewers reach it.
    pub public_url: String,
    /// Where gateways reach it.
    pub internal_url: String,
    /// The part of its capacity in use, in thousandths, viewers on their way included.
    #[serde(default)]
    pub load: u64,
    /// Whether it takes viewers of this video: alive, not full, and not sending any away.
    #[serde(default = "default_true")]
    pub takes: bool,
    /// The key with which a gateway signs passes for its viewers. A pass is good at this reader alone. Only gateways are told the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_key: Option<Secret>,
}

const fn default_true() -> bool {
    true
}

/// Answer of the manager's `POST /heartbeat`, whose body is a [`ReaderRecord`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// All that the reader is to send elsewhere now: what is not listed any more is not to be done any more. The paces
    /// of one answer may be added up.
    pub hand_over: Vec<HandOver>,
    /// Viewers that other readers have of videos that this one has viewers of; videos without any are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub viewers_elsewhere: Vec<(VideoId, u64)>,
    /// Viewers of a reader that leaves for whom other readers have room now. Managers of earlier releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_elsewhere: Option<u64>,
}

/// Body of a reader's `POST /warm`: it is to hold the video ready, for its viewers will be sent there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmRequest {
    /// The video.
    pub videoid: VideoId,
    /// What is in force for it now; 0 for nothing.
    #[serde(default)]
    pub epoch: u64,
}

/// Answer of a reader's `POST /warm`, given when the video's ring stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmAnswer {
    /// The video.
    pub videoid: VideoId,
    /// Where the ring ends: `numbering-seq`; absent where there is no comment yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

/// Answer of the manager's `GET /viewers/{videoid}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersAnswer {
    /// The video.
    pub videoid: VideoId,
    /// Viewers connected now, as last reported by live readers.
    pub viewers: u64,
}

/// Videos in one [`ViewersRequest`]: a page of a list.
pub const MAX_VIDEOS_PER_VIEWERS_REQUEST: usize = 1000;

/// Body of the manager's `POST /viewers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersRequest {
    /// The videos, at most [`MAX_VIDEOS_PER_VIEWERS_REQUEST`].
    pub videos: Vec<VideoId>,
}

/// Answer of the manager's `POST /viewers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersOfVideos {
    /// Viewers connected now, as last reported by live readers, in the order of the question.
    pub viewers: Vec<u64>,
}

/// Answer of the manager's `GET /load`: what a planner looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLoad {
    /// Every reader known.
    pub readers: Vec<ReaderState>,
    /// Videos assigned.
    pub videos: u64,
    /// All of them; absent where they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignments: Option<Vec<VideoState>>,
    /// Who plans; absent where nobody ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<TermState>,
    /// Whether this manager sees the store: otherwise all this is what it last saw.
    pub fresh: bool,
    /// Why nothing is moved where something should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The highest epoch that anybody has heard of.
    pub highest_epoch: u64,
    /// Viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
    /// Viewers that are to be handed over and still are where they were.
    pub in_flight: u64,
    /// Every closed reader, those that do not report, too.
    #[serde(default)]
    pub cordons: Vec<CordonRequest>,
    /// Viewers who asked where to go and could not be sent to a reader that takes them; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unserved: Option<UnservedRequests>,
}

/// Viewers without a reader, as a manager sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnservedRequests {
    /// Requests of the last ten seconds that no reader could be named for.
    pub requests: u64,
    /// Milliseconds since the first of them; pauses of less than ten seconds count.
    pub since_ms: u64,
    /// A video that they asked for.
    pub video: Option<VideoId>,
}

/// A reader as the manager sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderState {
    /// Its name.
    pub id: ReaderId,
    /// Where viewers reach it.
    pub public_url: String,
    /// Where gateways and managers reach it.
    pub internal_url: String,
    /// Whether it reports, by the manager's clock.
    pub state: MaybeUnknown<ReaderStatus>,
    /// How a planner closed it; absent where it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<MaybeUnknown<CordonLevel>>,
    /// Milliseconds since its last heartbeat, by the manager's clock.
    pub silent_ms: u64,
    /// Whether its report is new enough to plan by.
    pub fresh: bool,
    /// Whether it reports itself and cannot be reached at its address.
    #[serde(default)]
    pub unreachable: bool,
    /// Whether it still has viewers after the time that a drain may take; only where the planner in the managers is the one
    /// that sees to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain_overdue: bool,
    /// While it is leaving by itself: milliseconds until it ends; 0: not said.
    pub grace_ms: u64,
    /// Viewers connected.
    pub viewers: u64,
    /// Viewers it can hold.
    pub capacity: u64,
    /// Videos assigned to it.
    pub assigned: u64,
    /// The highest epoch it has heard of.
    pub highest_epoch: u64,
    /// Viewers who came in the last minute and had been somewhere before.
    pub reconnects: u64,
    /// Those of them who were sent away by a reader that leaves, or who missed a comment. Viewers whom a full reader refused are not
    /// counted.
    pub reconnect_errors: u64,
    /// Viewers of each video that has any.
    pub videos: Vec<(VideoId, u64)>,
}

/// An assignment as the manager sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoState {
    /// The video.
    pub videoid: VideoId,
    /// The epoch that an order has to name as the expected one.
    pub epoch: u64,
    /// Its readers and their shares.
    pub readers: Vec<ReaderShare>,
    /// Viewers, at its readers and at those that still hand them over.
    pub viewers: u64,
    /// Milliseconds since this manager saw the assignment change.
    pub changed_ms: u64,
    /// Whether it is being moved.
    pub moving: bool,
}

/// The planner in office, as a manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermState {
    /// The number that orders carry.
    pub term: u64,
    /// Its name; empty where it is not known any more.
    pub holder: String,
    /// The Kubernetes lease that the planner showed last. Absent where the planner has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<PlannerLease>,
}

/// Body of the manager's `POST /term`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRequest {
    /// Who wants to plan.
    pub holder: String,
    /// Begins a term only where this one is in force (0: none); without it, whatever is in force ends.
    #[serde(default)]
    pub expected: Option<u64>,
    /// Begins none, and says that the planner of this one is still there.
    #[serde(default)]
    pub renew: Option<u64>,
    /// The lease by which it may plan: refused where the term in force was begun with a later transition of the same
    /// lease.
    pub lease: PlannerLease,
}

/// Body of the manager's `POST /moves`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesRequest {
    /// The planner's term.
    pub term: u64,
    /// The lease by which it may plan.
    pub lease: PlannerLease,
    /// The moves to make.
    pub moves: Vec<MoveRequest>,
}

/// One order to change a video's readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRequest {
    /// The video.
    pub videoid: VideoId,
    /// The epoch that the planner takes to be in force.
    pub expected: u64,
    /// Who is to serve it.
    pub readers: Vec<ReaderShare>,
    /// Why, in the planner's words.
    #[serde(default)]
    pub why: String,
}

/// What became of one order, at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveAnswer {
    /// The video.
    pub videoid: VideoId,
    /// 202: it is being carried out; 409 and 503 as for requests.
    pub status: u16,
    /// Its number in `GET /moves`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What is in force, where that is not what was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Answer of the manager's `GET /moves`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesAnswer {
    /// The moves that this manager carries out or has carried out lately, latest first.
    pub moves: Vec<MoveState>,
    /// Viewers that are to be handed over and still are where they were, over all managers' moves.
    pub in_flight: u64,
    /// Viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
}

/// How a move stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovePhase {
    /// It waits for room in the budget.
    Waiting,
    /// The new readers are asked to hold the video ready.
    Warming,
    /// The new assignment is in force, and viewers go to the new readers.
    HandingOver,
    /// Nobody is left to be moved.
    Done,
    /// It was given up; before it was in force, nothing has changed.
    Failed,
}

impl std::fmt::Display for MovePhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Warming => "warming",
            Self::HandingOver => "handing_over",
            Self::Done => "done",
            Self::Failed => "failed",
        })
    }
}

/// Who ordered a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderedBy {
    /// A planner outside of the managers, by `POST /moves`.
    Order,
    /// The planner in one of the managers.
    Autopilot,
    /// A manager: the reader is to be emptied.
    Drain,
}

impl std::fmt::Display for OrderedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Order => "order",
            Self::Autopilot => "autopilot",
            Self::Drain => "drain",
        })
    }
}

/// A move and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveState {
    /// Its number at this manager.
    pub id: u64,
    /// The video.
    pub videoid: VideoId,
    /// How it stands.
    pub state: MaybeUnknown<MovePhase>,
    /// Who served it before.
    pub from: Vec<ReaderShare>,
    /// Who is to serve it.
    pub to: Vec<ReaderShare>,
    /// The epoch it was ordered on, then the one it is in force under.
    pub epoch: u64,
    /// Viewers to be moved at its start.
    pub viewers: u64,
    /// Viewers still to be moved.
    pub left: u64,
    /// Who ordered it.
    pub by: MaybeUnknown<OrderedBy>,
    /// Why it was ordered.
    pub why: String,
    /// The term it was ordered under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Milliseconds since it was ordered.
    pub age_ms: u64,
}

/// Body of the manager's `POST /cordons`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonsRequest {
    /// The planner's term.
    pub term: u64,
    /// The lease by which it may plan.
    pub lease: PlannerLease,
    /// The cordons to set or to lift.
    pub cordons: Vec<CordonRequest>,
}

/// Closes a reader, or opens it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonRequest {
    /// The reader.
    pub reader: ReaderId,
    /// How it is closed; absent or null: it is open again.
    #[serde(default)]
    pub cordon: Option<MaybeUnknown<CordonLevel>>,
    /// Why, in the planner's words.
    #[serde(default)]
    pub why: String,
}

/// Answer of the manager's `GET` and `POST /cordons`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonsAnswer {
    /// Closed readers.
    pub cordons: Vec<CordonRequest>,
}

/// What a comment service reports to `POST /comment-api-statistics`, as the comments seed's did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommentReport {
    /// Which comment service, where there are several; ours always say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Comments accepted since its start.
    pub total_comments: u64,
    /// Comments of each of the busiest videos.
    pub comments_by_video: std::collections::BTreeMap<String, u64>,
    /// Videos commented on.
    pub active_topics: Vec<String>,
    /// Readers listening to each topic, where known.
    pub topic_subscribers: std::collections::BTreeMap<String, u64>,
}

/// What a reader reports to `POST /reader-api-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReaderReport {
    /// Its name.
    pub instance_id: String,
    /// Viewers connected.
    pub active_connections: u64,
    /// Viewers it may hold; the seed's readers do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// The channels it listens to, the busiest only.
    pub subscribed_topics: Vec<String>,
    /// Comments written to viewers since its start.
    pub messages_sent: u64,
}

/// What a manager reports to `POST /reader-api-manager-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerReport {
    /// Which manager, where there are several; ours always say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// `ReaderApiManager`.
    pub service: String,
    /// Videos assigned.
    pub registered_videos: u64,
    /// Readers that take viewers.
    pub available_reader_apis: Vec<String>,
    /// Registrations answered since its start.
    pub registration_count: u64,
    /// Video to reader, a bounded part of it.
    pub video_mappings: std::collections::BTreeMap<String, String>,
}

/// Header of a gateway's request to a reader: the epoch under which the route named it. A reader that has heard of less
/// asks the managers before it sends the viewer elsewhere.
pub const ASSIGNMENT_EPOCH_HEADER: &str = "liverank-epoch";

/// Header of a gateway's request to a reader: the events that the viewer asks for, as in `?events=`. A reader of the
/// release before them passes the header over, where it would refuse the parameter.
pub const STREAM_EVENTS_HEADER: &str = "liverank-events";
