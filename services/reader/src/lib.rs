//! The reader: the service that holds viewers' streams and sends the comments of each video to its viewers.
//!
//! ```text
//! bus ─ dispatch ─┐                                     ┌─ socket ─ viewer
//!                 ├─> hub ─> ring        <── fan-out <──┼─ socket ─ viewer
//! heads ─ repair ─┘   (one a watched video)  thread     └─ socket ─ viewer
//! ```
//!
//! Comments are *pushed* into a video's [`ring`]: by the bus as they are posted, and by repair if comparing heads shows
//! that the bus did not deliver some. Viewers *pull* comments from the ring: each viewer is a socket and a cursor into
//! the ring, in the table of a [`fanout`] thread; the HTTP server has the socket only until the request is answered.
//! [`pace`] decides when new comments become visible, so that under load several comments are joined into one write.
//! The other modules: [`placement`] (which reader serves which video), [`heartbeat`] (reports to the managers),
//! [`mod@warm`] and [`handing`] (viewers who come from another reader, and viewers who are sent to another reader),
//! [`viewer_counts`] (for viewers who ask for the number of viewers), [`viewer_zone`] (viewers by the zones of their gateways)
//! and [`drain`] (emptying the reader before it ends).

mod admission_throttle;
pub mod channel;
pub mod channels;
pub mod direct_viewers;
pub mod dispatch;
pub mod drain;
pub mod entry;
pub mod fanout;
pub mod handing;
pub mod heads;
pub mod heartbeat;
mod heartbeat_sizes;
pub mod http;
pub mod hub;
pub mod metrics;
pub mod pace;
pub mod placement;
mod refusal;
mod repair;
pub mod ring;
pub mod sliding_counter;
pub mod sse;
pub mod viewer_counts;
pub mod viewer_zone;
pub mod warm;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use liverank_adapters::{Archive, CommentBus};
use liverank_core::comment::to_hex;
use liverank_core::limits::TokenBuckets;
use liverank_core::secret::Secret;
use liverank_core::{ReaderId, ZoneId};
use liverank_protocol::ReaderReport;
use liverank_protocol::access::{CalledService, KnownCaller};
use liverank_runtime::duration::{SettingUnit, parser_in_unit};
use liverank_runtime::identity::sent::pass_key;
use liverank_runtime::peer::ServiceReplicas;
use liverank_runtime::{Identity, ServiceContext, Tasks, report, server};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use hub::{ChannelHub, HubSettings};
use metrics::ReaderMetrics;
use placement::PlacementAgent;
use sliding_counter::SlidingCounter;

/// The maximum number of channels named in a report to the statistics service.
const MAX_CHANNELS_REPORTED: usize = 1000;

