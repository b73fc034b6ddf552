//! Carries out the decisions about one cluster's objects: first the steps about readers, then the writes of all other
//! objects in the order of their kinds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::apply::Applier;
use super::cache::{CachedPod, LiveObject};
use super::context::OperatorContext;
use super::held::HeldDeployments;
use super::hibernation;
use super::rollout::{self, RolloutState};
use super::shrink::{self, ScaleDownPacer};
use super::steering;
use super::store::{CachedObject, ClusterKey};
use crate::build::{self, BuiltObjects, Component, Kind, OperatorFacts, WantedObject, names};
use crate::crd::{HttpWorkload, RankingCluster};
use crate::readers::ReaderStep;
use liverank_runtime::now_ms;

/// The wanted objects of one cluster, as they are kept between looks.
#[derive(Default)]
pub struct ObjectMemory {
    /// The objects as they were built last.
    pub built: BuiltObjects,
    /// The Deployments that keep their live template for now.
    pub held: HeldDeployments,
}

/// The inputs for writing one cluster's objects in one reconcile: the resource in force and the existing objects.
pub struct RoundWriter<'a> {
    /// The state that all actors share.
    pub context: &'a OperatorContext,
    /// The namespace and the name of the cluster.
    pub key: &'a ClusterKey,
    /// The `RankingCluster`, as it is in force.
    pub cluster: &'a RankingCluster,
    /// The facts about the operator that the cluster's objects contain.
    pub operator_facts: &'a OperatorFacts,
    /// The builder revision in force.
    pub revision: u32,
    /// The roll-out states of the cluster's components.
    pub rollout_states: &'a [RolloutState],
    /// All Deployments of the cluster.
    pub deployments: &'a [Arc<LiveObject>],
    /// All pods of the cluster.
    pub pods: &'a [Arc<CachedPod>],
}

