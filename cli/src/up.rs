//! `liverank up`: all services in one process.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, Command};
use liverank_adapters::Backends;
use liverank_protocol::access::{CallerRole, KnownCaller};
use liverank_runtime::identity::local::KeyRing;
use liverank_runtime::server::bind_listener;
use liverank_runtime::{Identity, ServiceContext, admin};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::demo;
use crate::identity::{DATA_KEY_FILE, open_or_create_key_ring};
use crate::process::ProcessArgs;
use crate::stores::{RequiredStores, StoreArgs, open_embedded};
use crate::token::{DevKeys, UpAuth};

/// The arguments of `liverank up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// The directory of the embedded stores; not used with --kafka, --redis and --mongodb.
    #[arg(long, env = "LIVERANK_DATA_DIR", default_value = "liverank-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// The address of the gateway: the console, and everything public.
    #[arg(long, env = "LIVERANK_GATEWAY_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    gateway_listen: SocketAddr,
    /// The address at which ranked lists are pushed.
    #[arg(long, env = "LIVERANK_WEBSOCKET_LISTEN", default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    websocket_listen: SocketAddr,
    /// The address of the comment service.
    #[arg(long, env = "LIVERANK_COMMENT_LISTEN", default_value = "127.0.0.1:3000", value_name = "ADDRESS")]
    comment_listen: SocketAddr,
    /// The addresses of the readers, one for each.
    #[arg(
        long,
        env = "LIVERANK_READER_LISTEN",
        default_value = "127.0.0.1:4001,127.0.0.1:4002,127.0.0.1:4003",
        value_delimiter = ',',
        value_name = "ADDRESS,…"
    )]
    reader_listen: Vec<SocketAddr>,
    /// The addresses of the manager. 6000 is for the seed's clients: browsers and Node refuse that port.
    #[arg(
        long,
        env = "LIVERANK_MANAGER_LISTEN",
        default_value = "127.0.0.1:6100,127.0.0.1:6000",
        value_delimiter = ',',
        value_name = "ADDRESS,…"
    )]
    manager_listen: Vec<SocketAddr>,
    /// The address of the statistics service.
    #[arg(
        long,
        env = "LIVERANK_STATISTICS_LISTEN",
        default_value = "127.0.0.1:5000",
        value_name = "ADDRESS"
    )]
    statistics_listen: SocketAddr,
    /// Everybody who reaches the gateway may delete comments and ban users: for trials, where no tokens are asked for
    /// and the gateway listens on a loopback address.
    #[arg(long, env = "LIVERANK_MODERATION_OPEN", default_value_t = false)]
    moderation_open: bool,
    /// Offer the demo in the console's Operate tab also if the gateway listens on more than a loopback address.
    ///
    /// The demo runs 80 s with simulated viewers, a video that goes viral, and a reader that is drained. There is no
    /// demo if viewers need tokens of an outside issuer, because the demo has none to show.
    #[arg(long, env = "LIVERANK_DEMO", default_value_t = false)]
    demo: bool,
    /// A file (JSON) with rules that every comment must keep, as `rules` of `POST /moderation/rules`.
    #[arg(long, env = "LIVERANK_COMMENT_RULES_FILE", value_name = "FILE")]
    comment_rules_file: Option<PathBuf>,
    #[command(flatten)]
    auth: UpAuth,
    #[command(flatten)]
    hook: liverank_comment::hook::HookArgs,
    #[command(flatten)]
    canary: liverank_gateway::CanaryArgs,
    #[command(flatten, next_help_heading = "Counting")]
    consumer: liverank_consumer::Config,
    #[command(flatten)]
    stores: StoreArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

/// The listening sockets, all of them bound before anything runs.
struct Listeners {
    gateway: TcpListener,
    websocket: TcpListener,
    comment: TcpListener,
    readers: Vec<TcpListener>,
    managers: Vec<TcpListener>,
    statistics: TcpListener,
    admin: TcpListener,
}

