//! The command line of `liverank`: its commands, the flags that all processes have in common, and the call of each
//! command.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Command, CommandFactory, Parser};
use liverank_adapters::clock;
use liverank_maintenance::verify;
use liverank_protocol::roles::Role;
use liverank_runtime::identity::args::IdentityArgs;
use liverank_runtime::output::OutputArgs;
use liverank_runtime::telemetry::{self, LogArgs};
use liverank_runtime::tls::{ProcessTls, TlsArgs};
use liverank_runtime::traces::{self, TraceArgs};
use liverank_runtime::{HttpArgs, HttpSettings, ServiceContext};
use liverank_runtime::{process, server, shutdown};
use serde_json::json;

use crate::doctor::Doctor;
use crate::help::{self, HelpAmount};
use crate::look::orders::{CordonArgs, Drain, Move};
use crate::look::{MovesShown, Plan, Status};
use crate::probe::Probe;
use crate::stores::{StoreArgs, hide_unused};
use crate::token::TokenCommand;
use crate::tools::{DeadLetterCommand, EraseCommand, RebuildCommand, Tool};
use crate::top::Top;
use crate::{role, up};

/// Ranks videos in real time by what viewers do with them, and carries the live comments of every video.
///
/// `liverank up` runs everything in one process and needs nothing else. The other commands run the same services, one
/// in each process, on Kafka, Redis and MongoDB.
///
/// Every flag can also be set by its `LIVERANK_…` variable, and by its name in a YAML file given with --config: flags win
/// over variables, variables over the file, the file over defaults. A key or value that is not understood is refused by
/// name.
#[derive(Debug, Parser)]
#[command(name = "liverank", version, propagate_version = true, max_term_width = 110)]
pub enum Cli {
    /// All services in one process, on embedded storage (or on the stores given): to try, to develop, to test.
    Up(Box<up::Up>),
    /// The gateway: accepts interactions, answers rankings, serves the console and all other public paths.
    Gateway(Box<RoleArgs<liverank_gateway::Config>>),
    /// Reads the log: counts and scores events, numbers and publishes comments.
    Consumer(Box<RoleArgs<liverank_consumer::Config>>),
    /// Pushes ranked lists over WebSocket.
    Websocket(Box<RoleArgs<liverank_websocket::Config>>),
    /// Appends comments to the log, and answers their history.
    Comment(Box<RoleArgs<liverank_comment::Config>>),
    /// Holds viewers' connections and fans comments out to them.
    Reader(Box<RoleArgs<liverank_reader::Config>>),
    /// Manages which reader serves which video.
    Manager(Box<RoleArgs<liverank_manager::Config>>),
    /// Answers statistics of the whole system in one place.
    Statistics(Box<RoleArgs<liverank_statistics::Config>>),
    /// Prints the state of the readers, and everything that is wrong.
    Status(Box<Status>),
    /// Shows readers, viewers, hot videos, moves, lag and rates, and updates them.
    Top(Box<Top>),
    /// Prints the moves of videos between readers: waiting, in progress and ended ones, with their reasons.
    Moves(Box<MovesShown>),
    /// Prints the last decisions of the planner in the managers, with reasons.
    Plan(Box<Plan>),
    /// Moves a video to a reader, or to several, by hand.
    Move(Box<Move>),
    /// Cordons readers: they get no new videos, and keep those that they have.
    Cordon(Box<CordonArgs>),
    /// Opens cordoned or drained readers again.
    Uncordon(Box<CordonArgs>),
    /// Drains readers: their viewers move to other readers, at the usual pace.
    Drain(Box<Drain>),
    /// Checks if a system could run here: stores, versions, topics, clocks, limits. Each fault comes with its remedy.
    Doctor(Box<Doctor>),
    /// Shows the settings of a role with their sources, or checks a file of settings.
    #[command(subcommand)]
    Config(crate::settings::ConfigCommand),
    /// Simulates viewers and posters of a running system, and reports if anything got lost.
    Load(Box<Load>),
    /// Compares policies of giving videos to readers by the readers' load over time; also on recorded load reports.
    Simulate(Box<liverank_simulate::Args>),
    /// Compares log, archive and boards while the system serves, and names each video that differs.
    Verify(Box<Tool<verify::Options>>),
    /// Rebuilds one store from another while the system serves, and then replaces it as a whole.
    #[command(subcommand)]
    Rebuild(RebuildCommand),
    /// Dead letters: records that could not be read.
    #[command(subcommand)]
    Dlq(DeadLetterCommand),
    /// Erases everything that names a user, while the system serves.
    #[command(subcommand)]
    Erase(EraseCommand),
    /// Makes keys and tokens by which liverank processes know each other.
    #[command(subcommand)]
    Identity(crate::identity::IdentityCommand),
    /// Makes tokens to try a system that asks viewers for them.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Prints a shell's script that completes commands and flags: `source <(liverank completion bash)`.
    Completion(Completion),
    /// Writes the manual pages, one for each command: `man -l DIR/liverank.1`.
    Man(Man),
    /// Prints the version.
    Version(OutputArgs),
    /// Asks processes until they answer 2xx, say their `/readyz`: for images without another HTTP client.
    Probe(Probe),
}

