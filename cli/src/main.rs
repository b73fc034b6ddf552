//! `liverank`: every service as a subcommand, all of them in one process (`up`), and the tools that go with them.

mod cli;
mod demo;
mod doctor;
mod front_door;
mod help;
mod identity;
mod judged;
mod look;
mod manual;
mod probe;
mod process;
#[cfg(test)]
mod reference;
mod role;
mod settings;
mod stores;
mod token;
mod tools;
mod top;
mod up;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use liverank_runtime::config::{self, ConfigError};
use liverank_runtime::exit::{exit_code_of, print_failure};
use liverank_runtime::shutdown;

/// The name of the program in front of its errors.
const PROGRAM: &str = "liverank";

fn main() -> ExitCode {
    if let Err(error) = shutdown::catch_signals_early() {
        return print_failure(PROGRAM, &error);
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    // A variable that is not Unicode cannot be one of liverank's.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match config::parse_settings::<cli::Cli>(
        cli::command_line(help::HelpAmount::from_arguments(&args)),
        &args,
        &environment,
    ) {
        Ok(cli) => exit_code_of(PROGRAM, cli.run()),
        Err(ConfigError::BadValue(error)) => error.exit(),
        Err(error) => print_failure(PROGRAM, &error),
    }
}
