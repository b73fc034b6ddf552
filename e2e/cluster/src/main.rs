//! `liverank-e2e-cluster`: the end-to-end tests of the operator, and of all that it creates, on a real Kubernetes.
//!
//! `run` uses the cluster of the current kubeconfig, installs the operator once, runs the scenarios in order, and
//! prints a line for each. It uses `kubectl` and `helm`, as people do. `watch`, `attend` and `keep-waiting` are the agents
//! that `run` starts inside the cluster.

// The items of a test program have no users outside it.
#![allow(missing_docs)]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;
use reqwest::Url;

mod agent;
mod audience;
mod fields;
mod kstatus;
mod kube;
mod metrics;
mod platform_user;
mod scenarios;
mod simulated;
mod wait;
mod world;

use agent::unresponsive::{self, Silence};

#[derive(Debug, Parser)]
#[command(about, max_term_width = 110)]
enum Cli {
    /// Runs the scenarios.
    Run(scenarios::ScenarioArgs),
    /// Inside the cluster: runs the viewers and posts comments.
    Watch {
        /// The gateway's Service.
        #[arg(long)]
        gateway: Url,
    },
    /// Inside the cluster: looks at and kills processes of pods on its node.
    Attend,
    /// Inside the cluster: keeps everybody waiting who connects to the port of managers.
    KeepWaiting {
        /// How clients are kept waiting.
        #[arg(long)]
        silence: Silence,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, agent::AGENT_PORT));
    match Cli::parse() {
        Cli::Run(args) => scenarios::run_scenarios(args).await,
        Cli::Watch { gateway } => agent::run_audience(listen, gateway).await.map(|()| ExitCode::SUCCESS),
        Cli::Attend => agent::run_attendant(listen).await.map(|()| ExitCode::SUCCESS),
        Cli::KeepWaiting { silence } => {
            let port = SocketAddr::from((Ipv4Addr::UNSPECIFIED, unresponsive::UNRESPONSIVE_PORT));
            unresponsive::run_unresponsive(listen, port, silence).await.map(|()| ExitCode::SUCCESS)
        }
    }
}
