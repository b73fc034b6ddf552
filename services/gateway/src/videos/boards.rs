//! The boards by name, and the windows of boards that have some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use liverank_adapters::RankingStore;
use liverank_adapters::archive::ArchiveMeta;
use liverank_adapters::ranking_store::BuiltInBoard;
use liverank_adapters::window_progress::CountingProgress;
use liverank_core::boards::{BoardOrder, BoardWindows, DeclaredBoard, DeclaredBoards};
use liverank_core::decays::Decay;
use liverank_core::windows::{Window, WindowKind};
use liverank_core::{Invalid, Millis};
use liverank_runtime::Problem;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::archive_meta;
use crate::Gateway;

/// Maximum time for the stores to answer if a window is final; the answer with the window's list does not wait longer.
const FINAL_QUERY_TIMEOUT: Duration = Duration::from_millis(500);
/// Minimum time between two queries to the stores that ask if a window is final, however often the window's list is
/// read: each query asks the log about each of its partitions.
const FINAL_QUERY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of windows whose state is remembered: more than all boards keep. With more windows all are
/// forgotten, and the stores are asked again.
const MAX_REMEMBERED_WINDOWS: usize = 1024;

/// The declared boards, and the store of each.
pub(crate) struct Boards {
    declared: DeclaredBoards,
    /// The stores of the declared boards, in their order; a board with windows has further stores, one for each
    /// window.
    stores: Vec<Arc<dyn RankingStore>>,
    /// The last known state of windows that have ended, by the window's key.
    ended_windows: Mutex<HashMap<String, EndedWindowState>>,
}

/// The last known state of a window that has ended.
#[derive(Clone, Copy)]
enum EndedWindowState {
    Final,
    /// The stores were asked at this time, and have not answered that the window is final.
    NotFinalAt(Instant),
}

/// A board that is shown, or one of its windows.
pub(super) struct ShownBoard<'a> {
    pub(super) store: Arc<dyn RankingStore>,
    /// The order in which the board is shown: by points (`global`) or by decayed scores (`trending`). A store has both
    /// orders.
    pub(super) order: BuiltInBoard,
    window: Option<ShownWindow<'a>>,
    /// The decay that only this board has; `None` if it has none.
    decay: Option<Decay>,
}

/// A window of a board that is shown.
struct ShownWindow<'a> {
    kind: &'a WindowKind,
    window: Window,
    /// The name of the window's list in the store.
    key: String,
}

/// The description of a list's window in the answer.
#[derive(Debug, Serialize)]
pub(super) struct WindowJson {
    name: String,
    start: Millis,
    end: Millis,
    state: WindowState,
    /// True if everything that happened in the window is counted in its list; null while the archive is away.
    whole: Option<bool>,
}

/// The description of a half-life that only the list's board has.
#[derive(Debug, Serialize)]
pub(super) struct DecayJson {
    half_life_minutes: u64,
    /// True if everything that happened is in the board's scores; null while the archive is away, or does not count by
    /// this half-life yet.
    whole: Option<bool>,
    /// The time after which everything that the log accepted is in the scores, in milliseconds since 1970; absent if
    /// everything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

/// The progress of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum WindowState {
    /// The window has not ended.
    Running,
    /// The window has ended, but events in it may still be on their way, or the stores do not tell that all have
    /// arrived.
    Ended,
    /// The window's list will not change any more.
    Final,
}

impl Boards {
    pub(crate) fn new(declared: DeclaredBoards, ranking: &dyn RankingStore) -> Self {
        let stores = declared.iter().map(|board| ranking.declared_board(&board.store_key())).collect();
        Self { declared, stores, ended_windows: Mutex::default() }
    }

    /// The declared boards, each with its store; for a board with windows, the store is not that of a window.
    pub(super) fn declared_with_stores(
        &self,
    ) -> impl Iterator<Item = (&DeclaredBoard, &Arc<dyn RankingStore>)> {
        self.declared.iter().zip(&self.stores)
    }

    fn is_known_final(&self, key: &str) -> bool {
        matches!(self.lock_ended_windows().get(key), Some(EndedWindowState::Final))
    }

    /// Returns true if the caller has to ask the stores about a window now. After the method returned true for a
    /// window, it returns false to other callers for `FINAL_QUERY_INTERVAL`.
    fn start_final_query(&self, key: &str, now: Instant) -> bool {
        let mut known = self.lock_ended_windows();
        let is_due = match known.get(key) {
            None => true,
            Some(EndedWindowState::Final) => false,
            Some(EndedWindowState::NotFinalAt(at)) => {
                now.saturating_duration_since(*at) >= FINAL_QUERY_INTERVAL
            }
        };
        if is_due {
            if known.len() >= MAX_REMEMBERED_WINDOWS {
                known.clear();
            }
            known.insert(key.to_owned(), EndedWindowState::NotFinalAt(now));
        }
        is_due
    }

