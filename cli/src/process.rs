//! The flags that all processes have in common, and the start of a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use liverank_runtime::duration::{SettingUnit, parser_in_unit};
use liverank_runtime::identity::args::IdentityArgs;
use liverank_runtime::telemetry::{self, LogArgs};
use liverank_runtime::tls::{ProcessTls, TlsArgs};
use liverank_runtime::traces::{self, TraceArgs};
use liverank_runtime::{HttpArgs, HttpSettings, ServiceContext};
use liverank_runtime::{process, server};

use crate::stores::StoreArgs;

/// The time that a process may take to end after its drain, before it is ended by force: several times what a service
/// needs for its last steps.
const MAX_TIME_AFTER_DRAIN: Duration = Duration::from_secs(10);

/// The flags of every process.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessArgs {
    /// A YAML file with the same settings as these flags; keys of other services are ignored.
    #[arg(long, env = "LIVERANK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    traces: TraceArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The address of the admin port: /livez, /readyz and /metrics.
    #[arg(long, env = "LIVERANK_ADMIN_LISTEN", help_heading = "Process", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,
    /// The longest time that a drain may take after SIGTERM or Ctrl-C; a second signal ends at once.
    #[arg(long, env = "LIVERANK_DRAIN_SECONDS", help_heading = "Process", value_name = "DURATION", default_value = "20s", value_parser = parser_in_unit::<u64>(SettingUnit::Seconds, 0, 600))]
    drain_seconds: u64,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

impl ProcessArgs {
    /// Starts logging and the async runtime, and runs `main` with a context that is shut down by signals.
    pub fn run<F: Future<Output = anyhow::Result<()>>>(
        &self,
        main: impl FnOnce(ServiceContext) -> F,
    ) -> anyhow::Result<ExitCode> {
        telemetry::init_logging(&self.log);
        server::raise_file_limit();
        let identity = self.identity.open_identity()?;
        let process = process::ProcessRuntime {
            drain_time: Duration::from_secs(self.drain_seconds),
            forced_end_delay: MAX_TIME_AFTER_DRAIN,
            thread_count: None,
            catches_panics: liverank_adapters::catches_panics_here,
        };
        let ProcessTls {
            listener_tls: listener,
            admin_tls: admin,
            peer_tls: peers,
            file_reloading: reloading,
        } = self.tls.open()?;
        let http = HttpSettings { tls: listener, admin_tls: admin, ..self.http.settings()? };
        let lived = process.run(|shell| {
            let metrics = shell.metrics.clone();
            let (tracer, export) = self.traces.open_tracer(&peers, &metrics, instance_name());
            let running =
                main(ServiceContext { identity, http_settings: http, peer_tls: peers, tracer, ..shell });
            async move {
                tokio::select! {
                    ended = traces::run_with_export(export, running) => ended,
                    never = reloading.reload_forever(&metrics) => match never {},
                }
            }
        });
        lived.map(|()| ExitCode::SUCCESS)
    }
}

/// Returns the name of the host, which is the pod's name on Kubernetes; `None` if `HOSTNAME` is not set.
fn instance_name() -> Option<String> {
    std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty())
}

/// The flags of a service that runs as a process of its own.
#[derive(Debug, Clone, Args)]
pub struct RoleArgs<C: Args> {
    /// The address to listen on.
    #[arg(long, env = "LIVERANK_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub config: C,
    #[command(flatten)]
    pub stores: StoreArgs,
    #[command(flatten)]
    pub process: ProcessArgs,
}