impl RoundWriter<'_> {
    /// Writes the objects that differ from the wanted ones. Returns the time at which the next pod of a component that
    /// is scaled down may be removed; `None` if no pod waits for removal.
    pub async fn carry_out(
        &self,
        steps: Vec<ReaderStep>,
        memory: &mut ObjectMemory,
        applier: &mut Applier,
        shrinks: &mut ScaleDownPacer,
    ) -> Option<Instant> {
        applier.begin_round();
        let readers = self.carry_out_steps(steps, applier).await;
        let next = self.apply_all(&readers, memory, applier, shrinks).await;
        applier.finish_round();
        next
    }

    /// Carries out the steps about readers. Returns the readers that are to exist after these steps.
    async fn carry_out_steps(&self, steps: Vec<ReaderStep>, applier: &mut Applier) -> Vec<build::Reader> {
        let mut readers = steering::existing_readers(self.cluster.name(), self.deployments);
        for step in steps {
            match step {
                ReaderStep::CreateReader { name } => readers.push(build::Reader { name, drain: None }),
                ReaderStep::Annotate { name, drain, .. } => {
                    let drain = drain.as_ref().map(steering::drain_to_build);
                    let found = readers.iter_mut().filter(|reader| reader.name == name);
                    found.for_each(|reader| reader.drain.clone_from(&drain));
                }
                ReaderStep::DeleteReader { name, uid, forced } => {
                    tracing::info!(cluster = %self.key, reader = name, forced, "a reader goes");
                    let live = self.deployments.iter().find(|live| *live.uid == *uid);
                    if let Some(live) = live.filter(|live| !live.deleting) {
                        applier.delete_object(Kind::Deployment, live).await;
                    }
                    readers.retain(|reader| reader.name != name);
                }
                // Orders to managers are no writes to the API server: see [`super::actor`].
                ReaderStep::Cordon { .. } | ReaderStep::Moves { .. } => {}
            }
        }
        readers
    }

    /// Applies all objects that differ from the wanted ones, and deletes objects that are not wanted.
    async fn apply_all(
        &self,
        readers: &[build::Reader],
        memory: &mut ObjectMemory,
        applier: &mut Applier,
        shrinks: &mut ScaleDownPacer,
    ) -> Option<Instant> {
        let input = build::Input {
            cluster: self.cluster,
            revision: self.revision,
            readers,
            operator: self.operator_facts,
        };
        let mut objects = memory.built.objects(&input).to_vec();
        let awake = hibernation::components_with_pods(self.pods, now_ms());
        hibernation::set_replicas(&mut objects, self.cluster, self.deployments, &awake);
        let turn = rollout::next_component(self.rollout_states).map(|state| state.component);
        let mut next = None;
        for object in &objects {
            let live = self.live_object(object.kind, &object.name);
            let mut admitted = memory.held.object_for_turn(object, live.as_ref(), turn);
            if let Some(at) = self.limit_scale_down(&mut admitted, live.as_deref(), shrinks) {
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
            }
            let listed = self.context.stores[&object.kind].is_listed();
            applier.apply_if_different(&admitted, live.as_ref(), listed).await;
        }
        memory.held.finish_look();
        self.delete_unwanted(&objects, applier).await;
        next
    }

    fn live_object(&self, kind: Kind, name: &str) -> Option<Arc<LiveObject>> {
        self.context.stores.get(&kind)?.get(self.key, name)
    }

    /// Limits the replicas of a component that holds clients, so that the component loses one pod at a time. Returns
    /// the time at which the next pod may be removed; `None` if none waits for removal.
    fn limit_scale_down(
        &self,
        object: &mut Arc<WantedObject>,
        live: Option<&LiveObject>,
        shrinks: &mut ScaleDownPacer,
    ) -> Option<Instant> {
        // If the cluster hibernates, no pods remain that could take the clients of the first ones.
        let is_paced = object.kind == Kind::Deployment && !self.cluster.spec.hibernate;
        let component = object.component.filter(|_| is_paced)?;
        let drain = Duration::from_secs(
            u64::try_from(http_workload(self.cluster, component)?.drain_seconds).unwrap_or(0),
        );
        let wanted = object.replicas?;
        let here = live?.replicas?;
        let now = now_ms();
        let ending = self
            .pods
            .iter()
            .any(|pod| *pod.component == *component.name() && shrink::may_still_hold_clients(pod, now));
        let counted = live?.status["replicas"].as_i64().unwrap_or(0);
        let seen = shrink::PodCounts {
            wanted_pods: wanted,
            deployment_pods: here,
            settled: !ending && counted <= here,
        };
        let (replicas, next) = shrinks.next_replicas(component, seen, drain, Instant::now());
        if replicas != wanted {
            *object = Arc::new(object.with_replicas(replicas));
        }
        next
    }

    /// Deletes objects of the cluster that are not wanted any more.
    async fn delete_unwanted(&self, objects: &[Arc<WantedObject>], applier: &mut Applier) {
        let wanted: HashSet<(Kind, &str)> = objects.iter().map(|it| (it.kind, &*it.name)).collect();
        let used = configs_in_use(self.deployments, self.pods);
        for kind in Kind::ALL {
            for live in self.context.stores[&kind].objects_of(self.key) {
                let ours = live.controller_uid.as_deref() == Some(self.cluster.uid()) && !live.deleting;
                if !ours || wanted.contains(&(kind, live.name())) {
                    continue;
                }
                if kind == Kind::ConfigMap && (used.contains(live.name()) || self.is_rolling(&live)) {
                    continue;
                }
                applier.delete_object(kind, &live).await;
            }
        }
    }

    /// Returns whether the component of a `ConfigMap` still has pods to replace: such a pod may be started again and
    /// then needs the `ConfigMap`.
    fn is_rolling(&self, config: &LiveObject) -> bool {
        let body = config.to_value();
        let component =
            body["metadata"]["labels"][names::COMPONENT_LABEL].as_str().and_then(Component::parse);
        self.rollout_states.iter().any(|state| Some(state.component) == component && !state.is_rolled_out)
    }
}

fn http_workload(cluster: &RankingCluster, component: Component) -> Option<&HttpWorkload> {
    match component {
        Component::Gateway => Some(&cluster.spec.gateway),
        Component::Websocket => Some(&cluster.spec.websocket),
        Component::Comment => Some(&cluster.spec.comment.front),
        Component::Manager | Component::Consumer | Component::Reader | Component::Statistics => None,
    }
}

/// Returns the names of the `ConfigMap`s that a Deployment or a pod uses.
pub fn configs_in_use<'a>(
    deployments: &'a [Arc<LiveObject>],
    pods: &'a [Arc<CachedPod>],
) -> HashSet<&'a str> {
    let of_pods = pods.iter().flat_map(|pod| &pod.config_maps);
    let of_deployments = deployments.iter().flat_map(|live| &live.config_maps);
    of_pods.chain(of_deployments).map(|name| &**name).collect()
}

/// Returns the `HTTPRoute`s among a cluster's objects.
pub fn routes_of_cluster(world: &OperatorContext, key: &ClusterKey) -> Vec<Arc<LiveObject>> {
    world.stores.get(&Kind::HttpRoute).map(|store| store.objects_of(key)).unwrap_or_default()
}
