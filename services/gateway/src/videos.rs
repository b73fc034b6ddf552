//! `GET /videos`: a ranked list in pages; `GET /videos/{video_id}`: one video with its counts, viewers and ranks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use futures::future::join_all;
use liverank_adapters::archive::{ArchiveMeta, pinned_comment};
use liverank_adapters::ranking_store::{BoardPage, BoardPlace, BuiltInBoard, BuiltInBoardPlaces, PageStart};
use liverank_core::counting::{CountingRules, VideoState};
use liverank_core::score::{Counters, points_of_thousandths};
use liverank_core::trending::{shown_points, shown_time};
use liverank_core::{Comment, Invalid, Metadata, VideoId, canary};
use liverank_protocol::ViewersAnswer;
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json, now_ms};
use serde::Serialize;
use serde_json::Value;

use crate::Gateway;
use crate::interact::reserve_place;

mod boards;
pub(crate) mod cursor;
pub(crate) mod entry;
mod fields;
pub(crate) mod listed_boards;

pub(crate) use boards::Boards;
use boards::{DecayJson, WindowJson};
use fields::{ListLine, RequestedFields};

/// Maximum number of videos on a page: as many as the WebSocket sends by default.
const MAX_LIMIT: u64 = 1000;
/// Number of videos on a page if no `limit` is given.
const DEFAULT_LIMIT: u64 = 100;
/// Maximum time for a manager to return a video's number of viewers; the rest of the answer does not wait longer.
const VIEWERS_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum time for the boards to return a video's ranks; the rest of the answer does not wait longer.
const RANKS_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum time for the archive to return the metadata of a page's videos; the rest of the answer does not wait
/// longer.
const METADATA_TIMEOUT: Duration = Duration::from_millis(500);

/// One page of a board.
#[derive(Serialize)]
pub(crate) struct ListPage {
    videos: Vec<ListLine>,
    /// The cursor of the page after this one; null at the end.
    next: Option<String>,
    /// The rank of the first video on the page; the best video has rank 1.
    first_rank: u64,
    /// Number of videos that are ranked on the board.
    total: u64,
    /// The window that the page shows; absent if the board has no windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<WindowJson>,
    /// The half-life that only this board has; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    decay: Option<DecayJson>,
}

/// Answers `GET /videos?board=&window=&limit=&cursor=&around=&fields=` with a page of a board.
pub(crate) async fn list_videos(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    params: QueryParams,
) -> Result<Json<ListPage>, Problem> {
    params.expect_only(&["board", "window", "limit", "cursor", "around", "fields"])?;
    let board = gateway.find_board(params.optional_text("board")?, params.optional_text("window")?)?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let start = parse_page_start(&params)?;
    let fields = RequestedFields::parse(params.optional_text("fields")?)?;
    reserve_place(&gateway, &exchange)?;
    let (window, decay) = (gateway.describe_window(&board).await, gateway.describe_decay(&board).await);
    let (ranking, order) = (&*board.store, board.order);
    let page = gateway.ranking_dependency.note_result(ranking.board_page(order, &start, limit).await)?;
    let Some(BoardPage { mut videos, first_rank, total }) = page else {
        return Err(Problem::not_found("the video that the list is to be around is not on the board")
            .with_member("field", "around"));
    };
    let next = videos.last().filter(|_| videos.len() == limit).map(cursor::cursor_after);
    if order == BuiltInBoard::Trending
        && let Some(half_life) = gateway.ranking_dependency.note_result(ranking.noted_half_life().await)?
    {
        let at = shown_time(now_ms(), half_life);
        for line in &mut videos {
            line.score = shown_points(line.score, at, half_life);
        }
    }
    let videos = fields::fill_fields(&gateway, videos, fields).await;
    Ok(Json(ListPage { videos, next, first_rank, total, window, decay }))
}

