//! HTTP requests sent byte by byte, as no proper client would send them.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The time limit of an answer: longer than any time limit of the servers, so a connection without answer or end by
/// then was forgotten.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The size in bytes of the receive buffer of connections that are to stall soon.
const SMALL_BUFFER: u32 = 4096;

/// An answer of a server.
#[derive(Debug)]
pub struct Answer {
    /// The status code; 0 if the connection ended without an answer.
    pub status: u16,
    /// The status line and the header lines.
    pub head: String,
    /// The bytes of the body, as far as they were read.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the value of a header (its name in any case); `None` if the answer does not have it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Returns the body as JSON; null if it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn content_length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }

    fn parse_answer(head: &[u8], body: &[u8]) -> Self {
        let head = String::from_utf8_lossy(head).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head, body: body.to_vec() }
    }
}

/// Opens a connection, sends `request` as it is and reads the answer at the same time, because a server need not read
/// a request that it refuses.
pub async fn connect_and_exchange(address: &str, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    send_and_read(&mut stream, request).await
}

/// Sends `request` on an open connection and reads the answer at the same time.
pub async fn send_and_read(stream: &mut TcpStream, request: &[u8]) -> io::Result<Answer> {
    let (mut read, mut write) = stream.split();
    let sending = async {
        // A server that has answered and closed accepts no more bytes; its answer is what counts.
        let _ = write.write_all(request).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer(&mut read) => answer,
        () = sending => unreachable!("it never ends"),
    }
}

/// Reads the next answer. The body is read by its length, or else to the end of the connection. Of a chunked body only
/// the bytes that came with the head are read; of a stream of events, at least the first event.
pub async fn answer<R: AsyncReadExt + Unpin>(from: &mut R) -> io::Result<Answer> {
    tokio::time::timeout(ANSWER_TIMEOUT, read_answer(from)).await?
}

async fn read_answer<R: AsyncReadExt + Unpin>(from: &mut R) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let found = Answer::parse_answer(&bytes[..end], &bytes[end + 4..]);
            let missing = found.content_length().map(|length| length.saturating_sub(found.body.len()));
            let chunked = found.header("transfer-encoding").is_some();
            // A stream of events does not end by itself; its first event counts as the answer.
            let streams = found.header("content-type").is_some_and(|kind| kind.contains("text/event-stream"));
            let greeted = streams && found.body.windows(2).any(|two| two == b"\n\n");
            if missing == Some(0) || (missing.is_none() && (chunked || greeted || found.status == 101)) {
                return Ok(found);
            }
        }
        match from.read_buf(&mut bytes).await {
            Ok(0) if bytes.is_empty() => return Ok(Answer::parse_answer(b"", b"")),
            Ok(0) => {
                let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
                return Ok(Answer::parse_answer(&bytes[..end], bytes.get(end + 4..).unwrap_or_default()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && bytes.is_empty() => {
                return Ok(Answer::parse_answer(b"", b""));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens a connection with a small receive buffer, which stalls soon if it is not read.
pub async fn connect_with_small_buffer(address: &str) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    socket.connect(address.parse().map_err(io::Error::other)?).await
}

/// Returns a whole request with a body and its length; `headers` are header lines without their line ends.
pub fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = request_head(method, path, headers, body.len());
    bytes.extend_from_slice(body);
    bytes
}

/// Returns the head of a request that announces a body of `length` bytes.
pub fn request_head(method: &str, path: &str, headers: &[&str], length: usize) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: liverank\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    let sized = length > 0 || method == "POST";
    let end = if sized { format!("Content-Length: {length}\r\n\r\n") } else { "\r\n".to_owned() };
    text.push_str(&end);
    text.into_bytes()
}

/// Returns the bytes of the HTTP request that upgrades a connection to a WebSocket.
pub fn handshake(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: liverank\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}
