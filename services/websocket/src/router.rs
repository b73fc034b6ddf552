//! The service's paths, and the parameters with which clients ask for lists.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use liverank_adapters::ranking_store::BuiltInBoard;
use liverank_core::boards::DeclaredBoards;
use liverank_core::{Invalid, UserId, VideoId, canary};
use liverank_protocol::access::{self, CallerRole};
use liverank_protocol::{ServiceHealth, WebsocketHealth};
use liverank_runtime::identity::guard::RoutesByAccess;
use liverank_runtime::params::QueryParams;
use liverank_runtime::problem::PortOwner;
use liverank_runtime::process::confine_panics;
use liverank_runtime::server::RequestExchange;
use liverank_runtime::{Identity, Problem, server};

use crate::key::{ListKey, MAX_LINES_WITH_METADATA};
use crate::published::ListFormat;
use crate::{FollowedBoard, Service, connection, handshake, shown_order};

/// The number of lines of a list if no `limit` is given.
const DEFAULT_LIMIT: usize = 1000;
/// The greatest number that `limit` may have; for more, clients ask for `all`.
const MAX_LIMIT: u64 = 1_000_000;

/// The number of lines of a list around a video if no `limit` is given: five above the video and five below.
const DEFAULT_AROUND_LIMIT: u64 = 11;
/// The maximum number of lines of a list around a video.
const MAX_AROUND_LIMIT: u64 = 100;

/// Returns the router of all paths of the service.
pub(crate) fn new(service: Arc<Service>, identity: &Identity) -> Router {
    let (router, _) = RoutesByAccess::of_service(access::CalledService::Websocket)
        .get("/ws/videos", get(watch_board))
        .get("/ws/user/{user_id}", get(watch_owner))
        .get("/health", get(get_health))
        .into_guarded_routers(identity, None);
    server::with_problem_fallbacks(
        PortOwner::Service(access::CalledService::Websocket),
        router.with_state(service),
    )
}

async fn get_health(State(service): State<Arc<Service>>) -> Json<WebsocketHealth> {
    Json(WebsocketHealth {
        service: ServiceHealth::healthy("websocket"),
        connections: service.metrics.open_connections.get(),
        videos: service.built_in_boards.mirror.len() as u64,
    })
}

/// `GET /ws/videos?board=&limit=&mode=&around=&fields=`.
async fn watch_board(State(service): State<Arc<Service>>, params: QueryParams, request: Request) -> Response {
    match board_key(&params, &service.declared_boards) {
        Ok((key, place)) => {
            let followed =
                place.map_or(&service.built_in_boards, |place| &service.followed_declared_boards[place]);
            open_list(&service, followed, key, request)
        }
        Err(problem) => problem.into_response(),
    }
}

/// `GET /ws/user/{user_id}?limit=`.
async fn watch_owner(
    State(service): State<Arc<Service>>,
    path: Result<Path<String>, PathRejection>,
    params: QueryParams,
    request: Request,
) -> Response {
    match owner_key(path, &params).and_then(|key| check_canary_key(&service, key, &request)) {
        Ok(key) => open_list(&service, &service.built_in_boards, key, request),
        Err(problem) => problem.into_response(),
    }
}

/// Parses the list that a client asks for. Returns the list's key, and the index of the list's declared board; `None`
/// for a built-in board.
fn board_key(params: &QueryParams, declared: &DeclaredBoards) -> Result<(ListKey, Option<usize>), Problem> {
    params.expect_only(&["board", "limit", "mode", "around", "fields"])?;
    let (board, place) = match params.optional_text("board")? {
        None | Some("global") => (BuiltInBoard::Global, None),
        Some("trending") => (BuiltInBoard::Trending, None),
        Some(name) => {
            let place = declared.position(name).ok_or_else(|| declared.unknown_board_error())?;
            let board = declared.iter().nth(place).map_or(BuiltInBoard::Global, shown_order);
            (board, Some(place))
        }
    };
    let shape = match params.optional_text("mode")? {
        None | Some("list") => ListFormat::List,
        Some("delta") => ListFormat::Delta,
        Some(_) => return Err(Invalid::new("mode", "must be list or delta").into()),
    };
    let is_described = asks_for_metadata(params.optional_text("fields")?)?;
    let key = match params.optional_text("around")? {
        None if is_described => ListKey::Board(board, Some(parse_limit_with_metadata(params)?), shape),
        None => ListKey::Board(board, parse_limit(params)?, shape),
        Some(_) if shape == ListFormat::Delta => {
            let why = "goes with mode=list only: all of such a list moves at once";
            return Err(Invalid::new("around", why).into());
        }
        Some(id) => {
            let limit =
                params.optional_number("limit", 1..=MAX_AROUND_LIMIT)?.unwrap_or(DEFAULT_AROUND_LIMIT);
            ListKey::Around(board, VideoId::parse_field("around", id)?, limit as usize)
        }
    };
    Ok((if is_described { ListKey::WithMetadata(Box::new(key)) } else { key }, place))
}

