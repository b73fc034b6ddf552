//! The statistics service: merges the reports of all services into one answer, in the format of the comments seed.
//!
//! | module | does |
//! |---|---|
//! | [`reports`] | parses reports |
//! | [`roster`] | keeps the last report of each sender, within bounds |
//! | [`board`] | merges the reports into the answer |
//!
//! The service keeps no durable state: after a restart, the next round of reports fills it again. If there are several
//! statistics services, each shows only the reports that it received itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use liverank_adapters::Archive;
use liverank_core::{Invalid, ReaderId};
use liverank_protocol::access::{CalledService, CallerRole};
use liverank_protocol::{ReportAnswer, ServiceHealth};
use liverank_runtime::identity::guard::{OptionalCaller, RoutesByAccess};
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::params::QueryParams;
use liverank_runtime::problem::PortOwner;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Identity, Problem, ServiceContext, Tasks, body, comment_json, cors, now_ms, server};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

pub mod board;
pub mod reports;
pub mod roster;

use board::{LatestReports, MAX_LISTED_ITEMS, StoredComments};
use reports::KeptReport;
use roster::{ReportRefusal, ReportSource};

/// Maximum size of a report in bytes: two lists of a thousand videos with the longest ids fit.
const MAX_REPORT_BYTES: usize = 2 * 1024 * 1024;
/// Maximum number of reports that are parsed at once; one more gets 429.
const MAX_REPORTS_AT_ONCE: usize = 128;
/// The time after which a client whose report had no room may send another: a client that was silent for a minute is
/// forgotten, and so leaves room.
const REPORT_RETRY_AFTER: Duration = Duration::from_mins(1);
/// The time for which the public answer of `GET /statistics` is reused: making an answer blocks all incoming reports.
const SUMMARY_FRESH_FOR: Duration = Duration::from_secs(1);
/// The time between two queries of the archive for its number of comments: as often as services report.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// Maximum time for the archive to count its comments; after that, counting is given up until the next time.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// The flags of the statistics service: there are none.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Config {}

/// The state that all requests share.
struct Statistics {
    latest_reports: Mutex<LatestReports>,
    stored_comments: Mutex<StoredComments>,
    shown_summary: Mutex<ShownSummary>,
    parse_permits: Semaphore,
    identity: Identity,
}

impl Statistics {
    fn lock_latest_reports(&self) -> MutexGuard<'_, LatestReports> {
        self.latest_reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_stored_comments(&self) -> MutexGuard<'_, StoredComments> {
        self.stored_comments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the present answer of `GET /statistics` as JSON; with `all` it tells who watches what.
    fn summary_json(&self, listed: usize, all: bool) -> Bytes {
        let stored = *self.lock_stored_comments();
        let mut board = self.lock_latest_reports();
        board.expire(Instant::now());
        let mut summary = board.to_summary(listed, stored, comment_json::format_time(now_ms()));
        if !all {
            summary.hide_viewers();
        }
        serde_json::to_vec(&summary).expect("strings and numbers always serialise").into()
    }
}

/// The last public answer of `GET /statistics`, for callers without a token of the system, and the time at which it was
/// made.
#[derive(Default)]
struct ShownSummary(Option<(Instant, Bytes)>);

impl ShownSummary {
    /// Returns the last public answer if it is younger than [`SUMMARY_FRESH_FOR`], otherwise a new one from `make`.
    fn bytes_at(&mut self, now: Instant, make: impl FnOnce() -> Bytes) -> Bytes {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < SUMMARY_FRESH_FOR;
        if let Some((_, bytes)) = self.0.as_ref().filter(|(at, _)| is_fresh(*at)) {
            return bytes.clone();
        }
        let bytes = make();
        self.0 = Some((now, bytes.clone()));
        bytes
    }
}

