//! `GET /comments/{videoid}`: the comments of a video, newest first, page by page, in both directions.
//!
//! Whichever way a page was found, it is newest first, `next` leads to older comments and `newer` to newer ones.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use liverank_adapters::Archive;
use liverank_adapters::archive::{self, CommentPage};
use liverank_core::{Comment, CommentId, Invalid, UserId, VideoId};
use liverank_runtime::identity::sent::RequestSender;
use liverank_runtime::params::{PathVideo, QueryParams};
use liverank_runtime::problem::STORE_RETRY_AFTER;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Problem, comment_json};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::CommentService;

/// How long the archive may take for a step of a page.
const PAGE_STEP_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 1_000;
/// The largest page: a thousand comments of a usual length. A page of long comments has fewer of them, and says where the
/// next page begins.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// Comments read at once: of the longest ones, some 1.6 MB.
const MAX_COMMENTS_A_STEP: usize = 100;
/// Steps of a page: twice what the longest takes. Where more than half was removed, a page is shorter.
const MAX_STEPS: usize = 2 * MAX_LIMIT as usize / MAX_COMMENTS_A_STEP;
/// Pages being answered, each until its last byte: slow clients can make this process hold this many megabytes.
pub(crate) const MAX_PAGES_AT_ONCE: usize = 128;
/// The greatest number that JavaScript, and with it most clients, holds exactly.
const MAX_SEQ: u64 = (1 << 53) - 1;

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AskedPage {
    /// The comments before this number, which is beyond all of them where none is given.
    Before(u64),
    /// The comments next to this number, after it.
    After(u64),
    /// The comments around this one.
    Around(CommentId),
}

/// Whose history it is, and for whom.
struct HistoryReading<'a> {
    service: &'a CommentService,
    video: &'a VideoId,
    /// Who is shown shadowed comments of its own, too.
    viewer: Option<UserId>,
}

impl AskedPage {
    fn read(params: &QueryParams) -> Result<Self, Invalid> {
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
    sent_by: RequestSender,
    PathVideo(video): PathVideo,
    params: QueryParams,
    exchange: RequestExchange,
) -> Result<Response, Problem> {
    params.expect_only(&["before", "after", "around", "limit", "userid"])?;
    let limit = params.optional_number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT) as usize;
    let asked = AskedPage::read(&params)?;
    let named = params.optional_text("userid")?.map(|id| UserId::parse_field("userid", id)).transpose()?;
    // Where viewers show tokens at a gateway, it is the gateway that says who asks.
    let viewer = if sent_by.is_by_gateway() { sent_by.user().cloned() } else { named };
    let Ok(place) = Arc::clone(&service.pages).try_acquire_owned() else {
        let detail = "too many pages of history are being answered: try again";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(STORE_RETRY_AFTER));
    };
    exchange.keep_until_answered(place);
    let page = read_page(&HistoryReading { service: &service, video: &video, viewer }, asked, limit).await?;
    let json = serde_json::to_vec(&page).expect("strings and numbers always serialise");
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// A page of history.
#[derive(Default, Serialize)]
struct PageJson {
    comments: Vec<Box<RawValue>>,
    /// The `before` of the page of older comments.
    next: Option<u64>,
    /// The `after` of the page of newer ones; absent where there were none when this was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    newer: Option<u64>,
    /// The pinned comment, with the newest page.
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
            let older = read(reading, CommentPage::Before(before), limit, MAX_PAGE_BYTES).await?;
            // What was asked for says that there are newer ones, but for the page that nothing was asked of.
            let newer = (before <= MAX_SEQ).then(|| older.first_seq.unwrap_or(before - 1));
            let pinned = if newer.is_none() { pinned_comment(reading).await? } else { None };
            Ok(PageJson { next: older.next_before(), newer, comments: older.lines, pinned })
        }
        AskedPage::After(after) => {
            let newer = read(reading, CommentPage::After(after), limit, MAX_PAGE_BYTES).await?;
            let next = newer.first_seq.map_or(after.checked_add(1), Some).filter(|&seq| seq > 1);
            let (comments, newer) =
                (newer.lines.into_iter().rev().collect(), newer.last_seq.filter(|_| newer.may_have_more));
            Ok(PageJson { comments, next, newer, pinned: None })
        }
        AskedPage::Around(id) => page_around(reading, &id, limit).await,
    }
}