    fn note_final(&self, key: &str) {
        self.lock_ended_windows().insert(key.to_owned(), EndedWindowState::Final);
    }

    fn lock_ended_windows(&self) -> MutexGuard<'_, HashMap<String, EndedWindowState>> {
        self.ended_windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn order_of(board: &DeclaredBoard) -> BuiltInBoard {
    match board.order() {
        BoardOrder::Points => BuiltInBoard::Global,
        BoardOrder::Trending => BuiltInBoard::Trending,
    }
}

impl Gateway {
    /// Returns each declared board with its order and store; for a board with windows, the store of the window that
    /// runs.
    pub(super) fn declared_boards(&self) -> Vec<(&DeclaredBoard, BuiltInBoard, Arc<dyn RankingStore>)> {
        let now = (self.backends.clock)();
        let of = |(board, store): (&'_ DeclaredBoard, &Arc<dyn RankingStore>)| {
            let store = match board.windows() {
                None => Arc::clone(store),
                Some(windows) => self
                    .backends
                    .ranking
                    .declared_board(&board.store_key_of_window(&windows.kind.window_of(now))),
            };
            (order_of(board), store)
        };
        let all = self.boards.declared.iter().zip(&self.boards.stores);
        all.map(|(board, store)| {
            let (order, store) = of((board, store));
            (board, order, store)
        })
        .collect()
    }

    /// Returns the board of this name; for a board with windows, the window of this name, or the running one if
    /// `window` is `None`. Returns an error for an unknown name, and 404 for a window that the board does not keep.
    pub(super) fn find_board(
        &self,
        name: Option<&str>,
        window: Option<&str>,
    ) -> Result<ShownBoard<'_>, Problem> {
        let built_in = match name {
            None | Some("global") => Some(BuiltInBoard::Global),
            Some("trending") => Some(BuiltInBoard::Trending),
            Some(_) => None,
        };
        let declared = &self.boards.declared;
        let found = match (built_in, name) {
            (None, Some(name)) => {
                Some(declared.position(name).ok_or_else(|| declared.unknown_board_error())?)
            }
            _ => None,
        };
        let board = found.and_then(|place| declared.iter().nth(place));
        if let Some((board, windows)) = board.and_then(|board| Some((board, board.windows()?))) {
            return self.window_of_board(board, windows, window);
        }
        if window.is_some() {
            return Err(Invalid::new("window", "is for boards that have windows").into());
        }
        let store = found.map_or(&self.backends.ranking, |place| &self.boards.stores[place]);
        let order = board.map_or(built_in.unwrap_or(BuiltInBoard::Global), order_of);
        let decay = board.and_then(DeclaredBoard::decay);
        Ok(ShownBoard { store: Arc::clone(store), order, window: None, decay })
    }

