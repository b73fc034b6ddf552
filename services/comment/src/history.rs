//! `GET /comments/{videoid}`: the comments of a video, newest first, page by page, in both directions.
//!
//! Every page is sorted newest first, whichever way it was asked for; its `next` leads to older comments and its
//! `newer` to newer ones.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use liverank_adapters::Archive;
use liverank_adapters::archive::{self, CommentPage};
use liverank_core::{Comment, CommentId, Invalid, UserId, VideoId};
use liverank_runtime::identity::sent::ForwardedUser;
use liverank_runtime::params::{PathVideo, QueryParams};
use liverank_runtime::problem::STORE_RETRY_AFTER;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::CommentService;

/// The time that the archive may take for one step of a page.
const PAGE_STEP_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 1_000;
/// The maximum size of a page, in bytes: a thousand comments of a usual length. A page of long comments has fewer
/// comments, and says where the next page begins.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// The maximum number of comments read from the archive in one step: of the longest comments, some 1.6 MB.
const MAX_COMMENTS_A_STEP: usize = 100;
/// The maximum number of steps for one page: twice what the longest page needs. If more than half of the comments were
/// removed, a page is shorter than asked for.
const MAX_STEPS: usize = 2 * MAX_LIMIT as usize / MAX_COMMENTS_A_STEP;
/// The maximum number of pages that are being answered at the same time, each until its last byte: slow clients can
/// make this process hold this many megabytes. One client has at most half; without viewers' tokens, a gateway is one
/// client.
pub(crate) const MAX_PAGES_AT_ONCE: usize = 256;
/// The greatest sequence number accepted in a query: the greatest integer that JavaScript, and with it most clients,
/// holds exactly.
const MAX_SEQ: u64 = (1 << 53) - 1;

/// The page that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AskedPage {
    /// The comments before this sequence number; `u64::MAX` if the client named none.
    Before(u64),
    /// The comments that follow this sequence number.
    After(u64),
    /// The comments around the one with this id.
    Around(CommentId),
}

/// The video whose history is read, and the viewer who asks for it.
struct HistoryReading<'a> {
    service: &'a CommentService,
    video: &'a VideoId,
    /// The viewer who asks, who is also shown its own shadowed comments; `None` if unknown.
    viewer: Option<UserId>,
}

impl AskedPage {
    fn from_params(params: &QueryParams) -> Result<Self, Invalid> {
        let before = params.optional_number("before", 1..=MAX_SEQ)?;
        let after = params.optional_number("after", 0..=MAX_SEQ)?;
        let around =
            params.optional_text("around")?.map(|id| CommentId::parse_field("around", id)).transpose()?;
        match (before, after, around) {
            (before, None, None) => Ok(Self::Before(before.unwrap_or(u64::MAX))),
            (None, Some(after), None) => Ok(Self::After(after)),
            (None, None, Some(id)) => Ok(Self::Around(id)),
            (_, _, None) => Err(Invalid::new("after", "cannot go together with before")),
            (_, _, Some(_)) => Err(Invalid::new("around", "cannot go together with before or after")),
        }
    }
}

