//! The manager: which reader serves which video.
//!
//! | module | does |
//! |---|---|
//! | [`liveness`] | decides which readers are alive, which are gone, and whether to act on it (pure) |
//! | [`view`] | holds the assignments (pure) |
//! | [`cluster`] | decides where a video goes, which videos move and what a heartbeat is answered (pure) |
//! | [`moves`] | keeps count of the moves that are carried out (pure) |
//! | [`manager`] | changes what is in force, by compare-and-set |
//! | [`follow`] | keeps up with the store |
//! | [`sweep`] | probes, replaces the dead, adopts, lets go |
//! | [`carry`] | carries out moves: warms, swaps, empties readers |
//! | [`autopilot`] | plans, where nobody outside does |
//! | [`history`] | remembers how many viewers each reader had (pure) |
//! | [`addresses`] | says where readers may be (pure) |
//! | [`http`] | answers |
//!
//! Any number of managers run side by side on one store; each knows all, and none is special. What is known is
//! answered from memory, also while the store is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use liverank_adapters::AssignmentStore;
use liverank_core::canary;
use liverank_core::comment::to_hex;
use liverank_protocol::ManagerReport;
use liverank_protocol::access::CalledService;
use liverank_runtime::peer::ServiceReplicas;
use liverank_runtime::{ServiceContext, Tasks, report, server};
use reqwest::Url;
use tokio::net::TcpListener;

pub mod addresses;
pub mod autopilot;
pub mod carry;
pub mod cluster;
pub mod follow;
pub mod history;
pub mod http;
pub mod liveness;
pub mod manager;
pub mod metrics;
pub mod moves;
pub mod sweep;
pub mod view;

use addresses::AddressRule;
pub use manager::Manager;

/// Videos and readers in a report.
const MAX_REPORTED: usize = 1_000;

/// How the manager is set up.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Addresses of the statistics service, comma-separated.
    #[arg(
        long,
        env = "LIVERANK_STATISTICS_URL",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://127.0.0.1:5000"
    )]
    pub statistics_url: Vec<Url>,
    /// Plan moves in this process, where no operator does: one of all managers with this flag is in office.
    #[arg(long, env = "LIVERANK_AUTOPILOT")]
    pub autopilot: bool,
    /// Viewers that all moves and drains together may move in a minute.
    #[arg(
        long,
        env = "LIVERANK_MAX_VIEWERS_MOVED_PER_MINUTE",
        value_name = "VIEWERS",
        default_value_t = 20_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    pub max_viewers_moved_per_minute: u64,
    /// Viewers of one video on one reader from which on it is spread over several.
    #[arg(
        long,
        env = "LIVERANK_HOT_VIDEO_VIEWERS",
        value_name = "VIEWERS",
        default_value_t = 15_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    pub hot_video_viewers: u64,
    /// How far from its fair share a reader may be before viewers are moved, in percent of that share.
    #[arg(
        long,
        env = "LIVERANK_TOLERANCE_PERCENT",
        value_name = "PERCENT",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=50)
    )]
    pub tolerance_percent: u32,
    /// How long a reader that is drained by an order may take until it is empty, in seconds. With --autopilot only: an operator
    /// has its own `drain.timeoutSeconds`.
    #[arg(
        long,
        env = "LIVERANK_DRAIN_TIMEOUT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 900,
        value_parser = clap::value_parser!(u32).range(10..=86_400)
    )]
    pub drain_timeout_seconds: u32,
    /// What happens then: hold leaves the reader as it is and says so, force removes it, and the viewers left connect again when
    /// its process ends.
    #[arg(
        long,
        env = "LIVERANK_DRAIN_ON_TIMEOUT",
        value_name = "ACTION",
        value_enum,
        ignore_case = true,
        default_value_t = OnTimeout::Hold
    )]
    pub drain_on_timeout: OnTimeout,
    /// Where readers may say that they are, comma-separated: scheme://host:port, with {reader} for a reader's own name, *
    /// for any port, and NAME= in front of what is for one reader only. An address that is not listed is refused.
    #[arg(
        long,
        env = "LIVERANK_READER_URLS",
        value_delimiter = ',',
        value_name = "[NAME=]URL",
        default_value = "http://127.0.0.1:*,http://localhost:*,http://[::1]:*,https://127.0.0.1:*,https://localhost:*,https://[::1]:*"
    )]
    pub reader_urls: Vec<AddressRule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            statistics_url: Vec::new(),
            autopilot: false,
            max_viewers_moved_per_minute: 20_000,
            hot_video_viewers: 15_000,
            tolerance_percent: 10,
            drain_timeout_seconds: 900,
            drain_on_timeout: OnTimeout::Hold,
            reader_urls: AddressRule::any_port_of_this_machine(),
        }
    }
}

