//! The WebSocket service: sends ranked lists to clients whenever they change.
//!
//! | module | does |
//! |---|---|
//! | `router` | accepts WebSocket handshakes and parses which list is asked for |
//! | `mirror` | copies the ranking into memory and keeps it up to date, so that a list needs no query to a store |
//! | `boards` | the global and the trending board in memory, and each declared one |
//! | `key` | the kinds of lists, and the limits on their number |
//! | `lists` | the watched lists; each is computed, paced and encoded once for all its watchers |
//! | `descriptions` | metadata of the videos in lists that ask for them |
//! | `published`, `line` | one state of a list, encoded as frames |
//! | `pace` | sends the first change at once, then at most ten a second |
//! | `connection`, `frame` | one client: sends frames and pings, and reads what the client sends |
//!
//! The service keeps no state but the copy of the ranking: any number of processes may run side by side.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use liverank_adapters::ranking_store::BuiltInBoard;
use liverank_adapters::{Clock, RankingStore};
use liverank_core::Millis;
use liverank_core::boards::{BoardOrder, DeclaredBoard, DeclaredBoards};
use liverank_protocol::access;
use liverank_runtime::boards::BoardsArgs;
use liverank_runtime::origins::AllowedOrigins;
use liverank_runtime::streams::Streams;
use liverank_runtime::{Identity, ServiceContext, Tasks, server};
use tokio::net::TcpListener;

mod boards;
mod connection;
mod descriptions;
pub mod frame;
mod freshness;
mod handshake;
mod key;
mod line;
mod lists;
pub mod measure;
mod metrics;
mod mirror;
mod pace;
mod published;
mod router;

use descriptions::MetadataCache;
use lists::BoardLists;
use metrics::WebsocketMetrics;
use mirror::BoardsMirror;

/// The settings of the WebSocket service.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Most `WebSockets` open at once; fewer where the limit of open files says so.
    #[arg(long, env = "LIVERANK_MAX_WEBSOCKETS", default_value_t = 50_000)]
    pub max_websockets: usize,
    /// The declared boards.
    #[command(flatten)]
    pub boards: BoardsArgs,
    /// The time limits for clients.
    #[arg(skip)]
    pub limits: ClientLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_websockets: 50_000, boards: BoardsArgs::default(), limits: ClientLimits::default() }
    }
}

/// The time limits after which a client counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// The time between two pings.
    pub ping_interval: Duration,
    /// The maximum time without any frame from the client, not even a pong.
    pub silence_timeout: Duration,
    /// The maximum time in which the client accepts not a single byte of a message.
    pub stall_timeout: Duration,
    /// The maximum time for sending one message: a client that accepts byte by byte would keep an old list in memory.
    pub message_timeout: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            // Proxies close connections that are idle for 60 s or less; three pings may be lost.
            ping_interval: Duration::from_secs(20),
            silence_timeout: Duration::from_secs(65),
            stall_timeout: Duration::from_secs(20),
            // A list of 6 MB takes this long at 1 Mbit/s.
            message_timeout: Duration::from_mins(1),
        }
    }
}

/// A board that this process follows, and its watched lists.
pub(crate) struct FollowedBoard {
    lists: Arc<BoardLists>,
    mirror: Arc<BoardsMirror>,
}

impl FollowedBoard {
    fn new(descriptions: &Arc<MetadataCache>, metrics: &WebsocketMetrics) -> Self {
        let mirror = Arc::new(BoardsMirror::default());
        let lists = BoardLists::new(Arc::clone(&mirror), Arc::clone(descriptions), metrics.clone());
        Self { lists: Arc::new(lists), mirror }
    }
}

/// Returns the order in which a declared board is shown: one of the two orders that its store has.
pub(crate) const fn shown_order(board: &DeclaredBoard) -> BuiltInBoard {
    match board.order() {
        BoardOrder::Points => BuiltInBoard::Global,
        BoardOrder::Trending => BuiltInBoard::Trending,
    }
}

