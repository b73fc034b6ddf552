//! The work of a shard's leader: one actor for each cluster of the shard, as long as it leads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use liverank_runtime::process::confine_panics;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep;

use super::actor::Actor;
use super::cache::Unreadable;
use super::context::OperatorContext;
use super::leadership::Leadership;
use super::store::Key;
use super::unreadable;

/// The time between two checks whether all stores are filled; used only at the beginning.
const CHECK_FILLED_EVERY: Duration = Duration::from_millis(50);
/// The pause after a panic before an actor is started again: its cause is likely still there, and other clusters must
/// not suffer.
const RESTART_ACTOR_AFTER: Duration = Duration::from_secs(30);

/// Runs an actor for each cluster of the shard until this process no longer leads it.
pub async fn run_actors(world: Arc<OperatorContext>, office: Arc<Leadership>) -> anyhow::Result<()> {
    let mut fleet = Fleet {
        world: Arc::clone(&world),
        office: Arc::clone(&office),
        actors: JoinSet::new(),
        keys: HashMap::new(),
        unreadable: HashMap::new(),
        counted: (0, 0),
        telling: JoinSet::new(),
    };
    let mut clusters = world.bells.clusters.subscribe();
    tokio::select! {
        () = office.over.cancelled() => return Ok(()),
        () = wait_until_filled(&world) => {}
    }
    loop {
        fleet.start_missing_actors();
        tokio::select! {
            () = office.over.cancelled() => break,
            // The channel ends only with the context, which is held here.
            _ = clusters.changed() => {}
            Some(ended) = fleet.actors.join_next_with_id() => fleet.note_actor_ended(&ended),
            Some(told) = fleet.telling.join_next() => {
                if told.is_err() {
                    world.metrics.count_failure("panic");
                }
            }
        }
    }
    fleet.actors.shutdown().await;
    fleet.telling.shutdown().await;
    fleet.count(0, 0);
    for key in fleet.keys.values() {
        world.bells.take_down(key);
    }
    Ok(())
}

/// Waits until every watch has listed its objects: no decision may be based on fewer.
pub async fn wait_until_filled(world: &OperatorContext) {
    let is_filled = || {
        // Kinds that may not be installed are not waited for.
        let mut needed = world.stores.iter().filter(|(kind, _)| !kind.is_optional());
        let all = needed.all(|(_, store)| store.is_listed());
        // Without the keys, their ConfigMap would be written empty.
        let knows_keys = !world.keys.known_keys().is_empty();
        all && knows_keys && world.pods.is_listed() && world.clusters.is_listed()
    };
    while !is_filled() {
        sleep(CHECK_FILLED_EVERY).await;
    }
}

struct Fleet {
    world: Arc<OperatorContext>,
    office: Arc<Leadership>,
    actors: JoinSet<()>,
    keys: HashMap<Id, Key>,
    /// The resources that cannot be parsed, as they were last reported.
    unreadable: HashMap<Key, Unreadable>,
    /// This shard's part of the gauges of clusters and of unreadable resources, to which other shards of this process
    /// add theirs.
    counted: (i64, i64),
    telling: JoinSet<()>,
}

impl Fleet {
    /// Starts the actors of clusters that have none. Actors of deleted clusters end by themselves.
    fn start_missing_actors(&mut self) {
        let running: HashSet<Key> = self.keys.values().cloned().collect();
        let mut unreadable = HashMap::new();
        for key in self.world.clusters.clusters() {
            if !self.office.shard.has(&key.namespace) {
                continue;
            }
            if let Some(found) = self.world.unreadable_resource(&key) {
                self.report_unreadable_once(&key, &found);
                unreadable.insert(key, found);
                continue;
            }
            if running.contains(&key) {
                continue;
            }
            let Some(cluster) = self.world.cluster(&key) else { continue };
            let actor = Actor::new(&self.world, &self.office, &key, &cluster);
            // A panic ends only this actor: see `note_actor_ended`.
            let begun = self.actors.spawn(confine_panics(actor.run()));
            self.keys.insert(begun.id(), key);
        }
        self.count(self.keys.len() as i64, unreadable.len() as i64);
        self.unreadable = unreadable;
    }

    fn count(&mut self, clusters: i64, unreadable: i64) {
        let (clusters_before, unreadable_before) =
            std::mem::replace(&mut self.counted, (clusters, unreadable));
        self.world.metrics.clusters.inc_by(clusters - clusters_before);
        self.world.metrics.unreadable.inc_by(unreadable - unreadable_before);
    }

    /// Reports a resource that cannot be parsed, once for each reason.
    fn report_unreadable_once(&mut self, key: &Key, found: &Unreadable) {
        if self.unreadable.get(key) == Some(found) {
            return;
        }
        let (world, key, found) = (Arc::clone(&self.world), key.clone(), found.clone());
        self.telling.spawn(confine_panics(async move {
            Box::pin(unreadable::report_unreadable(&world, &key, &found)).await;
        }));
    }

    fn note_actor_ended(&mut self, ended: &Result<(Id, ()), tokio::task::JoinError>) {
        let (id, broke) = match ended {
            Ok((id, ())) => (*id, None),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        self.world.bells.take_down(&key);
        let Some(error) = broke else { return };
        self.world.metrics.count_failure("panic");
        tracing::error!(cluster = %key, error, "an actor broke: it begins anew");
        // A sleeping task takes the actor's place meanwhile.
        let begun = self.actors.spawn(sleep(RESTART_ACTOR_AFTER));
        self.keys.insert(begun.id(), key);
    }
}
