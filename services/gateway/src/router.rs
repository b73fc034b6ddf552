//! The API's routes: the handler of each path.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use liverank_runtime::{cors, server};
use serde_json::{Value, json};

use crate::moderation::{bans, deletion, held, pins, reports, revocations, rules};
use crate::page::ASSETS;
use crate::proxy::{comment, register, to_comment, to_manager, to_statistics};
use crate::upgrade::{to_lists, to_lists_of_a_user};
use crate::{Gateway, batch, front_door, interact, limits, moderation, openapi, operate, videos};

type GatewayRoutes = Vec<(&'static str, MethodRouter<Arc<Gateway>>)>;

/// Returns every path of the API with its handler.
fn routes() -> GatewayRoutes {
    vec![
        ("/interact", post(interact::one)),
        ("/interactions", post(batch::post_batch)),
        ("/videos", get(videos::list)),
        ("/videos/{video_id}", get(videos::one).put(videos::entry::put).delete(videos::entry::delete)),
        ("/boards", get(videos::listed_boards::list)),
        ("/ws/videos", get(to_lists)),
        ("/ws/user/{user_id}", get(to_lists_of_a_user)),
        ("/comment", post(comment)),
        ("/comments/{videoid}", get(to_comment)),
        ("/comments/{videoid}/{id}", delete(deletion::delete)),
        ("/comments/{videoid}/{id}/reports", post(reports::report)),
        ("/moderation/bans", get(bans::list).post(bans::begin).delete(bans::end)),
        ("/moderation/revocations", get(revocations::list).post(revocations::begin).delete(revocations::end)),
        ("/moderation/held", get(held::list).post(held::review)),
        ("/moderation/reports", get(reports::list).post(reports::decide)),
        ("/moderation/pins", post(pins::pin).delete(pins::unpin)),
        ("/moderation/rules", get(rules::list).post(rules::set).delete(rules::take_away)),
        ("/moderation/log", get(moderation::log)),
        ("/operate", get(operate::show)),
        ("/operate/what-if", post(operate::what_if)),
        ("/operate/demo", post(operate::demo::start).delete(operate::demo::stop)),
        ("/connect", get(front_door::by_get).post(front_door::by_post)),
        ("/register", post(register)),
        ("/resolve/{videoid}", get(to_manager)),
        ("/statistics", get(to_statistics)),
        ("/comment-api-statistics", post(to_statistics)),
        ("/reader-api-statistics", post(to_statistics)),
        ("/reader-api-manager-statistics", post(to_statistics)),
        ("/client-statistics", post(to_statistics)),
        ("/health", get(health)),
        ("/openapi.json", get(openapi::serve)),
        ("/openapi-internal.json", get(openapi::serve_whole)),
        ("/asyncapi.yaml", get(openapi::serve_streams)),
        ("/asyncapi.json", get(openapi::serve_streams_as_json)),
    ]
}

/// The paths of the API, in the notation of the `OpenAPI` document. The paths of the pages' files are not part of the
/// API.
pub fn documented_paths() -> impl Iterator<Item = &'static str> {
    routes().into_iter().map(|(path, _)| path)
}

/// Returns whether a path is that of a file of the pages.
pub fn is_of_the_page(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

/// Returns the router of the gateway: the API, the pages, CORS and the limits of requests.
pub(crate) fn router(gateway: &Arc<Gateway>) -> Router {
    let pages = ASSETS.iter().map(|asset| (asset.path, asset.route()));
    let router = routes().into_iter().chain(pages);
    let router = router.fold(Router::new(), |router, (path, answer)| router.route(path, answer));
    let shared = from_fn_with_state(Arc::clone(&gateway.origins), cors::answer_cross_origin);
    let admitted = from_fn_with_state(Arc::clone(gateway), limits::admit);
    server::with_problem_fallbacks(router.with_state(Arc::clone(gateway))).layer(admitted).layer(shared)
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "healthy", "service": "gateway" }))
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
        let all = gateway.in_flight.available_permits();
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
            assert_eq!(gateway.in_flight.available_permits(), all - 1, "{path}");
            serving.abort();
            assert!(serving.await.unwrap_err().is_cancelled());
            drop(exchange);
        }
    }
}
