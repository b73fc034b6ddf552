//! The command line of `liverank-operator run`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use liverank_runtime::telemetry::LogArgs;
use liverank_runtime::tls::{ProcessTls, TlsArgs};

use super::managers::Templates;
use super::shard::MAX_SHARDS;
use crate::policy::Policy;

/// Looks after `RankingCluster`s.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Looks after those resources only whose spec.operatorClass is this.
    #[arg(long, env = "LIVERANK_OPERATOR_CLASS", value_name = "CLASS", default_value = "default")]
    pub operator_class: String,
    /// Looks at these namespaces only, separated by commas; without it, at all.
    #[arg(long, env = "LIVERANK_WATCH_NAMESPACE", value_name = "NAMESPACES", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// In so many parts (at most 16) all namespaces are divided, each with a Lease of its own, by a hash of their names:
    /// several replicas share the work.
    #[arg(long, env = "LIVERANK_SHARDS", value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHARDS)))]
    pub shards: u32,
    /// The name of the Lease whose holder leads; with shards, of the first one's.
    #[arg(long, env = "LIVERANK_LEASE_NAME", value_name = "NAME", default_value = "liverank-operator")]
    pub lease_name: String,
    /// Where the Lease is, and the operator itself.
    #[arg(
        long,
        env = "LIVERANK_LEASE_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "liverank-operator"
    )]
    pub lease_namespace: String,
    /// What this process is called in the Lease and in status: its pod's name. A few characters of chance are added, so
    /// that no two processes ever have the same.
    #[arg(long, env = "LIVERANK_IDENTITY", value_name = "NAME", default_value = "liverank-operator")]
    pub identity: String,
    /// Labels of the operator's pods, which workloads' network policies let in: name=value,…
    #[arg(long, env = "LIVERANK_OPERATOR_LABELS", value_name = "LABELS", value_parser = parse_labels, default_value = "app.kubernetes.io/name=liverank-operator")]
    pub operator_labels: Labels,
    /// The operator's own `ServiceAccount`, beside the Lease: as whom it gives orders. It may make tokens for itself, one for
    /// each cluster, which are good there only.
    #[arg(long, env = "LIVERANK_SERVICE_ACCOUNT", value_name = "NAME", default_value = "liverank-operator")]
    pub service_account: String,
    /// A file (YAML) of what authors of `RankingCluster`s may use: images, hosts, annotations, priority classes and so on;
    /// without it, what docs/operations.md says.
    #[arg(long, env = "LIVERANK_ALLOW_FILE", value_name = "FILE")]
    pub allow_file: Option<PathBuf>,
    /// Whose user ids pods run with where a `RankingCluster` does not say: the image's, or the one that the platform
    /// gives each namespace (`OpenShift`).
    #[arg(long, env = "LIVERANK_POD_USER", value_enum, default_value_t = PodUserArg::Image)]
    pub pod_user: PodUserArg,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "LIVERANK_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9060")]
    pub admin_listen: SocketAddr,
    /// The certificate of the admin port, in PEM, followed by those that lead to its authority: the port takes TLS only then.
    /// It asks for no certificate. This file and its key are read again when they change.
    #[arg(long, env = "LIVERANK_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of --tls-cert-file, in PEM.
    #[arg(long, env = "LIVERANK_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// What is logged and how.
    #[command(flatten)]
    pub log: LogArgs,
    /// The revision of the pod templates that is taken for the newest: for tests of upgrades.
    #[arg(long, env = "LIVERANK_BUILDER_REVISION", value_name = "REVISION", hide = true)]
    pub builder_revision: Option<u32>,
    /// Where managers are, with {cluster} and {namespace}: for an operator outside of their Kubernetes.
    #[arg(long, env = "LIVERANK_MANAGER_URL_TEMPLATE", value_name = "URL", hide = true)]
    pub manager_url_template: Option<String>,
    /// Where readers are, with {reader} and {namespace}: for an operator outside of their Kubernetes.
    #[arg(long, env = "LIVERANK_READER_URL_TEMPLATE", value_name = "URL", hide = true)]
    pub reader_url_template: Option<String>,
}

/// Whose user ids pods run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PodUserArg {
    /// The image's.
    Image,
    /// The platform's.
    Platform,
}

/// Labels of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, String>);

fn parse_labels(text: &str) -> Result<Labels, String> {
    let pair = |pair: &str| {
        let parts = pair.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = parts.ok_or_else(|| format!("`{pair}` is not name=value"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    text.split(',').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<_, _>>().map(Labels)
}

impl Args {
    /// The namespaces that are looked at, each once; none: all of them.
    pub(super) fn watched_namespaces(&self) -> BTreeSet<&str> {
        self.watch_namespace.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect()
    }

    /// Reads the policy that says what authors of resources may use.
    pub(super) fn policy(&self) -> anyhow::Result<Policy> {
        let Some(file) = &self.allow_file else { return Ok(Policy::default()) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--allow-file: {} cannot be read", file.display()))?;
        Policy::parse(&text).with_context(|| format!("--allow-file: {}", file.display()))
    }

    /// TLS of the admin port. The operator has no other, and asks managers by what their `RankingCluster` says.
    pub(super) fn tls(&self) -> anyhow::Result<ProcessTls> {
        let (tls_cert_file, tls_key_file) = (self.tls_cert_file.clone(), self.tls_key_file.clone());
        TlsArgs { tls_cert_file, tls_key_file, ..TlsArgs::default() }.open()
    }

    pub(super) fn templates(&self) -> Templates {
        Templates { manager: self.manager_url_template.clone(), reader: self.reader_url_template.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let labels = parse_labels("app.kubernetes.io/name=a,b=").unwrap();
        assert_eq!(
            labels.0.into_iter().collect::<Vec<_>>(),
            [("app.kubernetes.io/name".into(), "a".into()), ("b".into(), String::new())]
        );
        assert!(parse_labels("a").is_err());
        assert!(parse_labels("=a").is_err());
    }
}
