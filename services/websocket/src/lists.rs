//! The lists that somebody watches: each is computed, paced and encoded once, and forgotten with its last watcher.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use liverank_adapters::ranking_store::Board;
use liverank_core::{UserId, VideoId};
use liverank_runtime::now_ms;
use tokio::sync::{Notify, watch};

use crate::boards::BoardPart;
use crate::metrics::WebsocketMetrics;
use crate::mirror::Mirror;
use crate::pace::{MIN_INTERVAL, Pace};
use crate::published::{Published, Shape};

/// The lengths that lists are computed in. A client's list is cut from the shortest that is long enough, so that made-up
/// limits cost no computing: there are as many lists as there are lengths, and always room for each.
const LIST_LENGTHS: [usize; 4] = [100, 1_000, 10_000, MAX_LINES];
/// The longest list of a board, also where all is asked for: some 6 MB.
const MAX_LINES: usize = 100_000;
/// The longest list of an owner.
const MAX_OWNED: usize = 10_000;
/// Limits of delta lists beside [`LIST_LENGTHS`] that always have room: what pages show.
const USUAL_LIMITS: [usize; 5] = [5, 10, 20, 50, 500];
/// Other delta lists watched at once, and their lines together. A change of a list cannot be cut from that of a longer one,
/// so each of these is computed by itself.
const MAX_ODD: (usize, usize) = (64, 50_000);
/// Lists around a video that are watched at once, by different videos, boards or lengths: nobody shares them, and each is
/// looked at whenever a board changes. With 100 lines each, looking at all of them takes a fifth of a core.
const MAX_AROUND: usize = 2000;
/// Between two states of a list around a video: it is watched by few, so that it may cost less.
const AROUND_INTERVAL: Duration = Duration::from_millis(500);
/// From this many lines on, computing a list takes milliseconds and goes where it blocks nobody.
const LONG_LIST_LINES: usize = 2000;
/// A list of more lines than this goes out less often than ten times a second: a megabyte is no news at that rate.
const LONGEST_LISTS: (usize, Duration) = (20_000, Duration::from_millis(400));

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The best of a board (`None`: all).
    Board(Board, Option<usize>, Shape),
    /// An owner's best videos.
    Owner(UserId, Option<usize>),
    /// The lines of a board that have a video in their middle.
    Around(Board, VideoId, usize),
}

impl Key {
    /// The list that this one is cut from, and to how many lines.
    fn shared_key(self) -> (Self, Option<usize>) {
        let cut = |limit: usize| {
            (LIST_LENGTHS.into_iter().find(|length| *length >= limit).unwrap_or(MAX_LINES), limit)
        };
        match self {
            Self::Board(board, limit, Shape::List) => {
                let (length, limit) = cut(limit.unwrap_or(MAX_LINES).min(MAX_LINES));
                (Self::Board(board, Some(length), Shape::List), (limit < length).then_some(limit))
            }
            Self::Board(board, limit, shape) => {
                (Self::Board(board, Some(limit.unwrap_or(MAX_LINES).min(MAX_LINES)), shape), None)
            }
            Self::Owner(owner, limit) => {
                let (length, limit) = cut(limit.unwrap_or(MAX_OWNED).min(MAX_OWNED));
                (Self::Owner(owner, Some(length)), (limit < length).then_some(limit))
            }
            Self::Around(..) => (self, None),
        }
    }

    /// The lines of a list that is computed for a few clients only; `None` for those that are shared.
    fn odd_lines(&self) -> Option<usize> {
        match self {
            Self::Board(_, Some(limit), Shape::Delta) => {
                (!LIST_LENGTHS.contains(limit) && !USUAL_LIMITS.contains(limit)).then_some(*limit)
            }
            _ => None,
        }
    }

    const fn shape(&self) -> Shape {
        match self {
            Self::Board(_, _, shape) => *shape,
            Self::Owner(..) => Shape::Owned,
            Self::Around(..) => Shape::Around,
        }
    }

    /// The least time between two states of the list.
    const fn min_interval(&self) -> Duration {
        match self {
            Self::Around(..) => AROUND_INTERVAL,
            Self::Board(..) | Self::Owner(..) => MIN_INTERVAL,
        }
    }
}

