//! The gateway: the one origin to which browsers and other clients send all their requests.
//!
//! | module | does |
//! |---|---|
//! | [`router`] | maps each path to its handler, in the order of the API's documentation |
//! | `interact`, `batch` | append interactions to the log |
//! | `acknowledged` | refuses different content under an `event_id` that was used already |
//! | `videos` | answers ranked lists and single videos |
//! | `front_door` | passes on a viewer's comment stream, following the video from reader to reader |
//! | `proxy`, `upgrade` | pass all other requests on to the service that answers them |
//! | `moderation` | appends moderators' actions to the log; the audit log |
//! | `operate` | shows the state of the system to those who look after it |
//! | `freshness` | measures the time of interactions until the boards show them |
//! | `canary` | measures the system end to end, by a video of its own |
//! | `limits` | limits the requests, events and streams of one caller |
//! | `new_videos` | limits the new videos that one caller may bring |
//! | [`auth`] | authenticates viewers by their tokens, if they need one |
//! | `page` | the console page |
//! | [`openapi`] | the document of all HTTP endpoints |
//!
//! A gateway keeps no durable state: any number of gateways may run side by side, and killing one costs its open
//! requests only.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use liverank_adapters::Backends;
use liverank_protocol::access::CalledService;
use liverank_runtime::boards::BoardsArgs;
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::peer::ManagerUrls;
use liverank_runtime::streams::Streams;
use liverank_runtime::{Identity, ServiceContext, Tasks, server};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

mod acknowledged;
pub mod auth;
mod batch;
mod canary;
mod dependency;
mod freshness;
mod front_door;
mod interact;
mod limits;
mod metrics;
mod moderation;
mod new_videos;
pub mod openapi;
mod operate;
mod page;
mod proxy;
pub mod router;
mod upgrade;
mod upstream;
mod videos;

use acknowledged::ClaimedEventIds;
use auth::{Auth, AuthArgs};
pub use canary::CanaryArgs;
use dependency::{Dependency, Peer};
use front_door::RouteCache;
use limits::{LimitArgs, Limits};
use metrics::GatewayMetrics;
use moderation::reports::ReportLimits;
use new_videos::NewVideos;
pub use operate::demo;

/// The parsers of bytes from outside in this crate, for the fuzz targets in `fuzz/`.
#[doc(hidden)]
pub mod parsers {
    pub use crate::auth::{read_revoked, without_token};
    pub use crate::front_door::scan::{EventScanner, EventTooLong, MAX_EVENT_BYTES, last_event_id};
    pub use crate::videos::cursor::{cursor_after, parse_cursor as read_cursor};
}

/// The flags of a gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// The URLs of the managers.
    #[command(flatten)]
    pub managers: ManagerUrls,
    /// Addresses of the comment services, comma-separated.
    #[arg(
        long,
        env = "LIVERANK_COMMENT_URL",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://127.0.0.1:3000"
    )]
    pub comment_url: Vec<Url>,
    /// Addresses of the WebSocket services, comma-separated.
    #[arg(
        long,
        env = "LIVERANK_WEBSOCKET_URL",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://127.0.0.1:8081"
    )]
    pub websocket_url: Vec<Url>,
    /// Addresses of the statistics service, comma-separated.
    #[arg(
        long,
        env = "LIVERANK_STATISTICS_URL",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://127.0.0.1:5000"
    )]
    pub statistics_url: Vec<Url>,
    /// Maximum number of requests being answered at once; one more gets 429. The log accepts four times as many.
    #[arg(long, env = "LIVERANK_GATEWAY_MAX_IN_FLIGHT", value_name = "N", default_value_t = 4096,
          value_parser = parse_bound)]
    pub gateway_max_in_flight: u32,
    /// Maximum megabytes of batches (`POST /interactions`) being processed at once; a batch has at most one, and 1,000
    /// interactions. One more gets 429.
    #[arg(long, env = "LIVERANK_GATEWAY_MAX_BATCHES", value_name = "N", default_value_t = 8, value_parser = parse_bound)]
    pub gateway_max_batches: u32,
    /// Maximum number of open comment streams and WebSocket connections, if the limit of open files allows.
    #[arg(long, env = "LIVERANK_GATEWAY_MAX_STREAMS", value_name = "N", default_value_t = 50_000,
          value_parser = parse_bound)]
    pub gateway_max_streams: u32,
    /// Seconds that a viewer is kept waiting for a reader before being asked to come back.
    #[arg(long, env = "LIVERANK_READER_WAIT_SECONDS", value_name = "SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub reader_wait_seconds: u16,
    /// The interval of the canary's measurements.
    #[command(flatten)]
    pub canary: CanaryArgs,
    /// The limits of one caller.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// The flags for the keys by which viewers' tokens are checked.
    #[command(flatten)]
    pub auth: AuthArgs,
    /// The boards that are declared.
    #[command(flatten)]
    pub boards: BoardsArgs,
    /// Whoever reaches this gateway may delete comments and ban users.
    ///
    /// For trying out: only if viewers need no tokens, and on a loopback address only. With viewers' keys, moderators
    /// are known by the role `moderator` or `service` in the `roles` of their tokens, and this flag is refused.
    #[arg(long, env = "LIVERANK_MODERATION_OPEN", default_value_t = false)]
    pub moderation_open: bool,
    /// Maximum number of bans and mutes that may be in force, and of revocations.
    #[arg(skip = moderation::restrictions::MAX_RESTRICTIONS)]
    pub max_restrictions: usize,
    /// The handle of the demo's traffic; `None` if this process runs no demo.
    #[arg(skip)]
    pub demo: Option<demo::DemoHandle>,
}

