//! The kubectl plugin `kubectl liverank`: explains the state of a cluster, forecasts changes, and collects everything
//! that a bug report needs.
//!
//! The output is made by pure functions from what was read ([`explain`], [`what_if`], [`report`]). [`reach`] reads it
//! with the rights of the calling user: Kubernetes' objects directly, and a manager through the API server's proxy. The
//! plugin reads no Secret, and changes nothing but the annotation by which a plan is [approved](approve).

pub mod approve;
pub mod convert;
pub mod explain;
pub mod reach;
pub mod report;
pub mod what_if;
pub mod words;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use liverank_runtime::output::{OutputArgs, OutputOrJsonArgs};
use serde_json::json;

use crate::crd::v1beta1::Version;
use reach::ClusterAccess;

/// Shows the state of a `RankingCluster` with its reasons, and forecasts of changes.
#[derive(Debug, Parser)]
#[command(name = "kubectl-liverank", bin_name = "kubectl liverank", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: KubeTarget,
}

/// The Kubernetes cluster and namespace that the plugin works on.
#[derive(Debug, Args)]
pub struct KubeTarget {
    /// The namespace; that of the context when absent.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The kubeconfig's context; its current one when absent.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The kubeconfig; `$KUBECONFIG` or `~/.kube/config` when absent.
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the conditions, the readers, and the last decision with its reason.
    Explain {
        /// `NAME` or `rkc/NAME`; the only one in the namespace when absent.
        cluster: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Print the moves and the load of readers that another number of readers would lead to.
    WhatIf {
        /// `NAME` or `rkc/NAME`; the only one in the namespace when absent.
        cluster: Option<String>,
        /// The assumed number of readers.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
        readers: u32,
        #[command(flatten)]
        output: OutputOrJsonArgs,
    },
    /// Print the decisions about readers that the status remembers, the latest last.
    History {
        /// `NAME` or `rkc/NAME`; the only one in the namespace when absent.
        cluster: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Approve a waiting plan (`scaling.mode: Proposal`, `rebalance.mode: Proposal`); without a name, print the waiting
    /// plans.
    Approve {
        /// `NAME` or `rkc/NAME`.
        cluster: String,
        /// The plan's name.
        id: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Rewrite manifests of `RankingCluster`s for another version of the resource. Other documents stay as they are;
    /// comments are lost. Needs no Kubernetes.
    Convert {
        /// The file of one or more YAML documents; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
        /// The version to write.
        #[arg(long, value_enum, default_value_t = Version::V1beta1)]
        to: Version,
    },
    /// Write one YAML file with the resource, what was made from it, pods, events, load and the operator's last lines;
    /// never a Secret.
    Report {
        /// `NAME` or `rkc/NAME`; the only one in the namespace when absent.
        cluster: Option<String>,
        /// The file; `-` for standard output.
        #[arg(short, long)]
        file: Option<PathBuf>,
        /// The operator's namespace; looked for in all namespaces when absent.
        #[arg(long)]
        operator_namespace: Option<String>,
        /// Number of the last log lines of each of the operator's pods.
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(i64).range(0..=100_000))]
        log_lines: i64,
    },
}

/// Returns the resource's name `x` from an argument `x`, `rkc/x`, `rankingcluster/x` or
/// `rankingclusters.liverank.dev/x`; an error if the argument names another kind.
pub fn resource_name(argument: &str) -> anyhow::Result<&str> {
    let Some((kind, name)) = argument.split_once('/') else { return Ok(argument) };
    let kind = kind.to_ascii_lowercase();
    let plain = kind.strip_suffix(".liverank.dev").unwrap_or(&kind);
    if !matches!(plain, "rkc" | "rankingcluster" | "rankingclusters") {
        bail!("{argument}: only a RankingCluster can be explained: write rkc/{name}");
    }
    Ok(name)
}

impl Arguments {
    /// Runs the subcommand and prints its result.
    pub async fn run(self) -> anyhow::Result<()> {
        if let Command::Convert { file, to } = &self.command {
            return Ok(write!(std::io::stdout(), "{}", convert::convert_file(file, *to)?)?);
        }
        let reach = ClusterAccess::connect(&self.target).await?;
        let out = &mut std::io::stdout().lock();
        match self.command {
            Command::Explain { cluster, output } => {
                let cluster = reach.fetch_cluster(cluster.as_deref()).await?;
                let readers = reach.fetch_readers(&cluster).await?;
                let load = reach.fetch_load(&cluster).await.map_err(|error| format!("{error:#}"));
                output.write_value(out, &explain::explanation_value(&cluster, &readers, &load), || {
                    explain::render_explanation(&cluster, &readers, &load, Timestamp::now())
                })?;
            }
            Command::WhatIf { cluster, readers, output } => {
                let cluster = reach.fetch_cluster(cluster.as_deref()).await?;
                let load =
                    reach.fetch_load(&cluster).await.context("the managers' load is needed for this")?;
                let answer = what_if::ask_planner(&cluster, &load, readers).map_err(anyhow::Error::msg)?;
                output.args().write_value(out, &serde_json::to_value(&answer)?, || {
                    what_if::render_answer(&cluster, &load, readers, &answer)
                })?;
            }
            Command::History { cluster, output } => {
                let cluster = reach.fetch_cluster(cluster.as_deref()).await?;
                let past = json!(approve::past_decisions(&cluster));
                output.write_value(out, &past, || approve::render_history(&cluster))?;
            }
            Command::Approve { cluster, id: None, output } => {
                let cluster = reach.fetch_cluster(Some(&cluster)).await?;
                let plans = json!(approve::waiting_plans(&cluster));
                output
                    .write_value(out, &plans, || approve::render_waiting_plans(&cluster, Timestamp::now()))?;
            }
            Command::Approve { cluster, id: Some(id), output } => {
                let cluster = reach.fetch_cluster(Some(&cluster)).await?;
                reach.approve_plan(&cluster, &id).await?;
                output.write_value(out, &json!({ "approved": id }), || format!("{id} is approved\n"))?;
            }
            // Done above, without Kubernetes.
            Command::Convert { .. } => {}
            Command::Report { cluster, file, operator_namespace, log_lines } => {
                let cluster = reach.fetch_cluster(cluster.as_deref()).await?;
                let gathered =
                    reach.gather_for_report(&cluster, operator_namespace.as_deref(), log_lines).await;
                let text = serde_yaml::to_string(&report::assemble_report(gathered))?;
                let file = file.unwrap_or_else(|| {
                    let when = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
                    format!("liverank-report-{}-{}-{when}.yaml", cluster.namespace(), cluster.name()).into()
                });
                if file.as_os_str() == "-" {
                    out.write_all(text.as_bytes())?;
                } else {
                    std::fs::write(&file, text).with_context(|| format!("{}", file.display()))?;
                    writeln!(out, "{}", file.display())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use liverank_runtime::plain_help::without_backticks;

    use super::{Arguments, resource_name};

    #[test]
    fn the_plugin_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_plugin_help_leaks_no_markup() {
        fn check(command: &mut clap::Command) {
            let help = format!("{}{}", command.render_help(), command.render_long_help());
            assert!(!help.contains('`'), "{help}");
            command.get_subcommands_mut().for_each(check);
        }
        check(&mut without_backticks(Arguments::command()));
    }

    #[test]
    fn whatever_is_printed_is_printed_for_programs_too() {
        let asked = [
            vec!["explain"],
            vec!["what-if", "--readers", "3"],
            vec!["history"],
            vec!["approve", "rkc/x"],
            vec!["approve", "rkc/x", "aa"],
        ];
        for words in asked {
            for output in ["table", "json", "yaml"] {
                for flag in ["-o", "--output"] {
                    let line = [&["kubectl-liverank"], &words[..], &[flag, output]].concat();
                    assert!(Arguments::try_parse_from(&line).is_ok(), "{line:?}");
                }
            }
        }
        let convert = ["kubectl-liverank", "convert", "-f", "-", "--to", "v1alpha1"];
        assert!(Arguments::try_parse_from(convert).is_ok());
        let file = ["kubectl-liverank", "report", "--file", "-"];
        assert!(Arguments::try_parse_from(file).is_ok());
        let former = ["kubectl-liverank", "what-if", "--readers", "3", "--json"];
        assert!(Arguments::try_parse_from(former).is_ok());
    }

    #[test]
    fn a_cluster_may_be_named_as_kubectl_names_it() {
        for argument in
            ["x", "rkc/x", "RankingCluster/x", "rankingclusters/x", "rankingclusters.liverank.dev/x"]
        {
            assert_eq!(resource_name(argument).unwrap(), "x");
        }
        let refused = resource_name("deployment/x").unwrap_err().to_string();
        assert_eq!(refused, "deployment/x: only a RankingCluster can be explained: write rkc/x");
    }
}
