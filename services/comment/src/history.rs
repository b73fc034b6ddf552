//! `GET /comments/{videoid}`: the comments of a video, newest first, page by page.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use liverank_adapters::archive::Page;
use liverank_core::VideoId;
use liverank_runtime::params::{Params, PathVideo};
use liverank_runtime::problem::RETRY_AFTER;
use liverank_runtime::server::Exchange;
use liverank_runtime::{Problem, comment_json};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::CommentService;

/// How long the archive may take for a page.
const PATIENCE: Duration = Duration::from_secs(5);
const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 1_000;
/// The largest page: a thousand comments of a usual length. One of longer ones has fewer, and says where the next begins.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// Comments read at once: of the longest ones, some 1.6 MB.
const STEP: usize = 100;
/// Steps of a page: twice what the longest takes. Where more than half was removed, a page is shorter.
const MAX_STEPS: usize = 2 * MAX_LIMIT as usize / STEP;
/// Pages being answered, each until its last byte: what slow readers can make this process hold is so many megabytes.
pub(crate) const PAGES: usize = 128;
/// The greatest number that JavaScript, and with it most clients, holds exactly.
const MAX_SEQ: u64 = (1 << 53) - 1;

/// `GET /comments/{videoid}?before=&limit=`.
pub(crate) async fn comments(
    State(service): State<Arc<CommentService>>,
    PathVideo(video): PathVideo,
    params: Params,
    exchange: Exchange,
) -> Result<Response, Problem> {
    params.only(&["before", "limit"])?;
    let limit = params.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let before = params.number("before", 1..=MAX_SEQ)?.unwrap_or(u64::MAX);
    let Ok(place) = Arc::clone(&service.pages).try_acquire_owned() else {
        let detail = "too many pages of history are being answered: try again";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(RETRY_AFTER));
    };
    exchange.hold(place);
    let page = page(&service, &video, before, limit).await?;
    let json = serde_json::to_vec(&page).expect("strings and numbers always serialise");
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// A page of history.
#[derive(Default, Serialize)]
struct PageJson {
    comments: Vec<Box<RawValue>>,
    next: Option<u64>,
}

/// Reads a page in steps, so that neither it nor what is read for it grows past a bound.
async fn page(
    service: &CommentService,
    video: &VideoId,
    before: u64,
    limit: usize,
) -> Result<PageJson, Problem> {
    let (mut page, mut bytes, mut before) = (PageJson::default(), 0, before);
    for steps in 0.. {
        if page.comments.len() >= limit || steps == MAX_STEPS {
            break;
        }
        let step = (limit - page.comments.len()).min(STEP);
        let asked = service.archive.ask(PATIENCE, |archive| async move {
            archive.comments(video, Page::Before(before), step).await
        });
        let found = asked.await.map_err(|_| Problem::unavailable("the archive is away: try again"))?;
        for comment in &found {
            if !comment.entry.is_comment() {
                before = comment.seq;
                continue;
            }
            let json =
                to_raw_value(&comment_json::numbered(comment)).expect("strings and numbers always serialise");
            if bytes + json.get().len() > MAX_PAGE_BYTES && !page.comments.is_empty() {
                page.next = Some(before);
                return Ok(page);
            }
            bytes += json.get().len();
            before = comment.seq;
            page.comments.push(json);
        }
        if found.len() < step {
            return Ok(page);
        }
    }
    // A page that does not reach the first comment has more before it: it is full, or so much was removed there that it
    // is worth another question.
    page.next = Some(before).filter(|&seq| seq > 1);
    Ok(page)
}
