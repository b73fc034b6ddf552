//! The messages that our own processes send to each other over HTTP. The messages are described in an `OpenAPI`
//! document, like the public formats.
//!
//! Every message can be read by a process of the previous and of the next release: a new field has a default, and a
//! field with a fixed set of values is a [`MaybeUnknown`] if a value may be added later.

pub mod access;

mod decision;
mod health;
mod heartbeat;
mod load;
mod moves;
mod operate;
mod overview;
mod plan;
mod refusal;
mod registration;
mod reports;
pub mod roles;
mod route;
mod statistics;
mod viewers;
mod what_if;
mod zones;

pub use decision::{MAX_DECISION_LINES, MAX_OUTSIDE_DECISIONS, OutsideDecision};
pub use health::{
    ManagerHealth, ReaderHealth, ReaderHealthStatus, ServiceHealth, ServiceHealthStatus, WebsocketHealth,
};
pub use heartbeat::{HeartbeatAnswer, ReaderRecord, WarmAnswer, WarmRequest};
pub use liverank_core::unknown::MaybeUnknown;
pub use load::{
    AssignedVideoState, ClusterLoad, MAX_LOAD_BYTES, ReaderState, UnlistedVideos, UnservedRequests,
};
pub use moves::{
    CordonRequest, CordonsAnswer, CordonsRequest, MoveAnswer, MoveAnswers, MovePhase, MoveRequest, MoveState,
    MovesAnswer, MovesRequest, OrderedBy, TermRequest, TermState,
};
pub use operate::{BoardFreshness, DemoState, LagOfPartition, PartState, SystemLag, SystemState};
pub use overview::{
    HistoryColumns, MoveKind, Overview, OverviewMove, OverviewReader, PlannerState, ReaderColumn,
    WatchedVideo,
};
pub use plan::{ChosenOrder, PlanAnswer, PlannerDecision};
pub use refusal::RefusalDetails;
pub use registration::{RegisterAction, RegisterAnswer, RegisterRequest, ResolveAnswer, RouteRequest};
pub use reports::{CommentServiceReport, ManagerReport, ReaderReport};
pub use route::{Route, RouteReader};
pub use statistics::{CommentTotals, ReaderTotals, ReportAnswer, StatisticsTotals};
pub use viewers::{MAX_VIDEOS_PER_VIEWERS_REQUEST, ViewersAnswer, ViewersOfVideos, ViewersRequest};
pub use what_if::{ForecastMinute, ForecastReader, WhatIfAnswer, WhatIfRequest, WhatIfVideo};
pub use zones::{GATEWAY_ZONE_HEADER, ZonedViewers};

/// Header of a gateway's request to a reader: the assignment epoch under which the manager named the reader. A reader
/// that knows only an older epoch asks the managers before it sends the viewer to another reader.
pub const ASSIGNMENT_EPOCH_HEADER: &str = "liverank-epoch";

/// Header of a gateway's request to a reader: the event types that the viewer asks for, as in `?events=`. A reader of
/// a release that does not know these events ignores the header, but would refuse the parameter.
pub const STREAM_EVENTS_HEADER: &str = "liverank-events";
