//! What a leader does: one actor for each cluster, as long as it leads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use liverank_runtime::process::confined;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep;

use super::actor::Actor;
use super::cache::Unreadable;
use super::context::OperatorContext;
use super::leadership::Leadership;
use super::store::Key;
use super::unreadable;

/// How often the stores are looked at until all are filled: at the beginning only.
const CHECK_FILLED_EVERY: Duration = Duration::from_millis(50);
/// An actor that broke begins anew after this long: what broke it is likely still there, and others must not suffer.
const RESTART_ACTOR_AFTER: Duration = Duration::from_secs(30);

/// Runs an actor for each cluster until this process no longer leads.
pub async fn run_actors(world: Arc<OperatorContext>, office: Arc<Leadership>) -> anyhow::Result<()> {
    let mut fleet = Fleet {
        world: Arc::clone(&world),
        office: Arc::clone(&office),
        actors: JoinSet::new(),
        keys: HashMap::new(),
        unreadable: HashMap::new(),
        telling: JoinSet::new(),
    };
    tokio::select! {
        () = office.over.cancelled() => return Ok(()),
        () = wait_until_filled(&world) => {}
    }
    loop {
        fleet.start_missing_actors();
        tokio::select! {
            () = office.over.cancelled() => break,
            () = world.bells.clusters.notified() => {}
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
    world.metrics.clusters.set(0);
    world.metrics.unreadable.set(0);
    Ok(())
}

/// Waits until every watch has listed what there is: nothing may be decided on less.
pub async fn wait_until_filled(world: &OperatorContext) {
    let is_filled = || {
        // Kinds that may not be installed are waited for by nobody.
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
    /// What cannot be read, as it was told last.
    unreadable: HashMap<Key, Unreadable>,
    telling: JoinSet<()>,
}

impl Fleet {
    /// Starts the actors of clusters that have none. Actors of deleted clusters end by themselves.
    fn start_missing_actors(&mut self) {
        let running: HashSet<Key> = self.keys.values().cloned().collect();
        let mut unreadable = HashMap::new();
        for key in self.world.clusters.clusters() {
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
            // A panic ends this actor only: see `ended`.
            let begun = self.actors.spawn(confined(actor.run()));
            self.keys.insert(begun.id(), key);
        }
        self.world.metrics.clusters.set(self.keys.len() as i64);
        self.world.metrics.unreadable.set(unreadable.len() as i64);
        self.unreadable = unreadable;
    }

    /// Tells of a resource that cannot be read, once for each thing that is wrong with it.
    fn report_unreadable_once(&mut self, key: &Key, found: &Unreadable) {
        if self.unreadable.get(key) == Some(found) {
            return;
        }
        let (world, key, found) = (Arc::clone(&self.world), key.clone(), found.clone());
        self.telling.spawn(confined(async move {
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
        // Its place is kept meanwhile.
        let begun = self.actors.spawn(sleep(RESTART_ACTOR_AFTER));
        self.keys.insert(begun.id(), key);
    }
}
