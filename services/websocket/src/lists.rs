//! The watched lists: each is computed, paced and encoded once for all its watchers, and forgotten when the last one
//! leaves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use liverank_core::UserId;
use liverank_runtime::now_ms;
use tokio::sync::{Notify, watch};

use crate::boards::BoardPart;
use crate::descriptions::{Descriptions, LineMetadata};
use crate::key::{Key, MAX_DESCRIBED};
use crate::metrics::WebsocketMetrics;
use crate::mirror::Mirror;
use crate::pace::Pace;
use crate::published::Published;

/// The number of lines above which computing a list with metadata runs on a thread for blocking work.
const LONG_DESCRIBED_LINES: usize = 100;
/// The pause before a list is computed again whose metadata could not all be read.
const DESCRIBED_RETRY: Duration = Duration::from_secs(1);
/// The number of lines from which on computing a list takes milliseconds and runs on a thread for blocking work.
const LONG_LIST_LINES: usize = 2000;
/// The number of lines above which a list is sent less often than ten times a second, and the extra pause after such a
/// list: nobody follows a megabyte ten times a second.
const LONGEST_LISTS: (usize, Duration) = (20_000, Duration::from_millis(400));

type ListState = Option<Arc<Published>>;

/// One list that clients watch.
struct WatchedList {
    sender: watch::Sender<ListState>,
    /// Notified when the list has to be computed again.
    dirty: Notify,
}

/// All watched lists of a board.
pub(crate) struct Lists {
    watched: Mutex<WatchedLists>,
    mirror: Arc<Mirror>,
    descriptions: Arc<Descriptions>,
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

    /// Returns the list of that key, and `true` if it was added because nobody watched it yet; `None` if there are too
    /// many lists of its kind.
    fn find_or_add(&mut self, key: &Key) -> Option<(Arc<WatchedList>, bool)> {
        let fresh = || Arc::new(WatchedList { sender: watch::Sender::new(None), dirty: Notify::new() });
        match key {
            Key::Board(..) | Key::Around(..) | Key::Described(_) => {
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
        let Some((kind, lines)) = key.scarce() else { return true };
        let others = self.boards.keys().filter_map(Key::scarce).filter(|(other, _)| *other == kind);
        let (lists, sum) = others.fold((0, 0), |(lists, sum), (_, lines)| (lists + 1, sum + lines));
        let (most_lists, most_lines) = kind.most();
        lists < most_lists && sum + lines <= most_lines
    }

    fn remove_list(&mut self, key: &Key) {
        match key {
            Key::Board(..) | Key::Around(..) | Key::Described(_) => {
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
    pub(crate) fn new(
        mirror: Arc<Mirror>,
        descriptions: Arc<Descriptions>,
        metrics: WebsocketMetrics,
    ) -> Self {
        Self { watched: Mutex::default(), mirror, descriptions, metrics }
    }

    /// Begins to watch a list; returns `None` if too many different lists of its kind are watched.
    pub(crate) fn watch(self: &Arc<Self>, key: Key) -> Option<Feed> {
        let (key, cut) = key.shared_key();
        let mut watched = self.watched();
        let (list, fresh) = watched.find_or_add(&key)?;
        let mut receiver = list.sender.subscribe();
        if fresh {
            self.metrics.watched_lists.inc();
            list.dirty.notify_one();
            tokio::spawn(keep_up_to_date(Arc::clone(self), key, list));
        } else {
            // The list's current state is new to this watcher.
            receiver.mark_changed();
        }
        Some(Feed { receiver, held_version: None, cut })
    }

    /// Requests that all lists of the board, and the lists of these owners, are computed again because the boards
    /// changed.
    pub(crate) fn poke<'a>(&self, owners: impl Iterator<Item = &'a UserId>) {
        let watched = self.watched();
        watched.boards.values().for_each(|list| list.dirty.notify_one());
        if !watched.owners.is_empty() {
            let lists = owners.filter_map(|owner| watched.owners.get(owner)).flat_map(HashMap::values);
            lists.for_each(|list| list.dirty.notify_one());
        }
    }

    /// Requests that all lists with metadata are computed again because metadata changed.
    pub(crate) fn poke_described(&self) {
        let watched = self.watched();
        let described = watched.boards.iter().filter(|(key, _)| matches!(key, Key::Described(_)));
        described.for_each(|(_, list)| list.dirty.notify_one());
    }

    /// Requests that all lists are computed again, because any of them may have changed.
    pub(crate) fn poke_all(&self) {
        self.watched().all_lists().for_each(|list| list.dirty.notify_one());
    }

    /// Forgets a list, unless somebody watches it again. Returns whether it was forgotten.
    fn forget_if_unwatched(&self, key: &Key, list: &WatchedList) -> bool {
        let mut watched = self.watched();
        // New watchers are added only under this lock.
        if list.sender.receiver_count() > 0 {
            return false;
        }
        watched.remove_list(key);
        self.metrics.watched_lists.dec();
        true
    }

    fn watched(&self) -> MutexGuard<'_, WatchedLists> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes and publishes one list whenever it changes, while somebody watches it.
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
                let (next, is_whole) = match &key {
                    Key::Described(list) => next_described(&lists, list, before).await,
                    key => (next(&lists, key, before).await, true),
                };
                if let Some(next) = next {
                    let seldom = next.len() > LONGEST_LISTS.0;
                    list.sender.send_replace(Some(Arc::new(next)));
                    if seldom {
                        tokio::time::sleep(LONGEST_LISTS.1).await;
                    }
                }
                if !is_whole {
                    tokio::time::sleep(DESCRIBED_RETRY).await;
                    list.dirty.notify_one();
                }
            }
        }
    }
}

async fn next(lists: &Arc<Lists>, key: &Key, before: ListState) -> Option<Published> {
    let limit = match key {
        Key::Board(_, limit, _) | Key::Owner(_, limit) => limit.unwrap_or(usize::MAX),
        Key::Around(_, _, limit) => *limit,
        Key::Described(_) => MAX_DESCRIBED,
    };
    let work = {
        let (lists, key) = (Arc::clone(lists), key.clone());
        move || {
            let stretch = board_part(&lists.mirror, &key);
            Published::after(before.as_deref(), stretch, key.shape(), &lists.metrics.lists_encoded)
        }
    };
    if limit.min(lists.mirror.len()) < LONG_LIST_LINES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("computing a list does not panic")
}

/// Returns the next state of a list with metadata (`None` if nothing changed), and whether all metadata could be read.
async fn next_described(lists: &Arc<Lists>, list: &Key, before: ListState) -> (Option<Published>, bool) {
    let part = board_part(&lists.mirror, list);
    let LineMetadata { of_lines, is_whole } = lists.descriptions.of(&part.lines).await;
    let (long, shape) = (part.lines.len() > LONG_DESCRIBED_LINES, list.shape());
    let encodes = lists.metrics.lists_encoded.clone();
    let part = BoardPart { metadata: Some(of_lines), ..part };
    let work = move || Published::after(before.as_deref(), part, shape, &encodes);
    let next = if long {
        tokio::task::spawn_blocking(work).await.expect("computing a list does not panic")
    } else {
        work()
    };
    (next, is_whole)
}

fn board_part(mirror: &Mirror, key: &Key) -> BoardPart {
    let boards = mirror.boards();
    match key {
        Key::Around(board, video, limit) => boards.around(*board, video, *limit, now_ms()),
        Key::Board(board, limit, _) => boards.top(*board, *limit, now_ms()),
        Key::Owner(owner, limit) => boards.of_owner(owner, *limit),
        Key::Described(list) => {
            drop(boards);
            board_part(mirror, list)
        }
    }
}

/// One client's subscription to a list: always gives the latest state, also if states in between were skipped.
pub(crate) struct Feed {
    receiver: watch::Receiver<ListState>,
    /// The list version that the client was sent last.
    held_version: Option<u64>,
    /// The number of lines to which the list is cut for this client; `None`: the whole list.
    cut: Option<usize>,
}

impl Feed {
    /// Waits for the next frame for the client; `None` if there will be none. The future may be dropped, and the method
    /// called again.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.receiver.changed().await.ok()?;
            let latest = self.receiver.borrow_and_update().clone();
            let Some(latest) = latest else { continue };
            let held = self.held_version.replace(latest.list_version);
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
    use liverank_adapters::ranking_store::BuiltInBoard;
    use liverank_core::VideoId;

