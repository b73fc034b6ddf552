//! A watch of one kind of objects: a list, then the changes, for ever, with a backoff of its own.
//!
//! It is written with `list` and `watch` themselves: the library's watcher hides bookmarks and ended watches, so that a
//! stalled watch looks like one without changes.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::cache::resource_version_of;
use super::metrics::{OperatorMetrics, WatchLabels};
use super::progress::WatchProgress;
use super::store::{CachedObject, ClusterKey, ClusterStore, Wakers};

/// The duration of a watch in seconds; the next watch continues where it ended. Some load balancers cut connections
/// that are silent for 240 s, without telling either side.
const WATCH_SECONDS: u32 = 200;
/// The time without any event, even a bookmark, after which a watch is opened again: API servers send a bookmark a
/// minute.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// The time limit for a list, and for opening a watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The minimal time between two starts of the same watch.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// Number of objects in one page of a list: while a page is parsed, it is in memory several times.
const PAGE_OBJECTS: u32 = 100;
/// The first pause after an error, doubled up to [`LONGEST_PAUSE`] by each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after errors of a watch; see [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after errors for a kind that need not be installed. After the kind is installed the operator
/// watches it within this time, and a Kubernetes cluster without it gets few requests.
const LONGEST_PAUSE_OPTIONAL: Duration = Duration::from_mins(5);

/// A watch of one kind of object, which keeps a store of these objects up to date.
pub struct Watcher<K, T: CachedObject> {
    /// The kind of the objects, for logs and metrics.
    pub kind: &'static str,
    /// The API that is watched.
    pub api: Api<K>,
    /// The namespace that is watched; empty means all namespaces.
    pub namespace: Box<str>,
    /// The label selector of the watch; empty means that it selects everything.
    pub label_selector: String,
    /// Makes the cached form of an object; `None` if the object is not cached.
    pub to_cached: fn(K) -> Option<T>,
    /// The store that the watch fills.
    pub store: Arc<ClusterStore<T>>,
    /// Whether this Kubernetes cluster may not have the kind: a stalled watch is then not reported, and the watch waits
    /// for the kind to be installed.
    pub is_optional_kind: bool,
    /// The actors to wake when an object changes.
    pub wake: WakeTarget,
    /// The times of the last progress of all watches; this watch notes its own progress there.
    pub progress: Arc<WatchProgress>,
    /// The operator's metrics.
    pub metrics: OperatorMetrics,
    /// Whether the watch has logged that it failed, and has not succeeded since.
    pub has_logged_failure: AtomicBool,
}

/// The actors to wake when objects change.
#[derive(Clone)]
pub struct WakeTarget {
    /// The wakers of the actors.
    pub wakers: Arc<Wakers>,
    /// Whether changes may also mean that clusters were created or deleted.
    pub may_change_clusters: bool,
}

impl WakeTarget {
    fn wake_actors(&self, keys: &[ClusterKey]) {
        self.wakers.wake_actors(keys);
        if self.may_change_clusters && !keys.is_empty() {
            self.wakers.clusters_changed.send_replace(());
        }
    }
}

/// The reason why a watch has to be opened again.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    /// The resource version to continue from is too old: all objects have to be listed again.
    #[error("what is known is too old to go on from")]
    Expired,
    /// The watch failed, and can continue from the same resource version.
    #[error("{0}")]
    Failed(String),
}

impl From<kube::Error> for WatchError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 410 => Self::Expired,
            kube::Error::Api(status) => Self::Failed(status.message),
            error => Self::Failed(liverank_runtime::peer::root_cause(&error)),
        }
    }
}

