//! The access for viewers from outside the Kubernetes cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rules, schema};

/// The access for viewers from outside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::exposure()))]
#[serde(rename_all = "camelCase", default)]
pub struct Exposure {
    /// The kind of route: None, Ingress or HTTPRoute. Streams get no request timeout in either.
    #[serde(rename = "type")]
    pub kind: ExposureType,
    /// The public host name of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::host()))]
    pub host: Option<String>,
    /// A Secret of type `kubernetes.io/tls` for the host; an HTTPRoute's Gateway has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub tls_secret: Option<String>,
    /// The class of the Ingress; the Kubernetes cluster's default class when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub class_name: Option<String>,
    /// The Gateways that an HTTPRoute is attached to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub parent_refs: Vec<ParentRef>,
    /// Annotations of the Ingress or HTTPRoute; they replace ours.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// The way of viewers to their reader: `FrontDoor`: the gateway passes streams on and follows moves by itself;
    /// `PerReader`: each reader has a host of its own and clients connect directly.
    pub readers: ReaderExposure,
    /// The readers' hosts, with `{reader}` in place of the reader's name, such as `{reader}.live.example.org`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::reader_host()))]
    pub reader_host_template: Option<String>,
}

/// The kind of route in front of the gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExposureType {
    /// No route: there are only the Services.
    #[default]
    None,
    /// An Ingress.
    Ingress,
    /// An HTTPRoute of the Gateway API.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
}

/// The way of viewers to their reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReaderExposure {
    /// Through the gateway, which passes streams on.
    #[default]
    FrontDoor,
    /// Directly, by a host name of the reader's own.
    PerReader,
}

/// A Gateway that an HTTPRoute is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// The Gateway's name.
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The Gateway's namespace; this one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// One of the Gateway's listeners; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub section_name: Option<String>,
    /// One of the Gateway's ports; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

impl Exposure {
    /// Returns the host of one reader; `None` unless each reader has a host of its own.
    pub fn reader_host(&self, reader: &str) -> Option<String> {
        match (self.readers, &self.reader_host_template) {
            (ReaderExposure::PerReader, Some(template)) => Some(template.replace("{reader}", reader)),
            _ => None,
        }
    }
}
