//! Logs: one structured line for each event, written to standard error.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text, for people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// The flags for the level and the format of the log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// The lowest level logged (error, warn, info, debug, trace), or a filter such as `info,liverank_reader=debug`.
    #[arg(long, env = "LIVERANK_LOG", default_value = "info", value_parser = parse_filter)]
    pub log: String,
    /// The format of log lines.
    #[arg(long, env = "LIVERANK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Checks a filter of log lines, such as `info,liverank_reader=debug`, and returns it unchanged.
///
/// # Errors
/// The error is a text that says what is wrong with the filter.
pub fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Starts logging for the process. A second call of this function changes nothing.
pub fn init_logging(args: &LogArgs) {
    // These libraries log each of their retries; this system's adapters log the outcome once, when it changes.
    let quiet = "rdkafka=off,librdkafka=off,mongodb=off,hyper=warn,reqwest=warn,rustls=warn";
    let filter =
        EnvFilter::try_new(format!("{quiet},{}", args.log)).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // If standard error is closed, a message about that would be a panic.
        .log_internal_errors(false);
    let _ = match args.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
