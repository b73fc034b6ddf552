//! The comment service: takes comments into the log, and answers history from the archive.
//!
//! | module | does |
//! |---|---|
//! | `post` | takes a comment: into the log and nowhere else, answered once it is durable there |
//! | `history` | answers the comments of a video |
//! | `restrictions` | whose comments are refused, as moderators say |
//! | `rules` | what comments must be like, as moderators and the settings say |
//! | [`hook`] | asks a service of the user's own before a comment is taken |
//! | `statistics` | passes `GET /statistics` on |
//! | `registrar` | has the manager register videos that were commented on |
//! | `tally` | counts, for the statistics service |
//!
//! It keeps nothing but who commented lately, for slow mode and the like: any number of them may run side by side, and
//! killing one costs its open requests only.

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
use liverank_protocol::access::CalledService;
use liverank_runtime::identity::guard::GuardedRoutes;
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::peer::{ManagerUrls, ServiceReplicas};
use liverank_runtime::{Identity, ServiceContext, Tasks, cors, report, server};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
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

/// What reads bytes from outside here: for the harness in `fuzz/`.
#[doc(hidden)]
pub mod parsers {
    pub use crate::post::CommentDraft;
}

/// Comments with an idempotency key that are remembered here, for repeats that come before the archive has them: at
/// most 16 KiB each.
const REMEMBERED: usize = 1_000;
/// How long they are: consumers are seconds behind at most, or `known` finds the archive away anyway.
const REMEMBER: Duration = Duration::from_mins(1);
/// How often dependencies are looked at, for `/readyz` to be right where no request asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How the comment service is set up.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where the managers are.
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
    /// Who is asked before a comment is taken.
    #[command(flatten)]
    pub hook: HookArgs,
}

/// Shared by all requests.
struct CommentService {
    log: Arc<dyn EventLog>,
    archive: CircuitBreaker,
    /// Pages of history being answered.
    pages: Arc<Semaphore>,
    statistics: Option<ServiceReplicas>,
    registrar: VideoRegistrar,
    restrictions: Restrictions,
    rules: Rules,
    /// Who is asked before a comment is taken, where somebody is.
    hook: Option<Hook>,
    acknowledged: Mutex<RecentEntries<CommentId, UnnumberedComment>>,
    tally: Mutex<CommentTally>,
    metrics: CommentMetrics,
}

impl CommentService {
    fn acknowledged(&self) -> MutexGuard<'_, RecentEntries<CommentId, UnnumberedComment>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> MutexGuard<'_, CommentTally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the shell's shutdown.
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
        pages: Arc::new(Semaphore::new(history::MAX_PAGES_AT_ONCE)),
        statistics: ServiceReplicas::new(peers, config.statistics_url),
        registrar: VideoRegistrar::start(managers, &mut tasks, &shell, metrics.clone()),
        restrictions: Restrictions::default(),
        rules: Rules::new(config.comment_rules_file.as_deref())?,
        hook,
        acknowledged: Mutex::new(RecentEntries::new(REMEMBERED, REMEMBER)),
        tally: Mutex::default(),
        metrics,
    });
    shell.health.note_starting(restrictions::PART);
    tasks
        .spawn("follow_restrictions", restrictions::follow_restrictions(Arc::clone(&service), shell.clone()));
    tasks.spawn("report", report_counts(Arc::clone(&service), shell.clone()));
    tasks.spawn("watch_stores", look_after_stores(Arc::clone(&service), shell.clone()));
    let origins = Arc::clone(&shell.http_settings.origins);
    let serving = async {
        tokio::select! {
            served = server::serve_until_shutdown(CalledService::Comment, listener, router(service, origins, &shell.identity), &shell) => served,
            Err(unusable) = open(log, &shell) => Err(unusable),
        }
    };
    tasks.run_alongside(serving).await
}

/// Opens the log, however long it is away; posts are answered 503 until then. An error where nothing but somebody's
/// hand can help; does not end otherwise.
async fn open(log: Arc<dyn EventLog>, shell: &ServiceContext) -> anyhow::Result<()> {
    while let Err(error) = log.open().await {
        if !error.is_transient() {
            return Err(error).context("opening the log");
        }
        shell.health.note_dependency("log", Err(error.to_string()));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    std::future::pending().await
}

async fn report_counts(service: Arc<CommentService>, shell: ServiceContext) {
    let instance = format!("comment-{}", to_hex(&rand::random::<[u8; 4]>()));
    let statistics = service.statistics.clone();
    report::send_reports(statistics, "comment-api-statistics", shell, || {
        service.tally().to_report(&instance)
    })
    .await;
}

async fn look_after_stores(service: Arc<CommentService>, shell: ServiceContext) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shell.health.note_dependency("log", service.log.write_health().map_err(|error| error.to_string()));
        service.archive.look(LOOK_EVERY).await;
    }
}

fn router(service: Arc<CommentService>, origins: Arc<AllowedOrigins>, identity: &Identity) -> Router {
    let (router, _) = GuardedRoutes::of_service(CalledService::Comment)
        .post("/comment", post(post::comment))
        .get("/comments/{videoid}", get(history::comments))
        .get("/statistics", get(statistics::statistics))
        .get("/health", get(health))
        .into_guarded_routers(identity, None);
    server::with_problem_fallbacks(router)
        .with_state(service)
        .layer(from_fn_with_state(origins, cors::answer_cross_origin))
}

async fn health() -> Json<Value> {
    Json(json!({"status": "healthy", "service": "comment"}))
}
