//! The state that all actors share.

use std::sync::Arc;

use super::answer_budget::AnswerBudget;
use super::apply::Stores;
use super::cache::{CachedCluster, CachedPod, UnreadableResource};
use super::events::EventPublisher;
use super::lanes::RequestLimit;
use super::managers::UrlTemplates;
use super::metrics::OperatorMetrics;
use super::shard::Installation;
use super::store::{ClusterKey, ClusterStore, Wakers};
use super::tokens::{OperatorTokens, PublicKeys};
use crate::build::OperatorFacts;
use crate::crd::RankingCluster;
use crate::policy::Policy;
use crate::validate::FieldProblem;
use liverank_runtime::peer::PeerClient;

/// The state that all actors of the operator share: clients, stores, metrics and settings.
pub struct OperatorContext {
    /// The client of the API server.
    pub client: kube::Client,
    /// The stores of all objects that the operator makes.
    pub stores: Stores,
    /// The store of the clusters' pods.
    pub pods: Arc<ClusterStore<CachedPod>>,
    /// The store of the `RankingCluster` resources.
    pub clusters: Arc<ClusterStore<CachedCluster>>,
    /// The wakers of the clusters' actors.
    pub wakers: Arc<Wakers>,
    /// The limit on concurrent requests to the API server.
    pub request_limit: RequestLimit,
    /// This installation of the operator: the namespace and name of its Leases.
    pub installation: Installation,
    /// The operator's metrics.
    pub metrics: OperatorMetrics,
    /// The publisher of Kubernetes events.
    pub event_publisher: EventPublisher,
    /// The tokens by which managers authenticate the operator.
    pub tokens: Arc<OperatorTokens>,
    /// The public keys by which the processes of a cluster verify each other's tokens.
    pub public_keys: Arc<PublicKeys>,
    /// The URLs of managers and readers for an operator outside of their Kubernetes cluster.
    pub url_templates: UrlTemplates,
    /// The client for managers and readers, and the memory limit for their answers.
    pub peers: (PeerClient, AnswerBudget),
    /// The newest revision of the builder.
    pub newest_revision: u32,
    /// The operator class of the resources that this operator manages.
    pub operator_class: String,
    /// The facts about the operator that do not change while it runs: its namespace, `ServiceAccount` and pod labels;
    /// the public keys are empty here.
    pub operator: OperatorFacts,
    /// The policy that says what authors of resources may use.
    pub policy: Policy,
}

impl OperatorContext {
    /// Returns the facts about the operator that objects contain, with the present public keys.
    pub fn operator_facts(&self) -> OperatorFacts {
        OperatorFacts { public_keys: self.public_keys.known_keys().to_string(), ..self.operator.clone() }
    }

    /// Returns the resource of this name; `None` if it does not exist, cannot be parsed, or belongs to another
    /// operator.
    pub fn cluster(&self, key: &ClusterKey) -> Option<Arc<RankingCluster>> {
        let found = self.clusters.get(key, &key.name)?;
        let resource = found.resource.as_ref().ok()?;
        (resource.spec.operator_class == self.operator_class).then(|| Arc::clone(resource))
    }

    /// Returns the unknown fields of the resource of this name, in the parts that the definition leaves open.
    pub fn unknown_fields(&self, key: &ClusterKey) -> Vec<FieldProblem> {
        self.clusters.get(key, &key.name).map(|found| found.unknown_fields.clone()).unwrap_or_default()
    }

    /// Returns the resource of this name if it cannot be parsed, with the reason; `None` if it can be parsed, or
    /// belongs to another operator.
    pub fn unreadable_resource(&self, key: &ClusterKey) -> Option<UnreadableResource> {
        let found = self.clusters.get(key, &key.name)?;
        found.resource.as_ref().err().filter(|it| it.class == self.operator_class).cloned()
    }
}
