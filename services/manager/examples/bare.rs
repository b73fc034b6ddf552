//! The floor of `bench/edge`: an HTTP server that answers `GET /resolve/{videoid}` from a hash map and does nothing else.
//!
//! `bare PORT VIDEOS` serves the videos `video-0`, `video-1`, … on this port of 127.0.0.1 until it is killed.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

/// The reader's URL of each video.
type ReaderUrlByVideo = Arc<HashMap<String, String>>;

async fn resolve(
    State(readers): State<ReaderUrlByVideo>,
    Path(video): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let url = readers.get(&video).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({"videoid": video, "readerUrl": url})))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, videos] = arguments.as_slice() else {
        return Err("usage: bare PORT VIDEOS".into());
    };
    let url = "http://127.0.0.1:4001".to_owned();
    let readers =
        (0..videos.parse::<usize>()?).map(|number| (format!("video-{number}"), url.clone())).collect();
    let router = Router::new().route("/resolve/{videoid}", get(resolve)).with_state(Arc::new(readers));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}
