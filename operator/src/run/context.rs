//! What all actors share.

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

/// What all actors of the operator share: clients, stores, metrics and settings.
pub struct OperatorContext {
    /// To the API server.
    pub client: kube::Client,
    /// All objects that we make.
    pub stores: Stores,
    /// Their pods.
    pub pods: Arc<Store<Pod>>,
    /// The resources.
    pub clusters: Arc<Store<Cluster>>,
    /// The wakers of the clusters' actors.
    pub bells: Arc<Wakers>,
    /// How many requests to the API server are under way at once.
    pub lanes: Lanes,
    /// Which installation this is: where its Leases are.
    pub installation: Installation,
    /// The operator's metrics.
    pub metrics: OperatorMetrics,
    /// The publisher of Kubernetes events.
    pub announcer: Announcer,
    /// The tokens by which managers know the operator.
    pub tokens: Arc<OperatorTokens>,
    /// The public keys by which the processes of a cluster know each other.
    pub keys: Arc<PublicKeys>,
    /// Where managers and readers are, outside of Kubernetes.
    pub templates: Templates,
    /// To managers and readers, and what their answers may take of memory.
    pub peers: (PeerClient, AnswerBudget),
    /// The newest revision of the builder.
    pub newest: u32,
    /// The class of clusters that are ours.
    pub class: String,
    /// Where the operator itself runs, as whom, and its pods' labels.
    pub operator: OperatorFacts,
    /// What authors of resources may use.
    pub policy: Policy,
}

impl OperatorContext {
    /// Returns the facts about the operator that objects contain, with the present public keys.
    pub fn operator_facts(&self) -> OperatorFacts {
        OperatorFacts { keys: self.keys.known_keys().to_string(), ..self.operator.clone() }
    }

    /// The resource of this name, where this operator looks after it.
    pub fn cluster(&self, key: &Key) -> Option<Arc<RankingCluster>> {
        let found = self.clusters.get(key, &key.name)?;
        let resource = found.resource.as_ref().ok()?;
        (resource.spec.operator_class == self.class).then(|| Arc::clone(resource))
    }

    /// What the resource of this name says where the definition is open, and its members that the definition does not have.
    pub fn unknown_fields(&self, key: &Key) -> Vec<FieldProblem> {
        self.clusters.get(key, &key.name).map(|found| found.unknown.clone()).unwrap_or_default()
    }

    /// Why the resource of this name cannot be read; `None` where it can, or another operator looks after it.
    pub fn unreadable_resource(&self, key: &Key) -> Option<Unreadable> {
        let found = self.clusters.get(key, &key.name)?;
        found.resource.as_ref().err().filter(|it| it.class == self.class).cloned()
    }
}
