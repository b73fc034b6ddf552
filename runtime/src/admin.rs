//! The admin port of every process: `/livez`, `/readyz`, `/metrics`, and `/health` for processes that have no other
//! port.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use crate::problem::PortOwner;
use crate::{HttpSettings, ServiceContext, problem, server};

/// Serves the admin port until its future is dropped, which is well after the drain began, so that the drain itself can
/// be watched.
pub async fn run(listener: TcpListener, shell: ServiceContext) -> anyhow::Result<()> {
    let settings = HttpSettings { tls: shell.http_settings.admin_tls.clone(), ..HttpSettings::default() };
    server::serve_until_dropped(listener, router(shell), settings).await
}

/// Returns the router of the admin port: `/livez`, `/health`, `/readyz` and `/metrics`.
pub fn router(shell: ServiceContext) -> Router {
    Router::new()
        .route("/livez", get(answer_livez))
        .route("/health", get(|| async { Json(json!({ "status": "healthy" })) }))
        .route("/readyz", get(answer_readyz))
        .route("/metrics", get(answer_metrics))
        .fallback(|| async { problem::no_such_path_problem(PortOwner::Admin) })
        .with_state(shell)
}

/// Answers `/livez`: 200, or 500 with the reason if the process has noted that it is stuck. A blocked async runtime
/// gives no answer at all, which a liveness probe takes for a failure, too.
async fn answer_livez(State(shell): State<ServiceContext>) -> Response {
    match shell.health.stuck_reason() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::INTERNAL_SERVER_ERROR, why + "\n").into_response(),
    }
}

async fn answer_readyz(State(shell): State<ServiceContext>) -> Response {
    let (ready, report) = shell.health.readiness();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn answer_metrics(State(shell): State<ServiceContext>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], shell.metrics.encode_text()).into_response()
}