/// Whether `fields` asks for metadata: names separated by commas, as in `GET /videos`. Absent or empty text asks for
/// nothing.
fn asks_for_metadata(fields: Option<&str>) -> Result<bool, Invalid> {
    let mut names = fields.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    names.try_fold(false, |_, name| match name {
        "metadata" => Ok(true),
        // The number of viewers is no change of a board, and changes every second.
        "viewers" => Err(Invalid::new("fields", "must be metadata here: viewers are told by GET /videos")),
        _ => Err(Invalid::new("fields", "must be metadata")),
    })
}

fn owner_key(path: Result<Path<String>, PathRejection>, params: &QueryParams) -> Result<ListKey, Problem> {
    params.expect_only(&["limit"])?;
    let Path(text) = path.map_err(|_| Invalid::new("user_id", "must be UTF-8"))?;
    Ok(ListKey::Owner(UserId::parse(&text)?, parse_limit(params)?))
}

/// Refuses the canary's list to callers other than gateways, if this process can verify its callers.
fn check_canary_key(service: &Service, key: ListKey, request: &Request) -> Result<ListKey, Problem> {
    if let ListKey::Owner(owner, _) = &key
        && service.identity.has_token_verifier()
    {
        let caller =
            || service.identity.caller_of_request(request.headers(), access::CalledService::Websocket);
        if owner.as_str() == canary::CANARY_ID
            && caller()?.is_none_or(|caller| caller.role() != CallerRole::Gateway)
        {
            canary::refuse_canary_user("user_id", owner.as_str())?;
        }
    }
    Ok(key)
}

fn parse_limit(params: &QueryParams) -> Result<Option<usize>, Invalid> {
    if params.optional_text("limit")? == Some("all") {
        return Ok(None);
    }
    match params.optional_number("limit", 1..=MAX_LIMIT) {
        Ok(number) => Ok(Some(number.map_or(DEFAULT_LIMIT, |number| number as usize))),
        Err(_) => Err(Invalid::new("limit", format!("must be all, or a whole number from 1 to {MAX_LIMIT}"))),
    }
}

/// Parses the limit of a list with metadata: at most `MAX_LINES_WITH_METADATA` lines, because each line may have 4 KB
/// of metadata.
fn parse_limit_with_metadata(params: &QueryParams) -> Result<usize, Invalid> {
    let wrong = || {
        format!("must be a whole number from 1 to {MAX_LINES_WITH_METADATA} where fields asks for metadata")
    };
    match parse_limit(params) {
        Ok(Some(limit)) if limit <= MAX_LINES_WITH_METADATA => Ok(limit),
        _ => Err(Invalid::new("limit", wrong())),
    }
}

