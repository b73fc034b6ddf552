//! The messages that our own processes send to each other over HTTP. The messages are described in an `OpenAPI`
//! document, like the public formats.
//!
//! Every message can be read by a process of the previous and of the next release: a new field has a default, and a
//! field with a fixed set of values is a [`MaybeUnknown`] if a value may be added later.

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

/// Answer of the manager's `POST /route {"videoid", "epoch"?}`: the readers to which viewers of a video connect. The
/// request registers a video that has no reader yet. The answer is never older than the epoch that the request names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The video whose viewers are routed.
    pub videoid: VideoId,
    /// The epoch of the video's assignment.
    pub epoch: u64,
    /// The readers of the video, best first; at least one. The first reader is drawn anew for each answer, by the
    /// power of two choices, among those that accept viewers.
    pub readers: Vec<RouteReader>,
    /// Whether the manager has not reached the store for some seconds. If true, the readers may have changed
    /// meanwhile, and another manager may know better. Managers of earlier releases leave this field out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A reader of a video, with the URLs at which viewers and gateways reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReader {
    /// The id of the reader.
    pub id: ReaderId,
    /// The URL at which viewers reach the reader.
    pub public_url: String,
    /// The URL at which gateways reach the reader.
    pub internal_url: String,
    /// The part of the reader's capacity in use, in thousandths. Viewers that are on their way to the reader are
    /// included.
    #[serde(default)]
    pub load: u64,
    /// Whether the reader accepts viewers of this video: it is alive, is not full, and does not hand over viewers of
    /// the video.
    #[serde(default = "default_true")]
    pub takes: bool,
    /// How many viewers of this video are to come to it: what it lacks of its share, as far as it has places.
    #[serde(default)]
    pub wanted: u64,
    /// The key with which a gateway signs passes for its viewers. A pass is good at this reader alone. Only gateways are told the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_key: Option<Secret>,
}

const fn default_true() -> bool {
    true
}

/// Answer of the manager's `POST /heartbeat`, whose body is an `adapters::assignment_store::ReaderRecord`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// All hand-overs that the reader has to do now. A hand-over that is not listed any more has to stop. The paces
    /// (viewers a second) of all hand-overs in one answer may be added up.
    pub hand_over: Vec<HandOver>,
    /// Number of viewers that other readers have, for each video that this reader has viewers of. Videos without
    /// viewers at other readers are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub viewers_elsewhere: Vec<(VideoId, u64)>,
    /// Number of viewers for whom other readers have room now; only for a reader that is leaving. Managers of earlier
    /// releases leave this field out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_elsewhere: Option<u64>,
}

/// Body of a reader's `POST /warm`: the reader has to load the video's recent comments, because viewers of the video
/// will be sent to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmRequest {
    /// The video to hold ready.
    pub videoid: VideoId,
    /// The epoch of the video's assignment in force; 0 if it has none.
    #[serde(default)]
    pub epoch: u64,
}

/// Answer of a reader's `POST /warm`, sent when the video's ring of recent comments is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmAnswer {
    /// The video that is ready.
    pub videoid: VideoId,
    /// The last comment in the ring, as `epoch-seq` (comment epoch and sequence number); absent if the video has no
    /// comments yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

/// Answer of the manager's `GET /viewers/{videoid}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersAnswer {
    /// The video whose viewers were counted.
    pub videoid: VideoId,
    /// Number of viewers connected now, as last reported by live readers.
    pub viewers: u64,
}

/// Maximum number of videos in one [`ViewersRequest`]: one page of a list.
pub const MAX_VIDEOS_PER_VIEWERS_REQUEST: usize = 1000;

/// Body of the manager's `POST /viewers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersRequest {
    /// The videos whose viewers are asked for, at most [`MAX_VIDEOS_PER_VIEWERS_REQUEST`].
    pub videos: Vec<VideoId>,
}

/// Answer of the manager's `POST /viewers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewersOfVideos {
    /// Number of viewers connected now for each video, as last reported by live readers, in the order of the request.
    pub viewers: Vec<u64>,
}

/// Answer of the manager's `GET /load`: the state of the cluster by which a planner decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLoad {
    /// Every reader that the manager knows.
    pub readers: Vec<ReaderState>,
    /// Number of videos that are assigned to readers.
    pub videos: u64,
    /// All assignments; absent if the request did not ask for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignments: Option<Vec<VideoState>>,
    /// The term of the planner; absent if there never was a planner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<TermState>,
    /// Whether this manager reaches the store; if not, the answer is what the manager last read from it.
    pub fresh: bool,
    /// The reason for which nothing is moved although something should be; absent if nothing is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The highest assignment epoch that any process has heard of.
    pub highest_epoch: u64,
    /// Maximum number of viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
    /// Number of viewers that are to be handed over and are still at their old reader.
    pub in_flight: u64,
    /// The cordons of all closed readers, also of readers that do not report.
    #[serde(default)]
    pub cordons: Vec<CordonRequest>,
    /// Requests of viewers who could not be sent to any reader that accepts them; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unserved: Option<UnservedRequests>,
}