/// Maximum number of requests that are passed on to the statistics service at once, up to 2 MiB each. There are few
/// such requests, and a refused one does no harm.
const MAX_REPORTS: usize = 16;

fn parse_bound(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(bound @ 1..=1_000_000) => Ok(bound),
        _ => Err("must be a whole number from 1 to 1000000".into()),
    }
}

fn max_streams(limits: &LimitArgs) -> usize {
    match limits.streams_per_address {
        0 => usize::MAX,
        most => most as usize,
    }
}

/// The state that all requests of a gateway share.
pub(crate) struct Gateway {
    pub(crate) backends: Backends,
    /// The log, the boards and the archive as dependencies, each with the flag whether it was away when it was last
    /// needed.
    pub(crate) log: Dependency,
    pub(crate) ranking: Dependency,
    pub(crate) archive: Dependency,
    pub(crate) manager: Peer,
    pub(crate) comment: Peer,
    pub(crate) websocket: Peer,
    pub(crate) statistics: Peer,
    pub(crate) client: upstream::Client,
    /// The permits of requests that are being answered.
    pub(crate) in_flight: Arc<Semaphore>,
    /// The permits of batches that are being processed, one for each byte. A batch holds its permits from when its
    /// body is whole until its answer is sent.
    pub(crate) batches: Arc<Semaphore>,
    /// The permits of reports and requests that are being passed on to the statistics service. Each holds a permit
    /// from when its body is whole until its answer is sent.
    pub(crate) reports: Arc<Semaphore>,
    pub(crate) streams: Streams,
    /// The ids of recently accepted events, to refuse other content under the same id.
    pub(crate) acknowledged: ClaimedEventIds,
    /// The limits of requests, events and streams of one caller.
    pub(crate) limits: Limits,
    /// The limit of new videos that one caller may bring.
    pub(crate) new_videos: NewVideos,
    /// The limit of comments that one caller may report.
    pub(crate) report_limits: ReportLimits,
    /// The restrictions in force, to limit how many moderators may give.
    pub(crate) restrictions: moderation::restrictions::Restrictions,
    /// The origins whose pages may send requests to the gateway.
    pub(crate) origins: Arc<AllowedOrigins>,
    pub(crate) routes: RouteCache,
    pub(crate) meta: videos::MetaCache,
    /// The boards that are declared.
    pub(crate) boards: videos::Boards,
    pub(crate) patience: Duration,
    /// The state of the system that is shown to those who look after it.
    pub(crate) operate: operate::Operate,
    /// The handle of the demo's traffic; `None` if this process runs no demo.
    pub(crate) demo: Option<demo::DemoHandle>,
    /// The identity that this process shows to our other processes.
    pub(crate) identity: Identity,
    /// The authentication of viewers; absent if viewers need no tokens.
    pub(crate) auth: Option<Auth>,
    /// Whether everybody who reaches this gateway may moderate.
    pub(crate) moderation_open: bool,
    pub(crate) metrics: GatewayMetrics,
}

