//! The operator as a process: it watches Kubernetes, and while it leads, each cluster has a reconciler.
//!
//! | module | does |
//! |---|---|
//! | [`args`] | parses the command line |
//! | [`lease`], [`leadership`] | elect the leader, and fence its orders |
//! | [`shard`], [`spread`] | divide namespaces into shards, and spread their Leases over replicas |
//! | [`watch`], [`store`], [`cache`], [`progress`] | watch each kind, keep pruned objects, report stalled watches |
//! | [`fleet`], [`actor`], [`context`] | run one actor for each cluster |
//! | [`claim`], [`lanes`] | choose the operator of a cluster; limit concurrent requests |
//! | [`in_force`], [`rollout`], [`shrink`], [`hibernation`] | decide which part of the resource is carried out now |
//! | [`carry`], [`held`], [`apply`], [`subset`], [`compared`], [`contest`] | write to the API server, and detect other writers |
//! | [`conversion`] | convert resources between the versions of the definition |
//! | [`managers`], [`steering`] | query managers and readers, and give them orders |
//! | [`tokens`] | fetch the operator's tokens for managers, and the public keys of all tokens |
//! | [`reporter`], [`status_writer`], [`troubles`], [`mounts`], [`unreadable`], [`events`], [`metrics`] | report the state |

pub mod actor;
pub mod answer_budget;
pub mod apply;
pub mod args;
pub mod cache;
pub mod carry;
pub mod claim;
pub mod compared;
pub mod contest;
pub mod context;
pub mod conversion;
pub mod events;
pub mod fleet;
pub mod held;
pub mod hibernation;
pub mod in_force;
pub mod lanes;
pub mod leadership;
pub mod lease;
pub mod managers;
pub mod metrics;
pub mod mounts;
pub mod progress;
pub mod reporter;
pub mod rollout;
pub mod shard;
pub mod shrink;
pub mod spread;
pub mod status_writer;
pub mod steering;
pub mod store;
pub mod subset;
pub mod tokens;
pub mod troubles;
pub mod unreadable;
pub mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use kube::api::{ApiResource, DynamicObject};
use kube::core::DynamicResourceScope;
use kube::{Api, Client, Config, Resource};
use liverank_runtime::peer::PeerClient;
use liverank_runtime::process::ProcessRuntime;
use liverank_runtime::telemetry::LogArgs;
use liverank_runtime::tls::ProcessTls;
use liverank_runtime::{HttpSettings, ServiceContext, Tasks, admin, server, telemetry};
use tokio::net::TcpListener;

use crate::build::{self, Kind, OperatorFacts, names};
use crate::crd::RankingCluster;
use answer_budget::AnswerBudget;
pub use args::{Args, PodUserArg};
use cache::{CachedCluster, CachedPod, LiveObject, SlimPod};
use context::OperatorContext;
use conversion::ConversionSettings;
use conversion::keeping::keep_certificate;
use events::EventPublisher;
use lanes::RequestLimit;
use leadership::Leadership;
use lease::{Candidate, HeldLease};
use metrics::OperatorMetrics;
use progress::{STALLED_AFTER, WatchProgress};
use shard::Installation;
use spread::ReplicaCandidates;
use store::{CachedObject, ClusterStore, Wakers};
use tokens::{OperatorTokens, PublicKeys};
use watch::{WakeTarget, Watcher};

/// The time limit for stopping the process: the leader's work ends first, then the Lease is given up.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of worker threads: the operator waits most of the time, and each thread takes memory of its own.
const WORKER_THREADS: usize = 2;

impl Args {
    /// Runs the operator until the process is asked to end.
    pub fn main(self) -> anyhow::Result<ExitCode> {
        // The client would log every failed request; watches, writes and the Lease log changes of their state instead.
        let log = format!("kube_client=off,{}", self.log.log);
        telemetry::init_logging(&LogArgs { log, ..self.log.clone() });
        let process = ProcessRuntime {
            drain_time: STOP_TIMEOUT,
            forced_end_delay: Duration::ZERO,
            thread_count: Some(WORKER_THREADS),
            catches_panics: || false,
        };
        let ProcessTls { admin_tls: admin, file_reloading: reloading, .. } = self.tls()?;
        let main = move |shell: ServiceContext| async move {
            // Settings are checked before a port is bound: an error must name the wrong setting, not a port that is in
            // use.
            let config = Config::infer().await.context("there is no Kubernetes to talk to")?;
            let client = Client::try_from(config)?;
            let listener =
                server::bind_listener(self.admin_listen, "the operator's admin port", "--admin-listen")
                    .await?;
            let metrics = shell.metrics.clone();
            let http = HttpSettings { admin_tls: admin, ..HttpSettings::default() };
            let running = run(self, client, listener, ServiceContext { http_settings: http, ..shell });
            tokio::select! {
                ended = Box::pin(running) => ended,
                never = reloading.reload_forever(&metrics) => match never {},
            }
        };
        process.run(main).map(|()| ExitCode::SUCCESS)
    }
}