/// Viewers for whom a manager found no reader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnservedRequests {
    /// Number of requests in the last ten seconds for which no reader could be named.
    pub requests: u64,
    /// Milliseconds since the first such request. Pauses of less than ten seconds between requests do not start a new
    /// count.
    pub since_ms: u64,
    /// One of the videos that the requests asked for.
    pub video: Option<VideoId>,
}

/// The state of a reader as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderState {
    /// The id of the reader.
    pub id: ReaderId,
    /// The URL at which viewers reach the reader.
    pub public_url: String,
    /// The URL at which gateways and managers reach the reader.
    pub internal_url: String,
    /// The reader's status by its heartbeats, by the manager's clock.
    pub state: MaybeUnknown<ReaderStatus>,
    /// The cordon that a planner set on the reader; absent if the reader is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<MaybeUnknown<CordonLevel>>,
    /// Milliseconds since the reader's last heartbeat, by the manager's clock.
    pub silent_ms: u64,
    /// Whether the reader's last report is new enough to plan with it.
    pub fresh: bool,
    /// Whether the reader sends heartbeats but cannot be reached at its URL.
    #[serde(default)]
    pub unreachable: bool,
    /// Whether the reader still has viewers after the time limit of a drain. Only set if the planner in the managers
    /// drains the reader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain_overdue: bool,
    /// Milliseconds until the reader ends, while it is leaving on its own; 0 if unknown.
    pub grace_ms: u64,
    /// Number of viewers connected to the reader.
    pub viewers: u64,
    /// Maximum number of viewers that the reader can hold.
    pub capacity: u64,
    /// Number of videos assigned to the reader.
    pub assigned: u64,
    /// The highest assignment epoch that the reader has heard of.
    pub highest_epoch: u64,
    /// Number of viewers who came to the reader in the last minute and had been connected to some reader before.
    pub reconnects: u64,
    /// Number of `reconnects` by viewers whom a leaving reader sent away, or who missed a comment. Viewers whom a full
    /// reader refused are not counted.
    pub reconnect_errors: u64,
    /// Number of viewers of each video that has any at the reader.
    pub videos: Vec<(VideoId, u64)>,
}

/// The state of a video's assignment as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoState {
    /// The assigned video.
    pub videoid: VideoId,
    /// The epoch of the assignment; an order has to name it as the expected one.
    pub epoch: u64,
    /// The readers of the video and their shares.
    pub readers: Vec<ReaderShare>,
    /// Number of viewers at the video's readers, and at readers that still hand them over.
    pub viewers: u64,
    /// Milliseconds since this manager saw the assignment change.
    pub changed_ms: u64,
    /// Whether the video is being moved.
    pub moving: bool,
}

/// The term of the planner in office, as a manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermState {
    /// The number of the term, which orders carry.
    pub term: u64,
    /// The name of the planner; empty if it is not known any more.
    pub holder: String,
    /// The Kubernetes lease that the planner showed last; absent if the planner has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<PlannerLease>,
}

/// Body of the manager's `POST /term`: begins a planner's term, or renews it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRequest {
    /// The name of the planner that wants to plan.
    pub holder: String,
    /// The term that has to be in force for a new one to begin (0: none). If absent, a new term begins whichever term
    /// is in force.
    #[serde(default)]
    pub expected: Option<u64>,
    /// The term to renew: its planner is still there. A renewal begins no new term.
    #[serde(default)]
    pub renew: Option<u64>,
    /// The lease by which the planner may plan. The request is refused if the term in force was begun with a later
    /// transition of the same lease.
    pub lease: PlannerLease,
}

/// Body of the manager's `POST /moves`: a planner's orders to move videos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesRequest {
    /// The term of the planner.
    pub term: u64,
    /// The lease by which the planner may plan.
    pub lease: PlannerLease,
    /// The moves to make.
    pub moves: Vec<MoveRequest>,
}

/// One order to change a video's readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRequest {
    /// The video to move.
    pub videoid: VideoId,
    /// The assignment epoch that the planner believes to be in force.
    pub expected: u64,
    /// The readers that are to serve the video, with their shares.
    pub readers: Vec<ReaderShare>,
    /// The reason for the move, in the planner's words.
    #[serde(default)]
    pub why: String,
}

/// The manager's first answer to one move order: accepted or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveAnswer {
    /// The video of the order.
    pub videoid: VideoId,
    /// The HTTP status for this order: 202 if it is being carried out; 409 or 503 as for whole requests.
    pub status: u16,
    /// The number of the move in `GET /moves`; absent if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The assignment epoch in force, if it is not the expected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The reason for the refusal; absent if the order was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Answer of the manager's `GET /moves`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesAnswer {
    /// The moves that this manager carries out now, or finished lately, latest first.
    pub moves: Vec<MoveState>,
    /// Number of viewers that are to be handed over and are still at their old reader, over the moves of all managers.
    pub in_flight: u64,
    /// Maximum number of viewers that may be moved in a minute.
    pub viewers_per_minute: u64,
}