fn parse_page_start(params: &QueryParams) -> Result<PageStart, Invalid> {
    match (params.optional_text("cursor")?, params.optional_text("around")?) {
        (None, None) => Ok(PageStart::Best),
        (Some(cursor), None) => Ok(PageStart::After(cursor::parse_cursor(cursor)?)),
        (None, Some(id)) => Ok(PageStart::Around(VideoId::parse_field("around", id)?)),
        (Some(_), Some(_)) => Err(Invalid::new("around", "cannot go together with cursor")),
    }
}

/// A video in the answer of `GET /videos/{video_id}`.
#[derive(Serialize)]
pub(crate) struct VideoJson {
    video_id: VideoId,
    user_id: liverank_core::UserId,
    /// The score, in points.
    score: f64,
    views: i64,
    likes: i64,
    comments: i64,
    shares: i64,
    /// The watched time, in seconds.
    watch_time_total: f64,
    /// The part of the score that comes from watching, in points.
    watch_time_score: f64,
    watch_short: i64,
    watch_long: i64,
    /// Number of viewers connected now; null while no manager answers.
    viewers: Option<u64>,
    /// The most viewers that were connected at the same time, for five seconds on end; null while no manager knows.
    peak_viewers: Option<u64>,
    /// The video's rank on each board; null while the boards are away.
    ranks: Option<RanksJson>,
    /// The metadata that the app gave the video; null if it gave none.
    metadata: Option<Metadata>,
    /// True if the video was removed from the boards.
    removed: bool,
    /// The pinned comment of the video; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Value>,
}

/// The rank of a video on each board.
#[derive(Serialize)]
struct RanksJson {
    global: BoardRankJson,
    trending: BoardRankJson,
    /// The ranks on the declared boards, by the board's name.
    #[serde(flatten)]
    declared: BTreeMap<String, BoardRankJson>,
}

/// The rank of a video on one board.
#[derive(Serialize)]
struct BoardRankJson {
    /// The rank, 1 for the best video; null if the video is not on the board.
    rank: Option<u64>,
    /// Number of videos that are ranked on the board.
    total: u64,
}

impl BoardRankJson {
    const fn new(place: BoardPlace) -> Self {
        Self { rank: place.rank, total: place.total }
    }
}

impl RanksJson {
    fn new(places: BuiltInBoardPlaces) -> Self {
        let (global, trending) = (BoardRankJson::new(places.global), BoardRankJson::new(places.trending));
        Self { global, trending, declared: BTreeMap::new() }
    }
}

impl VideoJson {
    fn new(
        video: VideoState,
        rules: &CountingRules,
        viewers: Option<ViewersAnswer>,
        ranks: Option<RanksJson>,
    ) -> Self {
        let counters = &video.counters;
        // The fields are listed by name, so that a new counter that the answer lacks does not compile.
        let Counters { views, likes, comments, shares, watch_ms, watch_short, watch_long } = *counters;
        Self {
            score: points_of_thousandths(counters.score(&rules.weights)),
            views,
            likes,
            comments,
            shares,
            watch_time_total: watch_ms as f64 / 1000.0,
            watch_time_score: points_of_thousandths(counters.watch_score(&rules.weights)),
            watch_short,
            watch_long,
            viewers: viewers.as_ref().map(|answer| answer.viewers),
            peak_viewers: viewers.and_then(|answer| answer.peak),
            ranks,
            metadata: video.metadata,
            removed: video.removed_by.is_some(),
            pinned: None,
            video_id: video.video_id,
            user_id: video.owner,
        }
    }
}

