//! The work of a shard's leader: one reconciler for each cluster of the shard, as long as this process leads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use liverank_runtime::process::confine_panics;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep;

use super::actor::Actor;
use super::cache::UnreadableResource;
use super::context::OperatorContext;
use super::leadership::Leadership;
use super::store::ClusterKey;
use super::unreadable;

/// The time between two checks whether all stores are filled; used only when a leader begins.
const CHECK_FILLED_EVERY: Duration = Duration::from_millis(50);
/// The pause before a reconciler is started again after a panic: the cause is likely still there, and other clusters
/// must not suffer.
const RESTART_ACTOR_AFTER: Duration = Duration::from_secs(30);

/// Runs a reconciler for each cluster of the shard until this process no longer leads the shard.
pub async fn run_actors(world: Arc<OperatorContext>, office: Arc<Leadership>) -> anyhow::Result<()> {
    let mut fleet = ShardActors {
        context: Arc::clone(&world),
        leadership: Arc::clone(&office),
        actors: JoinSet::new(),
        cluster_of_task: HashMap::new(),
        reported_unreadable: HashMap::new(),
        gauge_share: (0, 0),
        report_tasks: JoinSet::new(),
    };
    let mut clusters = world.wakers.clusters_changed.subscribe();
    tokio::select! {
        () = office.ended.cancelled() => return Ok(()),
        () = wait_until_filled(&world) => {}
    }
    loop {
        fleet.start_missing_actors();
        tokio::select! {
            () = office.ended.cancelled() => break,
            // The channel ends only with the context, which is held here.
            _ = clusters.changed() => {}
            Some(ended) = fleet.actors.join_next_with_id() => fleet.note_actor_ended(&ended),
            Some(told) = fleet.report_tasks.join_next() => {
                if told.is_err() {
                    world.metrics.count_failure("panic");
                }
            }
        }
    }
    fleet.actors.shutdown().await;
    fleet.report_tasks.shutdown().await;
    fleet.set_gauges(0, 0);
    for key in fleet.cluster_of_task.values() {
        world.wakers.remove(key);
    }
    Ok(())
}

/// Waits until every watch has listed its objects: no decision may be based on incomplete stores.
pub async fn wait_until_filled(world: &OperatorContext) {
    let is_filled = || {
        // Kinds that may not be installed are not waited for.
        let mut needed = world.stores.iter().filter(|(kind, _)| !kind.is_optional());
        let all = needed.all(|(_, store)| store.is_listed());
        // Without the keys, their ConfigMap would be written empty.
        let knows_keys = !world.public_keys.known_keys().is_empty();
        all && knows_keys && world.pods.is_listed() && world.clusters.is_listed()
    };
    while !is_filled() {
        sleep(CHECK_FILLED_EVERY).await;
    }
}

struct ShardActors {
    context: Arc<OperatorContext>,
    leadership: Arc<Leadership>,
    actors: JoinSet<()>,
    cluster_of_task: HashMap<Id, ClusterKey>,
    /// The resources that cannot be parsed, as they were last reported.
    reported_unreadable: HashMap<ClusterKey, UnreadableResource>,
    /// This shard's part of the gauges of clusters and of unreadable resources, to which other shards of this process
    /// add theirs.
    gauge_share: (i64, i64),
    report_tasks: JoinSet<()>,
}

impl ShardActors {
    /// Starts the actors of clusters that have none. Actors of deleted clusters end by themselves.
    fn start_missing_actors(&mut self) {
        let running: HashSet<ClusterKey> = self.cluster_of_task.values().cloned().collect();
        let mut unreadable = HashMap::new();
        for key in self.context.clusters.clusters() {
            if !self.leadership.shard.includes(&key.namespace) {
                continue;
            }
            if let Some(found) = self.context.unreadable_resource(&key) {
                self.report_unreadable_once(&key, &found);
                unreadable.insert(key, found);
                continue;
            }
            if running.contains(&key) {
                continue;
            }
            let Some(cluster) = self.context.cluster(&key) else { continue };
            let actor = Actor::new(&self.context, &self.leadership, &key, &cluster);
            // A panic ends only this actor: see `note_actor_ended`.
            let begun = self.actors.spawn(confine_panics(actor.run()));
            self.cluster_of_task.insert(begun.id(), key);
        }
        self.set_gauges(self.cluster_of_task.len() as i64, unreadable.len() as i64);
        self.reported_unreadable = unreadable;
    }

    fn set_gauges(&mut self, clusters: i64, unreadable: i64) {
        let (clusters_before, unreadable_before) =
            std::mem::replace(&mut self.gauge_share, (clusters, unreadable));
        self.context.metrics.managed_clusters.inc_by(clusters - clusters_before);
        self.context.metrics.unreadable_clusters.inc_by(unreadable - unreadable_before);
    }

    /// Reports a resource that cannot be parsed, once for each reason.
    fn report_unreadable_once(&mut self, key: &ClusterKey, found: &UnreadableResource) {
        if self.reported_unreadable.get(key) == Some(found) {
            return;
        }
        let (world, key, found) = (Arc::clone(&self.context), key.clone(), found.clone());
        self.report_tasks.spawn(confine_panics(async move {
            Box::pin(unreadable::report_unreadable(&world, &key, &found)).await;
        }));
    }

    fn note_actor_ended(&mut self, ended: &Result<(Id, ()), tokio::task::JoinError>) {
        let (id, broke) = match ended {
            Ok((id, ())) => (*id, None),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let Some(key) = self.cluster_of_task.remove(&id) else { return };
        self.context.wakers.remove(&key);
        let Some(error) = broke else { return };
        self.context.metrics.count_failure("panic");
        tracing::error!(cluster = %key, error, "an actor broke: it begins anew");
        // A sleeping task takes the actor's place meanwhile.
        let begun = self.actors.spawn(sleep(RESTART_ACTOR_AFTER));
        self.cluster_of_task.insert(begun.id(), key);
    }
}
