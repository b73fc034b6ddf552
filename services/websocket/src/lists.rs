//! The watched lists: each is computed, paced and encoded once for all its watchers, and forgotten when the last one
//! leaves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use liverank_core::{Millis, UserId};
use liverank_runtime::now_ms;
use tokio::sync::{Notify, watch};

use crate::boards::BoardPart;
use crate::descriptions::{LineMetadata, MetadataCache};
use crate::key::{ListKey, MAX_LINES_WITH_METADATA};
use crate::metrics::WebsocketMetrics;
use crate::mirror::BoardsMirror;
use crate::pace::ListPacer;
use crate::published::PublishedList;

/// The number of lines above which computing a list with metadata runs on a thread for blocking work.
const LONG_METADATA_LIST_LINES: usize = 100;
/// The pause before a list is computed again because not all of its metadata could be read.
const METADATA_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The number of lines from which on computing a list takes milliseconds and runs on a thread for blocking work.
const LONG_LIST_LINES: usize = 2000;
/// The number of lines above which a list is sent less often, and the additional pause after such a list: nobody can
/// read a megabyte ten times a second.
const LONG_LIST_LINES_AND_PAUSE: (usize, Duration) = (20_000, Duration::from_millis(400));

type ListState = Option<Arc<PublishedList>>;

/// One list that clients watch.
struct WatchedList {
    sender: watch::Sender<ListState>,
    /// Notified when the list has to be computed again.
    recompute_requested: Notify,
}

/// All watched lists of a board.
pub(crate) struct BoardLists {
    watched: Mutex<WatchedLists>,
    mirror: Arc<BoardsMirror>,
    metadata_cache: Arc<MetadataCache>,
    metrics: WebsocketMetrics,
}

#[derive(Default)]
struct WatchedLists {
    board_lists: HashMap<ListKey, Arc<WatchedList>>,
    owner_lists: HashMap<UserId, HashMap<Option<usize>, Arc<WatchedList>>>,
}

impl WatchedLists {
    fn all_lists(&self) -> impl Iterator<Item = &Arc<WatchedList>> {
        self.board_lists.values().chain(self.owner_lists.values().flat_map(HashMap::values))
    }

    /// Returns the list of that key, and `true` if it was added because nobody watched it yet; `None` if there are too
    /// many lists of its kind.
    fn find_or_add(&mut self, key: &ListKey) -> Option<(Arc<WatchedList>, bool)> {
        let fresh =
            || Arc::new(WatchedList { sender: watch::Sender::new(None), recompute_requested: Notify::new() });
        match key {
            ListKey::Board(..) | ListKey::Around(..) | ListKey::WithMetadata(_) => {
                let room = self.has_room_for(key);
                match self.board_lists.entry(key.clone()) {
                    Entry::Occupied(list) => Some((Arc::clone(list.get()), false)),
                    Entry::Vacant(vacant) => room.then(|| (Arc::clone(vacant.insert(fresh())), true)),
                }
            }
            ListKey::Owner(owner, limit) => {
                match self.owner_lists.entry(owner.clone()).or_default().entry(*limit) {
                    Entry::Occupied(list) => Some((Arc::clone(list.get()), false)),
                    Entry::Vacant(vacant) => Some((Arc::clone(vacant.insert(fresh())), true)),
                }
            }
        }
    }

    fn has_room_for(&self, key: &ListKey) -> bool {
        let Some((kind, lines)) = key.limited_kind() else { return true };
        let others =
            self.board_lists.keys().filter_map(ListKey::limited_kind).filter(|(other, _)| *other == kind);
        let (lists, sum) = others.fold((0, 0), |(lists, sum), (_, lines)| (lists + 1, sum + lines));
        let (most_lists, most_lines) = kind.max_lists_and_lines();
        lists < most_lists && sum + lines <= most_lines
    }

    fn remove_list(&mut self, key: &ListKey) {
        match key {
            ListKey::Board(..) | ListKey::Around(..) | ListKey::WithMetadata(_) => {
                self.board_lists.remove(key);
            }
            ListKey::Owner(owner, limit) => {
                if let Entry::Occupied(mut lists) = self.owner_lists.entry(owner.clone()) {
                    lists.get_mut().remove(limit);
                    if lists.get().is_empty() {
                        lists.remove();
                    }
                }
            }
        }
    }
}

