//! Floods: what one host may do to deny service to others, with a measurement of how the others are served meanwhile.
//!
//! Floods come from 127.0.0.2 and ordinary clients from 127.0.0.1, so that the system sees two hosts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout_at};

use crate::raw;

/// The source address of floods.
const FLOOD_HOST: [u8; 4] = [127, 0, 0, 2];
/// The size in bytes of the receive buffer of connections that do not read.
const SMALL_BUFFER: u32 = 4096;
/// The time limit of an ordinary client's request: as long as a person waits, and then some.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(20);
/// A piece of the payload of a giant frame.
const FRAME_ZEROS: &[u8] = &[0; 16 * 1024];
/// The pause after a connection that was refused.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// The pause between two requests of an ordinary client.
const REQUEST_PAUSE: Duration = Duration::from_millis(50);

/// A kind of flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Pipelined requests, as fast as they are accepted.
    Requests,
    /// Request heads that arrive header by header and never end.
    SlowHeads,
    /// Connections that send nothing, and request heads whose bodies never arrive.
    HalfOpen,
    /// WebSocket frames that claim a length of 2^62 bytes.
    GiantFrames,
    /// Streams and lists that the client never reads, of a video that gets comments all the time.
    NeverRead,
    /// Batches of interactions with video, user and event ids that are all new.
    NewIds,
    /// Streams that the client closes as soon as they begin.
    Reconnects,
}

impl Flood {
    /// All kinds of floods.
    pub const ALL: [Self; 7] = [
        Self::Requests,
        Self::SlowHeads,
        Self::HalfOpen,
        Self::GiantFrames,
        Self::NeverRead,
        Self::NewIds,
        Self::Reconnects,
    ];

    /// Returns the name of the flood in the printed figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::SlowHeads => "slow heads",
            Self::HalfOpen => "half-open connections",
            Self::GiantFrames => "giant frames",
            Self::NeverRead => "streams that nobody reads",
            Self::NewIds => "new ids",
            Self::Reconnects => "reconnects",
        }
    }

    /// Returns the number of connections that the flood holds at the same time.
    const fn connections_at_a_time(self) -> usize {
        match self {
            Self::Requests => 16,
            Self::SlowHeads | Self::HalfOpen => 1000,
            Self::GiantFrames => 32,
            Self::NeverRead => 200,
            Self::NewIds => 8,
            Self::Reconnects => 64,
        }
    }

    /// Floods the gateway until `end`. Returns the number of connections, or of batches, that were begun.
    pub async fn run(self, gateway: &str, end: Instant) -> usize {
        let gateway: SocketAddr = gateway.parse().expect("an address");
        let began = join_all(
            (0..self.connections_at_a_time()).map(|number| self.repeat_connections(gateway, number, end)),
        );
        let beside = async {
            if self == Self::NeverRead {
                post_chatter(gateway, end).await;
            }
        };
        tokio::join!(began, beside).0.into_iter().sum()
    }

    async fn repeat_connections(self, gateway: SocketAddr, number: usize, end: Instant) -> usize {
        for time in 0.. {
            if Instant::now() >= end {
                return time;
            }
            let once = async {
                let mut stream = connect_from_flood_host(gateway, self == Self::NeverRead).await?;
                self.flood_once(&mut stream, number, time).await?;
                // Connections are closed by a reset, so that none stays in TIME_WAIT and the host does not run out of
                // ports.
                stream.set_zero_linger()
            };
            match timeout_at(end.into(), once).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => sleep(RECONNECT_PAUSE).await,
                Err(_) => return time + 1,
            }
        }
        unreachable!("numbers do not end")
    }

    async fn flood_once(self, stream: &mut TcpStream, number: usize, time: usize) -> std::io::Result<()> {
        match self {
            Self::Requests => send_pipelined(stream).await,
            Self::SlowHeads => {
                stream.write_all(b"GET /videos HTTP/1.1\r\nHost: liverank\r\n").await?;
                for line in 0.. {
                    sleep(Duration::from_millis(300)).await;
                    stream.write_all(format!("X-{line}: slow\r\n").as_bytes()).await?;
                }
                Ok(())
            }
            Self::HalfOpen => {
                if number.is_multiple_of(2) {
                    stream.write_all(&raw::request_head("POST", "/interact", &[], 60_000)).await?;
                }
                read_to_end(stream).await
            }
            Self::GiantFrames => {
                stream.write_all(&raw::handshake("/ws/videos")).await?;
                stream.write_all(&[&[0x82, 0xff, 0x40], &[0; 7][..], &[0; 4]].concat()).await?;
                let (mut read, mut write) = stream.split();
                tokio::select! {
                    sent = send_for_ever(&mut write, FRAME_ZEROS) => sent,
                    read = read_to_end(&mut read) => read,
                }
            }
            Self::NeverRead => {
                let watch = raw::request("GET", "/connect?userid=deaf&videoid=chatter", &[], b"");
                let list = raw::handshake("/ws/videos?limit=all");
                stream.write_all(if number.is_multiple_of(2) { &watch } else { &list }).await?;
                std::future::pending().await
            }
            Self::NewIds => {
                let items: Vec<Value> =
                    (0..1000).map(|item| new_video_item(&format!("{number}-{time}-{item}"))).collect();
                let body = Value::from(items).to_string();
                let headers = ["Content-Type: application/json"];
                stream.write_all(&raw::request("POST", "/interactions", &headers, body.as_bytes())).await?;
                read_to_end(stream).await
            }
            Self::Reconnects => {
                stream
                    .write_all(&raw::request("GET", "/connect?userid=storm&videoid=calm", &[], b""))
                    .await?;
                stream.read(&mut [0; 1024]).await.map(drop)
            }
        }
    }
}

