//! The command line of `liverank`: its commands, and the call of each.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Command, CommandFactory, Parser};
use liverank_adapters::clock;
use liverank_maintenance::verify;
use liverank_protocol::roles::Role;
use liverank_runtime::output::OutputArgs;
use liverank_runtime::telemetry::{self, LogArgs};
use liverank_runtime::{ServiceContext, server, shutdown};
use serde_json::json;

use crate::doctor::DoctorArgs;
use crate::help::{self, HelpAmount};
use crate::look::orders::{CordonArgs, DrainArgs, MoveArgs};
use crate::look::plan::PlanArgs;
use crate::look::{MovesArgs, StatusArgs};
use crate::manual::{CompletionArgs, ManArgs};
use crate::probe::ProbeArgs;
use crate::process::RoleArgs;
use crate::stores::{StoreArgs, hide_unused};
use crate::token::TokenCommand;
use crate::tools::{DeadLetterCommand, EraseCommand, RebuildCommand, StoreCommand};
use crate::top::TopArgs;
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
    /// Runs all services in one process: to try, to develop, to test.
    ///
    /// They work on embedded storage, or on the stores that are given.
    Up(Box<up::UpArgs>),
    /// Accepts interactions, answers rankings, serves all public paths.
    ///
    /// The console is among what a gateway serves.
    Gateway(Box<RoleArgs<liverank_gateway::Config>>),
    /// Counts and scores events of the log, and publishes comments.
    ///
    /// A consumer numbers the comments of a video, too.
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
    Status(Box<StatusArgs>),
    /// Shows readers, viewers, hot videos, moves, lag and rates, live.
    Top(Box<TopArgs>),
    /// Prints the moves of videos between readers, with their reasons.
    ///
    /// Moves that wait, that are in progress, and that ended lately are shown.
    Moves(Box<MovesArgs>),
    /// Prints the last decisions of the managers' planner, with reasons.
    Plan(Box<PlanArgs>),
    /// Moves a video to a reader, or to several, by hand.
    Move(Box<MoveArgs>),
    /// Cordons readers: they keep their videos, and get no new ones.
    Cordon(Box<CordonArgs>),
    /// Opens cordoned or drained readers again.
    Uncordon(Box<CordonArgs>),
    /// Drains readers: their viewers move to others, at the usual pace.
    Drain(Box<DrainArgs>),
    /// Checks if a system could run here, and says what mends a fault.
    ///
    /// Stores, their versions, topics, clocks, limits and a running system are checked.
    Doctor(Box<DoctorArgs>),
    /// Shows a role's settings with their sources, or checks a file.
    #[command(subcommand)]
    Config(crate::settings::ConfigCommand),
    /// Simulates viewers and posters, and reports if anything got lost.
    ///
    /// The system is one that runs already.
    Load(Box<LoadArgs>),
    /// Compares policies of giving videos to readers, in a simulation.
    ///
    /// Policies are compared by the readers' load over time, also on recorded load reports.
    Simulate(Box<liverank_simulate::Args>),
    /// Compares log, archive and boards, and names what differs.
    ///
    /// The system serves meanwhile.
    Verify(Box<StoreCommand<verify::VerifyArgs>>),
    /// Rebuilds one store from another, while the system serves.
    ///
    /// What is rebuilt is put in place as a whole, once it is complete.
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
    /// Prints a shell's script that completes commands and flags.
    ///
    /// In bash, `source <(liverank completion bash)` makes it work.
    Completion(CompletionArgs),
    /// Writes the manual pages, one for each command.
    ///
    /// `man -l DIR/liverank.1` shows the first one.
    Man(ManArgs),
    /// Prints the version.
    Version(OutputArgs),
    /// Asks processes until they answer 2xx, say their `/readyz`.
    ///
    /// It is for images without another HTTP client.
    Probe(ProbeArgs),
}

/// The arguments of `liverank load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    load: liverank_load::Args,
    #[command(flatten)]
    log: LogArgs,
}

impl LoadArgs {
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
            Self::Config(it) => it.run(&command_line(HelpAmount::AllSettings)),
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
            Self::Completion(completion) => completion.run(&mut command_line(HelpAmount::AllSettings)),
            Self::Man(man) => man.run(command_line(HelpAmount::AllSettings)),
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
    help::arrange_help(with_default_addresses(Cli::command()), shown)
}