    use super::*;
    use crate::key::{
        LIST_LENGTHS, MAX_AROUND, MAX_AROUND_DESCRIBED, MAX_LINES, MAX_ODD, MAX_ODD_DESCRIBED, MAX_OWNED,
        USUAL_LIMITS,
    };
    use crate::published::Shape;

    fn board_list_key(limit: Option<usize>, shape: Shape) -> Key {
        Key::Board(BuiltInBoard::Global, limit, shape)
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
        let around =
            |at: usize| Key::Around(BuiltInBoard::Global, VideoId::parse(&format!("v{at}")).unwrap(), 11);
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

    #[test]
    fn lists_with_metadata_are_bounded_by_their_lines_and_shared_as_others_are() {
        let mut watched = WatchedLists::default();
        let described = |key| Key::Described(Box::new(key));
        for limit in 1..=MAX_DESCRIBED {
            let (key, cut) = described(board_list_key(Some(limit), Shape::List)).shared_key();
            assert!(watched.find_or_add(&key).is_some());
            assert_eq!(cut, (limit != 100 && limit != 1000).then_some(limit));
        }
        assert_eq!(watched.boards.len(), 2);
        let mut ask = |key: Key| watched.find_or_add(&described(key).shared_key().0).is_some();
        let odd = (501..600).filter(|limit| ask(board_list_key(Some(*limit), Shape::Delta))).count();
        assert_eq!(odd, MAX_ODD_DESCRIBED.1 / 505, "by their lines");
        let around =
            |at: usize| Key::Around(BuiltInBoard::Global, VideoId::parse(&format!("v{at}")).unwrap(), 100);
        assert_eq!((0..99).filter(|at| ask(around(*at))).count(), MAX_AROUND_DESCRIBED.1 / 100);
        // Lists without metadata are counted separately.
        assert!(watched.find_or_add(&around(0).shared_key().0).is_some());
        assert!(watched.find_or_add(&board_list_key(Some(501), Shape::Delta).shared_key().0).is_some());
        let usual = [5, 10, 20, 50, 100, 500, 1000];
        assert!(usual.into_iter().all(|limit| {
            let key = described(board_list_key(Some(limit), Shape::Delta)).shared_key().0;
            watched.find_or_add(&key).is_some()
        }));
    }
}