impl BoardLists {
    pub(crate) fn new(
        mirror: Arc<BoardsMirror>,
        metadata_cache: Arc<MetadataCache>,
        metrics: WebsocketMetrics,
    ) -> Self {
        Self { watched: Mutex::default(), mirror, metadata_cache, metrics }
    }

    /// Begins to watch a list; returns `None` if too many different lists of its kind are watched.
    pub(crate) fn watch(self: &Arc<Self>, key: ListKey) -> Option<ListSubscription> {
        let (key, max_lines) = key.shared_key();
        let mut watched = self.lock_watched();
        let (list, fresh) = watched.find_or_add(&key)?;
        let mut receiver = list.sender.subscribe();
        if fresh {
            self.metrics.watched_lists.inc();
            list.recompute_requested.notify_one();
            tokio::spawn(publish_changes(Arc::clone(self), key, list));
        } else {
            // The list's current state is new to this watcher.
            receiver.mark_changed();
        }
        Some(ListSubscription { receiver, last_sent_version: None, max_lines })
    }

    /// Requests that all lists of the board, and the lists of `owners`, are computed again because the board changed.
    pub(crate) fn notify_changed<'a>(&self, owners: impl Iterator<Item = &'a UserId>) {
        let watched = self.lock_watched();
        watched.board_lists.values().for_each(|list| list.recompute_requested.notify_one());
        if !watched.owner_lists.is_empty() {
            let lists = owners.filter_map(|owner| watched.owner_lists.get(owner)).flat_map(HashMap::values);
            lists.for_each(|list| list.recompute_requested.notify_one());
        }
    }

    /// Requests that all lists with metadata are computed again because metadata changed.
    pub(crate) fn notify_metadata_changed(&self) {
        let watched = self.lock_watched();
        let described = watched.board_lists.iter().filter(|(key, _)| matches!(key, ListKey::WithMetadata(_)));
        described.for_each(|(_, list)| list.recompute_requested.notify_one());
    }

    /// Requests that all lists are computed again, because any of them may have changed.
    pub(crate) fn notify_all_changed(&self) {
        self.lock_watched().all_lists().for_each(|list| list.recompute_requested.notify_one());
    }

    /// Forgets a list, unless somebody watches it again. Returns whether the list was forgotten.
    fn forget_if_unwatched(&self, key: &ListKey, list: &WatchedList) -> bool {
        let mut watched = self.lock_watched();
        // New watchers are added only under this lock.
        if list.sender.receiver_count() > 0 {
            return false;
        }
        watched.remove_list(key);
        self.metrics.watched_lists.dec();
        true
    }

    fn lock_watched(&self) -> MutexGuard<'_, WatchedLists> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes and publishes one list whenever it changes, while somebody watches it.
async fn publish_changes(lists: Arc<BoardLists>, key: ListKey, list: Arc<WatchedList>) {
    let mut pace = ListPacer::new(key.min_interval());
    loop {
        tokio::select! {
            () = list.sender.closed() => {
                if lists.forget_if_unwatched(&key, &list) {
                    return;
                }
            }
            () = list.recompute_requested.notified() => {
                pace.wait_until_allowed().await;
                pace.note_sent(Instant::now());
                let before = list.sender.borrow().clone();
                let (next, is_whole) = match &key {
                    ListKey::WithMetadata(list) => next_list_with_metadata(&lists, list, before).await,
                    key => (next(&lists, key, before).await, true),
                };
                if let Some(next) = next {
                    let seldom = next.len() > LONG_LIST_LINES_AND_PAUSE.0;
                    list.sender.send_replace(Some(Arc::new(next)));
                    if seldom {
                        tokio::time::sleep(LONG_LIST_LINES_AND_PAUSE.1).await;
                    }
                }
                if !is_whole {
                    tokio::time::sleep(METADATA_RETRY_PAUSE).await;
                    list.recompute_requested.notify_one();
                }
            }
        }
    }
}