/// Watches Kubernetes, and leads each shard of which this process gets the Lease, until the process shuts down.
///
/// # Errors
/// Returns errors after which the process must end: the work of a former leader that does not stop, or a task that
/// failed.
pub async fn run(
    args: Args,
    client: Client,
    admin: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    let policy = args.policy()?;
    let metrics = OperatorMetrics::new(&shell.metrics);
    let keys = Arc::new(PublicKeys::default());
    let tokens = OperatorTokens::new(client.clone(), &args.lease_namespace, &args.service_account);
    let identity = format!("{}_{:08x}", args.identity, rand::random::<u32>());
    let progress = Arc::new(WatchProgress::default());
    let bells = Arc::new(Wakers::default());
    let mut parts = WatchStarter {
        tasks: Tasks::new(&shell),
        args: &args,
        client: &client,
        wakers: &bells,
        progress: &progress,
        metrics: &metrics,
    };
    let world = Arc::new(OperatorContext {
        stores: Kind::ALL.into_iter().map(|kind| (kind, parts.watch_objects(kind))).collect(),
        pods: parts.watch_pods(),
        clusters: parts.watch_clusters(),
        wakers: Arc::clone(&bells),
        request_limit: RequestLimit::new(metrics.clone()),
        installation: Installation {
            namespace: args.lease_namespace.clone(),
            lease_name: args.lease_name.clone(),
        },
        metrics: metrics.clone(),
        event_publisher: EventPublisher::new(client.clone(), &identity, metrics.clone()),
        tokens,
        public_keys: Arc::clone(&keys),
        url_templates: args.url_templates(),
        peers: (PeerClient::default(), AnswerBudget::of_mib(args.answers_mib)),
        newest_revision: args.builder_revision.unwrap_or(build::CURRENT_REVISION),
        operator_class: args.operator_class.clone(),
        operator: OperatorFacts {
            namespace: args.lease_namespace.clone(),
            labels: args.operator_labels.0.clone(),
            service_account: args.service_account.clone(),
            public_keys: String::new(),
            platform_assigns_user_ids: args.pod_user == PodUserArg::Platform,
        },
        policy,
        client: client.clone(),
    });
    let mut tasks = parts.tasks;
    let api = client.clone();
    tasks.spawn("public_keys", async move { keys.keep_fetching(api).await });
    let lease = (args.lease_namespace.as_str(), args.lease_name.as_str());
    let (candidates, spread) = Candidate::for_shards(&client, lease, args.shards, &identity, &metrics);
    metrics.shard_count.set(i64::from(args.shards));
    tasks.spawn("readiness", report_readiness(Arc::clone(&world), spread, shell.clone()));
    let (told, health, api) = (Arc::clone(&progress), shell.health.clone(), client.clone());
    tasks.spawn("watch_progress", async move {
        progress::report_stalled_watches(&told, &api, &health, STALLED_AFTER).await;
    });
    let served = shell.clone();
    tasks.spawn("admin_port", async move { drop(admin::run(admin, served).await) });

    let own = serve_conversion(&args, &client, &shell, &metrics, &mut tasks);
    let leading = lead_shards(candidates, &world, &identity, &shell, own);
    Box::pin(tasks.run_alongside(leading)).await
}

/// Starts the conversion webhook if it is configured. Returns the webhook's settings if the leader has to renew the
/// webhook's certificate; a certificate that the user gives is the user's to renew.
fn serve_conversion(
    args: &Args,
    client: &Client,
    shell: &ServiceContext,
    metrics: &OperatorMetrics,
    tasks: &mut Tasks,
) -> Option<ConversionSettings> {
    let settings = args.conversion_settings()?;
    let given = shell.http_settings.admin_tls.clone();
    let keeps = given.is_none();
    let serving = conversion::serve_webhook(client.clone(), settings.clone(), given, metrics.clone());
    tasks.spawn("conversion_webhook", serving);
    keeps.then_some(settings)
}

/// Leads each shard of which this process gets the Lease, until the process shuts down.
async fn lead_shards(
    candidates: Vec<Candidate>,
    world: &Arc<OperatorContext>,
    identity: &str,
    shell: &ServiceContext,
    conversion: Option<ConversionSettings>,
) -> anyhow::Result<()> {
    let leading = candidates.into_iter().map(|candidate| {
        let (world, identity) = (Arc::clone(world), identity.to_owned());
        let stop = shell.shutdown.clone();
        // One shard's leader keeps the certificate for all.
        let conversion = conversion.clone().filter(|_| candidate.shard().index == 0);
        async move {
            let lead = |held: HeldLease, ended| {
                let office = Leadership {
                    held_lease: held,
                    shard: candidate.shard(),
                    identity: identity.clone(),
                    candidate: candidate.clone(),
                    ended,
                    metrics: world.metrics.clone(),
                };
                let actors = fleet::run_actors(Arc::clone(&world), Arc::new(office));
                run_with_certificate(actors, Arc::clone(&world), conversion.clone())
            };
            candidate.run_while_leading(stop, lead).await
        }
    });
    futures::future::try_join_all(leading.map(Box::pin)).await.map(drop)
}

