//! The endpoints for people who look after the system: an overview in one answer of limited size, and forecasts of what
//! the planner would do with other readers or viewers.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use liverank_core::json::to_whole_number;
use liverank_core::placement::Plan;
use liverank_core::placement::situation::{PlanLimits, Situation};
use liverank_core::placement::what_if::{self, Forecast, WhatIfChanges, forecast};
use liverank_core::{Invalid, ReaderId, VideoId, ZoneId};
use liverank_protocol::{
    ChosenOrder, ForecastMinute, ForecastReader, MaybeUnknown, MoveKind, MovePhase, MoveState, Overview,
    OverviewMove, OverviewReader, PlannerDecision, PlannerState, ReaderState, WhatIfAnswer, WhatIfRequest,
    WhatIfVideo,
};
use liverank_runtime::body::JsonObject;
use liverank_runtime::params::QueryParams;
use liverank_runtime::{Problem, now_ms};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::Manager;
use crate::autopilot;
use crate::liveness::ReaderStatus;

/// The time that a request for a forecast waits for those before it: gateways forward a few a second.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum number of readers listed, the fullest first: nobody reads more than a page of them.
const MAX_READERS_LISTED: usize = 200;
/// The maximum number of videos listed, the most watched first.
const MAX_VIDEOS_LISTED: usize = 30;
/// The maximum number of moves listed, the latest first; as many older moves that are still running may be listed
/// besides.
const MAX_MOVES_LISTED: usize = 40;
/// The maximum number of planner decisions listed, the latest first. `MAX_LINES_A_DECISION` is the maximum number of
/// orders, and of rejections, of each.
const MAX_DECISIONS_LISTED: usize = 8;
const MAX_LINES_A_DECISION: usize = 12;

pub(super) async fn get_overview(
    State(manager): State<Arc<Manager>>,
    query: QueryParams,
) -> Result<Json<Overview>, Problem> {
    query.expect_only(&[])?;
    let now = Instant::now();
    let cluster = manager.cluster();
    let load = cluster.cluster_load(now, manager.config.max_viewers_moved_per_minute, false);
    let videos = cluster.hottest_videos(MAX_VIDEOS_LISTED);
    let videos_watched = cluster.watched_count() as u64;
    drop(cluster);
    let mut readers: Vec<OverviewReader> = load.readers.iter().map(reader_line).collect();
    readers.sort_by_key(|reader| Reverse(reader.viewers * 1_000_000 / reader.capacity.max(1)));
    readers.truncate(MAX_READERS_LISTED);
    let gone = MaybeUnknown::Known(ReaderStatus::Gone);
    let alive = || load.readers.iter().filter(|reader| reader.state != gone);
    let term = load.term.as_ref();
    Ok(Json(Overview {
        at: now_ms(),
        fresh: load.fresh,
        hold: load.hold,
        viewers: alive().map(|reader| reader.viewers).sum(),
        capacity: alive().map(|reader| reader.capacity).sum(),
        videos_assigned: load.videos,
        videos_watched,
        readers_total: load.readers.len() as u64,
        readers,
        history: manager.viewer_history.lock().unwrap_or_else(PoisonError::into_inner).to_columns(),
        videos,
        moves: move_lines(&manager, now),
        in_flight: load.in_flight,
        viewers_per_minute: load.viewers_per_minute,
        cordons: load.cordons.into_iter().take(MAX_READERS_LISTED).collect(),
        unserved: load.unserved,
        planner: PlannerState {
            leading: manager.metrics.is_leading.get() == 1,
            holder: term.map(|term| term.holder.clone()).filter(|holder| !holder.is_empty()),
            term: term.map(|term| term.term),
            decisions: latest_decisions(&manager),
            outside: manager.outside_decisions.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        },
    }))
}

fn reader_line(reader: &ReaderState) -> OverviewReader {
    OverviewReader {
        id: reader.id.clone(),
        state: reader.state.clone(),
        cordon: reader.cordon.clone(),
        viewers: reader.viewers,
        capacity: reader.capacity,
        videos: reader.assigned,
        silent_ms: reader.silent_ms,
        unreachable: reader.unreachable,
        zone: reader.zone.clone(),
        viewers_by_zone: reader.viewers_by_zone,
    }
}

fn move_lines(manager: &Manager, now: Instant) -> Vec<OverviewMove> {
    let is_over = |it: &MoveState| {
        let over = |phase: &MovePhase| matches!(phase, MovePhase::Done | MovePhase::Failed);
        matches!(&it.state, MaybeUnknown::Known(phase) if over(phase))
    };
    let line =
        |state: MoveState| OverviewMove { kind: MoveKind::of_change(&state.from, &state.to).into(), state };
    let states = manager.move_executor().move_states(now, 10 * MAX_MOVES_LISTED);
    let mut shown: Vec<MoveState> = Vec::new();
    for (at, state) in states.into_iter().enumerate() {
        if shown.len() < 2 * MAX_MOVES_LISTED && (at < MAX_MOVES_LISTED || !is_over(&state)) {
            shown.push(state);
        }
    }
    shown.into_iter().map(line).collect()
}

fn latest_decisions(manager: &Manager) -> Vec<PlannerDecision> {
    let decisions = manager.planner_decisions.lock().unwrap_or_else(PoisonError::into_inner);
    let cut = |decision: &PlannerDecision| {
        let mut decision = decision.clone();
        decision.chosen.truncate(MAX_LINES_A_DECISION);
        decision.rejected.truncate(MAX_LINES_A_DECISION);
        decision
    };
    decisions.iter().take(MAX_DECISIONS_LISTED).map(cut).collect()
}