async fn next(lists: &Arc<BoardLists>, key: &ListKey, before: ListState) -> Option<PublishedList> {
    let limit = match key {
        ListKey::Board(_, limit, _) | ListKey::Owner(_, limit) => limit.unwrap_or(usize::MAX),
        ListKey::Around(_, _, limit) => *limit,
        ListKey::WithMetadata(_) => MAX_LINES_WITH_METADATA,
    };
    let work = {
        let (lists, key) = (Arc::clone(lists), key.clone());
        move || {
            let stretch = board_part(&lists.mirror, &key);
            PublishedList::next_list(before.as_deref(), stretch, key.format(), &lists.metrics.lists_encoded)
        }
    };
    if limit.min(lists.mirror.len()) < LONG_LIST_LINES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.expect("computing a list does not panic")
}

/// Returns the next state of a list with metadata (`None` if nothing changed), and whether all metadata could be read.
async fn next_list_with_metadata(
    lists: &Arc<BoardLists>,
    list: &ListKey,
    before: ListState,
) -> (Option<PublishedList>, bool) {
    let part = board_part(&lists.mirror, list);
    let LineMetadata { by_line, is_whole } = lists.metadata_cache.metadata_of(&part.lines).await;
    let (long, shape) = (part.lines.len() > LONG_METADATA_LIST_LINES, list.format());
    let encodes = lists.metrics.lists_encoded.clone();
    let part = BoardPart { metadata: Some(by_line), ..part };
    let work = move || PublishedList::next_list(before.as_deref(), part, shape, &encodes);
    let next = if long {
        tokio::task::spawn_blocking(work).await.expect("computing a list does not panic")
    } else {
        work()
    };
    (next, is_whole)
}

fn board_part(mirror: &BoardsMirror, key: &ListKey) -> BoardPart {
    let boards = mirror.boards();
    match key {
        ListKey::Around(board, video, limit) => boards.lines_around(*board, video, *limit, now_ms()),
        ListKey::Board(board, limit, _) => boards.top(*board, *limit, now_ms()),
        ListKey::Owner(owner, limit) => boards.best_of_owner(owner, *limit),
        ListKey::WithMetadata(list) => {
            drop(boards);
            board_part(mirror, list)
        }
    }
}

/// The next frame for a client.
pub(crate) struct ListFrame {
    /// The encoded list, or its changes.
    pub(crate) frame: Bytes,
    /// The time at which the log took the newest record that the list may show; `None` for a client's first list.
    pub(crate) logged_at: Option<Millis>,
}

/// One client's subscription to a list: always gives the latest state, also if states in between were skipped.
pub(crate) struct ListSubscription {
    receiver: watch::Receiver<ListState>,
    /// The list version that the client was sent last.
    last_sent_version: Option<u64>,
    /// The number of lines to which the list is cut for this client; `None`: the whole list.
    max_lines: Option<usize>,
}

impl ListSubscription {
    /// Waits for the next frame for the client; `None` if there will be none. The future may be dropped, and the method
    /// called again.
    pub(crate) async fn next(&mut self) -> Option<ListFrame> {
        loop {
            self.receiver.changed().await.ok()?;
            let latest = self.receiver.borrow_and_update().clone();
            let Some(latest) = latest else { continue };
            let held = self.last_sent_version.replace(latest.list_version);
            let frame = match self.max_lines {
                None => latest.frame_for(held),
                Some(lines) if latest.differs_from_version(held, lines) => latest.truncated_frame(lines),
                Some(_) => continue,
            };
            // A client's first list shows what has been there for a while.
            return Some(ListFrame { frame, logged_at: held.and(latest.logged_at) });
        }
    }
}

#[cfg(test)]
mod tests {
    use liverank_adapters::ranking_store::BuiltInBoard;
    use liverank_core::VideoId;

    use super::*;
    use crate::key::{
        LIST_LENGTHS, MAX_AROUND_LISTS, MAX_AROUND_LISTS_WITH_METADATA, MAX_LINES, MAX_OWNER_LIST_LINES,
        MAX_UNUSUAL_DELTAS, MAX_UNUSUAL_DELTAS_WITH_METADATA, USUAL_LIMITS,
    };
    use crate::published::ListFormat;

    fn board_list_key(limit: Option<usize>, shape: ListFormat) -> ListKey {
        ListKey::Board(BuiltInBoard::Global, limit, shape)
    }

