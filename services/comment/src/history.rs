//! `GET /comments/{videoid}`: the comments of a video, newest first, page by page.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use liverank_adapters::archive::Page;
use liverank_core::Comment;
use liverank_runtime::params::{Params, PathVideo};
use liverank_runtime::{Problem, comment_json};
use serde_json::{Value, json};

use crate::CommentService;

/// How long the archive may take for a page.
const PATIENCE: Duration = Duration::from_secs(5);
const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 1_000;
/// The greatest number that JavaScript, and with it most clients, holds exactly.
const MAX_SEQ: u64 = (1 << 53) - 1;

/// `GET /comments/{videoid}?before=&limit=`.
pub(crate) async fn comments(
    State(service): State<Arc<CommentService>>,
    PathVideo(video): PathVideo,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.only(&["before", "limit"])?;
    let limit = params.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let page = Page::Before(params.number("before", 1..=MAX_SEQ)?.unwrap_or(u64::MAX));
    let video = &video;
    let asked =
        service.archive.ask(PATIENCE, |archive| async move { archive.comments(video, page, limit).await });
    let comments = asked.await.map_err(|_| Problem::unavailable("the archive is away: try again"))?;
    Ok(Json(answer(&comments, limit)))
}

fn answer(comments: &[Comment], limit: usize) -> Value {
    // A full page that does not reach the first comment has more before it.
    let next = comments.last().map(|last| last.seq).filter(|&seq| comments.len() == limit && seq > 1);
    let comments: Vec<_> = comments.iter().map(comment_json::numbered).collect();
    json!({"comments": comments, "next": next})
}
