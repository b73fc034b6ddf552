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
use liverank_core::ZoneId;
use liverank_protocol::access::CalledService;
use liverank_runtime::boards::BoardsArgs;
use liverank_runtime::duration::{SettingUnit, parser_in_unit};
use liverank_runtime::free_shares::CallerUnitPool;
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::peer::ManagerUrls;
use liverank_runtime::streams::Streams;
use liverank_runtime::{Identity, ServiceContext, Tasks, server};
use reqwest::Url;
use tokio::net::TcpListener;

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
use dependency::{Dependency, PeerService};
use front_door::{HeldViewers, RouteCache};
use limits::{LimitArgs, Limits};
use metrics::GatewayMetrics;
use moderation::reports::ReportLimits;
use new_videos::NewVideoLimits;
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
    /// Zone of the data centre in which this gateway runs. Of a video's readers that have not much more than their share,
    /// those of this zone come first.
    #[arg(long, env = "LIVERANK_ZONE")]
    pub zone: Option<ZoneId>,
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
    /// Maximum number of requests being answered at once; one more gets 429, and so does a client that has as many as
    /// it leaves free. The log accepts twice as many.
    #[arg(long, env = "LIVERANK_GATEWAY_MAX_IN_FLIGHT", value_name = "N", default_value_t = 8192,
          value_parser = parse_bound)]
    pub gateway_max_in_flight: u32,
    /// Maximum megabytes of batches (`POST /interactions`) being processed at once; a batch has at most one, and 1,000
    /// interactions. One more gets 429, and so does a client that has as many as it leaves free.
    #[arg(long, env = "LIVERANK_GATEWAY_MAX_BATCHES", value_name = "N", default_value_t = 16, value_parser = parse_bound)]
    pub gateway_max_batches: u32,
    /// Maximum number of open comment streams and WebSocket connections, if the limit of open files allows.
    #[arg(long, env = "LIVERANK_GATEWAY_MAX_STREAMS", value_name = "N", default_value_t = 50_000,
          value_parser = parse_bound)]
    pub gateway_max_streams: u32,
    /// The time that a viewer is kept waiting for a reader before being asked to come back.
    #[arg(long, env = "LIVERANK_READER_WAIT_SECONDS", value_name = "DURATION", default_value = "20s",
          value_parser = parser_in_unit::<u16>(SettingUnit::Seconds, 1, 300))]
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

/// Maximum number of requests that are passed on to the statistics service at once, up to 2 MiB each; one client has
/// at most half. There are few such requests, and a refused one does no harm.
const MAX_STATISTICS_REQUESTS: usize = 32;
/// Maximum number of pages of comments that are passed on at once, up to 1 MiB each; one client has at most half. A
/// comment service gives one gateway as many.
const MAX_COMMENT_PAGE_REQUESTS: usize = 256;

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
    /// The log as a dependency of this gateway, as are the boards (`ranking_dependency`) and the archive
    /// (`archive_dependency`); each has a flag that is true if the store was unavailable at its last use.
    pub(crate) log_dependency: Dependency,
    pub(crate) ranking_dependency: Dependency,
    pub(crate) archive_dependency: Dependency,
    pub(crate) manager: PeerService,
    pub(crate) comment: PeerService,
    pub(crate) websocket: PeerService,
    pub(crate) statistics: PeerService,
    pub(crate) upstream_client: upstream::Client,
    /// The places of requests that are being answered.
    pub(crate) request_room: CallerUnitPool,
    /// The places of batches that are being processed, one for each byte. A batch holds its places from when its body is
    /// whole until its answer is sent.
    pub(crate) batch_room: CallerUnitPool,
    /// The places of reports and requests that are being passed on to the statistics service. Each holds a place from
    /// when its body is whole until its answer is sent.
    pub(crate) statistics_room: CallerUnitPool,
    /// The places of pages of comments that are being passed on, from when the page is asked for until it is sent.
    pub(crate) comment_page_room: CallerUnitPool,
    pub(crate) streams: Streams,
    /// The ids of recently accepted events, to refuse other content under the same id.
    pub(crate) claimed_event_ids: ClaimedEventIds,
    /// The limits of requests, events and streams of one caller.
    pub(crate) limits: Limits,
    /// The limit of new videos that one caller may bring.
    pub(crate) new_video_limits: NewVideoLimits,
    /// The limit of comments that one caller may report.
    pub(crate) report_limits: ReportLimits,
    /// The restrictions in force, counted here to limit the number of restrictions that moderators may set.
    pub(crate) restrictions: moderation::restrictions::Restrictions,
    /// The origins whose pages may send requests to the gateway.
    pub(crate) origins: Arc<AllowedOrigins>,
    /// The zone of this gateway; `None` if it is not known.
    pub(crate) zone: Option<ZoneId>,
    /// The viewers that this gateway holds at readers; counted only where it knows its zone.
    pub(crate) held_viewers: HeldViewers,
    pub(crate) routes: RouteCache,
    pub(crate) archive_meta_cache: videos::ArchiveMetaCache,
    /// The boards that are declared.
    pub(crate) boards: videos::Boards,
    pub(crate) reader_wait: Duration,
    /// The state behind `GET /operate`, which shows the system's operators how it is doing.
    pub(crate) operate_state: operate::OperateState,
    /// The handle of the demo's traffic; `None` if this process runs no demo.
    pub(crate) demo: Option<demo::DemoHandle>,
    /// The identity that this process shows to our other processes.
    pub(crate) identity: Identity,
    /// The authentication of viewers; absent if viewers need no tokens.
    pub(crate) auth: Option<Auth>,
    /// True if everybody who reaches this gateway may moderate.
    pub(crate) moderation_open: bool,
    pub(crate) metrics: GatewayMetrics,
}

