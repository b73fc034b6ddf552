
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

pub struct OperatorContext {
    pub client: kube::Client,
    pub stores: Stores,
    pub pods: Arc<Store<Pod>>,
    pub clusters: Arc<Store<Cluster>>,
    /// The wakers of the clusters' actors.
    pub bells: Arc<Wakers>,
    pub lanes: Lanes,
    pub installation: Installation,
    /// The operator's metrics.
    pub metrics: OperatorMetrics,
    /// The publisher of Kubernetes events.
    pub announcer: Announcer,
    pub tokens: Arc<OperatorTokens>,
    pub keys: Arc<PublicKeys>,
    pub templates: Templates,
    pub peers: (PeerClient, AnswerBudget),
    /// The newest revision of the builder.
    pub newest: u32,
    pub class: String,
    pub operator: OperatorFacts,
    pub policy: Policy,
}

impl OperatorContext {
    /// Returns the facts about the operator that objects contain, with the present public keys.
    pub fn operator_facts(&self) -> OperatorFacts {
        OperatorFacts { keys: self.keys.known_keys().to_string(), ..self.operator.clone() }
    }

    pub fn cluster(&self, key: &Key) -> Option<Arc<RankingCluster>> {
        let found = self.clusters.get(key, &key.name)?;
        let resource = found.resource.as_ref().ok()?;
        (resource.spec.operator_class == self.class).then(|| Arc::clone(resource))
    }

    pub fn unknown_fields(&self, key: &Key) -> Vec<FieldProblem> {
        self.clusters.get(key, &key.name).map(|found| found.unknown.clone()).unwrap_or_default()
    }

    pub fn unreadable_resource(&self, key: &Key) -> Option<Unreadable> {
        let found = self.clusters.get(key, &key.name)?;
        found.resource.as_ref().err().filter(|it| it.class == self.class).cloned()
    }
}
