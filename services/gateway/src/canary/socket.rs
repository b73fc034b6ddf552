//! A client of a websocket service that watches the list of the canary's owner.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use liverank_protocol::access::CalledService;
use liverank_runtime::websocket::ask_for_websocket;
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
use crate::proxy::{add_identity, send};

/// `GET /ws/user/liverank:canary`.
const LIST_PATH: &str = "/ws/user/liverank%3Acanary";
/// The list has one line: what is longer is not from a service of ours.
const MAX_FRAME: usize = 4096;
/// States of the list that wait to be looked at: ten a second come at most, and a round is a minute.
const MAX_STATES_WAITING: usize = 1024;
/// How long a close frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// See the module.
pub(super) struct Socket {
    /// The numbers of the states that the list showed, and when they came.
    shown: mpsc::Receiver<(u64, Instant)>,
    write: SplitSink<WebSocketStream<TokioIo<Upgraded>>, Message>,
    /// Ends with this.
    _reading: JoinSet<()>,
}

impl Socket {
    /// Opens it; `None` where no service takes it.
    pub(super) async fn open(gateway: &Arc<Gateway>) -> Option<Self> {
        let (mut parts, ()) = Request::get(LIST_PATH).body(()).ok()?.into_parts();
        add_identity(gateway, &gateway.websocket, &Caller::Anyone, &mut parts);
        // Also where viewers are not asked for tokens: the list is for gateways alone.
        if let Some(token) = gateway.identity.authorization_header(CalledService::Websocket) {
            parts.headers.insert(header::AUTHORIZATION, token);
        }
        ask_for_websocket(&mut parts.headers);
        parts.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        // The key need not be secret, nor the answer to it checked: it is our own service.
        let key = HeaderValue::from_static("bGl2ZXJhbmsgY2FuYXJ5IQ==");
        parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
        let mut response = send(gateway, &gateway.websocket, &parts, &Bytes::new()).await.ok()?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let socket = websocket_client(TokioIo::new(hyper::upgrade::on(&mut response).await.ok()?)).await;
        let (write, read) = socket.split();
        let (tell, shown) = mpsc::channel(MAX_STATES_WAITING);
        let mut reading = JoinSet::new();
        reading.spawn(read_lists(read, tell));
        Some(Self { shown, write, _reading: reading })
    }

    /// When the list showed this state or a later one; `None` where the socket ends before.
    pub(super) async fn shows(&mut self, revision: u64) -> Option<Instant> {
        loop {
            match self.shown.recv().await? {
                (shown, at) if shown >= revision => return Some(at),
                _ => {}
            }
        }
    }

    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.write.close()).await;
    }
}

/// A line of an owner's list; that of the canary's has the number of its state for a score.
#[derive(Deserialize)]
struct ListLine {
    score: f64,
}

/// A client on a connection that was upgraded.
async fn websocket_client<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
    WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await
}

/// Reads lists to the end.
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
            // It goes on reading: the ping is answered.
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