impl Gateway {
    fn new(config: Config, backends: Backends, shell: &ServiceContext) -> anyhow::Result<Arc<Self>> {
        let peers = shell.peer_client();
        let peer = |name, urls| PeerService::new(name, &peers, urls, shell.health.clone());
        let to_managers = peers.with_token_for(&shell.identity, CalledService::Manager);
        let store = |name| Dependency::new(shell.health.clone(), name);
        let metrics = shell.metrics.register("gateway", GatewayMetrics::registered);
        let boards = videos::Boards::new(config.boards.read_declarations()?, &*backends.ranking);
        Ok(Arc::new(Self {
            backends,
            log_dependency: store("log"),
            ranking_dependency: store("ranking"),
            archive_dependency: store("archive"),
            manager: PeerService::new(
                "manager",
                &to_managers,
                config.managers.manager_url,
                shell.health.clone(),
            ),
            comment: peer("comment", config.comment_url),
            websocket: peer("websocket", config.websocket_url),
            statistics: peer("statistics", config.statistics_url),
            upstream_client: upstream::upstream_client(&shell.peer_tls),
            request_room: CallerUnitPool::new(config.gateway_max_in_flight as usize),
            batch_room: CallerUnitPool::new(config.gateway_max_batches as usize * batch::MAX_BYTES),
            statistics_room: CallerUnitPool::new(MAX_STATISTICS_REQUESTS),
            comment_page_room: CallerUnitPool::new(MAX_COMMENT_PAGE_REQUESTS),
            streams: Streams::with_client_limit(
                config.gateway_max_streams as usize,
                max_streams(&config.limits),
                shell,
                metrics.open_streams.clone(),
            ),
            claimed_event_ids: ClaimedEventIds::default(),
            limits: Limits::new(&config.limits),
            new_video_limits: NewVideoLimits::new(config.limits.new_videos_per_caller),
            report_limits: ReportLimits::default(),
            restrictions: moderation::restrictions::Restrictions::new(config.max_restrictions),
            origins: Arc::clone(&shell.http_settings.allowed_origins),
            zone: config.zone,
            held_viewers: HeldViewers::default(),
            routes: RouteCache::default(),
            boards,
            archive_meta_cache: videos::ArchiveMetaCache::default(),
            operate_state: operate::OperateState::default(),
            demo: config.demo,
            reader_wait: Duration::from_secs(config.reader_wait_seconds.into()),
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
        tasks.spawn("keep_keys", refresh_issuer_keys(Arc::clone(&gateway)));
        tasks.spawn("keep_revoked", refresh_revoked_tokens(Arc::clone(&gateway)));
    }
    tasks.spawn("measure_freshness", freshness::measure_forever(Arc::clone(&gateway)));
    tasks.spawn("open_log", dependency::run_log_opener(Arc::clone(&gateway)));
    gateway.metrics.canary.interval.set(every.as_secs() as i64);
    if !every.is_zero() {
        tasks.spawn("run_canary", canary::run(Arc::clone(&gateway), every));
    }
    tasks.spawn("watch_dependencies", dependency::watch_dependencies(Arc::clone(&gateway)));
    let serving =
        server::serve_until_shutdown(CalledService::Gateway, listener, router::router(&gateway), &shell);
    let serving = async { tokio::join!(serving, gateway.streams.wait_until_drained()).0 };
    tasks.run_alongside(serving).await
}

async fn refresh_issuer_keys(gateway: Arc<Gateway>) {
    if let Some(auth) = &gateway.auth {
        auth.issuer_keys.keep_current().await;
    }
}

async fn refresh_revoked_tokens(gateway: Arc<Gateway>) {
    if let Some(auth) = &gateway.auth {
        auth.revoked_tokens.keep_current(&gateway).await;
    }
}