impl UpArgs {
    /// Runs all services until they were asked to end and have drained.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let process = self.process.clone();
        process.run(|mut shell| async move {
            // The settings are checked first, then the ports are opened, then the files: nothing is created on disk for
            // a system that cannot run.
            let real = self.check_settings().await?;
            let listeners = self.bind().await?;
            let on_disk = real.is_none();
            let (backends, storage) = self.open_backends(real)?;
            let own_key = !self.process.identity.any_given();
            if own_key {
                shell.identity = Identity::with_keys(self.own_identity_secret(on_disk)?);
            }
            let welcome = welcome_text(
                &listeners,
                shell.http_settings.tls.is_some(),
                &storage,
                (own_key && on_disk).then(|| self.data_dir.join(DATA_KEY_FILE)),
                self.token_command().as_deref(),
            )?;
            let mut services = start_services(&self, listeners, &backends, &shell)?;
            // Nobody may read the output; the system is up all the same.
            let _ = writeln!(std::io::stdout(), "{welcome}");
            wait_until_ended(&mut services, &shell).await
        })
    }

    /// Returns the secret by which the services know each other if none was given. Only a program that may read the
    /// data directory, such as `liverank status` of the same user, can act as one of these services. If `liverank up`
    /// keeps nothing on disk, the secret is random.
    fn own_identity_secret(&self, on_disk: bool) -> anyhow::Result<KeyRing> {
        if on_disk { open_or_create_key_ring(&self.data_dir) } else { KeyRing::with_random_secret() }
    }

    /// Returns the command that prints a token of the user `ann`, if viewers need development tokens.
    fn token_command(&self) -> Option<String> {
        let command = format!("liverank token user --user ann --data-dir {}", self.data_dir.display());
        self.auth.uses_dev_keys().then_some(command)
    }

    /// Binds every port. The port of the gateway is bound first, so that the error of a second `liverank up` names the
    /// port that people know.
    async fn bind(&self) -> anyhow::Result<Listeners> {
        let gateway = bind_listener(self.gateway_listen, "the gateway", "--gateway-listen").await?;
        let mut readers = Vec::new();
        for (at, address) in self.reader_listen.iter().enumerate() {
            readers.push(bind_listener(*address, &format!("reader-{}", at + 1), "--reader-listen").await?);
        }
        let mut managers = Vec::new();
        for address in &self.manager_listen {
            managers.push(bind_listener(*address, "the manager", "--manager-listen").await?);
        }
        let websocket = (self.websocket_listen, "the websocket service", "--websocket-listen");
        let comment = (self.comment_listen, "the comment service", "--comment-listen");
        let statistics = (self.statistics_listen, "the statistics service", "--statistics-listen");
        let admin = (self.process.admin_listen, "the admin port", "--admin-listen");
        let bind = async |(address, what, flag)| bind_listener(address, what, flag).await;
        Ok(Listeners {
            gateway,
            websocket: bind(websocket).await?,
            comment: bind(comment).await?,
            readers,
            managers,
            statistics: bind(statistics).await?,
            admin: bind(admin).await?,
        })
    }

    /// Checks the settings of `liverank up`. Returns the stores that are named, not connected yet; `None` for embedded
    /// ones.
    async fn check_settings(&self) -> anyhow::Result<Option<Backends>> {
        ensure!(!self.manager_listen.is_empty(), "--manager-listen needs an address");
        self.auth.check()?;
        self.consumer.boards.read_declarations()?;
        self.hook.check()?;
        let tls = &self.process.tls;
        ensure!(
            tls.tls_cert_file.is_none() || tls.peers.peer_ca_file.is_some(),
            "--tls-cert-file needs --peer-ca-file here: the parts ask each other over TLS, at 127.0.0.1 or where they listen, and \
             know each other's certificate by its authority"
        );
        if !self.stores.any_store_configured() {
            let exports = &self.consumer.export;
            let is_asked = exports.export_comments.is_some() || exports.export_boards.is_some();
            ensure!(
                !is_asked,
                "--export-comments and --export-boards need --kafka: without it the log has no other topics"
            );
            return Ok(None);
        }
        self.stores.clone().open_all(RequiredStores::needing_all_stores("up")).await.map(Some)
    }

    fn open_backends(&self, real: Option<Backends>) -> anyhow::Result<(Backends, String)> {
        if let Some(real) = real {
            return Ok((real, "Kafka, Redis and MongoDB as given".into()));
        }
        let path = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        Ok((open_embedded(&self.data_dir)?, path.display().to_string()))
    }
}