impl<K, T> Watcher<K, T>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: CachedObject,
{
    /// Watches for ever, until the future is dropped.
    pub async fn run(self) {
        let mut version = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let Err(error) = self.list_and_watch(&mut version).await else {
                pause = FIRST_PAUSE;
                // A watch that the server ends at once must not begin again at full speed.
                sleep(MIN_INTERVAL.saturating_sub(began.elapsed())).await;
                continue;
            };
            self.metrics.watch_errors.get_or_create(&WatchLabels { kind: self.kind }).inc();
            if !self.has_logged_failure.swap(true, Relaxed) {
                if self.is_optional_kind {
                    tracing::info!(
                        kind = self.kind,
                        namespace = &*self.namespace,
                        error,
                        "the kind cannot be watched"
                    );
                } else {
                    tracing::warn!(kind = self.kind, namespace = &*self.namespace, error, "the watch broke");
                }
            }
            // The pause is random, so that the watches of all replicas do not come back at the same moment.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause =
                (pause * 2).min(if self.is_optional_kind { LONGEST_PAUSE_OPTIONAL } else { LONGEST_PAUSE });
        }
    }

    /// Lists all objects if no version is known, and watches until the watch ends. Sets `version` to the resource
    /// version to continue from.
    async fn list_and_watch(&self, version: &mut Option<String>) -> Result<(), String> {
        let from = match version.take() {
            Some(from) => from,
            None => self.list_all().await.map_err(|broken| broken.to_string())?,
        };
        match self.watch_changes(version.insert(from)).await {
            Err(WatchError::Expired) => *version = None,
            Err(WatchError::Failed(error)) => return Err(error),
            Ok(()) => {}
        }
        Ok(())
    }

    fn note_progress(&self) {
        if !self.is_optional_kind {
            self.progress.note_progress(self.kind, &self.namespace);
        }
        self.metrics.note_progress(self.kind);
        if self.has_logged_failure.swap(false, Relaxed) {
            tracing::info!(kind = self.kind, namespace = &*self.namespace, "the watch is back");
        }
    }

    /// Lists all objects into the store, and returns the version to watch from.
    async fn list_all(&self) -> Result<String, WatchError> {
        let mut kept = Vec::new();
        let mut parameters = ListParams::default().labels(&self.label_selector).limit(PAGE_OBJECTS);
        loop {
            let page = timeout(REQUEST_TIMEOUT, self.api.list(&parameters)).await;
            let page = page.map_err(|_| WatchError::Failed("no list in time".into()))??;
            self.note_progress();
            kept.extend(page.items.into_iter().filter_map(self.to_cached));
            if let Some(more) = page.metadata.continue_.filter(|token| !token.is_empty()) {
                parameters = parameters.continue_token(&more);
                continue;
            }
            let version = page.metadata.resource_version.unwrap_or_default();
            let concerned = self.store.replace_part(&self.namespace, kept, &version);
            self.metrics.watch_lists.get_or_create(&WatchLabels { kind: self.kind }).inc();
            self.count_objects();
            self.wake.wake_actors(&concerned);
            return Ok(version);
        }
    }

    /// Watches changes from `version` on, and sets `version` to the resource version of the last change. Returns when
    /// the API server ends the watch.
    async fn watch_changes(&self, version: &mut String) -> Result<(), WatchError> {
        let parameters = WatchParams::default().labels(&self.label_selector).timeout(WATCH_SECONDS);
        let opened = timeout(REQUEST_TIMEOUT, self.api.watch(&parameters, version)).await;
        let mut events = opened.map_err(|_| WatchError::Failed("no watch in time".into()))??.boxed();
        self.note_progress();
        loop {
            let Ok(event) = timeout(IDLE_TIMEOUT, events.next()).await else { return Ok(()) };
            let Some(event) = event else { return Ok(()) };
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *version = resource_version_of(&object);
                    self.store_changed(object, version);
                }
                WatchEvent::Deleted(object) => {
                    *version = resource_version_of(&object);
                    self.remove_deleted(&object, version);
                }
                WatchEvent::Bookmark(mark) => {
                    *version = mark.metadata.resource_version;
                    self.store.note_version(&self.namespace, version);
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            }
            self.note_progress();
        }
    }

    fn store_changed(&self, object: K, version: &str) {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let name = object.meta().name.clone().unwrap_or_default();
        let concerned = match (self.to_cached)(object) {
            Some(kept) => self.store.insert_seen(&self.namespace, kept, version),
            // The object lost the label by which it belongs to a cluster.
            None => self.store.remove(&self.namespace, (&namespace, &name), version),
        };
        self.count_objects();
        self.wake.wake_actors(&concerned);
    }

    fn remove_deleted(&self, object: &K, version: &str) {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        let name = (namespace.unwrap_or_default(), name.unwrap_or_default());
        let concerned = self.store.remove(&self.namespace, name, version);
        self.count_objects();
        self.wake.wake_actors(&concerned);
    }

    fn count_objects(&self) {
        self.metrics
            .watch_objects
            .get_or_create(&WatchLabels { kind: self.kind })
            .set(self.store.len() as i64);
    }
}
