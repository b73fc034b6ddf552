//! The comment service: writes posted comments to the log, and reads the history of a video from the archive.
//!
//! | module | does |
//! |---|---|
//! | `post` | accepts a comment: writes it to the log and nowhere else, and answers once it is durable there |
//! | `history` | answers requests for the comments of a video |
//! | `restrictions` | knows the bans and mutes of moderators, by which comments are refused |
//! | `rules` | checks comments against the rules of moderators and of the settings |
//! | [`hook`] | asks a service of your own before a comment is accepted |
//! | `statistics` | forwards `GET /statistics` to the statistics service |
//! | `registrar` | registers videos that were commented on with the manager |
//! | `tally` | counts comments for the statistics service |
//!
//! The service keeps no state but the recent comments' users, for slow mode and similar rules: any number of processes
//! may run side by side, and killing one costs only its open requests.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Json, Router};
use liverank_adapters::{Archive, EventLog};
use liverank_core::CommentId;
use liverank_core::comment::UnnumberedComment;
use liverank_core::comment::to_hex;
use liverank_protocol::ServiceHealth;
use liverank_protocol::access::CalledService;
use liverank_runtime::free_shares::CallerUnitPool;
use liverank_runtime::identity::guard::RoutesByAccess;
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::peer::{ManagerUrls, ServiceReplicas};
use liverank_runtime::problem::PortOwner;
use liverank_runtime::{Identity, ServiceContext, Tasks, cors, report, server};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

mod archive;
mod history;
pub mod hook;
mod metrics;
mod post;
mod recent;
mod registrar;
mod restrictions;
mod rules;
mod statistics;
mod tally;

use archive::CircuitBreaker;
use hook::{Hook, HookArgs};
use metrics::CommentMetrics;
use recent::RecentEntries;
use registrar::VideoRegistrar;
use restrictions::Restrictions;
use rules::Rules;
use tally::CommentTally;

/// The parsers of untrusted bytes, public for the harness in `fuzz/`.
#[doc(hidden)]
pub mod parsers {
    pub use crate::post::CommentDraft;
}

/// The maximum number of recent comments with an idempotency key that are remembered, for repeated posts that arrive
/// before the archive has the comment: at most 16 KiB each.
const MAX_REMEMBERED_COMMENTS: usize = 1_000;
/// The time for which recent comments with an idempotency key are remembered: usually a consumer writes a comment to
/// the archive within seconds.
const ACKNOWLEDGED_KEPT_FOR: Duration = Duration::from_mins(1);
/// The time between two checks of the log and the archive, so that `/readyz` is right also if there are no requests.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The settings of the comment service.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// The URLs of the managers.
    #[command(flatten)]
    pub managers: ManagerUrls,
    /// Addresses of the statistics service, comma-separated.
    #[arg(
        long,
        env = "LIVERANK_STATISTICS_URL",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://127.0.0.1:5000"
    )]
    pub statistics_url: Vec<Url>,
    /// A file (JSON) with rules that every comment has to keep: slow mode, members only, words and so on.
    ///
    /// It has the members of `rules` in `POST /moderation/rules` (docs/moderation.md), and is read at the start.
    #[arg(long, env = "LIVERANK_COMMENT_RULES_FILE", value_name = "FILE")]
    pub comment_rules_file: Option<PathBuf>,
    /// The settings of the hook, which is asked before a comment is accepted.
    #[command(flatten)]
    pub hook: HookArgs,
}

/// The state of a comment service, shared by all requests.
struct CommentService {
    log: Arc<dyn EventLog>,
    archive: CircuitBreaker,
    /// One place for each page of history that is being answered.
    page_permits: CallerUnitPool,
    statistics: Option<ServiceReplicas>,
    registrar: VideoRegistrar,
    restrictions: Restrictions,
    rules: Rules,
    /// The hook that is asked before a comment is accepted; `None` if none is set.
    hook: Option<Hook>,
    acknowledged: Mutex<RecentEntries<CommentId, UnnumberedComment>>,
    tally: Mutex<CommentTally>,
    metrics: CommentMetrics,
}

