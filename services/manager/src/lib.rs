//! The manager: which reader serves which video.
//!
//! | module | does |
//! |---|---|
//! | [`liveness`] | decides which readers are alive, which are gone, and whether to act on it (pure) |
//! | [`view`] | holds the assignments (pure) |
//! | [`promises`] | counts viewers to come (pure) |
//! | [`cluster`] | decides where a video goes and which videos move (pure) |
//! | [`manager`] | changes what is in force, by compare-and-set |
//! | [`follow`] | keeps up with the store |
//! | [`sweep`] | probes, moves, adopts, lets go |
//! | [`http`] | answers |
//!
//! Any number of managers run side by side on one store; each knows all, and none is special. What is known is
//! answered from memory, also while the store is away.

use std::collections::BTreeMap;
use std::sync::Arc;

use liverank_adapters::{AssignmentStore, Backends};
use liverank_core::comment::hex;
use liverank_shell::peer::{Peers, Replicas};
use liverank_shell::wire::ManagerReport;
use liverank_shell::{Shell, report, server};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub mod cluster;
pub mod follow;
pub mod http;
pub mod liveness;
pub mod manager;
pub mod metrics;
pub mod promises;
pub mod sweep;
pub mod view;

pub use manager::Manager;

/// Videos and readers in a report.
const REPORTED: usize = 1_000;

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
}

/// Serves until the shell's shutdown.
pub async fn run(
    config: Config,
    backends: Backends,
    listener: TcpListener,
    shell: Shell,
) -> anyhow::Result<()> {
    serve(config, backends.assignments, listener, shell).await
}

/// [`run`], with all that it needs of the backends.
pub async fn serve(
    config: Config,
    store: Arc<dyn AssignmentStore>,
    listener: TcpListener,
    shell: Shell,
) -> anyhow::Result<()> {
    let manager = Manager::new(store, &shell);
    let mut tasks = JoinSet::new();
    tasks.spawn(follow::assignments(Arc::clone(&manager)));
    tasks.spawn(follow::readers(Arc::clone(&manager)));
    tasks.spawn(sweep::run(Arc::clone(&manager)));
    let statistics = Replicas::new(Peers::default(), config.statistics_url);
    tasks.spawn(report_counts(Arc::clone(&manager), statistics, shell.clone()));
    server::serve(listener, http::router(manager), &shell).await
}

async fn report_counts(manager: Arc<Manager>, statistics: Option<Replicas>, shell: Shell) {
    let instance = format!("manager-{}", hex(&rand::random::<[u8; 4]>()));
    report::send(statistics, "reader-api-manager-statistics", shell, || counts(&manager, &instance)).await;
}

fn counts(manager: &Manager, instance: &str) -> ManagerReport {
    let cluster = manager.cluster();
    let open = cluster.watch.open().take(REPORTED).map(|sighting| sighting.record.public_url.clone());
    let mappings: BTreeMap<String, String> = cluster
        .view
        .all()
        .take(REPORTED)
        .filter_map(|assignment| {
            let reader = cluster.watch.get(assignment.readers.first()?)?;
            Some((assignment.video_id.as_str().to_owned(), reader.record.public_url.clone()))
        })
        .collect();
    ManagerReport {
        instance_id: Some(instance.to_owned()),
        service: "ReaderApiManager".to_owned(),
        registered_videos: cluster.view.len() as u64,
        available_reader_apis: open.collect(),
        registration_count: manager.metrics.registrations.get(),
        video_mappings: mappings,
    }
}
