//! The user's settings for Services and ServiceAccounts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Settings of a component's Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// ClusterIP, NodePort or LoadBalancer; the operator's policy has to permit it. The consumer's Service is always
    /// headless.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServiceType>,
    /// Annotations of the Service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::plain_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Whether the Service has addresses of one IP family or of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// The Service's IP families, the first one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub ip_families: Vec<IpFamily>,
    /// The preference among pods for new connections, such as `PreferClose`: pods of the client's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[A-Za-z]+$"))]
    pub traffic_distribution: Option<String>,
    /// Of a NodePort or LoadBalancer: `Local` keeps clients' addresses, and routes them only to nodes with a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Of a LoadBalancer: its implementation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9A-Z]([-a-zA-Z0-9./]*[a-zA-Z0-9])?$"))]
    pub load_balancer_class: Option<String>,
    /// Of a LoadBalancer: the networks that may connect; an empty list means any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::source_ranges")]
    pub load_balancer_source_ranges: Vec<String>,
}

/// A Service's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reached only inside the Kubernetes cluster.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Reached also at a port of every node.
    NodePort,
    /// Reached also by a load balancer outside the Kubernetes cluster.
    LoadBalancer,
}

/// The number of IP families of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::enum_variant_names, reason = "Kubernetes' words")]
pub enum IpFamilyPolicy {
    /// One IP family.
    SingleStack,
    /// Two IP families if the Kubernetes cluster has two, else one.
    PreferDualStack,
    /// Two IP families; the Service is refused if the Kubernetes cluster has only one.
    RequireDualStack,
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamily {
    /// IP version 4.
    IPv4,
    /// IP version 6.
    IPv6,
}

/// The pods to which connections from outside go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// To any pod of the Service.
    Cluster,
    /// To pods on the node that the connection reached.
    Local,
}

/// Settings of a component's ServiceAccounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccountSettings {
    /// Annotations, such as a cloud role. The operator's policy has to permit them; by default it permits none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::plain_annotations")]
    pub annotations: BTreeMap<String, String>,
}

macro_rules! text_enum {
    ($kind:ty: $($variant:ident => $word:literal),+) => {
        impl $kind {
            /// Returns the value's name as Kubernetes writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

text_enum!(ServiceType: ClusterIp => "ClusterIP", NodePort => "NodePort", LoadBalancer => "LoadBalancer");
text_enum!(IpFamilyPolicy: SingleStack => "SingleStack", PreferDualStack => "PreferDualStack", RequireDualStack => "RequireDualStack");
text_enum!(IpFamily: IPv4 => "IPv4", IPv6 => "IPv6");
text_enum!(ExternalTrafficPolicy: Cluster => "Cluster", Local => "Local");