/// `GET /comments/{videoid}?before=&after=&around=&limit=&userid=`.
pub(crate) async fn comments(
    State(service): State<Arc<CommentService>>,
    sent_by: ForwardedUser,
    PathVideo(video): PathVideo,
    params: QueryParams,
    exchange: RequestExchange,
) -> Result<Response, Problem> {
    params.expect_only(&["before", "after", "around", "limit", "userid"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let asked = AskedPage::from_params(&params)?;
    let named = params.optional_text("userid")?.map(|id| UserId::parse_field("userid", id)).transpose()?;
    // If viewers authenticate at a gateway, the gateway names the viewer, and `userid` is ignored.
    let viewer = if sent_by.is_from_gateway() { sent_by.user().cloned() } else { named };
    let Some(place) = service.page_permits.try_take_units(exchange.client(), 1) else {
        let detail = "too many pages of history are being answered: try again";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_retry_after(STORE_RETRY_AFTER));
    };
    exchange.keep_until_answered(place);
    let page = read_page(&HistoryReading { service: &service, video: &video, viewer }, asked, limit).await?;
    let json = serde_json::to_vec(&page).expect("strings and numbers always serialise");
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// A page of history, as it is encoded in the answer.
#[derive(Default, Serialize)]
struct PageJson {
    comments: Vec<Box<RawValue>>,
    /// The `before` of the page of older comments; `None` if there are none.
    next: Option<u64>,
    /// The `after` of the page of newer comments; absent if there were none when this page was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    newer: Option<u64>,
    /// The pinned comment; only in the newest page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Box<RawValue>>,
}

async fn read_page(
    reading: &HistoryReading<'_>,
    asked: AskedPage,
    limit: usize,
) -> Result<PageJson, Problem> {
    match asked {
        AskedPage::Before(before) => {
            let older = read_segment(reading, CommentPage::Before(before), limit, MAX_PAGE_BYTES).await?;
            // A page before a number has newer comments; only the page without a number is the newest one.
            let newer = (before <= MAX_SEQ).then(|| older.first_seq.unwrap_or(before - 1));
            let pinned = if newer.is_none() { pinned_comment(reading).await? } else { None };
            Ok(PageJson { next: older.next_before(), newer, comments: older.lines, pinned })
        }
        AskedPage::After(after) => {
            let newer = read_segment(reading, CommentPage::After(after), limit, MAX_PAGE_BYTES).await?;
            let next = newer.first_seq.map_or(after.checked_add(1), Some).filter(|&seq| seq > 1);
            let (comments, newer) =
                (newer.lines.into_iter().rev().collect(), newer.last_seq.filter(|_| newer.may_have_more));
            Ok(PageJson { comments, next, newer, pinned: None })
        }
        AskedPage::Around(id) => page_around(reading, &id, limit).await,
    }
}

/// Returns the page with the comment `id` in its middle; if the page has an even number of comments, one more is newer
/// than `id`. Answers 404 if there is no such comment.
async fn page_around(
    reading: &HistoryReading<'_>,
    id: &CommentId,
    limit: usize,
) -> Result<PageJson, Problem> {
    let HistoryReading { service, video, viewer } = reading;
    let asked = service
        .archive
        .query(PAGE_STEP_TIMEOUT, |archive| async move { archive.newest_comment(video, id).await });
    let found = asked
        .await
        .map_err(|_| archive_unavailable_problem())?
        .filter(|found| found.is_shown_to(viewer.as_ref()));
    let Some(Comment { seq, .. }) = found else {
        return Err(Problem::not_found("the video has no such comment").with_member("field", "around"));
    };
    // Each side gets half of the bytes, so that long comments on one side do not push the comment itself out.
    let newer = read_segment(reading, CommentPage::After(seq), limit / 2, MAX_PAGE_BYTES / 2).await?;
    let older =
        read_segment(reading, CommentPage::Before(seq + 1), limit - newer.lines.len(), MAX_PAGE_BYTES / 2)
            .await?;
    let (next, more) = (older.next_before(), newer.may_have_more.then(|| newer.last_seq.unwrap_or(seq)));
    let mut comments = newer.reversed_lines();
    comments.extend(older.lines);
    Ok(PageJson { comments, next, newer: more, pinned: None })
}

/// The entries of a channel that were read in one direction, with the JSON of each comment that is shown.
#[derive(Default)]
struct HistorySegment {
    lines: Vec<Box<RawValue>>,
    /// The sequence number of the first entry read.
    first_seq: Option<u64>,
    /// The sequence number of the last entry read.
    last_seq: Option<u64>,
    /// Whether there may be more entries after the last one.
    may_have_more: bool,
}

impl HistorySegment {
    /// Returns the `before` of the next page, if the entries were read from new to old; `None` if there is no next
    /// page.
    fn next_before(&self) -> Option<u64> {
        self.last_seq.filter(|&seq| self.may_have_more && seq > 1)
    }

    fn reversed_lines(mut self) -> Vec<Box<RawValue>> {
        self.lines.reverse();
        self.lines
    }
}

fn archive_unavailable_problem() -> Problem {
    Problem::part_unavailable("the archive is away: try again")
}

/// Encodes the comment as JSON.
fn comment_json(comment: &Comment) -> Box<RawValue> {
    to_raw_value(&comment_json::with_seq(comment)).expect("strings and numbers always serialise")
}

/// Returns the video's pinned comment as JSON; `None` if no comment is pinned.
async fn pinned_comment(reading: &HistoryReading<'_>) -> Result<Option<Box<RawValue>>, Problem> {
    let video = reading.video;
    let ask = |archive: Arc<dyn Archive>| async move { archive::pinned_comment(&*archive, video).await };
    let found = reading
        .service
        .archive
        .query(PAGE_STEP_TIMEOUT, ask)
        .await
        .map_err(|_| archive_unavailable_problem())?;
    Ok(found.as_ref().map(comment_json))
}

/// Reads up to `limit` comments and `most_bytes` bytes in one direction. Reads in steps, so that memory stays bounded
/// also while reading.
async fn read_segment(
    reading: &HistoryReading<'_>,
    from: CommentPage,
    limit: usize,
    most_bytes: usize,
) -> Result<HistorySegment, Problem> {
    let HistoryReading { service, video, viewer } = reading;
    let (mut run, mut bytes, mut from) = (HistorySegment::default(), 0, from);
    for steps in 0.. {
        // So many entries were removed that the rest is left for the client's next request.
        if run.lines.len() >= limit || steps == MAX_STEPS {
            break;
        }
        let step = (limit - run.lines.len()).min(MAX_COMMENTS_A_STEP);
        let asked = service
            .archive
            .query(PAGE_STEP_TIMEOUT, |archive| async move { archive.comments(video, from, step).await });
        let found = asked.await.map_err(|_| archive_unavailable_problem())?;
        for entry in &found {
            // A removed comment and the entry that removed it have a sequence number and no line.
            let line = entry.is_shown_to(viewer.as_ref()).then(|| comment_json(entry));
            let size = line.as_ref().map_or(0, |json| json.get().len());
            if bytes + size > most_bytes && !run.lines.is_empty() {
                run.may_have_more = true;
                return Ok(run);
            }
            bytes += size;
            run.first_seq.get_or_insert(entry.seq);
            run.last_seq = Some(entry.seq);
            from = match from {
                CommentPage::Before(_) => CommentPage::Before(entry.seq),
                CommentPage::After(_) => CommentPage::After(entry.seq),
            };
            run.lines.extend(line);
        }
        if found.len() < step {
            return Ok(run);
        }
    }
    run.may_have_more = true;
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_query(query: &str) -> Result<AskedPage, &'static str> {
        let params = QueryParams::from_uri(&format!("/comments/v?{query}").parse().unwrap());
        AskedPage::from_params(&params).map_err(|invalid| invalid.field)
    }

    #[test]
    fn history_takes_only_one_of_before_after_and_around() {
        assert_eq!(parse_query("limit=3"), Ok(AskedPage::Before(u64::MAX)));
        assert_eq!(parse_query("before=7"), Ok(AskedPage::Before(7)));
        assert_eq!(parse_query("after=0"), Ok(AskedPage::After(0)));
        assert_eq!(parse_query("around=c%201"), Ok(AskedPage::Around(CommentId::parse("c 1").unwrap())));
        assert_eq!(parse_query("before=7&after=1"), Err("after"));
        for both in ["before=7&around=c", "after=7&around=c", "before=2&after=1&around=c", "around="] {
            assert_eq!(parse_query(both), Err("around"), "{both}");
        }
        assert_eq!((parse_query("before=0"), parse_query("after=-1")), (Err("before"), Err("after")));
    }
}
