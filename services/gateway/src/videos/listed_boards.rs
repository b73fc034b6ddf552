//! `GET /boards`: which boards there are, and the windows of those that have some.

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
use crate::interact::take_place;

/// How long the stores may take to say what the half-life of a board is: the answer does not wait longer.
const HALF_LIFE_TIMEOUT: Duration = Duration::from_millis(500);

/// The boards, those that there always are first, then the declared ones in the order of their declaration.
#[derive(Serialize)]
pub(crate) struct BoardsJson {
    boards: Vec<BoardJson>,
}

/// A board.
#[derive(Serialize)]
struct BoardJson {
    name: String,
    /// `points` or `trending`.
    order: &'static str,
    /// Whether it was declared, or is one of those that there always are.
    declared: bool,
    /// The half-life of the scores of a board of the order `trending`. Null where the board has none, and while the store is away.
    half_life_seconds: Option<f64>,
    /// The category of its videos. Null where it has videos of all categories.
    category: Option<String>,
    /// The points that a video needs to be on the board.
    minimum: f64,
    /// Null where it has none.
    windows: Option<WindowsJson>,
}

/// The windows of a board.
#[derive(Serialize)]
struct WindowsJson {
    /// `hour`, `day` or `week`.
    unit: &'static str,
    time_zone: String,
    running: WindowJson,
    /// Those that are kept, the last one first.
    ended: Vec<WindowJson>,
}

/// `GET /boards`.
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    exchange: RequestExchange,
    params: QueryParams,
) -> Result<Json<BoardsJson>, Problem> {
    params.expect_only(&[])?;
    take_place(&gateway, &exchange)?;
    let progress = OnceCell::new();
    let built_in = join_all(BUILT_IN_BOARDS.map(|name| built_in(&gateway, name)));
    let declared = gateway.boards.declared_with_stores();
    let declared =
        join_all(declared.map(|(board, store)| describe_declared(&gateway, board, store, &progress)));
    let (built_in, declared) = tokio::join!(built_in, declared);
    Ok(Json(BoardsJson { boards: built_in.into_iter().chain(declared).collect() }))
}

async fn built_in(gateway: &Gateway, name: &'static str) -> BoardJson {
    let order = if name == "trending" { BoardOrder::Trending } else { BoardOrder::Points };
    BoardJson {
        name: name.to_owned(),
        order: order.name(),
        declared: false,
        half_life_seconds: half_life_seconds(order, &*gateway.backends.ranking).await,
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
        category: board.category().map(str::to_owned),
        minimum: board.minimum(),
        windows,
    }
}

/// The half-life that the board's scores were made by, as its store has it.
async fn half_life_seconds(order: BoardOrder, store: &dyn RankingStore) -> Option<f64> {
    if order != BoardOrder::Trending {
        return None;
    }
    let asked = tokio::time::timeout(HALF_LIFE_TIMEOUT, store.noted_half_life()).await;
    let millis = asked.ok()?.ok()??;
    Some(millis as f64 / 1000.0)
}
