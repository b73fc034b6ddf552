//! The operator's binary.

use clap::{Parser, Subcommand};
use liverank_operator::crd;

/// Reconciles `RankingCluster` resources.
#[derive(Debug, Parser)]
#[command(name = "liverank-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the definition of `RankingCluster`, as YAML.
    Crd,
}

fn main() {
    match Arguments::parse().command {
        Command::Crd => print!("{}", crd::definition_yaml()),
    }
}
