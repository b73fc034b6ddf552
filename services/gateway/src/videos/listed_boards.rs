//! `GET /boards`: the list of boards, with the windows of boards that have some.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures::future::join_all;
use liverank_adapters::RankingStore;
use liverank_adapters::window_progress::CountingProgress;
use liverank_core::boards::{BUILT_IN_BOARDS, BoardOrder, BoardWindows, DeclaredBoard};
use liverank_runtime::Problem;
use liverank_runtime::params::QueryParams;
use liverank_runtime::server::RequestExchange;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::boards::WindowJson;
use crate::Gateway;
use crate::interact::reserve_place;

/// Maximum time for a store to return the half-life of a board; the answer does not wait longer.
const HALF_LIFE_TIMEOUT: Duration = Duration::from_millis(500);

/// The list of boards: the built-in ones first, then the declared ones in the order of their declaration.
#[derive(Serialize)]
pub(crate) struct BoardsJson {
    boards: Vec<BoardJson>,
}

/// A board in the answer of `GET /boards`.
#[derive(Serialize)]
struct BoardJson {
    name: String,
    /// The order of the board: `points` or `trending`.
    order: &'static str,
    /// True if the board is declared; false for a built-in board.
    declared: bool,
    /// The half-life of the scores, for a board of the order `trending`; null for other boards, and while the store is
    /// away.
    half_life_seconds: Option<f64>,
    /// The points of one event of each kind, if the board has weights of its own; null if it has those of all boards.
    weights: Option<BTreeMap<&'static str, f64>>,
    /// The category of the board's videos; null if the board has videos of all categories.
    category: Option<String>,
    /// The points that a video needs to be on the board.
    minimum: f64,
    /// The windows of the board; null if it has none.
    windows: Option<WindowsJson>,
}

/// The windows of a board.
#[derive(Serialize)]
struct WindowsJson {
    /// The unit of a window's length: `hour`, `day` or `week`.
    unit: &'static str,
    time_zone: String,
    running: WindowJson,
    /// The windows that have ended and are kept, latest first.
    ended: Vec<WindowJson>,
}

/// Answers `GET /boards` with the list of boards.
pub(crate) async fn list_boards(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    params: QueryParams,
) -> Result<Json<BoardsJson>, Problem> {
    params.expect_only(&[])?;
    reserve_place(&gateway, &exchange)?;
    let progress = OnceCell::new();
    let built_in = join_all(BUILT_IN_BOARDS.map(|name| describe_built_in(&gateway, name)));
    let declared = gateway.boards.declared_with_stores();
    let declared =
        join_all(declared.map(|(board, store)| describe_declared(&gateway, board, store, &progress)));
    let (built_in, declared) = tokio::join!(built_in, declared);
    Ok(Json(BoardsJson { boards: built_in.into_iter().chain(declared).collect() }))
}

async fn describe_built_in(gateway: &Gateway, name: &'static str) -> BoardJson {
    let order = if name == "trending" { BoardOrder::Trending } else { BoardOrder::Points };
    BoardJson {
        name: name.to_owned(),
        order: order.name(),
        declared: false,
        half_life_seconds: half_life_seconds(order, &*gateway.backends.ranking).await,
        weights: None,
        category: None,
        minimum: 0.0,
        windows: None,
    }
}

async fn describe_declared(
    gateway: &Gateway,
    board: &DeclaredBoard,
    store: &Arc<dyn RankingStore>,
    progress: &OnceCell<Option<CountingProgress>>,
) -> BoardJson {
    let windows = async {
        let windows = board.windows()?;
        let mut described = gateway.describe_windows(board, windows, progress).await;
        let BoardWindows { kind, .. } = windows;
        let running = described.remove(0);
        let time_zone = kind.time_zone().to_owned();
        Some(WindowsJson { unit: kind.unit().name(), time_zone, running, ended: described })
    };
    let (half_life_seconds, windows) = tokio::join!(half_life_seconds(board.order(), &**store), windows);
    BoardJson {
        name: board.name().to_owned(),
        order: board.order().name(),
        declared: true,
        half_life_seconds,
        weights: board.weights().map(|own| BTreeMap::from(own.points_by_kind())),
        category: board.category().map(str::to_owned),
        minimum: board.minimum(),
        windows,
    }
}

/// Returns the half-life, in seconds, of the board's scores as its store has it; `None` for a board without one, or if
/// the store does not answer in time.
async fn half_life_seconds(order: BoardOrder, store: &dyn RankingStore) -> Option<f64> {
    if order != BoardOrder::Trending {
        return None;
    }
    let asked = tokio::time::timeout(HALF_LIFE_TIMEOUT, store.noted_half_life()).await;
    let millis = asked.ok()?.ok()??;
    Some(millis as f64 / 1000.0)
}
