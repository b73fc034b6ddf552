//! `GET /videos`, a ranked list in pages, and `GET /videos/{video_id}`, one video with its counts and its viewers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use liverank_adapters::ranking_store::Board;
use liverank_core::counting::{Rules, VideoState};
use liverank_core::ranking::Ranked;
use liverank_core::score::points;
use liverank_core::trending::{shown_points, shown_time};
use liverank_core::{Invalid, VideoId};
use liverank_protocol::Viewers;
use liverank_runtime::params::Params;
use liverank_runtime::{Problem, now_ms};
use serde::Serialize;

use crate::Gateway;
use crate::interact::too_many;

mod cursor;

/// The largest page: what the WebSocket sends by default, too.
const MAX_LIMIT: u64 = 1000;
/// A page where no `limit` is given.
const DEFAULT_LIMIT: u64 = 100;
/// How long a manager may take to say how many viewers a video has: the rest of the answer does not wait longer.
const VIEWERS_TIMEOUT: Duration = Duration::from_millis(500);

/// One page of a board.
#[derive(Serialize)]
pub(crate) struct ListPage {
    videos: Vec<Ranked>,
    /// The cursor of the page after this one; null at the end.
    next: Option<String>,
}

/// `GET /videos?board=&limit=&cursor=`.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    params: Params,
) -> Result<Json<ListPage>, Problem> {
    params.only(&["board", "limit", "cursor"])?;
    let board = board(params.get("board"))?;
    let limit = params.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let after = params.get("cursor").map(cursor::read).transpose()?;
    let Ok(_permit) = gateway.in_flight.try_acquire() else { return Err(too_many()) };
    let page = gateway.backends.ranking.page(board, after.as_ref(), limit).await;
    let mut videos = gateway.ranking.noted(page)?;
    let next = videos.last().filter(|_| videos.len() == limit).map(cursor::after);
    if board == Board::Trending
        && let Some(half_life) = gateway.ranking.noted(gateway.backends.ranking.half_life().await)?
    {
        let at = shown_time(now_ms(), half_life);
        videos.iter_mut().for_each(|line| line.score = shown_points(line.score, at, half_life));
    }
    Ok(Json(ListPage { videos, next }))
}

fn board(text: Option<&str>) -> Result<Board, Invalid> {
    match text {
        None | Some("global") => Ok(Board::Global),
        Some("trending") => Ok(Board::Trending),
        Some(_) => Err(Invalid::new("board", "must be global or trending")),
    }
}

/// One video, as clients see it.
#[derive(Serialize)]
pub(crate) struct VideoJson {
    video_id: VideoId,
    user_id: liverank_core::UserId,
    /// In points.
    score: f64,
    views: i64,
    likes: i64,
    comments: i64,
    shares: i64,
    /// In seconds.
    watch_time_total: f64,
    /// In points.
    watch_time_score: f64,
    watch_short: i64,
    watch_long: i64,
    /// Viewers connected now; null while no manager says so.
    viewers: Option<u64>,
}

impl VideoJson {
    fn new(video: VideoState, rules: &Rules, viewers: Option<u64>) -> Self {
        let counters = &video.counters;
        Self {
            score: points(counters.score(&rules.weights)),
            views: counters.views,
            likes: counters.likes,
            comments: counters.comments,
            shares: counters.shares,
            watch_time_total: counters.watch_ms as f64 / 1000.0,
            watch_time_score: points(counters.watch_score(&rules.weights)),
            watch_short: counters.watch_short,
            watch_long: counters.watch_long,
            viewers,
            video_id: video.video_id,
            user_id: video.owner,
        }
    }
}

/// `GET /videos/{video_id}`.
pub(crate) async fn one(
    State(gateway): State<Arc<Gateway>>,
    path: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Json<VideoJson>, Problem> {
    params.only(&[])?;
    let Path(id) = path.map_err(|_| Invalid::new("video_id", "must be UTF-8"))?;
    let id = VideoId::parse(&id)?;
    let Ok(_permit) = gateway.in_flight.try_acquire() else { return Err(too_many()) };
    let unknown = || Problem::not_found(format!("nothing has happened to the video {id} yet"));
    let (rules, video, viewers) =
        tokio::join!(rules(&gateway), gateway.backends.archive.video(&id), viewers(&gateway, &id));
    let video = gateway.archive.noted(video)?.ok_or_else(unknown)?;
    // No rules: nobody has counted anything yet.
    let rules = rules?.ok_or_else(unknown)?;
    Ok(Json(VideoJson::new(video, &rules, viewers)))
}

async fn viewers(gateway: &Gateway, id: &VideoId) -> Option<u64> {
    let replicas = gateway.manager.replicas.as_ref()?;
    let path = ["viewers", id.as_str()];
    let asked = tokio::time::timeout(VIEWERS_TIMEOUT, replicas.get::<Viewers>(&path)).await;
    match asked {
        Ok(Ok(answer)) => {
            gateway.manager.dependency.answered();
            Some(answer.viewers)
        }
        _ => None,
    }
}

/// What events are worth, as the archive last said.
#[derive(Default)]
pub(crate) struct RulesCache(Mutex<Option<(Instant, Rules)>>);

/// Rules change with a rebuild of all scores only; a page is that much behind at most.
const RULES_FOR: Duration = Duration::from_secs(5);

async fn rules(gateway: &Gateway) -> Result<Option<Rules>, Problem> {
    let cached = *gateway.rules.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, rules)) = cached
        && at.elapsed() < RULES_FOR
    {
        return Ok(Some(rules));
    }
    let found = gateway.archive.noted(gateway.backends.archive.meta().await)?.map(|meta| meta.rules);
    if let Some(rules) = found {
        *gateway.rules.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), rules));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_named_exactly() {
        assert_eq!(board(None), Ok(Board::Global));
        assert_eq!(board(Some("trending")), Ok(Board::Trending));
        assert!(board(Some("Global")).is_err() && board(Some("")).is_err());
    }
}