/// Runs the statistics service until shutdown.
pub async fn run(
    archive: Arc<dyn Archive>,
    listener: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    let statistics = Arc::new(Statistics {
        latest_reports: Mutex::default(),
        stored_comments: Mutex::default(),
        shown_summary: Mutex::default(),
        parse_permits: Semaphore::new(MAX_REPORTS_AT_ONCE),
        identity: shell.identity.clone(),
    });
    let router = router(Arc::clone(&statistics), Arc::clone(&shell.http_settings.allowed_origins));
    let mut tasks = Tasks::new(&shell);
    tasks.spawn("housekeeping", count_and_expire(statistics, archive, shell.clone()));
    tasks
        .run_alongside(server::serve_until_shutdown(CalledService::Statistics, listener, router, &shell))
        .await
}

/// Asks the archive for its number of comments and removes old reports every 2 s, also while nobody asks for
/// statistics.
async fn count_and_expire(statistics: Arc<Statistics>, archive: Arc<dyn Archive>, shell: ServiceContext) {
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        statistics.lock_latest_reports().expire(Instant::now());
        let counted = match timeout(COUNT_TIMEOUT, archive.comment_count()).await {
            Ok(Ok(count)) => {
                statistics.lock_stored_comments().total_comments = Some(count);
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("did not count its comments within {} s", COUNT_TIMEOUT.as_secs())),
        };
        shell.health.note_dependency("archive", counted);
    }
}

fn router(statistics: Arc<Statistics>, origins: Arc<AllowedOrigins>) -> Router {
    let (public, partly) = RoutesByAccess::of_service(CalledService::Statistics)
        .get("/statistics", get(get_statistics))
        .post("/comment-api-statistics", post(post_comment_report))
        .post("/reader-api-statistics", post(post_reader_report))
        .post("/reader-api-manager-statistics", post(post_manager_report))
        .post("/client-statistics", post(post_client_report))
        .get("/health", get(get_health))
        .into_guarded_routers(&statistics.identity, None);
    let router =
        server::with_problem_fallbacks(PortOwner::Service(CalledService::Statistics), public.merge(partly))
            .with_state(statistics);
    router.layer(from_fn_with_state(origins, cors::answer_cross_origin))
}

async fn get_health() -> Json<ServiceHealth> {
    Json(ServiceHealth::healthy("statistics"))
}