/// Answers `POST /what-if {"readers"?, "videos"?: [{"videoid", "viewers"}]}` with a forecast of what the planner would
/// do.
pub(super) async fn post_what_if(
    State(manager): State<Arc<Manager>>,
    JsonObject(body): JsonObject,
) -> Result<Json<WhatIfAnswer>, Problem> {
    let changes = what_if_changes(read_what_if_request(&body)?);
    // A plan of a large system uses a processor for a while, so one request is answered at a time.
    let Ok(Ok(_turn)) = timeout(QUEUE_TIMEOUT, manager.what_if_permits.acquire()).await else {
        return Err(Problem::part_unavailable("other questions are being answered: try again"));
    };
    let (situation, limits) = autopilot::situation_and_limits(&manager);
    let zones = manager.cluster().reader_zones();
    let answer =
        tokio::task::spawn_blocking(move || make_forecast(situation, &limits, &changes, &zones)).await;
    answer.map(Json).map_err(|error| Problem::part_unavailable(format!("the plan was not finished: {error}")))
}

fn make_forecast(
    situation: Situation,
    limits: &PlanLimits,
    changes: &WhatIfChanges,
    zones: &HashMap<ReaderId, ZoneId>,
) -> WhatIfAnswer {
    let forecast = forecast(situation, limits, changes);
    WhatIfAnswer {
        settled: forecast.is_settled,
        moved: forecast.plans.iter().map(|plan| plan.moved).sum(),
        minutes: forecast.plans.iter().map(|plan| first_minute(&forecast.start, plan)).collect(),
        readers: forecast_readers(&forecast, zones),
    }
}

fn first_minute(situation: &Situation, plan: &Plan) -> ForecastMinute {
    let order = |order: &liverank_core::placement::PlannedOrder| ChosenOrder {
        videoid: situation.videos[order.video].id.to_string(),
        kind: order.kind.into(),
        from: situation.shares_of_parts(&order.from),
        to: situation.shares_of_parts(&order.to),
        viewers: order.moved,
        why: order.explain(situation),
        outcome: String::new(),
    };
    ForecastMinute {
        orders_total: plan.orders.len() as u64,
        orders: plan.orders.iter().take(MAX_LINES_A_DECISION).map(order).collect(),
        moved: plan.moved,
        before: plan.before,
        after: plan.after,
        bound_by: plan.bound_by.iter().copied().map(Into::into).collect(),
        rejected: plan.rejected.iter().take(MAX_LINES_A_DECISION).map(|it| it.explain(situation)).collect(),
    }
}

fn forecast_readers(forecast: &Forecast, zones: &HashMap<ReaderId, ZoneId>) -> Vec<ForecastReader> {
    let loads = |situation: &Situation| {
        let mut loads = vec![0_u64; situation.readers.len()];
        for part in situation.videos.iter().flat_map(|video| &video.parts) {
            loads[part.reader] += part.viewers;
        }
        loads
    };
    let loads = loads(&forecast.start).into_iter().zip(loads(&forecast.end));
    let lines = forecast.start.readers.iter().zip(loads).map(|(reader, (before, after))| ForecastReader {
        id: reader.id.clone(),
        capacity: reader.capacity,
        standing: reader.standing.into(),
        before,
        after,
        zone: zones.get(&reader.id).cloned(),
    });
    let mut lines: Vec<ForecastReader> = lines.collect();
    lines.sort_by_key(|line| Reverse(line.before.max(line.after)));
    lines.truncate(MAX_READERS_LISTED);
    lines
}

/// Parses the body of a what-if request; errors name the member that is wrong.
fn read_what_if_request(body: &Map<String, Value>) -> Result<WhatIfRequest, Invalid> {
    if let Some(unknown) = body.keys().find(|key| !["readers", "videos"].contains(&key.as_str())) {
        return Err(Invalid::new(
            "body",
            format!("has a member {unknown:?}: it may have readers and videos"),
        ));
    }
    let number =
        |value: &Value, most: u64| to_whole_number(value).filter(|number| (1..=most).contains(number));
    let readers = match body.get("readers") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let most = what_if::MAX_ASKED_READERS;
            let wrong = || Invalid::new("readers", format!("must be a whole number from 1 to {most}"));
            Some(number(value, most as u64).ok_or_else(wrong)?)
        }
    };
    let videos = match body.get("videos") {
        None | Some(Value::Null) => None,
        Some(Value::Array(videos)) if videos.len() <= what_if::MAX_CHANGED_VIDEOS => Some(videos),
        Some(_) => {
            let most = what_if::MAX_CHANGED_VIDEOS;
            return Err(Invalid::new("videos", format!("must be a list of at most {most} videos")));
        }
    };
    let coming = |entry: &Value| {
        let video = VideoId::parse_field("videos.videoid", entry["videoid"].as_str().unwrap_or_default())?;
        let most = what_if::MAX_VIEWERS_OF_A_VIDEO;
        let wrong = || Invalid::new("videos.viewers", format!("must be a whole number from 1 to {most}"));
        Ok(WhatIfVideo { videoid: video, viewers: number(&entry["viewers"], most).ok_or_else(wrong)? })
    };
    let videos = videos.map(|videos| videos.iter().map(coming).collect::<Result<_, Invalid>>());
    Ok(WhatIfRequest { readers, videos: videos.transpose()? })
}

fn what_if_changes(request: WhatIfRequest) -> WhatIfChanges {
    let videos = request.videos.unwrap_or_default().into_iter();
    WhatIfChanges {
        readers: request.readers.map(|readers| readers as usize),
        viewers: videos.map(|video| (video.videoid, video.viewers)).collect(),
    }
}
