//! Settings for authentication, network policies, metrics and traces.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SecretKey, rules, schema};

/// A peer of a network policy, in Kubernetes' own type.
pub type Peer = NetworkPolicyPeer;

/// Authentication of users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::auth()))]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Whether users who post or watch must send a token: then `jwks`, `issuer` and `audience` are required.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// The keys (JWKS) that users' tokens are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// The issuer (`iss`) of tokens that are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// The audience that a token must have: one of its `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
    /// A list of tokens that are not valid any more, in the format of the gateway's `--auth-revoked-file`. Its Secret
    /// may change at any time; tokens revoked by the API need no Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_secret: Option<SecretKey>,
}

const fn default_true() -> bool {
    true
}

/// The source of the keys: exactly one of the two fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::jwks()))]
#[serde(rename_all = "camelCase")]
pub struct Jwks {
    /// The keys in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<SecretKey>,
    /// An `https://` URL of the keys, read again from time to time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules::jwks_url()))]
    pub url: Option<String>,
}

/// The network policies: the allowed peers of the pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Whether network policies are created at all.
    pub enabled: bool,
    /// Peers that may reach gateways and readers, beside liverank itself; an empty list means everybody. Metrics stay
    /// open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::peers")]
    pub ingress_from: Vec<Peer>,
    /// Networks that pods may connect to, beside each other and DNS: those of Kafka, Redis and MongoDB. An empty list
    /// leaves egress open.
    #[serde(rename = "egressCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub egress_cidrs: Vec<String>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, ingress_from: Vec::new(), egress_cidrs: Vec::new() }
    }
}

/// Metrics and traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Monitoring {
    /// Make a ServiceMonitor, for a cluster where the Prometheus operator runs.
    pub service_monitor: bool,
    /// More labels of the ServiceMonitor: a Prometheus may select ServiceMonitors by them, as that of
    /// kube-prometheus-stack does by `release`. Labels of liverank's own keys stay as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub service_monitor_labels: BTreeMap<String, String>,
    /// The time between two scrapes, such as `30s`; that of the Prometheus when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = "^[1-9][0-9]*(ms|s|m|h)$"))]
    pub interval: Option<String>,
    /// Relabelings of the scraped pods, as ServiceMonitors have them in `relabelings`; at most 16. They set labels of metrics,
    /// none that begins with `__`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::relabelings")]
    pub relabelings: Vec<Value>,
    /// The receiver of traces, and their number; no traces when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

/// The receiver of traces, and their number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// A collector that accepts OTLP over HTTP, such as `http://collector.monitoring:4318`. If
    /// `networkPolicy.egressCIDRs` are given, they have to include its address.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules::tracing_endpoint()))]
    pub endpoint: String,
    /// Number of requests of a million that are traced without being asked to.
    #[serde(default = "default_sampling_rate_per_million")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub sampling_rate_per_million: i32,
    /// Traces that each process begins in a minute at most, and as many again for callers that ask for one.
    #[serde(default = "default_traces_per_minute")]
    #[schemars(range(min = 1, max = 60_000))]
    pub traces_per_minute: i32,
}

const fn default_sampling_rate_per_million() -> i32 {
    10_000
}

const fn default_traces_per_minute() -> i32 {
    600
}
