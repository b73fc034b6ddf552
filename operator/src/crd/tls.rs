//! TLS of the pods: which Secrets have their certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// TLS of all ports of the pods. It can only be set or removed while `hibernate` is true: pods with it and pods without it do
/// not understand each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// What the pods know each other by.
    pub internal: InternalTls,
    /// What gateways show to viewers; the internal certificate when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicTls>,
}

/// What the pods know each other by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InternalTls {
    /// A Secret with the keys `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes it, for `*.NAMESPACE.svc`. Pods take a
    /// renewed one without a restart.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: String,
    /// The authorities (PEM) that the operator knows managers and readers by: what `ca.crt` in the Secret has. The operator
    /// reads no Secrets. Two of them while one replaces the other.
    #[schemars(length(min = 1, max = 65536), extend("x-kubernetes-validations" = rules::ca_bundle()))]
    pub ca_bundle: String,
}

/// What gateways show to viewers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicTls {
    /// A Secret of type `kubernetes.io/tls` for the host that viewers ask.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: String,
}
