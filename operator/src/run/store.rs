//! The stores of the watches: pruned objects by the cluster that they belong to, and the wakers of the actors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Notify, watch};

/// The namespace and name of a `RankingCluster`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterKey {
    /// The resource's namespace.
    pub namespace: Arc<str>,
    /// The resource's name.
    pub name: Arc<str>,
}

impl ClusterKey {
    /// Creates the key of the resource `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object of Kubernetes in the form that a store caches: without the fields that are not read.
pub trait CachedObject: Send + Sync + 'static {
    /// The key of the cluster that the object belongs to; the object is in the cluster's namespace.
    fn cluster_key(&self) -> &ClusterKey;
    /// The object's own name.
    fn name(&self) -> &str;
}

/// All objects of one kind that its watches have shown. There is one watch of all namespaces, whose part of the store
/// has an empty name, or one for each namespace, whose part has the namespace's name.
pub struct ClusterStore<T>(RwLock<State<T>>);

struct State<T> {
    objects: BTreeMap<(ClusterKey, Box<str>), Arc<T>>,
    /// The cluster of each object by its namespace and name: a label edited by hand moves an object between clusters.
    cluster_of_object: HashMap<(Arc<str>, Box<str>), ClusterKey>,
    /// The latest resource version of this kind that the watch of each part has shown.
    versions: HashMap<Box<str>, u64>,
    /// The parts whose watch has listed all objects once.
    listed: BTreeSet<Box<str>>,
    /// The number of all parts.
    part_count: usize,
}

impl<T> Default for ClusterStore<T> {
    fn default() -> Self {
        Self::of_parts(1)
    }
}

impl<T> ClusterStore<T> {
    /// Creates a store that `part_count` watches fill.
    pub fn of_parts(part_count: usize) -> Self {
        let (objects, cluster_of_object, versions, listed) = Default::default();
        Self(RwLock::new(State { objects, cluster_of_object, versions, listed, part_count }))
    }
}

impl<T: CachedObject> ClusterStore<T> {
    /// Returns whether every part has been listed once.
    pub fn is_listed(&self) -> bool {
        let state = self.read_state();
        state.listed.len() >= state.part_count
    }

    /// Returns whether the store shows a write in `namespace` that was answered with `version`. Resource versions of
    /// one kind are ordered numbers (KEP-5504); for a version that is no number the result is always true.
    pub fn has_seen(&self, namespace: &str, version: &str) -> bool {
        let state = self.read_state();
        let seen = state.versions.get(namespace).or_else(|| state.versions.get("")).copied().unwrap_or(0);
        version.parse::<u64>().map_or(true, |version| seen >= version)
    }

    /// Returns a cluster's objects, in the order of their names.
    pub fn objects_of(&self, cluster: &ClusterKey) -> Vec<Arc<T>> {
        let state = self.read_state();
        let from = (cluster.clone(), Box::from(""));
        state
            .objects
            .range(from..)
            .take_while(|((key, _), _)| key == cluster)
            .map(|(_, it)| Arc::clone(it))
            .collect()
    }

    /// Returns the object of this name that belongs to this cluster; `None` if there is none.
    pub fn get(&self, cluster: &ClusterKey, name: &str) -> Option<Arc<T>> {
        self.read_state().objects.get(&(cluster.clone(), Box::from(name))).map(Arc::clone)
    }

    /// Returns the clusters that have objects in the store.
    pub fn clusters(&self) -> Vec<ClusterKey> {
        let state = self.read_state();
        let mut keys: Vec<ClusterKey> = state.objects.keys().map(|(key, _)| key.clone()).collect();
        keys.dedup();
        keys
    }

    /// Returns the number of objects in the store.
    pub fn len(&self) -> usize {
        self.read_state().objects.len()
    }

    /// Returns whether the store has no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Inserts an object that was added or changed. Returns the clusters that the object belongs to or belonged to.
    pub(super) fn insert_seen(&self, part: &str, object: T, version: &str) -> Vec<ClusterKey> {
        let mut state = self.write_state();
        state.raise_version(part, version);
        let key = object.cluster_key().clone();
        let mut concerned = state.remove_object(&key.namespace, object.name());
        concerned.retain(|before| *before != key);
        state.insert_object(object);
        concerned.push(key);
        concerned
    }

    /// Removes a deleted object. Returns the cluster that the object belonged to, if any.
    pub(super) fn remove(
        &self,
        part: &str,
        (namespace, name): (&str, &str),
        version: &str,
    ) -> Vec<ClusterKey> {
        let mut state = self.write_state();
        state.raise_version(part, version);
        state.remove_object(&Arc::from(namespace), name)
    }

    /// Notes the latest resource version of a watch without a change of objects.
    pub(super) fn note_version(&self, part: &str, version: &str) {
        self.write_state().raise_version(part, version);
    }

