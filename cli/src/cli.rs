//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Command, CommandFactory, Parser};
use liverank_maintenance::verify;
use liverank_runtime::ServiceContext;
use liverank_runtime::telemetry::{self, LogArgs};
use liverank_runtime::{process, server, shutdown};

use crate::probe::Probe;
use crate::stores::{StoreArgs, hide_unused};
use crate::tools::{Dlq, Rebuild, Tool};
use crate::{role, up};

/// Ranks videos in real time by what viewers do with them, and carries the live comments of every video.
///
/// `liverank up` runs everything in one process and needs nothing else. The other services are the same parts, one a
/// process, on Kafka, Redis and MongoDB.
///
/// Every flag can also be set by its `LIVERANK_…` variable, and by its name in a YAML file given with --config: flags win
/// over variables, variables over the file, the file over defaults. A key or value that is not understood is refused by
/// name.
#[derive(Debug, Parser)]
#[command(name = "liverank", version, propagate_version = true, max_term_width = 110)]
pub enum Cli {
    /// Everything in one process, on embedded storage (or on the stores given): to try, to develop, to test.
    Up(Box<up::Up>),
    /// The front door: interactions in, rankings out, the console page, and every public path of the others.
    Gateway(Box<Role<liverank_gateway::Config>>),
    /// Reads the log: counts, scores, numbers comments, publishes.
    Consumer(Box<Role<liverank_consumer::Config>>),
    /// Pushes ranked lists over WebSocket.
    Websocket(Box<Role<liverank_websocket::Config>>),
    /// Takes comments into the log, answers history.
    Comment(Box<Role<liverank_comment::Config>>),
    /// Holds viewers' connections and fans comments out to them.
    Reader(Box<Role<liverank_reader::Config>>),
    /// Knows which reader serves which video.
    Manager(Box<Role<liverank_manager::Config>>),
    /// Answers with everything in one place.
    Statistics(Box<Role<liverank_statistics::Config>>),
    /// Simulated viewers and posters against a running system, and whether anything got lost.
    Load(Box<Load>),
    /// What ways of giving videos to readers do to the readers' load, with time; also to recorded load reports.
    Simulate(Box<liverank_simulate::Args>),
    /// Whether log, archive and boards agree, while the system serves: each video that differs is named.
    Verify(Box<Tool<verify::Options>>),
    /// Makes one store anew from another while the system serves, and then puts it in place as a whole.
    #[command(subcommand)]
    Rebuild(Rebuild),
    /// What could not be read from the log.
    #[command(subcommand)]
    Dlq(Dlq),
    /// Asks processes until they answer well, say their `/readyz`: for images that have no other client.
    Probe(Probe),
}

/// How long after its drain a process may take to end: what a service does at the end is bounded by it several times.
const LATE: Duration = Duration::from_secs(10);

/// What every process takes.
#[derive(Debug, Clone, Args)]
pub struct Process {
    /// A YAML file with the same settings as these flags; keys of other services are passed over.
    #[arg(long, env = "LIVERANK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "LIVERANK_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,
    /// How many seconds a drain may take after SIGTERM or Ctrl-C; a second signal ends at once.
    #[arg(long, env = "LIVERANK_DRAIN_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=600))]
    drain_seconds: u64,
}

impl Process {
    /// Starts logging, and a runtime in which `main` lives with a shell that ends on signals.
    pub fn run<F: Future<Output = anyhow::Result<()>>>(
        &self,
        main: impl FnOnce(ServiceContext) -> F,
    ) -> anyhow::Result<ExitCode> {
        telemetry::init(&self.log);
        server::raise_file_limit();
        let process =
            process::Process { drain: Duration::from_secs(self.drain_seconds), late: LATE, threads: None };
        process.run(main).map(|()| ExitCode::SUCCESS)
    }
}

/// One service as a process of its own.
#[derive(Debug, Clone, Args)]
pub struct Role<C: Args> {
    /// Where it listens.
    #[arg(long, env = "LIVERANK_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub config: C,
    #[command(flatten)]
    pub stores: StoreArgs,
    #[command(flatten)]
    pub process: Process,
}

/// `liverank load`.
#[derive(Debug, Clone, Args)]
pub struct Load {
    #[command(flatten)]
    load: liverank_load::Args,
    #[command(flatten)]
    log: LogArgs,
}

impl Load {
    /// Exit code 1 where something acknowledged was missing, repeated or out of order.
    fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::init(&self.log);
        server::raise_file_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let good = runtime.block_on(async {
            let shell = ServiceContext::new(Duration::ZERO);
            shutdown::on_signal(shell.shutdown.clone())?;
            liverank_load::run(self.load, shell.shutdown).await
        })?;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run(),
            Self::Gateway(it) => role::run("gateway", *it, StoreArgs::all, liverank_gateway::run),
            Self::Consumer(it) => {
                role::run("consumer", *it, StoreArgs::all, |config, backends, _listener, shell| {
                    liverank_consumer::run(config, backends, shell)
                })
            }
            Self::Websocket(it) => {
                let ranking = async |stores: StoreArgs, who| stores.ranking(who);
                role::run("websocket", *it, ranking, liverank_websocket::serve)
            }
            Self::Comment(it) => {
                role::run("comment", *it, StoreArgs::log_and_archive, |config, (log, archive), at, shell| {
                    liverank_comment::serve(config, log, archive, at, shell)
                })
            }
            Self::Reader(it) => {
                role::run("reader", *it, StoreArgs::archive_and_bus, |config, (archive, bus), at, shell| {
                    liverank_reader::serve(config, archive, bus, at, shell)
                })
            }
            Self::Manager(it) => {
                let assignments = async |stores: StoreArgs, who| stores.assignments(who);
                role::run("manager", *it, assignments, liverank_manager::serve)
            }
            Self::Statistics(it) => {
                role::run("statistics", *it, StoreArgs::archive, |_config, archive, at, shell| {
                    liverank_statistics::serve(archive, at, shell)
                })
            }
            Self::Load(load) => load.run(),
            Self::Simulate(args) => {
                liverank_simulate::run(&args, &mut std::io::stdout().lock()).map(|()| ExitCode::SUCCESS)
            }
            Self::Verify(tool) => tool.verify(),
            Self::Rebuild(what) => what.run(),
            Self::Dlq(what) => what.run(),
            Self::Probe(probe) => probe.run(),
        }
    }
}

/// Ports by role: the service's own (the seeds' ones), and its admin port. The consumer has no service port.
pub const PORTS: [(&str, Option<u16>, u16); 8] = [
    ("up", None, 9090),
    ("gateway", Some(8080), 9080),
    ("consumer", None, 9082),
    ("websocket", Some(8081), 9081),
    ("comment", Some(3000), 9030),
    ("reader", Some(4001), 9040),
    ("manager", Some(6000), 9060),
    ("statistics", Some(5000), 9050),
];

/// The command line with each role's own defaults.
pub fn command() -> Command {
    PORTS.iter().fold(Cli::command(), |command, (role, port, admin)| {
        // Admin ports carry no secrets, and probes and scrapers come from other machines.
        let host = if *role == "up" { "127.0.0.1" } else { "0.0.0.0" };
        command.mut_subcommand(role, |command| {
            let command = hide_unused(role, command)
                .mut_arg("admin_listen", |arg| arg.required(false).default_value(format!("{host}:{admin}")));
            match port {
                Some(port) => command.mut_arg("listen", |arg| arg.default_value(format!("0.0.0.0:{port}"))),
                None if *role == "consumer" => command.mut_arg("listen", |arg| arg.hide(true)),
                None => command,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }
}