/// Runs the work of a shard's leader, and meanwhile keeps the certificate of the conversion webhook, if `conversion`
/// says that this leader does that.
async fn run_with_certificate(
    actors: impl Future<Output = anyhow::Result<()>>,
    world: Arc<OperatorContext>,
    conversion: Option<ConversionSettings>,
) -> anyhow::Result<()> {
    let keeping = async {
        match conversion {
            Some(settings) => {
                keep_certificate(world.client.clone(), settings, world.metrics.clone()).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = actors => ended,
        () = keeping => Ok(()),
    }
}

/// Reports the process as ready after all watches have listed once, and as draining when it shuts down.
async fn report_readiness(
    world: Arc<OperatorContext>,
    spread: Arc<ReplicaCandidates>,
    shell: ServiceContext,
) {
    shell.health.note_starting("watches");
    fleet::wait_until_filled(&world).await;
    spread.note_ready();
    shell.health.note_started("watches");
    tracing::info!("all watches are filled");
    shell.shutdown.cancelled().await;
    shell.health.note_draining();
    std::future::pending::<()>().await;
}

/// The inputs that all watches need, and the tasks that run them, while the watches are started.
struct WatchStarter<'a> {
    tasks: Tasks,
    args: &'a Args,
    client: &'a Client,
    wakers: &'a Arc<Wakers>,
    progress: &'a Arc<WatchProgress>,
    metrics: &'a OperatorMetrics,
}

impl WatchStarter<'_> {
    fn watch_objects(&mut self, kind: Kind) -> Arc<ClusterStore<LiveObject>> {
        let api = self.watched_apis::<DynamicObject>(&kind.api_resource());
        self.start_watches(
            apply::kind_name(kind),
            api,
            &our_label_selector(),
            LiveObject::from_watched,
            false,
            kind.is_optional(),
        )
    }

    fn watch_pods(&mut self) -> Arc<ClusterStore<CachedPod>> {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        let api = self.watched_apis::<SlimPod>(&resource);
        // Pods have the labels of their templates, which name cluster and component.
        self.start_watches(
            "Pod",
            api,
            &format!("{}={}", names::APP_NAME_LABEL, names::APP_NAME),
            CachedPod::from_watched,
            false,
            false,
        )
    }

    fn watch_clusters(&mut self) -> Arc<ClusterStore<CachedCluster>> {
        let api = self.watched_apis::<DynamicObject>(&ApiResource::erase::<RankingCluster>(&()));
        self.start_watches("RankingCluster", api, "", CachedCluster::from_watched, true, false)
    }

    /// Returns one API for each watched namespace, with the namespace's name; a single one with an empty name for all
    /// namespaces.
    fn watched_apis<K>(&self, resource: &ApiResource) -> Vec<(Box<str>, Api<K>)>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        let namespaces = self.args.watched_namespaces();
        if namespaces.is_empty() {
            return vec![("".into(), Api::all_with(self.client.clone(), resource))];
        }
        let api = |name: &str| (name.into(), Api::namespaced_with(self.client.clone(), name, resource));
        namespaces.into_iter().map(api).collect()
    }

    fn start_watches<K, T: CachedObject>(
        &mut self,
        kind: &'static str,
        apis: Vec<(Box<str>, Api<K>)>,
        labels: &str,
        to_cached: fn(K) -> Option<T>,
        may_change_clusters: bool,
        is_optional_kind: bool,
    ) -> Arc<ClusterStore<T>>
    where
        K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
        K::DynamicType: Send,
    {
        let store = Arc::new(ClusterStore::of_parts(apis.len()));
        for (namespace, api) in apis {
            if !is_optional_kind {
                // A watch that never begins is reported as stalled, too.
                self.progress.note_progress(kind, &namespace);
            }
            let watcher = Watcher {
                kind,
                api,
                namespace,
                label_selector: labels.to_owned(),
                to_cached,
                store: Arc::clone(&store),
                is_optional_kind,
                wake: WakeTarget { wakers: Arc::clone(self.wakers), may_change_clusters },
                progress: Arc::clone(self.progress),
                metrics: self.metrics.clone(),
                has_logged_failure: AtomicBool::new(false),
            };
            self.tasks.spawn(kind, watcher.run());
        }
        store
    }
}

fn our_label_selector() -> String {
    format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY_OPERATOR)
}
