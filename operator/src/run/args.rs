//! The command line of `liverank-operator run`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use liverank_runtime::telemetry::LogArgs;
use liverank_runtime::tls::{ProcessTls, TlsArgs};

use super::answer_budget::DEFAULT_MIB;
use super::conversion::ConversionSettings;
use super::managers::UrlTemplates;
use super::shard::MAX_SHARDS;
use crate::policy::Policy;

/// The arguments of `liverank-operator run`, which reconciles `RankingCluster`s.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Manages only those resources whose spec.operatorClass is this.
    #[arg(long, env = "LIVERANK_OPERATOR_CLASS", value_name = "CLASS", default_value = "default")]
    pub operator_class: String,
    /// The namespaces that are watched, separated by commas; all of them without it.
    #[arg(long, env = "LIVERANK_WATCH_NAMESPACE", value_name = "NAMESPACES", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// The number of parts (at most 16) into which all namespaces are divided, by a hash of their names. Each part has
    /// a Lease of its own: several replicas share the work.
    #[arg(long, env = "LIVERANK_SHARDS", value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHARDS)))]
    pub shards: u32,
    /// The name of the Lease whose holder leads; with shards, the name of the first shard's Lease.
    #[arg(long, env = "LIVERANK_LEASE_NAME", value_name = "NAME", default_value = "liverank-operator")]
    pub lease_name: String,
    /// The namespace of the Lease and of the operator itself.
    #[arg(
        long,
        env = "LIVERANK_LEASE_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "liverank-operator"
    )]
    pub lease_namespace: String,
    /// The name of this process in the Lease and in status: its pod's name. A few random characters are added, so that
    /// no two processes ever have the same.
    #[arg(long, env = "LIVERANK_IDENTITY", value_name = "NAME", default_value = "liverank-operator")]
    pub identity: String,
    /// Labels of the operator's pods, which workloads' network policies admit: name=value,…
    #[arg(long, env = "LIVERANK_OPERATOR_LABELS", value_name = "LABELS", value_parser = parse_labels, default_value = "app.kubernetes.io/name=liverank-operator")]
    pub operator_labels: Labels,
    /// The operator's own `ServiceAccount`, in the namespace of the Lease, as which it gives orders. It may make tokens
    /// for itself, one for each cluster, which are valid there only.
    #[arg(long, env = "LIVERANK_SERVICE_ACCOUNT", value_name = "NAME", default_value = "liverank-operator")]
    pub service_account: String,
    /// A YAML file that says what authors of `RankingCluster`s may use: images, hosts, annotations, priority classes
    /// and so on; without it, the defaults in docs/operations.md.
    #[arg(long, env = "LIVERANK_ALLOW_FILE", value_name = "FILE")]
    pub allow_file: Option<PathBuf>,
    /// The user ids that pods run with if a `RankingCluster` does not say: the image's, or the one that the platform
    /// gives each namespace (`OpenShift`).
    #[arg(long, env = "LIVERANK_POD_USER", value_enum, default_value_t = PodUserArg::Image)]
    pub pod_user: PodUserArg,
    /// The memory for what managers answer, over all `RankingCluster`s, in MiB. Give it half of the container's limit.
    #[arg(long, env = "LIVERANK_ANSWERS_MIB", value_name = "MIB", default_value_t = DEFAULT_MIB, value_parser = clap::value_parser!(u16).range(16..))]
    pub answers_mib: u16,
    /// The address of /livez, /readyz and /metrics.
    #[arg(long, env = "LIVERANK_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9060")]
    pub admin_listen: SocketAddr,
    /// The certificate of the admin port, in PEM, followed by those that lead to its authority: only with it the port
    /// uses TLS. Clients need no certificate. This file and its key are read again when they change.
    #[arg(long, env = "LIVERANK_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of --tls-cert-file, in PEM.
    #[arg(long, env = "LIVERANK_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// The address of the webhook that converts between v1alpha1 and v1beta1, say 0.0.0.0:9443; without it, there is no
    /// webhook. It shows the certificate of --tls-cert-file, or else one that the operator makes itself.
    #[arg(long, env = "LIVERANK_CONVERSION_LISTEN", value_name = "ADDRESS")]
    pub conversion_listen: Option<SocketAddr>,
    /// The Service, in the namespace of the Lease, by which the API server finds the webhook.
    #[arg(
        long,
        env = "LIVERANK_CONVERSION_SERVICE",
        value_name = "NAME",
        default_value = "liverank-operator"
    )]
    pub conversion_service: String,
    /// The Secret, in the namespace of the Lease, in which the operator keeps the webhook's own certificate.
    #[arg(
        long,
        env = "LIVERANK_CONVERSION_SECRET",
        value_name = "NAME",
        default_value = "liverank-operator-conversion"
    )]
    pub conversion_secret: String,
    /// The settings of logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// The builder revision that counts as the newest: for tests of upgrades.
    #[arg(long, env = "LIVERANK_BUILDER_REVISION", value_name = "REVISION", hide = true)]
    pub builder_revision: Option<u32>,
    /// The URL of managers, with {cluster} and {namespace}: for an operator outside of their Kubernetes.
    #[arg(long, env = "LIVERANK_MANAGER_URL_TEMPLATE", value_name = "URL", hide = true)]
    pub manager_url_template: Option<String>,
    /// The URL of readers, with {reader} and {namespace}: for an operator outside of their Kubernetes.
    #[arg(long, env = "LIVERANK_READER_URL_TEMPLATE", value_name = "URL", hide = true)]
    pub reader_url_template: Option<String>,
}

/// The user ids that pods run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PodUserArg {
    /// The user id of the image.
    Image,
    /// The user id that the platform gives each namespace.
    Platform,
}

/// Labels of pods, parsed from `name=value` pairs that are separated by commas.
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
    /// Returns the namespaces that are watched, each once; empty means all namespaces.
    pub(super) fn watched_namespaces(&self) -> BTreeSet<&str> {
        self.watch_namespace.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect()
    }

    /// Reads the policy that says what authors of resources may use; an error if the file cannot be read or parsed.
    pub(super) fn policy(&self) -> anyhow::Result<Policy> {
        let Some(file) = &self.allow_file else { return Ok(Policy::default()) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--allow-file: {} cannot be read", file.display()))?;
        Policy::parse(&text).with_context(|| format!("--allow-file: {}", file.display()))
    }

    /// Opens the TLS files of the admin port, whose certificate the webhook shows, too. The operator verifies managers by what their
    /// `RankingCluster` says.
    pub(super) fn tls(&self) -> anyhow::Result<ProcessTls> {
        let (tls_cert_file, tls_key_file) = (self.tls_cert_file.clone(), self.tls_key_file.clone());
        TlsArgs { tls_cert_file, tls_key_file, ..TlsArgs::default() }.open()
    }

    /// Returns the settings of the webhook that converts between versions; `None` if there is to be none.
    pub(super) fn conversion_settings(&self) -> Option<ConversionSettings> {
        Some(ConversionSettings {
            listen: self.conversion_listen?,
            namespace: self.lease_namespace.clone(),
            service: self.conversion_service.clone(),
            secret: self.conversion_secret.clone(),
        })
    }

    pub(super) fn url_templates(&self) -> UrlTemplates {
        UrlTemplates { manager: self.manager_url_template.clone(), reader: self.reader_url_template.clone() }
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
