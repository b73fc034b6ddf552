//! The manager: the service that decides which reader serves which video.
//!
//! | module | does |
//! |---|---|
//! | [`liveness`] | which readers are alive, which are gone, and whether this manager may act on it: the rule of core |
//! | [`view`] | holds all assignments (pure) |
//! | [`cluster`] | decides which reader gets a video, which videos move, and how a heartbeat is answered (pure) |
//! | [`moves`] | keeps the moves that wait, are carried out, or have ended (pure) |
//! | [`manager`] | changes assignments, by compare-and-set |
//! | [`follow`] | keeps the view up to date with the store |
//! | [`sweep`] | probes readers, replaces those that are gone, adopts and removes assignments |
//! | [`carry`] | carries out moves: warms readers, changes assignments, empties readers |
//! | [`autopilot`] | makes plans, if no planner outside does |
//! | [`peaks`] | finds the most viewers that each video had, and keeps them in the store |
//! | [`adoptions`] | limits the videos that readers bring in by their reports (pure) |
//! | [`registrations`] | shares the registration of new videos among callers (pure) |
//! | [`history`] | remembers how many viewers each reader had (pure) |
//! | [`addresses`] | checks the addresses that readers report (pure) |
//! | [`http`] | answers requests |
//!
//! Any number of managers run side by side on one store; each has the same view, and none is special. Requests are
//! answered from memory, also while the store is unavailable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use liverank_adapters::AssignmentStore;
use liverank_core::canary;
use liverank_core::comment::to_hex;
use liverank_protocol::ManagerReport;
use liverank_protocol::access::CalledService;
use liverank_runtime::duration::{SettingUnit, parser_in_unit};
use liverank_runtime::peer::ServiceReplicas;
use liverank_runtime::{ServiceContext, Tasks, report, server};
use reqwest::Url;
use tokio::net::TcpListener;

pub mod addresses;
pub mod adoptions;
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
pub mod peaks;
pub mod registrations;
pub mod sweep;
pub mod view;

use addresses::AddressRule;
pub use manager::Manager;

/// The maximum number of videos, and of readers, in a report to the statistics service.
const MAX_REPORTED: usize = 1_000;

/// The settings of the manager.
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
    /// Plan moves in this process, if no operator does: of all managers with this flag, one plans.
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
    /// How long a reader that is drained by an order may take until it is empty. With --autopilot only: an operator has
    /// its own `drain.timeoutSeconds`.
    #[arg(
        long,
        env = "LIVERANK_DRAIN_TIMEOUT_SECONDS",
        value_name = "DURATION",
        default_value = "15m",
        value_parser = parser_in_unit::<u32>(SettingUnit::Seconds, 10, 86_400)
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
    /// New videos that all who register directly at this manager, or watch directly at a reader, may bring within an
    /// hour. A single address may bring at most as many as it leaves free for others, and so may a single reader with
    /// all its viewers. Gateways are not counted, because they have a budget for each of their callers.
    #[arg(
        long,
        env = "LIVERANK_MAX_NEW_VIDEOS_PER_HOUR",
        value_name = "VIDEOS",
        default_value_t = registrations::MAX_NEW_VIDEOS,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000)
    )]
    pub max_new_videos_per_hour: u32,
    /// URLs that readers may report as their own, comma-separated: scheme://host:port, with {reader} for a reader's own
    /// name, * for any port, and NAME= in front of what is for one reader only. An address that is not listed is
    /// refused.
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
            max_new_videos_per_hour: registrations::MAX_NEW_VIDEOS,
            reader_urls: AddressRule::any_port_of_this_machine(),
        }
    }
}

impl Config {
    /// Returns the time limit of drains; `None` if the planner in the managers is off, because then the operator has
    /// its own limit.
    fn drain_limit(&self) -> Option<Duration> {
        self.autopilot.then(|| Duration::from_secs(self.drain_timeout_seconds.into()))
    }
}

/// The action for a reader that could not be emptied in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnTimeout {
    /// The reader stays as it is, and the managers report it.
    Hold,
    /// The reader is removed.
    Force,
}

/// Runs a manager on all `listeners` until the shutdown signal of `shell`.
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
    tasks.spawn("note_peaks", peaks::run(Arc::clone(&manager)));
    tasks.spawn("carry_out_moves", carry::run(Arc::clone(&manager)));
    if autopilot {
        tasks.spawn("autopilot", autopilot::run(Arc::clone(&manager)));
    }
    let to_statistics = shell.peer_client().with_bound_token_for(&shell.identity, CalledService::Statistics);
    let statistics = ServiceReplicas::new(to_statistics, statistics_url);
    tasks.spawn("report", report_counts(Arc::clone(&manager), statistics, shell.clone()));
    let router = http::router(manager, Arc::clone(&shell.http_settings.allowed_origins));
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
