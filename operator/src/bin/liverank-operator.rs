//! The operator's binary.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use liverank_operator::crd::v1beta1::{self, WebhookService};
use liverank_operator::{check, crd, run};
use liverank_runtime::exit::{exit_code_of, print_failure};
use liverank_runtime::plain_help::parse_plainly;
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
    Crd {
        /// Print the definition that serves v1beta1, too; the operator's Service of this namespace and name converts.
        #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_service)]
        with_v1beta1: Option<WebhookService>,
    },
}

/// The name of the program in front of its errors.
const PROGRAM: &str = "liverank-operator";

fn main() -> ExitCode {
    if let Err(error) = shutdown::catch_signals_early() {
        return print_failure(PROGRAM, &error);
    }
    match parse_plainly::<Arguments>().command {
        Command::Run(args) => exit_code_of(PROGRAM, args.main()),
        Command::Check(args) => exit_code_of(PROGRAM, args.main()),
        Command::Crd { with_v1beta1 } => {
            let text =
                with_v1beta1.as_ref().map_or_else(crd::definition_yaml, v1beta1::definition_of_both_yaml);
            // A reader of the output that has stopped reading (`| head`) needs no more of the output: the error is
            // ignored.
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
    }
}

fn parse_service(text: &str) -> Result<WebhookService, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(WebhookService { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err(format!("`{text}` is not NAMESPACE/NAME")),
    }
}
