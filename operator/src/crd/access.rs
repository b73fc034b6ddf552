//! Who may do what, and who may reach what.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKey, rules, schema};

/// A peer of a network policy, as Kubernetes has it.
pub type Peer = NetworkPolicyPeer;

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::auth()))]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Whether those who post or watch must show a token: then `jwks`, `issuer` and `audience` say which.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// The keys (JWKS) that users' tokens are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// Whose tokens are taken: their `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// For whom tokens must be meant: one of their `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
    /// A list of tokens that are good no more, as `--auth-revoked-file` of the gateway has it. Its Secret may change at any time;
    /// what is revoked by the API needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_secret: Option<SecretKey>,
}

const fn default_true() -> bool {
    true
}

/// Where the keys are: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::jwks()))]
#[serde(rename_all = "camelCase")]
pub struct Jwks {
    /// In a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<SecretKey>,
    /// At an `https://` URL, asked again now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules::jwks_url()))]
    pub url: Option<String>,
}

/// Who may reach the pods, and what they may reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Whether there are policies at all.
    pub enabled: bool,
    /// Who may reach the front door and the readers, beside liverank itself; none means anybody. Metrics stay open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::peers")]
    pub ingress_from: Vec<Peer>,
    /// Where pods may connect to, beside each other and DNS: the networks of Kafka, Redis and MongoDB. None leaves egress
    /// open.
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
    /// Where traces are sent, and how many; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

/// Where traces are sent, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// A collector that takes OTLP over HTTP, such as `http://collector.monitoring:4318`. Where `networkPolicy.egressCIDRs` are
    /// given, they have to lead to it.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules::collector()))]
    pub endpoint: String,
    /// Of a million requests, how many are traced without being asked to.
    #[serde(default = "default_sampling_divisor")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub sampling_rate_per_million: i32,
    /// Traces that each process begins in a minute at most, and as many that callers ask for.
    #[serde(default = "default_max_traces_a_second")]
    #[schemars(range(min = 1, max = 60_000))]
    pub traces_per_minute: i32,
}

const fn default_sampling_divisor() -> i32 {
    10_000
}

const fn default_max_traces_a_second() -> i32 {
    600
}