/// The settings of a reader.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Name of this reader, unique and stable over its restarts [default: the host's name and the port]
    #[arg(long, env = "LIVERANK_READER_ID")]
    pub reader_id: Option<ReaderId>,
    /// URL at which viewers reach this reader [default: the port of localhost]
    #[arg(long, env = "LIVERANK_PUBLIC_URL")]
    pub public_url: Option<Url>,
    /// URL at which gateways and managers reach this reader [default: the public URL]
    #[arg(long, env = "LIVERANK_INTERNAL_URL")]
    pub internal_url: Option<Url>,
    /// Zone of the data centre in which this reader runs; gateways of this zone send their viewers here first
    #[arg(long, env = "LIVERANK_ZONE")]
    pub zone: Option<ZoneId>,
    /// The managers' replicas, separated by commas; without any, this reader serves every video it is asked for
    #[arg(long, env = "LIVERANK_MANAGER_URL", value_delimiter = ',')]
    pub manager_url: Vec<Url>,
    /// The statistics services to report to, separated by commas
    #[arg(long, env = "LIVERANK_STATISTICS_URL", value_delimiter = ',')]
    pub statistics_url: Vec<Url>,
    /// Viewers this reader accepts; more are answered 503, and browsers' streams are asked to come back
    #[arg(long, env = "LIVERANK_CAPACITY", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub capacity: u64,
    /// Comments of each watched video kept in memory: what a viewer who comes back may have missed, at most
    #[arg(long, env = "LIVERANK_RING_LENGTH", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub ring_length: u32,
    /// Kilobytes that these comments may take, for each watched video; if they take more, the oldest go, and viewers
    /// who come back to them are told of a gap
    #[arg(long, env = "LIVERANK_RING_KILOBYTES", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub ring_kilobytes: u32,
    /// The time after which an idle viewer is sent a heartbeat
    #[arg(long, env = "LIVERANK_VIEWER_HEARTBEAT", value_name = "DURATION", default_value = "15s", value_parser = parser_in_unit::<u64>(SettingUnit::Seconds, 1, 300))]
    pub viewer_heartbeat: u64,
    /// Writes to viewers a second above which comments are joined, up to a quarter of a second's [default: 100,000 a core]
    #[arg(long, env = "LIVERANK_WRITES_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub writes_per_second: Option<u64>,
    /// The time that a video without viewers stays subscribed
    #[arg(long, env = "LIVERANK_LINGER", value_name = "DURATION", default_value = "10s", value_parser = parser_in_unit::<u64>(SettingUnit::Seconds, 0, 3_600))]
    pub linger: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reader_id: None,
            public_url: None,
            internal_url: None,
            zone: None,
            manager_url: Vec::new(),
            statistics_url: Vec::new(),
            capacity: 20_000,
            ring_length: 1000,
            ring_kilobytes: 4096,
            viewer_heartbeat: 15,
            writes_per_second: None,
            linger: 10,
        }
    }
}

impl Config {
    /// Returns the id of the reader that listens on `port`, and the identity with which the reader calls other
    /// processes.
    ///
    /// # Errors
    /// Fails if the host's name is no valid reader id, or if `identity` has the key of another process.
    pub fn reader_id_and_identity(
        &self,
        port: u16,
        identity: &Identity,
    ) -> anyhow::Result<(ReaderId, Identity)> {
        let id = match &self.reader_id {
            Some(id) => id.clone(),
            None => reader_id_from_host(port)?,
        };
        let identity = identity.acting_as(&KnownCaller::reader(id.clone()))?;
        Ok((id, identity))
    }
}

/// The state of a running reader, shared by its requests and tasks.
pub struct RunningReader {
    /// The channels of the reader: one for each video that it serves.
    pub hub: Arc<ChannelHub>,
    /// Decides which viewers this reader serves, by what the managers say.
    pub placement: PlacementAgent,
    public_url: String,
    internal_url: String,
    zone: Option<ZoneId>,
    /// The identity that this reader shows to managers.
    identity: Identity,
    has_managers: bool,
    /// The secret with which managers authenticate at this reader. The reader sends the ticket to the managers in its
    /// heartbeats; nobody else has the ticket.
    ticket: Secret,
    /// The key with which gateways sign passes for viewers. Managers tell gateways the key.
    pass_key: Secret,
    /// Counts of the last minute: viewers who came back, and those of them who were refused or missed comments.
    pub reconnects: SlidingCounter,
    /// The time by which a leaving reader has to have ended; unset while the reader is not leaving.
    exit_deadline: OnceLock<Instant>,
    /// Notified to send a heartbeat at once.
    heartbeat_requested: Notify,
    /// True if the last heartbeat told the managers, or the next one will tell them, that the reader is full.
    full_was_reported: AtomicBool,
    /// Limits how many viewers a second are redirected to other readers because this reader is full.
    redirect_buckets: Mutex<TokenBuckets<()>>,
    /// The number of heartbeats sent since the start.
    heartbeats_sent: watch::Sender<u64>,
}

