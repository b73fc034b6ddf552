//! The state that all actors share.

use std::sync::Arc;

use super::apply::Stores;
use super::cache::{Cluster, Pod, Unreadable};
use super::events::Announcer;
use super::lanes::Lanes;
use super::managers::{AnswerBudget, Templates};
use super::metrics::OperatorMetrics;
use super::shard::Installation;
use super::store::{Key, Store, Wakers};
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
    pub pods: Arc<Store<Pod>>,
    /// The store of the `RankingCluster` resources.
    pub clusters: Arc<Store<Cluster>>,
    /// The wakers of the clusters' actors.
    pub bells: Arc<Wakers>,
    /// The limit on concurrent requests to the API server.
    pub lanes: Lanes,
    /// This installation of the operator: the namespace and name of its Leases.
    pub installation: Installation,
    /// The operator's metrics.
    pub metrics: OperatorMetrics,
    /// The publisher of Kubernetes events.
    pub announcer: Announcer,
    /// The tokens by which managers authenticate the operator.
    pub tokens: Arc<OperatorTokens>,
    /// The public keys by which the processes of a cluster verify each other's tokens.
    pub keys: Arc<PublicKeys>,
    /// The URLs of managers and readers for an operator outside of their Kubernetes cluster.
    pub templates: Templates,
    /// The client for managers and readers, and the memory limit for their answers.
    pub peers: (PeerClient, AnswerBudget),
    /// The newest revision of the builder.
    pub newest: u32,
    /// The operator class of the resources that this operator manages.
    pub class: String,
    /// The operator's own namespace, `ServiceAccount`, and pod labels; the keys are empty.
    pub operator: OperatorFacts,
    /// The policy that says what authors of resources may use.
    pub policy: Policy,
}

impl OperatorContext {
    /// Returns the facts about the operator that objects contain, with the present public keys.
    pub fn operator_facts(&self) -> OperatorFacts {
        OperatorFacts { keys: self.keys.known_keys().to_string(), ..self.operator.clone() }
    }

    /// Returns the resource of this name; `None` if it does not exist, cannot be parsed, or belongs to another
    /// operator.
    pub fn cluster(&self, key: &Key) -> Option<Arc<RankingCluster>> {
        let found = self.clusters.get(key, &key.name)?;
        let resource = found.resource.as_ref().ok()?;
        (resource.spec.operator_class == self.class).then(|| Arc::clone(resource))
    }

    /// Returns the unknown fields of the resource of this name, in the parts that the definition leaves open.
    pub fn unknown_fields(&self, key: &Key) -> Vec<FieldProblem> {
        self.clusters.get(key, &key.name).map(|found| found.unknown.clone()).unwrap_or_default()
    }

    /// Returns the resource of this name that cannot be parsed, with the reason; `None` if it can, or belongs to
    /// another operator.
    pub fn unreadable_resource(&self, key: &Key) -> Option<Unreadable> {
        let found = self.clusters.get(key, &key.name)?;
        found.resource.as_ref().err().filter(|it| it.class == self.class).cloned()
    }
}
