//! What a user may say about Services and ServiceAccounts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How a component's Service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// ClusterIP, NodePort or LoadBalancer; the operator's policy says which are permitted. The consumer's is always a
    /// list of addresses without one of its own.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServiceType>,
    /// Annotations of the Service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::plain_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Whether it has addresses of one IP family or of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Its IP families, the first one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "atomic"))]
    pub ip_families: Vec<IpFamily>,
    /// Whom connections are given to where several pods could take them: such as `PreferClose`, those of the same zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z]+$"))]
    pub traffic_distribution: Option<String>,
    /// Of a NodePort or LoadBalancer: `Local` keeps clients' addresses, and sends them only to nodes with a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Of a LoadBalancer: who makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9A-Z]([-a-zA-Z0-9./]*[a-zA-Z0-9])?$"))]
    pub load_balancer_class: Option<String>,
    /// Of a LoadBalancer: from which networks it takes connections; none means any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::source_ranges")]
    pub load_balancer_source_ranges: Vec<String>,
}

/// A Service's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reached inside the Kubernetes cluster.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Reached at a port of every node, too.
    NodePort,
    /// Reached by a load balancer, too.
    LoadBalancer,
}

/// How many IP families a Service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::enum_variant_names, reason = "Kubernetes' words")]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Two where there are two.
    PreferDualStack,
    /// Two.
    RequireDualStack,
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamily {
    /// Version 4.
    IPv4,
    /// Version 6.
    IPv6,
}

/// Where connections from outside go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// To any pod.
    Cluster,
    /// To pods of the node that was reached.
    Local,
}

/// How a component's ServiceAccounts are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccountSettings {
    /// Their annotations, such as the cloud's role that the pods act as. The operator's policy says which are permitted;
    /// none are by default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::plain_annotations")]
    pub annotations: BTreeMap<String, String>,
}

macro_rules! text_enum {
    ($kind:ty: $($variant:ident => $word:literal),+) => {
        impl $kind {
            /// As Kubernetes writes it.
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
