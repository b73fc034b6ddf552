//! What one host does so that nobody else is served, and how others are served meanwhile.
//!
//! The host is 127.0.0.2, others come from 127.0.0.1: to the system they are two callers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout_at};

use crate::raw;

/// Where floods come from.
const FLOOD_HOST: [u8; 4] = [127, 0, 0, 2];
/// The receive buffer of connections that do not read.
const SMALL_BUFFER: u32 = 4096;
/// How long others wait: as long as a person does, and then some.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(20);
/// What a giant frame carries.
const FRAME_ZEROS: &[u8] = &[0; 16 * 1024];
/// After a connection that was refused.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Between two requests of somebody who means well.
const NOW_AND_THEN: Duration = Duration::from_millis(50);

/// A flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Requests in pipelines, as fast as they are taken.
    Requests,
    /// Heads that come header by header and never end.
    SlowHeads,
    /// Connections that say nothing, and heads whose bodies never come.
    HalfOpen,
    /// WebSocket frames of 2^62 bytes.
    GiantFrames,
    /// Streams and lists that nobody reads, of a video that is commented on all the time.
    NeverRead,
    /// Batches whose videos, users and events nobody has named before.
    NewIds,
    /// Streams that are left as soon as they begin.
    Reconnects,
}

impl Flood {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Requests,
        Self::SlowHeads,
        Self::HalfOpen,
        Self::GiantFrames,
        Self::NeverRead,
        Self::NewIds,
        Self::Reconnects,
    ];

    /// The name in the printed figures.
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

    /// Connections at a time.
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

    /// Goes on until `end` at a gateway; answers how often it began: connections, or batches of new ids.
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
                // No connection waits for its last packets: the host has as many ports as it needs.
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
                    stream.write_all(&raw::head("POST", "/interact", &[], 60_000)).await?;
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

/// Reads and forgets, to the end.
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

/// Sixteen requests at once, again and again; answers are read as they come.
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

/// Long comments under one video, and likes that move the lists, for those who do not read.
async fn post_chatter(gateway: SocketAddr, end: Instant) {
    let client = Client::builder()
        .local_address(std::net::IpAddr::from(FLOOD_HOST))
        .timeout(OTHERS_TIMEOUT)
        .build()
        .expect("a client");
    let comment = json!({"userid": "loud", "videoid": "chatter", "comment": "x".repeat(4000)});
    let like = json!({"video_id": "chatter", "user_id": "loud", "type": "like"});
    while Instant::now() < end {
        // What becomes of them is the flood's affair.
        let _ = client.post(format!("http://{gateway}/comment")).json(&comment).send().await;
        let _ = client.post(format!("http://{gateway}/interact")).json(&like).send().await;
    }
}

/// How somebody was served who means well.
#[derive(Debug, Default)]
pub struct Served {
    /// How long each request took, connecting included, the shortest first.
    pub times: Vec<Duration>,
    /// What was answered where it should not be.
    pub wrong: Vec<String>,
}

impl Served {
    /// The time that `part` of the requests did not exceed: 0.5, 0.99.
    pub fn quantile(&self, part: f64) -> Duration {
        let at = ((self.times.len() as f64 * part).ceil() as usize).clamp(1, self.times.len().max(1));
        self.times.get(at - 1).copied().unwrap_or_default()
    }
}

/// Likes a video and reads the list, each on a connection of its own, until `end`.
pub async fn others(gateway: &str, end: Instant) -> Served {
    let client =
        Client::builder().pool_max_idle_per_host(0).timeout(OTHERS_TIMEOUT).build().expect("a client");
    let mut served = Served::default();
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
        sleep(NOW_AND_THEN).await;
    }
    served.times.sort_unstable();
    served
}