fn new_video_item(name: &str) -> Value {
    let process = std::process::id();
    json!({"video_id": format!("new-{process}-{name}"), "user_id": format!("u-{name}"), "type": "view",
        "event_id": format!("e-{process}-{name}")})
}

async fn connect_from_flood_host(gateway: SocketAddr, small: bool) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if small {
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
    }
    socket.bind((FLOOD_HOST, 0).into())?;
    socket.connect(gateway).await
}

/// Reads and discards all bytes to the end of the stream.
async fn read_to_end(from: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    while from.read(&mut bytes).await? > 0 {}
    Ok(())
}

async fn send_for_ever(to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    loop {
        to.write_all(bytes).await?;
    }
}

/// Sends sixteen pipelined requests again and again, and reads the answers meanwhile.
async fn send_pipelined(stream: &mut TcpStream) -> std::io::Result<()> {
    let like = br#"{"video_id":"calm","user_id":"flood","type":"view"}"#;
    let like = format!("POST /interact HTTP/1.1\r\nHost: liverank\r\nContent-Length: {}\r\n\r\n", like.len())
        + std::str::from_utf8(like).expect("text");
    let requests = format!("GET /videos HTTP/1.1\r\nHost: liverank\r\n\r\n{like}").repeat(8);
    let (mut read, mut write) = stream.split();
    tokio::select! {
        sent = send_for_ever(&mut write, requests.as_bytes()) => sent,
        read = read_to_end(&mut read) => read,
    }
}

/// Posts long comments to one video, and likes that change the lists, for the streams that are not read.
async fn post_chatter(gateway: SocketAddr, end: Instant) {
    let client = Client::builder()
        .local_address(std::net::IpAddr::from(FLOOD_HOST))
        .timeout(OTHERS_TIMEOUT)
        .build()
        .expect("a client");
    let comment = json!({"userid": "loud", "videoid": "chatter", "comment": "x".repeat(4000)});
    let like = json!({"video_id": "chatter", "user_id": "loud", "type": "like"});
    while Instant::now() < end {
        // Refused comments and likes do not matter: they are a part of the flood.
        let _ = client.post(format!("http://{gateway}/comment")).json(&comment).send().await;
        let _ = client.post(format!("http://{gateway}/interact")).json(&like).send().await;
    }
}

/// The results of an ordinary client's requests.
#[derive(Debug, Default)]
pub struct OrdinaryClientResults {
    /// The duration of each request, including its connect, the shortest first.
    pub times: Vec<Duration>,
    /// Descriptions of answers that were not as expected.
    pub wrong: Vec<String>,
}

impl OrdinaryClientResults {
    /// Returns the duration that the part `part` (such as 0.5 or 0.99) of the requests did not exceed; zero without
    /// requests.
    pub fn quantile(&self, part: f64) -> Duration {
        let at = ((self.times.len() as f64 * part).ceil() as usize).clamp(1, self.times.len().max(1));
        self.times.get(at - 1).copied().unwrap_or_default()
    }
}

/// Sends likes and reads the ranked list until `end`, as an ordinary client with a new connection for each request.
pub async fn measure_ordinary_client(gateway: &str, end: Instant) -> OrdinaryClientResults {
    let client =
        Client::builder().pool_max_idle_per_host(0).timeout(OTHERS_TIMEOUT).build().expect("a client");
    let mut served = OrdinaryClientResults::default();
    while Instant::now() < end {
        let like = json!({"video_id": "calm", "user_id": "ann", "type": "like"});
        let like = client.post(format!("http://{gateway}/interact")).json(&like);
        for (request, expected) in
            [(like, 202), (client.get(format!("http://{gateway}/videos?limit=10")), 200)]
        {
            let began = Instant::now();
            match request.send().await {
                Ok(answer) if answer.status().as_u16() == expected => served.times.push(began.elapsed()),
                Ok(answer) => served.wrong.push(format!("{} where {expected} was expected", answer.status())),
                Err(error) => served.wrong.push(format!("{error:?}")),
            }
        }
        sleep(REQUEST_PAUSE).await;
    }
    served.times.sort_unstable();
    served
}