/// The arguments of `liverank completion`.
#[derive(Debug, Clone, Args)]
pub struct Completion {
    /// The shell whose completion script is printed.
    shell: clap_complete::Shell,
}

impl Completion {
    fn run(self) -> anyhow::Result<ExitCode> {
        // The script is written to memory first, because the library panics if standard output is closed.
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut command_line(HelpAmount::AllSettings),
            "liverank",
            &mut script,
        );
        std::io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The arguments of `liverank man`.
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// The directory of the pages; it is created if necessary.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Returns the command without its subcommands `help`, which need no manual page.
fn without_help_commands(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help_commands)
}

impl Man {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let write = || {
            std::fs::create_dir_all(&self.directory)?;
            clap_mangen::generate_to(
                without_help_commands(command_line(HelpAmount::AllSettings)),
                &self.directory,
            )
        };
        write().with_context(|| format!("writing to {}", self.directory.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The time that a process may take to end after its drain, before it is ended by force: several times what a service
/// does at its end.
const MAX_TIME_AFTER_DRAIN: Duration = Duration::from_secs(10);

/// The flags of every process.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub struct Process {
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
    /// The most seconds that a drain may take after SIGTERM or Ctrl-C; a second signal ends at once.
    #[arg(long, env = "LIVERANK_DRAIN_SECONDS", help_heading = "Process", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=600))]
    drain_seconds: u64,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

impl Process {
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
            late_end_time: MAX_TIME_AFTER_DRAIN,
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
            let (tracer, export) = self.traces.open(&peers, &metrics, instance_name());
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
    pub process: Process,
}

/// The arguments of `liverank load`.
#[derive(Debug, Clone, Args)]
pub struct Load {
    #[command(flatten)]
    load: liverank_load::Args,
    #[command(flatten)]
    log: LogArgs,
}

impl Load {
    /// Runs `liverank load`. The exit code is 1 if anything acknowledged was missing, repeated or out of order.
    fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::init_logging(&self.log);
        server::raise_file_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let good = runtime.block_on(async {
            let shell = ServiceContext::new(Duration::ZERO);
            shutdown::cancel_on_signal(shell.shutdown.clone())?;
            liverank_load::run(self.load, shell.shutdown).await
        })?;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Cli {
    /// Runs the command that was given on the command line.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run(),
            Self::Gateway(it) => role::run(Role::Gateway, *it, StoreArgs::open_all, liverank_gateway::run),
            Self::Consumer(it) => {
                role::run(Role::Consumer, *it, StoreArgs::open_all, |config, backends, _listener, shell| {
                    liverank_consumer::run(config, backends, shell)
                })
            }
            Self::Websocket(it) => {
                let ranking = async |stores: StoreArgs, who| stores.open_ranking(who);
                role::run(Role::Websocket, *it, ranking, |config, ranking, at, shell| {
                    liverank_websocket::run(config, ranking, clock::system_clock(), at, shell)
                })
            }
            Self::Comment(it) => role::run(
                Role::Comment,
                *it,
                StoreArgs::open_log_and_archive,
                |config, (log, archive), at, shell| liverank_comment::run(config, log, archive, at, shell),
            ),
            Self::Reader(it) => role::run(
                Role::Reader,
                *it,
                StoreArgs::open_archive_and_bus,
                |config, (archive, bus), at, shell| liverank_reader::run(config, archive, bus, at, shell),
            ),
            Self::Manager(it) => {
                let assignments = async |stores: StoreArgs, who| stores.open_assignments(who);
                role::run(Role::Manager, *it, assignments, |config, store, at, shell| {
                    liverank_manager::run(config, store, vec![at], shell)
                })
            }
            Self::Statistics(it) => {
                role::run(Role::Statistics, *it, StoreArgs::open_archive, |_config, archive, at, shell| {
                    liverank_statistics::run(archive, at, shell)
                })
            }
            Self::Status(it) => it.run(),
            Self::Top(it) => it.run(),
            Self::Moves(it) => it.run(),
            Self::Plan(it) => it.run(),
            Self::Move(it) => it.run(),
            Self::Cordon(it) => it.cordon_readers(),
            Self::Uncordon(it) => it.uncordon_readers(),
            Self::Drain(it) => it.run(),
            Self::Doctor(it) => it.run(),
            Self::Config(it) => it.run(),
            Self::Load(load) => load.run(),
            Self::Simulate(args) => {
                liverank_simulate::run(&args, &mut std::io::stdout().lock()).map(|()| ExitCode::SUCCESS)
            }
            Self::Verify(tool) => tool.verify_stores(),
            Self::Rebuild(what) => what.run(),
            Self::Dlq(what) => what.run(),
            Self::Erase(what) => what.run(),
            Self::Identity(what) => what.run(),
            Self::Token(token) => token.run(),
            Self::Completion(completion) => completion.run(),
            Self::Man(man) => man.run(),
            Self::Version(output) => {
                let version = env!("CARGO_PKG_VERSION");
                output.print_value(&json!({"version": version}), || format!("liverank {version}\n"))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Probe(probe) => probe.run(),
        }
    }
}

/// The address of the admin port of `liverank up`.
const UP_ADMIN_ADDRESS: &str = "127.0.0.1:9090";

/// Returns the command line with the default addresses of each role, and with the help that `shown` asks for.
pub fn command_line(shown: HelpAmount) -> Command {
    help::arrange_help(with_own_defaults(Cli::command()), shown)
}

pub fn with_own_defaults(command: Command) -> Command {
    let up = |command: Command| {
        command.mut_arg("admin_listen", |arg| arg.required(false).default_value(UP_ADMIN_ADDRESS))
    };
    Role::ALL.into_iter().fold(command.mut_subcommand("up", up), |command, role| {
        command.mut_subcommand(role.name(), |command| {
            // Admin ports show no secrets, and probes and scrapers connect from other machines.
            let admin = format!("0.0.0.0:{}", role.admin_port());
            let command = hide_unused(role, command)
                .mut_arg("admin_listen", |arg| arg.required(false).default_value(admin));
            match role.port() {
                Some(port) => command.mut_arg("listen", |arg| arg.default_value(format!("0.0.0.0:{port}"))),
                None => command.mut_arg("listen", |arg| arg.hide(true)),
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use liverank_protocol::roles;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command_line(HelpAmount::UsualSettings).debug_assert();
        command_line(HelpAmount::AllSettings).debug_assert();
    }

    /// The commands that print no result: they serve until they are ended, or write files or a script.
    const COMMANDS_WITHOUT_ANSWER: &[&str] = &["up", "completion", "man", "init"];

    /// Collects every command without subcommands, with the words that lead to it.
    fn collect_leaf_commands<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let path = format!("{path} {}", below.get_name());
            if below.has_subcommands() {
                collect_leaf_commands(below, &path, found);
            } else {
                found.push((path, below));
            }
        }
    }

    #[test]
    fn all_commands_take_the_same_output_flags() {
        let mut command = command_line(HelpAmount::AllSettings);
        command.build();
        let mut found = Vec::new();
        collect_leaf_commands(&command, "liverank", &mut found);
        assert!(found.len() > 30, "{}", found.len());
        let serves = |name: &str| name == "up" || Role::ALL.iter().any(|role| role.name() == name);
        for (path, command) in found {
            let shown: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
            let flag = |long: &str| shown.iter().find(|arg| arg.get_long() == Some(long));
            let answers =
                !serves(command.get_name()) && !COMMANDS_WITHOUT_ANSWER.contains(&command.get_name());
            let output = flag("output").filter(|arg| arg.get_short() == Some('o'));
            let formats: Option<Vec<String>> = output
                .map(|arg| arg.get_possible_values().iter().map(|it| it.get_name().to_owned()).collect());
            let expected = answers.then(|| ["table", "json", "yaml"].map(str::to_owned).to_vec());
            assert_eq!(formats, expected, "{path}");
            for word in ["json", "budget", "tolerance", "seconds", "minutes", "hours"] {
                assert!(flag(word).is_none(), "{path} --{word}: there is another word for it");
            }
            // A setting of a role has its unit in its name, for files; in a value that a person types, the unit is part
            // of the value.
            let own = shown.iter().filter(|arg| arg.get_env().is_none()).filter_map(|arg| arg.get_long());
            let has_unit =
                |long: &&str| ["-seconds", "-minutes", "-hours"].iter().any(|unit| long.ends_with(unit));
            let units: Vec<&str> = own.filter(has_unit).collect();
            assert!(serves(command.get_name()) || units.is_empty(), "{path}: {units:?}");
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let directory = tempfile::tempdir().unwrap();
        Man { directory: directory.path().to_owned() }.run().unwrap();
        let mut command = command_line(HelpAmount::AllSettings);
        command.build();
        let mut found = Vec::new();
        collect_leaf_commands(&command, "liverank", &mut found);
        for (path, _) in found {
            let page =
                std::fs::read_to_string(directory.path().join(format!("{}.1", path.replace(' ', "-"))));
            let page = page.unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(page.contains(".SH OPTIONS") && !page.contains('`'), "{path}");
        }
        assert!(!directory.path().join("liverank-config-help.1").exists());
    }

    fn read_repository_file(path: &str) -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn every_setting_that_the_operator_writes_is_a_flag_of_its_role() {
        let command = command_line(HelpAmount::AllSettings);
        for setting in roles::SETTINGS {
            for role in setting.roles {
                let flags = command.find_subcommand(role.name()).unwrap();
                let flag = flags.get_arguments().find(|arg| arg.get_long() == Some(setting.name));
                let variable = format!("LIVERANK_{}", setting.name.to_uppercase().replace('-', "_"));
                let named = flag.and_then(clap::Arg::get_env).is_some_and(|env| *env == *variable);
                assert!(named, "liverank {} has no --{} with {variable}", role.name(), setting.name);
            }
        }
    }

    #[test]
    fn every_weight_of_the_consumer_can_be_set_by_the_operator() {
        let command = command_line(HelpAmount::AllSettings);
        let flags = command.find_subcommand(Role::Consumer.name()).unwrap().get_arguments();
        for name in flags.filter_map(clap::Arg::get_long).filter(|name| name.starts_with("weight-")) {
            assert!(
                roles::find_setting(Role::Consumer, name).is_some(),
                "--{name} is not in the table of roles"
            );
        }
    }

    #[test]
    fn compose_and_the_chart_agree_with_the_table_of_roles() {
        let compose: serde_yaml::Value =
            serde_yaml::from_str(&read_repository_file("docker-compose.yml")).unwrap();
        let command = command_line(HelpAmount::AllSettings);
        for role in Role::ALL {
            let name = if role == Role::Reader { "reader-1" } else { role.name() };
            let service = &compose["services"][name];
            assert_eq!(service["command"].as_str(), Some(role.name()), "{name}");
            let listen = role.port().map(|port| format!("0.0.0.0:{port}"));
            assert_eq!(service["environment"]["LIVERANK_LISTEN"].as_str(), listen.as_deref(), "{name}");
            let flags = command.find_subcommand(role.name()).unwrap();
            let own = service["environment"].as_mapping().into_iter().flatten();
            for variable in own.filter_map(|(name, _)| name.as_str()).filter(|name| *name != "<<") {
                let known =
                    flags.get_arguments().any(|arg| arg.get_env().is_some_and(|env| *env == *variable));
                assert!(known, "{name}: {variable} is no variable of liverank {}", role.name());
            }
        }
        let manager = format!("{{protocol: TCP, port: {}}}", Role::Manager.port().unwrap());
        let policy = read_repository_file("charts/liverank/templates/networkpolicy.yaml");
        assert!(policy.contains(&manager), "the operator's network policy does not let it to the managers");
    }

    #[test]
    fn the_document_of_roles_is_that_of_the_table() {
        let text = roles::roles_document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/roles.md");
            std::fs::write(path, &text).unwrap();
        }
        assert!(
            read_repository_file("docs/roles.md") == text,
            "docs/roles.md differs: UPDATE_DOCS=1 writes it anew"
        );
    }
}
