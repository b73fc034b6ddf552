//! The lists that somebody watches: each is computed, paced and encoded once, and forgotten with its last watcher.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use liverank_adapters::ranking_store::Board;
use liverank_core::UserId;
use liverank_core::ranking::Ranked;
use liverank_runtime::now_ms;
use tokio::sync::{Notify, watch};

use crate::metrics::WebsocketMetrics;
use crate::mirror::Mirror;
use crate::pace::{INTERVAL, Pace};
use crate::published::{Published, Shape};

/// Different lists of the boards watched at once: each is computed at every change, up to ten times a second. An
/// application needs a handful; one that made up a limit for every client would cost a core.
const MAX_BOARD_LISTS: usize = 256;
/// From this many lines on, computing a list takes milliseconds and goes where it blocks nobody.
const LONG: usize = 5000;

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The best of a board (`None`: all).
    Board(Board, Option<usize>, Shape),
    /// An owner's best videos.
    Owner(UserId, Option<usize>),
}

impl Key {
    const fn shape(&self) -> Shape {
        match self {
            Self::Board(_, _, shape) => *shape,
            Self::Owner(..) => Shape::Owned,
        }
    }
}

type State = Option<Arc<Published>>;

/// One list.
struct List {
    sender: watch::Sender<State>,
    /// The boards changed.
    dirty: Notify,
}

/// All lists.
pub(crate) struct Lists {
    watched: Mutex<Watched>,
    mirror: Arc<Mirror>,
    metrics: WebsocketMetrics,
}

#[derive(Default)]
struct Watched {
    boards: HashMap<Key, Arc<List>>,
    owners: HashMap<UserId, HashMap<Option<usize>, Arc<List>>>,
}

impl Watched {
    fn all(&self) -> impl Iterator<Item = &Arc<List>> {
        self.boards.values().chain(self.owners.values().flat_map(HashMap::values))
    }

    /// The list of that key, new where nobody watches it yet (then also `true`); `None` where there is no room.
    fn of(&mut self, key: &Key) -> Option<(Arc<List>, bool)> {
        let fresh = || Arc::new(List { sender: watch::Sender::new(None), dirty: Notify::new() });
        match key {
            Key::Board(..) => {
                let room = self.boards.len() < MAX_BOARD_LISTS;
                match self.boards.entry(key.clone()) {
                    Entry::Occupied(list) => Some((Arc::clone(list.get()), false)),
                    Entry::Vacant(vacant) => room.then(|| (Arc::clone(vacant.insert(fresh())), true)),
                }
            }
            Key::Owner(owner, limit) => match self.owners.entry(owner.clone()).or_default().entry(*limit) {
                Entry::Occupied(list) => Some((Arc::clone(list.get()), false)),
                Entry::Vacant(vacant) => Some((Arc::clone(vacant.insert(fresh())), true)),
            },
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::Board(..) => {
                self.boards.remove(key);
            }
            Key::Owner(owner, limit) => {
                if let Entry::Occupied(mut lists) = self.owners.entry(owner.clone()) {
                    lists.get_mut().remove(limit);
                    if lists.get().is_empty() {
                        lists.remove();
                    }
                }
            }
        }
    }
}

impl Lists {
    pub(crate) fn new(mirror: Arc<Mirror>, metrics: WebsocketMetrics) -> Self {
        Self { watched: Mutex::default(), mirror, metrics }
    }

    /// Watches a list; `None` where too many different ones are watched.
    pub(crate) fn watch(self: &Arc<Self>, key: Key) -> Option<Feed> {
        let mut watched = self.watched();
        let (list, fresh) = watched.of(&key)?;
        let mut receiver = list.sender.subscribe();
        if fresh {
            self.metrics.lists.inc();
            list.dirty.notify_one();
            tokio::spawn(keep(Arc::clone(self), key, list));
        } else {
            // What there is, is news to this one.
            receiver.mark_changed();
        }
        Some(Feed { receiver, held: None })
    }

    /// The boards changed, and with them the lists of these owners.
    pub(crate) fn poke<'a>(&self, owners: impl Iterator<Item = &'a UserId>) {
        let watched = self.watched();
        watched.boards.values().for_each(|list| list.dirty.notify_one());
        if !watched.owners.is_empty() {
            let lists = owners.filter_map(|owner| watched.owners.get(owner)).flat_map(HashMap::values);
            lists.for_each(|list| list.dirty.notify_one());
        }
    }

    /// Everything may have changed.
    pub(crate) fn poke_all(&self) {
        self.watched().all().for_each(|list| list.dirty.notify_one());
    }

    /// Forgets a list unless somebody watches it again.
    fn forget(&self, key: &Key, list: &List) -> bool {
        let mut watched = self.watched();
        // Watchers come under this lock only.
        if list.sender.receiver_count() > 0 {
            return false;
        }
        watched.remove(key);
        self.metrics.lists.dec();
        true
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one list up to date while somebody watches it.
async fn keep(lists: Arc<Lists>, key: Key, list: Arc<List>) {
    let mut pace = Pace::new(INTERVAL);
    loop {
        tokio::select! {
            () = list.sender.closed() => {
                if lists.forget(&key, &list) {
                    return;
                }
            }
            () = list.dirty.notified() => {
                pace.rest().await;
                pace.happened(Instant::now());
                let before = list.sender.borrow().clone();
                if let Some(next) = next(&lists, &key, before).await {
                    list.sender.send_replace(Some(Arc::new(next)));
                }
            }
        }
    }
}

async fn next(lists: &Arc<Lists>, key: &Key, before: State) -> Option<Published> {
    let limit = match key {
        Key::Board(_, limit, _) | Key::Owner(_, limit) => limit.unwrap_or(usize::MAX),
    };
    let work = {
        let (lists, key) = (Arc::clone(lists), key.clone());
        move || {
            let lines = lines(&lists.mirror, &key);
            Published::after(before.as_deref(), lines, key.shape(), &lists.metrics.encodes)
        }
    };
    if limit.min(lists.mirror.len()) < LONG {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("computing a list does not panic")
}

fn lines(mirror: &Mirror, key: &Key) -> Vec<Ranked> {
    let boards = mirror.boards();
    match key {
        Key::Board(board, limit, _) => boards.top(*board, *limit, now_ms()),
        Key::Owner(owner, limit) => boards.of_owner(owner, *limit),
    }
}

/// One watcher's view of a list: always the latest, whatever was skipped.
pub(crate) struct Feed {
    receiver: watch::Receiver<State>,
    /// The version the client holds.
    held: Option<u64>,
}

impl Feed {
    /// The next frame for the client; `None` where there will be none. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.receiver.changed().await.ok()?;
            let latest = self.receiver.borrow_and_update().clone();
            if let Some(latest) = latest {
                return Some(latest.frame_for(self.held.replace(latest.version)));
            }
        }
    }
}