/// The phase of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovePhase {
    /// The move waits until the budget of moved viewers has room.
    Waiting,
    /// The new readers are asked to load the video's recent comments.
    Warming,
    /// The new assignment is in force, and viewers go to the new readers.
    HandingOver,
    /// All viewers are moved.
    Done,
    /// The move was given up. If the new assignment was not in force yet, nothing has changed.
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

/// The source of a move's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderedBy {
    /// A planner outside of the managers, by `POST /moves`.
    Order,
    /// The planner in one of the managers.
    Autopilot,
    /// A manager, because it has to empty a reader.
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

/// A move and its current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveState {
    /// The number of the move at this manager.
    pub id: u64,
    /// The video that is moved.
    pub videoid: VideoId,
    /// The phase of the move.
    pub state: MaybeUnknown<MovePhase>,
    /// The readers that served the video before, with their shares.
    pub from: Vec<ReaderShare>,
    /// The readers that are to serve the video, with their shares.
    pub to: Vec<ReaderShare>,
    /// The assignment epoch on which the move was ordered; once the new assignment is in force, its epoch.
    pub epoch: u64,
    /// Number of viewers to be moved when the move began.
    pub viewers: u64,
    /// Number of viewers still to be moved.
    pub left: u64,
    /// The source of the order.
    pub by: MaybeUnknown<OrderedBy>,
    /// The reason for which the move was ordered.
    pub why: String,
    /// The planner's term under which the move was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The reason for which the move was given up; absent if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Milliseconds since the move was ordered.
    pub age_ms: u64,
}

/// Body of the manager's `POST /cordons`: a planner's orders to close or to open readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonsRequest {
    /// The term of the planner.
    pub term: u64,
    /// The lease by which the planner may plan.
    pub lease: PlannerLease,
    /// The cordons to set or to lift.
    pub cordons: Vec<CordonRequest>,
}

/// An order that closes a reader for new viewers, or opens it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonRequest {
    /// The reader to close or to open.
    pub reader: ReaderId,
    /// The level at which the reader is closed; absent or null if it is open again.
    #[serde(default)]
    pub cordon: Option<MaybeUnknown<CordonLevel>>,
    /// The reason for the cordon, in the planner's words.
    #[serde(default)]
    pub why: String,
}

/// Answer of the manager's `GET` and `POST /cordons`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonsAnswer {
    /// The cordons of all closed readers.
    pub cordons: Vec<CordonRequest>,
}

/// Report of a comment service to `POST /comment-api-statistics`, in the format of the comments seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommentReport {
    /// The name of the comment service that reports, if there are several; our comment services always send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Number of comments accepted since the service started.
    pub total_comments: u64,
    /// Number of comments of each of the busiest videos.
    pub comments_by_video: std::collections::BTreeMap<String, u64>,
    /// The videos that got comments.
    pub active_topics: Vec<String>,
    /// Number of readers subscribed to each topic, if known.
    pub topic_subscribers: std::collections::BTreeMap<String, u64>,
}

/// Report of a reader to `POST /reader-api-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReaderReport {
    /// The id of the reader.
    pub instance_id: String,
    /// Number of viewers connected to the reader.
    pub active_connections: u64,
    /// Maximum number of viewers that the reader may hold; absent in reports of the seed's readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// The channels to which the reader is subscribed, the busiest only.
    pub subscribed_topics: Vec<String>,
    /// Number of comments written to viewers since the reader started.
    pub messages_sent: u64,
}

/// Report of a manager to `POST /reader-api-manager-statistics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerReport {
    /// The name of the manager that reports, if there are several; our managers always send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The kind of service that reports: always `ReaderApiManager`, as in the reports of the comments seed (see the
    /// glossary).
    pub service: String,
    /// Number of videos assigned to readers.
    pub registered_videos: u64,
    /// The readers that accept viewers.
    pub available_reader_apis: Vec<String>,
    /// Number of registrations answered since the manager started.
    pub registration_count: u64,
    /// The reader of each video, for a bounded number of videos.
    pub video_mappings: std::collections::BTreeMap<String, String>,
}

/// Header of a gateway's request to a reader: the assignment epoch under which the manager named the reader. A reader
/// that knows only an older epoch asks the managers before it sends the viewer to another reader.
pub const ASSIGNMENT_EPOCH_HEADER: &str = "liverank-epoch";

/// Header of a gateway's request to a reader: the event types that the viewer asks for, as in `?events=`. A reader of
/// a release that does not know these events ignores the header, but would refuse the parameter.
pub const STREAM_EVENTS_HEADER: &str = "liverank-events";
