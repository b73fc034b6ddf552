//! `liverank`: every service as a subcommand, all of them in one process (`up`), and the tools that go with them.

mod cli;
mod demo;
mod doctor;
mod help;
mod identity;
mod judged;
mod look;
mod probe;
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
use std::io::{self, Write};
use std::process::ExitCode;

use liverank_runtime::config::{self, ConfigError};
use liverank_runtime::shutdown;

fn main() -> ExitCode {
    if let Err(error) = shutdown::catch_signals_early() {
        return print_failure(&error);
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    // A variable that is not Unicode cannot be one of liverank's.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match config::parse_settings::<cli::Cli>(
        cli::command_line(help::HelpAmount::of(&args)),
        &args,
        &environment,
    ) {
        Ok(cli) => exit_code_of(cli.run()),
        Err(ConfigError::BadValue(error)) => error.exit(),
        Err(error) => print_failure(&error),
    }
}

fn exit_code_of(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            BROKEN_PIPE_EXIT_CODE.into()
        } else {
            print_failure(&format!("{error:#}"))
        }
    })
}

/// The exit code of a program whose output nobody reads any more (128 + SIGPIPE), for example because `head` has ended.
const BROKEN_PIPE_EXIT_CODE: u8 = 141;

/// Returns true if the error is that the reader of the output has closed it, which is not worth a message.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let json = error.chain().filter_map(|cause| cause.downcast_ref::<serde_json::Error>()?.io_error_kind());
    io.map(std::io::Error::kind).chain(json).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

fn print_failure(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "liverank: {error}");
    ExitCode::FAILURE
}