/// The page that has this comment in its middle: of an even number of lines, one more is newer than it.
async fn page_around(
    reading: &HistoryReading<'_>,
    id: &CommentId,
    limit: usize,
) -> Result<PageJson, Problem> {
    let HistoryReading { service, video, viewer } = reading;
    let asked = service
        .archive
        .ask(PAGE_STEP_TIMEOUT, |archive| async move { archive.newest_comment(video, id).await });
    let found =
        asked.await.map_err(|_| archive_away_problem())?.filter(|found| found.is_shown_to(viewer.as_ref()));
    let Some(Comment { seq, .. }) = found else {
        return Err(Problem::not_found("the video has no such comment").with_member("field", "around"));
    };
    // Half of the room for each side, so that long comments of one do not push the comment out.
    let newer = read(reading, CommentPage::After(seq), limit / 2, MAX_PAGE_BYTES / 2).await?;
    let older =
        read(reading, CommentPage::Before(seq + 1), limit - newer.lines.len(), MAX_PAGE_BYTES / 2).await?;
    let (next, more) = (older.next_before(), newer.may_have_more.then(|| newer.last_seq.unwrap_or(seq)));
    let mut comments = newer.reversed_lines();
    comments.extend(older.lines);
    Ok(PageJson { comments, next, newer: more, pinned: None })
}

/// Entries read in one direction: a line for each comment.
#[derive(Default)]
struct HistoryRun {
    lines: Vec<Box<RawValue>>,
    /// The number of the first of them.
    first_seq: Option<u64>,
    /// The number of the last of them.
    last_seq: Option<u64>,
    /// Whether there may be more after them.
    may_have_more: bool,
}

impl HistoryRun {
    /// For those that were read from new to old: the `before` of the next page. The first comment has none before it.
    fn next_before(&self) -> Option<u64> {
        self.last_seq.filter(|&seq| self.may_have_more && seq > 1)
    }

    fn reversed_lines(mut self) -> Vec<Box<RawValue>> {
        self.lines.reverse();
        self.lines
    }
}

fn archive_away_problem() -> Problem {
    Problem::part_unavailable("the archive is away: try again")
}

/// The comment as JSON.
fn comment_json(comment: &Comment) -> Box<RawValue> {
    to_raw_value(&comment_json::with_seq(comment)).expect("strings and numbers always serialise")
}

/// The comment that is pinned.
async fn pinned_comment(reading: &HistoryReading<'_>) -> Result<Option<Box<RawValue>>, Problem> {
    let video = reading.video;
    let ask = |archive: Arc<dyn Archive>| async move { archive::pinned_comment(&*archive, video).await };
    let found =
        reading.service.archive.ask(PAGE_STEP_TIMEOUT, ask).await.map_err(|_| archive_away_problem())?;
    Ok(found.as_ref().map(comment_json))
}

/// Reads in steps, so that neither what is read nor what is read for it grows past a bound.
async fn read(
    reading: &HistoryReading<'_>,
    from: CommentPage,
    limit: usize,
    most_bytes: usize,
) -> Result<HistoryRun, Problem> {
    let HistoryReading { service, video, viewer } = reading;
    let (mut run, mut bytes, mut from) = (HistoryRun::default(), 0, from);
    for steps in 0.. {
        // Where so much was removed, the rest is worth another question.
        if run.lines.len() >= limit || steps == MAX_STEPS {
            break;
        }
        let step = (limit - run.lines.len()).min(MAX_COMMENTS_A_STEP);
        let asked = service
            .archive
            .ask(PAGE_STEP_TIMEOUT, |archive| async move { archive.comments(video, from, step).await });
        let found = asked.await.map_err(|_| archive_away_problem())?;
        for entry in &found {
            // What was removed, and that it was, has a number and no line.
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

    fn asked(query: &str) -> Result<AskedPage, &'static str> {
        let params = QueryParams::of(&format!("/comments/v?{query}").parse().unwrap());
        AskedPage::read(&params).map_err(|invalid| invalid.field)
    }

    #[test]
    fn history_takes_only_one_of_before_after_and_around() {
        assert_eq!(asked("limit=3"), Ok(AskedPage::Before(u64::MAX)));
        assert_eq!(asked("before=7"), Ok(AskedPage::Before(7)));
        assert_eq!(asked("after=0"), Ok(AskedPage::After(0)));
        assert_eq!(asked("around=c%201"), Ok(AskedPage::Around(CommentId::parse("c 1").unwrap())));
        assert_eq!(asked("before=7&after=1"), Err("after"));
        for both in ["before=7&around=c", "after=7&around=c", "before=2&after=1&around=c", "around="] {
            assert_eq!(asked(both), Err("around"), "{both}");
        }
        assert_eq!((asked("before=0"), asked("after=-1")), (Err("before"), Err("after")));
    }
}
