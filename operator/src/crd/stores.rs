//! The stores that a cluster uses. Their Secrets are mounted by the pods, never read by the operator.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// One value in a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The key in it.
    #[schemars(length(max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Kafka, which holds the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::kafka()))]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Brokers to contact first, `host:port`, separated by commas.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules::bootstrap_servers()))]
    pub bootstrap_servers: String,
    /// The topic of all interactions and comments. Immutable.
    #[serde(default = "default_topic")]
    #[schemars(length(min = 1, max = 249), extend("x-kubernetes-validations" = rules::topic()))]
    pub topic: String,
    /// The authority (PEM) that signed the brokers' certificates. Its presence turns TLS on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKey>,
    /// A Secret with the keys `username` and `password`, for SASL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub credentials_secret: Option<String>,
    /// A topic for other systems, to which the outcome of each comment and the actions of moderators are written,
    /// exactly once. It is created if it does not exist. Nothing is exported when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), extend("x-kubernetes-validations" = rules::export_topic()))]
    pub export_comments: Option<String>,
    /// A topic for other systems, for changes of the best hundred videos of each board, once a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), extend("x-kubernetes-validations" = rules::export_topic()))]
    pub export_boards: Option<String>,
}

fn default_topic() -> String {
    "video_interactions".to_owned()
}

/// Redis, which holds the boards and comments in transit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::redis()))]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// The Secret with the URL, `redis://` or `rediss://` with its credentials; several, separated by commas, for a
    /// Cluster. Another Secret can only be named while `comment.enabled` is false: viewers are at readers that are
    /// known to one Redis.
    pub url_secret: SecretKey,
    /// One server (or its replicas behind one name), or a Redis Cluster. Immutable.
    #[serde(default)]
    pub topology: RedisTopology,
    /// The prefix of every key and channel, so that two systems can share one Redis; made from namespace and name when
    /// absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = rules::prefix()))]
    pub prefix: Option<String>,
    /// The authority (PEM) that signed the server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKey>,
}

/// The kind of Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RedisTopology {
    /// One Redis server, or its replicas behind one address.
    #[default]
    Single,
    /// A Redis Cluster.
    Cluster,
}

/// MongoDB, which holds the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::mongodb()))]
#[serde(rename_all = "camelCase")]
pub struct MongoDb {
    /// The Secret with the URI, `mongodb://` or `mongodb+srv://` with its credentials; a replica set.
    pub uri_secret: SecretKey,
    /// The database; made from namespace and name when absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = rules::database()))]
    pub database: Option<String>,
    /// The authority (PEM) that signed the servers' certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKey>,
}