/// The state of the WebSocket service, shared by all requests and connections.
pub(crate) struct Service {
    /// The built-in boards: global and trending.
    built_in_boards: FollowedBoard,
    declared_boards: DeclaredBoards,
    /// The declared boards with their mirrors and watched lists, in the order of the declaration.
    followed_declared_boards: Vec<FollowedBoard>,
    /// The cached metadata of the videos in lists of all boards.
    metadata_cache: Arc<MetadataCache>,
    streams: Streams,
    origins: Arc<AllowedOrigins>,
    limits: ClientLimits,
    identity: Identity,
    metrics: WebsocketMetrics,
}

/// Serves until shutdown; then clients are disconnected one after the other within the time of the drain. `clock` gives
/// the time by which windows of boards end.
pub async fn run(
    config: Config,
    ranking: Arc<dyn RankingStore>,
    clock: Clock,
    listener: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    let metrics = WebsocketMetrics::new(&shell.metrics);
    let declared_boards = config.boards.read_declarations()?;
    let held = metrics.cached_metadata_videos.clone();
    let metadata_cache = Arc::new(MetadataCache::new(Arc::clone(&ranking), held));
    let service = Arc::new(Service {
        built_in_boards: FollowedBoard::new(&metadata_cache, &metrics),
        followed_declared_boards: declared_boards
            .iter()
            .map(|_| FollowedBoard::new(&metadata_cache, &metrics))
            .collect(),
        declared_boards,
        metadata_cache,
        streams: Streams::new(config.max_websockets, &shell, metrics.open_connections.clone()),
        origins: Arc::clone(&shell.http_settings.allowed_origins),
        limits: config.limits,
        identity: shell.identity.clone(),
        metrics: metrics.clone(),
    });
    shell.health.note_starting("ranking");
    let tasks = Tasks::new(&shell);
    let followed = tasks
        .supervise_inside("follow_ranking", follow_all_boards(&service, &*ranking, &clock, &shell, &metrics));
    let router = router::new(Arc::clone(&service), &shell.identity);
    let served = server::serve_until_shutdown(access::CalledService::Websocket, listener, router, &shell);
    let drained = service.streams.wait_until_drained();
    // Lists continue to change while clients leave.
    let (followed, served, ()) = tokio::join!(
        async {
            tokio::select! {
                followed = followed => {
                    // Without the ranking there is nothing to serve: the process shuts down in order.
                    shell.shutdown.cancel();
                    followed
                }
                () = service.streams.wait_until_drained() => Ok(()),
            }
        },
        served,
        drained,
    );
    followed?;
    served
}

/// Follows the built-in boards and each declared board until dropped. Returns only an error that does not pass by
/// itself.
async fn follow_all_boards(
    service: &Service,
    ranking: &dyn RankingStore,
    clock: &Clock,
    shell: &ServiceContext,
    metrics: &WebsocketMetrics,
) -> anyhow::Result<()> {
    let all: Vec<&FollowedBoard> =
        std::iter::once(&service.built_in_boards).chain(&service.followed_declared_boards).collect();
    let follow = async |(board, followed): (&DeclaredBoard, &FollowedBoard)| {
        let follow = async |store: Arc<dyn RankingStore>| {
            mirror::follow_boards(followed, &all, None, &*store, shell, metrics).await
        };
        let Some(windows) = board.windows() else {
            return follow(ranking.declared_board(&board.store_key())).await;
        };
        loop {
            let window = windows.kind.window_of(clock());
            tokio::select! {
                followed = follow(ranking.declared_board(&board.store_key_of_window(&window))) => return followed,
                () = wait_for_window_end(clock, window.end) => {}
            }
        }
    };
    let declared = service.declared_boards.iter().zip(&service.followed_declared_boards).map(follow);
    let described = Some(&*service.metadata_cache);
    let built_in = mirror::follow_boards(&service.built_in_boards, &all, described, ranking, shell, metrics);
    tokio::try_join!(built_in, try_join_all(declared)).map(drop)
}

/// The longest time between two looks at the clock while a window runs, because the clock may be set.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Waits until the clock says that the window has ended.
async fn wait_for_window_end(clock: &Clock, end: Millis) {
    loop {
        let left = end - clock();
        if left <= 0 {
            return;
        }
        tokio::time::sleep(CLOCK_CHECK_INTERVAL.min(Duration::from_millis(left as u64))).await;
    }
}