impl RunningReader {
    fn new(
        config: &Config,
        archive: Arc<dyn Archive>,
        bus: Arc<dyn CommentBus>,
        port: u16,
        shell: &ServiceContext,
    ) -> anyhow::Result<Arc<Self>> {
        let (id, identity) = config.reader_id_and_identity(port, &shell.identity)?;
        let settings = HubSettings {
            id: id.clone(),
            capacity: config.capacity,
            ring_length: config.ring_length as usize,
            ring_bytes: config.ring_kilobytes as usize * 1024,
            idle_time: Duration::from_secs(config.viewer_heartbeat),
            writes_per_second: config.writes_per_second,
        };
        let metrics = ReaderMetrics::register(shell);
        let ticket = Secret::new(to_hex(&rand::random::<[u8; 32]>()));
        metrics.capacity.set(config.capacity as i64);
        let base = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        let public_url = config
            .public_url
            .as_ref()
            .map_or_else(|| format!("{}://localhost:{port}", shell.http_settings.scheme()), base);
        Ok(Arc::new(Self {
            hub: ChannelHub::new(settings, archive, bus, metrics, shell.health.clone())
                .context("the threads that write to viewers cannot be started")?,
            placement: PlacementAgent::new(
                id.clone(),
                manager_replicas(config, &identity, shell),
                shell.health.clone(),
                Duration::from_secs(config.linger),
            ),
            internal_url: config.internal_url.as_ref().map_or_else(|| public_url.clone(), base),
            public_url,
            zone: config.zone.clone(),
            identity,
            has_managers: !config.manager_url.is_empty(),
            pass_key: pass_key(&ticket),
            ticket,
            reconnects: SlidingCounter::new(Instant::now()),
            exit_deadline: OnceLock::new(),
            heartbeat_requested: Notify::new(),
            full_was_reported: AtomicBool::new(false),
            redirect_buckets: Mutex::new(TokenBuckets::new(refusal::REDIRECT_QUOTA, 1)),
            heartbeats_sent: watch::Sender::new(0),
        }))
    }

    /// Returns true if the reader is leaving (draining).
    pub fn is_draining(&self) -> bool {
        self.exit_deadline.get().is_some()
    }

    /// Returns the time left until the reader has to have ended; zero if the reader is not leaving.
    fn remaining_grace(&self) -> Duration {
        self.exit_deadline.get().map_or(Duration::ZERO, |by| by.saturating_duration_since(Instant::now()))
    }

    /// Begins to leave: tells the managers, and from now on accepts new viewers only if no other reader is known for
    /// them. Returns the time within which all viewers are to have left.
    fn begin_leaving(&self, grace: Duration) -> Duration {
        self.exit_deadline.get_or_init(|| Instant::now() + grace);
        self.hub.health.note_draining();
        let alone = !self.has_managers;
        let until_empty = self
            .placement
            .with_agent(|holder, now| holder.begin_leaving(now, grace, alone).saturating_sub(now));
        self.heartbeat_requested.notify_one();
        until_empty
    }

    /// Notes that a viewer was refused because the reader is full, and sends a heartbeat at once, so that the managers
    /// send the next viewers to other readers. Sends no heartbeat if the last one already said that the reader is full.
    fn note_full(&self) {
        if !self.full_was_reported.swap(true, Ordering::Relaxed) {
            self.heartbeat_requested.notify_one();
        }
    }

    /// Returns true if one more viewer may now be redirected to another reader because this reader is full. If it may
    /// be redirected, counts the redirect.
    fn may_redirect(&self) -> bool {
        let now = self.placement.with_agent(|_, now| now);
        self.redirect_buckets.lock().unwrap_or_else(PoisonError::into_inner).take_tokens((), 1, now).is_ok()
    }

    /// Sends the managers a heartbeat now and waits until it has been sent, for at most `limit`.
    async fn send_heartbeat_now(&self, limit: Duration) {
        let mut beaten = self.heartbeats_sent.subscribe();
        self.heartbeat_requested.notify_one();
        let _ = tokio::time::timeout(limit, beaten.changed()).await;
    }

    /// Returns the names of up to `limit` channels with viewers (`video:<id>`), those with most viewers first.
    fn channel_names(&self, limit: usize) -> Vec<String> {
        let mut audience = self.hub.viewers_by_video();
        audience.sort_by(|(a, fewer), (b, more)| more.cmp(fewer).then_with(|| a.cmp(b)));
        audience.into_iter().take(limit).map(|(video, _)| format!("video:{video}")).collect()
    }