/// Answers `GET /statistics`. Anybody gets the counts and the beginning of each list. Only people who look after the
/// system get whole lists, and learn who watches what.
async fn get_statistics(
    State(statistics): State<Arc<Statistics>>,
    Extension(known): Extension<OptionalCaller>,
    params: QueryParams,
) -> Result<Response, Problem> {
    params.expect_only(&["full"])?;
    let all = known.has_any_role(&[CallerRole::Operator, CallerRole::Cli]);
    let listed = match params.optional_flag("full")? {
        true if all => usize::MAX,
        true => {
            let detail = "full takes a token of the role cli or operator";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail).with_challenge("Bearer"));
        }
        false => MAX_LISTED_ITEMS,
    };
    let json = if all {
        statistics.summary_json(listed, all)
    } else {
        let make = || statistics.summary_json(MAX_LISTED_ITEMS, all);
        statistics.shown_summary.lock().unwrap_or_else(PoisonError::into_inner).bytes_at(Instant::now(), make)
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn post_comment_report(
    State(statistics): State<Arc<Statistics>>,
    exchange: RequestExchange,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportAnswer>, Problem> {
    let sender = statistics.report_sender(CallerRole::Comment, &exchange, &headers);
    let (report, bytes) =
        parse_report(&statistics, &headers, body, reports::ReceivedCommentReport::parse).await?;
    let now = Instant::now();
    report_answer(statistics.lock_latest_reports().keep_comment_report(now, sender.source, report, bytes))
}

async fn post_reader_report(
    State(statistics): State<Arc<Statistics>>,
    exchange: RequestExchange,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportAnswer>, Problem> {
    let sender = statistics.report_sender(CallerRole::Reader, &exchange, &headers);
    let (report, bytes) =
        parse_report(&statistics, &headers, body, reports::ReceivedReaderReport::parse).await?;
    if sender.reader.is_some_and(|own| own.as_str() != report.instance_id) {
        let detail = "instanceId: a reader speaks for itself, and this is not its name";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail).with_member("field", "instanceId"));
    }
    let now = Instant::now();
    report_answer(statistics.lock_latest_reports().keep_reader_report(now, sender.source, report, bytes))
}

async fn post_manager_report(
    State(statistics): State<Arc<Statistics>>,
    exchange: RequestExchange,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportAnswer>, Problem> {
    let sender = statistics.report_sender(CallerRole::Manager, &exchange, &headers);
    let (report, bytes) =
        parse_report(&statistics, &headers, body, reports::ReceivedManagerReport::parse).await?;
    let now = Instant::now();
    report_answer(statistics.lock_latest_reports().keep_manager_report(now, sender.source, report, bytes))
}

async fn post_client_report(
    State(statistics): State<Arc<Statistics>>,
    exchange: RequestExchange,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportAnswer>, Problem> {
    // No process of ours is a client.
    let sender = statistics.report_sender(CallerRole::Statistics, &exchange, &headers);
    let (report, bytes) =
        parse_report(&statistics, &headers, body, reports::ReceivedClientReport::parse).await?;
    let now = Instant::now();
    report_answer(statistics.lock_latest_reports().keep_client_report(now, sender.source, report, bytes))
}

/// The sender of a report.
struct ReportSender {
    source: ReportSource,
    /// The sender's reader id, if the sender is a reader and has proved that by a token.
    reader: Option<ReaderId>,
}

impl Statistics {
    /// Returns the sender of a report that processes of the role `role` send: the process that a token of this role
    /// names, otherwise the client's address. Everybody may report, so that any other token is ignored.
    fn report_sender(
        &self,
        role: CallerRole,
        exchange: &RequestExchange,
        headers: &HeaderMap,
    ) -> ReportSender {
        let caller = self.identity.caller_of_request(headers, CalledService::Statistics).ok().flatten();
        if caller.as_ref().is_some_and(|caller| caller.role() == CallerRole::Gateway) {
            exchange.note_sent_by_gateway();
        }
        let Some(caller) = caller.filter(|caller| caller.role() == role) else {
            return ReportSender { source: ReportSource::at(exchange.client()), reader: None };
        };
        let reader = caller.reader_id().cloned();
        ReportSender { source: ReportSource::Known(caller), reader }
    }
}

/// Returns the HTTP answer to a report: success if it was kept, otherwise the problem.
fn report_answer(kept: Result<(), ReportRefusal>) -> Result<Json<ReportAnswer>, Problem> {
    match kept {
        Ok(()) => Ok(Json(ReportAnswer { success: true })),
        Err(taken @ ReportRefusal::NameTaken) => Err(Problem::new(StatusCode::FORBIDDEN, taken.to_string())),
        Err(full @ ReportRefusal::NoRoom) => {
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, full.to_string())
                .with_retry_after(REPORT_RETRY_AFTER))
        }
    }
}

async fn parse_report<T: KeptReport>(
    statistics: &Statistics,
    headers: &HeaderMap,
    sent: Body,
    parse: impl Fn(&Map<String, Value>) -> Result<T, Invalid>,
) -> Result<(T, usize), Problem> {
    body::expect_json(headers)?;
    let bytes = body::read_body(headers, sent, MAX_REPORT_BYTES).await?;
    // The permit is taken only once the body is whole, so that a slow sender does not keep others waiting.
    let Ok(_permit) = statistics.parse_permits.try_acquire() else {
        let detail = "too many reports are being read: try again";
        return Err(
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_retry_after(Duration::from_secs(1))
        );
    };
    match body::parse_json_body(&bytes)? {
        Value::Object(object) => {
            let report = parse(&object)?;
            let kept = report.kept_bytes();
            Ok((report, kept))
        }
        _ => Err(Invalid::new("body", "must be a JSON object").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_anybody_is_shown_is_made_once_a_second() {
        let (mut shown, start) = (ShownSummary::default(), Instant::now());
        let mut asked = |millis, made: &'static str| {
            shown.bytes_at(start + Duration::from_millis(millis), || Bytes::from_static(made.as_bytes()))
        };
        assert_eq!(asked(0, "first"), "first");
        assert_eq!(asked(999, "second"), "first");
        assert_eq!(asked(1000, "third"), "third");
        assert_eq!(asked(1001, "fourth"), "third");
    }
}
