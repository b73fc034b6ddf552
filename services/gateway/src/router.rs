//! The API's routes: the handler of each path.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use liverank_protocol::ServiceHealth;
use liverank_protocol::access::CalledService;
use liverank_runtime::params::QueryParams;
use liverank_runtime::problem::PortOwner;
use liverank_runtime::{Problem, cors, server};

use crate::moderation::{bans, deletion, held, pins, reports, revocations, rules};
use crate::page::ASSETS;
use crate::proxy::{
    forward_comment, forward_registration, forward_to_comment_service, forward_to_manager,
    forward_to_statistics,
};
use crate::upgrade::{open_list_websocket, open_user_list_websocket};
use crate::{Gateway, batch, front_door, interact, limits, moderation, openapi, operate, videos};

type GatewayRoutes = Vec<(&'static str, MethodRouter<Arc<Gateway>>)>;

/// Wraps methods that take no query parameters: one that is there is refused by name, before the body is read.
fn without_parameters(methods: MethodRouter<Arc<Gateway>>) -> MethodRouter<Arc<Gateway>> {
    methods.route_layer(from_fn(refuse_parameters))
}

async fn refuse_parameters(params: QueryParams, request: Request, next: Next) -> Result<Response, Problem> {
    params.expect_only(&[])?;
    Ok(next.run(request).await)
}

/// Returns every path of the API with its handler. `/health` and the documents take any parameters: probes and caches
/// add some of their own.
fn routes() -> GatewayRoutes {
    vec![
        ("/interact", without_parameters(post(interact::post_interaction))),
        ("/interactions", without_parameters(post(batch::post_batch))),
        ("/videos", get(videos::list_videos)),
        (
            "/videos/{video_id}",
            get(videos::get_video).put(videos::entry::put_metadata).delete(videos::entry::delete_video),
        ),
        ("/boards", get(videos::listed_boards::list_boards)),
        ("/ws/videos", get(open_list_websocket)),
        ("/ws/user/{user_id}", get(open_user_list_websocket)),
        ("/comment", without_parameters(post(forward_comment))),
        ("/comments/{videoid}", get(forward_to_comment_service)),
        ("/comments/{videoid}/{id}", delete(deletion::delete_comment)),
        ("/comments/{videoid}/{id}/reports", post(reports::post_report)),
        ("/moderation/bans", get(bans::list_bans).post(bans::post_ban).delete(bans::delete_ban)),
        (
            "/moderation/revocations",
            get(revocations::list_revocations)
                .post(revocations::post_revocation)
                .delete(revocations::delete_revocation),
        ),
        ("/moderation/held", get(held::list_held_comments).post(held::review_held_comment)),
        ("/moderation/reports", get(reports::list_reports).post(reports::post_decision)),
        ("/moderation/pins", post(pins::pin_comment).delete(pins::unpin_comment)),
        ("/moderation/rules", get(rules::list_rules).post(rules::post_rules).delete(rules::delete_rules)),
        ("/moderation/log", get(moderation::get_audit_log)),
        ("/operate", get(operate::get_operate)),
        ("/operate/what-if", post(operate::post_what_if)),
        ("/operate/demo", post(operate::demo::start_demo).delete(operate::demo::stop_demo)),
        ("/connect", get(front_door::connect_by_get).post(front_door::connect_by_post)),
        ("/register", without_parameters(post(forward_registration))),
        ("/resolve/{videoid}", get(forward_to_manager)),
        ("/statistics", get(forward_to_statistics)),
        ("/comment-api-statistics", without_parameters(post(forward_to_statistics))),
        ("/reader-api-statistics", without_parameters(post(forward_to_statistics))),
        ("/reader-api-manager-statistics", without_parameters(post(forward_to_statistics))),
        ("/client-statistics", without_parameters(post(forward_to_statistics))),
        ("/health", get(health)),
        ("/openapi.json", get(openapi::serve_public_openapi)),
        ("/openapi-internal.json", get(openapi::serve_whole_openapi)),
        ("/asyncapi.yaml", get(openapi::serve_asyncapi_yaml)),
        ("/asyncapi.json", get(openapi::serve_asyncapi_json)),
    ]
}

/// The paths of the API, in the notation of the `OpenAPI` document. The paths of the pages' files are not part of the
/// API.
pub fn documented_paths() -> impl Iterator<Item = &'static str> {
    routes().into_iter().map(|(path, _)| path)
}