    fn window_of_board<'a>(
        &self,
        board: &'a DeclaredBoard,
        BoardWindows { kind, kept_count }: &'a BoardWindows,
        name: Option<&str>,
    ) -> Result<ShownBoard<'a>, Problem> {
        let shown = kind.running_and_kept_windows((self.backends.clock)(), *kept_count);
        let window = match name {
            None => shown[0],
            Some(name) => kind.window_named(name)?,
        };
        if !shown.contains(&window) {
            let why = if window.start > shown[0].start {
                "it has not begun".to_owned()
            } else {
                format!("the board keeps {kept_count} that have ended, and this one ended before them")
            };
            return Err(
                Problem::not_found(format!("there is no such window: {why}")).with_member("field", "window")
            );
        }
        let key = board.store_key_of_window(&window);
        let store = self.backends.ranking.declared_board(&key);
        let window = Some(ShownWindow { kind, window, key });
        Ok(ShownBoard { store, order: order_of(board), window, decay: None })
    }

    /// Returns the description of the half-life that the list's board has of its own; `None` if it has none.
    pub(super) async fn describe_decay(&self, board: &ShownBoard<'_>) -> Option<DecayJson> {
        let decay = board.decay?;
        let meta = archive_meta(self).await.ok().flatten();
        let counted = meta.as_ref().and_then(|meta| meta.decays.find(&decay));
        Some(DecayJson {
            half_life_minutes: decay.half_life_minutes(),
            whole: counted.map(|counted| counted.complete_after.is_none()),
            whole_after: counted.and_then(|counted| counted.complete_after),
        })
    }

    /// Returns the description of the window that a list shows; `None` if the board has no windows. The window must be
    /// described before its list is read: then the list of a window that is final is complete.
    pub(super) async fn describe_window(&self, board: &ShownBoard<'_>) -> Option<WindowJson> {
        let shown = board.window.as_ref()?;
        let state = match self.known_window_state(shown) {
            Some(state) => state,
            None => self.query_window_state(shown, &*board.store, None).await,
        };
        Some(window_json(shown, state, archive_meta(self).await.ok().flatten().as_ref()))
    }

    /// Returns the descriptions of a board's windows, the running one first. The progress of counting is read only
    /// once and kept in `progress`.
    pub(super) async fn describe_windows(
        &self,
        board: &DeclaredBoard,
        windows: &BoardWindows,
        progress: &OnceCell<Option<CountingProgress>>,
    ) -> Vec<WindowJson> {
        let BoardWindows { kind, kept_count } = windows;
        let meta = archive_meta(self).await.ok().flatten();
        let describe = async |window: Window| {
            let shown = ShownWindow { kind, window, key: board.store_key_of_window(&window) };
            let state = if let Some(state) = self.known_window_state(&shown) {
                state
            } else if let Some(known) = progress.get_or_init(|| self.counting_progress_in_time()).await {
                let store = self.backends.ranking.declared_board(&shown.key);
                self.query_window_state(&shown, &*store, Some(known)).await
            } else {
                WindowState::Ended
            };
            window_json(&shown, state, meta.as_ref())
        };
        let shown = kind.running_and_kept_windows((self.backends.clock)(), *kept_count);
        join_all(shown.into_iter().map(describe)).await
    }

    /// Returns the state of a window if it is known without asking the stores; `None` if the stores have to be asked.
    fn known_window_state(&self, shown: &ShownWindow<'_>) -> Option<WindowState> {
        if (self.backends.clock)() < shown.window.end {
            Some(WindowState::Running)
        } else if self.boards.is_known_final(&shown.key) {
            Some(WindowState::Final)
        } else if !self.boards.start_final_query(&shown.key, Instant::now()) {
            Some(WindowState::Ended)
        } else {
            None
        }
    }

    /// Asks the stores for the state of a window that has ended. `known` is the progress of counting, if it was read
    /// already.
    async fn query_window_state(
        &self,
        shown: &ShownWindow<'_>,
        store: &dyn RankingStore,
        known: Option<&CountingProgress>,
    ) -> WindowState {
        let asked = async {
            if let Some(known) = known {
                return known.is_final(&shown.window, store).await;
            }
            CountingProgress::read_progress(&self.backends).await?.is_final(&shown.window, store).await
        };
        let asked = tokio::time::timeout(FINAL_QUERY_TIMEOUT, asked).await;
        // If a store is away, nobody can tell that the window is final.
        if matches!(asked, Ok(Ok(true))) {
            self.boards.note_final(&shown.key);
            WindowState::Final
        } else {
            WindowState::Ended
        }
    }

    /// Returns the progress of counting; `None` if the stores do not answer in time.
    async fn counting_progress_in_time(&self) -> Option<CountingProgress> {
        let progress = CountingProgress::read_progress(&self.backends);
        tokio::time::timeout(FINAL_QUERY_TIMEOUT, progress).await.ok()?.ok()
    }
}

/// Returns the description of a window. `meta` is the archive's meta document, if it is known.
fn window_json(shown: &ShownWindow<'_>, state: WindowState, meta: Option<&ArchiveMeta>) -> WindowJson {
    let ShownWindow { kind, window, .. } = shown;
    let whole = meta.map(|meta| meta.windows.find(kind).is_some_and(|it| it.is_complete(window.start)));
    let (name, Window { start, end }) = (kind.window_name(window), *window);
    WindowJson { name, start, end, state, whole }
}

#[cfg(test)]
mod tests {
    use liverank_adapters::ranking_store::embedded::EmbeddedRanking;

    use super::*;

    #[test]
    fn the_stores_are_asked_once_a_second_whoever_reads_and_never_again_once_a_window_is_final() {
        let boards = Boards::new(DeclaredBoards::default(), &EmbeddedRanking::default());
        let now = Instant::now();
        assert!(boards.start_final_query("a", now));
        assert!(!boards.start_final_query("a", now + FINAL_QUERY_INTERVAL / 2));
        assert!(boards.start_final_query("b", now));
        assert!(boards.start_final_query("a", now + FINAL_QUERY_INTERVAL));
        boards.note_final("a");
        assert!(boards.is_known_final("a") && !boards.is_known_final("b"));
        assert!(!boards.start_final_query("a", now + FINAL_QUERY_INTERVAL * 9));
    }
}