    #[test]
    fn unusual_limits_are_cut_from_a_few_shared_lists() {
        let mut watched = WatchedLists::default();
        for limit in (1..=5000).map(Some).chain([None]) {
            let (key, cut) = board_list_key(limit, ListFormat::List).shared_key();
            assert!(watched.find_or_add(&key).is_some());
            let ListKey::Board(_, Some(length), _) = key else { panic!("{key:?}") };
            assert_eq!(cut.unwrap_or(length), limit.unwrap_or(MAX_LINES));
        }
        assert_eq!(watched.board_lists.len(), LIST_LENGTHS.len());
    }

    #[test]
    fn unusual_delta_lists_are_bounded_and_usual_ones_always_have_room() {
        let mut watched = WatchedLists::default();
        let mut ask =
            |limit| watched.find_or_add(&board_list_key(limit, ListFormat::Delta).shared_key().0).is_some();
        let taken = (1001..=1300).filter(|limit| ask(Some(*limit))).count();
        assert_eq!(taken, MAX_UNUSUAL_DELTAS.1 / 1001 - 1, "by their lines");
        for usual in LIST_LENGTHS.into_iter().chain(USUAL_LIMITS).map(Some).chain([None]) {
            assert!(ask(usual), "{usual:?}");
        }
        let owner = UserId::parse("ana").unwrap();
        assert_eq!(
            ListKey::Owner(owner.clone(), None).shared_key(),
            (ListKey::Owner(owner, Some(MAX_OWNER_LIST_LINES)), None)
        );
    }

    #[test]
    fn lists_around_videos_are_bounded_and_take_no_room_from_others() {
        let mut watched = WatchedLists::default();
        let around =
            |at: usize| ListKey::Around(BuiltInBoard::Global, VideoId::parse(&format!("v{at}")).unwrap(), 11);
        let taken = (0..MAX_AROUND_LISTS + 5)
            .filter(|at| watched.find_or_add(&around(*at).shared_key().0).is_some())
            .count();
        assert_eq!(taken, MAX_AROUND_LISTS);
        assert!(watched.find_or_add(&around(0)).is_some(), "it is watched already");
        assert!(watched.find_or_add(&board_list_key(Some(1), ListFormat::List).shared_key().0).is_some());
        assert!(watched.find_or_add(&board_list_key(Some(1234), ListFormat::Delta).shared_key().0).is_some());
        watched.remove_list(&around(7));
        assert!(watched.find_or_add(&around(MAX_AROUND_LISTS + 9)).is_some());
    }

    #[test]
    fn lists_with_metadata_are_bounded_by_their_lines_and_shared_as_others_are() {
        let mut watched = WatchedLists::default();
        let described = |key| ListKey::WithMetadata(Box::new(key));
        for limit in 1..=MAX_LINES_WITH_METADATA {
            let (key, cut) = described(board_list_key(Some(limit), ListFormat::List)).shared_key();
            assert!(watched.find_or_add(&key).is_some());
            assert_eq!(cut, (limit != 100 && limit != 1000).then_some(limit));
        }
        assert_eq!(watched.board_lists.len(), 2);
        let mut ask = |key: ListKey| watched.find_or_add(&described(key).shared_key().0).is_some();
        let odd = (501..600).filter(|limit| ask(board_list_key(Some(*limit), ListFormat::Delta))).count();
        assert_eq!(odd, MAX_UNUSUAL_DELTAS_WITH_METADATA.1 / 505, "by their lines");
        let around = |at: usize| {
            ListKey::Around(BuiltInBoard::Global, VideoId::parse(&format!("v{at}")).unwrap(), 100)
        };
        assert_eq!((0..99).filter(|at| ask(around(*at))).count(), MAX_AROUND_LISTS_WITH_METADATA.1 / 100);
        // Lists without metadata are counted separately.
        assert!(watched.find_or_add(&around(0).shared_key().0).is_some());
        assert!(watched.find_or_add(&board_list_key(Some(501), ListFormat::Delta).shared_key().0).is_some());
        let usual = [5, 10, 20, 50, 100, 500, 1000];
        assert!(usual.into_iter().all(|limit| {
            let key = described(board_list_key(Some(limit), ListFormat::Delta)).shared_key().0;
            watched.find_or_add(&key).is_some()
        }));
    }
}