pub fn with_default_addresses(command: Command) -> Command {
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
    use clap::error::ErrorKind;
    use liverank_protocol::roles;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command_line(HelpAmount::UsualSettings).debug_assert();
        command_line(HelpAmount::AllSettings).debug_assert();
    }

    /// The commands that print no result: they serve until they are ended, or write files or a script.
    const COMMANDS_WITHOUT_ANSWER: &[&str] = &["up", "completion", "man"];

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
    fn a_flag_that_does_not_exist_is_answered_with_ours_or_with_none() {
        for (args, hint) in [
            (["up", "--port", "80"], Some("'--gateway-listen'")),
            (["reader", "--port", "80"], Some("'--listen'")),
            (["reader", "--id", "a"], Some("'--reader-id'")),
            (["status", "--gateway", "http://a"], Some("'--url'")),
            (["load", "--gateway", "http://a"], Some("'--url'")),
            (["gateway", "--lisen", "a:80"], Some("'--listen'")),
            (["up", "--expert", "a"], None),
        ] {
            let line: Vec<std::ffi::OsString> = ["liverank"].iter().chain(&args).map(Into::into).collect();
            let command = command_line(HelpAmount::from_arguments(&line));
            let error = liverank_runtime::config::parse_settings::<Cli>(
                command,
                &line,
                &std::collections::BTreeMap::new(),
            );
            let text = error.unwrap_err().to_string();
            assert!(text.contains("unexpected argument"), "{args:?}: {text}");
            match hint {
                Some(hint) => assert!(text.contains(hint), "{args:?}: {text}"),
                None => assert!(!text.contains("similar"), "{args:?}: {text}"),
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let directory = tempfile::tempdir().unwrap();
        ManArgs { directory: directory.path().to_owned() }
            .run(command_line(HelpAmount::AllSettings))
            .unwrap();
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

    /// Returns the text of all Rust sources below a folder of the repository.
    fn read_sources(folder: &std::path::Path) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                text.push_str(&read_sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
        text
    }

    /// Returns the names of the fields of all flags that a service's sources declare.
    fn declared_flags(sources: &str) -> Vec<&str> {
        let with_flags = sources.split("\n#[derive(").filter(|item| {
            let derived = item.split(')').next().unwrap_or_default();
            derived.split(", ").any(|name| name.ends_with("Args"))
        });
        let fields = with_flags.flat_map(|item| item.split("\n}\n").next().unwrap_or_default().lines());
        fields
            .filter_map(|line| line.strip_prefix("    pub ")?.split_once(": ").map(|(name, _)| name))
            .collect()
    }

    #[test]
    fn every_flag_of_a_service_is_read_somewhere() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let of_cli = read_sources(&root.join("cli/src"));
        let mut found = 0;
        for role in Role::ALL {
            let sources = read_sources(&root.join("services").join(role.name()).join("src"));
            for flag in declared_flags(&sources) {
                found += 1;
                let reads = |text: &str| {
                    let name = format!(".{flag}");
                    let is_longer = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
                    text.split(&name).skip(1).any(|rest| !is_longer(rest))
                };
                assert!(
                    reads(&sources) || reads(&of_cli),
                    "nothing reads the flag {flag} of {}",
                    role.name()
                );
            }
        }
        assert!(found > 40, "{found} flags");
    }

    /// Calls `check` for every command, those of commands included, with the words that call it.
    fn for_each_command(command: &clap::Command, words: &str, check: &mut impl FnMut(&str, &clap::Command)) {
        check(words, command);
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            for_each_command(inner, &format!("{words} {}", inner.get_name()), check);
        }
    }

    #[test]
    fn every_time_on_the_command_line_is_written_in_one_way() {
        const TIMES: [&str; 14] = [
            "seconds",
            "ms",
            "millis",
            "minutes",
            "hours",
            "days",
            "timeout",
            "interval",
            "duration",
            "within",
            "linger",
            "heartbeat",
            "period",
            "after",
        ];
        // They say how many of something, how often, or when.
        const OTHERS: [&str; 7] = [
            "requests-per-second",
            "writes-per-second",
            "max-viewers-moved-per-minute",
            "traces-per-minute",
            "drain-on-timeout",
            "after",
            "minutes",
        ];
        let (mut found, mut wrong) = (0, Vec::new());
        let command = command_line(HelpAmount::AllSettings);
        for_each_command(&command, "liverank", &mut |words, command| {
            let shown =
                command.get_arguments().filter(|arg| arg.get_action().takes_values() && !arg.is_hide_set());
            for arg in shown {
                let Some(name) = arg.get_long() else { continue };
                let mut check = |is_right: bool, what: &str| {
                    if !is_right {
                        wrong.push(format!("{words} --{name} {what}"));
                    }
                };
                let is_duration = arg.get_value_names().is_some_and(|names| names[0] == "DURATION");
                let is_time = !OTHERS.contains(&name) && name.split('-').any(|word| TIMES.contains(&word));
                check(is_duration || !is_time, "names a time, and its value no DURATION");
                if !is_duration {
                    continue;
                }
                found += 1;
                let has_unit = |text: &std::ffi::OsString| {
                    ["s", "m", "h", "d"].iter().any(|unit| text.to_string_lossy().ends_with(unit))
                };
                let defaults = arg.get_default_values();
                check(defaults.iter().all(|text| has_unit(&text.into())), "has a default without a unit");
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default().to_lowercase();
                let units = [" seconds", "in minutes", "in hours"];
                check(!units.iter().any(|unit| help.contains(unit)), "names a unit: any may be written");
                let takes = |value: &str| {
                    let parsed = command.clone().try_get_matches_from(["one", &format!("--{name}"), value]);
                    // Whatever else a command asks for is another matter.
                    parsed.map_or_else(|error| error.kind() != ErrorKind::ValueValidation, |_| true)
                };
                check(
                    ["500ms", "10s", "10m"].map(takes).contains(&true),
                    "takes neither 500ms nor 10s nor 10m",
                );
                check(!takes("10 seconds") && !takes("PT10S"), "takes another syntax");
            }
        });
        assert_eq!(wrong, Vec::<String>::new());
        assert!(found > 30, "{found} durations: the walk meets them");
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