    /// Replaces all objects of a part by `objects`. Returns all clusters that had or have objects in the part.
    pub(super) fn replace_part(&self, part: &str, objects: Vec<T>, version: &str) -> Vec<ClusterKey> {
        let mut state = self.write_state();
        let is_of_part = |namespace: &str| part.is_empty() || part == namespace;
        let before = state.objects.keys().filter(|(key, _)| is_of_part(&key.namespace));
        let mut concerned: Vec<ClusterKey> = before.map(|(key, _)| key.clone()).collect();
        state.objects.retain(|(key, _), _| !is_of_part(&key.namespace));
        state.cluster_of_object.retain(|(namespace, _), _| !is_of_part(namespace));
        for object in objects {
            concerned.push(object.cluster_key().clone());
            state.insert_object(object);
        }
        state.raise_version(part, version);
        state.listed.insert(part.into());
        concerned.sort();
        concerned.dedup();
        concerned
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: CachedObject> State<T> {
    fn raise_version(&mut self, part: &str, version: &str) {
        let before = self.versions.entry(part.into()).or_default();
        *before = version.parse().map_or(*before, |seen: u64| seen.max(*before));
    }

    fn insert_object(&mut self, object: T) {
        let (key, name): (ClusterKey, Box<str>) = (object.cluster_key().clone(), object.name().into());
        self.cluster_of_object.insert((Arc::clone(&key.namespace), name.clone()), key.clone());
        self.objects.insert((key, name), Arc::new(object));
    }

    fn remove_object(&mut self, namespace: &Arc<str>, name: &str) -> Vec<ClusterKey> {
        let Some(key) = self.cluster_of_object.remove(&(Arc::clone(namespace), Box::from(name))) else {
            return Vec::new();
        };
        self.objects.remove(&(key.clone(), Box::from(name)));
        vec![key]
    }
}

/// The wakers of the actors, by cluster.
#[derive(Default)]
pub struct Wakers {
    actors: Mutex<HashMap<ClusterKey, Arc<Notify>>>,
    /// Notified when a cluster may have been created or deleted; each shard's fleet listens.
    pub clusters_changed: watch::Sender<()>,
}

impl Wakers {
    /// Returns the waker of a cluster's reconciler, which has to be [removed](Self::remove) when the reconciler ends.
    pub fn waker_of(&self, key: &ClusterKey) -> Arc<Notify> {
        Arc::clone(self.lock_actors().entry(key.clone()).or_default())
    }

    /// Removes the waker of a cluster, because the cluster has no reconciler any more.
    pub fn remove(&self, key: &ClusterKey) {
        self.lock_actors().remove(key);
    }

    /// Wakes the actors of these clusters.
    pub fn wake_actors(&self, keys: &[ClusterKey]) {
        let actors = self.lock_actors();
        for bell in keys.iter().filter_map(|key| actors.get(key)) {
            bell.notify_one();
        }
    }

    fn lock_actors(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterKey, Arc<Notify>>> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(ClusterKey, &'static str, u32);

    impl CachedObject for Thing {
        fn cluster_key(&self) -> &ClusterKey {
            &self.0
        }
        fn name(&self) -> &str {
            self.1
        }
    }

    fn thing(cluster: &str, name: &'static str, value: u32) -> Thing {
        Thing(ClusterKey::new("ns", cluster), name, value)
    }

    fn values(store: &ClusterStore<Thing>, cluster: &str) -> Vec<u32> {
        store.objects_of(&ClusterKey::new("ns", cluster)).iter().map(|it| it.2).collect()
    }

    #[test]
    fn objects_are_found_by_their_cluster_and_change_it_with_their_label() {
        let store = ClusterStore::default();
        let (x, y) = (ClusterKey::new("ns", "x"), ClusterKey::new("ns", "y"));
        assert_eq!(store.insert_seen("", thing("x", "b", 2), "5"), std::slice::from_ref(&x));
        store.insert_seen("", thing("x", "a", 1), "6");
        store.insert_seen("", thing("y", "c", 3), "7");
        assert_eq!(values(&store, "x"), [1, 2]);
        assert_eq!(store.insert_seen("", thing("y", "a", 4), "8"), [x.clone(), y.clone()]);
        assert_eq!((values(&store, "x"), values(&store, "y")), (vec![2], vec![4, 3]));
        assert_eq!(store.remove("", ("ns", "a"), "9"), std::slice::from_ref(&y));
        assert!(store.remove("", ("ns", "a"), "9").is_empty());
        assert_eq!(store.replace_part("", vec![thing("x", "d", 5)], "12"), [x, y]);
        assert_eq!((values(&store, "x"), values(&store, "y")), (vec![5], vec![]));
    }

    #[test]
    fn each_namespace_is_filled_by_a_watch_of_its_own() {
        let store: ClusterStore<Thing> = ClusterStore::of_parts(2);
        let of = |namespace: &str, name| Thing(ClusterKey::new(namespace, "x"), name, 1);
        store.replace_part("a", vec![of("a", "one"), of("a", "two")], "90");
        assert!(!store.is_listed(), "nothing is decided on half of it");
        store.replace_part("b", vec![of("b", "one")], "50");
        assert!(store.is_listed());
        // The progress of one watch says nothing about the other.
        assert!(store.has_seen("a", "90") && !store.has_seen("b", "60"));
        store.replace_part("b", Vec::new(), "60");
        let left = |namespace| store.objects_of(&ClusterKey::new(namespace, "x")).len();
        assert_eq!((left("a"), left("b"), store.has_seen("b", "60")), (2, 0, true));
        store.remove("a", ("a", "one"), "91");
        assert_eq!((left("a"), store.is_listed()), (1, true));
    }

    #[test]
    fn a_write_is_seen_when_the_watch_has_come_as_far() {
        let store: ClusterStore<Thing> = ClusterStore::default();
        store.insert_seen("", thing("x", "a", 1), "10");
        assert!(store.has_seen("ns", "10") && !store.has_seen("ns", "11"));
        store.note_version("", "12");
        assert!(store.has_seen("ns", "11"));
        store.note_version("", "3");
        assert!(store.has_seen("ns", "12"), "a watch never goes back");
        assert!(store.has_seen("ns", "not a number"));
    }
}