    fn build_report(&self) -> ReaderReport {
        ReaderReport {
            instance_id: self.hub.settings.id.to_string(),
            active_connections: self.hub.viewers_without_canary(),
            capacity: Some(self.hub.settings.capacity),
            subscribed_topics: self.channel_names(MAX_CHANNELS_REPORTED),
            messages_sent: self.hub.metrics.messages_written.get(),
        }
    }
}

fn manager_replicas(config: &Config, identity: &Identity, shell: &ServiceContext) -> Option<ServiceReplicas> {
    let peers = shell.peer_client().with_token_for(identity, CalledService::Manager);
    ServiceReplicas::new(peers, config.manager_url.clone())
}

fn reader_id_from_host(port: u16) -> anyhow::Result<ReaderId> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "reader" } else { host.trim() };
    ReaderId::parse(&format!("{host}-{port}")).context("the host's name makes no reader id: set --reader-id")
}

/// Ends all viewers' streams when it is dropped, so that the streams end with the reader, whatever ends the reader.
struct StreamsGuard(Arc<ChannelHub>);

impl Drop for StreamsGuard {
    fn drop(&mut self) {
        self.0.fanout.stop();
    }
}

/// Runs a reader that serves viewers on `listener` until the shutdown signal of `shell`, then drains it.
pub async fn run(
    config: Config,
    archive: Arc<dyn Archive>,
    bus: Arc<dyn CommentBus>,
    listener: TcpListener,
    shell: ServiceContext,
) -> anyhow::Result<()> {
    let port = listener.local_addr().context("the listening socket has no address")?.port();
    let reader = RunningReader::new(&config, archive, bus, port, &shell)?;
    let streams = StreamsGuard(Arc::clone(&reader.hub));
    let served = CancellationToken::new();
    let mut tasks = start_background_tasks(&reader, &config, &shell);
    tasks.spawn("drain", drain::run(Arc::clone(&reader), shell.clone(), served.clone()));
    // The port stays open while the reader drains: viewers who come meanwhile are told which reader to use.
    let server_shell = ServiceContext {
        shutdown: served,
        drain_time: drain::REQUESTS_TIMEOUT.min(shell.drain_time / 4),
        ..shell.clone()
    };
    let router = http::router(reader, Arc::clone(&shell.http_settings.allowed_origins));
    let serving = async {
        tokio::select! {
            result = server::serve_until_shutdown(CalledService::Reader, listener, router, &server_shell) => result,
            () = streams.0.fanout.wait_for_thread_end() => Err(anyhow::anyhow!("a thread that writes to viewers ended")),
        }
    };
    tasks.run_alongside(serving).await
}

/// Starts the tasks that run beside the HTTP server until the reader ends.
fn start_background_tasks(reader: &Arc<RunningReader>, config: &Config, shell: &ServiceContext) -> Tasks {
    let mut tasks = Tasks::new(shell);
    let hub = &reader.hub;
    tasks.spawn("dispatch", dispatch::run(Arc::clone(hub), shell.tracer.clone()));
    tasks.spawn("compare_heads", heads::run(Arc::clone(hub)));
    tasks.spawn("channels", channels::run(Arc::clone(reader)));
    tasks.spawn("hand_over", handing::run(Arc::clone(reader)));
    tasks.spawn("keep_alive", Arc::clone(hub).send_heartbeats());
    tasks.spawn("viewer_counts", viewer_counts::run(Arc::clone(hub)));
    if let Some(managers) = manager_replicas(config, &reader.identity, shell) {
        heartbeat::note_waiting_for_name(reader);
        tasks.spawn("heartbeat", heartbeat::run(Arc::clone(reader), managers));
    }
    let (reporting, shell) = (Arc::clone(reader), shell.clone());
    let to_statistics =
        shell.peer_client().with_bound_token_for(&reporting.identity, CalledService::Statistics);
    let statistics = ServiceReplicas::new(to_statistics, config.statistics_url.clone());
    tasks.spawn("report", async move {
        report::send_reports(statistics, "reader-api-statistics", shell, || reporting.build_report()).await;
    });
    tasks
}
