//! Logs: one structured line an occurrence, to standard error.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Least level logged (error, warn, info, debug, trace), or a filter such as `info,liverank_reader=debug`.
    #[arg(long, env = "LIVERANK_LOG", default_value = "info", value_parser = parse_filter)]
    pub log: String,
    /// How lines are written.
    #[arg(long, env = "LIVERANK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Reads a filter of log lines, such as `info,liverank_reader=debug`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Starts logging for the process. A second call changes nothing.
pub fn init_logging(args: &LogArgs) {
    // Libraries tell of every retry of theirs in our place; what matters of it our adapters log as a transition.
    let quiet = "rdkafka=off,librdkafka=off,mongodb=off,hyper=warn,reqwest=warn,rustls=warn";
    let filter =
        EnvFilter::try_new(format!("{quiet},{}", args.log)).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // Where nobody reads the log, saying so there would be a panic.
        .log_internal_errors(false);
    let _ = match args.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
