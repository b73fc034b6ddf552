//! One watch: a list, then what changes, for ever, each with a backoff of its own.
//!
//! Written on `list` and `watch` themselves: the library's watcher keeps bookmarks and ended watches to itself, so that
//! one that stands still looks like one with nothing to tell.

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

use super::cache::version_of;
use super::metrics::{OperatorMetrics, Watch};
use super::progress::Progress;
use super::store::{Kept, Key, Store, Wakers};

/// Watches end after this long, in seconds, and begin again where they were: some load balancers cut those that say
/// nothing for 240 s, without a word to either side.
const WATCH_SECONDS: u32 = 200;
/// A watch on which not even a bookmark came for this long is opened again: API servers send one a minute.
const IDLE: Duration = Duration::from_mins(2);
/// How long a list, or opening a watch, may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The least time between two beginnings.
const LEAST: Duration = Duration::from_millis(200);
/// Objects a page: what is read at once is held several times over while it is taken apart.
const PAGE: u32 = 100;
/// The first pause after an error, doubled up to [`LONGEST_PAUSE`] by each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The same for a kind that need not be installed: whoever installs it waits that long, and a cluster without it is not asked
/// for it all the time.
const LONGEST_PAUSE_OPTIONAL: Duration = Duration::from_mins(5);

/// What a watch is made of.
pub struct Watcher<K, T: Kept> {
    /// Its kind, for logs and metrics.
    pub kind: &'static str,
    /// Where it looks.
    pub api: Api<K>,
    /// The namespace that it looks at; empty: all of them.
    pub namespace: Box<str>,
    /// What it selects; empty: everything.
    pub labels: String,
    /// What is kept of an object.
    pub keep: fn(K) -> Option<T>,
    /// Where it is kept.
    pub store: Arc<Store<T>>,
    /// Whether this Kubernetes may lack the kind: then its watch tells nobody that it stands still, and waits for the kind
    /// to be installed.
    pub optional: bool,
    /// Who is woken.
    pub wake: Wake,
    /// What everybody sees of it.
    pub progress: Arc<Progress>,
    /// What it counts.
    pub metrics: OperatorMetrics,
    /// Whether it has said that it is broken.
    pub failing: AtomicBool,
}

/// Who is woken by changes.
#[derive(Clone)]
pub struct Wake {
    /// By which bells.
    pub bells: Arc<Wakers>,
    /// Whether changes may also mean that clusters came or went.
    pub clusters: bool,
}

impl Wake {
    fn ring(&self, keys: &[Key]) {
        self.bells.ring(keys);
        if self.clusters && !keys.is_empty() {
            self.bells.clusters.notify_one();
        }
    }
}

/// Why a watch has to begin anew.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// List again.
    #[error("what is known is too old to go on from")]
    Expired,
    /// Go on from where it was.
    #[error("{0}")]
    Failed(String),
}

impl From<kube::Error> for Broken {
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
    T: Kept,
{
    /// Watches until it is dropped.
    pub async fn run(self) {
        let mut version = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let Err(error) = self.once(&mut version).await else {
                pause = FIRST_PAUSE;
                // One that is ended as soon as it begins must not begin again at full speed.
                sleep(LEAST.saturating_sub(began.elapsed())).await;
                continue;
            };
            self.metrics.watch_errors.get_or_create(&Watch { kind: self.kind }).inc();
            if !self.failing.swap(true, Relaxed) {
                if self.optional {
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
            // Spread, so that all watches of all replicas do not come back as one.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(if self.optional { LONGEST_PAUSE_OPTIONAL } else { LONGEST_PAUSE });
        }
    }

    /// Lists, unless it is known where to go on, and watches until that ends. Leaves in `version` where to go on.
    async fn once(&self, version: &mut Option<String>) -> Result<(), String> {
        let from = match version.take() {
            Some(from) => from,
            None => self.list().await.map_err(|broken| broken.to_string())?,
        };
        match self.watch(version.insert(from)).await {
            Err(Broken::Expired) => *version = None,
            Err(Broken::Failed(error)) => return Err(error),
            Ok(()) => {}
        }
        Ok(())
    }

    fn progressed(&self) {
        if !self.optional {
            self.progress.made(self.kind, &self.namespace);
        }
        self.metrics.progressed(self.kind);
        if self.failing.swap(false, Relaxed) {
            tracing::info!(kind = self.kind, namespace = &*self.namespace, "the watch is back");
        }
    }

    /// Reads everything, and answers with the version to watch from.
    async fn list(&self) -> Result<String, Broken> {
        let mut kept = Vec::new();
        let mut parameters = ListParams::default().labels(&self.labels).limit(PAGE);
        loop {
            let page = timeout(ANSWER, self.api.list(&parameters)).await;
            let page = page.map_err(|_| Broken::Failed("no list in time".into()))??;
            self.progressed();
            kept.extend(page.items.into_iter().filter_map(self.keep));
            if let Some(more) = page.metadata.continue_.filter(|token| !token.is_empty()) {
                parameters = parameters.continue_token(&more);
                continue;
            }
            let version = page.metadata.resource_version.unwrap_or_default();
            let concerned = self.store.replace(&self.namespace, kept, &version);
            self.metrics.watch_lists.get_or_create(&Watch { kind: self.kind }).inc();
            self.count();
            self.wake.ring(&concerned);
            return Ok(version);
        }
    }

    /// Takes in changes from `version` on, and leaves there how far it came. Ends when the API server ends it.
    async fn watch(&self, version: &mut String) -> Result<(), Broken> {
        let parameters = WatchParams::default().labels(&self.labels).timeout(WATCH_SECONDS);
        let opened = timeout(ANSWER, self.api.watch(&parameters, version)).await;
        let mut events = opened.map_err(|_| Broken::Failed("no watch in time".into()))??.boxed();
        self.progressed();
        loop {
            let Ok(event) = timeout(IDLE, events.next()).await else { return Ok(()) };
            let Some(event) = event else { return Ok(()) };
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *version = version_of(&object);
                    self.changed(object, version);
                }
                WatchEvent::Deleted(object) => {
                    *version = version_of(&object);
                    self.forget(&object, version);
                }
                WatchEvent::Bookmark(mark) => {
                    *version = mark.metadata.resource_version;
                    self.store.advance(&self.namespace, version);
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            }
            self.progressed();
        }
    }

    fn changed(&self, object: K, version: &str) {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let name = object.meta().name.clone().unwrap_or_default();
        let concerned = match (self.keep)(object) {
            Some(kept) => self.store.apply(&self.namespace, kept, version),
            // It lost the label that makes it one of ours.
            None => self.store.remove(&self.namespace, (&namespace, &name), version),
        };
        self.count();
        self.wake.ring(&concerned);
    }

    fn forget(&self, object: &K, version: &str) {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        let name = (namespace.unwrap_or_default(), name.unwrap_or_default());
        let concerned = self.store.remove(&self.namespace, name, version);
        self.count();
        self.wake.ring(&concerned);
    }

    fn count(&self) {
        self.metrics.watch_objects.get_or_create(&Watch { kind: self.kind }).set(self.store.len() as i64);
    }
}
