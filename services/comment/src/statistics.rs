//! `GET /statistics`, as the comments seed's comment service has it: forwarded to the statistics service.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use liverank_runtime::peer::{self, ANSWER_TIMEOUT};
use liverank_runtime::{Problem, client};

use crate::CommentService;

/// `GET /statistics`.
pub(crate) async fn statistics(
    State(service): State<Arc<CommentService>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let away = || Problem::part_unavailable("the statistics service is away: try again");
    let replicas = service.statistics.as_ref().ok_or_else(away)?;
    for _ in replicas.urls() {
        let base = replicas.preferred_url().clone();
        let mut url = peer::join_path(&base, &["statistics"]);
        url.set_query(uri.query());
        match replicas.peers().client().get(url).timeout(ANSWER_TIMEOUT).send().await {
            Ok(answer)
                if replicas.peers().is_liverank_answer(&answer) && !answer.status().is_server_error() =>
            {
                return Ok(forward_answer(answer));
            }
            _ => replicas.prefer_another_than(&base),
        }
    }
    Err(away())
}

fn forward_answer(answer: client::Response) -> Response {
    let status = answer.status();
    let content_type = answer.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = (status, Body::from_stream(answer.bytes_stream())).into_response();
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}