type ListState = Option<Arc<Published>>;

/// One list.
struct WatchedList {
    sender: watch::Sender<ListState>,
    /// The boards changed.
    dirty: Notify,
}

/// All lists.
pub(crate) struct Lists {
    watched: Mutex<WatchedLists>,
    mirror: Arc<Mirror>,
    metrics: WebsocketMetrics,
}

#[derive(Default)]
struct WatchedLists {
    boards: HashMap<Key, Arc<WatchedList>>,
    owners: HashMap<UserId, HashMap<Option<usize>, Arc<WatchedList>>>,
}

impl WatchedLists {
    fn all_lists(&self) -> impl Iterator<Item = &Arc<WatchedList>> {
        self.boards.values().chain(self.owners.values().flat_map(HashMap::values))
    }

    /// The list of that key, new where nobody watches it yet (then also `true`); `None` where there is no room.
    fn find_or_add(&mut self, key: &Key) -> Option<(Arc<WatchedList>, bool)> {
        let fresh = || Arc::new(WatchedList { sender: watch::Sender::new(None), dirty: Notify::new() });
        match key {
            Key::Board(..) | Key::Around(..) => {
                let room = self.has_room_for(key);
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

    fn has_room_for(&self, key: &Key) -> bool {
        if matches!(key, Key::Around(..)) {
            return self.boards.keys().filter(|key| matches!(key, Key::Around(..))).count() < MAX_AROUND;
        }
        let Some(lines) = key.odd_lines() else { return true };
        let odd = self.boards.keys().filter_map(Key::odd_lines);
        let (lists, sum) = odd.fold((0, 0), |(lists, sum), lines| (lists + 1, sum + lines));
        lists < MAX_ODD.0 && sum + lines <= MAX_ODD.1
    }

    fn remove_list(&mut self, key: &Key) {
        match key {
            Key::Board(..) | Key::Around(..) => {
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
        let (key, cut) = key.shared_key();
        let mut watched = self.watched();
        let (list, fresh) = watched.find_or_add(&key)?;
        let mut receiver = list.sender.subscribe();
        if fresh {
            self.metrics.lists.inc();
            list.dirty.notify_one();
            tokio::spawn(keep_up_to_date(Arc::clone(self), key, list));
        } else {
            // What there is, is news to this one.
            receiver.mark_changed();
        }
        Some(Feed { receiver, held: None, cut })
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

    /// Wakes all lists: any of them may have changed.
    pub(crate) fn poke_all(&self) {
        self.watched().all_lists().for_each(|list| list.dirty.notify_one());
    }

    /// Forgets a list unless somebody watches it again.
    fn forget_if_unwatched(&self, key: &Key, list: &WatchedList) -> bool {
        let mut watched = self.watched();
        // Watchers come under this lock only.
        if list.sender.receiver_count() > 0 {
            return false;
        }
        watched.remove_list(key);
        self.metrics.lists.dec();
        true
    }

    fn watched(&self) -> MutexGuard<'_, WatchedLists> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one list up to date while somebody watches it.
async fn keep_up_to_date(lists: Arc<Lists>, key: Key, list: Arc<WatchedList>) {
    let mut pace = Pace::new(key.min_interval());
    loop {
        tokio::select! {
            () = list.sender.closed() => {
                if lists.forget_if_unwatched(&key, &list) {
                    return;
                }
            }
            () = list.dirty.notified() => {
                pace.rest().await;
                pace.happened(Instant::now());
                let before = list.sender.borrow().clone();
                if let Some(next) = next(&lists, &key, before).await {
                    let seldom = next.len() > LONGEST_LISTS.0;
                    list.sender.send_replace(Some(Arc::new(next)));
                    if seldom {
                        tokio::time::sleep(LONGEST_LISTS.1).await;
                    }
                }
            }
        }
    }
}

async fn next(lists: &Arc<Lists>, key: &Key, before: ListState) -> Option<Published> {
    let limit = match key {
        Key::Board(_, limit, _) | Key::Owner(_, limit) => limit.unwrap_or(usize::MAX),
        Key::Around(_, _, limit) => *limit,
    };
    let work = {
        let (lists, key) = (Arc::clone(lists), key.clone());
        move || {
            let stretch = board_part(&lists.mirror, &key);
            Published::after(before.as_deref(), stretch, key.shape(), &lists.metrics.encodes)
        }
    };
    if limit.min(lists.mirror.len()) < LONG_LIST_LINES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("computing a list does not panic")
}

fn board_part(mirror: &Mirror, key: &Key) -> BoardPart {
    let boards = mirror.boards();
    match key {
        Key::Around(board, video, limit) => boards.around(*board, video, *limit, now_ms()),
        Key::Board(board, limit, _) => boards.top(*board, *limit, now_ms()),
        Key::Owner(owner, limit) => boards.of_owner(owner, *limit),
    }
}

/// One watcher's view of a list: always the latest, whatever was skipped.
pub(crate) struct Feed {
    receiver: watch::Receiver<ListState>,
    /// The version the client holds.
    held: Option<u64>,
    /// To how many lines the list is cut for it.
    cut: Option<usize>,
}

impl Feed {
    /// The next frame for the client; `None` where there will be none. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.receiver.changed().await.ok()?;
            let latest = self.receiver.borrow_and_update().clone();
            let Some(latest) = latest else { continue };
            let held = self.held.replace(latest.version);
            match self.cut {
                None => return Some(latest.frame_for(held)),
                Some(lines) if latest.is_news(held, lines) => return Some(latest.cut(lines)),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board_list_key(limit: Option<usize>, shape: Shape) -> Key {
        Key::Board(Board::Global, limit, shape)
    }

    #[test]
    fn unusual_limits_are_cut_from_a_few_shared_lists() {
        let mut watched = WatchedLists::default();
        for limit in (1..=5000).map(Some).chain([None]) {
            let (key, cut) = board_list_key(limit, Shape::List).shared_key();
            assert!(watched.find_or_add(&key).is_some());
            let Key::Board(_, Some(length), _) = key else { panic!("{key:?}") };
            assert_eq!(cut.unwrap_or(length), limit.unwrap_or(MAX_LINES));
        }
        assert_eq!(watched.boards.len(), LIST_LENGTHS.len());
    }

    #[test]
    fn unusual_delta_lists_are_bounded_and_usual_ones_always_have_room() {
        let mut watched = WatchedLists::default();
        let mut ask =
            |limit| watched.find_or_add(&board_list_key(limit, Shape::Delta).shared_key().0).is_some();
        let taken = (1001..=1300).filter(|limit| ask(Some(*limit))).count();
        assert_eq!(taken, MAX_ODD.1 / 1001 - 1, "by their lines");
        for usual in LIST_LENGTHS.into_iter().chain(USUAL_LIMITS).map(Some).chain([None]) {
            assert!(ask(usual), "{usual:?}");
        }
        let owner = UserId::parse("ana").unwrap();
        assert_eq!(Key::Owner(owner.clone(), None).shared_key(), (Key::Owner(owner, Some(MAX_OWNED)), None));
    }

    #[test]
    fn lists_around_videos_are_bounded_and_take_no_room_from_others() {
        let mut watched = WatchedLists::default();
        let around = |at: usize| Key::Around(Board::Global, VideoId::parse(&format!("v{at}")).unwrap(), 11);
        let taken = (0..MAX_AROUND + 5)
            .filter(|at| watched.find_or_add(&around(*at).shared_key().0).is_some())
            .count();
        assert_eq!(taken, MAX_AROUND);
        assert!(watched.find_or_add(&around(0)).is_some(), "it is watched already");
        assert!(watched.find_or_add(&board_list_key(Some(1), Shape::List).shared_key().0).is_some());
        assert!(watched.find_or_add(&board_list_key(Some(1234), Shape::Delta).shared_key().0).is_some());
        watched.remove_list(&around(7));
        assert!(watched.find_or_add(&around(MAX_AROUND + 9)).is_some());
    }
}
