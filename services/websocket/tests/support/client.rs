use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that behaves like a browser: it answers pings while it reads.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The last message received.
    pub last: Value,
}

impl Client {
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}{path}")).await.unwrap();
        Self { socket, last: Value::Null }
    }

    /// Makes a handshake that is refused; returns the status and the body.
    pub async fn refused(address: SocketAddr, path: &str) -> (u16, Value) {
        match connect_async(format!("ws://{address}{path}")).await {
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                (response.status().as_u16(), serde_json::from_slice(body).unwrap_or_default())
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{path} was accepted"),
        }
    }

    async fn message(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(TEST_TIMEOUT, self.socket.next()).await;
        next.expect("nothing came").and_then(Result::ok)
    }

    /// Returns the next list or delta.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.message().await.expect("the connection ended") {
                Message::Text(text) => {
                    self.last = serde_json::from_str(&text).unwrap();
                    return self.last.clone();
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads lists until one has `count` lines; returns its ids.
    pub async fn ids_until(&mut self, count: usize) -> Vec<String> {
        loop {
            let list = self.next().await;
            let lines = list.as_array().unwrap();
            if lines.len() == count {
                return lines.iter().map(|line| line["video_id"].as_str().unwrap().to_owned()).collect();
            }
        }
    }

    pub async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends a ping and returns the payload of the answer.
    pub async fn ping(&mut self, payload: &'static [u8]) -> Vec<u8> {
        self.socket.send(Message::Ping(payload.into())).await.unwrap();
        loop {
            if let Message::Pong(payload) = self.message().await.expect("the connection ended") {
                return payload.to_vec();
            }
        }
    }

    /// Begins the closing handshake; returns the status of the answer.
    pub async fn leave(&mut self) -> Option<u16> {
        use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.send(Message::Close(Some(frame))).await.unwrap();
        self.closed().await
    }

    /// Reads until the close frame; returns its status.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Message::Close(frame) = self.message().await? {
                return frame.map(|frame| frame.code.into());
            }
        }
    }
}