type ServiceTasks = JoinSet<(&'static str, anyhow::Result<()>)>;

fn start_services(
    up: &UpArgs,
    listeners: Listeners,
    backends: &Backends,
    shell: &ServiceContext,
) -> anyhow::Result<ServiceTasks> {
    let url = |listener: &TcpListener| {
        anyhow::Ok(format!(
            "{}://{}",
            shell.http_settings.scheme(),
            reachable_address(listener.local_addr()?)
        ))
    };
    let manager = url(listeners.managers.first().context("--manager-listen needs an address")?)?;
    let statistics = url(&listeners.statistics)?;
    let comment = url(&listeners.comment)?;
    let websocket = url(&listeners.websocket)?;
    let both = ["--manager-url", &manager, "--statistics-url", &statistics];
    let front = ["--comment-url", &comment, "--websocket-url", &websocket];
    let asks_for_tokens = up.auth.is_required();
    let mut services = ServiceTasks::new();
    macro_rules! spawn {
        ($name:literal, $service:expr) => {
            let running = $service;
            services.spawn(async move { ($name, running.await) });
        };
    }
    // If the gateway asks viewers for tokens, the services behind it must accept viewers from the gateway only.
    let shell = &ServiceContext {
        identity: shell.identity.clone().with_gateway_for_viewers(asks_for_tokens),
        ..shell.clone()
    };
    let (b, s) = (|| backends.clone(), || shell.clone());
    let acting = |role| {
        let caller = KnownCaller::of_role(role).context("no reader")?;
        anyhow::Ok(ServiceContext { identity: shell.identity.acting_as(&caller)?, ..shell.clone() })
    };
    let named_url = |(at, listener)| anyhow::Ok(format!("reader-{}={}", at + 1, url(listener)?));
    let reader_urls: Vec<_> =
        listeners.readers.iter().enumerate().map(named_url).collect::<Result<_, _>>()?;
    let reader_urls = reader_urls.join(",");
    spawn!("the admin port", admin::run(listeners.admin, s()));
    spawn!(
        "statistics",
        liverank_statistics::run(b().archive, listeners.statistics, acting(CallerRole::Statistics)?)
    );
    let manager_settings =
        parse_service_config(&[&["--autopilot", "--reader-urls", &reader_urls], &both[2..]].concat())?;
    let (ports, own_shell) = (listeners.managers, acting(CallerRole::Manager)?);
    spawn!("manager", liverank_manager::run(manager_settings, b().assignments, ports, own_shell));
    for (at, listener) in listeners.readers.into_iter().enumerate() {
        let (name, address) = (format!("reader-{}", at + 1), url(&listener)?);
        let own = ["--reader-id", &name, "--public-url", &address, "--internal-url", &address];
        let own_shell = ServiceContext { metrics: shell.metrics.labelled_with_reader(&name), ..s() };
        let own = parse_service_config(&[&own[..], &both].concat())?;
        spawn!("reader", liverank_reader::run(own, b().archive, b().comments, listener, own_shell));
    }
    let comment = comment_settings(up, &both)?;
    spawn!("comment", liverank_comment::run(comment, b().log, b().archive, listeners.comment, s()));
    spawn!(
        "websocket",
        liverank_websocket::run(websocket_settings(up)?, b().ranking, b().clock, listeners.websocket, s())
    );
    spawn!("consumer", liverank_consumer::run(up.consumer.clone(), b(), s()));
    let mut gateway = gateway_settings(up, &[&both[..], &front].concat())?;
    let is_local = listeners.gateway.local_addr()?.ip().is_loopback();
    if (is_local || up.demo) && (!asks_for_tokens || up.auth.uses_dev_keys()) {
        let system =
            demo_system(up, &url(&listeners.gateway)?, &manager, acting(CallerRole::Operator)?.identity)?;
        let (demo, running) = demo::new_demo(system, s());
        gateway.demo = Some(demo);
        spawn!("the demo", running);
    }
    spawn!("gateway", liverank_gateway::run(gateway, b(), listeners.gateway, acting(CallerRole::Gateway)?));
    Ok(services)
}

fn comment_settings(up: &UpArgs, flags: &[&str]) -> anyhow::Result<liverank_comment::Config> {
    let mut comment: liverank_comment::Config = parse_service_config(flags)?;
    comment.comment_rules_file.clone_from(&up.comment_rules_file);
    comment.hook.clone_from(&up.hook);
    Ok(comment)
}

fn gateway_settings(up: &UpArgs, flags: &[&str]) -> anyhow::Result<liverank_gateway::Config> {
    let mut gateway: liverank_gateway::Config = parse_service_config(flags)?;
    gateway.auth = up.auth.gateway_auth_args(&up.data_dir)?;
    gateway.moderation_open = up.moderation_open;
    gateway.canary = up.canary;
    gateway.boards.clone_from(&up.consumer.boards);
    Ok(gateway)
}

fn websocket_settings(up: &UpArgs) -> anyhow::Result<liverank_websocket::Config> {
    let mut websocket: liverank_websocket::Config = parse_service_config(&[])?;
    websocket.boards.clone_from(&up.consumer.boards);
    Ok(websocket)
}

/// Returns the addresses, the identity and the tokens that the demo needs of this system.
fn demo_system(
    up: &UpArgs,
    gateway: &str,
    manager: &str,
    identity: Identity,
) -> anyhow::Result<demo::DemoSystem> {
    let keys = up.auth.uses_dev_keys().then(|| DevKeys::in_data_directory(&up.data_dir)).transpose()?;
    Ok(demo::DemoSystem {
        gateway: gateway.parse()?,
        manager: manager.parse()?,
        identity,
        token_maker: keys
            .map(|keys| -> demo::TokenMaker { Box::new(move |user: &str| keys.viewer_token(user)) }),
    })
}

/// Returns a service's configuration from these flags, and defaults for the rest.
fn parse_service_config<C: Args>(flags: &[&str]) -> anyhow::Result<C> {
    let command = C::augment_args(Command::new("up").no_binary_name(true));
    Ok(C::from_arg_matches(&command.try_get_matches_from(flags)?)?)
}

/// Waits until all services have ended: drained after a signal, or because one failed, which ends the others, too.
/// Returns the first service's failure.
async fn wait_until_ended(services: &mut ServiceTasks, shell: &ServiceContext) -> anyhow::Result<()> {
    let mut failure = Ok(());
    let mut draining = false;
    // The admin port ends last: it never ends by itself.
    while services.len() > 1 {
        let ended = tokio::select! {
            ended = services.join_next() => ended,
            () = shell.shutdown.cancelled(), if !draining => {
                draining = true;
                shell.health.note_draining();
                continue;
            }
        };
        let Some(ended) = ended else { break };
        let (name, result) = ended.context("a service panicked")?;
        let unasked = !shell.shutdown.is_cancelled() && result.is_ok();
        let result = if unasked { Err(anyhow::anyhow!("ended without being asked to")) } else { result };
        if let Err(error) = result {
            shell.shutdown.cancel();
            failure = failure.and(Err(error.context(name)));
        }
    }
    failure
}

/// Returns the address by which a listener is reached from this machine: a wildcard address becomes 127.0.0.1.
fn reachable_address(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    address
}

/// Returns the commands to try at the gateway `front`, such as `http://localhost:8080`. If there is a `token_command`,
/// the commands send the token that it prints, and act as the user of that token.
fn commands_to_try(front: &str, token_command: Option<&str>) -> String {
    let (header, second_user) = match token_command {
        Some(_) => (r#" -H "Authorization: Bearer $TOKEN""#, "ann"),
        None => ("", "ben"),
    };
    let token = token_command.map(|command| format!("    TOKEN=$({command})\n")).unwrap_or_default();
    format!(
        r#"{token}    curl {front}/interact{header} --json '{{"video_id":"cats","user_id":"ann","type":"like"}}'
    curl {front}/videos{header}
    curl -N '{front}/connect?userid=ann&videoid=cats'{header}     (and in another terminal)
    curl {front}/comment{header} --json '{{"userid":"{second_user}","videoid":"cats","comment":"Hello!"}}'"#
    )
}

/// Returns the welcome text: all addresses, and a few commands to try.
fn welcome_text(
    listeners: &Listeners,
    tls: bool,
    storage: &str,
    key: Option<PathBuf>,
    token_command: Option<&str>,
) -> anyhow::Result<String> {
    let port = |listener: &TcpListener| anyhow::Ok(reachable_address(listener.local_addr()?).to_string());
    let front = port(&listeners.gateway)?.replace("127.0.0.1", "localhost");
    let readers: Vec<String> = listeners.readers.iter().map(port).collect::<Result<_, _>>()?;
    let managers: Vec<String> = listeners.managers.iter().map(port).collect::<Result<_, _>>()?;
    let scheme = if tls { "https" } else { "http" };
    Ok(format!(
        r"
  liverank is up                                    data: {storage}

  page         {scheme}://{front}/
  gateway      {scheme}://{front}      interactions, rankings, and everything below
  websocket    {ws}://{websocket}/ws/videos
  comment      {scheme}://{comment}
  readers      {readers}
  manager      {scheme}://{manager}
  statistics   {scheme}://{statistics}/statistics
  admin        {scheme}://{admin}/readyz   /livez   /metrics
  API          {scheme}://{front}/docs
{key}
  try
{commands}

  Ctrl-C drains and ends.
",
        ws = if tls { "wss" } else { "ws" },
        key = key.map_or_else(String::new, |file| {
            format!(
                "  key          --identity-key-file {}      for liverank status, moves, plan\n",
                file.display()
            )
        }),
        commands = commands_to_try(&format!("{scheme}://{front}"), token_command),
        websocket = port(&listeners.websocket)?,
        comment = port(&listeners.comment)?,
        readers = readers.join("  "),
        manager = managers.join("  "),
        statistics = port(&listeners.statistics)?,
        admin = port(&listeners.admin)?,
    ))
}
