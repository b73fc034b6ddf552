//! `liverank`: every service as a subcommand, all of them in one process (`up`), and the tools that go with them.

mod cli;
mod probe;
mod role;
mod stores;
mod tools;
mod up;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use liverank_runtime::config::{self, ConfigError};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // A variable that is not Unicode is none of ours.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match config::parse::<cli::Cli>(cli::command(), &args, &environment) {
        Ok(cli) => finished(cli.run()),
        Err(ConfigError::Value(error)) => error.exit(),
        Err(error) => failed(&error),
    }
}

fn finished(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // Whoever was to read the output has gone (`liverank verify | head`): there is nobody to tell.
        let unread = error.downcast_ref::<io::Error>();
        if unread.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::FAILURE;
        }
        failed(&format!("{error:#}"))
    })
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "liverank: {error}");
    ExitCode::FAILURE
}
