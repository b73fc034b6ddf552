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

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[arg(long, env = "LIVERANK_OPERATOR_CLASS", value_name = "CLASS", default_value = "default")]
    pub operator_class: String,
    #[arg(long, env = "LIVERANK_WATCH_NAMESPACE", value_name = "NAMESPACES", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    #[arg(long, env = "LIVERANK_SHARDS", value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHARDS)))]
    pub shards: u32,
    #[arg(long, env = "LIVERANK_LEASE_NAME", value_name = "NAME", default_value = "liverank-operator")]
    pub lease_name: String,
    #[arg(
        long,
        env = "LIVERANK_LEASE_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "liverank-operator"
    )]
    pub lease_namespace: String,
    #[arg(long, env = "LIVERANK_IDENTITY", value_name = "NAME", default_value = "liverank-operator")]
    pub identity: String,
    /// Labels of the operator's pods, which workloads' network policies let in: name=value,…
    #[arg(long, env = "LIVERANK_OPERATOR_LABELS", value_name = "LABELS", value_parser = parse_labels, default_value = "app.kubernetes.io/name=liverank-operator")]
    pub operator_labels: Labels,
    #[arg(long, env = "LIVERANK_SERVICE_ACCOUNT", value_name = "NAME", default_value = "liverank-operator")]
    pub service_account: String,
    #[arg(long, env = "LIVERANK_ALLOW_FILE", value_name = "FILE")]
    pub allow_file: Option<PathBuf>,
    #[arg(long, env = "LIVERANK_POD_USER", value_enum, default_value_t = PodUserArg::Image)]
    pub pod_user: PodUserArg,
    #[arg(long, env = "LIVERANK_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9060")]
    pub admin_listen: SocketAddr,
    #[arg(long, env = "LIVERANK_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of --tls-cert-file, in PEM.
    #[arg(long, env = "LIVERANK_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub log: LogArgs,
    #[arg(long, env = "LIVERANK_BUILDER_REVISION", value_name = "REVISION", hide = true)]
    pub builder_revision: Option<u32>,
    #[arg(long, env = "LIVERANK_MANAGER_URL_TEMPLATE", value_name = "URL", hide = true)]
    pub manager_url_template: Option<String>,
    #[arg(long, env = "LIVERANK_READER_URL_TEMPLATE", value_name = "URL", hide = true)]
    pub reader_url_template: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PodUserArg {
    Image,
    Platform,
}

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
    pub(super) fn watched_namespaces(&self) -> BTreeSet<&str> {
        self.watch_namespace.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect()
    }

    pub(super) fn policy(&self) -> anyhow::Result<Policy> {
        let Some(file) = &self.allow_file else { return Ok(Policy::default()) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--allow-file: {} cannot be read", file.display()))?;
        Policy::parse(&text).with_context(|| format!("--allow-file: {}", file.display()))
    }

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