impl Config {
    /// How long a drain may take, where the planner in the managers sees to it.
    fn drain_limit(&self) -> Option<Duration> {
        self.autopilot.then(|| Duration::from_secs(self.drain_timeout_seconds.into()))
    }
}

/// What happens to a reader that could not be emptied in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnTimeout {
    /// It stays, and the managers say so.
    Hold,
    /// It is removed.
    Force,
}

/// Serves on all of these until the shell's shutdown.
pub async fn run(
    config: Config,
    store: Arc<dyn AssignmentStore>,
    listeners: Vec<TcpListener>,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    let autopilot = config.autopilot;
    let statistics_url = config.statistics_url.clone();
    let manager = Manager::new(config, store, &shell);
    let mut tasks = Tasks::new(&shell);
    tasks.spawn("follow_assignments", follow::follow_assignments(Arc::clone(&manager)));
    tasks.spawn("follow_readers", follow::follow_readers(Arc::clone(&manager)));
    tasks.spawn("sweep", sweep::run(Arc::clone(&manager)));
    tasks.spawn("carry_out_moves", carry::run(Arc::clone(&manager)));
    if autopilot {
        tasks.spawn("autopilot", autopilot::run(Arc::clone(&manager)));
    }
    let statistics = ServiceReplicas::new(shell.peer_client(), statistics_url);
    tasks.spawn("report", report_counts(Arc::clone(&manager), statistics, shell.clone()));
    let router = http::router(manager, Arc::clone(&shell.http_settings.origins));
    let ports = listeners.into_iter().map(|listener| {
        server::serve_until_shutdown(CalledService::Manager, listener, router.clone(), &shell)
    });
    tasks.run_alongside(async { futures::future::try_join_all(ports).await.map(drop) }).await
}

async fn report_counts(manager: Arc<Manager>, statistics: Option<ServiceReplicas>, shell: ServiceContext) {
    let instance = format!("manager-{}", to_hex(&rand::random::<[u8; 4]>()));
    report::send_reports(statistics, "reader-api-manager-statistics", shell, || {
        count_report(&manager, &instance)
    })
    .await;
}

fn count_report(manager: &Manager, instance: &str) -> ManagerReport {
    let cluster = manager.cluster();
    let open =
        cluster.open_readers().take(MAX_REPORTED).map(|sighting| sighting.last_record.public_url.clone());
    let mappings: BTreeMap<String, String> = cluster
        .assignment_view
        .all_assignments()
        .filter(|assignment| !canary::is_canary(&assignment.video_id))
        .take(MAX_REPORTED)
        .filter_map(|assignment| {
            let reader = cluster.reader_watch.get(&assignment.readers().first()?.reader)?;
            Some((assignment.video_id.as_str().to_owned(), reader.last_record.public_url.clone()))
        })
        .collect();
    ManagerReport {
        instance_id: Some(instance.to_owned()),
        service: "ReaderApiManager".to_owned(),
        registered_videos: cluster.registered_count() as u64,
        available_reader_apis: open.collect(),
        registration_count: manager.metrics.registrations_answered.get(),
        video_mappings: mappings,
    }
}