/// Accepts the WebSocket handshake and starts the task that sends the list to the client; answers with a problem if
/// there are too many connections or lists.
fn open_list(service: &Arc<Service>, followed: &FollowedBoard, key: ListKey, request: Request) -> Response {
    let client = request.extensions().get::<RequestExchange>().cloned().unwrap_or_default().client();
    let (upgrade, response) = match handshake::accept(request, &service.origins) {
        Ok(accepted) => accepted,
        Err(refused) => return *refused,
    };
    if !followed.mirror.is_loaded() {
        return Problem::part_unavailable("the ranking has not been read yet: try again").into_response();
    }
    let Some(stay) = service.streams.admit_stream(client) else {
        return Problem::part_unavailable("there is no room for another WebSocket here: try again")
            .into_response();
    };
    let Some(feed) = followed.lists.watch(key) else {
        return Problem::part_unavailable("too many different lists are watched here: ask for a usual limit")
            .into_response();
    };
    let service_of = Arc::clone(service);
    service.streams.stream_tasks.spawn(confine_panics(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let end =
            connection::run(TokioIo::new(upgraded), feed, stay, service_of.limits, &service_of.metrics).await;
        service_of.metrics.count_disconnect(end);
    }));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(query: &str) -> Result<ListKey, String> {
        let params = QueryParams::from_uri(&format!("/ws/videos?{query}").parse().unwrap());
        let board = board_key(&params, &DeclaredBoards::default());
        board
            .map(|(key, _)| key)
            .map_err(|problem| problem.body()["field"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn left_out_parameters_have_defaults() {
        assert_eq!(key(""), Ok(ListKey::Board(BuiltInBoard::Global, Some(1000), ListFormat::List)));
        let all = key("limit=all&board=trending&mode=delta");
        assert_eq!(all, Ok(ListKey::Board(BuiltInBoard::Trending, None, ListFormat::Delta)));
    }

    #[test]
    fn a_list_around_a_video_is_short_and_whole() {
        let around = |limit| ListKey::Around(BuiltInBoard::Trending, VideoId::parse("a b").unwrap(), limit);
        assert_eq!(key("board=trending&around=a%20b"), Ok(around(11)));
        assert_eq!(key("board=trending&around=a+b&limit=100&mode=list"), Ok(around(100)));
        assert_eq!(key("around=v&mode=delta"), Err("around".into()));
        assert_eq!(key("around="), Err("around".into()));
        assert_eq!(key("around=v&limit=101"), Err("limit".into()));
        assert_eq!(key("around=v&limit=all"), Err("limit".into()));
    }

    #[test]
    fn a_list_with_metadata_has_a_thousand_lines_at_most() {
        let described = |key| Ok(ListKey::WithMetadata(Box::new(key)));
        let list = |limit, shape| described(ListKey::Board(BuiltInBoard::Global, Some(limit), shape));
        assert_eq!(key("fields=metadata"), list(1000, ListFormat::List));
        assert_eq!(key("fields=metadata,%20metadata&limit=7&mode=delta"), list(7, ListFormat::Delta));
        let around = ListKey::Around(BuiltInBoard::Trending, VideoId::parse("v").unwrap(), 11);
        assert_eq!(key("board=trending&around=v&fields=metadata"), described(around));
        assert_eq!(key("fields="), Ok(ListKey::Board(BuiltInBoard::Global, Some(1000), ListFormat::List)));
        for limit in ["1001", "all", "0", "x"] {
            assert_eq!(key(&format!("fields=metadata&limit={limit}")), Err("limit".into()), "{limit}");
        }
        for fields in ["viewers", "metadata,viewers", "score", "metadata;"] {
            assert_eq!(key(&format!("fields={fields}")), Err("fields".into()), "{fields}");
        }
    }

    #[test]
    fn a_declared_board_has_its_place_and_its_order() {
        let declared =
            DeclaredBoards::from_json(&json!([{"name": "liked"}, {"name": "hot", "order": "trending"}]))
                .unwrap();
        let key = |query: &str| {
            let params = QueryParams::from_uri(&format!("/ws/videos?{query}").parse().unwrap());
            board_key(&params, &declared).map_err(|problem| problem.body()["detail"].to_string())
        };
        let list = |board| ListKey::Board(board, Some(5), ListFormat::List);
        assert_eq!(key("board=liked&limit=5"), Ok((list(BuiltInBoard::Global), Some(0))));
        assert_eq!(key("board=hot&limit=5"), Ok((list(BuiltInBoard::Trending), Some(1))));
        assert_eq!(key("board=trending&limit=5"), Ok((list(BuiltInBoard::Trending), None)));
        let told = key("board=best").unwrap_err();
        assert!(told.contains("must be global, trending, liked or hot"), "{told}");
    }

    #[test]
    fn wrong_parameters_are_named() {
        for bad in ["limit=0", "limit=", "limit=ALL", "limit=1000001", "limit=-1"] {
            assert_eq!(key(bad), Err("limit".into()), "{bad}");
        }
        assert_eq!(key("board=best"), Err("board".into()));
        assert_eq!(key("mode="), Err("mode".into()));
        assert_eq!(key("limt=3"), Err("limt".into()));
    }
}
