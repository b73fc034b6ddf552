//! The agent whose port keeps every client waiting, as a process that stands still does, and as a network that drops
//! packets does.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// The TCP port that keeps clients waiting: the port of managers, so that a manager can be said to be at this agent's address.
pub const UNRESPONSIVE_PORT: u16 = 6100;
/// The time after which a connection to this machine that has not come about counts as one whose packets are dropped.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The most connections by which the queue of a port is filled: it takes one more than it was asked to, and some kernels round up.
const MAX_FILLING_CONNECTIONS: usize = 64;
/// The size of the buffer into which requests are read, to be forgotten.
const READ_BYTES: usize = 4096;

/// How the agent's port keeps its clients waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Silence {
    /// Connections are accepted, requests are read, and nothing is answered.
    NoAnswer,
    /// Connections do not come about: the port's queue is full, and the kernel drops the packets that ask for another one.
    PacketsDropped,
}

impl Silence {
    /// The agents that a scenario uses, one of each kind.
    pub const ALL: [Self; 2] = [Self::NoAnswer, Self::PacketsDropped];

    /// Returns the value of the agent's argument `--silence`.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::NoAnswer => "no-answer",
            Self::PacketsDropped => "packets-dropped",
        }
    }
}

/// Keeps the clients of `port` waiting until the pod ends, and answers `GET /healthz` on `health`.
pub async fn run_unresponsive(health: SocketAddr, port: SocketAddr, silence: Silence) -> anyhow::Result<()> {
    let healthy = Router::new().route("/healthz", get(|| async { "ok" }));
    match silence {
        Silence::NoAnswer => {
            let listener = TcpListener::bind(port).await?;
            let health = axum::serve(TcpListener::bind(health).await?, healthy);
            tokio::select! {
                ended = read_and_never_answer(listener) => ended?,
                ended = health.into_future() => ended?,
            }
        }
        Silence::PacketsDropped => {
            let full = fill_queue(port).await?;
            axum::serve(TcpListener::bind(health).await?, healthy).await?;
            drop(full);
        }
    }
    Ok(())
}

/// Accepts connections and reads what comes, for as long as each client has patience.
async fn read_and_never_answer(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (mut connection, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut read = [0; READ_BYTES];
            while connection.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {}
        });
    }
}

/// Listens on a port with the shortest queue, and connects to it until no more connections come about. Returns the socket,
/// from which no connection is ever to be accepted, and the connections that fill its queue.
async fn fill_queue(port: SocketAddr) -> anyhow::Result<(TcpListener, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(port)?;
    let listener = socket.listen(1)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()));
    let mut filling = Vec::new();
    while let Ok(connected) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        filling.push(connected?);
        ensure!(filling.len() < MAX_FILLING_CONNECTIONS, "{address} takes ever more connections");
    }
    Ok((listener, filling))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_full_port_takes_no_connection_and_refuses_none() {
        let (listener, _filling) = fill_queue(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..3 {
            let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
            assert!(connected.is_err(), "{connected:?}");
        }
    }

    #[tokio::test]
    async fn a_silent_port_takes_a_request_and_answers_none() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(read_and_never_answer(listener));
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET /load HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let read = timeout(CONNECT_TIMEOUT, connection.read(&mut [0; 8])).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[test]
    fn an_argument_is_read_as_it_is_written() {
        for silence in Silence::ALL {
            assert_eq!(clap::ValueEnum::from_str(silence.argument(), false), Ok(silence));
        }
    }
}
