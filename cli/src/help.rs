//! Arranges the help: `--help` shows one screen of the usual settings, `--help-all` shows all settings.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};

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
    pub fn of(args: &[OsString]) -> Self {
        if args.iter().any(|arg| arg == ALL) { Self::AllSettings } else { Self::UsualSettings }
    }
}

const ALL: &str = "--help-all";

/// The beginnings of the names of rarely changed settings, which only `--help-all` shows.
const RARE: &[&str] = &[
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
    "export_",
    "trending_half_life",
    "unique",
    "comment_rules_file",
    "comment_hook_",
    "boards",
    "writes_per_second",
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

/// Arranges the help of a command and its subcommands: hides rare settings, removes the backticks of the source, and
/// adds `--help` and `--help-all`.
pub fn arrange_help(mut command: Command, shown: HelpAmount) -> Command {
    let has_rare = command.get_arguments().any(is_rare);
    if let Some(about) = command.get_about().map(plain) {
        command = command.about(about);
    }
    if let Some(about) = command.get_long_about().map(plain) {
        command = command.long_about(about);
    }
    command = command.mut_args(|arg| arranged_arg(arg, shown)).disable_help_flag(true);
    command = command
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help("Print this help"))
        .arg(
            Arg::new("help_all")
                .long(&ALL[2..])
                .action(ArgAction::HelpLong)
                .help("Print all settings, and their variables"),
        );
    if has_rare && shown == HelpAmount::UsualSettings {
        command = command
            .after_help(format!("{ALL} has the rest. Settings can stand in a file as well (--config)."));
    }
    command.mut_subcommands(|below| arrange_help(below, shown))
}

fn arranged_arg(mut arg: Arg, shown: HelpAmount) -> Arg {
    if let Some(help) = arg.get_help().map(plain) {
        arg = arg.help(help);
    }
    if let Some(help) = arg.get_long_help().map(plain) {
        arg = arg.long_help(help);
    }
    let rare = is_rare(&arg);
    arg.hide_short_help(rare).hide_env(shown == HelpAmount::UsualSettings)
}

fn is_rare(arg: &Arg) -> bool {
    RARE.iter().any(|start| arg.get_id().as_str().starts_with(start))
}

/// Returns the text without the backticks of doc comments, which a terminal would show.
fn plain(text: &StyledStr) -> String {
    text.to_string().replace('`', "")
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
