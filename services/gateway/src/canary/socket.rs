//! The canary's WebSocket client: it watches the list of the canary video's owner at a websocket service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use liverank_protocol::access::CalledService;
use liverank_runtime::websocket::set_upgrade_headers;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::Gateway;
use crate::auth::Caller;
use crate::proxy::{add_identity, send_to_replicas};

/// The path of the list of the canary's owner: `GET /ws/user/liverank:canary`.
const LIST_PATH: &str = "/ws/user/liverank%3Acanary";
/// Maximum size of a frame in bytes. The list has one line, so a larger frame is not from our websocket service.
const MAX_FRAME: usize = 4096;
/// Maximum number of received states of the list that wait to be read: at most ten come in a second, and a round takes
/// a minute.
const MAX_STATES_WAITING: usize = 1024;
/// Maximum time for sending the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A WebSocket on which the canary receives its owner's list.
pub(super) struct Socket {
    /// The revisions that the list showed, each with the time at which it came.
    shown_revisions: mpsc::Receiver<(u64, Instant)>,
    frame_sink: SplitSink<WebSocketStream<TokioIo<Upgraded>>, Message>,
    /// The task that reads the socket; it ends when this struct is dropped.
    _reading: JoinSet<()>,
}

impl Socket {
    /// Opens the WebSocket; returns `None` if no websocket service accepts it.
    pub(super) async fn open(gateway: &Arc<Gateway>) -> Option<Self> {
        let (mut parts, ()) = Request::get(LIST_PATH).body(()).ok()?.into_parts();
        add_identity(gateway, &gateway.websocket, &Caller::Anyone, &mut parts);
        // The token is sent also if viewers need no tokens, because the canary's list is for gateways only.
        if let Some(token) = gateway.identity.authorization_header(CalledService::Websocket) {
            parts.headers.insert(header::AUTHORIZATION, token);
        }
        set_upgrade_headers(&mut parts.headers);
        parts.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        // The key need not be secret, and its answer need not be checked, because the service is our own.
        let key = HeaderValue::from_static("bGl2ZXJhbmsgY2FuYXJ5IQ==");
        parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
        let mut response = send_to_replicas(gateway, &gateway.websocket, &parts, &Bytes::new()).await.ok()?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let socket = websocket_client(TokioIo::new(hyper::upgrade::on(&mut response).await.ok()?)).await;
        let (frame_sink, read) = socket.split();
        let (tell, shown_revisions) = mpsc::channel(MAX_STATES_WAITING);
        let mut reading = JoinSet::new();
        reading.spawn(read_lists(read, tell));
        Some(Self { shown_revisions, frame_sink, _reading: reading })
    }

    /// Waits until the list shows this revision or a later one. Returns the time at which it did; `None` if the socket
    /// ended before.
    pub(super) async fn wait_for_revision(&mut self, revision: u64) -> Option<Instant> {
        loop {
            match self.shown_revisions.recv().await? {
                (shown, at) if shown >= revision => return Some(at),
                _ => {}
            }
        }
    }

    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.frame_sink.close()).await;
    }
}

/// A line of an owner's list. In the list of the canary's owner, the score is the revision of the video's state.
#[derive(Deserialize)]
struct ListLine {
    score: f64,
}

/// Returns a WebSocket client on an upgraded connection.
async fn websocket_client<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
    WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await
}

/// Reads lists from the socket until it ends, and sends the revision that each shows, with its time, to `tell`.
async fn read_lists<S: AsyncRead + AsyncWrite + Unpin>(
    mut from: SplitStream<WebSocketStream<S>>,
    tell: mpsc::Sender<(u64, Instant)>,
) {
    while let Some(Ok(message)) = from.next().await {
        let (now, Message::Text(list)) = (Instant::now(), message) else { continue };
        let lines: Vec<ListLine> = serde_json::from_str(&list).unwrap_or_default();
        if let [ListLine { score }] = lines.as_slice()
            && tell.send((*score as u64, now)).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn list_states_are_read_however_frames_are_cut() {
        let long = format!("[{{\"score\":8}}{}]", " ".repeat(200));
        let mut sent = vec![0x81, 2, b'[', b']', 0x81, 13];
        sent.extend_from_slice(b"[{\"score\":7}]");
        sent.extend_from_slice(&[0x89, 0, 0x81, 126, 0, long.len() as u8]);
        sent.extend_from_slice(long.as_bytes());
        for cut in 1..sent.len() {
            let (tell, mut shown) = mpsc::channel(9);
            let (near, mut far) = tokio::io::duplex(1024);
            let reading = tokio::spawn(read_lists(websocket_client(near).await.split().1, tell));
            far.write_all(&sent[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            far.write_all(&sent[cut..]).await.unwrap();
            // Reading goes on after a ping: the ping is answered.
            far.shutdown().await.unwrap();
            reading.await.unwrap();
            let mut found = Vec::new();
            while let Ok((state, _)) = shown.try_recv() {
                found.push(state);
            }
            assert_eq!(found, [7, 8], "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn an_oversized_frame_ends_the_canary_socket() {
        let (tell, mut shown) = mpsc::channel(9);
        let (near, mut far) = tokio::io::duplex(16 * 1024);
        let reading = tokio::spawn(read_lists(websocket_client(near).await.split().1, tell));
        let long = format!("[{{\"score\":7}}{}]", " ".repeat(2 * MAX_FRAME));
        let mut sent = vec![0x81, 127];
        sent.extend_from_slice(&(long.len() as u64).to_be_bytes());
        sent.extend_from_slice(long.as_bytes());
        far.write_all(&sent).await.unwrap();
        reading.await.unwrap();
        assert!(shown.recv().await.is_none());
    }
}
