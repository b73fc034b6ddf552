//! TLS of the pods: the Secrets with their certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// TLS of all ports of the pods. It can only be set or removed while `hibernate` is true: pods with TLS and pods
/// without it cannot talk to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The certificates of the pods among themselves.
    pub internal: InternalTls,
    /// The certificate that gateways present to viewers; the internal one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicTls>,
}

/// The certificates of the pods among themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InternalTls {
    /// A Secret with the keys `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes it, for `*.NAMESPACE.svc`. Pods
    /// use a renewed certificate without a restart.
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: String,
    /// The authorities (PEM) by which the operator verifies managers and readers: the `ca.crt` of the Secret, because
    /// the operator reads no Secrets. Two of them while one replaces the other.
    #[schemars(length(min = 1, max = 65536), extend("x-kubernetes-validations" = rules::ca_bundle()))]
    pub ca_bundle: String,
}

/// The certificate that gateways present to viewers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicTls {
    /// A Secret of type `kubernetes.io/tls` for the host name that viewers connect to.
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: String,
}