impl CommentService {
    fn acknowledged(&self) -> MutexGuard<'_, RecentEntries<CommentId, UnnumberedComment>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tally(&self) -> MutexGuard<'_, CommentTally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a comment service on `listener` until the shutdown signal of `shell`.
pub async fn run(
    config: Config,
    log: Arc<dyn EventLog>,
    archive: Arc<dyn Archive>,
    listener: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    let peers = shell.peer_client();
    let metrics = CommentMetrics::new(&shell.metrics);
    let managers = ServiceReplicas::new(peers.clone(), config.managers.manager_url);
    let mut tasks = Tasks::new(&shell);
    let hook = Hook::start(&config.hook, metrics.hook_metrics.clone(), &mut tasks)?;
    let service = Arc::new(CommentService {
        log: Arc::clone(&log),
        archive: CircuitBreaker::new(archive, shell.health.clone()),
        page_permits: CallerUnitPool::new(history::MAX_PAGES_AT_ONCE),
        statistics: ServiceReplicas::new(peers.clone(), config.statistics_url.clone()),
        registrar: VideoRegistrar::start(managers, &mut tasks, &shell, metrics.clone()),
        restrictions: Restrictions::default(),
        rules: Rules::new(config.comment_rules_file.as_deref())?,
        hook,
        acknowledged: Mutex::new(RecentEntries::new(MAX_REMEMBERED_COMMENTS, ACKNOWLEDGED_KEPT_FOR)),
        tally: Mutex::default(),
        metrics,
    });
    shell.health.note_starting(restrictions::PART);
    tasks
        .spawn("follow_restrictions", restrictions::follow_restrictions(Arc::clone(&service), shell.clone()));
    let to_statistics = peers.with_bound_token_for(&shell.identity, CalledService::Statistics);
    let statistics = ServiceReplicas::new(to_statistics, config.statistics_url);
    tasks.spawn("report", report_counts(Arc::clone(&service), statistics, shell.clone()));
    tasks.spawn("watch_stores", watch_stores(Arc::clone(&service), shell.clone()));
    let origins = Arc::clone(&shell.http_settings.allowed_origins);
    let serving = async {
        tokio::select! {
            served = server::serve_until_shutdown(CalledService::Comment, listener, router(service, origins, &shell.identity), &shell) => served,
            Err(unusable) = open_log(log, &shell) => Err(unusable),
        }
    };
    tasks.run_alongside(serving).await
}

/// Opens the log, and retries until the log is available; until then posts are answered with 503. Returns only an error
/// that does not pass without an administrator's action; never returns otherwise.
async fn open_log(log: Arc<dyn EventLog>, shell: &ServiceContext) -> anyhow::Result<()> {
    while let Err(error) = log.open().await {
        if !error.is_transient() {
            return Err(error).context("opening the log");
        }
        shell.health.note_dependency("log", Err(error.to_string()));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    std::future::pending().await
}

async fn report_counts(
    service: Arc<CommentService>,
    statistics: Option<ServiceReplicas>,
    shell: ServiceContext,
) {
    let instance = format!("comment-{}", to_hex(&rand::random::<[u8; 4]>()));
    report::send_reports(statistics, "comment-api-statistics", shell, || {
        service.lock_tally().to_report(&instance)
    })
    .await;
}

async fn watch_stores(service: Arc<CommentService>, shell: ServiceContext) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shell.health.note_dependency("log", service.log.check_writable().map_err(|error| error.to_string()));
        service.archive.probe_unless_well(LOOK_EVERY).await;
    }
}

fn router(service: Arc<CommentService>, origins: Arc<AllowedOrigins>, identity: &Identity) -> Router {
    let (router, _) = RoutesByAccess::of_service(CalledService::Comment)
        .post("/comment", post(post::comment))
        .get("/comments/{videoid}", get(history::comments))
        .get("/statistics", get(statistics::statistics))
        .get("/health", get(health))
        .into_guarded_routers(identity, None);
    server::with_problem_fallbacks(PortOwner::Service(CalledService::Comment), router)
        .with_state(service)
        .layer(from_fn_with_state(origins, cors::answer_cross_origin))
}

async fn health() -> Json<ServiceHealth> {
    Json(ServiceHealth::healthy("comment"))
}
