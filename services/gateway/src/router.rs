//! The API: which path is answered by what.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use liverank_runtime::{cors, server};
use serde_json::{Value, json};

use crate::moderation::{bans, deletion, held, pins, reports, revocations, rules};
use crate::page::PAGE_ASSETS;
use crate::proxy::{
    proxy_posted_comment, proxy_registration, proxy_to_comment_service, proxy_to_manager, proxy_to_statistics,
};
use crate::upgrade::{upgrade_to_lists, upgrade_to_user_lists};
use crate::{Gateway, batch, front_door, interact, limits, moderation, openapi, operate, videos};

type GatewayRoutes = Vec<(&'static str, MethodRouter<Arc<Gateway>>)>;

/// Every path and what answers it.
fn routes() -> GatewayRoutes {
    vec![
        ("/interact", post(interact::post_interaction)),
        ("/interactions", post(batch::post_batch)),
        ("/videos", get(videos::list)),
        (
            "/videos/{video_id}",
            get(videos::get_video).put(videos::entry::put_video).delete(videos::entry::delete_video),
        ),
        ("/ws/videos", get(to_lists)),
        ("/ws/user/{user_id}", get(to_lists_of_a_user)),
        ("/comment", post(comment)),
        ("/comments/{videoid}", get(to_comment)),
        ("/comments/{videoid}/{id}", delete(deletion::delete_comment)),
        ("/comments/{videoid}/{id}/reports", post(reports::post_report)),
        ("/moderation/bans", get(bans::list_bans).post(bans::post_ban).delete(bans::delete_ban)),
        (
            "/moderation/revocations",
            get(revocations::list_revocations)
                .post(revocations::post_revocation)
                .delete(revocations::delete_revocation),
        ),
        ("/moderation/held", get(held::list_held).post(held::review_held)),
        ("/moderation/reports", get(reports::list_reports).post(reports::post_decision)),
        ("/moderation/pins", post(pins::post_pin).delete(pins::delete_pin)),
        ("/moderation/rules", get(rules::list_rules).post(rules::post_rules).delete(rules::delete_rules)),
        ("/moderation/log", get(moderation::get_audit_log)),
        ("/operate", get(operate::get_operate)),
        ("/operate/what-if", post(operate::post_what_if)),
        ("/operate/demo", post(operate::demo::post_demo).delete(operate::demo::delete_demo)),
        ("/connect", get(front_door::connect_by_get).post(front_door::connect_by_post)),
        ("/register", post(register)),
        ("/resolve/{videoid}", get(to_manager)),
        ("/statistics", get(to_statistics)),
        ("/comment-api-statistics", post(to_statistics)),
        ("/reader-api-statistics", post(to_statistics)),
        ("/reader-api-manager-statistics", post(to_statistics)),
        ("/client-statistics", post(to_statistics)),
        ("/health", get(health)),
        ("/openapi.json", get(openapi::serve_public)),
        ("/openapi-internal.json", get(openapi::serve_whole)),
        ("/asyncapi.yaml", get(openapi::serve_streams)),
        ("/asyncapi.json", get(openapi::serve_streams_as_json)),
    ]
}

/// The paths, as the `OpenAPI` document writes them; those of the pages' files are no part of the API.
pub fn document_paths() -> impl Iterator<Item = &'static str> {
    routes().into_iter().map(|(path, _)| path)
}

/// Whether a path is a part of the console page.
pub fn is_page_file(path: &str) -> bool {
    PAGE_ASSETS.iter().any(|asset| asset.path == path)
}

/// The gateway's API.
pub(crate) fn router(gateway: &Arc<Gateway>) -> Router {
    let pages = PAGE_ASSETS.iter().map(|asset| (asset.path, asset.asset_route()));
    let router = routes().into_iter().chain(pages);
    let router = router.fold(Router::new(), |router, (path, answer)| router.asset_route(path, answer));
    let shared = from_fn_with_state(Arc::clone(&gateway.origins), cors::share);
    let admitted = from_fn_with_state(Arc::clone(gateway), limits::admit_request);
    server::with_fallbacks(router.with_state(Arc::clone(gateway))).layer(admitted).layer(shared)
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "healthy", "service": "gateway" }))
}