/// Answers `GET /videos/{video_id}` with a video's counts, viewers and ranks.
pub(crate) async fn get_video(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    path: Result<Path<String>, PathRejection>,
    params: QueryParams,
) -> Result<Json<VideoJson>, Problem> {
    params.expect_only(&[])?;
    let Path(id) = path.map_err(|_| Invalid::new("video_id", "must be UTF-8"))?;
    let id = canary::parse_outside_id("video_id", &id)?;
    reserve_place(&gateway, &exchange)?;
    let unknown = || Problem::not_found(format!("nothing has happened to the video {id} yet"));
    let (rules, video, viewers, ranks, pinned) = tokio::join!(
        counting_rules(&gateway),
        gateway.backends.archive.video(&id),
        fetch_viewers(&gateway, &id),
        read_ranks(&gateway, &id),
        pinned_comment(&*gateway.backends.archive, &id)
    );
    let pinned = gateway.archive_dependency.note_result(pinned)?;
    let video = gateway.archive_dependency.note_result(video)?.ok_or_else(unknown)?;
    // There are no rules if nothing has been counted yet.
    let rules = rules?.ok_or_else(unknown)?;
    Ok(Json(VideoJson {
        pinned: pinned.as_ref().map(pinned_json),
        ..VideoJson::new(video, &rules, viewers, ranks)
    }))
}

fn pinned_json(comment: &Comment) -> Value {
    serde_json::to_value(comment_json::with_seq(comment)).expect("strings and numbers always serialise")
}

/// Returns the ranks of a video; `None` if the boards do not answer in time. The counts come from the archive, so
/// boards that are away hide the ranks only.
async fn read_ranks(gateway: &Gateway, id: &VideoId) -> Option<RanksJson> {
    let boards = gateway.declared_boards();
    let declared = boards.iter().map(async |(board, order, store)| {
        let places = store.ranks_of_video(id).await?;
        let place = if *order == BuiltInBoard::Global { places.global } else { places.trending };
        Ok((board.name().to_owned(), BoardRankJson::new(place)))
    });
    let asked = async { tokio::join!(gateway.backends.ranking.ranks_of_video(id), join_all(declared)) };
    let (built_in, declared) = tokio::time::timeout(RANKS_TIMEOUT, asked).await.ok()?;
    let mut ranks = RanksJson::new(gateway.ranking_dependency.note_result(built_in).ok()?);
    ranks.declared = gateway.ranking_dependency.note_result(declared.into_iter().collect()).ok()?;
    Some(ranks)
}

async fn fetch_viewers(gateway: &Gateway, id: &VideoId) -> Option<ViewersAnswer> {
    let replicas = gateway.manager.replicas.as_ref()?;
    let path = ["viewers", id.as_str()];
    let asked = tokio::time::timeout(VIEWERS_TIMEOUT, replicas.get::<ViewersAnswer>(&path)).await;
    match asked {
        Ok(Ok(answer)) => {
            gateway.manager.dependency.note_answered();
            Some(answer)
        }
        _ => None,
    }
}

/// The archive's meta document as it was read last.
#[derive(Default)]
pub(crate) struct ArchiveMetaCache(Mutex<Option<(Instant, ArchiveMeta)>>);

/// Time for which the meta document is used. Counting rules change only with a rebuild of all scores; answers are at
/// most this much behind.
const META_FRESH_FOR: Duration = Duration::from_secs(5);

/// Returns the rules by which the archive counts; `None` before anything is counted.
pub(crate) async fn counting_rules(gateway: &Gateway) -> Result<Option<CountingRules>, Problem> {
    Ok(archive_meta(gateway).await?.map(|meta| meta.counting_rules))
}

/// Returns the archive's meta document, at most `META_FRESH_FOR` old; `None` before anything is counted.
async fn archive_meta(gateway: &Gateway) -> Result<Option<ArchiveMeta>, Problem> {
    let cached = gateway.archive_meta_cache.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((at, meta)) = cached
        && at.elapsed() < META_FRESH_FOR
    {
        return Ok(Some(meta));
    }
    let found = gateway.archive_dependency.note_result(gateway.backends.archive.archive_meta().await)?;
    if let Some(meta) = &found {
        *gateway.archive_meta_cache.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), meta.clone()));
    }
    Ok(found)
}
