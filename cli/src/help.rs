//! Arranges the help: `--help` shows one screen of the usual settings, `--help-all` shows all settings.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};
use liverank_runtime::plain_help::without_backticks;

/// The amount of help that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelpAmount {
    /// The usual settings, one line each.
    UsualSettings,
    /// Every setting, with its environment variable.
    AllSettings,
}

impl HelpAmount {
    /// Returns how much help a command line asks for.
    pub fn from_arguments(args: &[OsString]) -> Self {
        if args.iter().any(|arg| arg == HELP_ALL_FLAG) { Self::AllSettings } else { Self::UsualSettings }
    }
}

const HELP_ALL_FLAG: &str = "--help-all";

/// The beginnings of the names of rarely changed settings, which only `--help-all` shows.
const RARELY_CHANGED_SETTINGS: &[&str] = &[
    "kafka_",
    "redis_",
    "mongodb_",
    "prefix",
    "weight_",
    "watch_threshold",
    "log_",
    "drain_seconds",
    "gateway_max_",
    "reader_wait_seconds",
    "max_",
    "auth_jwks_url",
    "websocket_listen",
    "comment_listen",
    "statistics_listen",
    "viewer_",
    "viewers_by_gateway",
    "auth_revoked_file",
    "ring_",
    "operator_token",
    "repair",
    "dedup",
    "keep_alive_seconds",
    "allowed_origins",
    "allow_credentials",
    "trusted_proxies",
    "requests_per_address",
    "events_per_user",
    "streams_per_address",
    "identity_token_file",
    "identity_jwks_file",
    "identity_audience",
    "identity_operator",
    "batch",
    "dead_letter_newer_formats",
    "idle_video_minutes",
    "max_new_videos_per_hour",
    "export_",
    "trending_half_life",
    "unique",
    "comment_rules_file",
    "comment_hook_",
    "board",
    "front_door_percent",
    "arrivals",
    "writes_per_second",
    "zone",
    "linger",
    "drain_timeout_seconds",
    "drain_on_timeout",
    "moderation_open",
    "proxy_protocol_from",
    "streams_per_user",
    "new_videos_per_caller",
    "demo",
    "canary_seconds",
    "tls_",
    "peer_",
    "otlp_",
    "trace_ratio",
    "traces_per_minute",
];

/// The groups of commands in the help, each with its heading. Every command stands in one of them.
const COMMAND_GROUPS: [(&str, &[&str]); 6] = [
    ("Run it", &["up", "gateway", "consumer", "websocket", "comment", "reader", "manager", "statistics"]),
    ("Look at it", &["status", "top", "moves", "plan", "doctor", "config", "probe"]),
    ("Move viewers", &["move", "cordon", "uncordon", "drain"]),
    ("Look after the stores", &["verify", "rebuild", "dlq", "erase"]),
    ("Try it", &["load", "simulate"]),
    ("Keys, and this program", &["identity", "token", "completion", "man", "version"]),
];

/// The width of the column with the names of commands.
const NAME_WIDTH: usize = 12;

/// Arranges the help of the program: groups its commands, hides rare settings, removes the backticks of the source, and
/// adds `--help` and `--help-all` to each command.
pub fn arrange_help(command: Command, shown: HelpAmount) -> Command {
    let command = arrange_settings(without_backticks(command), shown);
    let template = grouped_template(&command);
    command.help_template(template)
}

/// Returns the template of the program's help, with a line for each command below the heading of its group.
fn grouped_template(command: &Command) -> String {
    let (heading, name_style) = (command.get_styles().get_header(), command.get_styles().get_literal());
    let mut text = String::from("{about}\n\n{usage-heading} {usage}\n");
    for (group, names) in COMMAND_GROUPS {
        let _ = writeln!(text, "\n{heading}{group}:{heading:#}");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name_style}{name:NAME_WIDTH$}{name_style:#}{about}");
        }
    }
    let _ = write!(text, "\n{heading}Options:{heading:#}\n{{options}}");
    text
}