/// Returns true if a path is that of a file of the pages.
pub fn is_page_file_path(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

/// Returns the router of the gateway: the API, the pages, CORS and the limits of requests.
pub(crate) fn router(gateway: &Arc<Gateway>) -> Router {
    let pages = ASSETS.iter().map(|asset| (asset.path, asset.route()));
    let router = routes().into_iter().chain(pages);
    let router = router.fold(Router::new(), |router, (path, answer)| router.route(path, answer));
    let shared = from_fn_with_state(Arc::clone(&gateway.origins), cors::answer_cross_origin);
    let admitted = from_fn_with_state(Arc::clone(gateway), limits::admit);
    server::with_problem_fallbacks(
        PortOwner::Service(CalledService::Gateway),
        router.with_state(Arc::clone(gateway)),
    )
    .layer(admitted)
    .layer(shared)
}

async fn health() -> Json<ServiceHealth> {
    Json(ServiceHealth::healthy("gateway"))
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use clap::Parser;
    use liverank_adapters::archive::embedded::EmbeddedArchive;
    use liverank_adapters::assignment_store::embedded::EmbeddedAssignments;
    use liverank_adapters::comment_bus::embedded::EmbeddedBus;
    use liverank_adapters::event_log::embedded::EmbeddedLog;
    use liverank_adapters::ranking_store::embedded::EmbeddedRanking;
    use liverank_adapters::{Backends, clock};
    use liverank_runtime::ServiceContext;
    use liverank_runtime::server::RequestExchange;
    use tokio::net::TcpListener;

    use super::*;
    use crate::Config;

    #[derive(Parser)]
    struct GatewayCli {
        #[command(flatten)]
        config: Config,
    }

    fn open_gateway(directory: &std::path::Path) -> Arc<Gateway> {
        let backends = Backends {
            log: Arc::new(EmbeddedLog::open(directory, clock::system_clock()).unwrap()),
            archive: Arc::new(EmbeddedArchive::open(directory).unwrap()),
            ranking: Arc::new(EmbeddedRanking::new()),
            comments: Arc::new(EmbeddedBus::new()),
            assignments: Arc::new(EmbeddedAssignments::new()),
            clock: clock::system_clock(),
        };
        let config = GatewayCli::parse_from(["gateway", "--moderation-open"]).config;
        Gateway::new(config, backends, &ServiceContext::new(std::time::Duration::from_secs(1))).unwrap()
    }

    #[tokio::test]
    async fn what_is_read_keeps_its_place_until_the_answer_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let gateway = open_gateway(directory.path());
        let all = gateway.request_room.free_units();
        for path in [
            "/videos",
            "/videos/cat",
            "/boards",
            "/moderation/bans",
            "/moderation/revocations",
            "/moderation/held",
            "/moderation/reports",
            "/moderation/rules",
            "/moderation/log",
            "/operate",
        ] {
            // Held here, as by a connection that has not written the whole answer.
            let exchange = RequestExchange::default();
            let service = router(&gateway).layer(Extension(exchange.clone()));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}{path}", listener.local_addr().unwrap());
            let serving = tokio::spawn(axum::serve(listener, service).into_future());
            let answer =
                reqwest::Client::builder().no_proxy().build().unwrap().get(&url).send().await.unwrap();
            assert!([200, 404].contains(&answer.status().as_u16()), "{path}: {}", answer.status());
            answer.bytes().await.unwrap();
            assert_eq!(gateway.request_room.free_units(), all - 1, "{path}");
            serving.abort();
            assert!(serving.await.unwrap_err().is_cancelled());
            drop(exchange);
        }
    }
}