impl Gateway {
    fn new(config: Config, backends: Backends, shell: &ServiceContext) -> anyhow::Result<Arc<Self>> {
        let peers = shell.peer_client();
        let peer = |name, urls| Peer::new(name, &peers, urls, shell.health.clone());
        let to_managers = peers.with_token_for(&shell.identity, CalledService::Manager);
        let store = || Dependency::new(shell.health.clone());
        let metrics = shell.metrics.register("gateway", GatewayMetrics::registered);
        let boards = videos::Boards::new(config.boards.read_declarations()?, &*backends.ranking);
        Ok(Arc::new(Self {
            backends,
            log: store(),
            ranking: store(),
            archive: store(),
            manager: Peer::new("manager", &to_managers, config.managers.manager_url, shell.health.clone()),
            comment: peer("comment", config.comment_url),
            websocket: peer("websocket", config.websocket_url),
            statistics: peer("statistics", config.statistics_url),
            client: upstream::upstream_client(&shell.peer_tls),
            in_flight: Arc::new(Semaphore::new(config.gateway_max_in_flight as usize)),
            batches: Arc::new(Semaphore::new(config.gateway_max_batches as usize * batch::MAX_BYTES)),
            reports: Arc::new(Semaphore::new(MAX_REPORTS)),
            streams: Streams::with_client_limit(
                config.gateway_max_streams as usize,
                max_streams(&config.limits),
                shell,
                metrics.open_streams.clone(),
            ),
            acknowledged: ClaimedEventIds::default(),
            limits: Limits::new(&config.limits),
            new_videos: NewVideos::new(config.limits.new_videos_per_caller),
            report_limits: ReportLimits::default(),
            restrictions: moderation::restrictions::Restrictions::new(config.max_restrictions),
            origins: Arc::clone(&shell.http_settings.origins),
            routes: RouteCache::default(),
            boards,
            meta: videos::MetaCache::default(),
            operate: operate::Operate::default(),
            demo: config.demo,
            patience: Duration::from_secs(config.reader_wait_seconds.into()),
            identity: shell.identity.clone(),
            auth: Auth::new(config.auth, shell.health.clone())?,
            moderation_open: config.moderation_open,
            metrics,
        }))
    }
}

/// Runs a gateway until shutdown. At shutdown, streams end at random times within the drain time. Returns when all
/// requests are drained, or when the drain time is over.
pub async fn run(
    config: Config,
    backends: Backends,
    listener: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    if config.moderation_open {
        let keys = config.auth.auth_jwks_file.is_some() || config.auth.auth_jwks_url.is_some();
        ensure!(!keys, "--moderation-open is for a gateway that asks for no tokens");
        let address = listener.local_addr().context("the listening socket has no address")?;
        ensure!(
            address.ip().is_loopback(),
            "--moderation-open lets whoever reaches this gateway moderate, and {address} is reached by others: listen \
             on a loopback address, or give it viewers' keys"
        );
    }
    let every = Duration::from_secs(config.canary.canary_seconds.into());
    let gateway = Gateway::new(config, backends, &shell)?;
    let mut tasks = Tasks::new(&shell);
    if gateway.auth.is_some() {
        tasks.spawn("keep_keys", keep_issuer_keys(Arc::clone(&gateway)));
        tasks.spawn("keep_revoked", keep_revoked_tokens(Arc::clone(&gateway)));
    }
    tasks.spawn("measure_freshness", freshness::measure_forever(Arc::clone(&gateway)));
    tasks.spawn("open_log", dependency::open_log(Arc::clone(&gateway)));
    gateway.metrics.canary.interval.set(every.as_secs() as i64);
    if !every.is_zero() {
        tasks.spawn("run_canary", canary::run(Arc::clone(&gateway), every));
    }
    tasks.spawn("watch_dependencies", dependency::watch(Arc::clone(&gateway)));
    let serving =
        server::serve_until_shutdown(CalledService::Gateway, listener, router::router(&gateway), &shell);
    let serving = async { tokio::join!(serving, gateway.streams.wait_until_drained()).0 };
    tasks.run_alongside(serving).await
}

async fn keep_issuer_keys(gateway: Arc<Gateway>) {
    if let Some(auth) = &gateway.auth {
        auth.issuer_keys.keep().await;
    }
}

async fn keep_revoked_tokens(gateway: Arc<Gateway>) {
    if let Some(auth) = &gateway.auth {
        auth.revoked_tokens.keep(&gateway).await;
    }
}