fn arrange_settings(mut command: Command, shown: HelpAmount) -> Command {
    let has_rare = command.get_arguments().any(is_rarely_changed);
    command = command.mut_args(|arg| arranged_arg(arg, shown)).disable_help_flag(true);
    // Without a heading, the two would stand below the heading of the last group of settings.
    let (help, help_all) =
        (Arg::new("help").short('h').long("help"), Arg::new("help_all").long(&HELP_ALL_FLAG[2..]));
    let no_heading = None::<&'static str>;
    command =
        command.arg(help.action(ArgAction::HelpShort).help("Print this help").help_heading(no_heading)).arg(
            help_all
                .action(ArgAction::HelpLong)
                .help("Print all settings, and their variables")
                .help_heading(no_heading),
        );
    if has_rare && shown == HelpAmount::UsualSettings {
        command = command.after_help(format!(
            "{HELP_ALL_FLAG} has the rest. Settings can stand in a file as well (--config)."
        ));
    }
    command.mut_subcommands(|below| arrange_settings(below, shown))
}

fn arranged_arg(arg: Arg, shown: HelpAmount) -> Arg {
    let rare = is_rarely_changed(&arg);
    arg.hide_short_help(rare).hide_env(shown == HelpAmount::UsualSettings)
}

fn is_rarely_changed(arg: &Arg) -> bool {
    RARELY_CHANGED_SETTINGS.iter().any(|start| arg.get_id().as_str().starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    /// The lines of a terminal of ordinary size, including the prompt.
    const SCREEN: usize = 50;

    fn each(command: &mut Command, told: &mut impl FnMut(&mut Command)) {
        told(command);
        for below in command.get_subcommands_mut() {
            each(below, told);
        }
    }

    #[test]
    fn help_is_one_screen_and_leaks_no_markup() {
        let mut command = cli::command_line(HelpAmount::UsualSettings);
        command.build();
        let mut long = Vec::new();
        each(&mut command, &mut |command| {
            let help = command.render_help().to_string();
            assert!(!help.contains('`'), "{help}");
            let lines = help.lines().count();
            if lines > SCREEN {
                long.push(format!("{} has {lines} lines", command.get_name()));
            }
        });
        assert_eq!(long, Vec::<String>::new());
    }

    /// The columns of a terminal that nobody made wider.
    const COLUMNS: usize = 80;

    #[test]
    fn each_command_has_one_line_in_one_group_of_the_help() {
        let mut command = cli::command_line(HelpAmount::UsualSettings);
        let grouped: Vec<&str> = COMMAND_GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for below in command.get_subcommands() {
            let of_name = grouped.iter().filter(|name| **name == below.get_name()).count();
            assert_eq!(of_name, 1, "{} stands in {of_name} groups", below.get_name());
        }
        assert_eq!(grouped.len(), command.get_subcommands().count(), "{grouped:?}");
        let help = command.render_help().to_string();
        for (heading, names) in COMMAND_GROUPS {
            assert!(help.contains(&format!("\n{heading}:\n  {} ", names[0])), "{help}");
        }
        let of_commands = help.lines().filter(|line| line.starts_with("  "));
        let long: Vec<&str> = of_commands.filter(|line| line.chars().count() > COLUMNS).collect();
        assert_eq!(long, Vec::<&str>::new());
        assert!(help.contains("\nOptions:\n  -h, --help "), "{help}");
    }

    #[test]
    fn a_heading_of_shared_settings_has_no_flag_of_one_command_below_it() {
        const SHARED_HEADINGS: [&str; 5] = ["Stores", "Process", "Identity", "TLS", "Traces"];
        let mut command = cli::command_line(HelpAmount::AllSettings);
        command.build();
        each(&mut command, &mut |command| {
            for arg in command.get_arguments() {
                let shared = arg.get_help_heading().is_some_and(|heading| SHARED_HEADINGS.contains(&heading));
                // A setting that commands share has a variable.
                let name = arg.get_id();
                assert!(!shared || arg.get_env().is_some(), "{name} of {}", command.get_name());
            }
        });
    }

    #[test]
    fn all_settings_are_in_the_long_help_without_markup() {
        let mut command = cli::command_line(HelpAmount::AllSettings);
        command.build();
        each(&mut command, &mut |command| {
            let shown: Vec<String> = command
                .get_arguments()
                .filter(|arg| !arg.is_hide_set())
                .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
                .collect();
            let help = command.render_long_help().to_string();
            assert!(!help.contains('`'), "{help}");
            for flag in shown {
                assert!(help.contains(&flag), "{flag} is missing in the help of {}", command.get_name());
            }
        });
    }
}
