//! The operator's binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use liverank_operator::{crd, run};

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
    /// Print the definition of `RankingCluster`, as YAML.
    Crd,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(args) => args.main().unwrap_or_else(|error| {
            eprintln!("liverank-operator: {error:#}");
            ExitCode::FAILURE
        }),
        Command::Crd => {
            print!("{}", crd::definition_yaml());
            ExitCode::SUCCESS
        }
    }
}
