//! The operator's binary.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use liverank_operator::{check, crd, run};
use liverank_runtime::shutdown;

/// Reconciles `RankingCluster` resources.
#[derive(Debug, Parser)]
#[command(name = "liverank-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look after the `RankingCluster` resources of a Kubernetes cluster.
    Run(Box<run::Args>),
    /// Check that the operator of this Kubernetes cluster works.
    Check(check::CheckArgs),
    /// Print the definition of `RankingCluster`, as YAML.
    Crd,
}

fn main() -> ExitCode {
    if let Err(error) = shutdown::catch_signals_early() {
        return print_failure(&error.into());
    }
    match Arguments::parse().command {
        Command::Run(args) => args.main().unwrap_or_else(|error| print_failure(&error)),
        Command::Check(args) => args.main().unwrap_or_else(|error| print_failure(&error)),
        Command::Crd => {
            // A reader of the output that has stopped reading (`| head`) needs no more of the output: the error is
            // ignored.
            let _ = write!(std::io::stdout(), "{}", crd::definition_yaml());
            ExitCode::SUCCESS
        }
    }
}

fn print_failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("liverank-operator: {error:#}");
    ExitCode::FAILURE
}
